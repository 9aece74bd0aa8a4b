"""Stream a large table of numbers, batch by batch, into one matrix: checked and hashed on the way."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trainer import files
from trainer.hashing import row_hash

# From this many values on (rows x columns) a table is streamed into float32. Below, it stays in float64 and in a
# DataFrame of its own types: the memory that streaming saves there is little against that of the libraries.
LARGE_VALUES = 4_000_000
CSV_BYTES_A_VALUE = 10
CSV_GZIP_RATIO = 3

# What pyarrow holds beside the matrix: with more rows, larger buffers or its threads it is several times as much, and
# none of them makes it faster.
BATCH_ROWS = 16_384
PARQUET_BUFFER_BYTES = 2**17
CSV_BLOCK_BYTES = 2**20
CSV_LOOK_BYTES = 2**16
PROGRESS_SECONDS = 2.0

# float32 keeps 7 digits. A column whose size is this many times its spread (a Unix time, say) would lose what varies.
MOST_OFFSET = 1e4


class NotStreamableError(Exception):
    """A table that only the ordinary way can read, or refuse; the message may say why."""


@dataclass(frozen=True)
class Piece:
    """A row group of a Parquet file.

    Attributes
    ----------
    part : str
        The file.
    row_group : int
    first_row : int
        The number of its first row in the whole table, from 0.
    rows : int
    """

    part: str
    row_group: int
    first_row: int
    rows: int


@dataclass(frozen=True)
class Layout:
    """What a table's files say of it before they are read.

    Attributes
    ----------
    schema : pyarrow.Schema
    pieces : tuple of Piece
        Empty for CSV.
    rows : int
        An estimate for CSV.
    """

    schema: pa.Schema
    pieces: tuple[Piece, ...]
    rows: int


@dataclass
class Tally:
    """What is wrong with the values of each column: how many, and the number of the first row, from 0.

    Attributes
    ----------
    rows : int
    missing, infinite : ndarray of shape (n_columns,), int64
    first_missing, first_infinite : ndarray of shape (n_columns,), int64
    low, high : float
        Of the last column.
    """

    rows: int
    missing: npt.NDArray[np.int64]
    infinite: npt.NDArray[np.int64]
    first_missing: npt.NDArray[np.int64]
    first_infinite: npt.NDArray[np.int64]
    low: float = np.inf
    high: float = -np.inf

    @classmethod
    def of(cls, n_columns: int) -> "Tally":
        """Begin to count."""
        none, never = np.zeros(n_columns, dtype=np.int64), np.full(n_columns, np.iinfo(np.int64).max)
        return cls(0, none.copy(), none.copy(), never.copy(), never.copy())

    def count(self, column: int, values: npt.NDArray[np.float64], first_row: int) -> None:
        """Count what is missing or infinite in a batch of one column."""
        if np.isfinite(values).all():
            return
        for found, counts, firsts in (
            (np.isnan(values), self.missing, self.first_missing),
            (np.isinf(values), self.infinite, self.first_infinite),
        ):
            if found.any():
                counts[column] += int(found.sum())
                firsts[column] = min(int(firsts[column]), first_row + int(found.argmax()))


@dataclass
class Streamed:
    """The rows that were read, in the table's order.

    Attributes
    ----------
    matrix : ndarray of shape (n_rows, n_features)
        float32; float64 where that would lose what varies.
    target : ndarray of shape (n_rows,), float64
    hashes : ndarray of shape (n_rows,), uint64
        Of the keys where there are any, else of the features, as `row_hash` gives them.
    types : dict of str to str
        By feature: int64, float64 or bool, what a caller will send again.
    tally : Tally
        Of the features, then the target.
    """

    matrix: npt.NDArray[Any]
    target: npt.NDArray[np.float64]
    hashes: npt.NDArray[np.uint64]
    types: dict[str, str]
    tally: Tally


def look(location: files.Location) -> Layout:
    """See what a table's files hold, from their metadata or first block.

    Raises
    ------
    UserError
        It is no table, or its parts differ.
    NotStreamableError
        Its files have to be read to say what they hold.
    """
    schema: pa.Schema = None
    pieces: list[Piece] = []
    for part in location.parts:
        with files.opened(location, part) as stream:
            kind = files.file_format(stream, location.name(part))
            if kind != "parquet":
                if len(location.parts) > 1:
                    raise NotStreamableError
                size = location.filesystem.size(part) or 0
                with _csv_reader(stream, kind == "csv.gz", block_bytes=CSV_LOOK_BYTES) as reader:
                    schema = reader.schema
                bytes_a_row = CSV_BYTES_A_VALUE * len(schema) / (CSV_GZIP_RATIO if kind == "csv.gz" else 1)
                return Layout(schema, (), int(size / bytes_a_row))
            with files.parquet_errors(location.name(part)):
                metadata = pa.parquet.ParquetFile(stream).metadata
                found = metadata.schema.to_arrow_schema()
        if schema is not None:
            files.check_schema(location, schema, part, found)
        schema = schema or found
        for group in range(metadata.num_row_groups):
            first = pieces[-1].first_row + pieces[-1].rows if pieces else 0
            pieces.append(Piece(part, group, first, metadata.row_group(group).num_rows))
    return Layout(schema, tuple(pieces), sum(piece.rows for piece in pieces))


def read(
    location: files.Location, layout: Layout, features: Sequence[str], target: str, key: Sequence[str] = ()
) -> Streamed:
    """Stream the table, or the pieces that the layout has left of it.

    Parameters
    ----------
    location : files.Location
    layout : Layout
        From `look`.
    features : sequence of str
    target : str
    key : sequence of str

    Raises
    ------
    NotStreamableError
        A column holds something else than numbers, or a file is damaged.
    """
    types = types_of(layout, features, target)
    sink = _Sink(list(features), target, list(key), types, sum(piece.rows for piece in layout.pieces))
    try:
        for batch, first_row, share in _batches(location, layout, [*features, target, *key]):
            sink.add(batch, first_row)
            sink.progress(location.data, share)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise NotStreamableError from error
    finally:
        sink.end_progress()
        pa.default_memory_pool().release_unused()
    return sink.result()


def types_of(layout: Layout, features: Sequence[str], target: str) -> dict[str, str]:
    """Give the types of the features: int64, float64 or bool.

    Raises
    ------
    NotStreamableError
        A column holds something else than numbers, or the target truth values.
    """
    types = {}
    for name in [*features, target]:
        kind = layout.schema.field(name).type
        types[name] = _type_of(kind)
        if not types[name] or (name == target and types[name] == "bool"):
            raise NotStreamableError(f"the column {name!r} is of type {kind}")
    return {name: types[name] for name in features}


def _type_of(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return "int64"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return "float64"
    if pa.types.is_boolean(kind):
        return "bool"
    return ""


@dataclass
class _Sink:
    """Takes batches in the table's order and grows the matrix."""

    features: list[str]
    target: str
    key: list[str]
    types: dict[str, str]
    expected_rows: int
    started: float = field(default_factory=monotonic)
    told: bool = False

    def __post_init__(self) -> None:
        # numpy touches no page of an empty array: memory is taken row by row, as it is filled
        self.matrix: npt.NDArray[Any] = np.empty((self.expected_rows, len(self.features)), dtype=np.float32)
        self.values = np.empty(self.expected_rows)
        self.hashes = np.empty(self.expected_rows, dtype=np.uint64)
        self.tally = Tally.of(len(self.features) + 1)

    def add(self, batch: pa.RecordBatch, first_row: int) -> None:
        if not batch.num_rows:
            return
        columns = {name: self._floats(batch.column(name), name) for name in self.features}
        values = self._floats(batch.column(self.target), self.target)
        start, stop = self.tally.rows, self.tally.rows + batch.num_rows
        if stop > len(self.values):  # the number of a CSV file's rows is not known: grow where it lies, without a copy
            for array in (self.matrix, self.values, self.hashes):
                array.resize((stop, *array.shape[1:]), refcheck=False)
        if start == 0 and _loses_what_varies(columns):
            self.matrix = np.empty(self.matrix.shape, dtype=np.float64)
        keys = {name: batch.column(name).to_pandas() for name in self.key}
        if any(column.isna().any() or column.dtype.kind == "M" for column in keys.values()):
            raise NotStreamableError
        self.hashes[start:stop] = row_hash(pd.DataFrame(keys or columns, copy=False))
        self.values[start:stop] = values
        with np.errstate(over="ignore"):
            for number, (name, column) in enumerate(columns.items()):
                self.tally.count(number, column, first_row)
                self.matrix[start:stop, number] = column
                if self.types[name] == "int64" and not np.array_equal(column, np.floor(column)):
                    self.types[name] = "float64"  # a CSV file's first block held whole numbers only
        self.tally.count(len(columns), values, first_row)
        if np.isinf(self.matrix[start:stop]).any() and not self.tally.infinite.any():
            raise NotStreamableError  # beyond the range of float32
        self.tally.low = min(self.tally.low, float(values.min()))
        self.tally.high = max(self.tally.high, float(values.max()))
        self.tally.rows = stop

    def _floats(self, column: pa.Array, name: str) -> npt.NDArray[np.float64]:
        if pa.types.is_boolean(column.type) and column.null_count:
            raise NotStreamableError  # three values: true, false and missing
        if column.null_count and self.types.get(name) == "int64":
            self.types[name] = "float64"
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))

    def result(self) -> Streamed:
        rows = self.tally.rows
        return Streamed(self.matrix[:rows], self.values[:rows], self.hashes[:rows], self.types, self.tally)

    def progress(self, data: str, share: float) -> None:
        if sys.stderr.isatty() and monotonic() - self.started > PROGRESS_SECONDS:
            print(f"\rreading     {data}: {share:.0%} ", end="", file=sys.stderr, flush=True)
            self.told = True

    def end_progress(self) -> None:
        if self.told:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _loses_what_varies(columns: dict[str, npt.NDArray[np.float64]]) -> bool:
    for values in columns.values():
        finite = values[np.isfinite(values)]
        with np.errstate(over="ignore"):
            if len(finite) and np.abs(finite).max() > MOST_OFFSET * finite.std() > 0:
                return True
    return False


