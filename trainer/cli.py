"""What the scripts' command lines have in common: flags, defaults, signals, and errors of two lines."""

import argparse
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import NoReturn

from trainer import signals
from trainer.causes import command
from trainer.errors import Interrupted, UserError, first_line, nearest
from trainer.secrets import redact
from trainer.settings import ENTRY_POINTS, Parameter

_QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # the scripts say it better
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def run(
    description: str,
    parameters: Sequence[Parameter],
    work: Callable[[dict[str, str]], int],
    arguments: Sequence[str] | None,
) -> int:
    """Parse a command line, work, and tell a `UserError` in two lines.

    Parameters
    ----------
    description : str
        The script's docstring: its first paragraph, then examples.
    parameters : sequence of Parameter
        Each is a flag, with ``-`` for ``_``.
    work : callable
        Takes the parameters as they were spelled, returns the exit code.
    arguments : sequence of str or None
        None: those of the process.

    Returns
    -------
    int
        The exit code: 2 for what the user can fix, 1 for a bug; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    logging.getLogger("trainer").setLevel(logging.DEBUG if debug else logging.INFO)
    with signals.heard():
        code = _run(description, parameters, work, arguments, debug)
        if arguments is None:
            signals.ignore()
    return code


def _run(
    description: str,
    parameters: Sequence[Parameter],
    work: Callable[[dict[str, str]], int],
    arguments: Sequence[str] | None,
    debug: bool,
) -> int:
    try:
        given = _parser(description, parameters).parse_args(arguments)
        return work({parameter.name: getattr(given, parameter.name) for parameter in parameters})
    except UserError as error:
        if debug:
            _show(error)
        print(redact(str(error)), file=sys.stderr)
        _note(error)
        return error.exit_code
    except KeyboardInterrupt as error:
        if debug:
            _show(error)
        said = "; ".join(getattr(error, "__notes__", ())) or "no run had begun, and nothing was registered"
        print(f"stopped: {said}", file=sys.stderr)
        return error.exit_code if isinstance(error, Interrupted) else 128 + signal.SIGINT
    except MemoryError as error:
        if debug:
            _show(error)
        told = UserError(
            f"there is not enough memory{f' ({first_line(error)})' if str(error) else ''}",
            "use a larger machine, fewer columns (columns=A,B), or a table of fewer rows",
        )
        print(told, file=sys.stderr)
        return told.exit_code
    except Exception as error:  # noqa: BLE001 - a bug; its traceback is kept in a file
        if debug:
            _show(error)
        print(f"error: {redact(_said(error))}\n  fix: this is a bug; report it with {_keep(error)}", file=sys.stderr)
        return 1


def _note(error: UserError) -> None:
    """Say it in the run, too, where the environment still names one: no session has come as far as to continue it."""
    if os.environ.get("MLFLOW_RUN_ID") or os.environ.get("AZUREML_RUN_ID"):
        from trainer import tracking

        try:
            tracking.note_failure(error)
        except UserError:
            logging.getLogger(__name__).info("the reason could not be noted in the run")


def _show(error: BaseException) -> None:
    print(redact("".join(traceback.format_exception(error))), file=sys.stderr)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}" if str(error) else type(error).__name__


def _keep(error: Exception) -> str:
    """Write a bug's traceback to a file, without secrets, and return its path; where none can be written, say how."""
    path = Path(gettempdir()) / f"trainer-{os.getpid()}-traceback.txt"
    try:
        path.write_text(redact("".join(traceback.format_exception(error))), encoding="utf-8")
    except OSError:
        return "what --debug prints"
    return str(path)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings]
        unknown = message.removeprefix("unrecognized arguments: ").split("=")[0].split(" ")[0]
        hint = nearest(unknown, flags) if message.startswith("unrecognized arguments: --") else ""
        others = [
            f"{'train' if name == 'main' else name}.py"
            for name, parameters in ENTRY_POINTS.items()
            if unknown in (parameter.flag for parameter in parameters) and unknown not in flags
        ]
        remedy = f"leave it out; {' and '.join(others)} {'has' if len(others) == 1 else 'have'} {unknown}"
        listed = f"{command('python')} {self.prog} --help lists the parameters"
        raise UserError(f"{message}{hint}", remedy if others else listed)


def _parser(description: str, parameters: Sequence[Parameter]) -> argparse.ArgumentParser:
    purpose, _, examples = description.partition("\n\n")
    parser = _Parser(
        description=purpose,
        epilog=re.sub(r"(?<=    )(python|mlflow)(?= )", lambda found: command(found[0]), examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for parameter in parameters:
        shown = f"{parameter.meaning} [{parameter.default}]".replace("%", "%%")
        spellings = dict.fromkeys((parameter.flag, f"--{parameter.name}"))  # the README's tables say n_estimators
        parser.add_argument(*spellings, dest=parameter.name, default=parameter.default, metavar="VALUE", help=shown)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser
