"""Metrics, cross-validation and importance, against scikit-learn's own."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import GroupKFold

from trainer import evaluation, pipeline, settings
from trainer.errors import UserError
from trainer.estimators import ESTIMATORS
from trainer.table import Column

NAMES = ("strong", "weak", "noise")


def linear(rows: int = 60) -> tuple[pd.DataFrame, Any]:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(rows, 3)), columns=list(NAMES))
    return frame, (10 * frame["strong"] + frame["weak"] + generator.normal(size=rows)).to_numpy()


def model(frame: pd.DataFrame) -> Any:
    asked = settings.read(settings.defaults() | {"scaling": "none"})
    return pipeline.make(asked, ESTIMATORS["ridge"], [Column(name, "number", 0) for name in NAMES], frame)


def folds(frame: pd.DataFrame, target: Any, groups: Any = None, count: int | None = 5) -> evaluation.Folds:
    return evaluation.cross_validate(ESTIMATORS["ridge"], model(frame), frame, target, groups, count, 0)


def test_metrics_are_what_they_are_called() -> None:
    measured = evaluation.metrics(np.array([1.0, 2.0, 6.0]), np.array([1.0, 4.0, 5.0]), 3.0)
    assert measured == {
        "rmse": pytest.approx((5 / 3) ** 0.5),
        "mae": pytest.approx(1.0),
        "mse": pytest.approx(5 / 3),
        "r2": pytest.approx(1 - 5 / 14),
        "baseline_rmse": pytest.approx((14 / 3) ** 0.5),
    }


def test_a_model_that_has_diverged_is_told() -> None:
    with pytest.raises(UserError, match="2 of its 3 predictions are not finite"):
        evaluation.metrics(np.zeros(3), np.array([1.0, np.nan, np.inf]), 0.0)


def test_groups_stay_together_in_the_folds() -> None:
    frame, target = linear()
    groups = np.repeat(np.arange(12, dtype=np.uint64), 5)
    expected = [
        root_mean_squared_error(target[held], Ridge().fit(frame.iloc[kept], target[kept]).predict(frame.iloc[held]))
        for kept, held in GroupKFold(4, shuffle=True, random_state=0).split(frame, target, groups)
    ]
    found = folds(frame, target, groups, 4)
    assert found.metrics["cv_rmse_mean"] == pytest.approx(np.mean(expected), rel=1e-12)
    assert found.metrics["cv_rmse_std"] == pytest.approx(np.std(expected), rel=1e-9)


def test_auto_makes_as_many_folds_as_there_are_groups_and_none_of_a_large_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame, target = linear()
    few = np.repeat(np.arange(4, dtype=np.uint64), 15)
    assert folds(frame, target, few, None).metrics == folds(frame, target, few, 4).metrics
    assert folds(frame, target, None, 0).metrics == {}
    monkeypatch.setattr(evaluation, "CV_ROWS", 59)
    assert folds(frame, target, None, None).metrics == {}
    with pytest.raises(UserError, match="cv=61 is more than the 60 training rows"):
        folds(frame, target, None, 61)
    with pytest.raises(UserError, match="cv=5 is more than the 4 training groups"):
        folds(frame, target, few, 5)


def test_folds_keep_a_residual_of_each_row() -> None:
    frame, target = linear()
    found = folds(frame, target, None, 5)
    assert found.residuals is not None
    assert len(found.residuals) == 60
    squares = np.sqrt(np.mean(np.square(found.residuals)))
    assert squares == pytest.approx(found.metrics["cv_rmse_mean"], rel=0.1)


def test_what_matters_is_ranked() -> None:
    frame, target = linear(200)
    fitted = pipeline.fit(ESTIMATORS["ridge"], model(frame), frame, target, None)
    ranked = evaluation.importance(fitted, frame, target, 0)
    assert list(ranked["feature"]) == list(NAMES)
    assert ranked["mean"].iloc[0] > 8
    assert abs(ranked["mean"].iloc[2]) < 0.2
