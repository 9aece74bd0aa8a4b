"""CSV: its compression, encoding, separator and decimals are recognised, and a bad line is told by number and cause.

Arrow is the only one who parses. What it cannot say, it is asked again: which rows do not fit, one by one.
"""

import hashlib
import io
import lzma
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from trainer import columns
from trainer.errors import Remark, UserError, first_line

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+|[-+]?[1-9]\d{0,2}(?:\.\d{3})+")
HEAD_BYTES = 2**18
TITLE_LINES = 30
BLOCK_BYTES = 2**20
# Columns that turn out to hold something else than their first block did are read again as text: one by one, then all.
RETRIES = 3
COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz"}
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


class RetypedError(Exception):
    """A column (None: nobody knows which) holds something else than its first block did."""

    def __init__(self, column: str | None) -> None:
        super().__init__(column)
        self.column = column


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written; `names` are those of its columns, and `skipped` the lines up to its header's end."""

    separator: str
    decimal: str
    encoding: str
    names: tuple[str, ...]
    skipped: int
    row_names: bool = False
    zeros: dict[str, str] = field(default_factory=dict)  # columns with values such as 01234, and the first of them


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
        with open(self.path, "rb") as file, self._said(), self._plain(file) as stream:
            data, whole = _read(stream, HEAD_BYTES)
        encoding = self.encoding(data)
        if encoding == "utf-16":
            data = data[: len(data) // 2 * 2].decode("utf-16", errors="ignore").encode()
        data = data.removeprefix(b"\xef\xbb\xbf")
        if not data.strip():
            raise UserError(f"{self.name} is empty", "give a table with a header and rows")
        if b"\0" in data:
            raise self._not_utf8(data)
        if not whole:
            end = max(data.rfind(b"\n"), data.rfind(b"\r"))
            data = data[: end + 1] if end > 0 else data
        return data, whole

    @staticmethod
    def encoding(data: bytes) -> str:
        """Return the encoding that the first bytes name; UTF-8 where they name none."""
        return next((encoding for bom, encoding in _BOMS.items() if data.startswith(bom)), "utf-8")

    @cached_property
    def dialect(self) -> Dialect:
        """How it is written."""
        with open(self.path, "rb") as file, self._said(), self._plain(file) as stream:
            encoding = self.encoding(_read(stream, 4)[0])
        head, whole = self.head
        shapes = {}
        for separator in SEPARATORS if self.separator == "auto" else (self.separator,):
            if (shape := _shape(head, separator, whole)) is not None:
                shapes[separator] = shape
        if not shapes:
            raise self._not_utf8(head)
        separator = min(shapes, key=lambda one: _rank(shapes[one], self.wanted))
        shape = shapes[separator]
        names = shape.names
        row_names = False
        if shape.others and not shape.good and set(shape.others) == {len(names) + 1}:  # the header is one field short
            row_names = not shape.last_is_empty
            names = ("", *names) if row_names else (*names, "")
        elif shape.others and not shape.good and not any(other == len(names) for other in shape.others):
            raise self._no_header(shape, head)
        elif not set(self.wanted) <= set(names) and (number := _titled(head, separator, self.wanted)):
            title = head.splitlines()[shape.blank].decode(errors="replace").strip()[:60]
            raise UserError(
                f"line {shape.blank + 1} of {self.name} ({title!r}) is no header: the names of the columns are in line {number}",
                "delete the lines above the names",
            )
        lines = shape.blank + 1 + sum(name.count("\n") for name in shape.names)
        decimal = self._decimal(separator, head, lines)
        return Dialect(separator, decimal, encoding, _named(names), lines, row_names, shape.zeros)

    def _decimal(self, separator: str, head: bytes, lines: int) -> str:
        if self.decimal != "auto":
            return self.decimal
        if separator == ",":
            return "."
        body = head.decode(errors="ignore").split("\n", lines)[-1]
        between = re.escape(separator)
        found = re.findall(rf'(?:^|(?<={between}))"? *([-+]?\d[\d .]*?(?:[.,]\d+)) *"?(?={between}|\r|$)', body, re.M)
        marks = [re.search(r"([.,])\d+$", one) for one in found if not _GROUPED.fullmatch(one)]  # 1,234 says nothing
        commas = sum(mark[1] == "," for mark in marks if mark)
        if commas != len(marks) - commas:
            return "," if commas > len(marks) - commas else "."
        return "," if any("," in one for one in found) else "."

    @property
    def remarks(self) -> list[Remark]:
        """What was recognised, and is not as it usually is."""
        dialect, told = self.dialect, []
        if self.separator == "auto" and dialect.separator != ",":
            told.append(f"the columns are separated by {SEPARATORS[dialect.separator]}")
        if self.decimal == "auto" and dialect.decimal == ",":
            told.append("decimals by a comma")
        remarks = [Remark("csv", f"{self.name}: {', '.join(told)}")] if told else []
        if dialect.row_names:
            why = "the header has one name less than the rows have fields: the first field is taken as the row's name"
            remarks.append(Remark("csv", f"{self.name}: {why}"))
        return remarks

    # -- its rows

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns, with the types of the first block."""
        with open(self.path, "rb") as file, self._said():
            try:
                schema = self._reader(file).schema
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error):
                    raise no_rows(self.name) from error
                raise self._diagnosed(error) from error
        for column in schema:
            if pa.types.is_binary(column.type):
                raise self._not_utf8(self.head[0])
        return schema

    def _reader(self, file: Any, names: list[str] | None = None) -> Any:
        dialect = self.dialect
        compression = self.compression
        source: Any = file
        if compression == "xz":
            source = lzma.LZMAFile(file)
        elif compression:
            source = pa.CompressedInputStream(file, compression)
        text = dict.fromkeys(self.text, pa.string())
        return pa.csv.open_csv(
            source,
            read_options=pa.csv.ReadOptions(
                block_size=BLOCK_BYTES,
                skip_rows=dialect.skipped,
                column_names=list(dialect.names),
                encoding="utf-16" if dialect.encoding == "utf-16" else "utf8",
            ),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True, delimiter=dialect.separator),
            convert_options=pa.csv.ConvertOptions(
                null_values=list(columns.MISSING),
                strings_can_be_null=True,
                decimal_point=dialect.decimal,
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
                if found := re.search(r"CSV column #(\d+): CSV conversion error to (?!string)", str(error)):
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
        with open(self.path, "rb") as file, self._plain(file) as stream:
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
    def _plain(self, file: IO[bytes]) -> Iterator[Any]:
        compression = self.compression
        if compression == "xz":
            yield lzma.LZMAFile(file)
        else:
            yield pa.CompressedInputStream(file, compression) if compression else file

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
                f"{self.name} is a damaged {self.compression} file", "it is truncated or damaged: write or copy it again"
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

        with open(self.path, "rb") as file, self._plain(file) as stream:
            data = stream.read()
            data = bytes(data)
        if self.dialect.encoding == "utf-16":
            data = data.decode("utf-16", errors="ignore").encode()
        block = max(BLOCK_BYTES, min(len(data) + 1, 2**31 - 1))
        names = self.dialect.names
        try:
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
        except pa.ArrowInvalid:
            pass  # it is said below what is known
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
        with open(self.path, "rb") as file, self._plain(file) as stream:
            for number, line in enumerate(_lines(stream, self.dialect.encoding), start=1):
                if number > self.dialect.skipped and (
                    line == beginning if whole else line.endswith(b'"' + beginning)
                ):
                    return number
        return self.dialect.skipped + 1

    def _open_quote(self, line: int) -> UserError:
        return UserError(
            f"in line {line} of {self.name} a double quote opens a value, and no quote closes it in that line",
            "remove that quote, or write it twice inside quotes around the value",
        )

    def _no_header(self, shape: "_Shape", head: bytes) -> UserError:
        lines = head.splitlines()
        title = lines[shape.blank].decode(errors="replace").strip()[:60]
        fields = max(set(shape.others), key=shape.others.count)
        if fields < len(shape.names) > 1:
            return UserError(
                f"the header of {self.name} has {len(shape.names)} names, and the lines below it have {fields} fields",
                "give each column one name, and each line a field for each of them",
            )
        return UserError(
            f"line {shape.blank + 1} of {self.name} ({title!r}) is no header: the lines below it have {fields} fields",
            "delete what stands above the line with the names of the columns",
        )

    def _bytes_around(self) -> bytes:
        """Return some bytes beyond ASCII."""
        with open(self.path, "rb") as file, self._plain(file) as stream:
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
        return UserError(
            f"{self.name} is not UTF-8 text; it looks like {encoding}",
            f"save it as CSV UTF-8: iconv -f {encoding.split()[0]} -t UTF-8 FILE > utf8.csv",
        )


def no_rows(name: str) -> UserError:
    """Say that a table has a header alone."""
    return UserError(f"{name} has a header and no rows", "give a table with rows under the header")


def looks_like(data: bytes) -> str:
    """Guess the encoding of text that is not UTF-8, by which letters it would have."""
    if b"\0" in data:
        return "UTF-16LE (without its byte order mark)" if data[1:2] == b"\0" else "UTF-16BE (without its byte order mark)"
    high = re.findall(rb"[\x80-\xff]+", data)
    clustered = sum(map(len, high)) > 2 * len(high)
    for encoding, letters in {
        "CP932 (Shift_JIS)": "[\u3041-\u30ff\u4e00-\u9fff]",
        "EUC-JP": "[\u3041-\u30ff\u4e00-\u9fff]",
        "CP1251 (Cyrillic)": "[\u0410-\u044f]",
        "GB18030 (Chinese)": "[\u4e00-\u9fff]",
    }.items():
        try:
            text = data.decode(encoding.split()[0].lower())
        except UnicodeDecodeError:
            continue
        beyond = [letter for letter in text if letter > "\x7f"]
        kana = not encoding.startswith(("CP932", "EUC")) or re.search("[\u3041-\u30fe]", text) or "GB" not in encoding
        if clustered and beyond and kana and len(re.findall(letters, text)) > 0.7 * len(beyond):
            return encoding
    return "CP1252 (Latin-1)"


# -- one look at the first lines -----------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """What the first lines are with one separator: names, rows that fit, widths of the others, blank lines above."""

    names: tuple[str, ...]
    good: int
    others: tuple[int, ...]
    blank: int
    last_is_empty: bool
    zeros: dict[str, str]


def _shape(head: bytes, separator: str, whole: bool) -> _Shape | None:
    others: list[Any] = []

    def note(row: Any) -> str:
        others.append(row)
        return "skip"

    width = head.count(separator.encode()) + 1
    texts = {f"f{number}": pa.string() for number in range(min(width, 200_000))}
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(head),
            read_options=pa.csv.ReadOptions(use_threads=False, autogenerate_column_names=True, block_size=len(head) + 1),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True, delimiter=separator, invalid_row_handler=note),
            convert_options=pa.csv.ConvertOptions(column_types=texts, strings_can_be_null=False),
        )
    except pa.ArrowInvalid:
        return None
    if not whole and others and others[-1].number == table.num_rows + len(others):
        others.pop()  # a value that goes on behind the head
    names = tuple(str(column[0].as_py()) for column in table.columns)
    blank = len(head) - len(head.lstrip(b"\r\n"))
    blank = len(head[:blank].splitlines())
    ends = all(row.text.rstrip("\r\n").endswith(separator) for row in others)
    zeros = {}
    for name, column in zip(names, table.columns, strict=True):
        coded = column.slice(1).filter(pc.match_substring_regex(column.slice(1), r"^0\d+$"))
        if len(coded):
            zeros[name] = coded[0].as_py()
    return _Shape(names, table.num_rows - 1, tuple(row.actual_columns for row in others), blank, ends, zeros)


def _rank(shape: _Shape, wanted: tuple[str, ...]) -> tuple[Any, ...]:
    """Order separators: all lines fit, several columns, names that are asked for; of two alike the first is taken."""
    rows = shape.good + len(shape.others)
    short = bool(shape.others) and not shape.good and set(shape.others) == {len(shape.names) + 1}
    fit = 1.0 if short or not rows else shape.good / rows
    several = len(shape.names) > 1
    used = bool(shape.others) and min(shape.others) > 1  # below a title
    return (not (several and fit == 1.0), not set(wanted) <= set(shape.names), not several, not used, -fit)


def _titled(head: bytes, separator: str, wanted: tuple[str, ...]) -> int:
    """Return the number of the line, not the first, that names all columns that are asked for; 0 for none."""
    for number, line in enumerate(head.decode(errors="replace").splitlines()[:TITLE_LINES], start=1):
        if number > 1 and set(wanted) <= {field.strip().strip('"') for field in line.split(separator)}:
            return number
    return 0


def _named(names: tuple[str, ...]) -> tuple[str, ...]:
    """Name the columns that have no name, as pandas does."""
    return tuple(name or f"Unnamed: {number}" for number, name in enumerate(names))


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
