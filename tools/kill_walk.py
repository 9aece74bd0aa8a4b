"""Stop a run at every statement that it sends to its store, in each way, and look at what is left.

    uv run python tools/kill_walk.py                       # each 7th statement, each way: minutes
    uv run python tools/kill_walk.py --every 1             # all of them: hours
    uv run python tools/kill_walk.py --only SIGKILL,refused --from 100

A better model is registered in a store that has a champion, and on its way it is killed (SIGKILL), asked to end
(SIGTERM, SIGINT, SIGHUP; `twice`: SIGTERM twice; `thread`: SIGTERM a moment later, from another thread), or refused a
statement (`refused`). Whatever happens: no version belongs to a failed run once the next run has come by, no alias
points to a version that is gone, the champion is the former one or the new one and whole, and the next run works.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from trainer import startup  # noqa: E402, F401  # isort: skip

from trainer import checks, cli, results, settings, tracking, training  # noqa: E402
from trainer.results import Result  # noqa: E402
from trainer.table import load  # noqa: E402

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGKILL")
WAYS = (*SIGNALS, "twice", "thread", "refused")
NAME = "walked"
SECONDS = 240


def learnt(alpha: str) -> Result:
    """Train a model on the shipped table."""
    given = settings.defaults() | {
        "model_name": NAME,
        "alpha": alpha,
        "cv": "0",
        "data": str(ROOT / "data/diabetes.csv"),
    }
    asked = settings.read(given)
    table = load(asked)
    outcome = training.learn(asked, table)
    return Result(asked, table, outcome, checks.examine(asked, table, outcome.metrics, outcome.predicted))


def store(result: Result) -> int:
    """Do what train.py does once a model has been measured."""

    def work(given: dict[str, str]) -> int:
        with tracking.session(given, "train.py") as session:
            run = session.open(f"ridge alpha={result.settings.given['alpha']}")
            results.store(session, run, result)
        return 0

    words = [f"--{name.replace('_', '-')}={text}" for name, text in result.settings.given.items()]
    return cli.run("Walk", settings.MAIN, work, words)


def warm() -> None:
    """Import what a run imports late: each child would do it again."""
    import importlib

    for name in (
        *("mlflow.sklearn", "mlflow.pyfunc", "mlflow.artifacts", "mlflow.store.tracking.sqlalchemy_store"),
        *("mlflow.store.model_registry.sqlalchemy_store", "skops.card", "sklearn.ensemble", "filelock", "tenacity"),
    ):
        importlib.import_module(name)


def in_a_child(work: Callable[[], Any]) -> tuple[int, Any]:
    """Run something in a fork of this process; return how it ended, and what it returned as JSON."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        signal.alarm(SECONDS)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = 70
        try:
            code = int(os.write(writer, json.dumps(work()).encode()) < 0)
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(said) if said else None


def at_statement(number: int, act: Callable[[], None]) -> None:
    """Act when the store is sent its statement of this number, from 1."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    sent = [0]

    def before(*_: Any) -> None:
        sent[0] += 1
        if sent[0] == number:
            act()

    event.listen(Engine, "before_cursor_execute", before)


def acting(way: str) -> Callable[[], None]:
    """Return what happens at the chosen statement."""
    from sqlalchemy.exc import OperationalError

    def refuse() -> None:
        raise OperationalError("a statement", {}, Exception("the walk refuses it"))

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    if way == "refused":
        return refuse
    if way == "twice":
        return twice
    if way == "thread":
        return lambda: threading.Timer(0.003, os.kill, [os.getpid(), signal.SIGTERM]).start()
    return lambda: os.kill(os.getpid(), getattr(signal, way))


def statements(result: Result, uri: str) -> int:
    """Count the statements of a run that nothing stops."""

    def count() -> int:
        os.environ["MLFLOW_TRACKING_URI"] = uri
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        sent = [0]
        event.listen(Engine, "before_cursor_execute", lambda *_: sent.__setitem__(0, sent[0] + 1))
        store(result)
        return sent[0]

    return int(in_a_child(count)[1])


def look(uri: str) -> dict[str, Any]:
    """Return what a store holds of the model: versions with their runs' status, and the champion."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    versions = {
        str(one.version): [client.get_run(str(one.run_id)).info.status, one.tags.get("champion_verdict", "")]
        for one in client.search_model_versions(f"name='{NAME}'")
    }
    aliases = client.get_registered_model(NAME).aliases
    return {"versions": versions, "champion": str(aliases.get("champion", ""))}


def violations(after: dict[str, Any], then: dict[str, Any], code: int) -> list[str]:
    """Say what is wrong with a store after a run was stopped, and after the next one."""
    wrong = []
    for when, found in (("after", after), ("then", then)):
        if found["champion"] not in found["versions"]:
            wrong.append(f"{when}: the alias points to {found['champion'] or 'nothing'}")
        else:
            status, verdict = found["versions"][found["champion"]]
            if status != "FINISHED" or verdict == "pending":
                wrong.append(f"{when}: the champion's run is {status}, its verdict {verdict!r}")
    if code:
        wrong.append(f"the next run ended with {code}")
    for version, (status, verdict) in then["versions"].items():
        if status != "FINISHED" or verdict == "pending":
            wrong.append(f"then: version {version} of a {status} run, verdict {verdict!r}")
    return wrong


def trial(template: Path, folder: Path, result: Result, number: int, way: str) -> tuple[int, list[str]]:
    """Stop a run at a statement; return its exit code, and what is wrong afterwards."""
    path = folder / "walk.db"
    shutil.copy(template, path)
    uri = f"sqlite:///{path}"
    os.environ["MLFLOW_TRACKING_URI"] = uri
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(folder / "artifacts")

    def stopped() -> int:
        at_statement(number, acting(way))
        raise SystemExit(store(result))

    code, _ = in_a_child(stopped)
    after = in_a_child(lambda: look(uri))[1]
    next_code, _ = in_a_child(lambda: sys.exit(store(result)))
    then = in_a_child(lambda: look(uri))[1]
    wrong = violations(after, then, next_code)
    if code == 70:
        wrong.append("the stopped run ended with a traceback")
    return code, wrong


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--every", type=int, default=7, metavar="N", help="each Nth statement [7]")
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="N", help="begin with this one [1]")
    parser.add_argument("--only", default=",".join(WAYS), metavar="WAYS", help="separated by commas")
    given = parser.parse_args(arguments)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    tried = wrong = 0
    with TemporaryDirectory(prefix="walk-") as scratch:
        folder = Path(scratch)
        os.chdir(folder)
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(folder / "artifacts")
        former, better = learnt("5000"), learnt("1")
        warm()
        template = folder / "template.db"
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{template}"
        in_a_child(lambda: sys.exit(store(former)))
        shutil.copy(template, folder / "counted.db")
        total = statements(better, f"sqlite:///{folder / 'counted.db'}")
        print(f"{total} statements a run")
        for way in given.only.split(","):
            for number in range(given.first, total + 1, given.every):
                code, said = trial(template, folder, better, number, way)
                tried, wrong = tried + 1, wrong + bool(said)
                if said:
                    print(f"{way} at {number}: exit code {code}; {'; '.join(said)}", flush=True)
            print(f"{way}: done", flush=True)
    print(f"{tried} tried, {wrong} with violations")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
