"""Every exception of this project, and what is said where something works and is probably not what was meant.

::

    UserError                 the input, the settings or a server are not as they should be; exit code 2
    ├─ UnreachableError       a server does not answer, or breaks off
    ├─ UnusableModelError     a model cannot be loaded, or cannot score, here
    └─ VerificationError      what was downloaded is not what was made, or predicts otherwise; exit code 3
    Interrupted               SIGINT, SIGTERM or SIGHUP; a KeyboardInterrupt, so that no `except Exception` keeps it

Any function of this project may raise them. Any other exception is a bug and shows its traceback.
"""

import errno
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches


class UserError(Exception):
    """Something that the user can fix: one line of cause, one of remedy."""

    exit_code = 2

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = " ".join(cause.split())
        self.remedy = " ".join(remedy.split())

    def __str__(self) -> str:
        return f"error: {self.cause}\n  fix: {self.remedy}"


class UnreachableError(UserError):
    """A server does not answer, or breaks off."""


class UnusableModelError(UserError):
    """A model that cannot be loaded, or cannot score, in this environment."""


class VerificationError(UserError):
    """What was downloaded is not what the job has made, or does not work."""

    exit_code = 3


class Interrupted(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that a signal has ended."""
        return 128 + self.number


@dataclass(frozen=True)
class Remark:
    """What works and is probably not what was meant; `code` names the check in one word."""

    code: str
    text: str


@contextmanager
def disk_errors(what: str, remedy: str) -> Iterator[None]:
    """Turn a disk that is full, or that may not be written to, into a `UserError`: "could not `what`"."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise UserError(f"could not {what}: {error.strerror}", remedy) from error


_DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.ENOENT),
)


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that resembles `name` most, as the end of a sentence; empty where none does."""
    candidates = {k.casefold(): k for k in known}
    found = get_close_matches(name.casefold(), list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {candidates[found[0]]!r}?" if found else ""


def first_line(error: BaseException) -> str:
    """Return what an exception says in its first line; its type's name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
