"""Stop a run at every statement, or request, of its registering, in each way, and look at what is left.

    uv run python -m tools.kill_walk                                  # SQLite: each 7th statement, each way
    uv run python -m tools.kill_walk --every 1 --ways SIGKILL,refused
    uv run python -m tools.kill_walk --server --every 1               # requests to an `mlflow server`
    uv run python -m tools.kill_walk --ways random --random 500       # at drawn moments of the whole run

A better model is registered in a store that has a champion. On its way the run is sent SIGINT, SIGTERM, SIGHUP (each
once; `twice`; and by a `thread`, while the statement is under way) or SIGKILL, is `refused` a statement, gets a 503 in
place of an answer, or loses the answer of a request that was heard (`lost`). Whatever happens: no version belongs to a
failed run (after SIGKILL: once the next run has come by), no run is left RUNNING, no alias points to a version that is
gone, the champion is the former one or the new one and whole, and the next run works. It is tried after each SIGKILL,
and after whatever leaves a state that has not been followed by one yet.
"""

import argparse
import functools
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trainer import startup  # noqa: F401  # isort: skip  # first, to start fast

from tools import concurrency
from trainer import checks, cli, registry, results, settings, tracking, training
from trainer.results import Result
from trainer.table import load

ROOT = Path(__file__).resolve().parent.parent
HEARD = ("SIGINT", "SIGTERM", "SIGHUP")
REFUSED, LOST, RANDOM = "refused", "lost", "random"
WAYS = (
    *(f"{name}{how}" for name in HEARD for how in ("", " twice", " thread")),
    *("SIGKILL", "SIGKILL thread", REFUSED, LOST, RANDOM),
)
NAME = "walked"
SECONDS = 240
TRACEBACK = 70


# -- a run, in a process of its own ------------------------------------------------------------------


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


def in_a_child(work: Callable[[], Any], said: Path) -> tuple[int, Any]:
    """Run something in a fork of this process; return how it ended, and what it returned as JSON."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        signal.alarm(SECONDS)
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = TRACEBACK
        try:
            code = int(os.write(writer, json.dumps(work()).encode()) < 0)
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException as error:  # noqa: BLE001 - it is told in the file
            os.write(2, repr(error).encode())
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), json.loads(answer) if answer else None


# -- instants ----------------------------------------------------------------------------------------


@dataclass
class Instants:
    """Counts the statements, or requests, of this process, and acts at one of them, from 1; 0: at none."""

    is_server: bool
    chosen: int = 0
    way: str = ""
    count: int = 0
    first: int = 0
    _go: threading.Event = field(default_factory=threading.Event)

    def install(self) -> None:
        """Watch the store or the server; note when the registering begins."""
        if self.way.endswith(" thread"):
            threading.Thread(target=self._kill_when_told, daemon=True).start()
        close_abandoned = registry.close_abandoned

        def begun(run: tracking.Run, name: str) -> list[str]:
            self.first = self.count + 1
            return close_abandoned(run, name)

        registry.close_abandoned = begun
        if self.is_server:
            self._watch_requests()
        else:
            from sqlalchemy import event
            from sqlalchemy.engine import Engine

            event.listen(Engine, "before_cursor_execute", lambda *_: self._pass())

    def _watch_requests(self) -> None:
        import requests

        request = requests.Session.request

        def watched(session: requests.Session, *given: Any, **more: Any) -> requests.Response:
            is_chosen = self._pass()
            if is_chosen and self.way == REFUSED:  # as MLflow gets it once it has asked often enough
                answer = requests.Response()
                answer.status_code = 503
                return answer
            answer = request(session, *given, **more)
            if is_chosen and self.way == LOST:
                raise requests.ConnectionError("the walk loses the answer")
            return answer

        requests.Session.request = watched  # type: ignore[method-assign, assignment]

    def _pass(self) -> bool:
        self.count += 1
        if self.count != self.chosen:
            return False
        name, _, how = self.way.partition(" ")
        if how == "thread":
            self._go.set()
        elif name.startswith("SIG"):
            for _ in range(2 if how == "twice" else 1):
                os.kill(os.getpid(), getattr(signal, name))
        elif self.way == REFUSED and not self.is_server:
            from sqlalchemy.exc import OperationalError

            raise OperationalError("a statement", {}, Exception("the walk refuses it"))
        return True

    def _kill_when_told(self) -> None:
        self._go.wait()
        os.kill(os.getpid(), getattr(signal, self.way.partition(" ")[0]))


def at_a_moment(seed: int, seconds: float) -> None:
    """Send this process a drawn signal, once or twice, at drawn moments within so many seconds."""
    drawn = random.Random(seed)
    number = getattr(signal, drawn.choice([*HEARD, "SIGKILL"]))
    moments = sorted(drawn.uniform(0, seconds) for _ in range(drawn.choice([1, 2])))
    started = time.monotonic()

    def kill() -> None:
        for moment in moments:
            time.sleep(max(0.0, started + moment - time.monotonic()))
            os.kill(os.getpid(), number)

    threading.Thread(target=kill, daemon=True).start()


# -- what is left ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """What a store holds of the model: its versions with their runs' status and verdict, all runs, the champion."""

    versions: dict[str, tuple[str, str]]
    runs: tuple[str, ...]
    champion: str

    @property
    def kind(self) -> str:
        """What a following run can tell apart."""
        versions = [
            (number, status, verdict == registry.PENDING) for number, (status, verdict) in self.versions.items()
        ]
        return f"{versions} {sorted(self.runs)} {self.champion}"


