"""Files that others made: what they are when they are not what they should be, in one line."""

from etils import epath

POINTER = b"version https://git-lfs"
PAGES = b"<!doctype", b"<html", b"<?xml"


def check(path: epath.Path, get: str) -> bytes:
    """The first bytes of a file. Raises ValueError, with 'get', where to get it, if it is no such file."""
    if not path.exists():
        raise ValueError(f"{path} does not exist; {get}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file; {get}")
    with path.open("rb") as file:
        head = file.read(1024)
    if not head:
        raise ValueError(f"{path} is empty; {get}")
    if head.startswith(POINTER):
        raise ValueError(
            f"{path} is a Git LFS pointer, not the file itself; 'git lfs pull', or {get}"
        )
    if head.lstrip().lower().startswith(PAGES):
        raise ValueError(f"{path} is a web page, not the file that was to be fetched; {get}")
    return head
