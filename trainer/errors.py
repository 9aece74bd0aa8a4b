"""What is said to a user when something is not as it should be.

``UserError`` is the only exception of this project: it means that the code works and that the
input, the settings or a server do not. Any other exception is a bug and shows its traceback.
"""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(Exception):
    """Something that the user can mend.

    Parameters
    ----------
    cause : str
        One line: what was expected and what was found.
    remedy : str
        One line: what to do about it.
    """

    exit_code = 2

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = " ".join(cause.split())
        self.remedy = " ".join(remedy.split())

    def __str__(self) -> str:
        return f"error: {self.cause}\n  fix: {self.remedy}"


@contextmanager
def disk_errors(what: str, remedy: str) -> Iterator[None]:
    """Turn a disk that is full, or that may not be written to, into a `UserError`.

    Parameters
    ----------
    what : str
        What was to be done, as in "could not `what`".
    remedy : str
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise UserError(f"could not {what}: {error.strerror}", remedy) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that resembles `name` most, as the end of a sentence; empty where none does."""
    candidates = {k.casefold(): k for k in known}
    found = get_close_matches(name.casefold(), list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {candidates[found[0]]!r}?" if found else ""
