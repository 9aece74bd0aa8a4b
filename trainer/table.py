"""Read a table, say what is wrong with it, split it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trainer import files, stream
from trainer.errors import UserError, nearest
from trainer.hashing import row_hash

MINIMUM_ROWS = 10
SPLITS = ("stable", "random")
# Rows of a large table that are handled at a time, where a copy of all would double the memory.
BLOCK_ROWS = 32_768


@dataclass(frozen=True)
class About:
    """What is worth knowing of a table once its rows are gone.

    Attributes
    ----------
    source : files.Source
    n_rows, n_features : int
    types : dict of str to str, or None
        Of a large table, by feature: int64, float64 or bool, what a caller will send again. None where the features'
        own dtypes say it.
    """

    source: files.Source
    n_rows: int
    n_features: int
    types: dict[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """A table that has been checked.

    Attributes
    ----------
    features : DataFrame of shape (n_rows, n_features)
        Columns of dtype int64, float64, bool, or object (text, or booleans with missing values);
        a missing value is ``nan``. Of a large table: a view of one float32 matrix.
    target : ndarray of shape (n_rows,), float64
        Complete and finite.
    keys : DataFrame of shape (n_rows, n_keys) or None
        What names the entity that a row belongs to; None where each row stands for itself.
    source : files.Source
    large : Large or None
        Where the table was streamed: what was noted of it on the way.
    """

    features: pd.DataFrame
    target: npt.NDArray[np.float64]
    keys: pd.DataFrame | None
    source: files.Source
    large: "Large | None" = None

    @property
    def about(self) -> About:
        """What is worth knowing of it once its rows are gone."""
        return About(self.source, *self.features.shape, None if self.large is None else self.large.types)


@dataclass
class Large:
    """What was noted of a large table while it was streamed.

    Attributes
    ----------
    hashes : ndarray of shape (n_rows,), uint64
        Of the rows' keys where there are any, else of the rows; `divide` lets go of them.
    keyed : bool
        Whether there are keys.
    types : dict of str to str
        As in `About`.
    """

    hashes: npt.NDArray[np.uint64]
    keyed: bool
    types: dict[str, str]


@dataclass(frozen=True)
class Split:
    """Which rows are test rows.

    Attributes
    ----------
    in_test : ndarray of shape (n_rows,), bool
    entities : ndarray of shape (n_rows,), uint64, or None
        A number an entity, where keys were given.
    """

    in_test: npt.NDArray[np.bool_]
    entities: npt.NDArray[np.uint64] | None

    @property
    def train(self) -> npt.NDArray[np.intp]:
        """The numbers of the training rows."""
        return np.flatnonzero(~self.in_test)

    @property
    def test(self) -> npt.NDArray[np.intp]:
        """The numbers of the test rows."""
        return np.flatnonzero(self.in_test)


@dataclass(frozen=True)
class Rows:
    """The rows of one side, in the table's order.

    Attributes
    ----------
    features : DataFrame of shape (n_rows, n_features)
    target : ndarray of shape (n_rows,)
    entities : ndarray of shape (n_rows,), uint64, or None
    """

    features: pd.DataFrame
    target: npt.NDArray[np.float64]
    entities: npt.NDArray[np.uint64] | None


def read(data: str, target: str, key: Sequence[str] = (), columns: Sequence[str] | None = None) -> Table:
    """Read a CSV file (also gzipped), a Parquet file, or a folder of Parquet parts.

    A large table of numbers alone is streamed into one float32 matrix (`trainer.stream`).

    Parameters
    ----------
    data : str
        A local path, or a URL of any file system for which an fsspec driver is installed.
    target : str
        The numeric column to predict.
    key : sequence of str
        Columns that name the entity of a row. They are not features.
    columns : sequence of str or None
        The features; by default, all columns but the target and the keys.

    Raises
    ------
    UserError
        The table cannot be read, or a model cannot be trained on it.
    """
    location = files.locate(data)
    if (large := _read_large(location, target, key, columns)) is not None:
        return large
    wanted = None if columns is None else [*columns, target, *key]
    table = files.read(location, wanted)
    if wanted is not None and not set(wanted) <= set(table.column_names):
        table = files.read(location)  # so as to say which columns there are
    features = feature_names(table.column_names, target, key, columns, data)
    _check_rows(table.num_rows, data)
    return Table(
        features=pd.DataFrame({name: _feature(table.column(name), name, data) for name in features}),
        target=_target(table.column(target), target, data),
        keys=pd.DataFrame({name: _key(table.column(name), name, data) for name in key}) if key else None,
        source=files.describe(location),
    )


def _read_large(
    location: files.Location, target: str, key: Sequence[str], columns: Sequence[str] | None
) -> Table | None:
    """Stream a table, where it is large and holds numbers alone; None where it has to be read the ordinary way."""
    try:
        layout = stream.look(location)
        n_columns = len(layout.schema) if columns is None else len(columns) + 1
        if layout.rows * n_columns < stream.LARGE_VALUES:
            return None
        features = feature_names(layout.schema.names, target, key, columns, location.data)
        streamed = stream.read(location, layout, features, target, key)
    except stream.NotStreamableError:
        return None
    check_tally(streamed.tally, features, target, location.data)
    return from_stream(streamed, features, bool(key), files.describe(location))


def from_stream(streamed: stream.Streamed, features: Sequence[str], keyed: bool, source: files.Source) -> Table:
    """Make a table of what was streamed, without a copy."""
    frame = pd.DataFrame(streamed.matrix, columns=list(features), copy=False)
    return Table(frame, streamed.target, None, source, Large(streamed.hashes, keyed, streamed.types))


def as_sent(rows: pd.DataFrame, about: About) -> pd.DataFrame:
    """Give some rows of the features in the types in which a caller will send such rows again."""
    return rows if about.types is None else rows.astype(about.types)


def split(table: Table, rule: str, test_fraction: float, seed: int, fewest: int = 2) -> Split:
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
    fewest : int
        Rows that each side must have.

    Raises
    ------
    UserError
        A side is left without rows.
    """
    large = table.large
    if large is not None:
        entities = large.hashes if large.keyed else None
    else:
        entities = None if table.keys is None else row_hash(table.keys)
    if rule == "stable":
        hashes = entities
        if hashes is None:
            hashes = row_hash(table.features) if large is None else large.hashes
        in_test = np.concatenate([block / 2.0**64 < test_fraction for block in _blocks(hashes)])
    else:
        in_test = _draw(len(table.target), entities, test_fraction, seed)
    n_test = int(in_test.sum())
    check_sides(len(in_test) - n_test, n_test, rule, test_fraction, fewest)
    return Split(in_test, entities)


