"""What the scripts' command lines have in common: flags, defaults, and errors of two lines."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NoReturn

from trainer.errors import UserError

# By name: the default, and the meaning. MLproject declares the same.
Parameters = Mapping[str, tuple[str, str]]


def run(
    description: str, parameters: Parameters, work: Callable[[dict[str, str]], int], arguments: Sequence[str] | None
) -> int:
    """Parse a command line, work, and tell a `UserError` in two lines.

    Parameters
    ----------
    description : str
        The script's docstring: its first paragraph, then examples.
    parameters : mapping
        Each is a flag, with ``-`` for ``_``.
    work : callable
        Takes the parameters as they were spelled, returns the exit code.
    arguments : sequence of str or None
        None: those of the process.

    Returns
    -------
    int
        The exit code: 2 for what the user can mend; 130 after Ctrl-C, 143 after SIGTERM.
    """
    signal.signal(signal.SIGTERM, _terminate)
    for name, said in {"ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}.items():
        os.environ.setdefault(f"MLFLOW_{name}", said)  # the scripts say it better
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        given = _parser(description, parameters).parse_args(arguments)
        return work({name: getattr(given, name) for name in parameters})
    except UserError as error:
        if debug:
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, _TerminatedError) as error:
        if debug:
            raise
        print("stopped: a run that had begun is FAILED, and nothing was registered", file=sys.stderr)
        return 128 + (signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)


class _TerminatedError(BaseException):
    """SIGTERM, as an exception, so that a run ends as FAILED."""


def _terminate(_: int, __: FrameType | None) -> NoReturn:
    raise _TerminatedError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message, f"python {self.prog} --help lists the parameters")


def _parser(description: str, parameters: Parameters) -> argparse.ArgumentParser:
    purpose, _, examples = description.partition("\n\n")
    parser = _Parser(
        description=purpose,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for name, (default, meaning) in parameters.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, default=default, metavar="VALUE", help=f"{meaning} [{default}]")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser
