"""Linear models from the means and covariances of a table, which take one pass and no copy.

Ridge and elastic net depend on a table of numbers through its second moments alone. So they are fitted on a handful of
rows that have the same moments, by scikit-learn's own pipeline, and the moments of cross-validation's folds add up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

# Rows that are turned into float64 at a time.
BLOCK_ROWS = 32_768

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
    """Whether the features have moments: numbers alone, and none is missing."""
    return all(kind.kind in "biuf" for kind in features.dtypes) and not any(
        np.isnan(block).any() for _, block in blocks(features)
    )


def blocks(features: pd.DataFrame) -> Iterator[tuple[slice, Floats]]:
    """Give the rows in float64, some at a time."""
    for start in range(0, len(features), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(features)))
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


def fit(model: Any, names: Sequence[Any], moments: Moments) -> Any:
    """Fit a pipeline of a linear model on a few rows that have these moments.

    The fitted pipeline is the one that all the rows would give, to rounding.

    Parameters
    ----------
    model : Pipeline
        From `estimators.make`, of ridge or elasticnet; fitted in place.
    names : sequence
        The features.
    moments : Moments

    Notes
    -----
    With the scatter matrix S = D V L V' D, where D scales its diagonal to 1, the rows m ± sqrt(c l_i) D v_i have the
    mean m and, for a suitable c, the covariance S / n.
    """
    size = np.sqrt(np.diag(moments.scatter))
    scale = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(moments.scatter / np.outer(scale, scale))
    n_rows = 2 * len(values)
    half = (np.sqrt(np.maximum(values, 0.0) * (n_rows / 2 / moments.rows)) * vectors).T * scale
    rows = np.concatenate([moments.means + half, moments.means - half])
    # elastic net's penalty is weighed against the mean of the squares, ridge's against their sum
    is_ridge = "l1_ratio" not in model.named_steps["estimator"].get_params()
    weights = {"estimator__sample_weight": np.full(n_rows, moments.rows / n_rows)} if is_ridge else {}
    return model.fit(pd.DataFrame(rows[:, :-1], columns=list(names)), rows[:, -1], **weights)
