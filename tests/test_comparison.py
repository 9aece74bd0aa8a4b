"""Two models on the same rows: what a gain is worth, and which pairs cannot be compared."""

from typing import Any

import numpy as np
import pytest

from trainer.bootstrap import MOST_UNITS
from trainer.comparison import Gain, Verdict, incomparable, judge, measure

TAGS = {"target": "y", "split": "stable", "test_fraction": "0.2", "key": "none"}


def predictions(n: int, shared: float, champion_noise: float, challenger_noise: float, rng: Any) -> list[Any]:
    """Draw a target, and two models' predictions whose errors have a part in common."""
    actual = rng.normal(size=n)
    common = shared * rng.normal(size=n)
    return [actual, *(actual + common + noise * rng.normal(size=n) for noise in (champion_noise, challenger_noise))]


def test_a_gain_is_measured_on_the_rows_given() -> None:
    actual = np.zeros(40)
    gain = measure(actual, actual + 3.0, actual + 2.0, None, 0)
    assert (gain.rows, gain.units) == (40, 40)
    assert (gain.champion_rmse, gain.challenger_rmse, gain.rmse) == (3.0, 2.0, 1.0)
    assert (gain.low, gain.high) == (1.0, 1.0)
    assert gain.metrics == {"champion_rmse": 3.0, "gain_rmse": 1.0, "gain_low": 1.0, "gain_high": 1.0}


