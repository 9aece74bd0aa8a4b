"""A search: its trials, its best one, and what is wrong with a search space."""

import math
import sys
from pathlib import Path

import mlflow
import pytest
import yaml

import sweep
from tests.conftest import ROOT, Trainer, run_id, script
from trainer import search

JOB = yaml.safe_load((ROOT / "submit" / "sweep.yml").read_text())
ALPHA = {"alpha": {"type": "choice", "values": [1]}}
Searcher = Trainer


@pytest.fixture
def searches(store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]) -> Searcher:
    """Return sweep.py's command line as a function."""
    return script(sweep.main, capsys)


def written(path: Path, space: object, **changed: object) -> Path:
    """Write a sweep job of another search space."""
    path.write_text(yaml.safe_dump(JOB | {"search_space": space} | changed))
    return path


def children(store: mlflow.MlflowClient, parent: str) -> list[mlflow.entities.Run]:
    query = f"tags.mlflow.parentRunId = '{parent}'"
    return store.search_runs([store.get_run(parent).info.experiment_id], query, order_by=["attributes.start_time ASC"])


def test_the_best_trial_is_trained_and_registered_as_train_does_it(
    searches: Searcher, trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "sweep.py")])
    done = searches(model_name="searched")
    assert (done.code, done.err) == (0, "")
    trials = children(store, run_id(done))
    assert len(trials) == 20
    assert {trial.info.status for trial in trials} == {"FINISHED"}
    scores = {trial.data.metrics["cv_rmse_mean"]: trial.data.params["alpha"] for trial in trials}
    assert len(scores) == 20
    alpha = scores[min(scores)]
    parent = store.get_run(run_id(done))
    assert parent.info.status == "FINISHED"
    assert float(parent.data.params["estimator__alpha"]) == float(alpha)
    assert parent.data.metrics["cv_rmse_mean"] == min(scores)
    assert parent.data.metrics["trials"] == 20
    assert [one.path for one in store.list_artifacts(run_id(done), "search")] == ["search/sweep.yml"]
    assert "figures/search.svg" in [one.path for one in store.list_artifacts(run_id(done), "figures")]
    assert "The search" in mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/report.html")
    best = int(parent.data.tags["best_trial"])
    assert trials[best - 1].data.params == {"alpha": alpha}
    assert trials[best - 1].info.run_name == f"trial {best}"
    for name in ("mlflow.user", "mlflow.source.name", "mlflow.source.type"):
        assert trials[0].data.tags[name] == parent.data.tags[name]
    assert parent.data.tags["mlflow.source.name"] == "sweep.py"
    (version,) = store.search_model_versions("name='searched'")
    assert version.run_id == run_id(done)
    assert store.get_model_version_by_alias("searched", "champion").version == version.version

    alone = store.get_run(run_id(trains(alpha=alpha, model_name="none"))).data.metrics
    assert {name: value for name, value in parent.data.metrics.items() if name not in ("trials", "fit_seconds")} == {
        name: value for name, value in alone.items() if name != "fit_seconds"
    }


def test_the_same_search_has_the_same_trials(tmp_path: Path) -> None:
    space = {
        "learning_rate": {"type": "uniform", "min_value": 0.01, "max_value": 0.3},
        "max_depth": {"type": "choice", "values": [3, 5]},
    }
    first, again = (search.read(str(written(tmp_path / "a.yml", space))).trials() for _ in range(2))
    assert first == again
    assert len({trial["learning_rate"] for trial in first}) == 20
    assert all(0.01 <= float(trial["learning_rate"]) <= 0.3 for trial in first)
    assert {trial["max_depth"] for trial in first} == {"3", "5"}
    other = written(tmp_path / "b.yml", space, sampling_algorithm={"type": "random", "seed": 1})
    assert search.read(str(other)).trials() != first


def test_loguniform_has_its_ends_as_natural_logarithms() -> None:
    drawn = [float(trial["alpha"]) for trial in search.read(str(ROOT / "submit" / "sweep.yml")).trials()]
    assert all(0.0009 < alpha < 149 for alpha in drawn)
    assert min(drawn) < 0.1
    assert max(drawn) > 1


