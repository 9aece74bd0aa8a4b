"""Find the files of a table, read them into Arrow, and identify their content."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from trainer.errors import UserError
from trainer.secrets import without_secrets

# What pandas.read_csv takes for a missing value, so that a notebook and this project agree.
MISSING = [
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
]
PARQUET_MAGIC = b"PAR1"
GZIP_MAGIC = b"\x1f\x8b"
ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class Source:
    """Where a table came from, and what identifies its content.

    Attributes
    ----------
    uri : str
        The path or URL as it was given.
    sha256 : str
        Digest of the file's bytes; of a folder, the digest of its parts' names and digests.
    size : int
        Bytes, over all parts.
    """

    uri: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.uri.replace("\\", "/").rstrip("/")).name


@dataclass(frozen=True)
class Location:
    """Where the files of a table are.

    Attributes
    ----------
    data : str
        As it was given.
    filesystem : fsspec.AbstractFileSystem
    path : str
        Of the file or folder, as the file system spells it.
    parts : tuple of str
        The file, or the parts in the folder in the order of their names.
    """

    data: str
    filesystem: Any
    path: str
    parts: tuple[str, ...]

    def name(self, part: str) -> str:
        """Name a part to a person."""
        return self.data if len(self.parts) == 1 else f"{self.data}/{PurePosixPath(part).name}"


def locate(data: str) -> Location:
    """Find a CSV file (also gzipped), a Parquet file, or a folder of Parquet parts.

    Parameters
    ----------
    data : str
        A local path, or a URL of any file system for which an fsspec driver is installed.

    Raises
    ------
    UserError
        There is no such file, or a folder holds something else.
    """
    filesystem, path = _locate(data)
    return Location(data, filesystem, path, tuple(_parts(filesystem, path, data)))


def read(location: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole table.

    Parameters
    ----------
    location : Location
    columns : sequence of str or None
        Those to read, all of them by default. One that is not there is left out, and the caller says so.

    Raises
    ------
    UserError
        It cannot be read as a table.
    """
    tables: list[pa.Table] = []
    for part in location.parts:
        name = location.name(part)
        with opened(location, part) as stream:
            table = _read_file(stream, name, columns)
        if tables:
            check_schema(location, tables[0].schema, part, table.schema)
        tables.append(table.select(tables[0].column_names) if tables else table)
    return pa.concat_tables(tables)


def describe(location: Location) -> Source:
    """Identify the content of a table by one pass over its bytes.

    Raises
    ------
    UserError
        The files cannot be read.
    """
    digests, size = [], 0
    for part in location.parts:
        with opened(location, part) as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
            size += stream.tell()
    if location.parts == (location.path,):
        return Source(without_secrets(location.data), digests[0], size)
    names = [PurePosixPath(part).relative_to(location.path).as_posix() for part in location.parts]
    listing = json.dumps(list(zip(names, digests, strict=True)))
    return Source(without_secrets(location.data), hashlib.sha256(listing.encode()).hexdigest(), size)


def no_rows(data: str) -> UserError:
    """Say that a table has a header alone."""
    return UserError(f"{data} has a header and no rows", "give a table with rows under the header")


# -- finding the files ---------------------------------------------------------------------------


def _locate(data: str) -> tuple[Any, str]:
    try:
        filesystem, path = fsspec.core.url_to_fs(data)
    except ImportError as error:
        raise UserError(
            f"{data} needs a driver that is not installed: {error}",
            "install that package, or copy the file here and give its path",
        ) from error
    except ValueError as error:
        raise UserError(
            f"{data} is not a path or URL that can be read: {error}",
            "give a local path, or a URL such as abfss://..., s3://... or https://...",
        ) from error
    return filesystem, str(path)


def _parts(filesystem: Any, path: str, data: str) -> list[str]:
    try:
        if filesystem.isfile(path):
            return [path]
        if not filesystem.exists(path):
            raise UserError(f"there is no file {data}", "check the path given as data, and where you run this")
        found = sorted(str(name) for name in filesystem.find(path))
    except (OSError, PermissionError) as error:
        raise _unreadable(data, error) from error
    parts = [name for name in found if not PurePosixPath(name).name.startswith(("_", "."))]
    strays = [name for name in parts if not name.endswith((".parquet", ".pq"))]
    if strays or not parts:
        found_instead = f"also holds {PurePosixPath(strays[0]).name}" if strays else "is empty"
        raise UserError(
            f"the folder {data} should hold the parts of one Parquet table, and {found_instead}",
            "give the file itself, or a folder of .parquet files alone",
        )
    return parts


# -- reading them --------------------------------------------------------------------------------


@contextmanager
def opened(location: Location, part: str) -> Iterator[Any]:
    """Open a part, or say in one line why that, or reading it, is not possible."""
    try:
        with location.filesystem.open(part, "rb") as stream:
            yield stream
    except OSError as error:  # arrow's own errors are ValueErrors, and treated below
        raise _unreadable(location.name(part), error) from error


