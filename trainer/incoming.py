"""A new table for a model that is there: read as the model takes it, some rows at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from trainer import columns, dates, gather
from trainer.columns import Text
from trainer.errors import UserError
from trainer.model_loading import Model
from trainer.reading import Reading

Floats = npt.NDArray[np.float64]

# What a kind is called where a column turns out to hold another.
_NAMES: dict[str | None, str] = {
    "number": "numbers",
    "integer": "integers",
    "boolean": "booleans",
    "text": "text",
    "datetime": "dates",
}
_MEANINGS: dict[str | None, str] = {**_NAMES, "seconds": "times", "empty": "nothing", None: "lists or structures"}


@dataclass(frozen=True)
class Wanted:
    """The columns of a new table that are used.

    Attributes
    ----------
    kinds : mapping of str to str
        Of the features, in the model's order.
    keys : tuple of str
        That are copied.
    target : str or None
        None where it is not there.
    read_as : dict of str to str
        How dates that could be read otherwise are read; filled as they are.
    orders : dict of str to tuple of str
        Of day and month, in dates that are text: those that training, or all rows so far, leave possible, the one that
        is taken first. Filled as they are read.
    """

    kinds: Mapping[str, str]
    keys: tuple[str, ...]
    target: str | None
    read_as: dict[str, str] = field(default_factory=dict)
    orders: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Each of them once."""
        return list(dict.fromkeys([*self.keys, *self.kinds, *([self.target] if self.target else [])]))


class ReorderedError(Exception):
    """Later rows show that dates have another order of day and month than the rows before them seemed to have."""


@dataclass(frozen=True)
class Batch:
    """Some rows.

    Attributes
    ----------
    features : DataFrame of shape (n_rows, n_features)
        In the order of the model: float64, text as object, datetime64[us].
    keys : list of pyarrow.Array
        As they stand in the table.
    target : ndarray of shape (n_rows,) or None
        nan where it is missing.
    """

    features: pd.DataFrame
    keys: list[pa.Array]
    target: Floats | None


def wanted(reading: Reading, model: Model, keys: Sequence[str], data: str) -> Wanted:
    """Find the columns that a model needs, and those that are used beside them.

    Raises
    ------
    UserError
        One is missing, or is of a kind that cannot be what it was in training.
    """
    twice = sorted({name for name in model.kinds if reading.names.count(name) > 1})
    if twice:
        raise UserError(f"{data} has two columns {twice[0]!r}", "name each column once")
    if missing := [name for name in model.kinds if name not in reading.names]:
        raise UserError(
            f"{data} has no column {_listed(missing)}, which {model.name} needs",
            f"add {'it' if len(missing) == 1 else 'them'}; without a value in a row, leave that field empty",
        )
    found = Wanted(
        kinds=dict(model.kinds),
        keys=tuple(name for name in keys if name in reading.names),
        target=model.target if model.target in reading.names and model.target not in model.kinds else None,
        orders=trained_orders(model),
    )
    if not reading.typed:
        # a code such as 007 is the text that it was, and a key is copied as it stands
        texts = [name for name in found.names if found.kinds.get(name, "text") == "text" and name != found.target]
        reading.keep_as_text(texts)
    for name, kind in found.kinds.items():
        meant = columns.meaning(reading.schema[name])
        if not _may_be(meant, kind):
            raise _other_kind(model, data, name, _MEANINGS[meant])
    return found


def _may_be(meant: str | None, kind: str) -> bool:
    """Whether a column of this meaning may hold what is of a kind in the model; text may, as its values tell."""
    if meant == "empty" or (meant == "text" and kind != "text"):
        return True
    return meant in gather.NUMERIC if kind in gather.NUMERIC else meant == kind


