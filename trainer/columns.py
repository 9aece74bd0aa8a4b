"""What the values of one column mean: types, numbers with marks, dates, booleans."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trainer import dates
from trainer.dates import matches
from trainer.errors import Remark
from trainer.spelling import DURATION, GROUPS, TIME, Clock, Spelling, of_numbers, times, without_unit

Kind = Literal["number", "integer", "boolean", "text", "datetime"]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]

# What pandas.read_csv takes for a missing value, so that a notebook and this project agree.
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
# What says "missing" in a column of numbers beside these, in lower case. Any other word keeps the column text: a code
# such as A1 among numbers is a value, not a gap.
_TOKENS = frozenset(
    {word.lower() for word in MISSING}
    | {"?", "??", "-", "--", "---", "\N{EN DASH}", "\N{EM DASH}", ".", "..", "...", "*", "#", "\\n"}
    | {"n.a.", "n. a.", "na.", "nd", "n.d.", "n/d", "nil", "missing", "unknown", "not available", "k.a.", "(null)"}
    | {"#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!", "tbd"}
    | {"0000-00-00", "0000-00-00 00:00:00"}
)
_BLANKS = " \t\r\n\u00a0\u2007\u2009\u202f\u3000"
_CURRENCIES = "$\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd\u20bf"
_CODES = "USD|EUR|GBP|JPY|CHF|CAD|AUD|CNY|INR|SEK|NOK|DKK|PLN|CZK|BRL|kr"
_UNIT = rf"(?:(?:US|R|A|C|HK|NZ)?[{_CURRENCIES}]|{_CODES})"
# Of the values of a text column, by rows: from this share on they are told to look like numbers, and to be read so.
NEARLY_ALL = 0.9
MOSTLY = 0.5
# A double holds integers of 15 digits whatever they are; phone numbers in groups have one length.
_MOST_DIGITS, _PHONE_DIGITS = 15, 9


def _number(point: str, group: str) -> str:
    """Return a regular expression for a number with this decimal point and separator of thousands."""
    exponent = r"(?:[eE][-+]?\d+)?"
    whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:[{group}{GROUPS}]\d{{3}})+)"
    bare = rf"(?:{whole}(?:[{point}]\d*)?|[{point}]\d+){exponent}"
    before = rf"(?:[-+\x{{2212}}]?\s?{_UNIT}?|{_UNIT}\s?[-+\x{{2212}}])\s?"
    after = rf"\s?(?:{_UNIT}|%)?"
    return rf"^(?:{before}{bare}{after}|\({_UNIT}?\s?{bare}{after}\))$"


_STYLES = {".": _number(".", ","), ",": _number(",", ".")}


@dataclass(frozen=True)
class Text:
    """A column of text: for each row the number of its value, -1 where it is missing."""

    codes: Codes
    values: npt.NDArray[np.object_]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> "Text":
        """Take a dictionary-encoded column."""
        whole = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if isinstance(whole, pa.ChunkedArray):  # no chunk at all
            whole = pa.array([], pa.string()).dictionary_encode()
        # a copy: Arrow's are read-only
        codes = whole.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
        return cls(codes, np.asarray(whole.dictionary.to_numpy(zero_copy_only=False), dtype=object))

    def take(self, rows: Any) -> "Text":
        """Return some of the rows."""
        return Text(self.codes[rows], self.values)

    def first(self, value: int) -> int:
        """Return the first row, counted from 1, that holds a value."""
        return int(np.argmax(self.codes == value)) + 1

    def counts(self) -> npt.NDArray[np.int64]:
        """Return how many rows hold each value."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))

    def spread(self, of_values: npt.NDArray[Any], missing: Any) -> npt.NDArray[Any]:
        """Return for each row what has been found for its value."""
        return np.append(of_values, np.asarray([missing], dtype=of_values.dtype))[self.codes]

    def objects(self) -> npt.NDArray[np.object_]:
        """Return the rows as text, nan where it is missing."""
        return self.spread(self.values, np.nan)


@dataclass(frozen=True)
class Read:
    """A column of text as it is understood: its kind, a value a row, and what is to be told of it.

    `spelling` is that of numbers with marks, and of times, which a model can read by itself.
    `order` is that of day and month, of dates that have two: see `dates.Dates`.
    """

    kind: Kind
    values: Any  # float64, datetime64[us], or Text
    remark: Remark | None = None
    decimal: str = "."
    spelling: Spelling | Clock | None = None
    order: str = ""


