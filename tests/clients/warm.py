"""Import what a submission needs, once; then run command lines that come as JSON, each in a fork.

One after the other: for each, a line with its process id, and one with its exit code.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import skops.io  # noqa: E402, F401  # isort: skip
import azure.ai.ml  # noqa: E402
import azure.identity  # noqa: E402
import azure.storage.blob  # noqa: E402
import azureml.mlflow  # noqa: E402, F401
import click  # noqa: E402, F401
import mlflow.sklearn  # noqa: E402, F401

JOB = Path(__file__).resolve().parents[2] / "submit" / "job.yml"


def run(order: dict[str, object]) -> None:
    """Become the command, in a process that nothing comes back from."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(str(order[name]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(order["environ"])  # type: ignore[call-overload]
    os.chdir(str(order["cwd"]))
    sys.argv = list(order["line"])  # type: ignore[call-overload]
    sys.path[0] = os.path.dirname(sys.argv[0])
    code: object = 1
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001  # what a script of its own would do
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    azure.ai.ml.load_job(
        JOB
    )._validate()  # half of what a submission takes is the making of schemas, and imports for it
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
