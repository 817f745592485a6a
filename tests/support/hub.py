"""A server that speaks as much of the hub's API as huggingface_hub asks for: repositories in memory."""

import base64
import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_aTokenThatNoOutputMayHold"
LARGE = (".safetensors", ".bin", ".png")  # what the hub stores as large files
Files = dict[str, bytes]


@dataclasses.dataclass
class Repository:
    """Files by their paths, of every commit, by its hash; the newest is main."""

    commits: dict[str, Files]
    private: bool = False
    gated: bool = False

    def find(self, revision: str) -> str | None:
        """The commit of a revision."""
        if revision == "main":
            return list(self.commits)[-1]
        return revision if revision in self.commits else None


@dataclasses.dataclass
class Hub:
    """The server's address, what it holds, and what it was asked."""

    url: str = ""
    repositories: dict[str, Repository] = dataclasses.field(default_factory=dict)
    large: Files = dataclasses.field(default_factory=dict)  # by SHA-256
    requests: list[tuple[str, str, str | None]] = dataclasses.field(default_factory=list)
    writable: str = "someone"  # the namespace that the token may write to
    status: int = 0  # of every answer, unless 0
    cuts: int = 0  # answers with large files that end before their last byte
    # Where it is set, the next answers with large files stop halfway and wait for 'going_on'.
    halfway: threading.Event | None = None
    going_on: threading.Event = dataclasses.field(default_factory=threading.Event)

    def add(self, name: str, files: Files, **kind: bool) -> str:
        """Adds a commit of these files, in a new repository or on top of the newest; returns its hash."""
        found = self.repositories.setdefault(name, Repository({}, **kind))
        return commit(found, files)

    def files(self, name: str) -> Files:
        """The newest files of a repository."""
        found = self.repositories[name]
        return found.commits[list(found.commits)[-1]]

    def downloaded(self) -> list[str]:
        """The paths of the files whose content was sent."""
        paths = [path for method, path, _ in self.requests if method == "GET"]
        return [unquote(path.split("/", 5)[5]) for path in paths if "/resolve/" in path]


def commit(repository: Repository, files: Files) -> str:
    sha = hashlib.sha1(f"{len(repository.commits)}{sorted(files)}".encode()).hexdigest()
    repository.commits[sha] = files
    return sha


