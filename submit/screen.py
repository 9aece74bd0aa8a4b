"""What is shown: rich on a terminal, plain lines in a pipe."""

import os
import re
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.console
    import rich.progress

# In a pipe, how long nothing may be said before the status is said again.
HEARTBEAT_SECONDS = 30.0

# Signatures of blobs, bearer tokens and account keys may be part of what a server or a library says.
_SECRETS = re.compile(
    r"(?P<name>\b(?:sig|access_token|client_secret|AccountKey|SharedAccessSignature)=)[^\s&;'\"]+"
    r"|eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"
    r"|(?P<bearer>Bearer )\S+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Leave out of a text what opens a door."""
    return _SECRETS.sub(lambda found: f"{found['name'] or found['bearer'] or ''}***", text)


def clock(seconds: float) -> str:
    """Write a duration as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """Write a number of bytes for people."""
    if count < 1000:
        return f"{count} bytes"
    power = min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:.1f} {('', 'kB', 'MB', 'GB', 'TB')[power]}"


def can_ask() -> bool:
    """Whether somebody may type an answer: standard input is open, and a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def typed(question: str) -> str:
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
        """Write a line; `style` is rich's, and nothing in a pipe."""
        self._spoken = time.monotonic()
        text = redact(text)
        if self._console is not None:
            self._console.print(text, style=style, markup=False)
        else:
            print(text + "\n", end="", flush=True)  # in one piece: another thread may write, too

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write names and values, one pair a line."""
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            self.say(f"{name:<{width}}  {value}")

    @contextmanager
    def status(self, text: str) -> Iterator[None]:
        """Show what is going on, and for how long, until the block ends."""
        self._status, self._began = text, time.monotonic()
        if self._console is not None:
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            progress = Progress(*columns, console=self._console, transient=True)
            with progress:
                self._progress = progress, progress.add_task(text, total=None)
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
            progress.update(task, description=text)
        elif changed:
            self.say(f"{text} ({clock(time.monotonic() - self._began)})")

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(1.0):
            if time.monotonic() - self._spoken >= HEARTBEAT_SECONDS:
                self.say(f"{self._status} ({clock(time.monotonic() - self._began)})")
