"""Read a table, say what is wrong with it, split it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trainer import files
from trainer.errors import UserError, nearest

MINIMUM_ROWS = 10
SPLITS = ("stable", "random")


@dataclass(frozen=True)
class Table:
    """A table that has been checked.

    Attributes
    ----------
    features : DataFrame of shape (n_rows, n_features)
        Columns of dtype int64, float64, bool, or object (text, or booleans with missing values);
        a missing value is ``nan``.
    target : ndarray of shape (n_rows,), float64
        Complete and finite.
    keys : DataFrame of shape (n_rows, n_keys) or None
        What names the entity that a row belongs to; None where each row stands for itself.
    source : files.Source
    """

    features: pd.DataFrame
    target: npt.NDArray[np.float64]
    keys: pd.DataFrame | None
    source: files.Source


@dataclass(frozen=True)
class Split:
    """Row numbers of the two sides, each in the table's order.

    Attributes
    ----------
    train, test : ndarray of int
    entities : ndarray of shape (n_rows,), uint64, or None
        A number an entity, where keys were given.
    """

    train: npt.NDArray[np.intp]
    test: npt.NDArray[np.intp]
    entities: npt.NDArray[np.uint64] | None


def read(data: str, target: str, key: Sequence[str] = ()) -> Table:
    """Read a CSV file (also gzipped), a Parquet file, or a folder of Parquet parts.

    Parameters
    ----------
    data : str
        A local path, or a URL of any file system for which an fsspec driver is installed.
    target : str
        The numeric column to predict.
    key : sequence of str
        Columns that name the entity of a row. They are not features.

    Raises
    ------
    UserError
        The table cannot be read, or a model cannot be trained on it.
    """
    table, source = files.read(data)
    _check_columns(table, target, key, data)
    features = {
        name: _feature(table.column(name), name, data)
        for name in table.column_names
        if name != target and name not in key
    }
    if not features:
        raise UserError(
            f"{data} has no feature: its columns are {_listed(table.column_names)}",
            "add at least one column besides the target and the keys",
        )
    return Table(
        features=pd.DataFrame(features),
        target=_target(table.column(target), target, data),
        keys=pd.DataFrame({name: _key(table.column(name), name, data) for name in key}) if key else None,
        source=source,
    )


def split(table: Table, rule: str, test_fraction: float, seed: int) -> Split:
    """Choose the test rows.

    Parameters
    ----------
    table : Table
    rule : {'stable', 'random'}
        ``stable``: a row is a test row if a hash of its key, or else of its features, says so. Equal
        rows fall on one side, whatever other rows the table holds, in whatever order; the seed plays no part.
        ``random``: `sklearn.model_selection.train_test_split` with the seed, by whole entities where the
        table has keys.
    test_fraction : float
        In (0, 1). The stable split meets it on average.
    seed : int

    Raises
    ------
    UserError
        A side is left without rows.
    """
    entities = None if table.keys is None else row_hash(table.keys)
    if rule == "stable":
        hashes = row_hash(table.features) if entities is None else entities
        in_test = hashes / 2.0**64 < test_fraction
    else:
        in_test = _draw(len(table.target), entities, test_fraction, seed)
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    for side, rows in (("training", train), ("test", test)):
        if len(rows) < 2:
            raise UserError(
                f"the {rule} split with test_fraction={test_fraction} leaves {len(rows)} {side} rows "
                f"of {len(in_test)}; at least 2 are needed",
                "give more rows (or more entities), another test_fraction, or split=random",
            )
    return Split(train, test, entities)


def row_hash(frame: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """Hash each row by its values alone: `pandas.util.hash_pandas_object` over float64 and text.

    The order of the columns plays no part, nor does whether a number was stored as an integer, a
    float or a boolean: a column that turns from integer to float keeps its rows' hashes.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)

    Returns
    -------
    ndarray of shape (n_rows,), uint64
    """
    canonical = {}
    for name, column in sorted(frame.items(), key=lambda item: str(item[0])):
        if is_number(column):
            values = column.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0  # -0.0 becomes 0.0
        else:
            values = column.to_numpy(dtype=object, copy=True)
        values[pd.isna(values)] = np.nan  # nan has many bit patterns, and text may say None
        canonical[name] = values
    hashes = pd.util.hash_pandas_object(pd.DataFrame(canonical, copy=False), index=False)
    return np.asarray(hashes, dtype=np.uint64)


def is_number(column: "pd.Series[Any]") -> bool:
    """Whether a feature counts as a number: integers, floats and booleans, with or without missing values."""
    if column.dtype.kind in "biuf":
        return True
    present = column.dropna()
    return bool(len(present)) and isinstance(present.iloc[0], bool | np.bool_)


def _draw(
    n_rows: int, entities: npt.NDArray[np.uint64] | None, test_fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    from sklearn.model_selection import train_test_split

    codes = np.arange(n_rows) if entities is None else pd.factorize(pd.Series(entities))[0]
    n_members = int(codes.max()) + 1
    try:
        _, chosen = train_test_split(np.arange(n_members), test_size=test_fraction, random_state=seed)
    except ValueError as error:  # scikit-learn says which side would be empty
        raise UserError(
            f"a random split of {n_members} {'rows' if entities is None else 'entities'} is not "
            f"possible: {str(error).splitlines()[0]}",
            "give more rows (or more entities), or another test_fraction",
        ) from error
    chosen_mask = np.zeros(n_members, dtype=bool)
    chosen_mask[chosen] = True
    in_test: npt.NDArray[np.bool_] = chosen_mask[codes]
    return in_test


# -- checking it ---------------------------------------------------------------------------------


def _check_columns(table: pa.Table, target: str, key: Sequence[str], data: str) -> None:
    names = table.column_names
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{data} has more than one column {duplicates[0]!r}", "rename or drop the duplicates")
    for number, name in enumerate(names, start=1):
        if not name or name.startswith("__index_level_"):
            raise UserError(
                f"column {number} of {data} is the row index of a notebook's DataFrame",
                "save the table without it: to_csv(..., index=False) or to_parquet(..., index=False)",
            )
    for role, name in [("target", target), *(("key", name) for name in key)]:
        if name not in names:
            separator = next((s for s in ";\t|" if len(names) == 1 and s in names[0]), None)
            raise UserError(
                f"the {role} {name!r} is not a column of {data}{nearest(name, names)}",
                f"the columns seem to be separated by {separator!r}: save the table with commas"
                if separator
                else f"give {role}=NAME with one of {_listed(names)}",
            )
    if target in key:
        raise UserError(f"{target!r} is given as target and as key", "a key names an entity: give another column")
    if table.num_rows == 0:
        raise files.no_rows(data)
    if table.num_rows < MINIMUM_ROWS:
        raise UserError(
            f"{data} has {table.num_rows} rows; at least {MINIMUM_ROWS} are needed",
            "give a larger table",
        )


def _feature(column: pa.ChunkedArray, name: str, data: str) -> npt.NDArray[Any]:
    if column.null_count == len(column):
        raise UserError(f"all values of column {name!r} of {data} are missing", "drop the column, or fill it")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_integer(kind) and column.null_count == 0 and kind != pa.uint64():
        return np.asarray(column.to_numpy(), dtype=np.int64)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = _floats(column)
        _check_finite(values, name, data)
        if np.isnan(values).all():
            raise UserError(f"all values of column {name!r} of {data} are missing", "drop the column, or fill it")
        return values
    if pa.types.is_boolean(kind) and column.null_count == 0:
        return np.asarray(column.to_numpy(), dtype=bool)
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        objects = np.asarray(column.to_numpy(), dtype=object)
        objects[pd.isna(objects)] = np.nan
        return objects
    raise UserError(
        f"column {name!r} of {data} is of type {kind}; numbers, text and booleans can be features",
        "turn it into a number (a date into the days since another, say), or drop it",
    )


def _target(column: pa.ChunkedArray, name: str, data: str) -> npt.NDArray[np.float64]:
    kind = column.type
    is_numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if not is_numeric and column.null_count < len(column):
        raise UserError(
            f"the target {name!r} of {data} is not numeric, but {kind}{_first_text(column)}",
            "give a target column of numbers",
        )
    values = _floats(column)
    if len(missing := np.flatnonzero(np.isnan(values))):
        raise UserError(
            f"the target {name!r} of {data} is missing in {_rows(missing)}",
            "drop those rows, or fill them",
        )
    _check_finite(values, name, data)
    if values.min() == values.max():
        raise UserError(
            f"the target {name!r} of {data} has one value only, {values[0]:g}",
            "give a target that varies from row to row",
        )
    return values


def _key(column: pa.ChunkedArray, name: str, data: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.to_pandas().to_numpy()
    if len(missing := np.flatnonzero(pd.isna(values))):
        raise UserError(
            f"the key {name!r} of {data} is missing in {_rows(missing)}",
            "a row without a key belongs to no entity: drop those rows, or fill them",
        )
    return values if values.dtype.kind in "biuf" else values.astype(str).astype(object)


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    # to_numpy of an integer column with nulls, and of one without, alike: float64 with nan
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64).copy()


def _check_finite(values: npt.NDArray[np.float64], name: str, data: str) -> None:
    if len(infinite := np.flatnonzero(np.isinf(values))):
        raise UserError(
            f"column {name!r} of {data} is infinite in {_rows(infinite)}",
            "drop those rows, or leave the value out",
        )


def _first_text(column: pa.ChunkedArray) -> str:
    if not pa.types.is_string(column.type):
        return ""
    numbers = pc.match_substring_regex(column, r"^\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*$")
    row = next((i for i, is_number in enumerate(numbers.to_pylist()) if is_number is False), None)
    return "" if row is None else f" (row {row + 1} says {column[row].as_py()!r})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")


def _rows(numbers: npt.NDArray[np.intp]) -> str:
    first = numbers[0] + 1
    return f"row {first}" if len(numbers) == 1 else f"{len(numbers)} rows, the first of them row {first}"
