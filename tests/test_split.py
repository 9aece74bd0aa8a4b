"""The split: stable while the table grows, fair to groups, by time; and the hashes that it goes by."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables import csv, load, told
from trainer import split
from trainer.columns import Text
from trainer.errors import UserError
from trainer.split import row_hash

numbers = st.one_of(st.integers(-(2**40), 2**40).map(float), st.floats(allow_infinity=False))
texts = st.one_of(st.none(), st.text(max_size=5))
rows = st.lists(st.tuples(numbers, texts, st.booleans()), min_size=1, max_size=30)


def frame(values: list[tuple[float, str | None, bool]]) -> pd.DataFrame:
    columns = list(zip(*values, strict=True))
    return pd.DataFrame(
        {
            "number": np.array(columns[0], dtype=np.float64),
            "text": np.array([np.nan if t is None else t for t in columns[1]], dtype=object),
            "flag": np.array(columns[2], dtype=bool),
        }
    )


@settings(max_examples=40)
@given(old=rows, new=rows, order=st.randoms(use_true_random=False))
def test_a_row_keeps_its_hash_when_the_table_grows_and_is_reordered(old, new, order) -> None:  # type: ignore[no-untyped-def]
    before = row_hash(frame(old))
    grown = old + new
    places = list(range(len(grown)))
    order.shuffle(places)
    after = row_hash(frame([grown[i] for i in places]))
    assert [after[places.index(i)] for i in range(len(old))] == list(before)


@settings(max_examples=40)
@given(values=st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=20))
def test_a_row_keeps_its_hash_when_an_integer_column_turns_into_floats(values: list[int]) -> None:
    integers = row_hash(pd.DataFrame({"a": np.array(values, dtype=np.int64)}))
    with_a_gap = row_hash(pd.DataFrame({"a": np.array([*values, np.nan], dtype=np.float64)}))
    assert list(with_a_gap[:-1]) == list(integers)


@settings(max_examples=40)
@given(values=rows)
def test_a_row_keeps_its_hash_however_its_columns_are_stored(values) -> None:  # type: ignore[no-untyped-def]
    whole = frame(values)
    other = whole.assign(flag=whole["flag"].astype(object), text=pd.Categorical(whole["text"]))
    assert list(row_hash(other[["text", "flag", "number"]])) == list(row_hash(whole))
    assert list(row_hash(whole.assign(flag=whole["flag"].astype(float)))) == list(row_hash(whole))


def test_equal_rows_have_equal_hashes_however_they_are_stored() -> None:
    zeros = pd.DataFrame({"a": [0.0, -0.0]})
    assert len(set(row_hash(zeros))) == 1
    missing = pd.DataFrame({"a": np.array([None, np.nan, "x"], dtype=object)})
    assert len(set(row_hash(missing))) == 2


def test_the_hash_is_the_same_on_every_machine_and_in_every_version() -> None:
    hashes = row_hash(frame([(1.5, "é", True), (float("nan"), None, False)]))
    assert hashes.tolist() == [7952216040457670012, 16631464965602947447]


# From tables that earlier versions have split: a model of theirs can still be compared.
PINNED = {
    "numbers and text": (
        "none",
        "a,b,c,d,y\n"
        + "".join(f"{i},{i / 4},{i % 3 == 0},{'uvw'[i % 3] if i % 5 else ''},{i % 7}\n" for i in range(40)),
        [0, 1, 5, 8, 10, 16, 20, 21, 26, 32, 39],
    ),
    "a key of two columns": (
        "who,site",
        "who,site,a,y\n" + "".join(f"{i % 11},s{i % 4},{i},{i % 7}\n" for i in range(40)),
        [2, 3, 5, 6, 7, 8, 15, 17, 20, 23, 26, 28, 29, 36, 38, 39],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("what", PINNED)
def test_the_test_rows_are_those_of_earlier_versions(what: str, form: str, tmp_path: Path) -> None:
    key, content, expected = PINNED[what]
    path = tmp_path / f"t.{form}"
    (tmp_path / "t.csv").write_text(content)
    if form == "parquet":
        pd.read_csv(tmp_path / "t.csv").to_parquet(path, index=False)
    read = load(path, key=key, test_fraction=0.3)
    assert read.test.numbers is not None
    assert read.test.numbers.tolist() == expected


PINNED_KEYS = {
    "integers": (pa.array([1, 2]), [9662483889795873173, 4543533558895144562]),
    "text": (pa.array(["a", "b"]), [5694802365760992243, 2797248057711234736]),
    "categories": (pa.array(["a", "b"]).dictionary_encode(), [5694802365760992243, 2797248057711234736]),
    "large text": (pa.array(["a", "b"], pa.large_string()), [5694802365760992243, 2797248057711234736]),
    "text of Polars": (pa.array(["a", "b"], pa.string_view()), [5694802365760992243, 2797248057711234736]),
    "booleans": (pa.array([True, False]), [9662483889795873173, 3430018387555]),
    "days": (pa.array([1, 2], pa.date32()), [38317613591482660, 5182442302212365298]),
    "moments": (pa.array([1, 2], pa.timestamp("ns")), [9190544879963298261, 2170735591363772739]),
    "durations": (pa.array([1, 2], pa.duration("s")), [18098558209962529629, 7482938550505964109]),
    "decimals": (pa.array([1, 2]).cast(pa.decimal128(21, 2)), [14681332540085695521, 15247691806382357626]),
}


@pytest.mark.parametrize("what", PINNED_KEYS)
def test_keys_of_any_type_hash_as_they_did_whatever_the_size_of_a_chunk(what: str) -> None:
    array, expected = PINNED_KEYS[what]
    for chunks in ([array], [array.slice(0, 1), array.slice(1, 1)]):
        values = split.key_values(pa.chunked_array(chunks), "k", "t")
        assert row_hash(pd.DataFrame({"k": values})).tolist() == expected


def test_keys_of_bytes_are_taken_and_nested_ones_and_gaps_refused_in_two_lines() -> None:
    values = split.key_values(pa.chunked_array([pa.array([b"\xff", b"a"])]), "k", "t")
    assert values.tolist() == ["ff", "61"]
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef"], pa.binary(16)))
    assert split.key_values(pa.chunked_array([uuids]), "k", "t").tolist() == [b"0123456789abcdef".hex()]
    for array in (pa.array([[1]]), pa.array([{"a": 1}]), pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64()))):
        with pytest.raises(UserError, match="the key 'k' of t is of type"):
            split.key_values(pa.chunked_array([array]), "k", "t")
    for array in (pa.array([1, None]), pa.array([1.0, float("nan")]), pa.array(["a", None])):
        with pytest.raises(UserError, match="the key 'k' of t is missing in row 2"):
            split.key_values(pa.chunked_array([array]), "k", "t")


def test_a_table_that_grew_keeps_its_test_rows() -> None:
    small, large = load("data/diabetes_350.csv", "progression"), load("data/diabetes.csv", "progression")
    assert small.test.numbers is not None
    assert large.test.numbers is not None
    assert small.test.numbers.tolist() == [row for row in large.test.numbers if row < 350]


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_the_stable_split_meets_the_fraction_on_average(fraction: float) -> None:
    values = np.random.default_rng(0).normal(size=(20_000, 2))
    chosen, remark = split.by_hash(row_hash(pd.DataFrame(values, columns=["a", "b"])), fraction)
    assert remark is None
    assert chosen.mean() == pytest.approx(fraction, abs=4 * (fraction * (1 - fraction) / 20_000) ** 0.5)


@settings(max_examples=25)
@given(
    members=st.lists(st.integers(0, 40), min_size=60, max_size=200),
    rule=st.sampled_from(["stable", "random"]),
    seed=st.integers(0, 9),
)
def test_all_rows_of_a_group_fall_on_one_side(members: list[int], rule: str, seed: int) -> None:
    groups = row_hash(pd.DataFrame({"patient": members}))
    if rule == "stable":
        in_test = split.by_hash(groups, 0.4)[0]
    elif len(set(members)) > 2:
        in_test = split.by_seed(len(members), groups, 0.4, seed)
    else:
        return
    who = np.array(members)
    assert set(who[in_test]).isdisjoint(who[~in_test])


def test_the_random_split_is_that_of_scikit_learn() -> None:
    from sklearn.model_selection import train_test_split

    _, expected = train_test_split(np.arange(50), test_size=0.2, random_state=7)
    assert sorted(expected) == np.flatnonzero(split.by_seed(50, None, 0.2, 7)).tolist()
    with pytest.raises(UserError, match="a random split of 1 groups is not possible"):
        split.by_seed(20, np.ones(20, dtype=np.uint64), 0.2, 0)


def test_few_rows_get_the_next_smallest_hashes_and_that_is_told() -> None:
    hashes = np.arange(1, 13, dtype=np.uint64) * np.uint64(2**60)  # from 1/16 to 12/16 of all
    chosen, remark = split.by_hash(hashes, 0.1)
    assert np.flatnonzero(chosen).tolist() == [0, 1]
    assert remark is not None
    assert "1 would be a test row; those with the smallest hashes are: 2 of 12" in remark.text
    chosen, remark = split.by_hash(hashes, 0.2)
    assert np.flatnonzero(chosen).tolist() == [0, 1, 2]
    assert remark is None
    assert not split.by_hash(hashes, 0.1, fill=False)[0][1]


@settings(max_examples=100)
@given(
    hashes=st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 9)), min_size=10, max_size=30),
    new=st.lists(st.integers(0, 2**64 - 1), max_size=30),
)
def test_no_row_ever_moves_from_training_to_test(hashes: list[int], new: list[int]) -> None:
    """Then a model is never measured on rows that an earlier one has trained on, however small its table was."""
    before = split.by_hash(np.array(hashes, dtype=np.uint64), 0.2)[0]
    after = split.by_hash(np.array([*hashes, *new], dtype=np.uint64), 0.2)[0]
    if before.sum() >= 2:  # else it is refused
        assert not (after[: len(hashes)] & ~before).any()


@pytest.mark.parametrize("n_rows", range(10, 21))
def test_small_tables_of_distinct_rows_train(n_rows: int, tmp_path: Path) -> None:
    for start in range(0, 100, 20):
        values = [start + number for number in range(n_rows)]
        read = load(csv(tmp_path / "t.csv", {"a": values, "y": [value**2 for value in values]}))
        assert min(len(read.test.target), len(read.training.target)) >= 2


def test_few_different_rows_are_refused_and_drawn_by_the_seed(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", {"sex": ["F"] * 40, "y": range(40)})
    with pytest.raises(
        UserError, match=r"the stable split .* leaves 0 test rows of 40 with 1 different values"
    ) as caught:
        load(path)
    assert caught.value.remedy == "give split=random"
    assert len(load(path, split="random").test.target) == 8


TIMES: dict[str, list[Any]] = {
    "dates": [f"2024-{month:02d}-01" for month in range(1, 11) for _ in range(4)],
    "years": [year for year in range(2001, 2011) for _ in range(4)],
    "German dates": [f"01.{month:02d}.2024" for month in range(1, 11) for _ in range(4)],
}


@pytest.mark.parametrize("what", TIMES)
def test_the_newest_rows_are_held_back_and_ties_stay_together(what: str, tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(40)
    when = np.array(TIMES[what], dtype=object)[order]
    path = csv(tmp_path / "t.csv", {"when": when, "a": order, "y": order % 7})
    read = load(path, split="time", time="when", test_fraction=0.15)
    assert read.test.numbers is not None
    newest = sorted(order[read.test.numbers].tolist())
    assert newest in ([*range(32, 40)], [*range(36, 40)])  # 6 were asked for, and four share a moment
    assert "when" in read.test.features  # it is known when a prediction is asked for
    without = load(path, split="time", time="when", columns="a", test_fraction=0.15)
    assert list(without.test.features) == ["a"]
    assert without.test.numbers is not None
    assert without.test.numbers.tolist() == read.test.numbers.tolist()


def test_times_that_cannot_split(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", {"t": ["", *range(39)], "same": [3] * 40, "s": ["u", "v"] * 20, "y": range(40)})
    for time, expected in {
        "t": "the time 't' of .* is missing in row 1",
        "same": "the time 'same' of .* has one value only",
        "s": "the time 's' of .* is text that is no date",
        "y": "'y' is given as target and as time",
        "u": "the time 'u' is not a column of",
    }.items():
        with pytest.raises(UserError, match=expected):
            load(path, split="time", time=time)


def test_groups_on_both_sides_of_a_moment_are_told(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", {"t": range(40), "who": [i % 4 for i in range(40)], "a": range(40), "y": range(40)})
    assert told(load(path, split="time", time="t", key="who"), "groups_on_both_sides")
    path = csv(tmp_path / "u.csv", {"t": range(40), "who": [i // 8 for i in range(40)], "a": range(40), "y": range(40)})
    assert not told(load(path, split="time", time="t", key="who"), "groups_on_both_sides")


def test_taking_rows_out_keeps_the_order_and_copies_only_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "BLOCK_ROWS", 7)
    values = np.arange(60.0).reshape(30, 2)
    chosen = np.arange(30) % 4 == 1
    expected = values[~chosen].tolist(), values[chosen].tolist()
    kept, taken = split.take_out(values, chosen)
    assert (kept.tolist(), taken.tolist()) == expected
    assert np.shares_memory(kept, values)
    text = Text(np.arange(30, dtype=np.int32), np.array(list("abcdefghijklmnopqrstuvwxyzABCD"), dtype=object))
    assert split.take_out(text, chosen)[1].objects().tolist() == list("bfjnrvzD")
    matrix = np.arange(60.0).reshape(20, 3)
    without = split.drop_columns(matrix, [1])
    assert without.tolist() == np.arange(60.0).reshape(20, 3)[:, [0, 2]].tolist()
    assert np.shares_memory(without, matrix)


def test_a_missing_number_hashes_alike_whatever_bits_stand_for_it() -> None:
    bits = np.array([0x7FF8000000000001, 0x7FF8000000000000, 0xFFF8000000000000], dtype=np.uint64)
    assert len(set(row_hash(pd.DataFrame({"x": bits.view(np.float64)})).tolist())) == 1