def batches(reading: Reading, found: Wanted, model: Model, data: str) -> Iterator[Batch]:
    """Give the rows of a table in its order.

    Raises
    ------
    UserError
        A value cannot be what it was in training.
    delimited.RetypedError
        Call ``reading.as_text`` with its column, and begin again.
    ReorderedError
        Begin again.
    """
    row = 0
    for batch in reading.batches(found.names):
        arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
        values: dict[str, Any] = {}
        numeric = [name for name, kind in found.kinds.items() if kind in gather.NUMERIC]
        matrix = np.empty((batch.num_rows, len(numeric)), order="F")
        for place, name in enumerate(numeric):
            matrix[:, place] = _numbers(arrays[name], name, reading, model, data, row)
        for name, kind in found.kinds.items():
            if kind == "text":
                values[name] = _texts(arrays[name])
            elif kind == "datetime":
                values[name] = _dates(arrays[name], name, found, model, data, row)
        features = pd.DataFrame(matrix, columns=numeric, copy=False)
        if values:
            features = features.assign(**values)[list(found.kinds)]
        target = None
        if found.target:
            target = _numbers(arrays[found.target], found.target, reading, model, data, row)
        yield Batch(features, [arrays[name] for name in found.keys], target)
        row += batch.num_rows


def _numbers(column: pa.Array, name: str, reading: Reading, model: Model, data: str, row: int) -> Floats:
    meant = columns.meaning(column.type)
    if meant == "empty":
        return np.full(len(column), np.nan)
    if meant != "text":
        return columns.floats(column)
    text = Text.of(pa.chunked_array([columns.encoded(column)]))
    values, other = columns.as_numbers(text, reading.decimal)
    if other is not None:
        raise _other_value(model, data, name, text, other, row)
    return values


def _dates(column: pa.Array, name: str, found: Wanted, model: Model, data: str, row: int) -> npt.NDArray[np.datetime64]:
    meant = columns.meaning(column.type)
    if meant == "empty":
        return np.full(len(column), np.datetime64("NaT"), dtype="datetime64[us]")
    if meant != "text":
        return dates.computable(columns.datetimes(column))[0]
    text = Text.of(pa.chunked_array([columns.encoded(column)]))
    known = found.orders.get(name, ())
    read, other = columns.as_dates(text, known)
    if other is not None:
        raise _other_value(model, data, name, text, other, row, known)
    if read.told:
        is_trained = bool(read.orders) and trained_orders(model).get(name) == read.orders
        found.read_as[name] = f"{read.told}, as in training" if is_trained else read.told
    if read.orders:
        before = next((one for one in known if one in (*read.orders, *read.unfit)), read.orders[0])
        found.orders[name] = tuple(dict.fromkeys(one for one in (*known, *read.orders) if one not in read.unfit))
        if before != read.orders[0]:
            raise ReorderedError
    return dates.computable(read.moments)[0]


def trained_orders(model: Model) -> dict[str, tuple[str, ...]]:
    """Return in which order day and month were in training, of dates that were text and could have had two."""
    return {column["name"]: (column["order"],) for column in model.training.get("columns", []) if column.get("order")}


def _texts(column: pa.Array) -> npt.NDArray[np.object_]:
    if columns.meaning(column.type) == "empty":
        return np.full(len(column), np.nan, dtype=object)
    return Text.of(pa.chunked_array([columns.encoded(column)])).objects()


def _other_kind(model: Model, data: str, name: str, meaning: str) -> UserError:
    return UserError(
        f"the column {name!r} of {data} holds {meaning}, and {model.name} was trained on "
        f"{_NAMES.get(model.kinds.get(name, 'number'), 'numbers')} there",
        "give the column as it was in training",
    )


def _other_value(
    model: Model, data: str, name: str, text: Text, value: str, row: int, orders: Sequence[str] = ()
) -> UserError:
    code = next(code for code, known in enumerate(text.values) if known == value)
    first = f", {dates.order(orders[0])}" if orders else ""
    return UserError(
        f"the column {name!r} of {data} holds {value[:60]!r} in row {row + text.first(code)}, and {model.name} was "
        f"trained on {_NAMES.get(model.kinds.get(name, 'number'), 'numbers')} there{first}",
        "correct that value, or leave the field empty" if not orders else "write its dates so, or as 2024-12-31",
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
