"""CSV: its compression, encoding, separator and decimals are recognised, and a bad line is told by number and cause.

Arrow is the only one who parses. What it cannot say, it is asked again: which rows do not fit, one by one.
"""

import codecs
import hashlib
import io
import lzma
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv

from trainer import columns, dialect
from trainer.dialect import SEPARATORS, Dialect, looks_like
from trainer.errors import Remark, UserError, first_line

HEAD_BYTES = 2**18
BLOCK_BYTES = 2**20
# Columns that turn out to hold something else than their first block did are read again as text: one by one, then all.
RETRIES = 3
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz"}
# What pyarrow says of a column that cannot have the type of its first block; with one thread it names the row, too.
_OTHER_TYPE = re.compile(r"CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to (?!string)")


class RetypedError(Exception):
    """A column (None: nobody knows which) holds something else than its first block did."""

    def __init__(self, column: str | None) -> None:
        super().__init__(column)
        self.column = column


@dataclass
class Delimited:
    """A CSV file that is open.

    Parameters
    ----------
    path : str
        A local file.
    name : str
        What a person calls it.
    separator, decimal : str
        Or ``auto``.
    wanted : tuple of str
        Names that its header should have: they tell between two separators that would both do.
    text : set of str
        Columns that are read as text; shared by all files of a folder.
    """

    path: str
    name: str
    separator: str = "auto"
    decimal: str = "auto"
    wanted: tuple[str, ...] = ()
    text: set[str] = field(default_factory=set)
    digest: str = ""
    size: int = 0
    rows: int | None = None

    # -- what it looks like

    @cached_property
    def head(self) -> tuple[bytes, bool]:
        """Its first bytes, decompressed, in UTF-8 and up to the end of a line; and whether that is all of it."""
        with self._said(), self._plain() as stream:
            data, whole = _read(stream, HEAD_BYTES)
        encoding = dialect.encoding(data)
        if encoding == "utf-16":
            data = data[: len(data) // 2 * 2].decode("utf-16", errors="ignore").encode()
        data = data.removeprefix(b"\xef\xbb\xbf")
        if not data.strip():
            raise UserError(f"{self.name} is empty", "give a table with a header and rows")
        try:
            data = codecs.getincrementaldecoder("utf-8")().decode(data, final=whole).encode()  # no half a letter
        except UnicodeDecodeError as error:
            raise self._not_utf8(data) from error
        if b"\0" in data:
            raise self._not_utf8(data)
        if not whole:
            end = max(data.rfind(b"\n"), data.rfind(b"\r"))
            data = data[: end + 1] if end > 0 else data
        return data, whole

    @cached_property
    def dialect(self) -> Dialect:
        """How it is written."""
        with self._said(), self._plain() as stream:
            written = dialect.encoding(_read(stream, 4)[0])
        return dialect.recognised(*self.head, written, self.name, self.separator, self.decimal, self.wanted)

    @property
    def remarks(self) -> list[Remark]:
        """What was recognised, and is not as it usually is."""
        found, told = self.dialect, []
        if self.separator == "auto" and found.separator != ",":
            told.append(f"the columns are separated by {SEPARATORS[found.separator]}")
        if self.decimal == "auto" and found.decimal == ",":
            told.append("decimals by a comma")
        remarks = [Remark("csv", f"{self.name}: {', '.join(told)}")] if told else []
        if found.row_names:
            why = "the header has one name less than the rows have fields: the first field is taken as the row's name"
            remarks.append(Remark("csv", f"{self.name}: {why}"))
        return remarks

    # -- its rows

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, with the types of the first block."""
        self.text.update(self.dialect.codes)
        with open(self.path, "rb") as file, self._said():
            try:
                schema = self._reader(file).schema
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error) or "Could not skip" in str(error):
                    raise no_rows(self.name) from error
                raise self._diagnosed(error) from error
        for column in schema:
            if pa.types.is_binary(column.type):
                raise self._not_utf8(self.head[0])
        return schema

    def _reader(self, file: Any, names: list[str] | None = None) -> Any:
        found = self.dialect
        text = dict.fromkeys(self.text, pa.string())
        return pa.csv.open_csv(
            self._unpacked(file),
            read_options=pa.csv.ReadOptions(
                block_size=BLOCK_BYTES,
                skip_rows=found.skipped,
                column_names=list(found.names),
                encoding="utf-16" if found.encoding == "utf-16" else "utf8",
            ),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True, delimiter=found.separator),
            convert_options=pa.csv.ConvertOptions(
                null_values=list(columns.MISSING),
                strings_can_be_null=True,
                decimal_point=found.decimal,
                include_columns=names,
                column_types=text,
            ),
        )

    def batches(self, names: list[str]) -> Iterator[tuple[pa.RecordBatch, float]]:
        """Give the rows, with the share of the file that is read by then; afterwards `digest` and `size` are there.

        Raises
        ------
        RetypedError
            A column has to be read as text, from the beginning.
        """
        with open(self.path, "rb") as file, self._said():
            hashed = _Hashed(file)
            last = self.dialect.names[-1]
            asked = names if last in names else [*names, last]  # in the last column a quote may not close
            total = max(1, file.seek(0, io.SEEK_END))
            file.seek(0)
            final = None
            try:
                for batch in self._reader(hashed, asked):
                    yield batch, min(1.0, hashed.size / total)
                    final = batch if batch.num_rows else final
            except pa.ArrowInvalid as error:
                if found := re.search(
                    r"CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to (?!string)", str(error)
                ):
                    name = self.dialect.names[int(found[1])]
                    raise RetypedError(None if name in self.text else name) from error
                raise self._diagnosed(error) from error
            while hashed.read(BLOCK_BYTES):
                pass
            self.digest, self.size = hashed.sha256.hexdigest(), hashed.size
            if final is not None:
                self._check_last(final.column(final.schema.get_field_index(last)))

    def _check_last(self, column: pa.Array) -> None:
        """A quote that does not close takes all that follows into the last value, and Arrow says nothing."""
        if not pa.types.is_string(column.type) or "\n" not in (value := column[-1].as_py() or "").strip():
            return
        with self._plain() as stream:
            tail = b""
            while block := stream.read(BLOCK_BYTES):
                tail = (tail + bytes(block))[-64:]
        if self.dialect.encoding == "utf-16" or not tail.replace(b"\0", b"").rstrip().endswith(b'"'):
            raise self._open_quote(self._line_of(value.encode().split(b"\n")[0]))

    # -- what is wrong with it

    @cached_property
    def compression(self) -> str | None:
        """What it is compressed with."""
        with open(self.path, "rb") as file:
            magic = file.read(8)
        return next((name for start, name in COMPRESSIONS.items() if magic.startswith(start)), None)

    @contextmanager
    def _plain(self) -> Iterator[Any]:
        with open(self.path, "rb") as file:
            yield self._unpacked(file)

    def _unpacked(self, file: Any) -> Any:
        if self.compression == "xz":
            return lzma.LZMAFile(file)
        return pa.CompressedInputStream(file, self.compression) if self.compression else file

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Say in two lines that the file is damaged, or no text."""
        try:
            yield
        except UnicodeDecodeError as error:
            raise self._not_utf8(self.head[0]) from error
        except (OSError, EOFError, lzma.LZMAError) as error:
            if not self.compression:
                raise
            raise UserError(
                f"{self.name} is a damaged {self.compression} file",
                "it is truncated or damaged: write or copy it again",
            ) from error

    def _diagnosed(self, error: Exception) -> UserError:
        """Say which line Arrow could not read, and why."""
        said = str(error)
        if "invalid UTF8" in said or "not UTF8" in said:
            return self._not_utf8(self._bytes_around())
        bad: list[Any] = []

        def note(row: Any) -> str:
            if not bad:
                bad.append(row)
            return "skip"

        with self._plain() as stream:
            data = stream.read()
            data = bytes(data)
        if self.dialect.encoding == "utf-16":
            data = data.decode("utf-16", errors="ignore").encode()
        try:
            data.decode()
        except UnicodeDecodeError:
            return self._not_utf8(data)
        block = max(BLOCK_BYTES, min(len(data) + 1, 2**31 - 1))
        names = self.dialect.names
        with suppress(pa.ArrowInvalid):  # what is known is said below
            pa.csv.read_csv(
                pa.BufferReader(data),
                read_options=pa.csv.ReadOptions(
                    use_threads=False, block_size=block, skip_rows=self.dialect.skipped, column_names=list(names)
                ),
                parse_options=pa.csv.ParseOptions(
                    newlines_in_values=True, delimiter=self.dialect.separator, invalid_row_handler=note
                ),
                convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary())),
            )
        if not bad:
            if "straddling" in said:
                return UserError(
                    f"{self.name} has a line of more than {BLOCK_BYTES // 2**20} MB, or a quote that does not close",
                    "look for a double quote that stands alone, and remove or double it",
                )
            return UserError(
                f"{self.name} cannot be read as CSV: {first_line(error)[:200]}", "save it as CSV with commas, in UTF-8"
            )
        first = bad[0].text.encode().splitlines() or [b""]
        line = self._line_of(first[0], whole=True)
        if len(first) > 1 and (bad[0].text.count('"') % 2 or len(first) > 2):
            return self._open_quote(line)
        fields, width = bad[0].actual_columns, len(names)
        return UserError(
            f"line {line} of {self.name} has {fields} field{'s' if fields > 1 else ''}, and the header has {width}",
            f"fix that line; a {self.dialect.separator!r} inside a value needs double quotes around the value",
        )

    def _line_of(self, beginning: bytes, whole: bool = False) -> int:
        """Return the number of the first line after the header that is, or ends like, this one."""
        with self._plain() as stream:
            for number, line in enumerate(_lines(stream, self.dialect.encoding), start=1):
                if number > self.dialect.skipped and (line == beginning if whole else line.endswith(b'"' + beginning)):
                    return number
        return self.dialect.skipped + 1

    def _open_quote(self, line: int) -> UserError:
        return UserError(
            f"in line {line} of {self.name} a double quote opens a value, and no quote closes it in that line",
            "remove that quote, or write it twice inside quotes around the value",
        )

    def _bytes_around(self) -> bytes:
        """Return some bytes beyond ASCII."""
        with self._plain() as stream:
            while block := bytes(stream.read(BLOCK_BYTES)):
                if not block.isascii():
                    try:
                        block.decode()
                    except UnicodeDecodeError as error:
                        if error.reason != "unexpected end of data":
                            return block
        return b""

    def _not_utf8(self, data: bytes) -> UserError:
        try:
            data.decode()
        except UnicodeDecodeError:
            pass
        else:
            data = self._bytes_around() or data
        encoding = looks_like(data)
        if encoding == dialect.BINARY:
            return UserError(f"{self.name} is {encoding}", "give a table as CSV UTF-8 or Parquet")
        return UserError(
            f"{self.name} is not UTF-8 text; it looks like {encoding}",
            f"save it as CSV UTF-8: iconv -f {encoding.split()[0]} -t UTF-8 FILE > utf8.csv",
        )


def no_rows(name: str) -> UserError:
    """Say that a table has a header alone."""
    return UserError(f"{name} has a header and no rows", "give a table with rows under the header")


def _lines(stream: Any, encoding: str) -> Iterator[bytes]:
    if encoding == "utf-16":
        data = bytes(stream.read()).decode("utf-16", errors="replace").encode()
        yield from data.splitlines()
        return
    rest = b""
    while block := bytes(stream.read(BLOCK_BYTES)):
        *lines, rest = (rest + block).split(b"\n")
        yield from (line.removesuffix(b"\r") for line in lines)
    yield rest


def _read(stream: Any, size: int) -> tuple[bytes, bool]:
    """Read so many bytes, or all there are; the second value says whether these are all."""
    blocks, have = [], 0
    while have <= size and (block := bytes(stream.read(size + 1 - have))):
        blocks.append(block)
        have += len(block)
    return b"".join(blocks), have <= size


class _Hashed(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256, self.size = file, hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.sha256.update(data)
        self.size += len(data)
        return data
