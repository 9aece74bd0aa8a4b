"""Serve a workspace on this machine, or run one command against it: `python -m tests.standin -- COMMAND`."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import subprocess
import sys
import time
from types import FrameType

from tests.standin import faults
from tests.standin.faults import Fault
from tests.standin.workspace import POSSIBLE, StandIn


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    kinds = "\n".join(f"  {kind:22} {text}" for kind, text in faults.KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.standin",
        description="An Azure Machine Learning workspace on this machine.",
        epilog=f"faults, as KIND[,route=PATTERN][,times=N][,seconds=S][,code=N][,variant=WORD][,gate=FILE]:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--state", metavar="DIR", help="remember in this folder; forgotten without it")
    parser.add_argument("--build-env", action="store_true", help="build each job's environment from its conda file")
    parser.add_argument("--no-aliases", action="store_true", help="the model registry has no aliases")
    parser.add_argument("--fault", metavar="RULE", action="append", default=[], type=_fault, help="see below")
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="run this, then end with its exit code")
    return parser.parse_args(arguments)


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: list[str]) -> int:
    """Serve, or run the command, and return the exit code."""
    options = parse(arguments)
    if not POSSIBLE:
        print("error: the workspace of a rehearsal runs on Linux and macOS", file=sys.stderr)
        print("  fix: run it there, or in the Windows Subsystem for Linux (wsl --install)", file=sys.stderr)
        return 2

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    lifetime = 0.0
    print("starting a workspace on this machine ...", file=sys.stderr, flush=True)
    with StandIn(
        options.state, build_env=options.build_env, aliases=not options.no_aliases, lifetime=lifetime
    ) as workspace:
        for fault in options.fault:
            workspace.inject(fault)
        if options.command:
            return _run(workspace, options.command)
        for key, value in workspace.environ.items():
            print(f"export {key}={shlex.quote(value)}")
        with contextlib.suppress(KeyboardInterrupt):
            print(f"# state: {workspace.folder.root}   Ctrl-C ends it", flush=True)
            while True:  # not signal.pause(): a Ctrl-C just before it would be kept until the next one
                time.sleep(1)
        print(file=sys.stderr)
    return 0


def _run(workspace: StandIn, command: list[str]) -> int:
    """Run a command to its end; Ctrl-C is the command's to answer."""
    # A handler, not SIG_IGN, which the command would inherit; and before it starts, so that nothing is left to chance.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        process = subprocess.Popen(command, env=workspace.process_environ())
        try:
            code = process.wait()
        except SystemExit:
            process.terminate()
            process.wait(30)
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    refused = sorted(set(workspace.refused_hosts))
    if refused:
        print(f"stand-in: refused to reach {', '.join(refused)}", file=sys.stderr)
    for route in dict.fromkeys(workspace.unknown_routes):
        print(f"stand-in: does not know {route}", file=sys.stderr)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
