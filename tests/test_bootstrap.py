"""Intervals of what is measured on test rows: those of scipy, and what they promise."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trainer import bootstrap


def _rmse(squares: Any, rows: Any) -> Any:
    return np.sqrt(squares / rows)


def _difference(one: Any, other: Any, rows: Any) -> Any:
    return np.sqrt(one / rows) - np.sqrt(other / rows)


def _of_scipy(summed: npt.NDArray[np.float64], statistic: Any, seed: int) -> tuple[float, float]:
    from scipy.stats import bootstrap as theirs

    found = theirs(
        tuple(summed),
        lambda *rows, axis=-1: statistic(*(row.sum(axis=axis) for row in rows)),
        n_resamples=bootstrap.RESAMPLES,
        paired=True,
        vectorized=True,
        confidence_level=bootstrap.CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


@pytest.mark.parametrize("n_rows", [2, 31, 92, 700])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_is_that_of_scipy(n_rows: int, grouped: bool) -> None:
    rng = np.random.default_rng(n_rows)
    values = rng.gamma(1, 3, (2, n_rows))
    groups = np.arange(n_rows) // 3 if grouped and n_rows > 6 else None
    summed = bootstrap.sums(values, groups, seed=0)
    assert bootstrap.interval(summed, _difference, 5) == pytest.approx(_of_scipy(summed, _difference, 5), rel=1e-9)


def test_the_size_of_a_batch_changes_no_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    summed = bootstrap.sums(np.random.default_rng(1).gamma(1, 3, (1, 50)), None, seed=0)
    whole = bootstrap.interval(summed, _rmse, 3)
    monkeypatch.setattr(bootstrap, "BATCH_VALUES", 777)
    assert bootstrap.interval(summed, _rmse, 3) == whole


def test_the_interval_covers_the_true_rmse_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        errors = rng.normal(0, 2, 150)
        found = bootstrap.rmse_interval(errors, np.zeros(150), None, seed)
        assert found is not None
        covered += found[0] <= 2 <= found[1]
    assert 88 <= covered <= 99


def test_rows_of_a_group_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 15)
    errors = np.repeat(rng.normal(0, 1, 20), 15)
    alone = bootstrap.rmse_interval(errors, np.zeros(300), None, 0)
    together = bootstrap.rmse_interval(errors, np.zeros(300), groups, 0)
    assert alone is not None
    assert together is not None
    assert together[1] - together[0] > 2.5 * (alone[1] - alone[0])  # sqrt(15) is 3.9


def test_very_many_rows_are_drawn_in_blocks_and_the_interval_stays() -> None:
    errors = np.random.default_rng(0).normal(0, 1, 100_000)
    found = bootstrap.rmse_interval(errors, np.zeros(100_000), None, 0)
    assert found is not None
    assert bootstrap.sums(errors[np.newaxis], None, 0).shape == (2, bootstrap.MOST_UNITS)
    width = 2 * 1.96 * np.sqrt(1 / (2 * 100_000))
    assert found[1] - found[0] == pytest.approx(width, rel=0.1)


def test_what_cannot_be_drawn_has_no_interval() -> None:
    assert bootstrap.rmse_interval(np.array([1.0]), np.array([2.0]), None, 0) is None
    assert bootstrap.rmse_interval(np.arange(9.0), np.zeros(9), np.zeros(9), 0) is None
    assert bootstrap.rmse_interval(np.arange(9.0), np.arange(9.0), None, 0) == (0.0, 0.0)


def test_huge_errors_do_not_overflow() -> None:
    errors = np.random.default_rng(0).normal(0, 1, 60)
    one = bootstrap.rmse_interval(errors, np.zeros(60), None, 0)
    huge = bootstrap.rmse_interval(errors * 1e300, np.zeros(60), None, 0)
    assert one is not None
    assert huge == pytest.approx((one[0] * 1e300, one[1] * 1e300))
