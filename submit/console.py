"""What is shown: rich on a terminal, plain lines in a pipe; and what is asked there."""

import os
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .secrets import redact

if TYPE_CHECKING:
    import rich.console
    import rich.progress

# In a pipe, how long nothing may be said before the status is said again.
HEARTBEAT_SECONDS = 60.0


def command(*words: str) -> str:
    """Return a command as it runs in the shell that started this one: `uv run` sets UV.

    That is submit/remote.py in this folder, and `mlflow-aml` for who has installed it or comes from `mlflow run`.
    """
    script = ("python", "submit/remote.py") if __package__ == "submit" else ("mlflow-aml",)
    return " ".join((*(("uv", "run") if os.environ.get("UV") else ()), *script, *words))


def clock(seconds: float) -> str:
    """Write a duration as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """Write a number of bytes for people."""
    from rich.filesize import decimal

    return decimal(count)


def dollars(amount: float) -> str:
    """Write an amount of money; less than a cent is not nothing."""
    return f"{amount:.2f} USD" if amount >= 0.01 else f"{amount:.4f} USD"


def can_ask() -> bool:
    """Return whether somebody may type an answer: standard input is open, and a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def prompt(question: str) -> str:
    """Ask on the terminal, and return the line that is typed.

    Unlike `input`, which keeps an interruption between its prompt and its read waiting until Enter is pressed.

    Raises
    ------
    EOFError
        There is nothing more to read.
    """
    print(question, end="", flush=True)
    while os.name == "posix" and not select.select([sys.stdin], [], [], 0.2)[0]:
        pass  # a signal is heard after each wait
    if not (line := sys.stdin.readline()):
        raise EOFError
    return line.strip()


class Screen:
    """Where lines and the status go.

    Parameters
    ----------
    terminal : bool, optional
        Whether a person is looking; by default, whether standard output is a terminal.
    """

    def __init__(self, terminal: bool | None = None) -> None:
        self.terminal = sys.stdout.isatty() if terminal is None else terminal
        self._console: rich.console.Console | None = None
        self._progress: tuple[rich.progress.Progress, rich.progress.TaskID] | None = None
        self._status = ""
        self._began = self._spoken = time.monotonic()
        if self.terminal:
            from rich.console import Console

            self._console = Console(highlight=False, soft_wrap=True)

    def say(self, text: str, style: str | None = None) -> None:
        """Write a line, without secrets; `style` is rich's, and nothing in a pipe."""
        self._spoken = time.monotonic()
        text = redact(text)
        if self._console is not None:
            self._console.print(text, style=style, markup=False)
        else:
            print(text + "\n", end="", flush=True)  # in one piece: another thread may write, too

    def pairs(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write names and values, one pair a line."""
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self.say(f"{name:<{width}}  {value}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write rows in columns, as wide as they are: a table that is cut cannot be copied from."""
        from io import StringIO

        from rich.console import Console
        from rich.table import Table

        grid = Table(*header, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for row in rows:
            grid.add_row(*row)
        drawn = StringIO()
        Console(file=drawn, width=10_000, no_color=True, markup=False, emoji=False, highlight=False).print(grid)
        for line in drawn.getvalue().splitlines():
            self.say(line.rstrip())

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        """Show what is going on, and for how long, until the block ends."""
        self._status, self._began = text, time.monotonic()
        if self._console is not None:
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            progress = Progress(*columns, console=self._console, transient=True)
            with progress:
                self._progress = progress, progress.add_task(redact(text), total=None)
                try:
                    yield
                finally:
                    self._progress = None
            return
        self.say(text)
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=(over,), daemon=True)
        beat.start()
        try:
            yield
        finally:
            over.set()
            beat.join()

    def update(self, text: str) -> None:
        """Change the status; in a pipe, a line when it is another."""
        changed = text != self._status
        self._status = text
        if self._progress is not None:
            progress, task = self._progress
            progress.update(task, description=redact(text))
        elif changed:
            self.say(f"{text} ({clock(time.monotonic() - self._began)})")

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(1.0):
            if time.monotonic() - self._spoken >= HEARTBEAT_SECONDS:
                self.say(f"{self._status} ({clock(time.monotonic() - self._began)})")
