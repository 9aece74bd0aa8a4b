"""The submitting side, for tests: as a user runs it, in processes; and in this one, with a workspace that is told."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from submit import compute, follow, service
from submit.console import Screen
from submit.workspace import Address, Workspace
from tests.conftest import ROOT
from tests.standin import StandIn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the SDK's import of marshmallow
    import azure.ai.ml  # noqa: F401
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

# Commands are printed as they run in the shell that ran these; the tests may run under uv, or not.
os.environ.pop("UV", None)

# No command of a test takes so long.
SECONDS = 240
# A project that takes no time to train: submit/ and the files that are staged are the real ones.
TINY = """
import os, sys, time
for number in range(10):
    print(f"line {number} of the log", flush=True)
    while number == 4 and not os.path.exists(GATE):
        time.sleep(0.05)
sys.exit(CODE)
"""


class Answers:
    """A function of a client that answers in turn; an exception is raised, and with `again` the last one stays."""

    def __init__(self, *answers: Any, again: bool = False) -> None:
        self.answers, self.again, self.calls = list(answers), again, 0

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.calls += 1
        answer = self.answers[0] if self.again and len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def refusal(status: int, url: str = "https://management.azure.test/x", code: str = "", text: str = "no") -> Exception:
    """An error of azure-core with a status, as one host answers it."""
    response = SimpleNamespace(
        status_code=status,
        reason=text,
        headers={"x-ms-error-code": code} if code else {},
        request=SimpleNamespace(url=url),
    )
    kind = ResourceNotFoundError if status == 404 else HttpResponseError
    error = kind(message=text)
    error.status_code, error.response = status, response  # type: ignore[assignment]
    return error


def fake_workspace(client: Any = None, **changed: Any) -> Workspace:
    """A workspace that answers what its client is told to; what it says goes to standard output."""
    facts: dict[str, Any] = {
        "address": Address("sub", "group", "ws", "a test"), "location": "westeurope", "tracking_uri": "azureml://x",
        "storage": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct",
        "by_identity": False, "client": client, "credential": None, "screen": Screen(terminal=False),
    }  # fmt: skip
    return Workspace(**facts | changed)


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []  # type: ignore[var-annotated]

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def ticking(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let time pass for submit/ only where it waits, and then at once."""
    ticks = Clock()
    for module in (service, compute, follow):
        monkeypatch.setattr(module, "time", ticks)
    return ticks


