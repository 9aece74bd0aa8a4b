"""A line on a terminal for what takes longer than two seconds; nothing in a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic

QUIET_SECONDS = 2.0
EVERY_SECONDS = 0.5


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Tell on stderr, if it is a terminal, that `what` is under way and for how long; gone when it is over.

    Yields
    ------
    callable
        Takes how far it is, as words: ``3 of 5``.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    stream, over, started, far = sys.stderr, Event(), monotonic(), [""]

    def tell() -> None:
        pause = QUIET_SECONDS
        while not over.wait(pause):
            stream.write(f"\r\x1b[K{what}{far[0]} ... {monotonic() - started:.0f} s")
            stream.flush()
            pause = EVERY_SECONDS

    def at(words: str) -> None:
        far[0] = f" {words}"

    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield at
    finally:
        over.set()
        teller.join()
        if monotonic() - started >= QUIET_SECONDS:
            stream.write("\r\x1b[K")
            stream.flush()