def check_schema(location: Location, first: pa.Schema, part: str, found: pa.Schema) -> None:
    """Refuse a part that has not the columns and types of the first part.

    Raises
    ------
    UserError
        They differ.
    """
    if difference := _schema_difference(first, found):
        raise UserError(
            f"the parts of {location.data} do not have one schema: in {PurePosixPath(part).name} {difference}",
            "write all parts with the same columns and types",
        )


def file_format(stream: IO[bytes], name: str) -> str:
    """Tell by a file's first bytes what it is: ``parquet``, ``csv`` or ``csv.gz``.

    Raises
    ------
    UserError
        It is none of these.
    """
    magic = stream.read(4)
    stream.seek(0)
    if not magic:
        raise UserError(f"{name} is empty", "give a CSV or Parquet file with a header and rows")
    if magic == ZIP_MAGIC:
        raise UserError(f"{name} is a zip archive or an Excel file", "save the table as CSV or Parquet")
    if magic == PARQUET_MAGIC:
        return "parquet"
    if name.endswith((".parquet", ".pq")):
        raise UserError(f"{name} is not a Parquet file", "write it again, or give it its true ending")
    return "csv.gz" if magic.startswith(GZIP_MAGIC) else "csv"


def _read_file(stream: IO[bytes], name: str, columns: Sequence[str] | None) -> pa.Table:
    kind = file_format(stream, name)
    if kind == "parquet":
        with parquet_errors(name):
            file = pa.parquet.ParquetFile(stream)
            return file.read(columns=None if columns is None else _present(columns, file.schema_arrow.names))
    table = _read_csv(stream, name, gzipped=kind == "csv.gz")
    return table if columns is None else table.select(_present(columns, table.column_names))


def _present(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    return list(names) if len(set(names)) < len(names) else [name for name in names if name in columns]


@contextmanager
def parquet_errors(name: str) -> Iterator[None]:
    """Say in one line that a Parquet file is damaged."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{name} cannot be read as Parquet: {_first_line(error)}",
            "the file is truncated or damaged: write or copy it again",
        ) from error


def _read_csv(stream: IO[bytes], name: str, gzipped: bool) -> pa.Table:
    convert = pa.csv.ConvertOptions(null_values=MISSING, strings_can_be_null=True)
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    try:
        source = pa.CompressedInputStream(stream, "gzip") if gzipped else stream
        table = pa.csv.read_csv(source, parse_options=parse, convert_options=convert)
        _ = table.column_names  # decodes them
    except UnicodeDecodeError as error:
        raise _not_utf8(f"the header of {name}") from error
    except (pa.ArrowException, OSError, EOFError) as error:
        stream.seek(0)
        raise _csv_error(stream, name, gzipped, error) from error
    for column in table.schema:
        if pa.types.is_binary(column.type):
            raise _not_utf8(f"column {column.name!r} of {name}")
    return table


def _csv_error(stream: IO[bytes], name: str, gzipped: bool, error: Exception) -> UserError:
    """Say what Arrow could not read, with the number of the line, which Arrow does not know."""
    rows, width = 0, 0
    try:
        for number, fields in _csv_lines(stream, gzipped):
            rows += 1
            width = width or len(fields)
            if fields and len(fields) != width:
                return UserError(
                    f"line {number} of {name} has {len(fields)} fields, and the header has {width}",
                    "mend that line; a comma inside a value needs quotes around the value",
                )
    except UnicodeDecodeError:
        return _not_utf8(name)
    except (OSError, EOFError):
        return UserError(f"{name} is a damaged gzip file", "the file is truncated: write or copy it again")
    if rows == 0:
        return UserError(f"{name} is empty", "give a CSV file with a header and rows")
    if rows == 1:
        return no_rows(name)
    return UserError(f"{name} cannot be read as CSV: {_first_line(error)}", "save it as CSV with commas, in UTF-8")


def _csv_lines(stream: IO[bytes], gzipped: bool) -> Iterator[tuple[int, list[str]]]:
    import gzip

    binary: Any = gzip.GzipFile(fileobj=stream) if gzipped else stream
    text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
    reader = csv.reader(text)
    try:
        for fields in reader:
            yield reader.line_num, fields
    finally:
        text.detach()  # the stream belongs to the caller


def _schema_difference(expected: pa.Schema, found: pa.Schema) -> str:
    if missing := [name for name in expected.names if name not in found.names]:
        return f"the column {missing[0]!r} is missing"
    if extra := [name for name in found.names if name not in expected.names]:
        return f"there is another column, {extra[0]!r}"
    for name in expected.names:
        if found.names.count(name) == expected.names.count(name) == 1:
            first, other = expected.field(name).type, found.field(name).type
            if first != other:
                return f"the column {name!r} is {other}, and {first} in the first part"
    return ""


# -- sentences


def _not_utf8(what: str) -> UserError:
    return UserError(f"{what} is not UTF-8 text", "save the file as CSV in UTF-8")


def _unreadable(data: str, error: OSError) -> UserError:
    return UserError(
        f"{data} cannot be read: {error.strerror or _first_line(error)}", "check the path and its permissions"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
