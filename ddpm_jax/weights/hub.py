"""Hugging Face's hub: files of a repository, through huggingface_hub.

Only this module talks to a network about weights, and only it imports huggingface_hub, which reads HF_TOKEN,
HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and its other variables itself.
"""

import errno
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from etils import epath

import ddpm_jax
from ddpm_jax.runtime import console, paths, signals

INSTALL = "pip install 'ddpm_jax[hub]'"
FORM = "hf:OWNER/NAME, or hf:OWNER/NAME@REVISION"
TAG = "ddpm_jax"
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
    return f"{hub.constants.ENDPOINT} cannot be reached ({type(error).__name__}: {text})"
