"""Follow a job to its end: status, log, interruption, cancellation."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from submit import service
from submit.screen import Screen, can_ask, clock, typed
from submit.workspace import Workspace
from trainer.errors import UserError

ENDED = ("Completed", "Failed", "Canceled", "NotResponding", "Paused")
WAITING = ("NotStarted", "Starting", "Queued", "Provisioning")
BUILD_LOG = re.compile(r"azureml-logs/\d+_image_build_log\.txt|.*image_build.*\.txt")
USER_LOG = re.compile(r"user_logs/std_log(_process_0+)?\.txt|azureml-logs/70_driver_log.*\.txt")
TAIL_LINES = 20

# Seconds between two looks at a job, growing from the first to the second; the variables are the SDK's own.
POLL_FIRST = float(os.environ.get("AZUREML_RUN_POLLING_INTERVAL_MIN", 2))
POLL_LAST = float(os.environ.get("AZUREML_RUN_POLLING_INTERVAL_MAX", 10))

# The code of a job may print this word, too: what it prints comes after "User process".
_PREEMPTED = re.compile(r"PreemptionError|pre-?empt", re.IGNORECASE)
_USER_PROCESS = re.compile(r"User process .* exited", re.IGNORECASE)


@dataclass(frozen=True)
class Ending:
    """How a job has ended, as the service says.

    Attributes
    ----------
    status : str
        `Completed`, `Failed`, `Canceled`; the last one known where `left` is true.
    reason : str
        The service's own words, one line; empty where it has none.
    preempted : bool
        Its node was taken away; the code had no part in it.
    left : bool
        It was left running.
    said : str
        The last lines of its log.
    """

    status: str
    reason: str = ""
    preempted: bool = False
    left: bool = False
    said: str = ""


class Interrupted(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the signals that end a program into `Interrupted` while the block runs."""

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    numbers = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Log:
    """One log of a job, of which lines are shown as they come.

    Attributes
    ----------
    offset : int
        Bytes that have been read.
    rest : bytes
        The beginning of a line whose end has not come yet.
    """

    offset: int = 0
    rest: bytes = b""
    tail: list[str] = field(default_factory=list)

    def take(self, data: bytes, last: bool = False) -> list[str]:
        """Add what was read, and return the lines that are complete."""
        self.offset += len(data)
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        if last and self.rest:
            lines.append(self.rest)
            self.rest = b""
        texts = [line.decode(errors="replace").rpartition("\r")[2] for line in (one.rstrip(b"\r") for one in lines)]
        self.tail = (self.tail + texts)[-TAIL_LINES:]
        return texts


@dataclass(frozen=True)
class Look:
    """A job at one moment."""

    status: str
    reason: str
    logs: dict[str, str]


def look(workspace: Workspace, name: str, patience: float = service.PATIENCE) -> Look:
    """Ask for the status of a job, its error, and the signed addresses of its logs.

    Raises
    ------
    UserError
        There is no such job.
    """
    from azure.core.exceptions import ResourceNotFoundError

    # The public interface has no call that gives these without printing; `jobs.stream` itself asks here.
    details = workspace.client.jobs._runs_operations.get_run_details
    try:
        found: Any = workspace.call(f"look at the job {name}", lambda: details(name), patience)
    except ResourceNotFoundError as error:
        raise no_such_job(workspace, name) from error
    root = getattr(found.error, "error", None)
    reason = str(getattr(root, "message", None) or "")
    return Look(str(found.status), reason, dict(found.log_files or {}))


def no_such_job(workspace: Workspace, name: str) -> UserError:
    """Say that a workspace has no such job."""
    return UserError(
        f"the workspace {workspace.name} has no job {name!r}", "`python submit/remote.py jobs` lists the recent ones"
    )


def read_log(workspace: Workspace, address: str, offset: int, patience: float = service.PATIENCE) -> bytes:
    """Read a log from a byte on; nothing where there is no more."""
    import requests

    def get() -> bytes:
        with requests.get(address, headers={"Range": f"bytes={offset}-"}, timeout=(10, 60)) as answer:
            if answer.status_code in (404, 416):  # it is not there yet; it ends here
                return b""
            answer.raise_for_status()
            return answer.content if answer.status_code == 206 else answer.content[offset:]

    return workspace.call("read the log", get, patience)


def follow(workspace: Workspace, name: str, queue_timeout: int | None, on_interrupt: str) -> Ending:
    """Show a job's status and log until it has ended, or somebody interrupts.

    Parameters
    ----------
    workspace : Workspace
    name : str
        Of the job.
    queue_timeout : int or None
        Seconds that it may wait for a node before it is cancelled.
    on_interrupt : {'ask', 'detach', 'cancel'}
        Where nobody can be asked, `ask` detaches.

    Returns
    -------
    Ending
    """
    try:
        with workspace.screen.status("waiting for the job"):
            return _follow(workspace, name, queue_timeout)
    except Interrupted as interruption:
        return interrupted(workspace, name, interruption, on_interrupt)
    except service.UnreachableError as lost:
        workspace.screen.say(lost.cause, "yellow")
        return Ending("unknown", left=True)


