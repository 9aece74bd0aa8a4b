"""What the scripts' command lines have in common: flags, defaults, signals, and errors of two lines."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from trainer.errors import Interrupted, UserError, nearest
from trainer.settings import Parameter


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
        The exit code: 2 for what the user can fix; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.
    """
    listen()
    for name, value in {"ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}.items():
        os.environ.setdefault(f"MLFLOW_{name}", value)  # the scripts say it better
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        given = _parser(description, parameters).parse_args(arguments)
        return work({parameter.name: getattr(given, parameter.name) for parameter in parameters})
    except UserError as error:
        if debug:
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        if debug:
            raise
        print("stopped: a run that had begun is FAILED, and nothing was registered", file=sys.stderr)
        return error.exit_code if isinstance(error, Interrupted) else 128 + signal.SIGINT


def listen() -> None:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    raise Interrupted(number)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings]
        unknown = message.removeprefix("unrecognized arguments: ").split("=")[0].split(" ")[0]
        hint = nearest(unknown, flags) if message.startswith("unrecognized arguments: --") else ""
        raise UserError(f"{message}{hint}", f"python {self.prog} --help lists the parameters")


def _parser(description: str, parameters: Sequence[Parameter]) -> argparse.ArgumentParser:
    purpose, _, examples = description.partition("\n\n")
    parser = _Parser(
        description=purpose,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for parameter in parameters:
        shown = f"{parameter.meaning} [{parameter.default}]".replace("%", "%%")
        spellings = dict.fromkeys((parameter.flag, f"--{parameter.name}"))  # the README's tables say n_estimators
        parser.add_argument(*spellings, dest=parameter.name, default=parameter.default, metavar="VALUE", help=shown)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser
