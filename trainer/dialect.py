"""How a CSV file is written, by its first lines: separator, decimals, names of the columns, encoding."""

import re
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from trainer.errors import UserError

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
TITLE_LINES = 30
# A first line by which Excel is told what separates the columns.
_SEPARATED = re.compile(rb'"?sep=([,;\t|])"?,*\r?\n', re.IGNORECASE)
BINARY = "no text at all, but a binary file"
# Encodings that are not UTF-8, and the letters that their text mostly has.
_LETTERS = {
    "CP932 (Shift_JIS)": "[\u3041-\u30ff\u4e00-\u9fff]",
    "EUC-JP": "[\u3041-\u30ff\u4e00-\u9fff]",
    "CP1251 (Cyrillic)": "[\u0410-\u044f]",
    "GB18030 (Chinese)": "[\u4e00-\u9fff]",
}
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Numbers that may be thousands as well as decimals.
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+|[-+]?[1-9]\d{0,2}(?:\.\d{3})+")


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
    codes: tuple[str, ...] = ()  # columns with values such as 0x1f, which pandas and people take for text


def encoding(data: bytes) -> str:
    """Return the encoding that the first bytes name; UTF-8 where they name none."""
    return next((encoding for bom, encoding in _BOMS.items() if data.startswith(bom)), "utf-8")


def recognised(
    head: bytes, whole: bool, written: str, name: str, separator: str, decimal: str, wanted: tuple[str, ...]
) -> Dialect:
    """Recognise how a file is written.

    Parameters
    ----------
    head : bytes
        Its first lines, in UTF-8.
    whole : bool
        Whether that is all of it.
    written : str
        Its encoding.
    name : str
        What a person calls it.
    separator, decimal : str
        Or ``auto``.
    wanted : tuple of str
        Names that its header should have: they tell between two separators that would both do.

    Raises
    ------
    UserError
        Its first line is no header.
    """
    if told := _SEPARATED.match(head):
        separator = told[1].decode() if separator == "auto" else separator
        head = head[told.end() :]
    shapes = {}
    for one in SEPARATORS if separator == "auto" else (separator,):
        if (shape := _shape(head, one, whole)) is not None:
            shapes[one] = shape
    if not shapes:
        raise UserError(f"{name} cannot be read as CSV", "save it as CSV with commas, in UTF-8")
    separator = min(shapes, key=lambda one: _rank(shapes[one], wanted))
    shape = shapes[separator]
    names, row_names = shape.names, False
    if shape.is_short:
        row_names = not shape.last_is_empty
        names = ("", *names) if row_names else (*names, "")
    elif len(shape.others) > 1 and not shape.good:
        raise _no_header(shape, name)
    elif not set(wanted) <= set(names) and (number := _titled(head, separator, wanted)):
        raise UserError(
            f"line {shape.blank + 1} of {name} ({shape.first!r}) is no header: the names are in line {number}",
            "delete the lines above the names of the columns",
        )
    lines = shape.blank + 1 + sum(one.count("\n") for one in shape.names)
    above = int(told is not None)
    if decimal == "auto":
        decimal = "." if separator == "," else _decimal(separator, head, lines)
    named = tuple(one or f"Unnamed: {number}" for number, one in enumerate(names))  # as pandas does
    return Dialect(separator, decimal, written, named, above + lines, row_names, shape.zeros, shape.codes)


def _decimal(separator: str, head: bytes, lines: int) -> str:
    body = head.decode(errors="ignore").split("\n", lines)[-1]
    between = re.escape(separator)
    found = re.findall(rf'(?:^|(?<={between}))"? *([-+]?\d[\d .]*?(?:[.,]\d+)) *"?(?={between}|\r|$)', body, re.M)
    marks = [re.search(r"([.,])\d+$", one) for one in found if not _GROUPED.fullmatch(one)]  # 1,234 says nothing
    commas = sum(mark[1] == "," for mark in marks if mark)
    if commas != len(marks) - commas:
        return "," if commas > len(marks) - commas else "."
    return "," if any("," in one for one in found) else "."


def _no_header(shape: "_Shape", name: str) -> UserError:
    fields = max(set(shape.others), key=shape.others.count)
    if fields < len(shape.names) > 1:
        return UserError(
            f"the header of {name} has {len(shape.names)} names, and the lines below it have {fields} fields",
            "give each column one name, and each line a field for each of them",
        )
    return UserError(
        f"line {shape.blank + 1} of {name} ({shape.first!r}) is no header: the lines below it have {fields} fields",
        "delete what stands above the line with the names of the columns",
    )


@dataclass(frozen=True)
class _Shape:
    """What the first lines are with one separator: names, rows that fit, widths of the others, blank lines above."""

    names: tuple[str, ...]
    good: int
    others: tuple[int, ...]
    blank: int
    last_is_empty: bool
    zeros: dict[str, str]
    codes: tuple[str, ...]
    first: str

    @property
    def is_short(self) -> bool:
        """Whether all rows have one field more than the header has names."""
        return bool(self.others) and not self.good and set(self.others) == {len(self.names) + 1} and len(self.names) > 1


def _shape(head: bytes, separator: str, whole: bool) -> _Shape | None:
    others: list[Any] = []

    def note(row: Any) -> str:
        others.append(row)
        return "skip"

    width = head.count(separator.encode()) + 1
    texts = {f"f{number}": pa.string() for number in range(min(width, 200_000))}
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(head + b"\n" if whole else head),
            read_options=pa.csv.ReadOptions(
                use_threads=False, autogenerate_column_names=True, block_size=len(head) + 2
            ),
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
    first = head.splitlines()[blank].decode(errors="replace").strip()[:60]
    ends = all(row.text.rstrip("\r\n").endswith(separator) for row in others)
    zeros, codes = {}, []
    for name, column in zip(names, table.columns, strict=True):
        coded = column.slice(1).filter(pc.match_substring_regex(column.slice(1), r"^0\d+$"))
        if len(coded):
            zeros[name] = coded[0].as_py()
        if pc.any(pc.match_substring_regex(column, r"^0[xX][0-9a-fA-F]+$")).as_py():
            codes.append(name)
    return _Shape(
        names, table.num_rows - 1, tuple(row.actual_columns for row in others), blank, ends, zeros, tuple(codes), first
    )


def _rank(shape: _Shape, wanted: tuple[str, ...]) -> tuple[Any, ...]:
    """Order separators: all lines fit, several columns, names that are asked for; of two alike the first is taken."""
    rows = shape.good + len(shape.others)
    fit = 1.0 if shape.is_short or not rows else shape.good / rows
    several = len(shape.names) > 1
    used = bool(shape.others) and min(shape.others) > 1  # below a title
    return (not (several and fit == 1.0), not set(wanted) <= set(shape.names), not several, not used, -fit)


def _titled(head: bytes, separator: str, wanted: tuple[str, ...]) -> int:
    """Return the number of the line, not the first, that names all columns that are asked for; 0 for none."""
    for number, line in enumerate(head.decode(errors="replace").splitlines()[:TITLE_LINES], start=1):
        if number > 1 and set(wanted) <= {field.strip().strip('"') for field in line.split(separator)}:
            return number
    return 0


def looks_like(data: bytes) -> str:
    """Guess the encoding of text that is not UTF-8, by which letters it would have."""
    if b"\0" in data:
        even, odd = data[::2].count(0), data[1::2].count(0)
        if odd > 4 * even:
            return "UTF-16LE (without its byte order mark)"
        return "UTF-16BE (without its byte order mark)" if even > 4 * odd else BINARY
    runs = re.findall(rb"[\x80-\xff]+", data)
    if sum(map(len, runs)) <= 2 * len(runs):  # an accent here and there
        return "CP1252 (Latin-1)"
    for known, letters in _LETTERS.items():
        try:
            text = data.decode(known.split()[0])
        except UnicodeDecodeError:
            continue
        beyond = sum(letter > "\x7f" for letter in text)
        if known == "EUC-JP" and not re.search("[\u3041-\u30fe]", text):  # Chinese has the same bytes, and no kana
            continue
        if len(re.findall(letters, text)) > 0.7 * beyond:
            return known
    return "CP1252 (Latin-1)"
