"""Dates and times as people write them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

_ZONE = r"(?P<zone>Z| ?[-+]\d{2}:?\d{2}| ?UTC| ?GMT)?"
_CLOCK = r"(?:(?:[T ]|, )(?P<clock>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?(?: ?[AaPp][Mm])?)"
_MOMENT = rf"^(?P<day>[0-9A-Za-z][0-9A-Za-z ,./-]*?[0-9A-Za-z]){_CLOCK}{_ZONE})?$"
_MONTH = r"(?:[A-Za-z]{3,9})"
FIRST, LAST = np.datetime64("1678-01-01", "us"), np.datetime64("2262-01-01", "us")
# The spelling of a day, the formats that it may have, how that is told; day first and month first are both tried.
_SPELLINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"^\d{4}-\d{1,2}-\d{1,2}$", ("%Y-%m-%d",)),
    (r"^\d{4}/\d{1,2}/\d{1,2}$", ("%Y/%m/%d",)),
    (r"^\d{4}\.\d{1,2}\.\d{1,2}$", ("%Y.%m.%d",)),
    (r"^(?:1[5-9]|20|21)\d{2}-(?:0[1-9]|1[0-2])$", ("%Y-%m",)),
    (r"^\d{1,2}\.\d{1,2}\.\d{4}$", ("%d.%m.%Y", "%m.%d.%Y")),
    (r"^\d{1,2}/\d{1,2}/\d{4}$", ("%m/%d/%Y", "%d/%m/%Y")),
    (r"^\d{1,2}-\d{1,2}-\d{4}$", ("%d-%m-%Y", "%m-%d-%Y")),
    (r"^\d{1,2}/\d{1,2}/\d{2}$", ("%m/%d/%y", "%d/%m/%y")),
    (r"^\d{1,2}\.\d{1,2}\.\d{2}$", ("%d.%m.%y",)),
    (rf"^\d{{1,2}} {_MONTH} \d{{4}}$", ("%d %b %Y", "%d %B %Y")),
    (rf"^\d{{1,2}}-{_MONTH}-\d{{4}}$", ("%d-%b-%Y", "%d-%B-%Y")),
    (rf"^\d{{1,2}}-{_MONTH}-\d{{2}}$", ("%d-%b-%y",)),
    (rf"^{_MONTH} \d{{1,2}}, ?\d{{4}}$", ("%b %d, %Y", "%B %d, %Y")),
    (rf"^{_MONTH} \d{{4}}$", ("%b %Y", "%B %Y")),
)


@dataclass(frozen=True)
class Dates:
    """Text that was read as dates.

    Attributes
    ----------
    moments : ndarray of datetime64[us]
    told : str
        How, for a person; empty where it is clear.
    orders, unfit : tuple of str
        Where a spelling has two orders, day first and month first, or another reader may find another day: those that
        fit all words, the one that was taken first; and those that do not, or were not tried. Else empty.
    """

    moments: npt.NDArray[Any]
    told: str
    orders: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()


def read(words: pa.Array, known: Sequence[str] = ()) -> Dates | None:
    """Read dates in one of the usual spellings; None where not all words are dates of one spelling.

    Parameters
    ----------
    words : Array of str
    known : sequence of str
        `Dates.orders` that the column is known to have: of a spelling that has one of them, no other is tried.
    """
    if not matches(words, r"^[0-9A-Za-z][-0-9A-Za-z ,./:+]{4,}$").all() or not matches(words, r"\d").all():
        return None
    found = pc.extract_regex(words, _MOMENT.replace("(?P<day>", "(?P<day>"))
    if found.null_count:
        return None
    days, clocks, zones = (found.field(part) for part in ("day", "clock", "zone"))
    for spelling, formats in _SPELLINGS:
        if not matches(days, spelling).all():
            continue
        fits = [(one, parsed) for one in _tried(formats, known) if (parsed := _parsed(days, one)).notna().all()]
        if not fits:
            return None
        pattern, parsed = fits[0]
        moments: npt.NDArray[Any] = parsed.to_numpy().astype("datetime64[us]") + clock(clocks) - _offset(zones)
        told = _told(pattern, len(fits) > 1 and not fits[0][1].equals(fits[1][1]))
        orders = tuple(one for one, _ in fits) if _has_orders(formats) else ()
        return Dates(moments, told, orders, tuple(one for one in formats if one not in orders) if orders else ())
    return None


def computable(moments: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return dates without those that are too far away to be computed with, and which these are.

    Pandas counts nanoseconds in 64 bits: beyond, the seconds that the encoder of dates makes of 9999-12-31 are any.
    """
    beyond = (moments < FIRST) | (moments >= LAST)
    return (np.where(beyond, np.datetime64("NaT"), moments) if beyond.any() else moments), beyond


