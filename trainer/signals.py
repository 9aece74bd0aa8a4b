"""SIGINT, SIGTERM and SIGHUP: held back while a server or a store is being spoken to, acted upon between calls.

An exception that is raised in the middle of a statement leaves a transaction open, and what is done to clean up then
waits for a lock that this very process holds. So the handler only takes note while `held` is open, and the signal
takes effect at its end. A server that hangs is given `PATIENCE` seconds.
"""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from .errors import Interrupted

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# How long a signal is held back; a second signal is heard no earlier, since a terminal and a parent may each send one.
PATIENCE = 10.0


@dataclass
class _State:
    """What the handler knows: how many `held` are open, whether it is called at all, which signal waits, since when."""

    depth: int = 0
    listening: bool = False
    waiting: int | None = None
    since: float = 0.0
    timer: threading.Timer | None = None


_state = _State()


@contextmanager
def heard() -> Iterator[None]:
    """Turn the signals into `Interrupted`, in the main thread, for as long as the block lasts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    listening = _state.listening
    try:
        for name in NAMES:
            if (number := getattr(signal, name, None)) is not None:
                before[number] = signal.signal(number, _handle)
        _state.listening = True
        yield
    finally:
        _state.listening = listening
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back until the block has ended; the outermost block raises `Interrupted` then.

    Raises
    ------
    Interrupted
        A signal came. Where the block failed as well, that error is its cause.
    """
    _state.depth += 1
    try:
        yield
    except BaseException as error:
        _leave(error)
        raise
    _leave(None)


def _leave(error: BaseException | None) -> None:
    _state.depth -= 1
    if _state.depth == 0 and (number := _forget()) is not None and not isinstance(error, Interrupted):
        raise Interrupted(number) from error


@contextmanager
def hurried(error: BaseException) -> Iterator[None]:
    """Hold signals back while cleaning up; after an interruption, for `PATIENCE` seconds at most.

    Raises
    ------
    Interrupted
        The time is up, and something still hangs.
    """
    _state.depth += 1
    if isinstance(error, Interrupted) and _state.listening:
        _wait_for(error.number)
    try:
        yield
    finally:
        _state.depth -= 1
        _forget()


def ignore() -> None:
    """From here on, signals change nothing: the work is done and said, and the process is about to end."""
    for name in NAMES:
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)


def _handle(number: int, _: FrameType | None) -> None:
    if _state.depth == 0:
        _forget()
        raise Interrupted(number)
    if _state.waiting is None:
        _wait_for(number)
    elif time.monotonic() - _state.since >= PATIENCE:
        _forget()
        raise Interrupted(number)


def _wait_for(number: int) -> None:
    _state.waiting, _state.since = number, time.monotonic()
    _state.timer = threading.Timer(PATIENCE, _send, [number])
    _state.timer.daemon = True
    _state.timer.start()


def _send(number: int) -> None:
    """Wake the main thread, wherever it waits."""
    with suppress(ProcessLookupError):
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            signal.raise_signal(number)


def _forget() -> int | None:
    if _state.timer is not None:
        _state.timer.cancel()
    number, _state.waiting, _state.timer = _state.waiting, None, None
    return number


def tell_instead_of_traceback() -> None:
    """Let a Ctrl-C while Python still imports libraries end in one line; the shell sees 130 all the same."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("stopped: nothing had begun", file=sys.stderr)
        else:
            before(kind, error, where)

    sys.excepthook = hook