def test_a_grid_is_every_combination_and_choices_are_not_drawn_twice(searches: Searcher, tmp_path: Path) -> None:
    space = {
        "alpha": {"type": "choice", "values": [0.1, 1, 1e-07]},
        "l1_ratio": {"type": "choice", "values": [0.5, 1]},
    }
    grid = search.read(str(written(tmp_path / "g.yml", space, sampling_algorithm="grid"))).trials()
    assert {(trial["alpha"], trial["l1_ratio"]) for trial in grid} == {
        (alpha, ratio) for alpha in ("0.1", "1", "1e-07") for ratio in ("0.5", "1")
    }
    assert len(grid) == 6
    drawn = search.read(str(written(tmp_path / "r.yml", space))).trials()
    assert sorted(map(str, drawn)) == sorted(map(str, grid))
    few = written(tmp_path / "f.yml", space, sampling_algorithm="grid", limits={"max_total_trials": 4})
    assert search.read(str(few)).trials() == grid[:4]
    done = searches(search=few, estimator="elasticnet", model_name="none")
    assert "search      4 of 6 trials of elasticnet: alpha and l1_ratio (grid), as" in done.out


def test_a_choice_is_used_as_it_is_written_and_once(tmp_path: Path) -> None:
    space = {"alpha": {"type": "choice", "values": [0.123456789, 12345678.0, 0.123456789]}}
    for sampling in ("grid", "random"):
        drawn = search.read(str(written(tmp_path / "c.yml", space, sampling_algorithm=sampling))).trials()
        assert {trial["alpha"] for trial in drawn} == {"0.123456789", "12345678.0"}
        assert len(drawn) == 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_trial_that_diverges_is_not_the_best_one(
    searches: Searcher, trains: Trainer, store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    def rates(*values: float) -> Path:
        space = {
            "learning_rate": {"type": "choice", "values": list(values)},
            "n_estimators": {"type": "choice", "values": [20]},
        }
        return written(tmp_path / "rates.yml", space, sampling_algorithm="grid")

    done = searches(search=rates(1e30, 0.1), estimator="xgboost", model_name="none")
    assert (done.code, done.err) == (0, "")
    assert "cv rmse nan" in done.out
    assert store.get_run(run_id(done)).data.tags["best_trial"] == "2"
    done = searches(search=rates(1e30, 1e29), estimator="xgboost", model_name="diverged")
    assert done.code == 2
    assert done.err.startswith("error: every trial has diverged")
    done = trains(estimator="xgboost", learning_rate=1e30, n_estimators=20, cv=0, model_name="diverged")
    assert done.code == 2
    assert done.err.startswith("error: the model has diverged")
    assert store.search_model_versions("name='diverged'") == []


def test_inputs_of_the_file_that_are_not_used_here_are_told(searches: Searcher, tmp_path: Path) -> None:
    mine = written(tmp_path / "mine.yml", ALPHA, inputs=JOB["inputs"] | {"estimator": "elasticnet"})
    done = searches(search=mine, model_name="none")
    assert done.code == 0
    assert "are for the cluster: estimator=elasticnet (here ridge)" in done.out
    assert "not used" not in searches(search=written(tmp_path / "mine.yml", ALPHA), model_name="none").out


def test_a_trial_that_fails_fails_the_search_and_registers_nothing(
    searches: Searcher, store: mlflow.MlflowClient
) -> None:
    done = searches(model_name="unfinished", cv=400)
    assert done.code == 2
    assert done.err.startswith("error: cv=400 is more than the 350 training rows")
    (parent,) = store.search_runs(["0"], "params.model_name = 'unfinished'")
    assert parent.info.status == "FAILED"
    (trial,) = children(store, parent.info.run_id)
    assert trial.info.status == "FAILED"
    assert store.search_model_versions("name='unfinished'") == []


@pytest.mark.parametrize(
    ("space", "changed", "told"),
    [
        ({"alhpa": {"type": "choice", "values": [1]}}, {}, "searches 'alhpa'; did you mean 'alpha'?"),
        ({"max_depth": {"type": "choice", "values": [3]}}, {}, "mine.yml: the estimator ridge has no max_depth"),
        ({"alpha": {"type": "choice", "values": [1, -1]}}, {}, "alpha should be a number at least 0, and is '-1'"),
        ({"alpha": {"type": "choice"}}, {}, "gives alpha no values to choose from"),
        ({"alpha": 3}, {}, "draws alpha by None"),
        ({"alpha": {"type": "lognormal", "mu": 0, "sigma": 1}}, {}, "draws alpha by 'lognormal'"),
        ({"alpha": {"type": "uniform", "min_value": 3, "max_value": 1}}, {}, "min_value below max_value"),
        ({"alpha": {"type": "uniform", "min_value": "low", "max_value": 1}}, {}, "min_value below max_value"),
        ({"alpha": {"type": "loguniform", "min_value": 0, "max_value": 1e9}}, {}, "min_value below max_value"),
        ({"alpha": {"type": "loguniform", "min_value": -800, "max_value": 1}}, {}, "min_value below max_value"),
        ({"alpha": {"type": "uniform", "min_value": -math.inf, "max_value": 1}}, {}, "min_value below max_value"),
        ({1: {"type": "choice", "values": [1]}}, {}, "searches 1"),
        ({}, {}, "has nothing in its search_space"),
        (None, {}, "has no search_space"),
        (ALPHA, {"type": "command"}, "is not a sweep job"),
        (ALPHA, {"sampling_algorithm": "bayesian"}, "samples by 'bayesian', which is not supported"),
        (JOB["search_space"], {"sampling_algorithm": "grid"}, "asks for a grid of a distribution"),
        (ALPHA, {"objective": {"goal": "minimize", "primary_metric": "rmse"}}, "compared by cross-validation"),
        (ALPHA, {"objective": {"goal": "maximize", "primary_metric": "cv_rmse_mean"}}, "compared by cross-validation"),
        (ALPHA, {"limits": {}}, "max_total_trials should be an integer from 1 to 1000, and is ''"),
        (ALPHA, {"limits": {"max_total_trials": 0}}, "max_total_trials should be an integer"),
        (ALPHA, {"sampling_algorithm": {"type": "random", "seed": "x"}}, "the seed of sampling_algorithm should be"),
    ],
)
def test_what_is_wrong_with_a_search_is_told_before_a_run_begins(
    searches: Searcher, store: mlflow.MlflowClient, tmp_path: Path,
    space: object, changed: dict[str, object], told: str
) -> None:  # fmt: skip
    done = searches(search=written(tmp_path / "mine.yml", space, **changed), model_name="refused")
    assert (done.code, done.out) == (2, "")
    cause, fix = done.err.splitlines()
    assert told in cause
    assert fix.startswith("  fix: ")
    assert store.search_runs(["0"], "params.model_name = 'refused'") == []


def test_a_file_that_is_no_search(searches: Searcher, tmp_path: Path) -> None:
    assert "cannot read away.yml: No such file" in searches(search="away.yml").err
    (tmp_path / "broken.yml").write_text("type: sweep\nsearch_space: [")
    assert "broken.yml is not a YAML file in line 2" in searches(search=tmp_path / "broken.yml").err
    (tmp_path / "date.yml").write_text("type: sweep\nsearch_space: {alpha: {type: choice, values: [2026-13-45]}}")
    assert "date.yml is not a YAML file" in searches(search=tmp_path / "date.yml").err
    (tmp_path / "deep.yml").write_text("[" * 5_000)
    assert "deep.yml is not a YAML file" in searches(search=tmp_path / "deep.yml").err
    (tmp_path / "list.yml").write_text("- 1")
    assert "list.yml is not a sweep job" in searches(search=tmp_path / "list.yml").err


def test_there_must_be_something_to_compare_by(searches: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "compared by cross-validation, and cv=0" in searches(cv=0).err
    monkeypatch.setattr("trainer.evaluation.CV_ROWS", 100)
    assert "compared by cross-validation, and cv=auto makes none of 350 rows" in searches(model_name="none").err
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, value in {"RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    assert "a search runs in one process" in searches().err


def test_a_search_says_what_it_searches() -> None:
    assert str(search.read(str(ROOT / "submit" / "sweep.yml"))) == "alpha (random, seed 0)"
