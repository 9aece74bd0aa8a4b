"""From the rows of a table to a model that has been measured: what a training run and a search share."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import bootstrap, evaluation, pipeline
from trainer.loading import Table
from trainer.settings import Settings

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """A fitted model, what the mean predictor says, and what was measured on the training rows."""

    model: Any
    baseline: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """A fitted model and how it does on the test rows.

    Attributes
    ----------
    predicted : ndarray of shape (n_test,)
    importance : DataFrame
        From `evaluation.importance`.
    """

    model: Any
    predicted: Floats
    metrics: dict[str, float]
    importance: pd.DataFrame


def cross_validate(settings: Settings, table: Table) -> dict[str, float]:
    """Cross-validate on the training rows."""
    rows = table.training
    model = pipeline.make(settings, table.columns)
    return evaluation.cross_validate(model, rows.features, rows.target, rows.groups, settings.cv, settings.seed)


def fit(settings: Settings, table: Table, folds: dict[str, float]) -> Fitted:
    """Fit on the training rows; `folds` is what `cross_validate` has measured on them."""
    rows = table.training
    model = pipeline.make(settings, table.columns)
    started = perf_counter()
    pipeline.fit(model, rows.features, rows.target)
    seconds = perf_counter() - started
    return Fitted(model, rows.target.mean(), folds | {"rows_train": len(rows.target), "fit_seconds": seconds})


def measure(settings: Settings, fitted: Fitted, table: Table) -> Outcome:
    """Measure on the test rows."""
    rows = table.test
    predicted = pipeline.predict(fitted.model, rows.features)
    measured = evaluation.metrics(rows.target, predicted, fitted.baseline)
    if interval := bootstrap.rmse_interval(rows.target, predicted, rows.groups, settings.seed):
        measured |= {"rmse_low": interval[0], "rmse_high": interval[1]}
    importance = evaluation.importance(fitted.model, rows.features, rows.target, settings.seed)
    return Outcome(fitted.model, predicted, measured | fitted.metrics | {"rows_test": len(rows.target)}, importance)
