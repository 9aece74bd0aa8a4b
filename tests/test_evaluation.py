"""Metrics, cross-validation and importance, against scikit-learn's own."""

import numpy as np
import pandas as pd
import pytest

from trainer import estimators, evaluation
from trainer.errors import UserError

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(RNG.normal(size=(60, 3)), columns=["strong", "weak", "noise"])
TARGET = (10 * FRAME["strong"] + FRAME["weak"] + RNG.normal(size=60)).to_numpy()
RIDGE = estimators.Choice("ridge", {}, "none", 0)


def test_metrics_are_what_they_are_called() -> None:
    measured = evaluation.metrics(np.array([1.0, 2.0, 6.0]), np.array([1.0, 4.0, 5.0]), 3.0)
    assert measured == {
        "rmse": pytest.approx((5 / 3) ** 0.5),
        "mae": pytest.approx(1.0),
        "mse": pytest.approx(5 / 3),
        "r2": pytest.approx(1 - 5 / 14),
        "baseline_rmse": pytest.approx(((4 + 1 + 9) / 3) ** 0.5),
    }


def test_cross_validation_is_that_of_scikit_learn() -> None:
    from sklearn.model_selection import KFold, cross_val_score

    folds = KFold(4, shuffle=True, random_state=3)
    model = estimators.make(RIDGE, FRAME)
    scores = -cross_val_score(model, FRAME, TARGET, cv=folds, scoring="neg_root_mean_squared_error")
    measured = evaluation.cross_validate(model, FRAME, TARGET, None, 4, 3)
    assert measured == {
        "cv_rmse_mean": pytest.approx(scores.mean()),
        "cv_rmse_std": pytest.approx(scores.std()),
    }


def test_an_entity_is_in_one_fold_of_the_cross_validation() -> None:
    # the target is the entity's own: only a model that has seen the entity can know it
    entities = np.repeat(np.arange(12, dtype=np.uint64), 5)
    frame = pd.DataFrame({"entity": pd.Series(entities).astype(str)})
    target = RNG.normal(size=12)[entities]
    model = estimators.make(estimators.Choice("ridge", {"alpha": 0.0}, "none", 0), frame)
    leaky = evaluation.cross_validate(model, frame, target, None, 4, 0)["cv_rmse_mean"]
    honest = evaluation.cross_validate(model, frame, target, entities, 4, 0)["cv_rmse_mean"]
    assert leaky < 0.1 < honest


@pytest.mark.parametrize(("rows", "folds"), [(60, 5), (4, 4), (100_001, 0)])
def test_folds_are_chosen_by_the_size_of_the_table(rows: int, folds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(estimators, "fit", lambda model, x, y: used.append(len(x)) or model.fit(x, y))
    frame = pd.DataFrame({"a": np.arange(rows, dtype=float)})
    measured = evaluation.cross_validate(estimators.make(RIDGE, frame), frame, np.arange(rows) * 2.0, None, None, 0)
    assert len(used) == folds
    assert bool(measured) == bool(folds)


def test_more_folds_than_rows_or_entities() -> None:
    model = estimators.make(RIDGE, FRAME)
    with pytest.raises(UserError, match="cv=61 is more than the 60 training rows"):
        evaluation.cross_validate(model, FRAME, TARGET, None, 61, 0)
    with pytest.raises(UserError, match="cv=5 is more than the 3 training entities"):
        evaluation.cross_validate(model, FRAME, TARGET, np.arange(60, dtype=np.uint64) % 3, 5, 0)


@pytest.mark.parametrize("text", ["1", "-1", "2.5", "many"])
def test_folds_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError, match="cv"):
        evaluation.read_folds(text)


def test_importance_ranks_what_matters_and_stays_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    model = estimators.fit(estimators.make(RIDGE, FRAME), FRAME, TARGET)
    assert evaluation.importance(model, FRAME, TARGET, 0)["feature"].tolist()[:2] == ["strong", "weak"]
    many = pd.DataFrame(np.zeros((3_000, 80)), columns=[f"f{i}" for i in range(80)])
    wide = estimators.fit(estimators.make(RIDGE, many), many, np.arange(3_000.0))
    sizes: list[int] = []
    plain = type(wide).predict

    def predict(self: object, x: pd.DataFrame) -> object:
        sizes.append(len(x))
        return plain(self, x)

    monkeypatch.setattr(type(wide), "predict", predict)
    evaluation.importance(wide, many, np.arange(3_000.0), 0)
    assert max(sizes) <= evaluation.IMPORTANCE_ROWS
    assert len(sizes) <= evaluation.IMPORTANCE_PREDICTIONS + 1