# -- batches of a file -----------------------------------------------------------------------------


def _batches(
    location: files.Location, layout: Layout, columns: Sequence[str]
) -> Iterator[tuple[pa.RecordBatch, int, float]]:
    """Give batches, each with the number of its first row and the share of the table that is read with it."""
    source = _parquet_batches if layout.pieces else _csv_batches
    yield from source(location, layout, list(columns))


def _parquet_batches(
    location: files.Location, layout: Layout, columns: list[str]
) -> Iterator[tuple[pa.RecordBatch, int, float]]:
    done, rows = 0, max(1, sum(piece.rows for piece in layout.pieces))
    for part in dict.fromkeys(piece.part for piece in layout.pieces):
        with files.opened(location, part) as stream:
            file = pa.parquet.ParquetFile(stream, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False)
            for piece in (piece for piece in layout.pieces if piece.part == part):
                row = piece.first_row
                groups = [piece.row_group]
                for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False):
                    done += batch.num_rows
                    yield batch, row, done / rows
                    row += batch.num_rows


def _csv_batches(
    location: files.Location, layout: Layout, columns: list[str]
) -> Iterator[tuple[pa.RecordBatch, int, float]]:
    # what began as whole numbers may go on as decimals
    types = {name: pa.float64() for name in columns if _is_number(layout.schema.field(name).type)}
    row = 0
    with files.opened(location, location.parts[0]) as stream:
        kind = files.file_format(stream, location.data)
        size = location.filesystem.size(location.parts[0]) or 1
        for batch in _csv_reader(stream, kind == "csv.gz", columns, types):
            yield batch, row, min(1.0, stream.tell() / size)
            row += batch.num_rows


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _csv_reader(
    stream: Any,
    gzipped: bool,
    columns: list[str] | None = None,
    types: dict[str, pa.DataType] | None = None,
    block_bytes: int = CSV_BLOCK_BYTES,
) -> Any:
    try:
        reader = pa.csv.open_csv(
            pa.CompressedInputStream(stream, "gzip") if gzipped else stream,
            read_options=pa.csv.ReadOptions(block_size=block_bytes),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                null_values=files.MISSING, strings_can_be_null=True, include_columns=columns, column_types=types
            ),
        )
        _ = reader.schema.names  # decodes them
    except (pa.ArrowException, UnicodeDecodeError, OSError, EOFError) as error:
        raise NotStreamableError from error
    return reader
