"""Follow a job to its end: status, log, interruption, cancellation."""

import json
import math
import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import service
from .artifacts import no_such_job
from .console import Screen, can_ask, clock, command, prompt
from .errors import Interrupted, UnreachableError
from .log import Log, Shown, end_of
from .rules import check_job_name
from .workspace import Workspace

# Nothing else is the end: from NotResponding a job goes on, and Paused is paused by somebody.
ENDED = ("Completed", "Failed", "Canceled")
WAITING = ("NotStarted", "Starting", "Queued", "Provisioning")
BUILD_LOG = re.compile(r"azureml-logs/\d+_image_build_log\.txt|.*image_build.*\.txt")
USER_LOG = re.compile(r"user_logs/std_log(_process_0+)?\.txt|azureml-logs/70_driver_log.*\.txt")
# How long a cancellation is waited for.
CANCEL_SECONDS = 600.0

# The code of a job may print this word, too: what it prints comes after "User process".
_PREEMPTED = re.compile(r"PreemptionError|pre-?empt", re.IGNORECASE)
_USER_PROCESS = re.compile(r"User process .* exited", re.IGNORECASE)
_NODES_TAG = "_aml_system_ComputeTargetStatus"


def poll_seconds() -> tuple[float, float]:
    """Return the seconds between two looks at a job, growing from the first to the second.

    The variables are the SDK's own; what is no number of seconds there is passed over.
    """

    def read(name: str, default: float) -> float:
        try:
            seconds = float(os.environ.get(name, default))
        except ValueError:
            return default
        return seconds if math.isfinite(seconds) and seconds > 0 else default

    first = read("AZUREML_RUN_POLLING_INTERVAL_MIN", 2.0)
    return first, max(first, read("AZUREML_RUN_POLLING_INTERVAL_MAX", 10.0))


@dataclass(frozen=True)
class Ending:
    """How a job has ended, as the service says.

    Attributes
    ----------
    status : str
        `Completed`, `Failed`, `Canceled`; the last one known where `detached` is true.
    reason : str
        The service's own words, one line; empty where it has none.
    preempted : bool
        Its node was taken away; the code had no part in it.
    detached : bool
        It was left running.
    log_tail : str
        The last lines of its log.
    seconds : float or None
        How long it ran.
    """

    status: str
    reason: str = ""
    preempted: bool = False
    detached: bool = False
    log_tail: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class JobState:
    """A job at one moment; `nodes` is what the service says of those that a queued job waits for."""

    status: str
    reason: str = ""
    logs: Mapping[str, str] = field(default_factory=dict)
    nodes: str = ""
    seconds: float | None = None


def look(workspace: Workspace, name: str, patience: float = service.PATIENCE) -> JobState:
    """Ask for the status of a job, its error, and the signed addresses of its logs."""
    from azure.core.exceptions import ResourceNotFoundError

    check_job_name(name)
    try:
        found = workspace.call(f"look at the job {name}", lambda: workspace.run_details(name), patience)
    except ResourceNotFoundError as error:
        raise no_such_job(workspace, name) from error
    root = getattr(found.error, "error", None)
    times = (found.start_time_utc, found.end_time_utc)
    return JobState(
        status=str(found.status),
        reason=str(getattr(root, "message", None) or ""),
        logs=dict(found.log_files or {}),
        nodes=_nodes((found.tags or {}).get(_NODES_TAG)),
        seconds=(times[1] - times[0]).total_seconds() if all(times) else None,
    )


def _nodes(text: str | None) -> str:
    """Say what is known of a cluster's nodes: JSON with an allocation state and counts."""
    try:
        told = json.loads(text or "{}")
    except ValueError:
        return ""
    if not isinstance(told, dict):
        return ""
    counts = {
        key.removesuffix("NodeCount").casefold(): value for key, value in told.items() if key.endswith("NodeCount")
    }
    said = [f"{value} {key}" for key, value in counts.items() if value]
    state = str(told.get("AllocationState") or "").casefold()
    return ", ".join([f"nodes: {' and '.join(said) or 'none yet'}"] + ([f"cluster {state}"] if state else []))


