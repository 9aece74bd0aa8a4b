"""From the rows of a table to a model that has been measured: what a training run and a search share."""

import sys
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import bootstrap, distributed, evaluation, intervals, pipeline
from trainer.errors import UserError
from trainer.estimators import ESTIMATORS
from trainer.evaluation import Folds
from trainer.group import ALONE, Group
from trainer.progress import progress
from trainer.settings import Settings
from trainer.table import Table

Floats = npt.NDArray[np.float64]

# The range of float32, in which forests and xgboost compute.
LARGEST = 1e38


@dataclass(frozen=True)
class Fitted:
    """A fitted model, what the mean predictor says, and what was measured on the training rows."""

    model: Any
    baseline: float
    metrics: dict[str, float]
    folds: Folds


@dataclass(frozen=True)
class Outcome:
    """A fitted model and how it does on the test rows.

    Attributes
    ----------
    predicted : ndarray of shape (n_test,)
    importance : DataFrame
        From `evaluation.importance`.
    folds : Folds
    interval : Interval or None
        Of its predictions; None where there are too few rows for one.
    """

    model: Any
    predicted: Floats
    metrics: dict[str, float]
    importance: pd.DataFrame
    folds: Folds
    interval: intervals.Interval | None = None


def learn(settings: Settings, table: Table, group: Group = ALONE) -> Outcome:
    """Cross-validate, fit, and measure on the test rows; of several processes each does its part."""
    folds = cross_validate(settings, table)
    return measure(settings, fit(settings, table, folds), table, group)


def cross_validate(settings: Settings, table: Table) -> Folds:
    """Cross-validate on the training rows."""
    _check_sizes(table, settings.target)
    rows, estimator = table.training, ESTIMATORS[settings.estimator]
    model = pipeline.make(settings, estimator, table.columns, rows.features)
    return evaluation.cross_validate(
        estimator, model, rows.features, rows.target, rows.groups, settings.cv, settings.seed
    )


def fit(settings: Settings, table: Table, folds: Folds) -> Fitted:
    """Fit on the training rows; `folds` is what `cross_validate` has measured on them."""
    rows, estimator = table.training, ESTIMATORS[settings.estimator]
    started = perf_counter()
    with progress("fit"):
        model = pipeline.make(settings, estimator, table.columns, rows.features)
        pipeline.fit(estimator, model, rows.features, rows.target, rows.groups)
    seconds = perf_counter() - started
    measured = folds.metrics | {"rows_train": len(rows.target), "fit_seconds": seconds}
    return Fitted(model, rows.target.mean(), measured, folds)


def measure(settings: Settings, fitted: Fitted, table: Table, group: Group = ALONE) -> Outcome:
    """Measure on the test rows; of several processes the metrics are of all rows, the rest of this one's."""
    rows = table.test
    predicted = pipeline.predict(fitted.model, rows.features)
    counted: dict[str, float] = {"rows_test": len(rows.target)}
    if group.world_size > 1:
        own = f"{len(table.training.target)} training + {len(rows.target)} test rows"
        print(f"process {group.rank} of {group.world_size}: {own} of {table.n_rows}", file=sys.stderr)
        measured = distributed.metrics(group, rows.target, predicted, table.training.target)
        counted = {name: measured[name] for name in ("rows_train", "rows_test")}
    else:
        measured = evaluation.metrics(rows.target, predicted, fitted.baseline)
    if bounds := bootstrap.rmse_interval(rows.target, predicted, rows.groups, settings.seed):
        measured |= {"rmse_low": bounds[0], "rmse_high": bounds[1]}
    interval = intervals.measure(fitted.folds.residuals, rows.target - predicted)
    measured |= interval.metrics if interval else {}
    importance = evaluation.importance(fitted.model, rows.features, rows.target, settings.seed)
    both = measured | fitted.metrics | counted
    return Outcome(fitted.model, predicted, both, importance, fitted.folds, interval)


def _check_sizes(table: Table, target: str) -> None:
    """Refuse numbers so large that an estimator's sums of their squares, or its float32, would overflow."""
    for column in table.columns:
        if column.kind in ("number", "integer"):
            values = [column.low, column.high]
            if None in values:  # not noted when the table was read
                values = [side.features[column.name].abs().max() for side in (table.training, table.test)]
            largest = max((abs(value) for value in values if value is not None and value == value), default=0.0)
            if largest > LARGEST:
                raise UserError(
                    f"the column {column.name!r} holds numbers of size {largest:.3g}, and no estimator takes more than "
                    f"{LARGEST:g}",
                    f"divide them in the table, or leave the column out: --drop '{column.name}'",
                )
    largest = max(float(np.abs(side.target).max(initial=0.0)) for side in (table.training, table.test))
    if largest > LARGEST:
        raise UserError(
            f"the target {target!r} holds numbers of size {largest:.3g}, whose squares no measure can add up",
            "give the target in a larger unit",
        )
