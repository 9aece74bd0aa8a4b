"""How text writes numbers and times of day, and the steps of a model that read it as the table was read.

They are made of functions of numpy and pandas alone (see `pipeline`), and leave numbers that come as such as they are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trainer import dates
from trainer.dates import matches

# Between the digits of a number: separators of thousands.
GROUPS = " \u00a0\u2009\u202f'\u2019"
# What says nothing in a number with marks: separators of thousands, per cent.
_IGNORED = ",%' \t\u00a0\u2007\u2009\u202f\u3000\u2019"
_MINUS = "\N{MINUS SIGN}"
# Times of day, with the format of each; and what may be longer than a day.
_CLOCKS = {
    r"^\d{1,2}:[0-5]\d$": "%H:%M",
    r"^\d{1,2}:[0-5]\d:[0-5]\d$": "%H:%M:%S",
    r"^\d{1,2}:[0-5]\d:[0-5]\d\.\d{1,6}$": "%H:%M:%S.%f",
    r"^\d{1,2}:[0-5]\d [AaPp][Mm]$": "%I:%M %p",
    r"^\d{1,2}:[0-5]\d[AaPp][Mm]$": "%I:%M%p",
    r"^\d{1,2}:[0-5]\d:[0-5]\d [AaPp][Mm]$": "%I:%M:%S %p",
}
_DURATION = r"^\d{1,5}:[0-5]\d:[0-5]\d(?:\.\d{1,9})?$"
_DAY = 86_400.0
_YEAR_1900 = float(np.datetime64("1900-01-01", "us").astype(np.int64))  # the day of a time without one


# What may stand behind each number of a column: kg, km, \u00b0C.
_UNIT = re.compile(r"[^\W\d_]{1,8}[\u00b2\u00b3]?|\u00b0[A-Z]?")


@dataclass(frozen=True)
class Spelling:
    """The decimal point, the letters of a currency, whether points separate thousands, as in 1.234,5, and the unit."""

    point: str
    letters: str
    grouped: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Clock:
    """Times of day, in some formats of `strptime`; none: durations, as h:mm:ss. As numbers, both are seconds."""

    formats: tuple[str, ...] = ()


# A typed time comes as an object that prints itself so, and as text from CSV; a typed duration as such.
TIME, DURATION = Clock(("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")), Clock()


def without_unit(words: pa.Array, gaps: npt.NDArray[np.bool_]) -> tuple[pa.Array, str]:
    """Take away the one word that stands behind every number, and return it, too; empty where there is none."""
    present = words.filter(pa.array(~gaps))
    number = r"^[-+\x{2212}]?\.?\d[\d.,'\x{a0}\x{202f} ]*(?:[eE][-+]?\d+\s?)?"
    behind = pc.unique(pc.replace_substring_regex(present, number, "")).to_pylist()
    if len(behind) != 1 or not _UNIT.fullmatch(behind[0]) or not matches(present, number).all():
        return words, ""
    return pc.utf8_rtrim_whitespace(pc.replace_substring_regex(words, rf"{behind[0]}$", "")), behind[0]


def of_numbers(bare: pa.Array, style: str, unit: str) -> Spelling | None:
    """Say how numbers are written that have all been read; None where a text may be another number than it seems."""
    exponent = r"\d\.?[eE][-+]?\d+"
    rest = pc.replace_substring_regex(pc.replace_substring_regex(bare, exponent, ""), rf"[-+0-9.,()%\s{GROUPS}]", "")
    letters = "".join(sorted(set("".join(pc.unique(rest).to_pylist())) - {_MINUS}))
    if "E" in letters and matches(bare, r"\dE[-+\d]").any():
        return None
    return Spelling(style, letters, style == "," and bool(matches(bare, r"\.").any()), unit)


def times(words: pa.Array) -> tuple[npt.NDArray[np.float64], Clock] | None:
    """Read times of day and durations, in seconds; None where not all words are such.

    ``9:05`` may be anything; it is a time beside others with two digits, with seconds, or with AM or PM.
    """
    fits = {pattern: found for pattern in _CLOCKS if (found := matches(words, pattern)).any()}
    formats = tuple(_CLOCKS[pattern] for pattern in fits)
    if fits and np.any([*fits.values()], axis=0).all():
        seconds = dates.clock(words).astype(np.float64) / 1e6
        short = formats == ("%H:%M",) and not matches(words, r"^\d\d:").any()
        halves = pa.array(matches(words, "[AaPp]"))
        possible = not matches(words.filter(halves), r"^(?:0?0|1[3-9]|[2-9]\d):").any()
        if seconds.max() < _DAY and possible and not short:
            return seconds, Clock(formats)
    if len(words) and matches(words, _DURATION).all():
        return dates.clock(words).astype(np.float64) / 1e6, DURATION
    return None


# -- the steps of a model --------------------------------------------------------------------------


def steps(spelling: Spelling | Clock) -> list[tuple[str, Any]]:
    """Return the steps that read one column so: numbers as they are, text as the table has it, the rest as missing."""
    if isinstance(spelling, Clock):
        return _clock(spelling.formats) if spelling.formats else _duration()
    table: dict[int, str | None] = {ord(letter): None for letter in f"{spelling.letters}{_IGNORED}"}
    if spelling.point == ",":
        table |= {ord(","): "."}
    table |= {ord("("): "-", ord(")"): None, ord(_MINUS): "-"}
    bare = [("text", _text()), ("bare", _function(np.strings.translate, table=table))]
    if spelling.grouped:
        bare[1] = ("bare", _function(np.strings.translate, table=table | {ord("."): None}))
    if spelling.unit:
        bare.insert(1, ("unit", _function(np.strings.replace, old=spelling.unit, new="")))
    return _grouped(bare) if spelling.grouped else [*bare, *_numbers()]


def days(pattern: str) -> list[tuple[str, Any]]:
    """Return the steps that read days in a format of `strptime`, as well as dates, and text of them in ISO 8601."""
    moment = [
        ("moment", _function(np.asarray, dtype="datetime64[us]")),
        ("number", _function(np.asarray, dtype="int64")),
        ("column", _function(np.reshape, shape=(-1, 1))),
    ]
    iso = ("reader", _function(pd.to_datetime, format="ISO8601", utc=True, errors="coerce"))
    bare = [("text", _text()), ("bare", _function(np.strings.strip))]
    written = [*bare, ("reader", _function(pd.to_datetime, format=pattern, errors="coerce"))]
    return [
        ("objects", _function(np.asarray, dtype="object")),
        ("ways", _union([("iso", [iso, *moment]), ("written", [*written, *moment])])),
        ("known", _function(np.max, axis=1)),  # as a number, no time at all is less than any
        ("moments", _function(np.asarray, dtype="datetime64[us]")),
        ("series", _function(pd.Series, name="date")),
    ]


def _function(of: Any, **given: Any) -> Any:
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(of, kw_args=given)


def _text() -> Any:
    return _function(np.asarray, dtype="U")


def _numbers() -> list[tuple[str, Any]]:
    return [
        ("reader", _function(pd.to_numeric, errors="coerce")),
        ("number", _function(np.asarray, dtype="float64")),  # integers, too
        ("column", _function(np.reshape, shape=(-1, 1))),
    ]


def _union(parts: Sequence[tuple[str, list[tuple[str, Any]]]]) -> Any:
    from sklearn.pipeline import FeatureUnion, Pipeline

    return FeatureUnion([(name, Pipeline(own)) for name, own in parts])


def _either(parts: Sequence[tuple[str, list[tuple[str, Any]]]]) -> list[tuple[str, Any]]:
    """Return the steps that read a value in the one of several ways that can: sorted, what is missing comes last."""
    return [
        ("ways", _union(parts)),
        ("sorted", _function(np.sort, axis=1)),
        ("first", _function(np.take, indices=[0], axis=1)),
    ]


def _clock(formats: Sequence[str]) -> list[tuple[str, Any]]:
    day = {"xp": [_YEAR_1900, _YEAR_1900 + _DAY * 1e6], "fp": [0.0, _DAY], "left": np.nan}
    ways = [("numbers", _numbers())]
    for number, one in enumerate(formats):
        reading = [
            ("text", _text()),
            ("bare", _function(np.strings.strip)),
            ("reader", _function(pd.to_datetime, format=one, errors="coerce")),
            ("moment", _function(np.asarray, dtype="datetime64[us]")),
            ("number", _function(np.asarray, dtype="float64")),
            ("seconds", _function(np.interp, **day)),  # and what is no time, long before 1900, is missing
            ("column", _function(np.reshape, shape=(-1, 1))),
        ]
        ways.append((f"format{number}", reading))
    return [("objects", _function(np.asarray, dtype="object")), *_either(ways)]


def _duration() -> list[tuple[str, Any]]:
    from sklearn.impute import SimpleImputer

    missing = {"missing_values": -(2.0**63), "strategy": "constant", "fill_value": np.nan}
    return [
        ("reader", _function(pd.to_timedelta, unit="s", errors="coerce")),
        ("duration", _function(np.asarray, dtype="timedelta64[us]")),
        ("number", _function(np.asarray, dtype="float64")),
        ("column", _function(np.reshape, shape=(-1, 1))),
        ("missing", SimpleImputer(keep_empty_features=True, **missing)),
        ("seconds", _function(np.outer, b=[1e-6])),
    ]


def _grouped(bare: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the steps that read 1.234,5, and 1234.5 where it is no text: the same letters mean another number.

    `bare` are those that make a number of a text that is none.

    Nothing times a text is an empty text, and nothing times a number is a number: to what is read in the one way, 0 is
    added where it may be read so, and what is no number where it may not.
    """
    from sklearn.impute import SimpleImputer

    nothing = [("nothing", _function(np.outer, b=[0])), ("text", _text()), ("flat", _function(np.ravel))]
    is_text = [
        ("point", _function(np.strings.translate, table={ord("."): "?"})),
        ("zero", _function(np.strings.zfill, width=1)),
    ]
    read = [*bare, *_numbers()]
    added = _function(np.sum, axis=1, keepdims=True)
    as_number = [("both", _union([("value", _numbers()), ("zero", [*nothing, *_numbers()])])), ("sum", added)]
    as_text = [("both", _union([("value", read), ("zero", [*nothing, *is_text, *_numbers()])])), ("sum", added)]
    return [
        ("objects", _function(np.asarray, dtype="object")),
        ("column", _function(np.reshape, shape=(-1, 1))),
        ("known", SimpleImputer(missing_values=pd.NA, strategy="constant", fill_value="", keep_empty_features=True)),
        ("flat", _function(np.ravel)),
        *_either([("numbers", as_number), ("texts", as_text)]),
    ]