def look(path: Path) -> State:
    """Read a store's file."""
    verdicts = "select version, value from model_version_tags where key = ? and name = ?"
    versions = (
        "select v.version, r.status from model_versions v join runs r on r.run_uuid = v.run_id "
        "where v.name = ? and v.current_stage != 'Deleted_Internal' order by v.version"
    )
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        verdict = dict(connection.execute(verdicts, [registry.VERDICT, NAME]).fetchall())
        found = connection.execute(versions, [NAME]).fetchall()
        champions = connection.execute(
            "select version from registered_model_aliases where name = ? and alias = ?", [NAME, registry.CHAMPION]
        ).fetchall()
        runs = connection.execute("select status from runs").fetchall()
    return State(
        {str(number): (status, verdict.get(number, "")) for number, status in found},
        tuple(status for (status,) in runs),
        "".join(str(number) for (number,) in champions),
    )


def faults(state: State) -> list[str]:
    """Say what may never be: a champion that is gone or not whole."""
    if state.champion not in state.versions:
        return [f"the alias points to {state.champion or 'nothing'}"]
    status, verdict = state.versions[state.champion]
    if status != "FINISHED" or verdict == registry.PENDING:
        return [f"the champion's run is {status}, its verdict {verdict!r}"]
    return []


def remains(state: State) -> list[str]:
    """Say what only a run that was killed may leave, until the next one comes by."""
    found = [
        f"version {number} of a {status} run, verdict {verdict!r}"
        for number, (status, verdict) in state.versions.items()
        if status != "FINISHED" or verdict == registry.PENDING
    ]
    return found + [f"{state.runs.count('RUNNING')} runs are RUNNING"] * ("RUNNING" in state.runs)


# -- the walk ----------------------------------------------------------------------------------------


