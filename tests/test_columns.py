"""What the values of one column mean: numbers with marks, dates, booleans; and what must stay text."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from trainer import columns, dates
from trainer.columns import Text
from trainer.spelling import Clock


def text(*values: str | None) -> Text:
    return Text.of(pa.chunked_array([pa.array(values, pa.string()).dictionary_encode()]))


def read(*values: str | None, typed: bool = False, decimal: str = ".") -> columns.Read:
    return columns.read(text(*values), "c", typed, decimal)


NAN = float("nan")
NUMBERS: dict[str, tuple[list[str | None], list[float]]] = {
    "a question mark": (["1", "?", "3"], [1, NAN, 3]),
    "a dash and a dot": (["1.5", "-", ".", "2"], [1.5, NAN, NAN, 2]),
    "a gap with blanks": ([" NA", "1", "2"], [NAN, 1, 2]),
    "lower case": (["na", "1", "2"], [NAN, 1, 2]),
    "a spreadsheet's error": (["#DIV/0!", "1", "2"], [NAN, 1, 2]),
    "dollars": (["$1,234", "$5.50", "$0", None], [1234, 5.5, 0, NAN]),
    "euros behind": (["5 EUR", "6 EUR"], [5, 6]),
    "per cent": (["12.5%", "3 %", "0"], [12.5, 3, 0]),
    "thousands": (["1,234", "5,678,901", "7"], [1234, 5678901, 7]),
    "blanks between thousands": (["1 234,5", "7,25"], [1234.5, 7.25]),
    "no-break spaces": (["1\u202f234", "5"], [1234, 5]),
    "Swiss": (["1'234.5", "5"], [1234.5, 5]),
    "points between thousands": (["1.234,5", "3"], [1234.5, 3]),
    "decimal commas": (["0,5", "0,234"], [0.5, 0.234]),
    "an accountant's minus": (["-$4", "$5", "($6.5)"], [-4, 5, -6.5]),
    "a minus behind the mark": (["$-4", "+ 5 $", "$ -6"], [-4, 5, -6]),
    "a real minus": (["\N{MINUS SIGN}5", "3.5"], [-5, 3.5]),
    "a unit": (["12 kg", "-1,234.5kg", "?"], [12, -1234.5, NAN]),
    "degrees": (["12\u00b0C", "0.5 \u00b0C"], [12, 0.5]),
    "reals": (["R$ 1.234,50", "R$2"], [1234.5, 2]),
    "exponents": (["1e-5", "2E+3", "?"], [1e-5, 2000, NAN]),
}


@pytest.mark.parametrize("what", NUMBERS)
def test_numbers_with_a_mark_are_numbers_and_the_rule_is_told(what: str) -> None:
    values, expected = NUMBERS[what]
    found = read(*values)
    assert found.kind in ("number", "integer")
    assert np.array_equal(found.values, expected, equal_nan=True)
    assert found.remark is not None
    assert found.remark.code == "marks"


def test_what_is_told_of_a_mark_names_row_and_value() -> None:
    gaps = read(*["5"] * 7, "?", *["6"] * 391, "?")
    assert gaps.kind == "integer"
    assert gaps.remark is not None
    assert "c: 2 of 400 values ('?' in row 8) are no numbers and count as missing" in gaps.remark.text
    mark = read("7", "$1,234", typed=True)
    assert mark.kind == "text"  # one of two has no currency
    mark = read("0", "$1,234")
    assert mark.remark is not None
    assert "c: '$1,234' (row 2) is read as 1234" in mark.remark.text


@pytest.mark.parametrize(("decimal", "expected"), [(".", 1234.0), (",", 1.234)])
def test_thousands_or_decimals_where_a_value_leaves_it_open(decimal: str, expected: float) -> None:
    assert read("1,234", "5,678", decimal=decimal).values[0] == expected
    assert read("1,234", "0,678", decimal=decimal).values[0] == 1.234  # nobody writes 0,678 for 678


TEXTS: dict[str, list[str | None]] = {
    "zip codes": ["00123", "01234", "?"],
    "phone numbers": ["+4930123456", "+4930123457", "-"],
    "phone numbers in groups": ["601 234 567", "701 234 567"],
    "identifiers of 22 digits": ["1234567890123456789012", "?"],
    "product codes": ["12-345", "12-346"],
    "versions": ["1.2.3", "1.2.4"],
    "a code among numbers": ["A1", *map(str, range(40))],
    "two currencies": ["$5", "\N{EURO SIGN}5"],
    "per cent and shares": ["5%", "0.5"],
    "addresses": ["10.0.0.1", "10.0.0.2"],
    "bounds": ["<5", "5", "6"],
    "two signs": ["--0.5", "1.5", "2"],
    "half a parenthesis": ["(5", "6", "7"],
    "sizes of shirts": ["3 XL", "2 XS"],
    "houses": ["12a", "12b"],
    "scores": ["3:10", "1:02"],
    "an hour that is none": ["13:00 PM", "1:00 AM"],
    "half of it words": ["1", "2", "red", "blue"],
    "gaps alone": ["?", "-", "?"],
    "nothing": [],
    "two digits of a year, with dashes": ["12-05-99", "13-05-99"],
    "days that are none": ["31.02.2024", "01.02.2024"],
}


@pytest.mark.parametrize("what", TEXTS)
def test_what_only_looks_like_numbers_or_dates_stays_text(what: str) -> None:
    values = TEXTS[what]
    found = read(*values)
    assert found.kind == "text"
    assert found.values.objects().tolist() == values


def test_text_that_is_nearly_all_numbers_is_told_with_row_and_value() -> None:
    found = read(*map(str, range(19)), "A1")
    assert found.remark is not None
    assert found.remark.code == "text_of_numbers"
    assert "because of 'A1' in row 20" in found.remark.text
    typed = read("1", "2", "30", typed=True)
    assert typed.kind == "text"
    assert typed.remark is not None
    assert "its values are numbers, stored as text" in typed.remark.text
    assert read("1", "2", "red").remark is None


# What Arrow's CSV reader makes of the same values when it sees them in its first block.
SEEN_LATE: dict[str, tuple[list[str | None], str, list[Any]]] = {
    "integers": (["1", "-2", None], "integer", [1, -2, NAN]),
    "decimals": (["1", "2", "3.0"], "number", [1, 2, 3]),
    "beyond int64": (["1", "99999999999999999999"], "number", [1, 1e20]),
    "a plus sign": (["+4930123", "1"], "number", [4930123, 1]),
    "booleans": (["True", "false", None], "boolean", [1, 0, NAN]),
    "booleans as numbers, too": (["0", "1", "TRUE"], "boolean", [0, 1, 1]),
    "leading zeros": (["007", "8"], "integer", [7, 8]),
    "times": (["10:00", "11:30:10"], "number", [36000, 41410]),
}


TIMES: dict[str, tuple[list[str | None], list[float]]] = {
    "of the day": (["10:30", " 9:05", None], [37_800, 32_700, NAN]),
    "with fractions": (["10:30:00.5", "0:00:01", "-"], [37_800.5, 1, NAN]),
    "before and after noon": (["12:05 AM", "1:00PM", "12:00 pm"], [300, 46_800, 43_200]),
    "durations": (["1:23:45", "100:00:00"], [5_025, 360_000]),
}


@pytest.mark.parametrize("what", TIMES)
@pytest.mark.parametrize("typed", [False, True])
def test_times_of_day_and_durations_are_seconds(what: str, typed: bool) -> None:
    values, expected = TIMES[what]
    found = read(*values, typed=typed)
    assert found.kind == "number"
    assert np.array_equal(found.values, expected, equal_nan=True)
    assert isinstance(found.spelling, Clock)
    known, other = columns.as_numbers(text(*values), ".")
    assert other is None
    assert np.array_equal(known, expected, equal_nan=True)


@pytest.mark.parametrize("what", SEEN_LATE)
def test_types_that_show_late_in_a_csv_file_are_those_of_a_small_one(what: str) -> None:
    values, kind, expected = SEEN_LATE[what]
    found = read(*values)
    assert (found.kind, found.remark) == (kind, None)
    assert np.array_equal(found.values, expected, equal_nan=True)


DATES: dict[str, tuple[list[str | None], list[str], str]] = {
    "ISO": (["2024-03-14", None], ["2024-03-14", "NaT"], ""),
    "a moment": (["2024-03-14T10:00:00Z", "2024-03-14 12:00:00+02:00"], ["2024-03-14T10:00"] * 2, ""),
    "years first": (["2024/3/4", "2024/12/31"], ["2024-03-04", "2024-12-31"], ""),
    "day first": (["14.03.2024", "1.2.2024"], ["2024-03-14", "2024-02-01"], "day first"),
    "month first": (["3/14/2024", "3/1/2024 10:30 PM"], ["2024-03-14", "2024-03-01T22:30"], "month first"),
    "day first by all rows": (["1/2/2024", "14/3/2024"], ["2024-02-01", "2024-03-14"], "day first"),
    "either": (["1/2/2024", "3/4/2024"], ["2024-01-02", "2024-03-04"], "could be the other way round"),
    "a month": (["2024-03", "2023-11"], ["2024-03-01", "2023-11-01"], "the first day of the month"),
    "a name": (["14 Mar 2024", "2 May 2023"], ["2024-03-14", "2023-05-02"], "by the name of its month"),
    "a long name": (["March 4, 2024", "June 2, 2023"], ["2024-03-04", "2023-06-02"], "by the name"),
    "Oracle": (["14-MAR-24", "02-MAY-23"], ["2024-03-14", "2023-05-02"], "by the name"),
    "noon and midnight": (["3/14/2024 12:00 AM", "3/14/2024 12:00 PM"], ["2024-03-14", "2024-03-14T12:00"], "month"),
    "a gap": (["14.03.2024", "-"], ["2024-03-14", "NaT"], "('-' in row 2) is no date and counts as missing"),
    "days that never were": (["2024-03-14", "0000-00-00"], ["2024-03-14", "NaT"], "c: 1 of 2 values ('0000-00-00' in"),
}


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("what", DATES)
def test_dates_in_the_usual_spellings(what: str, typed: bool) -> None:
    values, expected, how = DATES[what]
    found = read(*values, typed=typed)
    assert found.kind == "datetime"
    assert found.values.dtype == "datetime64[us]"
    assert np.array_equal(found.values, np.array(expected, "datetime64[us]"), equal_nan=True)
    assert how in (found.remark.text if found.remark else "")
    assert bool(how) == (found.remark is not None)


MEANT: dict[str, tuple[pa.Array, str | None]] = {
    "small integers": (pa.array([1, None], pa.int8()), "integer"),
    "large ones": (pa.array([2**63], pa.uint64()), "integer"),
    "half": (pa.array([1.5, None], pa.float16()), "number"),
    "decimal": (pa.array([1, None], pa.int32()).cast(pa.decimal128(12, 2)), "number"),
    "wide decimal": (pa.array([1, None], pa.int32()).cast(pa.decimal256(40, 2)), "number"),
    "boolean": (pa.array([True, None]), "boolean"),
    "time": (pa.array([3_600_000, None], pa.time32("ms")), "seconds"),
    "duration": (pa.array([5, None], pa.duration("s")), "seconds"),
    "dictionary of numbers": (pa.array([5.0, 7.0, 5.0]).dictionary_encode(), "number"),
    "date": (pa.array([1, None], pa.date32()), "datetime"),
    "moment with a zone": (pa.array([1, None], pa.timestamp("ns", "Europe/Berlin")), "datetime"),
    "text": (pa.array(["a", None], pa.string_view()), "text"),
    "large text": (pa.array(["a", None], pa.large_string()), "text"),
    "category": (pa.array(["a", None, "a"]).dictionary_encode(), "text"),
    "null": (pa.nulls(2), "empty"),
    "list": (pa.array([[1], None]), None),
    "struct": (pa.array([{"a": 1}, None]), None),
    "binary": (pa.array([b"a", None]), None),
    "uuid": (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef"], pa.binary(16))), None),
}


@pytest.mark.parametrize("what", MEANT)
def test_what_an_arrow_type_means(what: str) -> None:
    array, kind = MEANT[what]
    assert columns.meaning(array.type) == kind
    if kind in ("integer", "number", "boolean", "seconds"):
        values = columns.floats(array)
        assert values.dtype == np.float64
        assert np.isnan(values).tolist() == [value is None for value in array.to_pylist()]
    if kind == "text":
        assert Text.of(pa.chunked_array([columns.encoded(array)])).objects().tolist()[0] == "a"
    if kind == "datetime":
        assert np.isnat(columns.datetimes(array)).tolist() == [False, True]


def test_times_and_durations_are_seconds_and_zones_are_utc() -> None:
    assert columns.floats(MEANT["time"][0])[0] == 3600
    assert columns.floats(MEANT["duration"][0])[0] == 5
    summer = pa.array([pd.Timestamp("2024-07-01 12:00", tz="Europe/Berlin")])
    assert columns.datetimes(summer)[0] == np.datetime64("2024-07-01T10:00")


def test_an_offset_from_utc_is_taken_off_a_date_as_people_write_it() -> None:
    found = dates.read(pa.array(["15.08.2007 10:00 -05:00", "16.08.2007 10:00 +01:30"]))
    assert found is not None
    assert found.moments.astype(str).tolist() == ["2007-08-15T15:00:00.000000", "2007-08-16T08:30:00.000000"]
