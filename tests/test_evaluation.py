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


@pytest.mark.parametrize("name", ESTIMATORS)
def test_importance_is_that_of_scikit_learn(name: str) -> None:
    from sklearn.inspection import permutation_importance

    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(90, 3)), columns=list(NAMES))
    frame["gaps"] = np.where(generator.random(90) < 0.3, np.nan, generator.normal(size=90))
    frame["text"] = np.asarray(generator.choice(["a", "b", "c"], 90), dtype=object)
    frame["day"] = pd.Series(pd.date_range("2024-01-01", periods=90)).astype("datetime64[us]")
    target = (
        frame["strong"] * 5 + frame["gaps"].isna() * 4 + (frame["text"] == "a") * 3 + np.arange(90) / 9
    ).to_numpy()
    kinds = {"text": "text", "day": "datetime"}
    columns = [Column(str(column), kinds.get(str(column), "number"), 0) for column in frame]  # type: ignore[arg-type]
    few = {"n_estimators": "9"} if "n_estimators" in ESTIMATORS[name].hyperparameters else {"alpha": "0.1"}
    asked = settings.read(settings.defaults() | {"estimator": name} | few)
    fitted = pipeline.fit(ESTIMATORS[name], pipeline.make(asked, ESTIMATORS[name], columns, frame), frame, target)
    rows = np.random.default_rng(3).permutation(90)
    theirs = permutation_importance(
        fitted, frame.iloc[rows], target[rows], scoring="neg_root_mean_squared_error", n_repeats=5, random_state=3
    )
    ranked = evaluation.importance(fitted, frame, target, 3).set_index("feature").loc[list(frame)]
    np.testing.assert_allclose(ranked["mean"], theirs.importances_mean, atol=1e-12)
    np.testing.assert_allclose(ranked["std"], theirs.importances_std, atol=1e-12)


@pytest.mark.parametrize("name", ["elasticnet", "random_forest", "xgboost"])
def test_a_feature_that_plays_no_part_is_not_shuffled(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 40)), columns=[f"f{i}" for i in range(40)])
    target = 9.0 * (frame["f7"].to_numpy() > 0)
    few = {"max_depth": "1", "n_estimators": "3"} if "n_estimators" in ESTIMATORS[name].hyperparameters else {}
    asked = settings.read(settings.defaults() | {"estimator": name} | few)
    model = pipeline.make(asked, ESTIMATORS[name], [Column(one, "number", 0) for one in frame], frame)
    pipeline.fit(ESTIMATORS[name], model, frame, target)
    asked_for = evaluation.importance(model, frame, target, 0)
    monkeypatch.setattr(pipeline, "used", lambda _, width: np.ones(width, dtype=bool))
    pd.testing.assert_frame_equal(asked_for, evaluation.importance(model, frame, target, 0))
    monkeypatch.undo()
    kind, seen = type(model.named_steps["estimator"]), []
    plain = kind.predict
    monkeypatch.setattr(kind, "predict", lambda self, rows: (seen.append(len(rows)), plain(self, rows))[1])
    evaluation.importance(model, frame, target, 0)
    assert sum(seen) < 40 * len(frame)  # all 40 features are twice that


def test_importance_of_a_wide_table_takes_fewer_rows_and_the_features_that_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(0)
    names = [f"f{place}" for place in range(300)]
    frame = pd.DataFrame(generator.normal(size=(200, 300)), columns=names)
    target = 9 * frame["f7"].to_numpy()
    asked = settings.read(settings.defaults())
    columns = [Column(column, "number", 0) for column in names]
    ridge = ESTIMATORS["ridge"]
    fitted = pipeline.fit(ridge, pipeline.make(asked, ridge, columns, frame), frame, target)
    predicted: list[int] = []
    plain = type(fitted.named_steps["estimator"]).predict

    def predict(self: Any, matrix: Any) -> Any:
        predicted.append(len(matrix))
        return plain(self, matrix)

    monkeypatch.setattr(type(fitted.named_steps["estimator"]), "predict", predict)
    assert len(evaluation.importance(fitted, frame, target, 0)) == 300
    assert sum(predicted) == 300 * 200 + 200  # each feature once, and as they are
    predicted.clear()
    monkeypatch.setattr(evaluation, "IMPORTANCE_VALUES", 300 * 300 * 50)
    assert len(evaluation.importance(fitted, frame, target, 0)) == 300
    assert sum(predicted) == 300 * 50 + 50
    predicted.clear()
    monkeypatch.setattr(evaluation, "IMPORTANCE_VALUES", 300 * 20 * 40)
    ranked = evaluation.importance(fitted, frame, target, 0)
    assert len(ranked) == 40
    assert ranked["feature"].iloc[0] == "f7"


def test_residuals_of_a_large_table_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, target = linear()
    every = folds(frame, target).residuals
    monkeypatch.setattr(evaluation, "RESIDUALS", 25)
    thinned = folds(frame, target)
    assert thinned.step == 3
    np.testing.assert_array_equal(thinned.residuals, every[::3])
