"""What a person gets to see at the end of a command line: two lines, an exit code, and the truth."""

import logging
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer import cli
from trainer.errors import Interrupted, UserError
from trainer.settings import Parameter

PARAMETERS = (Parameter("alpha", "auto", "100% of the penalty"), Parameter("n_estimators", "auto", "number of trees"))


def run(work: Callable[[dict[str, str]], int], *arguments: str) -> int:
    return cli.run("Train.\n\n    python train.py", PARAMETERS, work, arguments)


def failing(error: BaseException) -> Callable[[dict[str, str]], int]:
    def work(_: dict[str, str]) -> int:
        raise error

    return work


def test_parameters_are_spelled_with_a_dash_or_as_in_mlproject() -> None:
    given: list[dict[str, str]] = []

    def work(found: dict[str, str]) -> int:
        given.append(found)
        return 0

    assert run(work, "--n-estimators=3") == run(work, "--n_estimators", "3") == 0
    assert given == [{"alpha": "auto", "n_estimators": "3"}] * 2


def test_the_help_holds_every_parameter_and_commands_that_run_in_this_shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV", raising=False)
    with pytest.raises(SystemExit) as ended:
        run(lambda _: 0, "--help")
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "100% of the penalty [auto]" in said
    assert "\n    python train.py" in said
    monkeypatch.setenv("UV", "/bin/uv")
    with pytest.raises(SystemExit):
        run(lambda _: 0, "--help")
    assert "\n    uv run python train.py" in capsys.readouterr().out


def test_a_flag_of_nobody_is_told_with_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda _: 0, "--alfa=1") == 2
    error, fix = capsys.readouterr().err.splitlines()
    assert "did you mean '--alpha'?" in error
    assert "--help lists the parameters" in fix


def test_what_a_user_can_fix_is_two_lines_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    error = UserError("https://ada:pw@h/x?sig=abc is gone", "give another")
    assert run(failing(error)) == 2
    assert capsys.readouterr().err == "error: https://***@h/x?sig=*** is gone\n  fix: give another\n"
    assert run(failing(error), "--debug") == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "pw" not in said.replace("***", "")
    assert said.splitlines()[-2:] == ["error: https://***@h/x?sig=*** is gone", "  fix: give another"]


def test_a_bug_is_two_lines_and_its_traceback_is_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "gettempdir", lambda: str(tmp_path))
    assert run(failing(KeyError("token=abc"))) == 1
    error, fix = capsys.readouterr().err.splitlines()
    assert error.startswith("error: KeyError: ")
    (kept,) = tmp_path.iterdir()
    assert fix == f"  fix: this is a bug; report it with {kept}"
    assert "Traceback" in kept.read_text()
    assert "abc" not in kept.read_text() + error
    monkeypatch.setattr(cli, "gettempdir", lambda: str(tmp_path / "nowhere"))
    assert run(failing(KeyError("a"))) == 1
    assert capsys.readouterr().err.splitlines()[1] == "  fix: this is a bug; report it with what --debug prints"


def test_too_little_memory_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing(MemoryError("Unable to allocate 7 GiB"))) == 2
    error, fix = capsys.readouterr().err.splitlines()
    assert error == "error: there is not enough memory (Unable to allocate 7 GiB)"
    assert "columns=" in fix


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Interrupted(signal.SIGINT), 130),
        (Interrupted(signal.SIGTERM), 143),
        *([(Interrupted(signal.SIGHUP), 129)] if hasattr(signal, "SIGHUP") else []),  # not on Windows
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_interruption_says_what_is_true(
    error: KeyboardInterrupt, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(failing(error)) == code
    assert capsys.readouterr().err == "stopped: no run had begun, and nothing was registered\n"
    error.add_note("run a is FAILED; version 1 of m is registered and stays")
    assert run(failing(error)) == code
    assert capsys.readouterr().err == "stopped: run a is FAILED; version 1 of m is registered and stays\n"


def test_signals_are_heard_while_the_work_goes_on() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work(_: dict[str, str]) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert run(work) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_debug_lets_the_libraries_say_more() -> None:
    def level(_: dict[str, str]) -> int:
        return logging.getLogger("trainer").level

    assert (run(level, "--debug"), run(level)) == (logging.DEBUG, logging.INFO)
