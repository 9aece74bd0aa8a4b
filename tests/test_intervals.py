"""Prediction intervals: their width, and that they hold what they promise."""

import numpy as np
import pytest

from trainer import intervals


def test_the_half_width_is_the_conformal_quantile() -> None:
    residuals = np.array([-9.0, 1.0, 2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0])
    assert intervals.conformal_half_width(residuals, 0.9) == 9.0  # the 9th of 9
    assert intervals.conformal_half_width(residuals, 0.8) == 8.0
    assert intervals.conformal_half_width(residuals, 0.5) == 5.0
    assert intervals.conformal_half_width(np.append(residuals, 10.0), 0.9) == 10.0  # the new row counts, too


@pytest.mark.parametrize("residuals", [np.arange(8.0), np.empty(0), np.array([np.nan] * 20), np.array([np.inf] * 20)])
def test_too_few_or_impossible_residuals_have_no_interval(residuals: np.ndarray) -> None:
    assert intervals.conformal_half_width(residuals, 0.9) is None


def fit(features: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.linalg.solve(features.T @ features, features.T @ target)


def test_nine_of_ten_new_rows_lie_within_over_200_splits() -> None:
    generator = np.random.default_rng(11)
    coefficients = generator.normal(size=5)
    coverages = []
    for _ in range(200):
        features = generator.normal(size=(300, 5))
        # neither normal nor of one spread, so that nothing but exchangeability helps
        noise = generator.exponential(1.0, 300) * (1 + np.abs(features[:, 0]))
        target = features @ coefficients + noise
        rows, new = slice(0, 150), slice(150, 300)
        held_out = np.empty(150)
        for fold in range(5):
            own = np.arange(150) % 5 == fold
            held_out[own] = features[rows][own] @ fit(features[rows][~own], target[rows][~own])
        predicted = features[new] @ fit(features[rows], target[rows])
        found = intervals.measure(target[rows] - held_out, target[new] - predicted)
        assert found is not None
        assert found.rows == 150
        coverages.append(found.coverage)
    assert 0.88 < np.mean(coverages) < 0.92


def test_without_cross_validation_every_second_test_row_gives_the_width() -> None:
    test = np.array([1.0, 100.0] * 50)
    found = intervals.measure(np.empty(0), test)
    assert found is not None
    assert (found.half_width, found.coverage, found.rows) == (1.0, 0.0, 50)
    assert found.metrics == {"interval_half_width_90": 1.0, "coverage_90": 0.0}
    assert found.recorded == {"confidence": 0.9, "half_width": 1.0}


def test_a_handful_of_test_rows_has_no_interval() -> None:
    assert intervals.measure(np.empty(0), np.arange(5.0)) is None
    assert intervals.measure(np.arange(50.0), np.empty(0)) is None
