"""A table, one file or a folder of parts at any address that fsspec knows, as Arrow batches; and its digest.

Another format is another entry of `FORMATS`: its first bytes, its endings, and a class that opens one file of it.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from trainer import locations
from trainer.errors import UserError, first_line
from trainer.locations import Location, reaching

# What pyarrow holds beside the table: with more rows, larger buffers or its threads it is several times as much, and
# none of them makes it faster.
BATCH_ROWS = 16_384
PARQUET_BUFFER_BYTES = 2**17
COPY_BYTES = 2**20
PROGRESS_SECONDS = 2.0

_NO_TABLES = {
    b"PK\x03\x04": ("a zip archive or an Excel file", "save the table as CSV UTF-8 or Parquet"),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", "save the table as CSV UTF-8 or Parquet"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV or Parquet"),
    b"FEA1": ("a Feather file of version 1", "write it again: frame.to_feather(...)"),
    b"<!DOCTYPE": ("a web page", "give the address of the file itself"),
    b"<html": ("a web page", "give the address of the file itself"),
    b"%PDF": ("a PDF file", "save the table as CSV UTF-8 or Parquet"),
    b"$FL2@(#)": ("an SPSS file", "save the table as CSV UTF-8 or Parquet"),
    b"<stata_dta>": ("a Stata file", "save the table as CSV UTF-8 or Parquet"),
    b"RDX": ("a file of R's save()", "write.csv(TABLE, FILE, row.names = FALSE) in R"),
    b"\x89HDF\r\n": ("an HDF5 file", "save the table as CSV UTF-8 or Parquet"),
    b"\x93NUMPY": ("a file of numpy", "save the table with its names, as CSV UTF-8 or Parquet"),
    b"\x80\x04\x95": ("a pickle", "write it again: frame.to_parquet(...)"),
    b"\x80\x05\x95": ("a pickle", "write it again: frame.to_parquet(...)"),
    b"ORC\x0a": ("an ORC file", "save the table as CSV UTF-8 or Parquet"),
    b"ORC\x08": ("an ORC file", "save the table as CSV UTF-8 or Parquet"),
    b"Obj\x01": ("an Avro file", "save the table as CSV UTF-8 or Parquet"),
}
_JSON = re.compile(rb'\s*(?:\[\s*)?(?:\{\s*"|\[\s*[\d"{\[])')


@dataclass(frozen=True)
class Source:
    """Where a table came from (without secrets), and what identifies its content: the bytes of a file, or, of a folder,
    the names and digests of its parts; `size` is in bytes, over all parts.
    """  # noqa: D205

    uri: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath((self.uri.replace("\\", "/") if os.sep == "\\" else self.uri).rstrip("/")).name


# -- the formats ---------------------------------------------------------------------------------


class Parquet:
    """A Parquet file that is open."""

    def __init__(self, file: Any, name: str) -> None:
        self.name = name
        with _damaged("Parquet", name):
            self._file = pa.parquet.ParquetFile(file, buffer_size=PARQUET_BUFFER_BYTES, pre_buffer=False)
            self.schema = self._file.schema_arrow
        self.rows = self._file.metadata.num_rows
        self.groups = [self._file.metadata.row_group(number).num_rows for number in range(self._file.num_row_groups)]

    def batches(self, names: list[str], groups: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
        """Give its rows, or those of some row groups."""
        chosen = range(len(self.groups)) if groups is None else groups
        for group in chosen:
            with _damaged("Parquet", self.name):
                yield from self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=names, use_threads=False)


class ArrowFile:
    """A Feather or Arrow IPC file that is open."""

    def __init__(self, file: Any, name: str, stream: bool = False) -> None:
        self.name = name
        with _damaged("Arrow IPC", name):
            self._reader = (pa.ipc.open_stream if stream else pa.ipc.open_file)(file)
        self.schema, self.rows = self._reader.schema, 0

    def batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Give its rows."""
        with _damaged("Arrow IPC", self.name):
            for batch in self._all():
                batch.validate(full=True)  # a damaged file would have Arrow read beyond its memory
                chosen = batch.select(names)
                for start in range(0, chosen.num_rows, BATCH_ROWS):
                    yield chosen.slice(start, BATCH_ROWS)

    def _all(self) -> Iterator[pa.RecordBatch]:
        if isinstance(self._reader, pa.ipc.RecordBatchFileReader):
            for number in range(self._reader.num_record_batches):
                yield self._reader.get_batch(number)
        else:
            yield from self._reader


@dataclass(frozen=True)
class Format:
    """A file format: its first bytes, the endings of its names, what opens a file (None: `Delimited` does)."""

    name: str
    magic: bytes
    endings: tuple[str, ...]
    open: Callable[[Any, str], Any] | None


_PACKED = ("", ".gz", ".bz2", ".zst", ".xz")
FORMATS = (
    Format("Parquet", b"PAR1", (".parquet", ".pq", ".parq"), Parquet),
    Format("Arrow IPC", b"ARROW1", (".arrow", ".feather", ".ipc"), ArrowFile),
    Format("Arrow IPC stream", b"\xff\xff\xff\xff", (".arrows",), partial(ArrowFile, stream=True)),
    Format("CSV", b"", tuple(f"{ending}{packed}" for ending in (".csv", ".tsv") for packed in _PACKED), None),
)


def locate(data: str) -> Location:
    """Find a table: a file, or the files of one format below a folder (`trainer.locations`)."""
    return locations.locate(data, tuple(ending for one in FORMATS for ending in one.endings))


def _by_ending(name: str) -> Format | None:
    return next((one for one in FORMATS if name.lower().endswith(one.endings)), None)


def recognised(first: bytes, name: str) -> Format:
    """Tell by its first bytes, and its name, what a file is."""
    if not first:
        raise UserError(f"{name} is empty", "give a table with a header and rows")
    for magic, (what, remedy) in _NO_TABLES.items():
        if first[: len(magic)].lower() == magic.lower():
            raise UserError(f"{name} is {what}", remedy)
    if _JSON.match(first):
        raise UserError(
            f"{name} is JSON", "save the table as CSV UTF-8 or Parquet: pandas.read_json(...).to_parquet(...)"
        )
    found = next(one for one in FORMATS if first.startswith(one.magic))
    named = _by_ending(name)
    if named is not None and named.magic and not found.magic:
        raise UserError(f"{name} is not a {named.name} file", "write it again, or give it its true ending")
    return found


@contextmanager
def _damaged(what: str, name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{name} cannot be read as {what}: {first_line(error)[:300]}",
            "the file is truncated or damaged: write or copy it again",
        ) from error


def describe(location: Location) -> Source:
    """Identify the content of a table by one pass over its bytes."""
    digests = []
    for part in location.parts:
        with reaching(part.path, part.name), location.filesystem.open(part.path, "rb") as stream:
            digests.append((hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell()))
    return source_of(location, digests)


def source_of(location: Location, digests: Sequence[tuple[str, int]]) -> Source:
    """Make one identity of the digests and sizes of all parts."""
    size = sum(size for _, size in digests)
    if location.parts[0].path == location.path:
        return Source(location.data, digests[0][0], size)
    listing = json.dumps([[part.relative, digest] for part, (digest, _) in zip(location.parts, digests, strict=True)])
    return Source(location.data, hashlib.sha256(listing.encode()).hexdigest(), size)
