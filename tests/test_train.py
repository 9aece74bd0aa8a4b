"""The command line, from a table to a registered model; and nothing registered where it fails."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

import train
from tests.conftest import ROOT, Done, Trainer, run_id
from trainer import estimators, registry
from trainer.errors import UserError

CHALLENGE = {"split": "random", "seed": 0, "scaling": "none", "alpha": 0.03}
FIGURES = {
    "data/diabetes.csv": (58.5223, 0.3321, 46.0830, 89),
    "data/diabetes_350.csv": (61.5549, 0.3313, 48.4616, 70),
}


def artifacts(run: str) -> Path:
    return Path(mlflow.artifacts.download_artifacts(run_id=run))


@pytest.mark.parametrize("data", FIGURES)
def test_the_figures_of_the_original_lesson(data: str, trains: Trainer, store: mlflow.MlflowClient) -> None:
    rmse, r2, mae, rows = FIGURES[data]
    done = trains(data=data, model_name="none", **CHALLENGE)
    assert done.code == 0, done.err
    metrics = store.get_run(run_id(done)).data.metrics
    assert round(metrics["rmse"], 4) == rmse
    assert round(metrics["r2"], 4) == r2
    assert round(metrics["mae"], 4) == mae
    assert metrics["rows_test"] == rows


def test_a_run_says_all_that_is_promised(trains: Trainer, store: mlflow.MlflowClient) -> None:
    done = trains(alpha="0.50", model_name="says-all")
    assert done.code == 0, done.err
    run = store.get_run(run_id(done))
    assert run.info.status == "FINISHED"
    assert run.data.params["alpha"] == "0.50"  # as it was spelled
    assert run.data.params["estimator__alpha"] == "0.5"
    assert run.data.params.keys() >= train.PARAMETERS.keys()
    assert run.data.metrics.keys() == {
        *("rmse", "mae", "mse", "r2", "baseline_rmse", "cv_rmse_mean", "cv_rmse_std"),
        *("rows_train", "rows_test", "fit_seconds"),
    }
    source = ROOT / "data/diabetes.csv"
    digest = subprocess.run(["sha256sum", source], capture_output=True, text=True, check=True).stdout.split()[0]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.data.tags.items() >= {
        ("data_name", "diabetes.csv"),
        ("data_sha256", digest),
        ("data_bytes", str(source.stat().st_size)),
        ("git_commit", commit.stdout.strip()),
        ("version.scikit-learn", "1.9.1"),
    }
    assert run.data.tags["git_dirty"] in ("true", "false")
    assert {f"version.{name}" for name in ("python", "numpy", "pandas")} <= run.data.tags.keys()
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("diabetes.csv", digest[:32])

    folder = artifacts(run.info.run_id)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {
        *("metric.json", "model_card.md"),
        *("figures/predicted_vs_actual.png", "figures/residuals.png", "figures/feature_importance.png"),
        *("models/conda.yaml", "models/python_env.yaml", "models/requirements.txt", "models/model.skops"),
        *("models/input_example.json", "models/serving_input_example.json", "models/recorded_scoring.json"),
    }
    for picture in (folder / "figures").iterdir():
        assert picture.read_bytes().startswith(b"\x89PNG")
    card = (folder / "model_card.md").read_text()
    for told in (digest, run.info.run_id, f"{run.data.metrics['rmse']:.6g}", "alpha", "bmi"):
        assert told in card

    version = store.get_model_version("says-all", "1")
    assert version.run_id == run.info.run_id
    assert version.source == f"{run.info.artifact_uri}/models"
    assert version.tags.items() >= {
        ("rmse", repr(run.data.metrics["rmse"])),
        ("rows", "442"),
        ("data_sha256", digest),
        ("git_commit", commit.stdout.strip()),
    }


def test_metric_json_keeps_its_contract(trains: Trainer, store: mlflow.MlflowClient) -> None:
    done = trains(model_name="none", cv=0)
    contract = json.loads((artifacts(run_id(done)) / "metric.json").read_text())
    metrics = store.get_run(run_id(done)).data.metrics
    assert contract["run_id"] == run_id(done)
    assert (contract["RMSE"], contract["R2"], contract["MAE"]) == (
        metrics["rmse"],
        metrics["r2"],
        metrics["mae"],
    )
    assert (contract["MSE"], contract["baseline_RMSE"]) == (metrics["mse"], metrics["baseline_rmse"])
    assert contract["cv_RMSE_mean"] is contract["cv_RMSE_std"] is None
    assert (contract["rows_train"], contract["rows_test"]) == (350, 92)
    assert contract["data_sha256"] == store.get_run(run_id(done)).data.tags["data_sha256"]
    assert len(contract["git_commit"]) == 40
    assert contract["versions"]["scikit-learn"] == "1.9.1"


PROBE = """
import json, sys, mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = pd.read_csv("data/diabetes.csv").sample(frac=1, axis=1, random_state=0)
print(json.dumps(model.predict(frame.drop(columns="progression")).tolist()))
"""


@pytest.mark.parametrize("estimator", estimators.ESTIMATORS)
def test_a_registered_model_predicts_the_same_in_another_process(
    estimator: str, trains: Trainer, store: mlflow.MlflowClient, tracking_uri: str
) -> None:
    name = f"elsewhere-{estimator}"
    small = {"n_estimators": 20} if estimator in ("random_forest", "hist_gradient_boosting", "xgboost") else {}
    done = trains(estimator=estimator, model_name=name, **small)
    assert done.code == 0, done.err
    asked = [sys.executable, "-c", PROBE, f"models:/{name}/1"]
    elsewhere = json.loads(subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    frame = pd.read_csv("data/diabetes.csv").drop(columns="progression")
    here = mlflow.pyfunc.load_model(f"models:/{name}/1").predict(frame)
    assert elsewhere == here.tolist()


def recorded(run: str) -> bytes:
    return (artifacts(run) / "models" / "recorded_scoring.json").read_bytes()


def metrics_of(client: mlflow.MlflowClient, run: str) -> dict[str, float]:
    return {k: v for k, v in client.get_run(run).data.metrics.items() if k != "fit_seconds"}


def test_the_same_digits_by_mlflow_run_and_by_python(
    trains: Trainer, store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    first, second = trains(model_name="none"), trains(model_name="none")
    command = ["mlflow", "run", ".", "--env-manager", "local", "-P", "model_name=by-mlflow-run"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # has `python`
    with_path = os.environ | {"PATH": path}
    ran = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, env=with_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    third = run_id(Done(0, ran.stdout, ran.stderr))
    run = store.get_run(third)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.project.entryPoint"] == "main"
    assert run.data.tags["mlflow.source.name"] == "train.py"  # not a path of this machine
    assert store.get_model_version("by-mlflow-run", "1").run_id == third
    for other in (run_id(second), third):
        assert metrics_of(store, other) == metrics_of(store, run_id(first))
        assert recorded(other) == recorded(run_id(first))


def test_changes_are_echoed(trains: Trainer) -> None:
    assert "parameters  all defaults\n" not in trains(alpha=2, seed="0", model_name="none").out
    assert "alpha=3 (not auto), model_name=none (not diabetes-progression)" in trains(alpha=3, model_name="none").out
    assert "seed" not in trains(alpha=2, seed="0", model_name="none").out


BAD_ARGUMENTS: list[tuple[dict[str, object], str]] = [
    ({"estimator": "rigde"}, "there is no estimator 'rigde'; did you mean 'ridge'?"),
    ({"split": "time"}, "there is no split 'time'"),
    ({"scaling": "minmax"}, "there is no scaling 'minmax'"),
    ({"test_fraction": "1"}, "test_fraction should be a number above 0 and below 1, and is '1'"),
    ({"test_fraction": "half"}, "test_fraction should be a number above 0 and below 1, and is 'half'"),
    ({"alpha": "-0.1"}, "alpha should be a number at least 0"),
    ({"l1_ratio": "0.5"}, "the estimator ridge has no l1_ratio; it has alpha"),
    ({"seed": "-1"}, "seed should be a whole number from 0"),
    ({"cv": "1"}, "cv=1 leaves no rows to train on"),
    ({"model_name": "a/b"}, "'a/b' cannot be the name of a registered model"),
    ({"model_name": ""}, "'' cannot be the name of a registered model"),
    ({"colour": "red"}, "unrecognized arguments: --colour=red"),
]


@pytest.mark.parametrize(("given", "expected"), BAD_ARGUMENTS)
def test_bad_parameters_are_refused_before_a_run_begins(
    given: dict[str, object], expected: str, trains: Trainer, store: mlflow.MlflowClient
) -> None:
    before = len(store.search_runs(["0"]))
    done = trains(**given)
    assert done.code == 2
    assert expected in done.err
    assert len(done.err.splitlines()) == 2
    assert len(store.search_runs(["0"])) == before


BAD_DATA: list[tuple[dict[str, object], str]] = [
    ({"data": "nowhere.csv"}, "there is no file nowhere.csv"),
    ({"target": "progresion"}, "did you mean 'progression'?"),
    ({"cv": "1000"}, "cv=1000 is more than the 350 training rows"),
    ({"test_fraction": "0.00001"}, "the stable split with test_fraction=1e-05 leaves 0 test rows"),
]


@pytest.mark.parametrize(("given", "expected"), BAD_DATA)
def test_a_run_that_began_ends_failed_and_registers_nothing(
    given: dict[str, object], expected: str, trains: Trainer, store: mlflow.MlflowClient
) -> None:
    done = trains(model_name="never", **given)
    assert (done.code, len(done.err.splitlines())) == (2, 2)
    assert expected in done.err
    assert "Traceback" not in done.err
    assert store.search_runs(["0"], max_results=1)[0].info.status == "FAILED"
    assert not store.search_model_versions("name='never'")


def test_debug_shows_the_traceback(trains: Trainer, store: mlflow.MlflowClient) -> None:
    with pytest.raises(UserError, match="no file"):
        train.main(["--data=nowhere.csv", "--debug"])


def test_a_run_that_fails_while_it_registers_registers_nothing(
    trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("no permission\nto do this")

    monkeypatch.setattr(mlflow.MlflowClient, "create_model_version", refuse)
    done = trains(model_name="refused")
    assert done.code == 2
    assert "could not register a version of refused: no permission" in done.err
    assert len(done.err.splitlines()) == 2
    assert store.search_runs(["0"], max_results=1)[0].info.status == "FAILED"
    assert not store.search_registered_models("name='refused'")


@pytest.mark.parametrize(("module", "name"), [("trainer.figures", "save"), ("mlflow.MlflowClient", "log_artifacts")])
def test_a_full_disk_is_told_in_one_line_and_registers_nothing(
    module: str, name: str, trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"{module}.{name}", full)
    done = trains(model_name="full")
    assert (done.code, len(done.err.splitlines())) == (2, 2)
    assert "No space left on device" in done.err
    assert "free some space" in done.err or "free space" in done.err
    assert store.search_runs(["0"], max_results=1)[0].info.status == "FAILED"
    assert not store.search_registered_models("name='full'")


def test_a_bug_shows_its_traceback_and_fails_the_run(
    trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(estimators, "fit", bug)
    with pytest.raises(ZeroDivisionError):
        trains(model_name="never")
    assert store.search_runs(["0"], max_results=1)[0].info.status == "FAILED"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_kill_in_the_middle_registers_nothing_and_the_next_run_works(
    sent: signal.Signals, trains: Trainer, store: mlflow.MlflowClient
) -> None:
    name = f"killed-{sent.name}"
    forest = ["--estimator=random_forest", "--n-estimators=100000", f"--model-name={name}"]
    process = subprocess.Popen([sys.executable, "train.py", *forest], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        run = wait_for_run(store, name)
        process.send_signal(sent)
        _, said = process.communicate(timeout=240)
    finally:
        process.kill()
    if sent == signal.SIGKILL:  # nobody can say goodbye after that one
        assert process.returncode == -sent
    else:
        assert process.returncode == 128 + sent
        assert said.splitlines() == ["stopped: a run that had begun is FAILED, and nothing was registered"]
        assert store.get_run(run).info.status == "FAILED"
    assert not store.search_model_versions(f"name='{name}'")
    assert trains(model_name=name).code == 0
    assert [version.version for version in store.search_model_versions(f"name='{name}'")] == [1]


def wait_for_run(client: mlflow.MlflowClient, name: str) -> str:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if found := client.search_runs(["0"], f"params.model_name = '{name}'"):
            time.sleep(1)  # into the fit
            return str(found[0].info.run_id)
        time.sleep(0.1)
    raise TimeoutError(name)


def test_the_run_that_somebody_opened_is_used(
    trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = store.get_experiment_by_name("mine") or store.get_experiment(store.create_experiment("mine"))
    opened = store.create_run(experiment.experiment_id).info.run_id
    store.log_param(opened, "alpha", "0.5")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment.experiment_id)
    done = trains(alpha="0.5", model_name="none")
    assert (done.code, run_id(done)) == (0, opened), done.err

    other = store.create_run(experiment.experiment_id).info.run_id
    store.log_param(other, "alpha", "7")
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment.experiment_id)
    done = trains(alpha="0.5", model_name="none")
    assert done.code == 2
    assert f"run {other} already has alpha=7, and is given alpha=0.5" in done.err
    assert store.get_run(other).info.status == "FAILED"


def test_the_experiment_that_somebody_named_is_used(
    trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "named")
    done = trains(model_name="none")
    experiment = store.get_experiment(store.get_run(run_id(done)).info.experiment_id)
    assert experiment.name == "named"


def test_keys_are_no_features_and_stay_together(trains: Trainer, tmp_path: Path) -> None:
    frame = pd.read_csv("data/diabetes.csv").assign(patient=lambda f: f.index % 90, site="A")
    frame.to_csv(tmp_path / "visits.csv", index=False)
    done = trains(data=tmp_path / "visits.csv", key="patient,site", model_name="none")
    assert done.code == 0, done.err
    assert "10 features" in done.out
    model = mlflow.pyfunc.load_model(f"runs:/{run_id(done)}/models")
    assert "patient" not in model.metadata.get_input_schema().input_names()


def test_names_of_registered_models() -> None:
    assert registry.check_name("diabetes-progression.v_2") == "diabetes-progression.v_2"
    for name in ("", "-a", "a b", "a:b", "x" * 256):
        with pytest.raises(UserError):
            registry.check_name(name)


def test_help_lists_every_parameter_with_its_default() -> None:
    told = subprocess.run(
        [sys.executable, "train.py", "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    told = " ".join(told.split())
    for name, (default, meaning) in train.PARAMETERS.items():
        assert f"--{name.replace('_', '-')} VALUE {meaning} [{default}]" in told
