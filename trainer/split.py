"""Which rows are test rows: by a hash, by the seed, or by time; and both sides, without a second copy of the table."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from trainer.columns import Text
from trainer.errors import Remark, UserError

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

MINIMUM_ROWS = 10
# Rows that are handled at a time, where a copy of all would double the memory.
BLOCK_ROWS = 32_768


def row_hash(frame: pd.DataFrame) -> Hashes:
    """Hash each row by its values alone: `pandas.util.hash_pandas_object` over float64 and text.

    The order of the columns plays no part, nor does whether a number was stored as an integer, a
    float or a boolean: a column that turns from integer to float keeps its rows' hashes. A date counts as the
    microseconds since 1970.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)

    Returns
    -------
    ndarray of shape (n_rows,), uint64
    """
    canonical: dict[Any, Any] = {}
    for name, column in sorted(frame.items(), key=lambda item: str(item[0])):
        if isinstance(column.dtype, pd.CategoricalDtype):  # hashes as its text does
            canonical[name] = column.array
            continue
        if column.dtype.kind == "M":
            stamps = column.to_numpy("datetime64[us]")
            values = np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64).astype(np.float64))
        elif _is_number(column):
            values = column.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0  # -0.0 becomes 0.0
        else:
            values = column.to_numpy(dtype=object, copy=True)
        values[pd.isna(values)] = np.nan  # nan has many bit patterns, and text may say None
        canonical[name] = values
    hashes = pd.util.hash_pandas_object(pd.DataFrame(canonical, copy=False), index=False)
    return np.asarray(hashes, dtype=np.uint64)


def _is_number(column: "pd.Series[Any]") -> bool:
    if column.dtype.kind in "biuf":
        return True
    present = column.dropna()
    return bool(len(present)) and isinstance(present.iloc[0], bool | np.bool_)


def key_values(column: pa.ChunkedArray, name: str, data: str) -> npt.NDArray[Any]:
    """Return a key column as numbers or text that hash the same whatever the size of the table."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if isinstance(kind, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        kind = column.type
    if pa.types.is_nested(kind):
        raise UserError(f"the key {name!r} of {data} is of type {kind}", "give a key of numbers, text or dates")
    if column.null_count or (pa.types.is_floating(kind) and column.to_pandas().isna().any()):
        missing = np.flatnonzero(column.to_pandas().isna())
        raise UserError(
            f"the key {name!r} of {data} is missing in {rows_told(len(missing), int(missing[0]))}",
            "a row without a key belongs to no group: drop those rows, or fill them",
        )
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_large_binary(kind):
        return np.array([value.as_py().hex() for value in column], dtype=object)
    if pa.types.is_string_view(kind):
        column = column.cast(pa.string())
    try:
        values: npt.NDArray[Any] = column.to_pandas().to_numpy()
    except (UnicodeDecodeError, pa.ArrowException) as error:
        raise UserError(f"the key {name!r} of {data} is not UTF-8 text", "write that column as UTF-8") from error
    if values.dtype.kind in "biuf":
        return values
    if len(values) and isinstance(values[0], str):
        return values.astype(object)
    return values.astype(str).astype(object)


def rows_told(count: int, first: int) -> str:
    """Name rows to a person, who counts from 1."""
    return f"row {first + 1}" if count == 1 else f"{count} rows, the first of them row {first + 1}"


# -- choosing ------------------------------------------------------------------------------------


def by_hash(hashes: Hashes, test_fraction: float, fill: bool = True) -> tuple[Mask, Remark | None]:
    """Choose the rows whose hash says so: an old test row stays one, whatever other rows the table holds.

    In a small table that may leave fewer than two test rows. Then the rows with the smallest hashes are. Once the table
    has grown they may go back to training; none ever goes from training to test, so that a model is not measured on
    rows that an earlier one has trained on.
    """
    chosen = np.concatenate([block / 2.0**64 < test_fraction for block in _blocks(hashes)])
    have = int(chosen.sum())
    distinct, counts = np.unique(hashes, return_counts=True) if fill and have < 2 else (hashes[:0], hashes[:0])
    if len(distinct) < MINIMUM_ROWS:
        return chosen, None
    joined = hashes <= distinct[int(np.searchsorted(np.cumsum(counts), 2))]
    if len(hashes) - joined.sum() < 2:
        return chosen, None
    told = f"by the hashes of so few rows {have or 'none'} would be a test row; those with the smallest hashes are"
    return joined, Remark("few_rows", f"{told}: {int(joined.sum())} of {len(hashes)}")


