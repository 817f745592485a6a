"""Hugging Face's hub: files of a repository, and uploads to one, through huggingface_hub.

Only this module talks to a network about weights, and only it imports huggingface_hub, which reads HF_TOKEN,
HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and its other variables itself.
"""

import errno
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from etils import epath

import ddpm_jax
from ddpm_jax.runtime import console, paths, signals

INSTALL = "pip install 'ddpm_jax[hub]'"
FORM = "hf:OWNER/NAME, or hf:OWNER/NAME@REVISION"
TAG = "ddpm_jax"  # in the metadata of the cards that we write
CARD = "README.md"
EMPTY = {".gitattributes", ".gitignore", CARD, "LICENSE"}  # what a new repository may hold
LICENCE = ("license", "license_name", "license_link")
LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)


class Unreachable(RuntimeError):
    """The hub cannot be reached, or did not do what it was asked for; the same command may succeed later."""


class Repository(NamedTuple):
    """A repository, at a branch, tag or commit."""

    id: str  # owner/name
    revision: str | None  # None: the main branch

    @property
    def name(self) -> str:
        return self.id.partition("/")[2]


class Content(NamedTuple):
    """What a repository holds."""

    commit: str | None
    licence: dict[str, Any]  # the fields of its card's metadata that state it


def parse(text: str) -> Repository:
    """Returns the repository of hf:OWNER/NAME or hf:OWNER/NAME@REVISION. Raises ValueError for other names."""
    part = r"[A-Za-z0-9_](?:[\w.-]*\w)?"
    match = re.fullmatch(rf"{paths.HUB}({part}/{part})(?:@(\S+))?", text, re.ASCII)
    if not match or re.search(r"--|\.\.", match[1]) or len(match[1]) > 96:
        raise ValueError(f"{text!r} must be {FORM}, such as hf:google/ddpm-cifar10-32")
    return Repository(match[1], match[2])