def divide(table: Table, sides: Split) -> tuple[Rows, Rows]:
    """Give the training rows and the test rows.

    A large table is used up: its training rows move together where they are, and only the test rows are copied.
    """
    if table.large is None:
        train, test = (
            Rows(
                table.features.iloc[rows],
                table.target[rows],
                None if sides.entities is None else sides.entities[rows],
            )
            for rows in (sides.train, sides.test)
        )
        return train, test
    table.large.hashes = table.large.hashes[:0].copy()
    matrix, test_matrix = _take_out(table.features.to_numpy(), sides.in_test)
    target, test_target = _take_out(table.target, sides.in_test)
    entities, test_entities = (None, None) if sides.entities is None else _take_out(sides.entities, sides.in_test)
    names = table.features.columns
    return (
        Rows(pd.DataFrame(matrix, columns=names, copy=False), target, entities),
        Rows(pd.DataFrame(test_matrix, columns=names, copy=False), test_target, test_entities),
    )


def check_sides(n_train: int, n_test: int, rule: str, test_fraction: float, fewest: int = 2) -> None:
    """Refuse a split that leaves a side without rows.

    Raises
    ------
    UserError
        A side has fewer than `fewest`.
    """
    for side, rows in (("training", n_train), ("test", n_test)):
        if rows < fewest:
            raise UserError(
                f"the {rule} split with test_fraction={test_fraction} leaves {rows} {side} rows "
                f"of {n_train + n_test}; at least {fewest} are needed",
                "give more rows (or more entities), another test_fraction, or split=random",
            )


