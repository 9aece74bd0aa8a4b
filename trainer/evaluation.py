"""How good a model is: metrics on the test rows, cross-validation on the training rows, what matters."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import moments, pipeline
from trainer.errors import UserError
from trainer.settings import CV_FOLDS, CV_ROWS

# From this many rows on, a linear model's folds are fitted from the sums of their moments: the same to rounding,
# and each row is read twice, however many folds there are.
MOMENTS_ROWS = 10_000

# Permutation importance predicts n_features x repeats times: few rows and repeats keep it cheap.
IMPORTANCE_ROWS = 500
IMPORTANCE_PREDICTIONS = 100

Floats = npt.NDArray[np.float64]


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
    model: Any,
    features: pd.DataFrame,
    target: Floats,
    groups: npt.NDArray[np.uint64] | None,
    folds: int | None,
    seed: int,
) -> dict[str, float]:
    """Cross-validate an unfitted pipeline on the training rows, in shuffled folds.

    Parameters
    ----------
    model : Pipeline
        It is cloned for each fold.
    features : DataFrame of shape (n_train, n_features)
    target : ndarray of shape (n_train,)
    groups : ndarray of shape (n_train,) or None
        Where given, all rows of one group are in one fold.
    folds : int or None
        None: `CV_FOLDS` up to `CV_ROWS` rows, else none. 0: none.
    seed : int

    Returns
    -------
    dict
        ``cv_rmse_mean``, ``cv_rmse_std`` (ddof=0) over the folds, in the target's unit; none without folds, and not
        a number where a fold's predictions are not.

    Raises
    ------
    UserError
        There are more folds than rows (or groups).
    """
    from sklearn.base import clone
    from sklearn.metrics import root_mean_squared_error
    from sklearn.model_selection import GroupKFold, KFold

    available = len(target) if groups is None else len(np.unique(groups))
    if folds is None:
        folds = min(CV_FOLDS, available) if len(target) <= CV_ROWS and available >= 2 else 0
    if folds == 0:
        return {}
    if folds > available:
        raise UserError(
            f"cv={folds} is more than the {available} training {'rows' if groups is None else 'groups'}",
            "give fewer folds, or more rows",
        )
    splitter = (KFold if groups is None else GroupKFold)(folds, shuffle=True, random_state=seed)
    split = splitter.split(features, target, groups)
    if len(target) >= MOMENTS_ROWS and pipeline.is_linear(model) and moments.have(features):
        rmse = _folds_from_moments(model, features, target, [held_out for _, held_out in split])
    else:
        rmse = []
        for train, held_out in split:
            fitted = pipeline.fit(clone(model), features.iloc[train], target[train])
            predicted = fitted.predict(features.iloc[held_out])
            finite = np.isfinite(predicted).all()
            rmse.append(root_mean_squared_error(target[held_out], predicted) if finite else np.nan)
    return {"cv_rmse_mean": float(np.mean(rmse)), "cv_rmse_std": float(np.std(rmse))}


def _folds_from_moments(
    model: Any, features: pd.DataFrame, target: Floats, held_out: list[npt.NDArray[np.intp]]
) -> list[float]:
    from sklearn.base import clone

    codes = np.empty(len(target), dtype=np.intp)
    for fold, own_rows in enumerate(held_out):
        codes[own_rows] = fold
    parts = moments.take(features, target, codes, len(held_out))
    nothing = moments.Moments(0, parts[0].means, parts[0].scatter)
    fitted = [
        moments.fit(clone(model), list(features.columns), sum((part for part in parts if part is not own), nothing))
        for own in parts
    ]
    squares = np.zeros(len(parts))
    for rows, block in moments.blocks(features):
        for fold, one in enumerate(fitted):
            own = codes[rows] == fold
            if own.any():
                predicted = one.predict(pd.DataFrame(block[own], columns=features.columns, copy=False))
                squares[fold] += np.sum((target[rows][own] - predicted) ** 2)
    return [float(rmse) for rmse in np.sqrt(squares / np.bincount(codes))]


def importance(model: Any, features: pd.DataFrame, target: Floats, seed: int) -> pd.DataFrame:
    """Tell which features matter: how much the RMSE grows when a feature's test values are shuffled.

    `sklearn.inspection.permutation_importance` on at most `IMPORTANCE_ROWS` rows.

    Parameters
    ----------
    model : fitted Pipeline
    features : DataFrame of shape (n_test, n_features)
    target : ndarray of shape (n_test,)
    seed : int

    Returns
    -------
    DataFrame
        Columns ``feature``, ``mean`` and ``std`` over the repeats, in the target's unit; largest mean first.
    """
    from sklearn.inspection import permutation_importance

    rows = np.random.default_rng(seed).permutation(len(target))[:IMPORTANCE_ROWS]
    result = permutation_importance(
        model,
        features.iloc[rows],
        target[rows],
        scoring="neg_root_mean_squared_error",
        n_repeats=int(np.clip(IMPORTANCE_PREDICTIONS // features.shape[1], 1, 5)),
        random_state=seed,
    )
    ranked = pd.DataFrame({"feature": features.columns, "mean": result.importances_mean, "std": result.importances_std})
    return ranked.sort_values("mean", ascending=False, kind="stable", ignore_index=True)
