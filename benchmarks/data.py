"""Tables for the benchmarks: the same rows on every machine."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

ROW_GROUP = 100_000


def write(path: Path, rows: int, features: int = 10, seed: int = 0) -> Path:
    """Write a table of normal features ``f0``, ``f1``, ... and a target ``y``, unless it is there already.

    The target is linear in the features, with noise, and bends with the first of them.

    Parameters
    ----------
    path : Path
        Ending in ``.parquet`` or ``.csv``.
    rows, features : int
    seed : int
    """
    if path.exists():
        return path
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=features)
    schema = pa.schema([(name, pa.float64()) for name in [*(f"f{i}" for i in range(features)), "y"]])
    kind = pa.parquet.ParquetWriter if path.suffix == ".parquet" else pa.csv.CSVWriter
    with kind(path, schema) as writer:
        for start in range(0, rows, ROW_GROUP):
            values = rng.normal(size=(min(ROW_GROUP, rows - start), features))
            target = values @ weights + np.sin(3 * values[:, 0]) + rng.normal(size=len(values))
            writer.write_table(pa.table([*values.T.copy(), target], schema=schema))
    return path