@dataclass
class Walk:
    """A store that can be set back, what a run does on it, and which states have been followed by another run."""

    folder: Path
    path: Path
    is_server: bool
    result: Result
    followed: set[str] = field(default_factory=set)

    def reset(self) -> None:
        """Put the store back to where it has a champion and nothing else."""
        if self.is_server:  # which has the file open
            with (
                closing(sqlite3.connect(self.folder / "template.db")) as source,
                closing(sqlite3.connect(self.path, timeout=30)) as target,
            ):
                source.backup(target)
        else:
            for left in self.path.parent.glob(f"{self.path.name}*"):
                left.unlink()
            shutil.copy(self.folder / "template.db", self.path)

    def measured(self) -> tuple[int, int, float]:
        """Return where the registering of a run begins, how many instants the run has, and how long it takes."""

        def count() -> tuple[int, int, float]:
            instants, started = Instants(self.is_server), time.monotonic()
            instants.install()
            store(self.result)
            return instants.first, instants.count, time.monotonic() - started

        first, total, seconds = in_a_child(count, self.folder / "said.txt")[1]
        return int(first), int(total), float(seconds)

    def trial(self, way: str, number: int, seconds: float) -> list[str]:
        """Stop a run at an instant, or at the moment of a number; return what is wrong afterwards."""
        self.reset()

        def stopped() -> int:
            if way == RANDOM:
                at_a_moment(number, seconds)
            else:
                Instants(self.is_server, number, way).install()
            raise SystemExit(store(self.result))

        code, _ = in_a_child(stopped, self.folder / "stopped.txt")
        is_killed = code == -signal.SIGKILL
        if is_killed and self.is_server:
            time.sleep(0.2)  # it may have been heard all the same
        after = look(self.path)
        wrong = faults(after) + ([] if is_killed else remains(after))
        if code not in (0, 2, 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP, -signal.SIGKILL):
            wrong.append(f"it said: {(self.folder / 'stopped.txt').read_text()[-600:]}")
        if after.champion not in ("1", max(after.versions, default="1", key=int)):
            wrong.append(f"version {after.champion} is champion")
        if is_killed or after.kind not in self.followed:
            self.followed.add(after.kind)
            wrong += self._followed(after)
        return [f"exit code {code}; {'; '.join(wrong)}"] if wrong else []

    def _followed(self, after: State) -> list[str]:
        code, _ = in_a_child(lambda: sys.exit(store(self.result)), self.folder / "next.txt")
        then = look(self.path)
        wrong = [f"then: {fault}" for fault in faults(then) + remains(then)]
        if code:
            wrong.append(f"the next run ended with {code}: {(self.folder / 'next.txt').read_text()[-600:]}")
        verdict = then.versions.get(max(then.versions, default="", key=int), ("", "none"))[1]
        if len(then.versions) <= sum(status == "FINISHED" for status, _ in after.versions.values()):
            wrong.append("the next run has no version")
        if "is better than" not in verdict and "predicts the same" not in verdict:
            wrong.append(f"the next run's verdict: {verdict}")
        return wrong


@contextmanager
def prepared(is_server: bool, folder: Path) -> Iterator[Walk]:
    """Make a store with a champion, and a better model; import and compile first what each child would do again."""
    from mlflow.store.db import utils

    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = str(folder / "artifacts")
    former, better = learnt("5000"), learnt("1")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/warm.db"
    store(former)
    utils._get_latest_schema_revision = functools.cache(utils._get_latest_schema_revision)
    utils._get_latest_schema_revision()
    path = folder / "walk.db"
    backend = f"sqlite:///{path}"
    if is_server:
        with concurrency.server(backend, folder) as address:
            yield _with_a_champion(Walk(folder, path, is_server, better), address, former)
    else:
        yield _with_a_champion(Walk(folder, path, is_server, better), backend, former)


def _with_a_champion(walk: Walk, uri: str, former: Result) -> Walk:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    code, _ = in_a_child(lambda: sys.exit(store(former)), walk.folder / "said.txt")
    if code:
        raise SystemExit((walk.folder / "said.txt").read_text())
    with (
        closing(sqlite3.connect(walk.path)) as source,
        closing(sqlite3.connect(walk.folder / "template.db")) as target,
    ):
        source.backup(target)
    return walk


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code is 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--server", action="store_true", help="requests to a server instead of statements of SQLite")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}")
    parser.add_argument("--every", type=int, default=7, metavar="N", help="each Nth instant [7]")
    parser.add_argument("--from", dest="first", type=int, metavar="N", help="from this one [where registering begins]")
    parser.add_argument("--random", type=int, default=50, metavar="N", help="drawn moments [50]")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first of the moments' numbers [0]")
    given = parser.parse_args(arguments)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    with TemporaryDirectory(prefix="walk-") as scratch:
        os.chdir(scratch)
        with prepared(given.server, Path(scratch)) as walk:
            walk.reset()
            begins, total, seconds = walk.measured()
            print(f"{total} instants a run, from {begins} on it registers; {seconds:.1f} s", flush=True)
            for way in given.ways.split(","):
                if way == LOST and not given.server:
                    continue
                drawn = range(given.seed, given.seed + given.random)
                for number in drawn if way == RANDOM else range(given.first or begins, total + 1, given.every):
                    said = walk.trial(way, number, seconds)
                    tried[way] += 1
                    wrong[way] += len(said)
                    for sentence in said:
                        print(f"{way} at {number}: {sentence}", flush=True)
                print(f"{way:<16} {tried[way]:>6} {wrong[way]:>4}", flush=True)
        os.chdir(ROOT)
    print(f"{tried.total()} tried, {wrong.total()} with violations")
    return 1 if wrong.total() else 0


if __name__ == "__main__":
    sys.exit(main())
