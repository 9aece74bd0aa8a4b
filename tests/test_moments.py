"""Linear models from second moments: the same as from the rows, without a copy of them."""

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer import evaluation, moments, pipeline, settings
from trainer.columns import Spelling
from trainer.estimators import ESTIMATORS
from trainer.table import Column

THEIRS = {"ridge": Ridge(alpha=300.0), "elasticnet": ElasticNet(alpha=0.5, tol=1e-10)}
ALPHA = {"ridge": "300", "elasticnet": "0.5"}


def table(rows: int = 12_000) -> tuple[pd.DataFrame, Any]:
    """Numbers far from 0, of different sizes, correlated, one of them boolean, as a view of one matrix."""
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(rows, 4)) * [1.0, 1e-3, 1e4, 0.0] + [0.0, 5.0, 1e6, 0.0]
    matrix[:, 1] += 1e-3 * matrix[:, 0]
    matrix[:, 3] = generator.random(rows) < 0.3
    frame = pd.DataFrame(matrix, columns=list("abcd"), copy=False)
    return frame, 3 * matrix[:, 0] + 2e-4 * matrix[:, 2] - matrix[:, 3] + generator.normal(size=rows)


def made(name: str, frame: pd.DataFrame) -> Any:
    asked = settings.read(settings.defaults() | {"estimator": name, "alpha": ALPHA[name]})
    return pipeline.make(asked, ESTIMATORS[name], [Column(str(column), "number", 0) for column in frame], frame)


@pytest.mark.parametrize("name", THEIRS)
def test_a_large_table_gives_the_model_that_its_rows_give(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LARGE_VALUES", 10_000)
    monkeypatch.setattr(moments, "BLOCK_ROWS", 1_000)  # 12 of them
    frame, target = table()
    used: list[int] = []
    take = moments.take
    monkeypatch.setattr(moments, "take", lambda *given: used.append(1) or take(*given))
    model = pipeline.fit(ESTIMATORS[name], made(name, frame), frame, target)
    assert used
    theirs = make_pipeline(StandardScaler(), THEIRS[name]).fit(frame, target)
    tolerance = 1e-9 if name == "ridge" else 1e-3  # of elastic net's own stopping rule
    np.testing.assert_allclose(
        model.named_steps["estimator"].coef_, theirs[-1].coef_, rtol=tolerance, atol=1e-3 * tolerance
    )
    np.testing.assert_allclose(pipeline.predict(model, frame), theirs.predict(frame), atol=tolerance * target.std())
    # a value that is missing is the median, not the mean, of a column
    median = frame.head(1).assign(d=frame["d"].median())
    assert model.predict(frame.head(1).assign(d=np.nan)) == model.predict(median)
    assert frame["d"].median() == 0.0 != frame["d"].mean()


@pytest.mark.parametrize("name", THEIRS)
def test_folds_from_moments_are_the_folds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, target = table()
    given = (ESTIMATORS[name], made(name, frame), frame, target)
    groups = np.arange(len(target), dtype=np.uint64) // 7
    quick = evaluation.cross_validate(*given, groups, 3, 5)
    monkeypatch.setattr(moments, "FEWEST_ROWS", 10**9)
    plain = evaluation.cross_validate(*given, groups, 3, 5)
    tolerance = 1e-9 if name == "ridge" else 1e-3
    assert quick.metrics == pytest.approx(plain.metrics, rel=tolerance)
    np.testing.assert_allclose(quick.residuals, plain.residuals, atol=tolerance * target.std())


def test_moments_of_parts_add_up() -> None:
    frame, target = table(500)
    whole = moments.take(frame, target)[0]
    codes = np.random.default_rng(1).integers(0, 3, 500)
    codes[codes == 1] = 2  # a part without rows
    parts = moments.take(frame, target, codes, 3)
    assert [part.rows for part in parts] == np.bincount(codes, minlength=3).tolist()
    added = parts[0] + parts[1] + parts[2]
    both = np.column_stack([frame, target])
    np.testing.assert_allclose(added.means, both.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(added.scatter, 499 * np.cov(both.T), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(added.scatter, whole.scatter, rtol=1e-6, atol=1e-6)


def test_what_has_no_moments_worth_taking() -> None:
    frame, _ = table()
    assert moments.have(frame)
    assert moments.have(frame.assign(d=frame["d"] == 1, a=np.arange(len(frame))))
    assert not moments.have(frame.head(9_999))  # few rows
    assert not moments.have(frame.assign(d=frame["d"].where(frame.index != 11_999)))  # one is missing
    assert not moments.have(frame.assign(d="text"))
    wide = pd.DataFrame(np.zeros((10_000, 501)), copy=False)
    assert not moments.have(wide)  # eigenvectors of 501 columns cost more than the rows
    assert moments.have(wide.iloc[:, :500])


def test_a_large_table_is_not_copied() -> None:
    rows = 400_000
    matrix = np.random.default_rng(0).normal(size=(rows, 10))
    frame, target = pd.DataFrame(matrix, columns=list("abcdefghij"), copy=False), matrix.sum(axis=1)
    model = made("ridge", frame)
    tracemalloc.start()
    fitted = pipeline.fit(ESTIMATORS["ridge"], clone(model), frame, target)
    predicted = pipeline.predict(fitted, frame)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.abs(predicted - target).max() < 0.1
    assert peak < 0.8 * matrix.nbytes


def test_columns_with_marks_have_medians_of_their_own() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(5, 1, 200), "$": rng.normal(900, 1, 200), "b": rng.normal(-5, 1, 200)})
    target = frame["$"].to_numpy() * 3 + rng.normal(size=200)
    columns = [
        Column("a", "number", 0),
        Column("$", "number", 0, None, None, Spelling(".", "$")),
        Column("b", "number", 0),
    ]
    asked = settings.read(settings.defaults())
    model, plain = (pipeline.make(asked, ESTIMATORS["ridge"], columns, frame) for _ in range(2))
    moments.fit(model, frame, moments.take(frame, target)[0])
    pipeline.fit(ESTIMATORS["ridge"], plain, frame, target)
    rows = pd.concat([frame.head(3), frame.head(3).assign(**{"$": np.nan}), frame.head(3).assign(b=np.nan)])
    np.testing.assert_allclose(model.predict(rows), plain.predict(rows), rtol=1e-9)
