"""The types of the features, and the split: stable while the table grows, and fair to entities."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer import files, table
from trainer.errors import UserError
from trainer.hashing import is_number, row_hash

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


def test_columns_keep_the_type_that_a_caller_will_send_again(tmp_path: Path) -> None:
    lines = [
        f"{i},{i / 2},{'' if i == 3 else i},{i % 2 == 0},{'' if i == 5 else i % 2 == 0},{'xyz'[i % 3]},{i}"
        for i in range(12)
    ]
    (tmp_path / "t.csv").write_text("int,float,gapped,flag,gapped_flag,text,y\n" + "\n".join(lines))
    features = table.read(str(tmp_path / "t.csv"), "y").features
    assert {name: str(kind) for name, kind in features.dtypes.items()} == {
        "int": "int64",
        "float": "float64",
        "gapped": "float64",
        "flag": "bool",
        "gapped_flag": "object",
        "text": "object",
    }
    assert [name for name, column in features.items() if is_number(column)] == [
        *("int", "float", "gapped", "flag", "gapped_flag")
    ]


@given(old=rows, new=rows, order=st.randoms(use_true_random=False))
def test_a_row_keeps_its_hash_when_the_table_grows_and_is_reordered(old, new, order) -> None:  # type: ignore[no-untyped-def]
    before = row_hash(frame(old))
    grown = old + new
    places = list(range(len(grown)))
    order.shuffle(places)
    after = row_hash(frame([grown[i] for i in places]))
    assert [after[places.index(i)] for i in range(len(old))] == list(before)


@given(values=st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=20))
def test_a_row_keeps_its_hash_when_an_integer_column_turns_into_floats(values: list[int]) -> None:
    integers = row_hash(pd.DataFrame({"a": np.array(values, dtype=np.int64)}))
    with_a_gap = row_hash(pd.DataFrame({"a": np.array([*values, np.nan], dtype=np.float64)}))
    assert list(with_a_gap[:-1]) == list(integers)


@given(values=rows)
def test_a_row_keeps_its_hash_when_a_flag_gets_a_gap_and_columns_change_places(values) -> None:  # type: ignore[no-untyped-def]
    whole = frame(values)
    gapped = whole.assign(flag=whole["flag"].astype(object))[["text", "flag", "number"]]
    assert list(row_hash(gapped)) == list(row_hash(whole))


def test_equal_rows_have_equal_hashes_however_they_are_stored() -> None:
    zeros = pd.DataFrame({"a": [0.0, -0.0]})
    assert len(set(row_hash(zeros))) == 1
    missing = pd.DataFrame({"a": np.array([None, np.nan, "x"], dtype=object)})
    assert len(set(row_hash(missing))) == 2


def test_the_hash_is_the_same_on_every_machine_and_in_every_version() -> None:
    hashes = row_hash(frame([(1.5, "é", True), (float("nan"), None, False)]))
    assert hashes.tolist() == [7952216040457670012, 16631464965602947447]


def test_a_table_that_grew_keeps_its_test_rows() -> None:
    small, large = (
        table.read("data/diabetes_350.csv", "progression"),
        table.read("data/diabetes.csv", "progression"),
    )
    before, after = table.split(small, "stable", 0.2, 0), table.split(large, "stable", 0.2, 0)
    assert list(before.test) == [row for row in after.test if row < 350]
    assert set(before.train).isdisjoint(after.test)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_the_stable_split_meets_the_fraction_on_average(fraction: float) -> None:
    values = np.random.default_rng(0).normal(size=(20_000, 2))
    big = make(pd.DataFrame(values, columns=["a", "b"]))
    share = len(table.split(big, "stable", fraction, 0).test) / 20_000
    assert share == pytest.approx(fraction, abs=4 * (fraction * (1 - fraction) / 20_000) ** 0.5)


def make(features: pd.DataFrame, keys: pd.DataFrame | None = None) -> table.Table:
    return table.Table(features, np.arange(len(features), dtype=np.float64), keys, files.Source("t.csv", "", 0))


@settings(max_examples=25)
@given(
    members=st.lists(st.integers(0, 40), min_size=60, max_size=200),
    rule=st.sampled_from(table.SPLITS),
    seed=st.integers(0, 9),
)
def test_all_rows_of_an_entity_fall_on_one_side(members: list[int], rule: str, seed: int) -> None:
    data = make(pd.DataFrame({"a": np.arange(len(members))}), pd.DataFrame({"patient": members}))
    try:
        sides = table.split(data, rule, 0.4, seed)
    except UserError as error:
        assert "leaves" in error.cause or "not possible" in error.cause  # noqa: PT017 - a few entities may all fall on one side
        return
    who = np.array(members)
    assert set(who[sides.train]).isdisjoint(who[sides.test])
    assert sorted([*sides.train, *sides.test]) == list(range(len(members)))


def test_the_random_split_is_that_of_scikit_learn() -> None:
    from sklearn.model_selection import train_test_split

    data = make(pd.DataFrame({"a": np.arange(50)}))
    _, expected = train_test_split(np.arange(50), test_size=0.2, random_state=7)
    assert sorted(expected) == list(table.split(data, "random", 0.2, 7).test)


def test_a_split_that_leaves_one_side_without_rows_is_refused() -> None:
    same = make(pd.DataFrame({"a": np.ones(20)}))
    with pytest.raises(UserError, match=r"the stable split .* leaves 0 (test|training) rows of 20"):
        table.split(same, "stable", 0.2, 0)
    with pytest.raises(UserError, match="a random split of 1 entities is not possible"):
        table.split(make(same.features, pd.DataFrame({"k": np.ones(20)})), "random", 0.2, 0)