def follow(workspace: Workspace, name: str, queue_timeout: int | None, on_interrupt: str) -> Ending:
    """Show a job's status and log until it has ended, or somebody interrupts.

    Parameters
    ----------
    queue_timeout : int or None
        Seconds that it may wait for a node before it is cancelled.
    on_interrupt : {'ask', 'detach', 'cancel'}
        Where nobody can be asked, `ask` detaches.
    """
    try:
        with workspace.screen.status("waiting for the job"):
            return _follow(workspace, name, queue_timeout)
    except Interrupted as interruption:
        return interrupted(workspace, name, interruption, on_interrupt)
    except UnreachableError as lost:
        workspace.screen.say(lost.cause, "yellow")
        return Ending("unknown", detached=True)


def _follow(workspace: Workspace, name: str, queue_timeout: int | None) -> Ending:
    screen, shown = workspace.screen, Shown(workspace)
    first, longest = poll_seconds()
    pause, ran = first, False
    waited = time.monotonic()
    while True:
        seen = look(workspace, name, service.LONG_PATIENCE)
        ended, waiting = seen.status in ENDED, seen.status in WAITING
        if not ended:
            screen.update(f"{seen.status} ({seen.nodes})" if waiting and seen.nodes else seen.status)
        if waiting and ran:
            screen.say("the service has taken its node away, and starts the same job again", "yellow")
        ran = not waiting and (ran or seen.status == "Running")
        found = next((file for file in sorted(seen.logs) if USER_LOG.fullmatch(file)), None)
        if found is not None and not shown.refused:
            shown.name = shown.name or found
            pause = first if shown.read_on(seen.logs[found], last=ended) else pause
        if ended:
            screen.update(seen.status)
            return _ended(workspace, seen, shown.name, shown.log)
        if not waiting:
            waited = time.monotonic()
        elif queue_timeout is not None and time.monotonic() - waited >= queue_timeout:
            screen.say(
                f"no node in {clock(time.monotonic() - waited)}: cancelling the job, as --queue-timeout asks. "
                f"Is there quota for the size? `{command('doctor')}` says",
                "red",
            )
            return cancel(workspace, name)[0]
        time.sleep(pause)
        pause = min(pause * 1.3, longest)


def _ended(workspace: Workspace, seen: JobState, shown: str, log: Log) -> Ending:
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
            shown, log = telling, end_of(workspace, seen.logs[telling])
        if log.tail:
            screen.say(f"the last lines of {shown}:", "bold")
            for line in log.tail:
                screen.say(f"| {line}")
    elif seen.status != "Completed" and reason:
        screen.say(reason, "red")
    return Ending(seen.status, reason, preempted, log_tail="\n".join(log.tail), seconds=seen.seconds)


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
        pass  # a second one leaves at once
    return Ending("Running", detached=True)


def _ask(screen: Screen, name: str) -> str:
    screen.say("")
    while True:
        try:
            given = prompt(f"[d]etach (job {name} goes on, and costs) or [c]ancel it? ").lower()
        except EOFError:
            return "detach"
        if given and "detach".startswith(given):
            return "detach"
        if given and "cancel".startswith(given):
            return "cancel"


def exists(workspace: Workspace, name: str) -> bool:
    """Return whether the service has taken a job in."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        workspace.call(f"look at the job {name}", lambda: workspace.client.jobs.get(name))
    except ResourceNotFoundError:
        return False
    return True


def cancel(workspace: Workspace, name: str) -> tuple[Ending, bool]:
    """Ask the service to cancel a job, and wait until it has ended; one that has ended already stays as it is.

    Returns
    -------
    Ending
    bool
        Whether it had ended already.
    """
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    before = look(workspace, name)

    def ask() -> None:
        try:
            workspace.client.jobs.begin_cancel(name)
        except HttpResponseError as error:
            # it has ended, before or in the meantime
            if error.status_code not in (400, 409) or look(workspace, name).status not in ENDED:
                raise

    try:
        workspace.call(f"cancel the job {name}", ask)
    except ResourceNotFoundError as error:
        raise no_such_job(workspace, name) from error
    until = time.monotonic() + CANCEL_SECONDS
    with workspace.screen.status("cancelling"):
        while (seen := look(workspace, name, service.LONG_PATIENCE)).status not in ENDED and time.monotonic() < until:
            time.sleep(poll_seconds()[0])
    ending = Ending(seen.status, seen.reason, detached=seen.status not in ENDED, seconds=seen.seconds)
    return ending, before.status in ENDED
