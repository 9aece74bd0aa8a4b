"""What a training run and a search share: a table fitted and measured, and numbers that are too large for it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trainer import settings, training
from trainer.errors import UserError
from trainer.estimators import ESTIMATORS
from trainer.table import Table, load


def read(path: Any, frame: pd.DataFrame, **given: str) -> tuple[settings.Settings, Table]:
    frame.to_parquet(path / "t.parquet", index=False)
    asked = settings.read(settings.defaults() | {"data": str(path / "t.parquet"), "target": "y"} | given)
    return asked, load(asked)


def frame(rows: int = 80) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    x = generator.normal(size=rows)
    return pd.DataFrame({"x": x, "z": np.arange(rows) % 7.5, "y": 3 * x + generator.normal(size=rows)})


def test_a_table_is_fitted_and_measured(tmp_path: Any) -> None:
    asked, table = read(tmp_path, frame(), cv="4")
    outcome = training.learn(asked, table)
    measured = outcome.metrics
    assert measured["rows_train"] + measured["rows_test"] == 80
    assert measured["rmse_low"] < measured["rmse"] < measured["rmse_high"] < measured["baseline_rmse"]
    assert len(outcome.predicted) == measured["rows_test"]
    assert len(outcome.folds.residuals) == measured["rows_train"]
    assert outcome.folds.metrics.items() <= measured.items()
    baseline = np.sqrt(np.mean((table.test.target - table.training.target.mean()) ** 2))
    assert measured["baseline_rmse"] == pytest.approx(baseline)


def test_the_interval_is_wider_where_rows_belong_together(tmp_path: Any) -> None:
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 10)
    own = pd.DataFrame({"x": generator.normal(size=400), "g": group})
    own["y"] = own["x"] + 5 * generator.normal(size=40)[group]
    asked, table = read(tmp_path, own, key="g", cv="0")
    outcome = training.learn(asked, table)
    alone = replace(table, test=replace(table.test, groups=None))
    fitted = training.fit(asked, table, outcome.folds)
    rows = training.measure(asked, fitted, alone).metrics
    assert outcome.metrics["rmse"] == rows["rmse"]
    wide, narrow = (found["rmse_high"] - found["rmse_low"] for found in (outcome.metrics, rows))
    assert wide > 1.5 * narrow


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_column_too_large_for_an_estimator(name: str, tmp_path: Any) -> None:
    few = {"n_estimators": "3"} if "n_estimators" in ESTIMATORS[name].hyperparameters else {}
    for size, refused in ((1e100, True), (1e37, False)):
        asked, table = read(
            tmp_path, frame().assign(x=lambda f, size=size: f["x"] * size), estimator=name, cv="2", **few
        )
        if refused:
            with pytest.raises(UserError, match=r"the column 'x' holds numbers of size \S+e\+100") as caught:
                training.cross_validate(asked, table)
            assert "--drop 'x'" in caught.value.remedy
        else:
            assert np.isfinite(training.learn(asked, table).metrics["rmse"])


def test_a_target_whose_squares_overflow(tmp_path: Any) -> None:
    asked, table = read(tmp_path, frame().assign(y=lambda f: f["y"] * 1e100))
    with pytest.raises(UserError, match="the target 'y' holds numbers of size"):
        training.cross_validate(asked, table)
