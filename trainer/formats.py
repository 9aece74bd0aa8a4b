"""A table, one file or a folder of parts at any address that fsspec knows, as Arrow batches; and its digest.

Another format is another entry of `FORMATS`: its first bytes, its endings, and a class that opens one file of it.
"""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import IO, Any
from urllib.parse import unquote

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from trainer.columns import meaning
from trainer.delimited import RETRIES, Delimited
from trainer.errors import Remark, UserError, disk_errors, first_line
from trainer.secrets import redact, without_secrets

# What pyarrow holds beside the table: with more rows, larger buffers or its threads it is several times as much, and
# none of them makes it faster.
BATCH_ROWS = 16_384
PARQUET_BUFFER_BYTES = 2**17
COPY_BYTES = 2**20
PROGRESS_SECONDS = 2.0

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
# Folders whose logs say which of the files still count, and what reads them.
_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
_NO_TABLES = {
    b"PK\x03\x04": ("a zip archive or an Excel file", "save the table as CSV UTF-8 or Parquet"),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", "save the table as CSV UTF-8 or Parquet"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV or Parquet"),
    b"FEA1": ("a Feather file of version 1", "write it again: frame.to_feather(...)"),
    b"<!DOCTYPE": ("a web page", "give the address of the file itself"),
    b"<html": ("a web page", "give the address of the file itself"),
    b"%PDF": ("a PDF file", "save the table as CSV UTF-8 or Parquet"),
}


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
        return PurePosixPath(self.uri.replace("\\", "/").rstrip("/")).name


@dataclass(frozen=True)
class Part:
    """One file of a table; `values` are what the folders above it (``key=value``) say of its rows."""

    path: str
    name: str
    relative: str
    values: dict[str, str | None]


@dataclass(frozen=True)
class Location:
    """Where the files of a table are; `data` is what a person calls it, and no part has another set of `values`."""

    data: str
    filesystem: Any
    path: str
    parts: tuple[Part, ...]

    @property
    def is_local(self) -> bool:
        """Whether its files can be opened where they are."""
        return "file" in _protocols(self.filesystem)


# -- finding the files ---------------------------------------------------------------------------


def locate(data: str) -> Location:
    """Find a table: a file, or the files of one format below a folder.

    Parameters
    ----------
    data : str
        A local path, or a URL of any file system for which an fsspec driver is installed.

    Raises
    ------
    UserError
        There is no such file, or a folder holds something else.
    """
    shown = without_secrets(data)
    with _reaching(data, shown):
        filesystem, path = fsspec.core.url_to_fs(data)
        path = str(path)
        location = Location(shown, filesystem, path, ())
        if _is_file(filesystem, path):
            return Location(shown, filesystem, path, (Part(path, shown, PurePosixPath(path).name, {}),))
        if not filesystem.exists(path):
            raise FileNotFoundError(path)
        found = sorted(str(name) for name in filesystem.find(path))
    inside = [PurePosixPath(name).relative_to(path) for name in found]
    if log := next((part for one in inside for part in one.parts[:-1] if part in _LOGS), None):
        raise UserError(
            f"the folder {shown} is a {_LOGS[log]} table: not all of its files are part of it, and its log says which",
            "write what is in it now as Parquet, and give that folder",
        )
    kept = [one for one in inside if not any(part.startswith(("_", ".")) for part in one.parts)]
    strays = [one for one in kept if _by_ending(one.name) is None]
    if strays or not kept:
        what = f"also holds {strays[0].name}" if strays else "is empty"
        raise UserError(
            f"the folder {shown} should hold the parts of one table, and {what}",
            "give the file itself, or a folder of .parquet files alone (or .arrow, or .csv)",
        )
    parts = tuple(
        Part(f"{path.rstrip('/')}/{one}", f"{shown.rstrip('/')}/{one}", one.as_posix(), _values(one)) for one in kept
    )
    for part in parts:
        if part.values.keys() != parts[0].values.keys():
            raise UserError(
                f"the folders of {shown} do not name the same columns: {parts[0].relative} and {part.relative}",
                "give each part of the table the same folders, KEY=VALUE",
            )
    return Location(location.data, filesystem, path, parts)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _is_file(filesystem: Any, path: str) -> bool:
    if "http" in _protocols(filesystem):  # which calls whatever it cannot reach "not a file"
        filesystem.info(path)
        return True
    return bool(filesystem.isfile(path))