def card(files: Files) -> dict:
    """The metadata at the top of README.md."""
    found = re.match(r"---\n(.*?)\n---\n", files.get("README.md", b"").decode(), re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def etag(path: str, content: bytes) -> str:
    return sha256(content) if path.endswith(LARGE) else hashlib.sha1(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers one request; 'hub' is the server's state."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.route()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, format, *args):
        pass

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        if "Content_Length" not in headers:
            headers["Content_Length"] = str(len(content))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def refuse(self, status: int, code: str = "", message: str = "") -> None:
        codes = {"X_Error_Code": code} if code else {}
        self.answer(status, **codes, X_Error_Message=message or code)

    def route(self) -> None:
        path = urlsplit(self.path).path
        authorization = self.headers.get("Authorization")
        self.hub.requests.append((self.command, path, authorization))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.hub.status:
            return self.refuse(self.hub.status, message="the server's own words")
        if authorization not in (None, f"Bearer {TOKEN}"):
            return self.refuse(401, message="Invalid credentials in Authorization header")
        self.known = authorization is not None
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, path):
                return getattr(self, method)(*map(unquote, found.groups()))
        self.refuse(404, message="no such route")  # the library asks for more than it needs

    def open(self, name: str, revision: str = "main") -> tuple[str, Files] | None:
        """The commit and files of a revision; None after a refusal."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self.known):
            if self.known:
                return self.refuse(404, "RepoNotFound", "Repository not found")
            return self.refuse(401, message="Invalid username or password.")
        sha = found.find(revision)
        if sha is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha, found.commits[sha]

    def info(self, name: str, revision: str = "main") -> None:
        if found := self.open(name, revision):
            sha, files = found
            about = card(files)
            siblings = [{"rfilename": path} for path in files]
            fields = {"id": name, "sha": sha, "siblings": siblings, "tags": about.get("tags", [])}
            self.answer_json(fields | {"cardData": about})

    def tree(self, name: str, revision: str) -> None:
        if found := self.open(name, revision):
            entries = []
            for path, content in found[1].items():
                large = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
                entries.append(
                    {"type": "file", "path": path, "size": len(content)}
                    | {"oid": hashlib.sha1(content).hexdigest()}
                    | ({"lfs": large} if path.endswith(LARGE) else {})
                )
            self.answer_json(entries)

    def resolve(self, name: str, revision: str, path: str) -> None:
        if not (found := self.open(name, revision)):
            return None
        if self.hub.repositories[name].gated and not self.known:
            return self.refuse(401, "GatedRepo", "Access to this model is restricted.")
        sha, files = found
        if path not in files:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        content = files[path]
        headers = {"X_Repo_Commit": sha, "ETag": f'"{etag(path, content)}"'}
        if path.endswith(LARGE) and self.command == "GET" and self.hub.cuts:
            self.hub.cuts -= 1
            self.close_connection = True
            half = content[: len(content) // 2]
            self.answer(200, half, Content_Length=str(len(content)), **headers)
            if self.hub.halfway:
                self.wfile.flush()
                self.hub.halfway.set()
                self.hub.going_on.wait(60)
            return None
        if self.command == "HEAD":
            headers["Content_Length"] = str(len(content))
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(first[1]) if first else 0
        self.answer(206 if first else 200, content[start:], **headers)

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if not self.known or asked["organization"] != self.hub.writable:
            return self.refuse(403, message="You don't have the rights to create a model here")
        if name in self.hub.repositories:
            return self.refuse(409, message="You already created this model repo")
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.add(name, {".gitattributes": b""}, private=private)
        self.answer_json({"url": f"{self.hub.url}/{name}"})

    def validate(self) -> None:
        about = card({"README.md": json.loads(self.body)["content"].encode()})
        self.answer_json({"errors": [], "warnings": [] if about else [{"message": "empty"}]})

    def preupload(self, name: str, revision: str) -> None:
        if self.may_write(name):
            files = [
                {"path": path, "shouldIgnore": False}
                | {"uploadMode": "lfs" if path.endswith(LARGE) else "regular"}
                for path in (file["path"] for file in json.loads(self.body)["files"])
            ]
            self.answer_json({"files": files})

    def batch(self, name: str) -> None:
        if self.may_write(name):
            objects = [
                each | {"actions": {"upload": {"href": f"{self.hub.url}/large/{each['oid']}"}}}
                for each in json.loads(self.body)["objects"]
            ]
            self.answer_json({"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        if sha256(self.body) != oid:
            return self.refuse(400, message="the content does not have this hash")
        self.hub.large[oid] = self.body
        self.answer(200)

    def commit(self, name: str, revision: str) -> None:
        if not self.may_write(name):
            return None
        files = dict(self.hub.files(name))
        for line in self.body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "header" and value.get("parentCommit", "") not in (
                "",
                self.hub.repositories[name].find("main"),
            ):
                return self.refuse(412, message="A commit has happened since")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if key == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            if key == "deletedFile":
                del files[value["path"]]
        sha = commit(self.hub.repositories[name], files)
        self.answer_json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def may_write(self, name: str) -> bool:
        """Whether the sender may write to a repository; refuses if not."""
        if self.open(name) is None:
            return False
        if not self.known or name.partition("/")[0] != self.hub.writable:
            self.refuse(403, message="You are not allowed to push to this repo")
            return False
        return True


NAME = r"([^/]+/[^/]+)"
ROUTES = [
    (rf"/api/models/{NAME}", "info"),
    (rf"/api/models/{NAME}/revision/([^/]+)", "info"),
    (rf"/api/models/{NAME}/tree/([^/]+)", "tree"),
    (rf"/{NAME}/resolve/([^/]+)/(.+)", "resolve"),
    ("/api/repos/create", "create"),
    ("/api/validate-yaml", "validate"),
    (rf"/api/models/{NAME}/preupload/([^/]+)", "preupload"),
    (rf"/{NAME}\.git/info/lfs/objects/batch", "batch"),
    (r"/large/(\w+)", "put"),
    (rf"/api/models/{NAME}/commit/([^/]+)", "commit"),
]


@contextmanager
def serve() -> Iterator[Hub]:
    """Yields the state of a hub that listens on this machine."""
    hub = Hub()
    handler = type("HandlerOfOne", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