# -- by type -------------------------------------------------------------------------------------


def meaning(kind: pa.DataType) -> Kind | Literal["seconds", "empty"] | None:
    """Return what an Arrow type means for a feature; None for what cannot be one."""
    is_ = pa.types
    if is_.is_dictionary(kind) or is_.is_run_end_encoded(kind):
        return meaning(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return (
            meaning(kind.storage_type)
            if kind.extension_name in ("arrow.json", "pandas.categorical")
            else ("boolean" if kind.extension_name == "arrow.bool8" else None)
        )
    if is_.is_integer(kind):
        return "integer"
    if is_.is_floating(kind) or is_.is_decimal(kind):
        return "number"
    if is_.is_boolean(kind):
        return "boolean"
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind):
        return "text"
    if is_.is_date(kind) or is_.is_timestamp(kind):
        return "datetime"
    if is_.is_time(kind) or is_.is_duration(kind):
        return "seconds"
    return "empty" if is_.is_null(kind) else None


def clock(kind: pa.DataType) -> Clock:
    """Return how a type whose meaning is seconds comes where it is not read by Arrow."""
    while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    return DURATION if pa.types.is_duration(kind) else TIME


def plain(column: pa.Array) -> pa.Array:
    """Undo what is only a way of storing: dictionaries, run ends, extension types."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage if column.type.extension_name != "arrow.bool8" else column.storage.cast(pa.bool_())
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def floats(column: pa.Array) -> Floats:
    """Return numbers, booleans, times (seconds since midnight) and durations (seconds) as float64 with nan."""
    column = plain(column)
    kind, unit = column.type, 1.0
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif pa.types.is_time(kind) or pa.types.is_duration(kind):
        unit = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
        column = column.cast(pa.int32()) if pa.types.is_time32(kind) else column.cast(pa.int64())
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(values / unit if unit != 1.0 else values, dtype=np.float64)


def datetimes(column: pa.Array) -> npt.NDArray[np.datetime64]:
    """Return dates and timestamps as datetime64[us]: naive, in UTC where they have a zone."""
    column = plain(column)
    if pa.types.is_timestamp(column.type) and column.type.tz:
        column = column.cast(pa.timestamp(column.type.unit))
    return np.asarray(column.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False), "datetime64[us]")


def encoded(column: pa.Array) -> pa.DictionaryArray:
    """Return text with each value once, in one type."""
    return plain(column).cast(pa.string()).dictionary_encode()


# -- by all values -------------------------------------------------------------------------------


def read(text: Text, name: str, typed: bool, decimal: str) -> Read:
    """Understand a column of text by all its rows.

    Parameters
    ----------
    text : Text
    name : str
    typed : bool
        Whether its file says that it is text. Then plain numbers in it stay text, and are remarked on.
    decimal : {'.', ','}
        What the file's numbers have, where a value such as ``1,234`` leaves it open.
    """
    words, gaps = _words(text)
    counts = text.counts()
    if not len(words) or gaps.all():
        return Read("text", text)
    if not typed and (found := _plain(words.filter(~gaps), decimal)) is not None and not _odd(text, gaps):
        kind, values = found
        return Read(kind, text.spread(_put(values, gaps), np.nan if kind != "datetime" else np.datetime64("NaT")))
    if (found_times := times(words.filter(~gaps))) is not None:
        return Read("number", text.spread(_put(found_times[0], gaps), np.nan), spelling=found_times[1])
    if (found_dates := dates.read(words.filter(~gaps))) is not None:
        moments, how = found_dates.moments, found_dates.told
        sample = int(np.flatnonzero(~gaps)[0])
        shown = str(moments[0])[: 10 if moments[0] == moments[0].astype("datetime64[D]") else 19].replace("T", " ")
        told = f"{name}: {text.values[sample]!r} (row {text.first(sample)}) is read as the date {shown}, {how}"
        odd = _gaps_told(text, gaps, "date")
        remark = Remark("dates", told + odd if how else f"{name}: {odd[2:]}") if how or odd else None
        values = text.spread(_put(moments, gaps), np.datetime64("NaT"))
        return Read("datetime", values, remark, order=next(iter(found_dates.orders), ""))
    return _marked(text, name, typed, decimal, words, gaps, counts)


def _put(values: npt.NDArray[Any], gaps: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    missing = np.datetime64("NaT") if values.dtype.kind == "M" else np.nan
    whole = np.full(len(gaps), missing, dtype=values.dtype)
    whole[~gaps] = values
    return whole


def _odd(text: Text, gaps: npt.NDArray[np.bool_]) -> bool:
    """Whether some values say "missing" in a word that has to be told."""
    return any(value.strip() for value in text.values[gaps])


def _plain(words: pa.Array, decimal: str) -> tuple[Kind, npt.NDArray[Any]] | None:
    """Read what Arrow's CSV reader would have, had it seen all rows before it chose the type."""
    lower = pc.utf8_lower(words)
    spoken = pc.is_in(lower, pa.array(["true", "false"]))
    if pc.any(spoken).as_py() and pc.all(pc.is_in(lower, pa.array(["true", "false", "0", "1"]))).as_py():
        return "boolean", floats(pc.is_in(lower, pa.array(["true", "1"])))
    if matches(words, "^[-+]?0[xX]").any():  # Arrow would take it for a number
        return None
    if decimal == ",":  # then 1.234 is no decimal, and goes the way of numbers with marks
        words = pc.replace_substring(pc.replace_substring(words, ".", " "), ",", ".")
    for type_ in (pa.int64(), pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.float64()):
        try:
            values = words.cast(type_)
        except pa.ArrowInvalid:
            continue
        if meaning(type_) == "datetime":
            return "datetime", datetimes(values)
        return "integer" if type_ == pa.int64() else "number", floats(values)
    return None


def _marked(
    text: Text,
    name: str,
    typed: bool,
    decimal: str,
    words: pa.Array,
    gaps: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.int64],
) -> Read:
    """Read numbers with marks: gaps such as ``?``, currencies, per cent, thousands, decimal commas."""
    words, unit = without_unit(words, gaps)
    fits = {point: matches(words, pattern) & ~gaps for point, pattern in _STYLES.items()}
    present = counts[~gaps].sum()
    order = [decimal, "," if decimal == "." else "."]
    style = max(order, key=lambda point: counts[fits[point]].sum())  # the file's own, where both fit
    numbers = fits[style]
    share = counts[numbers].sum() / max(1, present)
    if not numbers[~gaps].all() or present < MOSTLY * counts.sum():
        return Read("text", text, _looks_numeric(text, name, numbers, gaps, share))
    bare = words.filter(numbers)
    whole = not matches(bare, r"[eE]\d|[eE][-+]\d").any() and not (matches(bare, rf"[{style}]\d")).any()
    marked = matches(bare, r"[^-+0-9.eE]") | bool(unit)
    if not marked.any() and not gaps.any() and typed:
        return Read("text", text, _looks_numeric(text, name, numbers, gaps, share))
    if _is_code(bare, whole) or len(_units(bare)) > 1:
        return Read("text", text, _looks_numeric(text, name, numbers, gaps, share))
    values = _values(bare, style)
    sample = int(np.flatnonzero(numbers)[int(np.argmax(marked))])
    how = f"{text.values[sample]!r} (row {text.first(sample)}) is read as {values[int(np.argmax(marked))]:.15g}"
    told = f"{name}: {how}" if marked.any() else name
    odd = _gaps_told(text, gaps)
    told += odd if marked.any() or not odd else f": {odd[2:]}"
    remark = Remark("marks", f"{told}; the model takes numbers") if marked.any() or odd else None
    return Read(
        "integer" if whole else "number",
        text.spread(_put(values, ~numbers), np.nan),
        remark,
        style if marked.any() and style == "," else ".",
        of_numbers(bare, style, unit),
    )


def _units(bare: pa.Array) -> set[str]:
    """Return the marks beside the numbers: one, or none, where they are of one unit; a zero needs none."""
    rest = pc.replace_substring_regex(
        bare.filter(pa.array(matches(bare, "[1-9]"))), r"[-+0-9.,()eE\s'\x{2019}\x{a0}\x{2009}\x{202f}\x{2212}]", ""
    )
    return set(pc.unique(rest).to_pylist())


def _is_code(bare: pa.Array, whole: bool) -> bool:
    """Whether what looks like numbers are names: leading zeros, more digits than a double has, phone numbers."""
    digits = pc.utf8_length(pc.replace_substring_regex(bare, r"\D", ""))
    if matches(bare, r"^[-+]?0\d").any() or matches(bare, r"^\+\d{7}").any():
        return True
    longest, shortest = pc.max(digits).as_py() or 0, pc.min(digits).as_py() or 0
    if whole and longest > _MOST_DIGITS:
        return True
    return bool(longest == shortest >= _PHONE_DIGITS and matches(bare, r"\d[\s\x{a0}]\d").all())


def _values(bare: pa.Array, style: str) -> Floats:
    group = "," if style == "." else "."
    digits = pc.replace_substring_regex(bare, rf"{_UNIT}|[%()+{group}{GROUPS}\s]", "")
    digits = pc.replace_substring(pc.replace_substring(digits, style, "."), "\N{MINUS SIGN}", "-")
    values = floats(digits.cast(pa.float64()))
    return np.where(matches(bare, r"^\("), -values, values)  # an accountant's minus


def _gaps_told(text: Text, gaps: npt.NDArray[np.bool_], kind: str = "number") -> str:
    """Tell the words that count as missing, as the end of a sentence; empty where there are none."""
    odd = [int(number) for number in np.flatnonzero(gaps) if text.values[number].strip()]
    if not odd:
        return ""
    rows, present = int(text.counts()[odd].sum()), int((text.codes >= 0).sum())
    first = min(map(int, odd), key=text.first)
    verb = f"is no {kind} and counts" if rows == 1 else f"are no {kind}s and count"
    return f"; {rows} of {present} values ({text.values[first]!r} in row {text.first(first)}) {verb} as missing"


def _looks_numeric(
    text: Text, name: str, numbers: npt.NDArray[np.bool_], gaps: npt.NDArray[np.bool_], share: float
) -> Remark | None:
    if share < NEARLY_ALL:
        return None
    odd = np.flatnonzero(~numbers & ~gaps)
    if not len(odd):
        return Remark("text_of_numbers", f"{name}: its values are numbers, stored as text, and are taken as text")
    first = min((int(number) for number in odd), key=text.first)
    return Remark(
        "text_of_numbers",
        f"{name}: taken as text, because of {text.values[first]!r} in row {text.first(first)}; "
        f"{share:.3%} of its values are numbers".replace(".000%", " %")
        .replace("%", " %")
        .replace("  ", " "),
    )


# -- by a kind that is known ----------------------------------------------------------------------


def as_numbers(text: Text, decimal: str) -> tuple[Floats, str | None]:
    """Read text as numbers, or booleans, that it is known to be; a value of each row, and the first that is none."""
    words, gaps = _words(text)
    words, _ = without_unit(words, gaps)
    lower = pc.utf8_lower(words)
    spoken = pc.is_in(lower, pa.array(["true", "false"])).to_numpy(zero_copy_only=False)
    values = np.where(pc.equal(lower, "true").to_numpy(zero_copy_only=False), 1.0, 0.0)
    fits = matches(words, _STYLES[decimal]) & ~gaps & ~spoken
    if fits.any():
        values[fits] = _values(words.filter(pa.array(fits)), decimal)
    rest = ~(fits | spoken | gaps)
    if rest.any() and (found := times(words.filter(pa.array(rest)))) is not None:
        values[rest] = found[0]
        rest[:] = False
    other = np.flatnonzero(rest)
    return text.spread(np.where(gaps, np.nan, values), np.nan), str(text.values[other[0]]) if len(other) else None


def as_dates(text: Text, known: Sequence[str] = ()) -> tuple[dates.Dates, str | None]:
    """Read text as dates that it is known to be; a moment of each row, and the first value where that fails.

    Parameters
    ----------
    text : Text
    known : sequence of str
        The orders of day and month that the column is known to have: see `dates.read`.
    """
    words, gaps = _words(text)
    nothing = np.datetime64("NaT", "us")
    present = words.filter(pa.array(~gaps))
    found: dates.Dates | None = dates.Dates(np.empty(0, "datetime64[us]"), "")
    if len(present):
        plain_dates = _plain(present, ".")
        is_plain = plain_dates is not None and plain_dates[0] == "datetime"
        found = dates.Dates(plain_dates[1], "") if plain_dates and is_plain else dates.read(present, known)
    if found is None:
        other = np.flatnonzero(~gaps)[dates.first_other(present, known)]
        return dates.Dates(text.spread(np.full(len(words), nothing), nothing), ""), str(text.values[other])
    moments = text.spread(_put(found.moments.astype("datetime64[us]"), gaps), nothing)
    return replace(found, moments=moments), None


def _words(text: Text) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    words = pc.utf8_trim(pa.array(text.values, pa.string()), characters=_BLANKS)
    gaps = pc.is_in(pc.utf8_lower(words), pa.array(sorted(_TOKENS))).to_numpy(zero_copy_only=False)
    return words, np.asarray(gaps, dtype=bool)
