"""Temporary: the new table on top of the old reader."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import files, table
from trainer.errors import Remark
from trainer.settings import Settings

Kind = Literal["number", "integer", "boolean", "text", "datetime"]


@dataclass(frozen=True)
class Column:
    """What one feature is, by all rows of the table."""

    name: str
    kind: Kind
    missing: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rows:
    """One side of the split, in the table's order."""

    features: pd.DataFrame
    target: npt.NDArray[np.float64]
    groups: npt.NDArray[np.uint64] | None
    keys: pd.DataFrame | None = None
    numbers: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Table:
    """A table that has been checked and split."""

    source: files.Source
    n_rows: int
    columns: tuple[Column, ...]
    training: Rows
    test: Rows
    rows_without_target: int = 0
    remarks: tuple[Remark, ...] = ()

    @property
    def n_features(self) -> int:
        """How many features it has."""
        return len(self.columns)


def load(settings: Settings) -> Table:
    """Read a table, check it, split it."""
    read = table.read(settings.data, settings.target, settings.key, settings.columns)
    kinds: dict[str, Kind] = {}
    for name, values in read.features.items():
        kind = values.dtype.kind
        kinds[str(name)] = {"i": "integer", "f": "number", "b": "boolean"}.get(kind, "text")  # type: ignore[assignment]
    columns = tuple(Column(name, kind, int(read.features[name].isna().sum())) for name, kind in kinds.items())
    sides = table.split(read, settings.split, settings.test_fraction, settings.seed)
    about = read.about
    training, test = table.divide(read, sides)

    def rows(side: table.Rows, keep: bool) -> Rows:
        features = side.features.astype({n: "float64" for n, k in kinds.items() if k in ("integer", "boolean")})
        numbers = np.flatnonzero(sides.in_test) if keep else None
        keys = None if numbers is None or read.keys is None else read.keys.iloc[numbers]
        return Rows(features, side.target, side.entities, keys, numbers)

    return Table(about.source, about.n_rows, columns, rows(training, False), rows(test, True))