def library() -> Any:
    """Imports huggingface_hub. Raises ValueError if it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise ValueError(
            f"hf: needs the package huggingface_hub, which is not installed: {INSTALL}"
        ) from None
    return huggingface_hub


def fetch(repository: Repository, patterns: Sequence[str]) -> epath.Path:
    """Downloads the files that match, unless they are kept already, and returns the folder of the snapshot.

    The folder is in huggingface_hub's cache, and its name is the commit. Raises ValueError if the repository
    or the revision does not exist or may not be read, and Unreachable.
    """
    with conversation(repository, "the download"):
        folder = library().snapshot_download(
            repository.id,
            revision=repository.revision,
            allow_patterns=list(patterns),
            library_name=TAG,
            library_version=ddpm_jax.__version__,
        )
    return epath.Path(folder)


def read_content(repository: Repository) -> Content | None:
    """Returns what a repository holds that a model may be uploaded to; None if it does not exist.

    Raises ValueError if it holds files that no export made, or may not be read.
    """
    with conversation(repository, "a question to the hub"):
        hub = library()
        try:
            info = hub.HfApi().model_info(repository.id)
        except hub.errors.GatedRepoError:
            raise
        except hub.errors.RepositoryNotFoundError:
            return None
    metadata: Mapping[str, Any] = info.card_data.to_dict() if info.card_data else {}
    others = sorted({file.rfilename for file in info.siblings or ()} - EMPTY)
    if others and TAG not in (metadata.get("tags") or ()):
        shown = next((name for name in others if name == "model_index.json"), others[0])
        raise ValueError(
            f"{paths.HUB}{repository.id} already holds {shown}, which no export from ddpm_jax has written;"
            " choose another name"
        )
    return Content(info.sha, {name: metadata[name] for name in LICENCE if name in metadata})


def check_target(repository: Repository) -> None:
    """Raises ValueError if a model cannot be uploaded to a repository; writes nothing. Raises Unreachable."""
    if repository.revision:
        raise ValueError(
            f"--target {paths.HUB}{repository.id}@{repository.revision}: a target has no revision; an"
            " export becomes a commit on the main branch"
        )
    with conversation(repository, "a question to the hub"):
        token = library().get_token()
    if token is None:
        raise ValueError(
            f"--target {paths.HUB}{repository.id}: there is no token of the hub; set HF_TOKEN to one that"
            " may write, or log in: hf auth login"
        )
    read_content(repository)


def upload(
    repository: Repository,
    folder: epath.Path,
    message: str,
    stale: Sequence[str],
    content: Content | None,
) -> str:
    """Commits a folder's files to a repository, which it makes if 'content' is None; returns its address.

    'content' is what read_content found: a commit that was made since is an error. The 'stale' files are
    deleted where the folder has none of that name.
    """
    with conversation(repository, "the upload"):
        api = library().HfApi(library_name=TAG, library_version=ddpm_jax.__version__)
        if content is None:
            api.create_repo(repository.id, private=True)
        api.upload_folder(
            repo_id=repository.id,
            folder_path=os.fspath(folder),
            commit_message=message,
            parent_commit=content and content.commit,
            delete_patterns=list(stale),
        )
        return f"{api.endpoint}/{repository.id}"


@contextmanager
def conversation(repository: Repository, work: str) -> Iterator[None]:
    """Raises the library's errors as ours in the body, and keeps its log and, without a terminal, its bars quiet.

    'work' is what a signal has to wait for.
    """
    hub = library()
    hidden = not console.is_interactive() or console.listener.get() is not None
    level, bars = hub.utils.logging.get_verbosity(), hub.utils.are_progress_bars_disabled()
    signals.begin(work)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of variables that decide on bars, and of a card
        try:
            hub.utils.logging.set_verbosity_error()
            if hidden and not bars:
                hub.utils.disable_progress_bars()
            yield
        except Exception as error:
            raise explain(error, repository, hub) from error
        finally:
            signals.begin(signals.WORK)
            hub.utils.logging.set_verbosity(level)
            if hidden and not bars:
                hub.utils.enable_progress_bars()


def explain(error: Exception, repository: Repository, hub: Any) -> Exception:
    """Returns the error to raise for one of the library's: a ValueError, Unreachable, or the error itself."""
    errors, name = hub.errors, f"{paths.HUB}{repository.id}"
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else None
    if isinstance(error, errors.LocalEntryNotFoundError | RuntimeError) and cause:
        error = cause  # the reason why it had to be in the cache, or why an upload failed
    status = getattr(getattr(error, "response", None), "status_code", None)
    address = hub.constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        return ValueError(
            f"{name} is gated: accept its conditions at {address}/{repository.id}, and set HF_TOKEN"
        )
    token = hub.get_token()
    if isinstance(error, errors.RepositoryNotFoundError) or (status == 401 and not token):
        needs = "the token may not read it" if token else "needs a token: set HF_TOKEN"
        return ValueError(f"{address} has no model {name}, or it is private and {needs}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(f"{name} has no revision {repository.revision}")
    if status == 401:
        return ValueError(f"{address} refuses the token; renew HF_TOKEN, or log in: hf auth login")
    if status == 403:
        return ValueError(f"{address} forbids this for {name}; the token needs the right to do it")
    if status == 412:
        return Unreachable(f"{name} has changed in the meantime; run the same command again")
    if isinstance(error, errors.OfflineModeIsEnabled):
        cache = hub.constants.HF_HUB_CACHE
        return Unreachable(
            f"HF_HUB_OFFLINE is set, and {cache} does not hold what is needed of {name}"
        )
    if status is not None:
        return Unreachable(f"{address} answered {status} when asked for {name}; try again later")
    return Unreachable(f"{name}: {describe(error, hub)}") if is_networks(error, errors) else error


def is_networks(error: Exception, errors: Any) -> bool:
    """Returns whether an error is the network's or the library's, and not the disk's or a mistake of ours."""
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    transport = bool(modules & {"httpx", "httpx2", "requests"})
    local = isinstance(error, OSError) and error.errno in LOCAL
    return transport or (isinstance(error, OSError | errors.EntryNotFoundError) and not local)


def describe(error: Exception, hub: Any) -> str:
    """Returns the network's error as one line, without the token."""
    text = " ".join(str(error).split())[:200]
    if token := hub.get_token():
        text = text.replace(token, "...")
    return (
        f"{hub.constants.ENDPOINT} cannot be reached, or broke off ({type(error).__name__}: {text})"
    )
