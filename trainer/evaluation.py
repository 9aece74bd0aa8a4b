"""How good a model is: metrics on the test rows, cross-validation on the training rows, what matters."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import moments, pipeline
from trainer.errors import UserError
from trainer.estimators import Estimator
from trainer.progress import progress
from trainer.settings import CV_FOLDS, CV_ROWS

# Residuals that are kept of the folds' rows: quantiles need no more.
RESIDUALS = 1_000_000

# Permutation importance predicts n_features x repeats times: few rows and repeats keep it cheap.
IMPORTANCE_ROWS = 500
IMPORTANCE_PREDICTIONS = 100
# Values that are predicted from: of wide tables, fewer rows are shuffled, and of very wide ones not every feature.
IMPORTANCE_VALUES = 1_000_000_000
IMPORTANCE_FEWEST_ROWS = 20
# Values that are predicted from in one call.
BATCH_VALUES = 8_000_000

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.uint64] | None


@dataclass(frozen=True)
class Folds:
    """What cross-validation has measured.

    Attributes
    ----------
    metrics : dict
        ``cv_rmse_mean``, ``cv_rmse_std`` (ddof=0) over the folds, in the target's unit; nothing without folds, and not
        a number where a fold's predictions are not.
    residuals : ndarray of shape (n_kept,)
        Target minus what was predicted for a row by the fold that held it out; of every `step`-th training row.
    step : int
    """

    metrics: dict[str, float]
    residuals: Floats
    step: int = 1


def metrics(actual: Floats, predicted: Floats, baseline: float) -> dict[str, float]:
    """Measure predictions of the test rows.

    Parameters
    ----------
    actual, predicted : ndarray of shape (n_test,)
        In the unit of the target.
    baseline : float
        What the baseline predicts for every row: the mean of the training rows.

    Returns
    -------
    dict
        ``rmse``, ``mae``, ``baseline_rmse`` in the target's unit, ``mse`` in its square, ``r2`` without
        unit: `sklearn.metrics`.

    Raises
    ------
    UserError
        A prediction is not a number.
    """
    if bad := int((~np.isfinite(predicted)).sum()):
        raise UserError(
            f"the model has diverged: {bad} of its {len(predicted)} predictions are not finite",
            "give a smaller learning_rate, or a larger alpha",
        )
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    mse = float(mean_squared_error(actual, predicted))
    return {
        "rmse": mse**0.5,
        "mae": float(mean_absolute_error(actual, predicted)),
        "mse": mse,
        "r2": float(r2_score(actual, predicted)),
        "baseline_rmse": float(mean_squared_error(actual, np.full_like(actual, baseline))) ** 0.5,
    }


def cross_validate(
    estimator: Estimator,
    model: Any,
    features: pd.DataFrame,
    target: Floats,
    groups: Groups,
    folds: int | None,
    seed: int,
) -> Folds:
    """Cross-validate an unfitted pipeline on the training rows, in shuffled folds.

    Parameters
    ----------
    estimator : Estimator
        The entry of the pipeline's estimator.
    model : Pipeline
        It is cloned for each fold.
    features : DataFrame of shape (n_train, n_features)
    target : ndarray of shape (n_train,)
    groups : ndarray of shape (n_train,) or None
        Where given, all rows of one group are in one fold.
    folds : int or None
        None: `CV_FOLDS` up to `CV_ROWS` rows, else none. 0: none.
    seed : int

    Raises
    ------
    UserError
        There are more folds than rows (or groups).
    """
    from sklearn.metrics import root_mean_squared_error

    if not (parts := split(target, groups, folds, seed)):
        return Folds({}, np.empty(0))
    if estimator.is_linear and moments.have(features):
        predictions = moments.cross_validate(model, features, target, [held_out for _, held_out in parts])
    else:
        predictions = _folds(estimator, model, features, target, groups, parts)
    residuals, rmse = np.empty(len(target)), []
    with progress("cross-validation") as at:
        for held_out, predicted in predictions:
            finite = np.isfinite(predicted).all()
            rmse.append(root_mean_squared_error(target[held_out], predicted) if finite else np.nan)
            residuals[held_out] = target[held_out] - predicted
            at(f"{len(rmse)} of {len(parts)}")
    step = -(-len(target) // RESIDUALS)
    return Folds({"cv_rmse_mean": float(np.mean(rmse)), "cv_rmse_std": float(np.std(rmse))}, residuals[::step], step)


def split(
    target: Floats, groups: Groups, folds: int | None, seed: int
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Return the rows that each fold learns from, and those that it holds out; parameters as for `cross_validate`."""
    from sklearn.model_selection import GroupKFold, KFold

    available = len(target) if groups is None else len(np.unique(groups))
    if folds is None:
        folds = min(CV_FOLDS, available) if len(target) <= CV_ROWS and available >= 2 else 0
    if folds == 0:
        return []
    if folds > available:
        raise UserError(
            f"cv={folds} is more than the {available} training {'rows' if groups is None else 'groups'}",
            "give fewer folds, or more rows",
        )
    splitter = (KFold if groups is None else GroupKFold)(folds, shuffle=True, random_state=seed)
    return list(splitter.split(target, target, groups))