def _values(relative: PurePosixPath) -> dict[str, str | None]:
    pairs = [unquote(folder).split("=", 1) for folder in relative.parts[:-1] if "=" in folder]
    return {key: None if value == HIVE_NULL else value for key, value in pairs}


@contextmanager
def _reaching(data: str, shown: str) -> Iterator[None]:
    """Say in two lines why a file cannot be had."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise _unreachable(data, shown, error) from error


def _unreachable(data: str, shown: str, error: BaseException) -> UserError:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    kinds = " ".join(type(one).__name__ for one in chain)
    said = redact(first_line(error)).replace(data, shown)
    status = next((getattr(one, "status", None) or getattr(one, "status_code", None) for one in chain), None)
    if missing := next((one for one in chain if isinstance(one, ModuleNotFoundError)), None):
        return UserError(
            f"{shown} needs the package {missing.name}, which is not installed",
            f"pip install {(missing.name or '').split('.')[0]}; or copy the file here and give its path",
        )
    if isinstance(error, ImportError):
        return UserError(f"{shown} needs a driver that is not installed: {said}", "pip install that package")
    if status in (401, 403) or isinstance(error, PermissionError) or "Credential" in kinds or "Authentic" in kinds:
        return UserError(f"{shown} may not be read: {said}", "check who you are signed in as, and what that user may read")
    if isinstance(status, int) and status >= 500 or any(
        word in kinds for word in ("Connect", "Timeout", "Resol", "gaierror", "ServiceRequest", "Endpoint", "DNS", "Disconnected")
    ):
        return UserError(f"{shown} cannot be reached: {said}", "check the host in the address, and the network")
    if isinstance(error, FileNotFoundError):
        if "://" in data:
            return UserError(f"there is no file {shown}", "check the path in the address")
        return UserError(
            f"there is no file {Path(data).absolute()}",
            "give data=PATH with the whole path; a relative one begins at the folder where train.py runs, which is the "
            "project's own under `mlflow run` of a Git address",
        )
    if isinstance(error, ValueError) and "://" in data and len(chain) == 1 and "protocol" in said.lower():
        return UserError(
            f"{shown} is not a path or URL that can be read: {said}",
            "give a local path, or a URL such as abfss://..., s3://... or https://...",
        )
    return UserError(f"{shown} cannot be read: {said}", "check the path and its permissions")


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


def _by_ending(name: str) -> Format | None:
    return next((one for one in FORMATS if name.lower().endswith(one.endings)), None)


def recognised(first: bytes, name: str) -> Format:
    """Tell by its first bytes, and its name, what a file is."""
    if not first:
        raise UserError(f"{name} is empty", "give a table with a header and rows")
    for magic, (what, remedy) in _NO_TABLES.items():
        if first[: len(magic)].lower() == magic.lower():
            raise UserError(f"{name} is {what}", remedy)
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


# -- reading -------------------------------------------------------------------------------------


@dataclass
class _File:
    """A part that is at hand: where, of which format, and what is known of its bytes."""

    part: Part
    path: str | None  # here; None where it is read where it is
    kind: Format
    stat: tuple[int, int] | None = None
    digest: str = ""
    size: int = 0
    schema: pa.Schema = None
    rows: int = 0
    csv: Delimited | None = None


@dataclass
class Reading:
    """A table that is open: the types of its columns, and its rows.

    Attributes
    ----------
    names : list of str
        May hold a name twice; then there are no types.
    schema : dict of str to pyarrow.DataType
        Where the parts differ, the widest type of the same meaning.
    """

    location: Location
    files: list[_File]
    names: list[str]
    schema: dict[str, pa.DataType]
    progress: "Progress"

    @property
    def typed(self) -> bool:
        """Whether its files say what the types are."""
        return self.files[0].csv is None

    @property
    def rows(self) -> int:
        """How many rows it has; 0 where that is not known."""
        return sum(one.rows for one in self.files)

    @property
    def decimal(self) -> str:
        """What its numbers have."""
        csv = self.files[0].csv
        return "." if csv is None else csv.dialect.decimal

    @property
    def separator(self) -> str:
        """What separates its columns; nothing where it is not CSV."""
        csv = self.files[0].csv
        return "" if csv is None else csv.dialect.separator

    @property
    def zeros(self) -> dict[str, str]:
        """Columns of CSV that hold values such as 01234, and the first of them."""
        csv = self.files[0].csv
        return {} if csv is None else csv.dialect.zeros

    @property
    def remarks(self) -> list[Remark]:
        """What was recognised, and is not as it usually is."""
        csv = self.files[0].csv
        return [] if csv is None else csv.remarks

    def as_text(self, column: str | None) -> None:
        """From now on, read a column of CSV as text; all of them where that was not enough some times."""
        csv = self.files[0].csv
        assert csv is not None
        csv.text.update(self.names if column is None or len(csv.text) >= RETRIES else [column])
        self.schema.update(dict.fromkeys(csv.text, pa.string()))

    def keep_as_text(self, names: Sequence[str]) -> None:
        """Read columns of CSV that are known to be text as the text that they are; another format says it itself."""
        csv = self.files[0].csv
        if csv is not None:
            csv.text.update(names)
            self.schema.update(dict.fromkeys(names, pa.string()))

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Give the rows of some columns, in the table's order.

        Raises
        ------
        delimited.RetypedError
            Call `as_text` with its column, and begin again.
        """
        total, done = max(1, self.rows), 0
        for number, one in enumerate(self.files):
            own = [name for name in names if name not in one.part.values]
            if one.csv is not None:
                for batch, share in one.csv.batches(own):
                    self.progress.tell((number + share) / len(self.files))
                    yield _with_values(batch, one.part, names)
                one.digest, one.size = one.csv.digest, one.csv.size
                continue
            with self._unchanged(one) as file:
                for batch in one.kind.open(file, one.part.name).batches(own):
                    done += batch.num_rows
                    self.progress.tell(done / total)
                    yield _with_values(batch, one.part, names)

    @contextmanager
    def _unchanged(self, one: _File) -> Iterator[IO[bytes]]:
        """Open a file again; hash it through the same handle, and refuse it if it has changed since it was looked at."""
        assert one.path is not None
        with _reaching(one.part.path, one.part.name), open(one.path, "rb") as file:
            if not one.digest:
                one.digest, one.size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
                file.seek(0)
            yield file
            if one.stat is not None and one.stat != _stat(file):
                raise UserError(
                    f"{one.part.name} has changed while it was read", "run again once nobody writes to it any more"
                )

    def source(self) -> Source:
        """Identify what was read."""
        return _source(self.location, [(one.digest, one.size) for one in self.files])


