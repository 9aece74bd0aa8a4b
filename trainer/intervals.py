"""Prediction intervals: how far off a prediction may be, from how far off such predictions were."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.9

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A prediction plus and minus `half_width`, and the share of the test rows whose target lies within.

    Attributes
    ----------
    confidence : float
        The share of rows that it is to hold.
    half_width : float
        In the unit of the target.
    coverage : float
        Measured on `rows` rows that have no part in `half_width`.
    rows : int
    """

    confidence: float
    half_width: float
    coverage: float
    rows: int

    @property
    def metrics(self) -> dict[str, float]:
        """What a run logs of it."""
        percent = f"{self.confidence:.0%}".rstrip("%")
        return {f"interval_half_width_{percent}": self.half_width, f"coverage_{percent}": self.coverage}

    @property
    def recorded(self) -> dict[str, Any]:
        """What a model folder keeps of it."""
        return {"confidence": self.confidence, "half_width": self.half_width}


def measure(residuals: Floats, test_residuals: Floats, confidence: float = CONFIDENCE) -> Interval | None:
    """Return the interval of a model, and how it does on the test rows; None where there are too few rows for one.

    Parameters
    ----------
    residuals : ndarray of shape (n_train,)
        Target minus the prediction of the fold that held the row out. Empty without cross-validation: then every
        second test row gives the width, and the others say how it does.
    test_residuals : ndarray of shape (n_test,)
    confidence : float
    """
    calibrating, measuring = (
        (residuals, test_residuals) if len(residuals) else (test_residuals[::2], test_residuals[1::2])
    )
    half_width = conformal_half_width(calibrating, confidence)
    if half_width is None or not len(measuring):
        return None
    return Interval(confidence, half_width, float(np.mean(np.abs(measuring) <= half_width)), len(measuring))


def conformal_half_width(residuals: Floats, confidence: float = CONFIDENCE) -> float | None:
    """Return the half width of a split-conformal interval; None where there are too few residuals for it.

    It is the ``ceil((n + 1) * confidence)``-th smallest absolute residual: where rows are exchangeable, a new row
    lies within with at least this probability, whatever the distribution and the model.

    Parameters
    ----------
    residuals : ndarray of shape (n,)
        Of rows that the model, or the fold's model, has not been fitted on.
    confidence : float

    Notes
    -----
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005), chapter 2; Lei et al., Distribution-free
    predictive inference for regression, JASA 113 (2018). With the residuals of cross-validation it is a simplification
    of the cross-conformal CV+ of Barber et al., Predictive inference with the jackknife+, Annals of Statistics 49
    (2021): the final model is taken for each fold's. It has seen more rows than they, so that the interval is a little
    too wide rather than too narrow; the guarantee for any model whatever is CV+'s, 1 - 2 (1 - confidence).
    """
    rank = ceil((len(residuals) + 1) * confidence)
    if rank > len(residuals) or not np.isfinite(residuals).all():
        return None
    return float(np.partition(np.abs(residuals), rank - 1)[rank - 1])
