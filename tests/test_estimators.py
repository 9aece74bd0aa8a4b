"""The table of estimators: an entry is all that a new one takes, on small tables and on large ones."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Lasso
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer import estimators, pipeline, settings, training
from trainer.errors import UserError
from trainer.estimators import ESTIMATORS, Estimator
from trainer.readers import number
from trainer.table import Table, load


def lasso(**parameters: Any) -> Any:
    return Lasso(**parameters)


@pytest.fixture
def with_lasso(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Estimator(lasso, {"alpha": ("alpha", lambda name, text: number(name, text, low=0))}, is_linear=True)
    monkeypatch.setitem(ESTIMATORS, "lasso", entry)


def read(path: Any, **given: str) -> tuple[settings.Settings, Table]:
    spelled = settings.defaults() | {"data": str(path), "target": "y", "estimator": "lasso", "alpha": "0.3"}
    asked = settings.read(spelled | given)
    return asked, load(asked)


@pytest.mark.usefixtures("with_lasso")
@pytest.mark.parametrize("large", [False, True])
def test_lasso_is_one_entry(large: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(5, 2, size=(12_000 if large else 300, 4)), columns=list("abcd"))
    frame["y"] = 3 * frame["a"] - frame["b"] + generator.normal(size=len(frame))
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    if large:
        monkeypatch.setattr(pipeline, "LARGE_VALUES", 1_000)
    asked, table = read(tmp_path / "t.parquet")
    outcome = training.learn(asked, table)
    rows = table.training
    theirs = make_pipeline(StandardScaler(), Lasso(alpha=0.3, random_state=0)).fit(rows.features, rows.target)
    expected = theirs.predict(table.test.features)
    np.testing.assert_allclose(outcome.predicted, expected, rtol=1e-3 if large else 1e-12)
    folds = [
        root_mean_squared_error(
            rows.target[held],
            make_pipeline(StandardScaler(), Lasso(alpha=0.3))
            .fit(rows.features.iloc[kept], rows.target[kept])
            .predict(rows.features.iloc[held]),
        )
        for kept, held in KFold(5, shuffle=True, random_state=0).split(rows.target)
    ]
    assert outcome.metrics["cv_rmse_mean"] == pytest.approx(np.mean(folds), rel=1e-4 if large else 1e-12)


def test_an_estimator_that_is_not_there() -> None:
    with pytest.raises(UserError, match="there is no estimator 'laso'"):
        settings.read(settings.defaults() | {"estimator": "laso"})


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_entry_builds_what_it_says(name: str) -> None:
    entry = ESTIMATORS[name]
    values = {library: read("x", "0.5" if library in ("alpha", "l1_ratio", "learning_rate") else "3")
              for library, read in entry.hyperparameters.values()}  # fmt: skip
    built = entry.build(**values, random_state=7)
    assert built.get_params().items() >= {**values, "random_state": 7}.items()
    assert entry.is_linear == type(built).__module__.startswith("sklearn.linear_model")


def test_the_estimators_that_have_a_hyperparameter_are_named() -> None:
    assert estimators.having("alpha") == "ridge, elasticnet"
    assert estimators.having("learning_rate") == "hist_gradient_boosting, xgboost"
    assert estimators.having("speed") == ""
