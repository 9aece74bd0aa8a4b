"""Signals wait while something is being said to a server, and take effect between two calls."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from trainer import signals
from trainer.errors import Interrupted

STOPPING = [number for name in signals.NAMES if (number := getattr(signal, name, None)) is not None]


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    with signals.heard():
        yield


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_is_heard_at_once(number: int) -> None:
    with pytest.raises(Interrupted) as told:
        signal.raise_signal(number)
    assert told.value.exit_code == 128 + number


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_waits_for_the_end_of_the_outermost_call(number: int) -> None:
    done: list[str] = []

    def call() -> None:
        with signals.held():
            with signals.held():
                signal.raise_signal(number)
                done.append("inner")
            done.append("outer")

    with pytest.raises(Interrupted) as told:
        call()
    assert done == ["inner", "outer"]
    assert told.value.number == number
    with signals.held():  # it is heard once
        pass


def test_a_second_signal_shortly_after_changes_nothing() -> None:
    done: list[str] = []

    def call() -> None:
        with signals.held():
            signal.raise_signal(signal.SIGTERM)  # `mlflow run` and the terminal both send one
            signal.raise_signal(signal.SIGINT)
            done.append("whole")

    with pytest.raises(Interrupted) as told:
        call()
    assert done == ["whole"]
    assert told.value.number == signal.SIGTERM


def test_a_call_that_fails_is_the_cause_of_the_interruption() -> None:
    def call() -> None:
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
            raise OSError("broke off")

    with pytest.raises(Interrupted) as told:
        call()
    assert str(told.value.__cause__) == "broke off"


def test_a_call_that_hangs_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "PATIENCE", 0.01)

    def call() -> bool:
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
            return threading.Event().wait(600)

    with pytest.raises(Interrupted):
        call()


def test_what_hangs_while_cleaning_up_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "PATIENCE", 0.01)
    with pytest.raises(Interrupted), signals.hurried(Interrupted(signal.SIGTERM)):
        threading.Event().wait(600)


def test_cleaning_up_is_not_disturbed_by_a_second_signal() -> None:
    done = []
    with signals.hurried(Interrupted(signal.SIGTERM)):
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
        done.append("clean")
    assert done == ["clean"]
    with signals.held():
        pass


def test_the_handlers_are_given_back() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # of this test; the fixture gives back what was before
    with signals.heard():
        assert signal.getsignal(signal.SIGTERM) is signals._handle
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_another_thread_hears_nothing_and_holds_nothing() -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with signals.heard():
                pass
        except ValueError as error:  # signal only works in main thread
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's exit code")
def test_an_interruption_of_the_imports_is_one_line() -> None:
    code = "from trainer import signals; signals.tell_instead_of_traceback(); raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "stopped: nothing had begun\n")
