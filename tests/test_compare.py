"""Estimators side by side: their board, the best of them, and what cannot be compared."""

from dataclasses import replace
from typing import Any

import mlflow
import numpy as np
import pytest

import compare
from tests import tables
from tests.conftest import ROOT, Trainer, run_id, script
from trainer import board, card, comparison, settings
from trainer.errors import UserError
from trainer.evaluation import Folds
from trainer.trials import Score, Trial

Comparer = Trainer


@pytest.fixture
def compares(store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]) -> Comparer:
    """Return compare.py's command line as a function."""
    return script(compare.main, capsys)


def entry(estimator: str, residuals: Any, mean: float, **changed: Any) -> board.Entry:
    given = settings.defaults() | {"estimator": estimator}
    trial = Trial(estimator, settings.read(given), {"estimator": estimator})
    score = Score(trial, Folds({"cv_rmse_mean": mean, "cv_rmse_std": 1.0}, np.asarray(residuals)), 0.1)
    return replace(board.Entry(score, (mean - 1, mean + 1), 0.01234, 25.0, 2_500), **changed)


def test_the_best_estimator_is_trained_and_registered_as_train_does_it(
    compares: Comparer, trains: Trainer, store: mlflow.MlflowClient
) -> None:
    done = compares(model_name="compared", estimators="elasticnet, xgboost, ridge")
    assert (done.code, done.err) == (0, "")
    found = [line.split() for line in done.out.splitlines() if line[:1].isdigit()]
    assert [line[1] for line in found] == ["ridge", "elasticnet", "xgboost"]
    assert "behind by" in done.out
    assert "best        ridge; now on the test rows:" in done.out

    parent = store.get_run(run_id(done))
    query = f"tags.mlflow.parentRunId = '{run_id(done)}'"
    children = {run.info.run_name: run.data for run in store.search_runs(["0"], query)}
    assert set(children) == {"ridge", "elasticnet", "xgboost"}
    for name, data in children.items():
        assert data.params["estimator"] == name
        metrics = data.metrics
        assert metrics["cv_rmse_low"] < metrics["cv_rmse_mean"] < metrics["cv_rmse_high"]
        assert min(metrics["fit_seconds"], metrics["predict_seconds"], metrics["model_bytes"]) > 0
    assert children["ridge"].metrics["model_bytes"] < children["xgboost"].metrics["model_bytes"]
    assert parent.info.run_name == "compare 3 estimators diabetes.csv"
    assert (parent.data.tags["best_estimator"], parent.data.metrics["estimators"]) == ("ridge", 3)
    assert "figures/estimators.svg" in [one.path for one in store.list_artifacts(run_id(done), "figures")]
    (version,) = store.search_model_versions("name='compared'")
    assert version.run_id == run_id(done)
    assert store.get_model_version_by_alias("compared", "champion").version == version.version
    report = mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/report.html")
    assert "The estimators" in report
    assert report.count("may be chance") >= 1

    alone = store.get_run(run_id(trains(model_name="none"))).data.metrics
    assert {
        name: value for name, value in parent.data.metrics.items() if name not in ("estimators", "fit_seconds")
    } == {name: value for name, value in alone.items() if name != "fit_seconds"}
    assert children["ridge"].metrics["cv_rmse_mean"] == alone["cv_rmse_mean"]


def test_the_others_are_compared_with_the_best_row_by_row() -> None:
    rng = np.random.default_rng(0)
    read = tables.load(ROOT / "data" / "diabetes.csv", "progression")
    n_rows = len(read.training.target)
    best, worse = rng.normal(0, 1, n_rows), rng.normal(0, 2, n_rows)
    like = best * 1.001
    ranked = board.rank(
        [entry("xgboost", worse, 2.0), entry("ridge", best, 1.0), entry("elasticnet", like, 1.001)], read
    )
    assert [one.name for one in ranked.entries] == ["ridge", "elasticnet", "xgboost"]
    assert ranked.behind[0] is None
    assert ranked.behind[2] == comparison.measure(np.zeros(n_rows), worse, best, None, 0)
    assert ranked.lines() == [
        "1  ridge       cv rmse 1.0000  (95 % 0 to 2)  fit 0.012 s  predict 25 s  2.5 kB",
        *(ranked.lines()[1:]),
    ]
    assert "xgboost     cv rmse 2.0000" in ranked.lines()[2]
    assert "may be chance" not in ranked.lines()[2]
    equal = board.rank([entry("xgboost", best, 1.0), entry("ridge", best, 1.0)], read)
    assert equal.best.name == "xgboost"
    assert "behind by 0 (0 to 0, may be chance)" in equal.lines()[1]


def test_an_estimator_that_diverges_is_the_last_and_is_not_drawn() -> None:
    read = tables.load(ROOT / "data" / "diabetes.csv", "progression")
    good, bad = entry("ridge", np.ones(350), 1.0), entry("xgboost", np.full(350, np.nan), float("nan"), interval=None)
    ranked = board.rank([bad, good], read)
    assert ranked.lines()[1].startswith("2  xgboost  cv rmse nan (diverged)  fit")
    assert "xgboost" not in ranked.picture("y")
    assert "diverged" in ranked.markup("y")
    with pytest.raises(UserError, match="every estimator has diverged"):
        board.rank([bad], read)


def test_only_the_best_one_keeps_its_model() -> None:
    fitted: Any = object()
    found: list[board.Entry] = []
    for name, mean in (("ridge", 2.0), ("elasticnet", 1.0), ("xgboost", 3.0)):
        found = board.add(found, entry(name, [0.0], mean, fitted=fitted))
    assert [one.name for one in found if one.fitted] == ["elasticnet"]


@pytest.mark.parametrize(
    ("given", "cause", "fix"),
    [
        (
            {"estimators": "ridge,xgbost"},
            "names 'xgbost', which is no estimator; did you mean 'xgboost'?",
            "ridge,elastic",
        ),
        ({"estimators": "ridge,xgboost,ridge"}, "estimators names ridge twice", "give estimators=ridge,xgboost"),
        ({"estimators": ""}, "estimators is empty", "give estimators=VALUE"),
        ({"estimators": "ridge,"}, "estimators names '', which is no estimator", "give estimators=all, or some of"),
        ({"cv": 0}, "models are compared by cross-validation, and cv=0", "give cv=5, say"),
        ({"alpha": 3}, "unrecognized arguments: --alpha=3", "leave it out; train.py has --alpha"),
        ({"seed": "x"}, "seed should be an integer", "give seed=NUMBER"),
        ({"data": "away.csv"}, "away.csv", ""),
    ],
)
def test_what_cannot_be_compared_is_told_before_a_run_begins(
    given: dict[str, object], cause: str, fix: str, compares: Comparer, store: mlflow.MlflowClient
) -> None:
    done = compares(**({"model_name": "none"} | given))
    assert done.code == 2
    told, remedy = done.err.splitlines()
    assert told.startswith("error: ")
    assert cause in told
    assert remedy.startswith("  fix: ")
    assert fix in remedy
    assert store.search_runs(["0"]) == []


def test_there_must_be_folds_to_compare_by(compares: Comparer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.evaluation.CV_ROWS", 100)
    assert "compared by cross-validation, and cv=auto makes none of 350 rows" in compares(model_name="none").err
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert "a comparison runs in one process" in compares().err


def test_the_name_of_a_comparison() -> None:
    assert card.comparison_name(["ridge", "xgboost"], "cars.csv") == "compare ridge xgboost cars.csv"
    assert card.comparison_name(["ridge", "xgboost", "elasticnet"], "cars.csv") == "compare 3 estimators cars.csv"