@contextmanager
def reading(
    location: Location, separator: str = "auto", decimal: str = "auto", wanted: Sequence[str] = ()
) -> Iterator[Reading]:
    """Open a table; files that are elsewhere are fetched, once.

    Parameters
    ----------
    location : Location
    separator, decimal : str
        Of CSV files, or ``auto``.
    wanted : sequence of str
        Columns that it should have: they tell between two separators that would both do.
    """
    progress = Progress(location.data)
    text: set[str] = set()
    with ExitStack() as stack:
        stack.callback(pa.default_memory_pool().release_unused)
        stack.callback(progress.end)
        folder = None
        if not location.is_local:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="table-", ignore_cleanup_errors=True)))
        files = []
        for number, part in enumerate(location.parts):
            one = _fetched(location, part, folder, progress, number)
            if one.kind.open is None:
                one.csv = Delimited(str(one.path), part.name, separator, decimal, tuple(wanted), text)
                one.schema = one.csv.schema
            else:
                with _reaching(part.path, part.name), open(str(one.path), "rb") as file:
                    one.stat = _stat(file)
                    opened = one.kind.open(file, part.name)
                    one.schema, one.rows = opened.schema, opened.rows
            files.append(one)
        if len({one.kind.open is None for one in files}) > 1:
            raise UserError(
                f"the folder {location.data} holds files of several formats", "give a folder of one format alone"
            )
        names, schema = _unified(location, files)
        yield Reading(location, files, names, schema, progress)


def _fetched(location: Location, part: Part, folder: Path | None, progress: "Progress", number: int) -> _File:
    """Have the bytes of a part here, and see what they are."""
    with _reaching(part.path, part.name):
        if folder is None:
            with open(part.path, "rb") as file:
                return _File(part, part.path, recognised(file.read(16), part.name))
        sha256, size = hashlib.sha256(), 0
        kept = folder / str(number)
        with (
            disk_errors(f"fetch {part.name} to {folder}", "free space there, or set TMPDIR to a folder with more"),
            kept.open("wb") as copy,
            location.filesystem.open(part.path, "rb") as stream,
        ):
            total = max(1, getattr(stream, "size", None) or 1)
            while block := stream.read(COPY_BYTES):
                copy.write(block)
                sha256.update(block)
                size += len(block)
                progress.tell((number + min(1.0, size / total)) / len(location.parts), "fetching")
        with kept.open("rb") as file:
            return _File(part, str(kept), recognised(file.read(16), part.name), None, sha256.hexdigest(), size)


