"""Measure this project and its peers side by side, and write a Markdown table.

    uv run python -m benchmarks --quick                # a few minutes
    uv run python -m benchmarks --output figures.md    # half an hour, 4 GB in the temporary folder
    uv run python -m benchmarks --only "1e6 rows"

Every command runs as a child process, on tables made from a seed, in a folder that is removed. The cases of one piece
of work take turns, and the table shows medians. On a shared machine, the ratios say more than the seconds.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import data, measure
from benchmarks.measure import Case

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
DIABETES = str(ROOT / "data" / "diabetes.csv")
TRIALS = 20


def python(*words: object, **environment: object) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return a command of this Python, with its environment variables."""
    return (sys.executable, *map(str, words)), tuple((name, str(text)) for name, text in environment.items())


def train(**parameters: object) -> tuple[object, ...]:
    """Return the words of train.py; each run registers a model of its own, so that no champion is compared with."""
    given = {"model_name": f"bench-{measure.FRESH}"} | parameters
    return (ROOT / "train.py", *(f"--{name.replace('_', '-')}={value}" for name, value in given.items()))


def small() -> Iterator[Case]:
    """Train on the shipped table."""
    work = "442 rows"
    target = "progression"
    yield Case(work, "`python train.py`", (python(*train(data=DIABETES)),), repetitions=5)
    yield Case(work, "autolog script", (python(PEERS / "autolog.py", DIABETES, target),), repetitions=5)
    log_model = python(PEERS / "log_model.py", "--data", DIABETES, "--target", target)
    yield Case(work, "`log_model` script", (log_model,), repetitions=5)
    yield Case(work, "the lesson's script", (python(PEERS / "challenge.py", DIABETES, target),), repetitions=5)
    work = "442 rows, `mlflow run`"
    local = ("-m", "mlflow", "run", "--env-manager", "local")
    yield Case(work, "`mlflow run .`", (python(*local, ROOT, "-P", f"model_name=bench-{measure.FRESH}"),))
    peer = python(*local, PEERS, "-P", f"data={DIABETES}", "-P", f"target={target}")
    yield Case(work, "`log_model` script", (peer,))
    work = f"{TRIALS} trials"
    own = (f"--data={DIABETES}", f"--search={ROOT / 'submit' / 'sweep.yml'}", f"--model-name=bench-{measure.FRESH}")
    sweep = python(ROOT / "sweep.py", *own)
    yield Case(work, "`python sweep.py`", (sweep,))
    yield Case(
        work, "one nested `mlflow run` a trial", (python(PEERS / "nested.py", DIABETES, target, TRIALS),), 600, 1
    )


def large(folder: Path, quick: bool) -> Iterator[Case]:
    """Train ridge on tables of growing size."""
    for power in (5, 6) if quick else (5, 6, 7):
        for kind in ("parquet", "csv"):
            path = data.write(folder / f"1e{power}.{kind}", 10**power)
            work, repetitions = f"1e{power} rows x 10, {kind}, ridge", 3 if power < 7 else 1
            yield Case(work, "`python train.py`", (python(*train(data=path, target="y", cv=0)),), 600, repetitions)
            if kind == "parquet" or power < 7:
                autolog = python(PEERS / "autolog.py", path, "y")
                yield Case(work, "autolog script", (autolog,), 100 if power == 7 else 600, repetitions)


def several(folder: Path, quick: bool) -> Iterator[Case]:
    """Train one xgboost model with one process and with two, each with one thread."""
    rows, trees = (200_000, 20) if quick else (2_000_000, 100)
    path = data.write(folder / f"wide-{rows}.parquet", rows, features=20)
    words = train(data=path, target="y", estimator="xgboost", cv=0, n_estimators=trees)
    work = f"{rows:.0e} rows x 20, xgboost, {trees} trees".replace("e+0", "e")
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": measure.PORT, "WORLD_SIZE": 2, "OMP_NUM_THREADS": 1}
    both = tuple(python(*words, **place, RANK=rank) for rank in range(2))
    yield Case(work, "2 processes x 1 thread", both, 900)
    yield Case(work, "1 process x 1 thread", (python(*words, OMP_NUM_THREADS=1),), 900)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="tables of up to 1e6 rows, each case once")
    parser.add_argument("--only", default="", metavar="TEXT", help="work whose name holds this")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table here too")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="benchmarks-") as scratch:
        folder = Path(scratch)
        cases = [case for case in [*small(), *_sized(folder, given.quick, given.only)] if given.only in case.group]
        text = _introduction() + measure.table(_measured(cases, folder, given.quick))
    print(text, end="")
    if given.output:
        given.output.write_text(text)
    return 0


def _sized(folder: Path, quick: bool, only: str) -> Iterator[Case]:
    # making a table takes a while: only those that are asked for
    if not only or "rows x 10" in only or only.startswith("1e"):
        yield from large(folder, quick)
    if not only or "xgboost" in only:
        yield from several(folder, quick)


def _measured(cases: list[Case], folder: Path, quick: bool) -> dict[Case, measure.Cost]:
    environment = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    first = Case("", "the store, and every import once", (python(*train(data=DIABETES)),))
    measure.run(first, folder, environment)
    measured: dict[Case, measure.Cost] = {}
    for group in dict.fromkeys(case.group for case in cases):
        own = [case for case in cases if case.group == group]
        costs: dict[Case, list[measure.Cost]] = {case: [] for case in own}
        for repetition in range(1 if quick else max(case.repetitions for case in own)):
            for case in own:
                if repetition < case.repetitions:
                    print(f"... {case.group}: {case.name}", file=sys.stderr, flush=True)
                    costs[case].append(measure.run(case, folder, environment))
        measured |= {case: measure.median_of(of) for case, of in costs.items()}
    return measured


def _introduction() -> str:
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}; medians.\n\n"


if __name__ == "__main__":
    sys.exit(main())
