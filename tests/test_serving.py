"""The environment that serves a model: small, locked, and one that Azure Machine Learning's server fits into."""

import os
from pathlib import Path

import pytest
import yaml

from tests import models
from tests.conftest import ROOT
from tools import rehearse_deploy
from tools.serving_yml import SERVER, serving_yml
from trainer.estimators import ESTIMATORS

PARTS = ("always", "server", "xgboost", "dates")
REHEARSE = "REHEARSE_DEPLOY"


def pins_of(folder: Path) -> list[str]:
    """Return what a model is served with by MLflow; its conda.yaml has Azure Machine Learning's server beside that."""
    pins = (folder / "requirements.txt").read_text().splitlines()
    listed = yaml.safe_load((folder / "conda.yaml").read_text())["dependencies"]
    assert listed[0] == "python=3.11"
    assert listed[-1]["pip"] == sorted([*pins, *yaml.safe_load((ROOT / "serving.yml").read_text())["server"]])
    return pins


def names(pins: list[str]) -> set[str]:
    return {pin.split("==")[0] for pin in pins}


def test_serving_yml_is_what_the_lock_says() -> None:
    assert (ROOT / "serving.yml").read_text() == serving_yml(), "run `make lock`"


def test_the_lock_resolves_what_is_served_together_with_the_services_server() -> None:
    """One resolution holds both: uv.lock has no version of a served package beside the one that the server fits."""
    import subprocess

    command = ["uv", "export", "--frozen", "--only-group", "serve", "--no-hashes", "--no-annotate", "--no-header", "-q"]
    exported = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    parts = yaml.safe_load((ROOT / "serving.yml").read_text())
    assert set(SERVER) <= names(exported)
    assert {pin for part in PARTS for pin in parts[part]} <= set(exported)


def test_what_predictions_depend_on_is_served_as_it_was_trained() -> None:
    parts = yaml.safe_load((ROOT / "serving.yml").read_text())
    served = {pin for part in PARTS if part != "server" for pin in parts[part]}
    trained = set(yaml.safe_load((ROOT / "conda.yml").read_text())["dependencies"][-1]["pip"])
    assert served <= trained
    assert {"mlflow-skinny", "scikit-learn", "numpy", "pandas", "scipy", "skops", "joblib", "threadpoolctl"} <= names(
        parts["always"]
    )
    assert not names(sorted(served)) & {"flask", "pydantic", "opentelemetry-api", "mlflow"}
    assert names(parts["server"]) == set(SERVER[:2])


def test_a_model_carries_what_it_needs_and_what_has_trained_it_beside(tmp_path: Path) -> None:
    parts = yaml.safe_load((ROOT / "serving.yml").read_text())
    plain = models.saved(tmp_path / "plain", "ridge", "size", "city")
    assert set(pins_of(plain)) == set(parts["always"])
    assert set(pins_of(models.saved(tmp_path / "dates", "ridge", "size", "since"))) == {
        *parts["always"],
        *parts["dates"],
    }
    assert yaml.safe_load((plain / "training.yaml").read_text()) == yaml.safe_load((ROOT / "conda.yml").read_text())


@pytest.mark.parametrize("which", ["xgboost", models.BOOSTER])
def test_xgboost_is_served_where_it_is_used(which: str, tmp_path: Path) -> None:
    folder = models.saved(tmp_path / "m", which, "size")
    assert {"xgboost", "xgboost-cpu"} <= names(pins_of(folder))
    assert "skrub" not in names(pins_of(folder))


def test_a_folder_that_names_no_environment_is_not_rehearsed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models.saved(tmp_path / "m", "ridge", "size")
    (folder / "conda.yaml").write_text("dependencies: [pip]")
    assert rehearse_deploy.main(["--model", str(folder)]) == 2
    assert "conda.yaml does not name Python and packages\n  fix: " in capsys.readouterr().err


@pytest.mark.skipif(not os.environ.get(REHEARSE), reason=f"installs packages and starts servers: set {REHEARSE}=1")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_microsofts_server_and_mlflows_answer_as_on_the_day_of_training(
    estimator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models.saved(tmp_path / "m", estimator)
    assert rehearse_deploy.main(["--model", str(folder)]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert said.count(f"{models.ROWS} recorded rows") == 2
