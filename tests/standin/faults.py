"""Faults on request: what goes wrong, on which route, how many times.

A fault is written as `KIND[,route=PATTERN][,times=N][,seconds=S][,code=N][,variant=WORD][,gate=FILE]`, for instance
`429,route=PUT */jobs/*,times=2`.
"""

from __future__ import annotations

import asyncio
import fnmatch
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

HTTP_KINDS = {
    "429": "too many requests, without Retry-After; with `seconds`, that many are asked for there",
    "503": "service unavailable",
    "html502": "bad gateway, as the HTML page of an nginx",
    "forbidden": "403, no permission; variant=PrivateLink: from outside of its network; variant=Policy: by a policy",
    "expired-token": "401, the token has expired; variant=Tenant: it is of another tenant",
    "reset": "half of the answer, then the connection is reset",
    "slow": "the answer waits",
}
SUBSCRIPTION_KINDS = {
    "workspace-role": "what belongs to the subscription (sizes, quota) is 403: the caller's role is on the workspace",
    "sizes-404": "the list of sizes answers with `code` (404); route=usages: the quota",
    "sizes-empty": "the list of sizes is empty; route=usages: the quota",
}
WORKSPACE_KINDS = {
    "quota-keys": "rows of the quota are named by the size's family key, not by the long name",
    "no-retry-after": "long operations carry no retry-after-ms: a client waits its 30 s, as with the real service",
    "account-key": "listSecrets gives the account's key instead of a signature",
    "labeling-job": "the list of jobs has a labeling job, with which azure-ai-ml ends the list by an exception",
    "no-keys": "an identity-based workspace: its datastores have no keys, blobs are read with tokens",
}
BLOB_KINDS = {
    "slow-upload": "each PUT of a blob waits",
    "truncated-download": "a GET of a blob closes after half of the body",
    "short-download": "a GET of a blob ends after half of the body and says that this is all",
    "storage-403": "blobs refuse the submitting side, and not the jobs; `variant` is the code of the refusal",
}
MLFLOW_KINDS = {
    "mlflow-403": "a route of MLflow answers with `code` (403), empty; 400 in the service's own shape",
    "version-without-run-id": "versions of models come back without run_id",
    "version-tags-400": "a version cannot be created with tags",
    "already-exists": "what exists is told as ALREADY_EXISTS",
    "small-pages": "each search gives `code` (1) rows a page",
}
JOB_KINDS = {
    "no-quota": "jobs stay Queued until the fault is cleared; `times` has no meaning",
    "quota-binds": "jobs stay Queued while they would take more cores than the quota has",
    "slow-build": "the job stays Preparing: its image is built",
    "slow-nodes": "the job stays Queued: its nodes are allocated",
    "build-fails": "the image of the job's environment cannot be built",
    "job-fails": "the job's command exits with `code` and a traceback in its log, instead of running",
    "preempt": "a node of a low-priority cluster is taken away after the job began to run",
    "requeue": "the node is lost and the service starts the job again in the same run; without `seconds` or `gate` "
    "after the first attempt has done everything",
    "not-responding": "the job is NotResponding until a client has looked twice, then it goes on",
    "paused": "the job is Paused until a client has looked twice, then it goes on",
    "endless-log": "the command is replaced by one that writes lines until it is ended; variant=line: one line",
    "hostile-artifacts": "the job leaves artifacts with names that must not be written as they are",
    "cluster-creating": "somebody else is creating the cluster, for two looks; variant=Failed: in vain",
}
ENDPOINT_KINDS = {
    "name-taken": "the name of the endpoint belongs to somebody else in the region",
    "slow-start": "the deployment stays Creating: its container starts",
    "container-crashes": "the deployment's container ends while it starts, with a traceback in its log",
    "probe-fails": "the deployment's container answers no probe",
    "wrong-answer": "the endpoint answers with other predictions than the model's",
}
IDENTITY_KINDS = {
    "short-token": "identity gives tokens that live for `seconds`",
    "no-identity": "identity answers 400: there is nobody to sign in",
}
KINDS = HTTP_KINDS | SUBSCRIPTION_KINDS | WORKSPACE_KINDS | BLOB_KINDS | MLFLOW_KINDS | JOB_KINDS
KINDS |= ENDPOINT_KINDS | IDENTITY_KINDS
# What is so, and does not merely happen, lasts until it is cleared.
LASTING = {
    *SUBSCRIPTION_KINDS,
    *WORKSPACE_KINDS,
    *MLFLOW_KINDS,
    "storage-403",
    "no-quota",
    "quota-binds",
}
DEFAULT_ROUTE = {"reset": "GET */user_logs/*", "sizes-404": "/vmSizes", "sizes-empty": "/vmSizes"}
VARIANTS = {
    "storage-403": (
        *("AuthorizationPermissionMismatch", "KeyBasedAuthenticationNotPermitted", "AuthorizationFailure"),
        "AuthenticationFailed",
    ),
    "forbidden": ("AuthorizationFailed", "PrivateLink", "Policy"),
    "expired-token": ("Expired", "Tenant"),
    "endless-log": ("lines", "line"),
    "cluster-creating": ("Succeeded", "Failed"),
}
CODES = {"job-fails": 3, "sizes-404": 404, "mlflow-403": 403, "small-pages": 1}
_OPTIONS: dict[str, type] = {"route": str, "times": int, "seconds": float, "code": int, "variant": str, "gate": str}