def _stat(file: IO[bytes]) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def describe(location: Location) -> Source:
    """Identify the content of a table by one pass over its bytes."""
    digests = []
    for part in location.parts:
        with _reaching(part.path, part.name), location.filesystem.open(part.path, "rb") as stream:
            digests.append((hashlib.file_digest(stream, "sha256").hexdigest(), stream.tell()))
    return _source(location, digests)


def _source(location: Location, digests: Sequence[tuple[str, int]]) -> Source:
    size = sum(size for _, size in digests)
    if location.parts[0].path == location.path:
        return Source(location.data, digests[0][0], size)
    listing = json.dumps([[part.relative, digest] for part, (digest, _) in zip(location.parts, digests, strict=True)])
    return Source(location.data, hashlib.sha256(listing.encode()).hexdigest(), size)


# -- the parts of a folder -----------------------------------------------------------------------


def _with_values(batch: pa.RecordBatch, part: Part, names: Sequence[str]) -> pa.RecordBatch:
    arrays = []
    for name in names:
        if name in part.values:
            zeros = pa.array(np.zeros(batch.num_rows, dtype=np.int32))
            arrays.append(pa.DictionaryArray.from_arrays(zeros, pa.array([part.values[name]], pa.string())))
        else:
            arrays.append(batch.column(batch.schema.get_field_index(name)))
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def _unified(location: Location, files: list[_File]) -> tuple[list[str], dict[str, pa.DataType]]:
    """Return the columns of all parts, or say which part differs, and where."""
    first = files[0].schema
    folders = location.parts[0].values
    names = [name for name in first.names if name not in folders] + list(folders)
    if len(set(names)) < len(names):
        return names, {}
    schema = {name: pa.string() if name in folders else first.field(name).type for name in names}
    for one in files[1:]:
        found = one.schema
        own = [name for name in found.names if name not in folders]
        said = ""
        if missing := [name for name in names if name not in own and name not in folders]:
            said = f"the column {missing[0]!r} is missing"
        elif extra := [name for name in own if name not in schema]:
            said = f"there is another column, {extra[0]!r}"
        elif len(own) > len(set(own)):
            said = "a column is there twice"
        else:
            for name in own:
                wider = _wider(schema[name], found.field(name).type, one.csv is not None)
                if wider is None:
                    said = f"the column {name!r} is {found.field(name).type}, and {schema[name]} in the first part"
                    break
                schema[name] = wider
        if said:
            raise UserError(
                f"the parts of {location.data} do not have one schema: in {one.part.relative} {said}",
                "write all parts with the same columns and types",
            )
    if files[0].csv is not None:
        files[0].csv.text.update(name for name in names if any(_type(one, name) != _type(files[0], name) for one in files))
        schema.update(dict.fromkeys(files[0].csv.text, pa.string()))
    return names, schema


def _type(one: _File, name: str) -> pa.DataType | None:
    return None if name in one.part.values else one.schema.field(name).type


def _wider(first: pa.DataType, other: pa.DataType, csv: bool) -> pa.DataType | None:
    meant, found = meaning(first), meaning(other)
    if meant == found and (meant is not None or first == other):
        return first
    if "empty" in (meant, found):
        return other if meant == "empty" else first
    if {meant, found} == {"integer", "number"}:
        return pa.float64()
    return pa.string() if csv else None


class Progress:
    """A line on a terminal for what takes longer than two seconds."""

    def __init__(self, data: str) -> None:
        self.data, self.started, self.told = data, monotonic(), False

    def tell(self, share: float, doing: str = "reading") -> None:
        """Say how far it is."""
        if sys.stderr.isatty() and monotonic() - self.started > PROGRESS_SECONDS:
            print(f"\r{doing:<11} {self.data}: {share:.0%} ", end="", file=sys.stderr, flush=True)
            self.told = True

    def end(self) -> None:
        """Take the line away."""
        if self.told:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
