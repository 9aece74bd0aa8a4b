"""What is recorded of a training table, and what a new table is found to be like."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import models
from tests.tables import csv, load
from trainer import profile
from trainer.table import Column


def recorded() -> dict[str, profile.Profile]:
    frame, columns = models.table()
    return profile.read(json.loads(json.dumps(profile.take(columns, frame, "y"), allow_nan=False)))


def look(name: str, values: object) -> profile.Seen:
    seen = profile.Seen(recorded()[name])
    seen.add(pd.Series(values))
    return seen


def test_the_order_of_day_and_month_is_recorded_where_dates_could_have_another(tmp_path: Path) -> None:
    days = [(1 + n % 28, 1 + n % 12) for n in range(60)]
    us, de, iso = (
        [form.format(day, month) for day, month in days]
        for form in ("{1}/{0}/2024", "{0}.{1}.2024", "2024-{1:02}-{0:02}")
    )
    read = load(
        csv(tmp_path / "t.csv", {"a": range(60), "us": us, "de": de, "iso": iso, "y": range(60)}), split="random"
    )
    taken = profile.read(profile.take(read.columns, read.training.features, "y"))
    assert {name: one.order for name, one in taken.items()} == {"a": "", "us": "%m/%d/%Y", "de": "%d.%m.%Y", "iso": ""}


def test_every_kind_is_recorded_with_shares_that_add_up() -> None:
    frame, columns = models.table()
    found = recorded()
    assert [one.kind for one in found.values()] == [column.kind for column in columns]
    for name, one in found.items():
        assert sum(one.shares) == pytest.approx(1)
        assert one.shares[-1] == pytest.approx(frame[name].isna().mean())
    assert (found["visits"].low, found["visits"].high) == (0.0, 8.0)
    assert sorted(found["city"].categories) == ["Lima", "Oslo", "Rome"]
    assert found["since"].low == frame["since"].min().timestamp() * 1e6


def test_the_range_is_that_of_all_rows_where_it_is_known() -> None:
    columns = [Column("x", "number", 0, -5.0, 900.0)]
    taken = profile.take(columns, pd.DataFrame({"x": np.arange(20.0)}), "y")
    assert (taken["columns"][0]["low"], taken["columns"][0]["high"]) == (-5.0, 900.0)


def test_a_column_without_a_value_is_recorded_as_such() -> None:
    taken = profile.take([Column("x", "number", 20)], pd.DataFrame({"x": np.full(20, np.nan)}), "y")
    seen = profile.Seen(profile.read(taken)["x"])
    assert not seen.add(pd.Series([1.0, np.nan])).any()
    assert (seen.missing, seen.outside) == (1, 0)


def test_missing_unseen_and_outside_are_counted_and_their_rows_are_named() -> None:
    numbers = profile.Seen(recorded()["visits"])
    assert numbers.add(pd.Series([3.0, np.nan, 9.0, -1.0, 8.0])).tolist() == [False, False, True, True, False]
    assert (numbers.rows, numbers.missing, numbers.outside) == (5, 1, 2)
    texts = profile.Seen(recorded()["city"])
    assert texts.add(pd.Series(["Rome", np.nan, "Bonn"], dtype=object)).tolist() == [False, False, True]
    assert (texts.missing, texts.unseen) == (1, 1)
    dates = look("since", pd.to_datetime(["2024-02-01", None, "2031-01-01"]).astype("datetime64[us]"))
    assert (dates.missing, dates.outside) == (1, 1)


def test_of_too_many_categories_nobody_says_which_are_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "CATEGORIES", 5)
    one = recorded()["street"]
    assert (one.complete, len(one.categories)) == (False, profile.FREQUENT)
    seen = profile.Seen(one)
    seen.add(pd.Series(["never seen"], dtype=object))
    assert seen.unseen == 0


def test_a_table_like_training_is_not_told_and_one_unlike_it_is() -> None:
    frame, columns = models.table()
    profiles = recorded()

    def told(new: pd.DataFrame) -> dict[str, float]:
        seen = [profile.Seen(profiles[column.name]) for column in columns]
        for start in range(0, len(new), 50):
            for one in seen:
                one.add(new[one.profile.name].iloc[start : start + 50])
        return profile.unlike(seen, models.ROWS)

    assert told(frame) == {}
    assert told(frame.iloc[:3]) == {}  # too few rows to tell
    assert list(told(frame.assign(size=frame["size"] + 15))) == ["size"]
    assert set(told(frame.assign(city="Bonn", smoker=np.nan))) == {"city", "smoker"}


def test_large_tables_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "SAMPLED_ROWS", 10)
    one = recorded()["size"]
    assert sum(one.shares) == pytest.approx(1)
    assert len(one.edges) <= profile.BINS
