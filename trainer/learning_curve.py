"""Would more rows help? The error of models that have learnt from a part of the training rows."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trainer import evaluation, pipeline
from trainer.diagnostics import short
from trainer.estimators import ESTIMATORS
from trainer.evaluation import Folds
from trainer.progress import progress
from trainer.settings import Settings
from trainer.table import Table

# The parts of a fold's training rows that are learnt from, each about three times the former; all of them have been by
# cross-validation. On two of five folds the parts cost an eighth of cross-validation and fit.
PARTS, FOLDS = (0.1, 0.3), 2
# Below, the smallest part is a handful of rows; above, there is something better to wait for.
FEWEST_ROWS, MOST_ROWS, MOST_FEATURES = 150, 20_000, 200

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LearningCurve:
    """What two of the folds say of a model that has learnt from fewer rows.

    Attributes
    ----------
    rows : tuple of int
        That were learnt from, few first.
    errors : ndarray of shape (n_folds, n_parts)
        The RMSE of the rows that a fold held out, in the target's unit.
    skipped : str
        Why there is none.
    """

    rows: tuple[int, ...] = ()
    errors: Floats = field(default_factory=lambda: np.empty((0, 0)))
    skipped: str = ""


NOTHING = LearningCurve()


def measure(settings: Settings, table: Table, folds: Folds) -> LearningCurve:
    """Learn from parts of the training rows, and predict those that each fold held out.

    What `sklearn.model_selection.learning_curve` does with ``shuffle=True``: a part is drawn from the rows that the
    fold learns from, and a larger one holds the smaller ones. Rows of one group are drawn together.

    Parameters
    ----------
    settings : Settings
    table : Table
    folds : Folds
        What cross-validation has measured on the same rows.
    """
    from sklearn.base import clone

    training, estimator = table.training, ESTIMATORS[settings.estimator]
    features, target = training.features, training.target
    if reason := _too_much(len(target), features.shape[1], folds):
        return LearningCurve(skipped=reason)
    model = pipeline.make(settings, estimator, table.columns, features)
    rng, sizes = np.random.default_rng(settings.seed), []
    errors: list[list[float]] = []
    with progress("learning curve") as at:
        for learnt, held_out in evaluation.split(target, training.groups, settings.cv, settings.seed)[:FOLDS]:
            own, order = [], learnt[_drawn(learnt, training.groups, rng)]
            for part in PARTS:
                chosen = np.sort(order[: round(part * len(order))])
                groups = None if training.groups is None else training.groups[chosen]
                fitted = pipeline.fit(estimator, clone(model), features.iloc[chosen], target[chosen], groups)
                own.append(_rmse(target[held_out], np.asarray(fitted.predict(features.iloc[held_out]))))
            errors.append([*own, _rmse(folds.residuals[held_out], np.zeros(len(held_out)))])
            sizes.append([*(round(part * len(order)) for part in PARTS), len(order)])
            at(f"{len(errors)} of {FOLDS}")
    if not np.isfinite(errors).all():
        return LearningCurve(skipped="of few rows, the model has diverged")
    return LearningCurve(tuple(np.rint(np.mean(sizes, axis=0)).astype(int).tolist()), np.array(errors))


def told(learning: LearningCurve) -> str:
    """Say whether more rows would help, for a person who looks at the curve."""
    fell = (learning.errors[:, -2] - learning.errors[:, -1]).tolist()
    one, other = (f"{'falls' if by > 0 else 'rises'} by {short(abs(by))}" for by in fell)
    other = other.removeprefix(one.partition(" by ")[0]).strip()
    few, most = learning.rows[-2:]
    return (
        f"From {few} to {most} training rows, the rmse {one} in one fold and {other} in another. Where it still falls, "
        "more rows would help. Whiskers: the two folds."
    )


def _too_much(rows: int, features: int, folds: Folds) -> str:
    if not len(folds.residuals):
        return "there were no folds"
    if rows < FEWEST_ROWS:
        return f"fewer than {FEWEST_ROWS} training rows"
    if rows > MOST_ROWS:
        return f"more than {MOST_ROWS} training rows"
    return f"more than {MOST_FEATURES} features" if features > MOST_FEATURES else ""


def _drawn(
    learnt: npt.NDArray[np.intp], groups: npt.NDArray[np.uint64] | None, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Return the places of rows in the order in which they are learnt from: at random, and a group after the other."""
    if groups is None:
        return rng.permutation(len(learnt))
    distinct, codes = np.unique(groups[learnt], return_inverse=True)
    return np.argsort(rng.permutation(len(distinct))[codes], kind="stable")


def _rmse(actual: Floats, predicted: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(actual - predicted))))
