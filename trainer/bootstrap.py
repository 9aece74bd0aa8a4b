"""Intervals of what is measured on test rows, by drawing rows, or whole groups of them, again.

Percentile intervals; see `scipy.stats.bootstrap`, and Efron and Tibshirani, An Introduction to the Bootstrap (1993),
chapters 8 and 13.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
RESAMPLES = 9_999
# Above this many rows or groups, they are summed in as many blocks: the interval stays, its cost does not grow.
MOST_UNITS = 2_000

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
    from scipy.stats import bootstrap

    def of_totals(*rows: Floats, axis: int = -1) -> Floats:
        return statistic(*(row.sum(axis=axis) for row in rows))

    found = bootstrap(
        tuple(summed),
        of_totals,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // summed.shape[1]),
        paired=True,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)