def by_seed(n_rows: int, groups: Hashes | None, test_fraction: float, seed: int) -> Mask:
    """Draw rows, or whole groups, with `sklearn.model_selection.train_test_split`."""
    from sklearn.model_selection import train_test_split

    codes = np.arange(n_rows) if groups is None else pd.factorize(pd.Series(groups))[0]
    n_members = int(codes.max()) + 1
    try:
        _, drawn = train_test_split(np.arange(n_members), test_size=test_fraction, random_state=seed)
    except ValueError as error:  # scikit-learn says which side would be empty
        raise UserError(
            f"a random split of {n_members} {'rows' if groups is None else 'groups'} is not "
            f"possible: {str(error).splitlines()[0]}",
            f"give more rows{'' if groups is None else ' (or more groups)'}, or another test_fraction",
        ) from error
    chosen = np.zeros(n_members, dtype=bool)
    chosen[drawn] = True
    in_test: Mask = chosen[codes]
    return in_test


def by_time(times: npt.NDArray[Any], test_fraction: float, name: str, data: str) -> Mask:
    """Choose the newest rows; rows of one moment stay together, so that the share is the nearest that can be had."""
    if len(missing := np.flatnonzero(pd.isna(times))):
        raise UserError(
            f"the time {name!r} of {data} is missing in {rows_told(len(missing), int(missing[0]))}",
            "drop those rows, or fill them",
        )
    moments, counts = np.unique(times, return_counts=True)
    if len(moments) < 2:
        raise UserError(f"the time {name!r} of {data} has one value only", "give time=COLUMN, one that varies")
    newer = np.cumsum(counts[::-1])[
        :-1
    ]  # so many rows are in the test if it begins at the last moment, the last two ...
    begin = moments[len(moments) - 1 - int(np.argmin(np.abs(newer - test_fraction * len(times))))]
    chosen: Mask = times >= begin
    return chosen


def check_sides(n_train: int, n_test: int, rule: str, test_fraction: float, distinct: int, fewest: int = 2) -> None:
    """Refuse a split that leaves a side without rows."""
    for side, rows in (("training", n_train), ("test", n_test)):
        if rows < fewest:
            few = f" with {distinct} different values" if rule == "stable" and distinct < n_train + n_test else ""
            raise UserError(
                f"the {rule} split with test_fraction={test_fraction} leaves {rows} {side} rows "
                f"of {n_train + n_test}{few}; at least {fewest} are needed",
                "give split=random" if rule != "random" else "give more rows, or another test_fraction",
            )


# -- dividing ------------------------------------------------------------------------------------


def take_out(values: Any, chosen: Mask) -> tuple[Any, Any]:
    """Return the rows that are kept, moved together in place, and a copy of the chosen; both keep their order."""
    if isinstance(values, Text):
        kept, taken = take_out(values.codes, chosen)
        return Text(kept, values.values), Text(taken, values.values)
    taken = values[chosen]
    end = 0
    for start in range(0, len(values), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        rest = values[rows][~chosen[rows]]
        values[end : end + len(rest)] = rest
        end += len(rest)
    if values.flags.owndata and values.flags.c_contiguous:
        values.resize((end, *values.shape[1:]), refcheck=False)  # give the rest back, where it lies
        return values, taken
    return values[:end], taken


def drop_columns(matrix: npt.NDArray[Any], dropped: list[int]) -> npt.NDArray[Any]:
    """Return a C-contiguous matrix without some columns, moved together in place."""
    if not dropped:
        return matrix
    width = matrix.shape[1] - len(dropped)
    flat = matrix.reshape(-1)
    end = 0
    for block in _blocks(matrix):
        rest = np.delete(block, dropped, axis=1).reshape(-1)
        flat[end : end + len(rest)] = rest
        end += len(rest)
    return flat[:end].reshape(len(matrix), width)


def _blocks(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(values), BLOCK_ROWS):
        yield values[start : start + BLOCK_ROWS]
