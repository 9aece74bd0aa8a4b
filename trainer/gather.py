"""Batches become arrays: all numbers in one float64 matrix that grows where it lies, the rest column by column."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainer import columns
from trainer.columns import Floats, Kind, Text
from trainer.errors import UserError

NUMERIC = ("integer", "number", "boolean", "seconds")


@dataclass
class Tally:
    """What was seen of each column of a matrix, over `rows` rows: how many values are missing, and the range."""

    rows: int
    missing: npt.NDArray[np.int64]
    low: Floats
    high: Floats

    @classmethod
    def of(cls, width: int) -> "Tally":
        """Begin to count."""
        return cls(0, np.zeros(width, dtype=np.int64), np.full(width, np.inf), np.full(width, -np.inf))

    def add(self, number: int, values: Floats) -> None:
        """Count some rows of one column."""
        if not len(values):
            return
        low, high = values.min(), values.max()
        if low != low:  # nan
            self.missing[number] += int(np.isnan(values).sum())
            low, high = np.fmin.reduce(values), np.fmax.reduce(values)
        self.low[number], self.high[number] = np.fmin(self.low[number], low), np.fmax(self.high[number], high)

    def without(self, dropped: list[int]) -> "Tally":
        """Leave some columns out."""
        kept = np.setdiff1d(np.arange(len(self.low)), dropped)
        return Tally(self.rows, self.missing[kept], self.low[kept], self.high[kept])


def tally(matrix: Floats) -> Tally:
    """Count a whole matrix."""
    found = Tally.of(matrix.shape[1])
    found.rows = len(matrix)
    for number in range(matrix.shape[1]):
        found.add(number, matrix[:, number])
    return found


@dataclass
class Gathered:
    """The rows that were read, in the table's order.

    Attributes
    ----------
    numeric : list of str
        The columns of the matrix.
    matrix : ndarray of shape (n_rows, len(numeric)), float64
    tally : Tally
        Of the matrix.
    others : dict of str to (Text, ndarray of datetime64[us] or float64)
        The other columns.
    raw : dict of str to pyarrow.ChunkedArray
        Columns as they came.
    """

    numeric: list[str]
    matrix: Floats
    tally: Tally
    others: dict[str, Any]
    raw: dict[str, pa.ChunkedArray]


@dataclass
class Sink:
    """Takes batches in the table's order.

    Parameters
    ----------
    kinds : mapping of str to str
        What each column means (`columns.meaning`); an empty one is not kept.
    raw : iterable of str
        Columns that are kept as they come, too.
    rows : int
        How many are expected; 0 where that is not known.
    data : str
        What a person calls the table.
    apart : str or None
        A column of numbers that is no part of the matrix: the target.
    """

    kinds: Mapping[str, str]
    raw: Iterable[str]
    rows: int
    data: str
    apart: str | None = None
    chunks: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.numeric = [name for name, kind in self.kinds.items() if kind in NUMERIC and name != self.apart]
        self.values: Floats = np.empty(self.rows if self.apart else 0)
        # numpy touches no page of an empty array: memory is taken row by row, as it is filled
        self.matrix: Floats = np.empty((self.rows, len(self.numeric)))
        self.tally = Tally.of(len(self.numeric))
        self.filled = 0
        apart = {*self.numeric, self.apart}
        self.chunks = {name: [] for name in self.kinds if name not in apart}
        self.kept: dict[str, list[pa.Array]] = {name: [] for name in self.raw}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take some rows."""
        start, stop = self.filled, self.filled + batch.num_rows
        if stop > len(self.matrix):  # grow without a copy
            self.matrix.resize((stop, self.matrix.shape[1]), refcheck=False)
        if self.apart is not None:
            if stop > len(self.values):
                self.values.resize(stop, refcheck=False)
            self.values[start:stop] = columns.floats(batch.column(batch.schema.get_field_index(self.apart)))
        for name, chunks in self.kept.items():
            chunks.append(batch.column(batch.schema.get_field_index(name)))
        for number, name in enumerate(self.numeric):
            values = columns.floats(batch.column(batch.schema.get_field_index(name)))
            self.matrix[start:stop, number] = values
            self.tally.add(number, values)
        for name, chunks in self.chunks.items():
            column = batch.column(batch.schema.get_field_index(name))
            try:
                if self.kinds[name] == "text":
                    chunks.append(columns.encoded(column))
                elif self.kinds[name] == "datetime":
                    chunks.append(columns.datetimes(column))
            except pa.ArrowException as error:
                raise UserError(
                    f"the column {name!r} of {self.data} cannot be read: {str(error).splitlines()[0][:200]}",
                    f"leave it out: drop={pasted([name])}",
                ) from error
        self.tally.rows = self.filled = stop

    def result(self) -> Gathered:
        """Return what was taken."""
        if self.filled < len(self.matrix):
            self.matrix.resize((self.filled, self.matrix.shape[1]), refcheck=False)
        others: dict[str, Any] = {self.apart: self.values[: self.filled]} if self.apart else {}
        for name, chunks in self.chunks.items():
            if self.kinds[name] == "text":
                others[name] = self._text(name, chunks)
            elif self.kinds[name] == "datetime":
                others[name] = np.concatenate([*chunks, np.empty(0, "datetime64[us]")])
            chunks.clear()
        raw = {name: chunked(kept) for name, kept in self.kept.items()}
        return Gathered(self.numeric, self.matrix, self.tally, others, raw)

    def _text(self, name: str, chunks: list[pa.Array]) -> Text:
        empty = pa.array([], pa.string()).dictionary_encode()
        try:
            return Text.of(pa.chunked_array(chunks or [empty]))
        except (UnicodeDecodeError, pa.ArrowException) as error:  # Arrow does not look at what a file holds
            raise UserError(
                f"the column {name!r} of {self.data} is not UTF-8 text", f"leave it out: drop={pasted([name])}"
            ) from error


def chunked(chunks: Sequence[pa.Array]) -> pa.ChunkedArray:
    """Put chunks of one column together; parts of a folder may have stored it in several types."""
    kinds = {chunk.type for chunk in chunks}
    if len(kinds) > 1:
        chunks = [columns.plain(chunk) for chunk in chunks]
        meant: set[Any] = {columns.meaning(chunk.type) for chunk in chunks} - {"empty"}
        wide = {"text": pa.string(), "integer": pa.int64(), "datetime": pa.timestamp("us")}
        kind = (
            wide.get(min(meant)) if len(meant) == 1 else pa.float64() if meant <= {"integer", "number"} else pa.string()
        )
        chunks = [chunk.cast(kind or pa.string(), safe=False) for chunk in chunks]
    return pa.chunked_array(chunks) if chunks else pa.chunked_array([], pa.null())


def pasted(names: Sequence[str]) -> str:
    """Write names so that they can be given as a parameter on a command line."""
    written = ",".join(f'"{name}"' if "," in name or name != name.strip() else name for name in names)
    return f"'{written}'" if any(letter in written for letter in ' "$&;()<>|*?#!`\\') else written


__all__ = ["Gathered", "Kind", "Sink", "Tally", "chunked", "pasted", "tally"]
