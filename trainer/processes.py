"""Whose run is it, and is that process alive? A run that a kill has left RUNNING is closed by the next one."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import recording

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROCESS = "trainer.process"
# Of a run that failed: why.
ERROR = "error"
_PROC = Path("/proc")


def tags() -> dict[str, str]:
    """Return the tag that names this process; none where the system does not tell what it takes."""
    place, start = _place(), _start(os.getpid())
    return {PROCESS: f"{place} {os.getpid()} {start}"} if place and start else {}


def _place() -> str:
    """Name what a process number is unique in: the host, since it was started, and the container."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _start(number: int) -> str:
    """Return when a process was started, in the kernel's ticks; empty where there is none of this number."""
    try:
        return (_PROC / str(number) / "stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_gone(tag: str) -> bool:
    """Whether the process that a tag names has certainly ended: it was here, and is no more."""
    place, _, rest = tag.rpartition(" ")[0].rpartition(" ")[0], "", tag.split(" ")[-2:]
    if not place or place != _place() or not rest[0].isdigit():
        return False
    return _start(int(rest[0])) != rest[1]


def close_abandoned(client: "MlflowClient", experiment_id: str) -> list[str]:
    """End the RUNNING runs of an experiment whose process was killed on this machine, and say so.

    What runs elsewhere, or ran before this machine was started again, cannot be told from here, and is left alone.

    Returns
    -------
    list of str
        Their ids.
    """
    closed: list[str] = []

    def close() -> None:
        place = _place()
        if not place:
            return
        host = place.partition(" ")[0].replace("'", "")
        running = client.search_runs(
            [experiment_id], f"attributes.status = 'RUNNING' and tags.`{PROCESS}` LIKE '{host} %'", max_results=100
        )
        for run in running:
            if is_gone(run.data.tags[PROCESS]):
                client.set_tag(run.info.run_id, ERROR, "its process was killed")
                client.set_terminated(run.info.run_id, "FAILED")
                closed.append(run.info.run_id)

    recording.optional("look for runs that were killed", close)
    for run_id in closed:
        print(f"closed      run {run_id}: its process was killed; it is FAILED now")
    return closed