def _folds(
    estimator: Estimator, model: Any, features: pd.DataFrame, target: Floats, groups: Groups, parts: list[Any]
) -> Iterator[tuple[npt.NDArray[np.intp], Floats]]:
    from sklearn.base import clone

    for train, held_out in parts:
        own_groups = None if groups is None else groups[train]
        fitted = pipeline.fit(estimator, clone(model), features.iloc[train], target[train], own_groups)
        yield held_out, np.asarray(fitted.predict(features.iloc[held_out]))


def importance(model: Any, features: pd.DataFrame, target: Floats, seed: int) -> pd.DataFrame:
    """Tell which features matter: how much the RMSE grows when a feature's test values are shuffled.

    What `sklearn.inspection.permutation_importance` says of at most `IMPORTANCE_ROWS` rows; each column is preprocessed
    once, not once for every other one.

    Parameters
    ----------
    model : fitted Pipeline or XGBRegressor
    features : DataFrame of shape (n_test, n_features)
    target : ndarray of shape (n_test,)
    seed : int

    Returns
    -------
    DataFrame
        Columns ``feature``, ``mean`` and ``std`` over the repeats, in the target's unit; largest mean first. Of so many
        features that not all can be shuffled, those that go along with the predictions most.
    """
    rows = np.random.default_rng(seed).permutation(len(target))[:IMPORTANCE_ROWS]
    matrix, parts, predict = pipeline.prepared(model, features.iloc[rows])
    if (too_many := matrix.size * len(parts) / IMPORTANCE_VALUES) > 1:
        fewer = min(len(rows), max(int(len(rows) / too_many), IMPORTANCE_FEWEST_ROWS))
        rows, matrix = rows[:fewer], matrix[:fewer]
    actual, predicted = target[rows], predict(matrix)
    chosen = np.arange(len(parts))
    if len(parts) > (most := max(IMPORTANCE_VALUES // matrix.size, 1)):
        chosen = np.sort(np.argsort(-_going_along(matrix, parts, predicted), kind="stable")[:most])
    orders = _orders(len(rows), int(np.clip(IMPORTANCE_PREDICTIONS // len(parts), 1, 5)), seed)
    errors = np.empty((len(chosen), len(orders)))
    jobs = list(np.ndindex(errors.shape))
    per_call = max(1, BATCH_VALUES // matrix.size)
    with progress("importance") as at:
        for start in range(0, len(jobs), per_call):
            own_jobs = jobs[start : start + per_call]
            stacked = np.tile(matrix, (len(own_jobs), 1, 1))
            for shuffled, (feature, repeat) in zip(stacked, own_jobs, strict=True):
                columns = parts[chosen[feature]]
                shuffled[:, columns] = matrix[np.ix_(orders[repeat], columns)]
            answers = predict(stacked.reshape(-1, matrix.shape[1])).reshape(len(own_jobs), -1)
            for job, answer in zip(own_jobs, answers, strict=True):
                errors[job] = _rmse(actual, answer)
            at(f"{start + len(own_jobs)} of {len(jobs)}")
    grown = errors - _rmse(actual, predicted)
    ranked = pd.DataFrame({"feature": features.columns[chosen], "mean": grown.mean(axis=1), "std": grown.std(axis=1)})
    return ranked.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def _rmse(actual: Floats, predicted: Floats) -> float:
    return float(np.sqrt(np.average(np.square(actual - predicted))))


def _orders(n_rows: int, repeats: int, seed: int) -> list[npt.NDArray[np.intp]]:
    """Return the orders in which `sklearn.inspection.permutation_importance` shuffles each feature."""
    drawn = np.random.RandomState(np.random.RandomState(seed).randint(np.iinfo(np.int32).max + 1))
    shuffle, order, orders = np.arange(n_rows), np.arange(n_rows), []
    for _ in range(repeats):
        drawn.shuffle(shuffle)
        order = order[shuffle]
        orders.append(order)
    return orders


def _going_along(matrix: Floats, parts: list[npt.NDArray[np.intp]], predicted: Floats) -> Floats:
    """Return how far each feature goes along with the predictions: its columns' largest correlation, without sign."""
    known = np.nan_to_num(matrix)
    apart = known - known.mean(axis=0)
    size = np.sqrt(np.square(apart).sum(axis=0))
    along = np.abs((predicted - predicted.mean()) @ apart) / np.where(size > 0, size, 1.0)
    return np.array([along[columns].max(initial=0.0) for columns in parts])