def tiny(folder: Path, code: int = 4, gate: Path = ROOT) -> Path:
    """Make a project whose script writes ten lines, the second half once a file is there, and exits."""
    for name in ("submit", "trainer", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("MLproject", "conda.yml", "serving.yml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "train.py").write_text(TINY.replace("CODE", str(code)).replace("GATE", repr(str(gate))))
    return folder


def together(folder: Path, model: str, trees: int) -> list[str]:
    """Write a table and return the options of a job that trains one model on it, on two nodes."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(2_000, 3)).round(1), columns=["a", "b", "c"])
    frame.assign(y=frame["a"] * 3 + frame["b"]).to_parquet(folder / "t.parquet", index=False, row_group_size=250)
    parameters = ("estimator=xgboost", f"n_estimators={trees}", "target=y", f"model_name={model}")
    flags = [flag for parameter in parameters for flag in ("-P", parameter)]
    return ["--nodes", "2", "--data", str(folder / "t.parquet"), *flags]


def command(*arguments: object, project: Path = ROOT) -> list[str]:
    """Return the command line of `submit/remote.py`."""
    return [sys.executable, str(project / "submit" / "remote.py"), *map(str, arguments)]


class Running:
    """A command that runs: what it has said so far, and signals for it."""

    def __init__(self, line: list[str], folder: Path, pid: int, code: Callable[[], int | None]) -> None:
        self.line, self.folder, self.pid, self._code = line, folder, pid, code
        self.code: int | None = None

    @property
    def text(self) -> str:
        """What it has written to standard output."""
        return (self.folder / "out").read_text(encoding="utf-8", errors="replace")

    def until(self, pattern: str) -> str:
        """Wait until it has written something, and return that."""
        deadline = time.monotonic() + SECONDS
        while True:
            ended = self._ended()  # before the look, or its last words would be missed
            if found := re.search(pattern, self.text):
                return found[0]
            assert not ended, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def _ended(self) -> bool:
        if self.code is None:
            self.code = self._code()
        return self.code is not None

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end."""
        deadline = time.monotonic() + SECONDS
        while not self._ended():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"{shlex.join(self.line)} goes on after {SECONDS} s: {self.text}")
            time.sleep(0.01)
        err = (self.folder / "err").read_text(encoding="utf-8")
        assert self.code is not None
        return subprocess.CompletedProcess(self.line, self.code, self.text, err)


class Warm:
    """`submit/remote.py`, or another script, in processes that have imported their libraries already.

    Most of a short command is imports. One process, with the stand-in's environment, does them once, and each command
    is a fork of it, one after the other; what is run is the same file in the same way.
    """

    def __init__(self, standin: StandIn, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "clients" / "warm.py")],
            env=standin.process_environ(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __call__(
        self, *arguments: object, cwd: Path, project: Path = ROOT, environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `submit/remote.py` to its end."""
        return self.start(command(*arguments, project=project)[1:], cwd, environ).wait()

    def start(self, line: list[str], cwd: Path, environ: dict[str, str] | None = None) -> Running:
        """Start a script with its arguments; it has to end before the next one."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        out, err = folder / "out", folder / "err"
        out.touch()
        order = {"line": line, "cwd": str(cwd), "out": str(out), "err": str(err), "environ": environ or {}}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return Running(line, folder, self._read(SECONDS), lambda: self._read(0))

    def _read(self, seconds: float) -> Any:
        """Read a number that the process has printed, None where there is none in time."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return None
        digits = b""
        while (one := os.read(self._process.stdout.fileno(), 1)) != b"\n":
            assert one, "the process that runs commands is gone"
            digits += one
        return int(digits)

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=30)


def jobs_kept(workspace: StandIn) -> dict[str, str]:
    """Return what a workspace keeps of the jobs of `submit/remote.py`, as text: logs, documents, MLflow's store."""
    root = workspace.folder.root
    texts = {str(path): path.read_text(errors="replace") for path in root.glob("jobs/*-2*-*/log-*.txt")}
    with closing(sqlite3.connect(f"file:{root / 'state.db'}?mode=ro", uri=True)) as store:
        kinds = "kind in ('job', 'code', 'data', 'environment', 'model')"
        texts["state.db"] = "\n".join(body for (body,) in store.execute(f"select body from document where {kinds}"))
    with closing(sqlite3.connect(f"file:{root / 'mlflow.db'}?mode=ro", uri=True)) as store:
        texts["mlflow.db"] = "\n".join(store.iterdump())
    assert texts["state.db"]
    return texts


def job_name(said: str, kind: str = "train") -> str:
    """Find the job's name in what `remote.py` has said."""
    found = re.findall(rf"^job +({kind}-[\w-]+)$", said, re.MULTILINE)
    assert found, said
    return str(found[-1])


def log_lines(said: str) -> list[str]:
    """Find the lines of the job's log in what was said before it ended."""
    return re.findall(r"^\| (line \d of the log)$", said.split("failed: ")[0], re.MULTILINE)


def without_azure() -> dict[str, str]:
    """Return an environment that leads nowhere: no identity, no workspace, and a proxy that does not answer."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AZURE", "MLFLOW", "ARM_"))}
    dead = "http://127.0.0.1:9"
    return kept | {"HTTPS_PROXY": dead, "HTTP_PROXY": dead, "https_proxy": dead, "http_proxy": dead}