@dataclass(frozen=True)
class Fault:
    """A rule that makes the stand-in misbehave.

    Parameters
    ----------
    kind : str
        One of `tests.standin.faults.KINDS`.
    route : str
        Which requests: a pattern (`*`, `?`) that matches `METHOD path` or a part of it, such as
        `PUT */jobs/*`, `/history/`, `user_logs`. For the faults of jobs it matches the name of the compute,
        for those of endpoints the name of the endpoint.
        `*` by default; for `reset` the logs of jobs.
    times : int, optional
        How many requests, jobs or tokens. 0 means always. By default once for what happens, always for what is so.
    seconds : float, optional
        For the kinds that wait (1 second), the life of a token, and the Retry-After of `429`.
    code : int, optional
        Exit code of `job-fails`, status of `mlflow-403` and `sizes-404`, rows of `small-pages`.
    variant : str
        Of the kinds in `VARIANTS`: one of these, the first by default.
    gate : str
        A file. What waits, waits until it is there, instead of for `seconds`.

    Examples
    --------
    >>> Fault.parse("429,route=PUT */jobs/*,times=2")
    Fault(kind='429', route='PUT */jobs/*', times=2, seconds=None, code=None, variant='', gate='')
    """

    kind: str
    route: str = ""
    times: int | None = None
    seconds: float | None = None
    code: int | None = None
    variant: str = ""
    gate: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault is called {self.kind!r}; there are {', '.join(KINDS)}")
        if self.times is None:
            object.__setattr__(self, "times", 0 if self.kind in LASTING else 1)
        if (self.times or 0) < 0 or (self.seconds or 0) < 0:
            raise ValueError("times and seconds cannot be negative")
        known = VARIANTS.get(self.kind, ("",))
        if not self.variant:
            object.__setattr__(self, "variant", known[0])
        if self.variant not in known:
            raise ValueError(f"variant of {self.kind} is one of {', '.join(filter(None, known)) or 'none'}")
        if self.code is None:
            object.__setattr__(self, "code", CODES.get(self.kind))

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
            if name not in _OPTIONS or not equals:
                raise ValueError(f"{option!r} is not one of {', '.join(f'{known}=' for known in _OPTIONS)}")
            values[name] = _OPTIONS[name](value)
        return cls(kind, **values)

    def matches(self, text: str) -> bool:
        """Say whether `METHOD path` is what this fault is about."""
        pattern = self.route or DEFAULT_ROUTE.get(self.kind, "*")
        return fnmatch.fnmatchcase(text, f"*{pattern}*")

    async def wait(self) -> None:
        """Wait for the gate, or for `seconds`."""
        if not self.gate:
            await asyncio.sleep(1.0 if self.seconds is None else self.seconds)
        while self.gate and not Path(self.gate).exists():
            await asyncio.sleep(0.05)

    def open(self, since: float) -> bool:
        """Say whether the gate is there, or `seconds` are over since a moment of `time.monotonic`."""
        if self.gate:
            return Path(self.gate).exists()
        return time.monotonic() - since >= (1.0 if self.seconds is None else self.seconds)

    def document(self) -> dict[str, Any]:
        """Return the fault as JSON knows it."""
        return asdict(self)


@dataclass
class Faults:
    """The faults that are in force."""

    quota: dict[str, int] = field(default_factory=dict)
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
            self.quota.clear()

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
                    left = fault.times or 0
                    if left == 1:
                        del self._rules[rule]
                    elif left:
                        self._rules[rule] = replace(fault, times=left - 1)
                    return fault
        return None

    def find(self, kind: str, text: str = "") -> Fault | None:
        """Return a fault of this kind that is in force, without counting it."""
        with self._lock:
            return next((rule for rule in self._rules.values() if rule.kind == kind and rule.matches(text)), None)

    def present(self, kind: str, text: str = "") -> bool:
        """Say whether a fault of this kind is in force, without counting it."""
        return self.find(kind, text) is not None

    def list(self) -> list[dict[str, Any]]:
        """Return the faults in force."""
        with self._lock:
            return [fault.document() for fault in self._rules.values()]
