"""Linear models from the means and covariances of a table, which take one pass and no copy.

Ridge, elastic net and their like depend on a table of numbers through its second moments alone. So they are fitted on a
handful of rows that have the same moments, by scikit-learn's own pipeline, and the moments of cross-validation's folds
add up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

# Rows that are handled at a time.
BLOCK_ROWS = 32_768
# Between these, moments are cheaper than the rows: their eigenvectors take the cube of the columns.
FEWEST_ROWS, MOST_COLUMNS = 10_000, 500
# Rows, evenly chosen, whose median is what a value that is missing at prediction becomes.
MEDIAN_ROWS = 100_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """The first and second moments of the features and, as the last column, the target.

    Attributes
    ----------
    rows : int
    means : ndarray of shape (n_features + 1,)
    scatter : ndarray of shape (n_features + 1, n_features + 1)
        Sums of products of the deviations from the means.
    """

    rows: int
    means: Floats
    scatter: Floats

    def __add__(self, other: "Moments") -> "Moments":
        """Give the moments of both sets of rows; Chan, Golub and LeVeque, The American Statistician 37 (1983)."""
        if not (self.rows and other.rows):
            return self if self.rows else other
        rows = self.rows + other.rows
        apart = other.means - self.means
        return Moments(
            rows,
            self.means + apart * (other.rows / rows),
            self.scatter + other.scatter + np.outer(apart, apart) * (self.rows * other.rows / rows),
        )


def have(features: pd.DataFrame) -> bool:
    """Whether the features have moments that are worth taking: many rows of numbers alone, and none is missing."""
    return (
        len(features) >= FEWEST_ROWS
        and features.shape[1] <= MOST_COLUMNS
        and all(kind.kind in "biuf" for kind in features.dtypes)
        and not any(np.isnan(block).any() for _, block in blocks(features))
    )


def slices(n_rows: int) -> Iterator[slice]:
    """Give the rows of a table, some at a time."""
    for start in range(0, n_rows, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, n_rows))


def blocks(features: pd.DataFrame) -> Iterator[tuple[slice, Floats]]:
    """Give the rows in float64, some at a time."""
    for rows in slices(len(features)):
        yield rows, features.iloc[rows].to_numpy(dtype=np.float64)


def take(
    features: pd.DataFrame, target: Floats, codes: npt.NDArray[np.intp] | None = None, n_codes: int = 1
) -> list[Moments]:
    """Take the moments of the rows of each code.

    Parameters
    ----------
    features : DataFrame of shape (n_rows, n_features)
        For which `have` holds.
    target : ndarray of shape (n_rows,)
    codes : ndarray of shape (n_rows,), or None
        From 0 to ``n_codes - 1``, say the fold of each row; all in one by default.
    n_codes : int

    Returns
    -------
    list of Moments
        By code.
    """
    width = features.shape[1] + 1
    totals = [Moments(0, np.zeros(width), np.zeros((width, width))) for _ in range(n_codes)]
    for rows, block in blocks(features):
        both = np.column_stack([block, target[rows]])
        for code in range(n_codes):
            own = both if codes is None else both[codes[rows] == code]
            if len(own):
                means = own.mean(axis=0)
                own = own - means
                totals[code] += Moments(len(own), means, own.T @ own)
    return totals


def medians(features: pd.DataFrame) -> Floats:
    """Return the median of each feature, over at most `MEDIAN_ROWS` rows."""
    step = -(-len(features) // MEDIAN_ROWS)
    return np.asarray(np.median(features.iloc[::step].to_numpy(dtype=np.float64), axis=0), dtype=np.float64)


def fit(model: Any, features: pd.DataFrame, moments: Moments) -> Any:
    """Fit a pipeline of a linear model on a few rows that have these moments.

    The fitted pipeline is the one that all the rows would give, to rounding.

    Parameters
    ----------
    model : Pipeline
        From `pipeline.make`, of a linear model; fitted in place.
    features : DataFrame of shape (n_rows, n_features)
        It names the features, and says what a missing value becomes; the model is that of the moments.
    moments : Moments

    Notes
    -----
    With the scatter matrix S = D V L V' D, where D scales its diagonal to 1, the rows m ± sqrt(c l_i) D v_i have the
    mean m and, for a suitable c, the covariance S / n. They are weighted as if they were as many as the rows that they
    stand for: that is what a penalty which is added to the sum of the squares, as ridge's, is weighed against. A model
    whose penalty is added to their mean, as elastic net's, looks at the ratios of the weights alone.
    """
    size = np.sqrt(np.diag(moments.scatter))
    scale = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(moments.scatter / np.outer(scale, scale))
    n_rows = 2 * len(values)
    half = (np.sqrt(np.maximum(values, 0.0) * (n_rows / 2 / moments.rows)) * vectors).T * scale
    rows = np.concatenate([moments.means + half, moments.means - half])
    weights = np.full(n_rows, moments.rows / n_rows)
    model.fit(pd.DataFrame(rows[:, :-1], columns=features.columns), rows[:, -1], estimator__sample_weight=weights)
    middle = medians(features)
    for _, step, places in model.named_steps["columns"].transformers_:
        step.named_steps["imputer"].statistics_ = np.atleast_1d(middle[places])
    return model


def cross_validate(
    model: Any, features: pd.DataFrame, target: Floats, held_out: list[npt.NDArray[np.intp]]
) -> Iterator[tuple[npt.NDArray[np.intp], Floats]]:
    """Fit a pipeline of a linear model for each fold, and give the rows that it held out and what it predicts for them.

    However many folds there are, each row is read three times.

    Parameters
    ----------
    model : Pipeline
        As for `fit`; it is cloned for each fold.
    features : DataFrame of shape (n_rows, n_features)
        For which `have` holds.
    target : ndarray of shape (n_rows,)
    held_out : list of ndarray
        The rows that each fold holds out.
    """
    from sklearn.base import clone

    codes = np.empty(len(target), dtype=np.intp)
    for fold, own_rows in enumerate(held_out):
        codes[own_rows] = fold
    parts = take(features, target, codes, len(held_out))
    nothing = Moments(0, parts[0].means, parts[0].scatter)
    fitted = [fit(clone(model), features, sum((part for part in parts if part is not own), nothing)) for own in parts]
    predicted = np.empty(len(target))
    for rows, block in blocks(features):
        for fold, one in enumerate(fitted):
            own = codes[rows] == fold
            if own.any():
                predicted[rows][own] = one.predict(pd.DataFrame(block[own], columns=features.columns, copy=False))
    for own_rows in held_out:
        yield own_rows, predicted[own_rows]