def test_the_interval_decides_as_that_of_the_squared_errors_does() -> None:
    from scipy.stats import bootstrap

    for seed in range(8):
        actual, theirs, ours = predictions(60, 0.5, 1.0, 0.8, np.random.default_rng(seed))
        gain = measure(actual, theirs, ours, None, 0)
        paired = (actual - theirs) ** 2 - (actual - ours) ** 2
        squared = bootstrap((paired,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
        assert (gain.low > 0) == (squared.low > 0)
        assert (gain.high < 0) == (squared.high < 0)


def test_the_same_predictions_are_a_tie() -> None:
    actual = np.random.default_rng(0).normal(size=50)
    gain = measure(actual, actual + 1, actual + 1, None, 0)
    assert (gain.rmse, gain.low, gain.high, gain.is_proven) == (0.0, 0.0, 0.0, False)


def test_models_without_a_real_difference_are_rarely_promoted() -> None:
    rng = np.random.default_rng(1)
    promoted = sum(measure(*predictions(90, 1.0, 0.5, 0.5, rng), None, seed).is_proven for seed in range(200))
    # 200 trials at 5 %: more than 18 come up in one of 100 such simulations
    assert promoted <= 18


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(2)
    found = [measure(*predictions(90, 1.0, 1.0, 0.5, rng), None, 0).is_proven for _ in range(20)]
    assert sum(found) >= 15


def test_rows_of_one_group_are_not_counted_twice() -> None:
    actual, theirs, ours = predictions(40, 0.5, 1.0, 0.9, np.random.default_rng(3))
    alone = measure(actual, theirs, ours, None, 0)
    copies = measure(np.tile(actual, 20), np.tile(theirs, 20), np.tile(ours, 20), np.tile(np.arange(40), 20), 0)
    naive = measure(np.tile(actual, 20), np.tile(theirs, 20), np.tile(ours, 20), None, 0)
    assert copies.units == 40
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert naive.high - naive.low < 0.4 * (alone.high - alone.low)


def test_very_many_rows_cost_no_more_and_say_the_same() -> None:
    actual, theirs, ours = predictions(50_000, 0.5, 1.0, 0.99, np.random.default_rng(4))
    gain = measure(actual, theirs, ours, None, 0)
    assert gain.units == MOST_UNITS
    squared = (actual - theirs) ** 2 - (actual - ours) ** 2
    rmse_per_mse = 1 / (gain.champion_rmse + gain.challenger_rmse)
    expected = 2 * 1.96 * squared.std() / 50_000**0.5 * rmse_per_mse
    assert gain.high - gain.low == pytest.approx(expected, rel=0.1)


def test_a_few_rows_prove_nothing() -> None:
    actual = np.zeros(5)
    gain = measure(actual, actual + 3.0, actual + 2.0, None, 0)
    assert gain.low > 0
    assert not gain.is_proven
    assert "too few rows to tell (5; 30 are needed)" in judge("2", "1", gain).sentence


KINDS = {"a": "number", "b": "text"}


@pytest.mark.parametrize(
    ("changed", "kinds", "reason"),
    [
        ({}, KINDS, ""),
        ({"target": "z"}, KINDS, "its target is z, and here it is y"),
        ({"split": "random"}, KINDS, "its split is random"),
        ({"test_fraction": "0.3"}, KINDS, "its test_fraction is 0.3"),
        ({"test_fraction": "0.20"}, KINDS, ""),
        ({"key": "patient"}, KINDS, "its key is patient"),
        ({"test_fraction": "unknown"}, KINDS, "its test_fraction is unknown"),
        ({}, KINDS | {"c": "number"}, "it needs the feature c"),
        ({}, {"a": "number"}, "it does not know the feature b"),
        ({}, KINDS | {"a": "integer"}, ""),
        ({}, KINDS | {"a": "boolean"}, ""),
        ({}, KINDS | {"a": "text"}, "its feature a is text, and here it is number"),
        ({}, KINDS | {"b": "integer"}, "its feature b is integer, and here it is text"),
        ({}, KINDS | {"a": "datetime"}, "its feature a is datetime, and here it is number"),
    ],
)
def test_what_cannot_be_compared_fairly(changed: dict[str, str], kinds: dict[str, str], reason: str) -> None:
    told = incomparable(TAGS, TAGS | changed, KINDS, kinds)
    assert told.startswith(reason)
    assert bool(told) == bool(reason)


def test_a_key_is_a_set_of_columns() -> None:
    assert incomparable(TAGS | {"key": "a,b"}, TAGS | {"key": "b,a"}, {}, {}) == ""
    assert incomparable(TAGS | {"key": "a,b"}, TAGS | {"key": "b"}, {}, {}) == "its key is b, and here it is a,b"


def test_with_a_key_a_new_feature_changes_no_side() -> None:
    keyed = TAGS | {"key": "patient"}
    assert incomparable(keyed, keyed, KINDS, {"a": "number"}) == ""
    random = TAGS | {"split": "random"}
    assert "it may have trained on the test rows" in incomparable(random, random, KINDS, KINDS)


def test_a_split_by_time_is_comparable_where_the_champion_has_seen_no_test_row() -> None:
    timed = {"target": "y", "split": "time", "time": "day", "key": "none", "test_fraction": "0.2"}
    older, newer = ({"time_cut": cut} for cut in ("2024-01-01T00:00:00", "2024-06-01T00:00:00"))
    assert incomparable(timed | newer, timed | older, KINDS, KINDS) == ""
    assert incomparable(timed | newer, timed | newer | {"test_fraction": "0.3"}, KINDS, KINDS) == ""
    assert "it has trained on rows up to 2024-06-01" in incomparable(timed | older, timed | newer, KINDS, KINDS)
    assert "a time that is not known" in incomparable(timed | newer, timed, KINDS, KINDS)
    assert incomparable(timed | {"time_cut": "10.0"}, timed | {"time_cut": "9.5"}, KINDS, KINDS) == ""
    assert "its time is week" in incomparable(timed | newer, timed | older | {"time": "week"}, KINDS, KINDS)


def test_a_verdict_says_what_a_gain_means() -> None:
    def verdict(low: float, high: float, champion: float = 5.0, challenger: float = 4.0, units: int = 40) -> Verdict:
        return judge("2", "1", Gain(units, champion, challenger, low, high, units))

    better = verdict(0.5, 1.5)
    assert better.promoted
    assert "version 2 is better than version 1: rmse 4.0000 against 5.0000" in better.sentence
    assert "1.0000 better" in better.sentence
    worse = verdict(-1.5, -0.5, champion=4.0, challenger=5.0)
    assert not worse.promoted
    assert "version 2 is worse than version 1, which stays" in worse.sentence
    assert "1.0000 worse" in worse.sentence
    assert "a tie: version 1 stays" in verdict(-0.5, 2.5).sentence
    few = verdict(0.5, 1.5, units=29)
    assert not few.promoted
    assert "too few rows to tell (29; 30 are needed)" in few.sentence
    same = verdict(0.0, 0.0, champion=4.0)
    assert same.sentence == "version 2 predicts the same as version 1, which stays"