def _take_out(values: npt.NDArray[Any], chosen: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Copy the chosen rows, and move the others together, in place; both keep their order."""
    taken = values[chosen]
    end = 0
    for block, out in zip(_blocks(values), _blocks(chosen), strict=True):
        kept = block[~out]
        values[end : end + len(kept)] = kept
        end += len(kept)
    return values[:end], taken


def _blocks(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(values), BLOCK_ROWS):
        yield values[start : start + BLOCK_ROWS]


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


def feature_names(
    names: Sequence[str], target: str, key: Sequence[str], columns: Sequence[str] | None, data: str
) -> list[str]:
    """Check the columns by their names, and give the features.

    Raises
    ------
    UserError
        A column is not there, or there twice, or none is left.
    """
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{data} has more than one column {duplicates[0]!r}", "rename or drop the duplicates")
    for number, name in enumerate(names, start=1):
        if columns is None and (not name or name.startswith("__index_level_")):
            raise UserError(
                f"column {number} of {data} is the row index of a notebook's DataFrame",
                "save the table without it: to_csv(..., index=False) or to_parquet(..., index=False)",
            )
    wanted = [("target", target), *(("key", name) for name in key), *(("columns", name) for name in columns or ())]
    for role, name in wanted:
        if name not in names:
            separator = next((s for s in ";\t|" if len(names) == 1 and s in names[0]), None)
            raise UserError(
                f"the {'feature' if role == 'columns' else role} {name!r} is not a column of {data}"
                f"{nearest(name, names)}",
                f"the columns seem to be separated by {separator!r}: save the table with commas"
                if separator
                else f"give {role}=NAME with one of {_listed(names)}",
            )
    if target in key:
        raise UserError(f"{target!r} is given as target and as key", "a key names an entity: give another column")
    for name in columns or ():
        if name == target or name in key:
            role = "target" if name == target else "key"
            raise UserError(
                f"{name!r} is given as {role} and among the columns", f"the {role} is no feature: leave it out"
            )
    features = [name for name in names if name != target and name not in key] if columns is None else list(columns)
    if not features:
        raise UserError(
            f"{data} has no feature: its columns are {_listed(names)}",
            "add at least one column besides the target and the keys",
        )
    return features


def _check_rows(rows: int, data: str) -> None:
    if rows == 0:
        raise files.no_rows(data)
    if rows < MINIMUM_ROWS:
        raise UserError(f"{data} has {rows} rows; at least {MINIMUM_ROWS} are needed", "give a larger table")


def check_tally(tally: stream.Tally, features: Sequence[str], target: str, data: str) -> None:
    """Refuse a table by what was counted while it was streamed, as `read` does.

    Raises
    ------
    UserError
        A model cannot be trained on it.
    """
    _check_rows(tally.rows, data)
    for number, name in enumerate([*features, target]):
        if tally.infinite[number]:
            raise _infinite(name, data, int(tally.infinite[number]), int(tally.first_infinite[number]))
        if name == target and tally.missing[number]:
            raise _target_missing(name, data, int(tally.missing[number]), int(tally.first_missing[number]))
        if tally.missing[number] == tally.rows:
            raise _all_missing(name, data)
    if tally.low == tally.high:
        raise _constant(target, data, tally.low)


# -- one column of an ordinary table --------------------------------------------------------------


def _feature(column: pa.ChunkedArray, name: str, data: str) -> npt.NDArray[Any]:
    if column.null_count == len(column):
        raise _all_missing(name, data)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_integer(kind) and column.null_count == 0 and kind != pa.uint64():
        return np.asarray(column.to_numpy(), dtype=np.int64)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = _floats(column)
        _check_finite(values, name, data)
        if np.isnan(values).all():
            raise _all_missing(name, data)
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
        raise _target_missing(name, data, len(missing), int(missing[0]))
    _check_finite(values, name, data)
    if values.min() == values.max():
        raise _constant(name, data, values[0])
    return values


def _key(column: pa.ChunkedArray, name: str, data: str) -> npt.NDArray[Any]:
    values: npt.NDArray[Any] = column.to_pandas().to_numpy()
    if len(missing := np.flatnonzero(pd.isna(values))):
        raise UserError(
            f"the key {name!r} of {data} is missing in {_rows(len(missing), int(missing[0]))}",
            "a row without a key belongs to no entity: drop those rows, or fill them",
        )
    return values if values.dtype.kind in "biuf" else values.astype(str).astype(object)


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    # to_numpy of an integer column with nulls, and of one without, alike: float64 with nan
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64).copy()


def _check_finite(values: npt.NDArray[np.float64], name: str, data: str) -> None:
    if len(infinite := np.flatnonzero(np.isinf(values))):
        raise _infinite(name, data, len(infinite), int(infinite[0]))


def _first_text(column: pa.ChunkedArray) -> str:
    if not pa.types.is_string(column.type):
        return ""
    numbers = pc.match_substring_regex(column, r"^\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*$")
    row = next((i for i, is_number in enumerate(numbers.to_pylist()) if is_number is False), None)
    return "" if row is None else f" (row {row + 1} says {column[row].as_py()!r})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")


def _rows(count: int, first: int) -> str:
    return f"row {first + 1}" if count == 1 else f"{count} rows, the first of them row {first + 1}"


# -- sentences


def _all_missing(name: str, data: str) -> UserError:
    return UserError(f"all values of column {name!r} of {data} are missing", "drop the column, or fill it")


def _infinite(name: str, data: str, count: int, first: int) -> UserError:
    return UserError(
        f"column {name!r} of {data} is infinite in {_rows(count, first)}", "drop those rows, or leave the value out"
    )


def _target_missing(name: str, data: str, count: int, first: int) -> UserError:
    return UserError(
        f"the target {name!r} of {data} is missing in {_rows(count, first)}", "drop those rows, or fill them"
    )


def _constant(name: str, data: str, value: float) -> UserError:
    return UserError(
        f"the target {name!r} of {data} has one value only, {value:g}", "give a target that varies from row to row"
    )
