"""Faults on request: what goes wrong, on which route, how many times.

A fault is written as `KIND[,route=PATTERN][,times=N][,seconds=S][,code=N]`, for instance
`429,route=PUT */jobs/*,times=2`.
"""

from __future__ import annotations

import fnmatch
import threading
import uuid
from dataclasses import asdict, dataclass, field, replace
from typing import Any

HTTP_KINDS = {
    "429": "too many requests, without Retry-After",
    "503": "service unavailable",
    "html502": "bad gateway, as the HTML page of an nginx",
    "forbidden": "403, no permission",
    "expired-token": "401, the token has expired",
    "reset": "half of the answer, then the connection is reset",
    "slow": "the answer waits for `seconds`",
}
BLOB_KINDS = {
    "slow-upload": "each PUT of a blob waits for `seconds`",
    "truncated-download": "a GET of a blob closes after half of the body",
    "short-download": "a GET of a blob ends after half of the body and says that this is all",
}
JOB_KINDS = {
    "no-quota": "jobs stay Queued until the fault is cleared; `times` has no meaning",
    "build-fails": "the image of the job's environment cannot be built",
    "job-fails": "the job's command exits with `code` and a traceback in its log, instead of running",
    "preempt": "a node of a low-priority cluster is taken away `seconds` after the job began to run",
}
IDENTITY_KINDS = {
    "short-token": "identity gives tokens that live for `seconds`",
    "no-identity": "identity answers 400: there is nobody to sign in",
}
KINDS = HTTP_KINDS | BLOB_KINDS | JOB_KINDS | IDENTITY_KINDS
DEFAULT_ROUTE = {"reset": "GET */user_logs/*"}


@dataclass(frozen=True)
class Fault:
    """A rule that makes the stand-in misbehave.

    Parameters
    ----------
    kind : str
        One of `tests.standin.faults.KINDS`.
    route : str
        Which requests: a pattern (`*`, `?`) that matches `METHOD path` or a part of it, such as
        `PUT */jobs/*`, `/history/`, `user_logs`. For the faults of jobs it matches the name of the compute.
        `*` by default; for `reset` the logs of jobs.
    times : int
        How many requests, jobs or tokens. 0 means always.
    seconds : float
        For the kinds that wait, and the life of a token.
    code : int
        Exit code of `job-fails`.

    Examples
    --------
    >>> Fault.parse("429,route=PUT */jobs/*,times=2")
    Fault(kind='429', route='PUT */jobs/*', times=2, seconds=1.0, code=3)
    """

    kind: str
    route: str = ""
    times: int = 1
    seconds: float = 1.0
    code: int = 3

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault is called {self.kind!r}; there are {', '.join(KINDS)}")
        if self.times < 0 or self.seconds < 0:
            raise ValueError("times and seconds cannot be negative")

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read the form in which a command line names a fault.

        Raises
        ------
        ValueError
            If the kind or an option is unknown.
        """
        kind, *options = text.split(",")
        values: dict[str, Any] = {}
        for option in options:
            name, equals, value = option.partition("=")
            if name not in ("route", "times", "seconds", "code") or not equals:
                raise ValueError(f"{option!r} is not route=, times=, seconds= or code=")
            values[name] = {"route": str, "times": int, "seconds": float, "code": int}[name](value)
        return cls(kind, **values)

    def matches(self, text: str) -> bool:
        """Say whether `METHOD path` is what this fault is about."""
        pattern = self.route or DEFAULT_ROUTE.get(self.kind, "*")
        return fnmatch.fnmatchcase(text, f"*{pattern}*")

    def document(self) -> dict[str, Any]:
        """Return the fault as JSON knows it."""
        return asdict(self)


@dataclass
class Faults:
    """The faults that are in force."""

    _rules: dict[str, Fault] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def inject(self, fault: Fault) -> str:
        """Put a fault in force and return its id."""
        with self._lock:
            rule = uuid.uuid4().hex
            self._rules[rule] = fault
            return rule

    def clear(self) -> None:
        """Drop every fault."""
        with self._lock:
            self._rules.clear()

    def take(self, kinds: dict[str, str] | set[str], text: str) -> Fault | None:
        """Return the first fault of these kinds that is about `text`, and count it.

        Parameters
        ----------
        kinds : set of str
        text : str
            `METHOD path`, or the name of a compute.
        """
        with self._lock:
            for rule, fault in self._rules.items():
                if fault.kind in kinds and fault.matches(text):
                    if fault.times == 1:
                        del self._rules[rule]
                    elif fault.times:
                        self._rules[rule] = replace(fault, times=fault.times - 1)
                    return fault
        return None

    def present(self, kind: str, text: str = "") -> bool:
        """Say whether a fault of this kind is in force, without counting it."""
        with self._lock:
            return any(fault.kind == kind and fault.matches(text) for fault in self._rules.values())

    def list(self) -> list[dict[str, Any]]:
        """Return the faults in force."""
        with self._lock:
            return [fault.document() for fault in self._rules.values()]
