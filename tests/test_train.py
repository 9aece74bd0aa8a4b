"""The command line, from a table to a registered model; and nothing registered where it fails."""

import errno
import json
import os
import subprocess
import sys
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

import train
from tests.conftest import ROOT, Trainer, run_id
from trainer import pipeline, settings
from trainer.errors import UserError
from trainer.estimators import ESTIMATORS

LESSON = {"split": "random", "seed": 0, "scaling": "none", "alpha": 0.03}
FIGURES = {
    "data/diabetes.csv": (58.5223, 0.3321, 46.0830, 89),
    "data/diabetes_350.csv": (61.5549, 0.3313, 48.4616, 70),
}


def artifacts(run: str) -> Path:
    return Path(mlflow.artifacts.download_artifacts(run_id=run))


@pytest.mark.parametrize("data", FIGURES)
def test_the_figures_of_the_original_lesson(data: str, trains: Trainer, store: mlflow.MlflowClient) -> None:
    rmse, r2, mae, rows = FIGURES[data]
    done = trains(data=data, model_name="none", **LESSON)
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
    assert (run.info.status, run.info.run_name) == ("FINISHED", "ridge alpha=0.50 diabetes.csv")
    assert run.data.params["alpha"] == "0.50"  # as it was spelled
    assert run.data.params["estimator__alpha"] == "0.5"
    assert run.data.params.keys() >= settings.defaults().keys()
    assert run.data.metrics.keys() >= {
        *("rmse", "rmse_low", "rmse_high", "mae", "mse", "r2", "baseline_rmse", "cv_rmse_mean", "cv_rmse_std"),
        *("rows_train", "rows_test", "fit_seconds"),
    }
    source = ROOT / "data/diabetes.csv"
    digest = sha256(source.read_bytes()).hexdigest()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.data.tags.items() >= {
        ("data_name", "diabetes.csv"),
        ("data_sha256", digest),
        ("data_bytes", str(source.stat().st_size)),
        ("git_commit", commit.stdout.strip()),
        ("version.scikit-learn", version("scikit-learn")),
    }
    assert run.data.tags["git_dirty"] in ("true", "false")
    assert {f"version.{name}" for name in ("python", "numpy", "pandas")} <= run.data.tags.keys()
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("diabetes.csv", digest[:32])

    folder = artifacts(run.info.run_id)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    assert names >= {
        *("metric.json", "model_card.md", "predictions.csv", "report.html"),
        *("figures/predicted_vs_actual.svg", "figures/residuals.svg", "figures/feature_importance.svg"),
        *("models/conda.yaml", "models/model.skops", "models/recorded_scoring.json"),
    }
    for picture in (folder / "figures").iterdir():
        assert picture.read_bytes().startswith(b"<svg ")
    for name in ("model_card.md", "report.html"):
        text = (folder / name).read_text()
        for told in (digest, run.info.run_id, "alpha", "bmi", f"{run.data.metrics['rmse']:.4f}"):
            assert told in text

    registered = store.get_model_version("says-all", "1")
    assert registered.run_id == run.info.run_id
    assert registered.tags.items() >= {
        ("rmse", repr(run.data.metrics["rmse"])),
        ("rows", "442"),
        ("data_sha256", digest),
        ("git_commit", commit.stdout.strip()),
    }
    assert (Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/models")) / "MLmodel").is_file()


def test_metric_json_keeps_its_contract(trains: Trainer, store: mlflow.MlflowClient) -> None:
    done = trains(model_name="contract", cv=0)
    contract = json.loads((artifacts(run_id(done)) / "metric.json").read_text())
    metrics = store.get_run(run_id(done)).data.metrics
    assert contract["run_id"] == run_id(done)
    for key, metric in {
        "RMSE": "rmse",
        "R2": "r2",
        "MAE": "mae",
        "MSE": "mse",
        "baseline_RMSE": "baseline_rmse",
    }.items():
        assert contract[key] == metrics[metric]
    assert contract["cv_RMSE_mean"] is contract["cv_RMSE_std"] is None
    assert (contract["rows_train"], contract["rows_test"]) == (350, 92)
    assert contract["data_sha256"] == store.get_run(run_id(done)).data.tags["data_sha256"]
    assert len(contract["git_commit"]) == 40
    assert contract["git_dirty"] in (True, False)
    assert contract["versions"]["scikit-learn"] == version("scikit-learn")
    assert (contract["model_name"], str(contract["version"]), contract["promoted"]) == ("contract", "1", True)


PROBE = """
import json, sys, mlflow, pandas as pd
frame = pd.read_csv("data/diabetes.csv").sample(frac=1, axis=1, random_state=0).drop(columns="progression")
print(json.dumps([mlflow.pyfunc.load_model(uri).predict(frame).tolist() for uri in sys.argv[1:]]))
"""


def test_registered_models_predict_the_same_in_another_process(trains: Trainer, store: mlflow.MlflowClient) -> None:
    for estimator, entry in ESTIMATORS.items():
        small = {"n_estimators": 20} if "n_estimators" in entry.hyperparameters else {}
        done = trains(estimator=estimator, model_name=estimator, cv=0, **small)
        assert done.code == 0, done.err
    asked = [sys.executable, "-c", PROBE, *(f"models:/{estimator}/1" for estimator in ESTIMATORS)]
    elsewhere = json.loads(subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    frame = pd.read_csv("data/diabetes.csv").drop(columns="progression")
    for estimator, predicted in zip(ESTIMATORS, elsewhere, strict=True):
        assert mlflow.pyfunc.load_model(f"models:/{estimator}/1").predict(frame).tolist() == predicted, estimator


def test_the_same_digits_each_time(trains: Trainer, store: mlflow.MlflowClient) -> None:
    first, second = (run_id(trains(model_name="none")) for _ in range(2))
    measured = [store.get_run(run).data.metrics for run in (first, second)]
    for metrics in measured:
        metrics.pop("fit_seconds")
    assert measured[0] == measured[1]
    scored = [(artifacts(run) / "models" / "recorded_scoring.json").read_bytes() for run in (first, second)]
    assert scored[0] == scored[1]


def test_changes_are_echoed(trains: Trainer) -> None:
    out = trains(alpha=3, seed="0", model_name="none").out
    assert out.startswith("parameters  alpha=3 (not auto), model_name=none (not diabetes-progression)\n")


def test_a_mistake_leaves_no_run(trains: Trainer, store: mlflow.MlflowClient) -> None:
    mistakes: list[tuple[dict[str, object], str]] = [
        ({"alpha": "-0.1"}, "alpha should be a number at least 0"),
        ({"colour": "red"}, "unrecognized arguments: --colour=red"),
        ({"n_estimator": "3"}, "did you mean '--n-estimators'?"),
        ({"data": "nowhere.csv"}, "nowhere.csv"),
        ({"target": "progresion"}, "did you mean 'progression'?"),
        ({"test_fraction": "0.99999"}, "the stable split with test_fraction=0.99999 leaves 0 training rows"),
    ]
    for given, cause in mistakes:
        done = trains(model_name="never", **given)
        assert (done.code, len(done.err.splitlines())) == (2, 2), done.err
        assert cause in done.err
    assert not store.search_runs(["0"])
    assert not store.search_registered_models("name='never'")


def test_what_fails_in_a_run_fails_the_run_and_registers_nothing(trains: Trainer, store: mlflow.MlflowClient) -> None:
    done = trains(model_name="never", cv=1000)
    assert (done.code, len(done.err.splitlines())) == (2, 2)
    assert "cv=1000 is more than the 350 training rows" in done.err
    (run,) = store.search_runs(["0"])
    assert run.info.status == "FAILED"
    assert "cv=1000" in run.data.tags["error"]
    assert not store.search_registered_models("name='never'")


def test_debug_shows_the_traceback(store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--data=nowhere.csv", "--debug"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "error: " in said


@pytest.mark.parametrize(("module", "name"), [("trainer.figures", "draw"), ("mlflow.MlflowClient", "log_artifacts")])
def test_a_full_disk_is_told_in_one_line_and_registers_nothing(
    module: str, name: str, trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"{module}.{name}", full)
    done = trains(model_name="full", cv=0)
    assert (done.code, len(done.err.splitlines())) == (2, 2)
    assert "disk is full" in done.err or "No space left on device" in done.err
    assert "space" in done.err.splitlines()[1]
    assert [run.info.status for run in store.search_runs(["0"])] == ["FAILED"]
    assert not store.search_registered_models("name='full'")


def test_a_bug_keeps_its_traceback_and_fails_the_run(
    trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def bug(*_: Any) -> None:
        raise ZeroDivisionError("of a test")

    monkeypatch.setattr(pipeline, "fit", bug)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = trains(model_name="never", cv=0)
    assert done.code == 1
    assert done.err.startswith("error: ZeroDivisionError: of a test\n  fix: this is a bug")
    (kept,) = tmp_path.glob("*traceback*")
    assert "ZeroDivisionError" in kept.read_text()
    assert [run.info.status for run in store.search_runs(["0"])] == ["FAILED"]


def test_keys_are_no_features_and_stay_together(trains: Trainer, tmp_path: Path) -> None:
    frame = pd.read_csv("data/diabetes.csv").assign(patient=lambda f: f.index % 90, site="A")
    frame.to_csv(tmp_path / "visits.csv", index=False)
    done = trains(data=tmp_path / "visits.csv", key="patient,site", model_name="none")
    assert done.code == 0, done.err
    assert "10 features" in done.out
    model = mlflow.pyfunc.load_model(f"runs:/{run_id(done)}/models")
    assert "patient" not in model.metadata.get_input_schema().input_names()
    predictions = pd.read_csv(artifacts(run_id(done)) / "predictions.csv")
    assert list(predictions.columns) == ["row", "patient", "site", "actual", "predicted", "error"]
    assert predictions["error"].abs().is_monotonic_decreasing


def test_what_a_model_must_reach(trains: Trainer, store: mlflow.MlflowClient) -> None:
    done = trains(model_name="must", must="rmse<40, r2>0.3", cv=0)
    assert done.code == 1
    assert "rmse is 48.0518, and must be below 40" in done.out + done.err
    assert store.get_run(run_id(done)).info.status == "FINISHED"
    assert not store.search_registered_models("name='must'")
    assert trains(model_name="must", must="rmse<60", cv=0).code == 0
    assert len(store.search_model_versions("name='must'")) == 1


def test_help_lists_every_parameter_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        train.main(["--help"])
    told = "".join(capsys.readouterr().out.split())
    for parameter in settings.MAIN:
        shown = f"--{parameter.name} VALUE {parameter.meaning} [{parameter.default}]"
        assert "".join(shown.split()) in told


def test_a_script_without_the_packages_says_how_to_start_it() -> None:
    bare = subprocess.run([sys.executable, "-S", "train.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert bare.returncode == 2
    assert bare.stderr.splitlines() == [
        "error: this Python has no package 'sklearn', which the project needs",
        "  fix: uv run python train.py",
    ]


def test_debug_is_for_people_and_errors_are_for_all() -> None:
    error = UserError("a\ncause", "a  remedy")
    assert str(error) == "error: a cause\n  fix: a remedy"
