"""Intervals of what is measured on test rows, by drawing rows, or whole groups of them, again.

Percentile intervals; see `scipy.stats.bootstrap`, and Efron and Tibshirani, An Introduction to the Bootstrap (1993),
chapters 8 and 13. They are those of `scipy.stats.bootstrap` to rounding: the same generator draws the same rows, and
only the sums are taken otherwise, a few draws at a time, so that they stay in the processor's cache.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
RESAMPLES = 9_999
# Above this many rows or groups, they are summed in as many blocks: the interval stays, its cost does not grow.
MOST_UNITS = 2_000
# Values that are drawn at a time.
BATCH_VALUES = 100_000

Floats = npt.NDArray[np.float64]


def sums(values: Floats, groups: npt.NDArray[Any] | None, seed: int) -> Floats:
    """Sum rows of values over what is drawn as one: rows, groups, or blocks of either where there are very many.

    Parameters
    ----------
    values : ndarray of shape (n_values, n_rows)
    groups : ndarray of shape (n_rows,) or None
        Which group a row belongs to; None where each row stands for itself.
    seed : int
        Of the blocks.

    Returns
    -------
    ndarray of shape (n_values + 1, n_units)
        The last row is the number of rows of each unit.
    """
    n_rows = values.shape[1]
    codes = np.arange(n_rows) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(codes.max()) + 1
    if count > MOST_UNITS:
        codes = (np.random.default_rng(seed).permutation(count) % MOST_UNITS)[codes]
    return np.stack([np.bincount(codes, weights=row) for row in (*values, np.ones(n_rows))])


def interval(summed: Floats, statistic: Callable[..., Floats], seed: int) -> tuple[float, float]:
    """Return the percentile interval, at `CONFIDENCE`, of a statistic of summed values.

    Parameters
    ----------
    summed : ndarray of shape (n_values + 1, n_units)
        From `sums`, of at least two units.
    statistic : callable
        Takes the total of each row of `summed`, over one or many draws, and returns the statistic of each draw.
    seed : int
    """
    n_units = summed.shape[1]
    rng = np.random.default_rng(seed)
    step = max(1, BATCH_VALUES // n_units)
    totals = np.empty((len(summed), RESAMPLES))
    varies = [row.min() < row.max() for row in summed]
    for start in range(0, RESAMPLES, step):
        end = min(start + step, RESAMPLES)
        drawn = rng.integers(0, n_units, (end - start, n_units))
        for total, row, various in zip(totals, summed, varies, strict=True):
            total[start:end] = row.take(drawn).sum(axis=1) if various else n_units * row[0]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(*totals), [tail, 1 - tail])
    return float(low), float(high)


def rmse_interval(
    actual: Floats, predicted: Floats, groups: npt.NDArray[Any] | None, seed: int
) -> tuple[float, float] | None:
    """Return the interval of an RMSE, in the target's unit; None where there is one row, or one group, alone."""
    errors = actual - predicted
    scale = float(np.abs(errors).max(initial=0.0))
    if scale == 0:
        return 0.0, 0.0
    summed = sums((errors / scale)[np.newaxis] ** 2, groups, seed)
    if summed.shape[1] < 2:
        return None
    low, high = interval(summed, lambda squares, rows: np.sqrt(squares / rows), seed)
    return low * scale, high * scale