def _follow(workspace: Workspace, name: str, queue_timeout: int | None) -> Ending:
    screen, log, shown, pause = workspace.screen, Log(), "", POLL_FIRST
    began = waited = time.monotonic()
    while True:
        seen = look(workspace, name, service.LONG_PATIENCE)
        if seen.status not in ENDED:
            screen.update(seen.status)
        found = next((file for file in sorted(seen.logs) if USER_LOG.fullmatch(file)), None)
        if found is not None:
            shown = shown or found
            data = read_log(workspace, seen.logs[found], log.offset, service.LONG_PATIENCE)
            for line in log.take(data, last=seen.status in ENDED):
                screen.say(f"| {line}")
            pause = POLL_FIRST if data else pause
        if seen.status in ENDED:
            screen.update(seen.status)
            return _ended(workspace, seen, shown, log)
        if seen.status not in WAITING:
            waited = time.monotonic()
        elif queue_timeout is not None and time.monotonic() - waited >= queue_timeout:
            screen.say(
                f"no node in {clock(time.monotonic() - began)}: cancelling the job, as --queue-timeout asks. "
                "Is there quota for the size? `python submit/remote.py doctor` says",
                "red",
            )
            return cancel(workspace, name)[0]
        time.sleep(pause)
        pause = min(pause * 1.3, POLL_LAST)


def _ended(workspace: Workspace, seen: Look, shown: str, log: Log) -> Ending:
    """Say how a job has ended; where it failed, with the end of the log that tells why."""
    screen = workspace.screen
    own_code = bool(_USER_PROCESS.search(seen.reason))
    preempted = seen.status == "Failed" and not own_code and bool(_PREEMPTED.search(seen.reason))
    first = seen.reason.partition(" Error: ")[0] if own_code else seen.reason
    reason = " ".join(first.split())
    if seen.status == "Failed":
        screen.say(f"failed: {reason or 'the service gives no reason'}", "red")
        others = [file for file in sorted(seen.logs) if file != shown]
        telling = next((file for file in others if file in first), None)  # of the process that the service names
        if not shown and telling is None:
            telling = next((file for file in others if BUILD_LOG.fullmatch(file)), None)
        if telling is not None:
            log = Log()
            log.take(read_log(workspace, seen.logs[telling], 0), last=True)
            shown = telling
        if log.tail:
            screen.say(f"the last lines of {shown}:", "bold")
            for line in log.tail:
                screen.say(f"| {line}")
    elif seen.status != "Completed" and reason:
        screen.say(reason, "red")
    return Ending(seen.status, reason, preempted, said="\n".join(log.tail))


def interrupted(workspace: Workspace, name: str, interruption: Interrupted, on_interrupt: str) -> Ending:
    """Detach or cancel, as the user says now or has said before; a second interruption detaches."""
    screen = workspace.screen
    try:
        answer = on_interrupt
        if answer == "ask":
            asks = interruption.number == signal.SIGINT and screen.terminal and can_ask()
            answer = _ask(screen, name) if asks else "detach"
        if answer == "cancel":
            return cancel(workspace, name)[0]
    except Interrupted:
        pass  # whoever insists, leaves
    return Ending("Running", left=True)


def _ask(screen: Screen, name: str) -> str:
    screen.say("")
    while True:
        try:
            given = typed(f"[d]etach (job {name} goes on, and costs) or [c]ancel it? ").lower()
        except EOFError:
            return "detach"
        if given and "detach".startswith(given):
            return "detach"
        if given and "cancel".startswith(given):
            return "cancel"


def exists(workspace: Workspace, name: str) -> bool:
    """Say whether the service has taken a job in."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        workspace.call(f"look at the job {name}", lambda: workspace.client.jobs.get(name))
    except ResourceNotFoundError:
        return False
    return True


def cancel(workspace: Workspace, name: str) -> tuple[Ending, bool]:
    """Cancel a job, and wait until it has ended; one that has ended already stays as it is.

    Returns
    -------
    Ending
    bool
        Whether it had ended already.

    Raises
    ------
    UserError
        There is no such job, or it is not permitted.
    """
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    before = look(workspace, name)
    if before.status in ENDED:
        return Ending(before.status, before.reason), True

    def ask() -> None:
        try:
            workspace.client.jobs.begin_cancel(name)
        except HttpResponseError as error:
            # it has ended in the meantime
            if error.status_code != 400 or look(workspace, name).status not in ENDED:
                raise

    try:
        workspace.call(f"cancel the job {name}", ask)
    except ResourceNotFoundError as error:
        raise no_such_job(workspace, name) from error
    with workspace.screen.status("cancelling"):
        while (seen := look(workspace, name, service.LONG_PATIENCE)).status not in ENDED:
            time.sleep(POLL_FIRST)
    return Ending(seen.status, seen.reason), False
