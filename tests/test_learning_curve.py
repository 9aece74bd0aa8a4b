"""What a model does with fewer rows: on the folds of cross-validation, and only where it costs little."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from tests import tables
from trainer import evaluation, learning_curve, pipeline, training
from trainer.learning_curve import LearningCurve
from trainer.settings import Settings
from trainer.table import Table

Rows = npt.NDArray[np.intp]


def read(folder: Path, rows: int = 400, **given: object) -> tuple[Settings, Table]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(0, 1, (rows, 20)), columns=[f"x{number}" for number in range(20)])
    frame["who"] = [f"p{number // 4}" for number in range(rows)]
    frame["y"] = frame["x0"] + frame["x1"] + rng.normal(0, 1, rows)
    frame.to_parquet(folder / "table.parquet")
    path = folder / "table.parquet"
    return tables.read_settings(path, "y", **given), tables.load(path, "y", **given)


def curve(asked: Settings, table: Table) -> LearningCurve:
    return learning_curve.measure(asked, table, training.cross_validate(asked, table))


def test_the_error_falls_with_the_rows_and_ends_where_cross_validation_does(tmp_path: Path) -> None:
    asked, table = read(tmp_path, drop="who", alpha=0.001)
    found = curve(asked, table)
    rows = table.training
    folds = evaluation.split(rows.target, None, None, asked.seed)
    learnt = round(float(np.mean([len(fold[0]) for fold in folds[: learning_curve.FOLDS]])))
    assert found.rows == (round(0.1 * learnt), round(0.3 * learnt), learnt)
    assert found.errors.shape == (2, 3)
    assert (np.diff(found.errors) < 0).all()
    residuals = training.cross_validate(asked, table).residuals
    last = [np.sqrt(np.mean(residuals[held_out] ** 2)) for _, held_out in folds[: learning_curve.FOLDS]]
    assert found.errors[:, -1].tolist() == pytest.approx(last, rel=1e-12)


def test_parts_hold_the_smaller_ones_and_no_row_or_group_that_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, table = read(tmp_path, key="who")
    folds = training.cross_validate(asked, table)
    seen: list[pd.DataFrame] = []
    fit = pipeline.fit

    def watched(estimator: Any, model: Any, features: pd.DataFrame, target: Any, groups: Any) -> Any:
        seen.append(features)
        assert table.training.groups is not None
        assert groups.tolist() == table.training.groups[features.index].tolist()
        return fit(estimator, model, features, target, groups)

    monkeypatch.setattr(pipeline, "fit", watched)
    learning_curve.measure(asked, table, folds)
    assert table.training.groups is not None
    split = evaluation.split(table.training.target, table.training.groups, None, asked.seed)
    for number, (few, more) in enumerate(zip(seen[::2], seen[1::2], strict=True)):
        assert set(few.index) < set(more.index) <= set(split[number][0])
        whole = pd.Series(table.training.groups[split[number][0]]).value_counts()
        drawn = pd.Series(table.training.groups[few.index]).value_counts()
        assert (drawn < whole[drawn.index]).sum() <= 1  # the last group that there was room for


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("FEWEST_ROWS", 1000, "fewer than 1000 training rows"),
        ("MOST_ROWS", 200, "more than 200 training rows"),
        ("MOST_FEATURES", 19, "more than 19 features"),
    ],
)
def test_where_it_would_say_little_or_cost_much_there_is_none_and_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    monkeypatch.setattr(learning_curve, limit, value)
    assert curve(*read(tmp_path)).skipped == reason


def test_without_cross_validation_or_where_few_rows_diverge_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, table = read(tmp_path)
    folds = training.cross_validate(asked, table)
    assert curve(replace(asked, cv=0), table).skipped == "there were no folds"
    monkeypatch.setattr(learning_curve, "_rmse", lambda *_: np.nan)
    assert learning_curve.measure(asked, table, folds).skipped == "of few rows, the model has diverged"