def first_other(words: pa.Array, known: Sequence[str] = ()) -> int:
    """Return the number of the first word that is no date, or none of the first one's spelling and order."""
    days = pc.extract_regex(words, _MOMENT).field("day")
    for spelling, formats in _SPELLINGS:
        if (alike := matches(days, spelling))[:1].all():
            best = max((alike & _parsed(days, one).notna().to_numpy() for one in _tried(formats, known)), key=np.sum)
            return int(np.argmin(best))
    return 0


def _has_orders(formats: Sequence[str]) -> bool:
    """Whether another reader may find another day: day and month are numbers before the year, or that has two digits.

    `dateutil`, by which pandas reads what it is told nothing of, takes 1/2/70 for a day of 2070, and next year for
    another one.
    """
    return all("%y" in one or (one[:2] in ("%d", "%m") and {"%d", "%m"} <= _parts(one)) for one in formats)


def _tried(formats: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    return [pattern for pattern in known if pattern in formats] or formats


def _parsed(days: pa.Array, pattern: str) -> "pd.Series[Any]":
    texts = pd.Series(days.to_numpy(zero_copy_only=False), dtype=object).str.replace(", ", ",").str.replace(",", ", ")
    parsed: pd.Series[Any] = pd.to_datetime(texts, format=pattern, errors="coerce")
    return parsed


def _parts(pattern: str) -> set[str]:
    return set(re.findall("%.", pattern))


def _told(pattern: str, either: bool) -> str:
    if pattern.startswith("%Y") and pattern != "%Y-%m":
        return ""
    if not {"%d", "%m"} <= _parts(pattern):
        return "the first day of the month" if "%d" not in pattern else "by the name of its month"
    return f"{order(pattern)}, though it could be the other way round in every row" if either else order(pattern)


def order(pattern: str) -> str:
    """Name one of `Dates.orders`."""
    return "day first" if pattern.startswith("%d") else "month first"


def clock(clocks: pa.Array) -> npt.NDArray[np.timedelta64]:
    """Read times of day: 10:30, 10:30:00.5, 10:30 PM."""
    words = pd.Series(clocks.to_numpy(zero_copy_only=False), dtype=object).str.upper().str.replace(",", ".")
    half = words.str.extract("([AP])M$")[0]
    parts = words.str.replace(r" ?[AP]M$", "", regex=True).str.split(":", expand=True).reindex(columns=range(3))
    hours, minutes, seconds = (pd.to_numeric(parts[part].replace("", None)).fillna(0.0) for part in range(3))
    hours = hours.where(half.isna(), hours % 12 + 12 * (half == "P"))
    return ((hours * 3600 + minutes * 60 + seconds) * 1e6).round().to_numpy().astype("timedelta64[us]")


def _offset(zones: pa.Array) -> npt.NDArray[np.timedelta64]:
    words = pd.Series(zones.to_numpy(zero_copy_only=False), dtype=object).fillna("")
    parts = words.str.extract(r"([-+])(\d{2}):?(\d{2})")
    minutes = pd.to_numeric(parts[1]).fillna(0) * 60 + pd.to_numeric(parts[2]).fillna(0)
    return (minutes * np.where(parts[0] == "-", -1, 1)).to_numpy().astype("timedelta64[m]")


def matches(words: pa.Array, pattern: str) -> npt.NDArray[np.bool_]:
    """Say of each word whether it matches; a missing one does not."""
    return np.asarray(pc.match_substring_regex(words, pattern).to_numpy(zero_copy_only=False), dtype=bool)
