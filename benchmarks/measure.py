"""Measure commands: processor time, elapsed time and peak memory of child processes."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic

# Stands in a command for a word that is another one each time.
FRESH = "FRESH"
# Stands in an environment for a port that is free.
PORT = "FREE_PORT"


@dataclass(frozen=True)
class Case:
    """One or several commands that run at the same time.

    Attributes
    ----------
    group : str
        What is done. The cases of a group do the same work, and the first of them is this project's.
    name : str
    commands : tuple of (command, environment)
        The words of each command, and the variables that it gets besides those of `run`.
    seconds : float
        Where it takes longer, it is ended, and the table says so.
    repetitions : int
    """

    group: str
    name: str
    commands: tuple[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], ...]
    seconds: float = 600
    repetitions: int = 3


@dataclass(frozen=True)
class Cost:
    """What a case has cost.

    Attributes
    ----------
    cpu, wall : float
        Seconds; ``cpu`` is user and system time of the commands and of their children.
    peak : float
        The resident memory of the largest process, in MB (1e6 bytes).
    ended : bool
        Whether the case took too long and was ended.
    """

    cpu: float
    wall: float
    peak: float
    ended: bool = False


def run(case: Case, folder: Path, environment: Mapping[str, str]) -> Cost:
    """Run a case once.

    Parameters
    ----------
    case : Case
    folder : Path
        Where the commands run.
    environment : mapping of str to str

    Raises
    ------
    RuntimeError
        A command failed.
    """
    fresh = os.urandom(4).hex()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    started = monotonic()
    with open(folder / "said.txt", "w+") as said:
        processes = [
            subprocess.Popen(
                [word.replace(FRESH, fresh) for word in command],
                cwd=folder,
                env=os.environ | dict(environment) | {name: text.replace(PORT, port) for name, text in own},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            for command, own in case.commands
        ]
        ended = threading.Event()

        def end() -> None:
            ended.set()
            for process in processes:
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(case.seconds, end)
        timer.start()
        results = [os.wait4(process.pid, 0) for process in processes]
        timer.cancel()
        wall = monotonic() - started
        for process, (_, status, _) in zip(processes, results, strict=True):
            process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        if any(process.returncode for process in processes) and not ended.is_set():
            said.seek(0)
            raise RuntimeError(f"{case.name} failed:\n{said.read()[-3000:]}")
    usages = [usage for _, _, usage in results]
    return Cost(
        cpu=sum(usage.ru_utime + usage.ru_stime for usage in usages),
        wall=wall,
        peak=max(usage.ru_maxrss for usage in usages) * 1024 / 1e6,
        ended=ended.is_set(),
    )


def median_of(costs: Sequence[Cost]) -> Cost:
    """Return the medians of several runs of one case."""
    return Cost(
        cpu=median(cost.cpu for cost in costs),
        wall=median(cost.wall for cost in costs),
        peak=median(cost.peak for cost in costs),
        ended=any(cost.ended for cost in costs),
    )


def table(measured: Mapping[Case, Cost]) -> str:
    """Write the costs as a Markdown table; the last columns say how many times this project's they are."""
    lines = [
        "| work | program | CPU s | wall s | peak MB | CPU x | wall x | memory x |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    ours: dict[str, Cost] = {}
    for case, cost in measured.items():
        first = ours.setdefault(case.group, cost)
        more = "> " if cost.ended else ""
        ratios = [cost.cpu / first.cpu, cost.wall / first.wall, cost.peak / first.peak]
        cells = [f"{more}{cost.cpu:.1f}", f"{more}{cost.wall:.1f}", f"{more}{cost.peak:.0f}"]
        cells += ["1" if cost is first else f"{more}{ratio:.2f}" for ratio in ratios]
        lines.append(f"| {case.group} | {case.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
