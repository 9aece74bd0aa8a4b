"""The logged model: what it takes, what it refuses, and what it recorded."""

import hashlib
import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT, Trainer, run_id
from trainer import model_folder
from trainer.table import read


@pytest.fixture
def folder(trains: Trainer, tmp_path: Path) -> Path:
    frame = pd.read_csv("data/diabetes.csv").assign(
        visits=lambda f: f.index % 7,
        city=lambda f: np.where(f.index % 5 == 0, None, "Rome"),
        smoker=lambda f: f.index % 2 == 0,
    )
    frame.to_csv(tmp_path / "mixed.csv", index=False)
    done = trains(data=tmp_path / "mixed.csv", model_name="mixed")
    assert done.code == 0, done.err
    return Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id(done)}/models"))


def test_a_csv_in_any_column_order_is_scored(folder: Path, tmp_path: Path) -> None:
    model = mlflow.pyfunc.load_model(str(folder))
    frame = pd.read_csv(tmp_path / "mixed.csv").drop(columns="progression")
    shuffled = frame.sample(frac=1, axis=1, random_state=1)
    assert list(shuffled.columns) != list(frame.columns)
    assert (model.predict(shuffled) == model.predict(frame)).all()


def test_a_missing_or_wrong_typed_column_is_refused(folder: Path, tmp_path: Path) -> None:
    model = mlflow.pyfunc.load_model(str(folder))
    frame = pd.read_csv(tmp_path / "mixed.csv").drop(columns="progression")
    with pytest.raises(mlflow.MlflowException, match=r"missing inputs.*bmi"):
        model.predict(frame.drop(columns="bmi"))
    with pytest.raises(mlflow.MlflowException, match=r"(?s)Incompatible input types for column bmi|bmi.*string"):
        model.predict(frame.assign(bmi="heavy"))
    with pytest.raises(mlflow.MlflowException, match="column visits"):
        model.predict(frame.assign(visits=0.5))


def test_the_signature_has_the_types_of_the_table(folder: Path) -> None:
    schema = mlflow.models.get_model_info(str(folder)).signature.inputs
    types = {column.name: column.type.name for column in schema.inputs}
    assert {types.pop(name) for name in ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")} == {"double"}
    assert types == {"visits": "long", "city": "string", "smoker": "boolean"}


def test_the_input_example_can_be_scored(folder: Path) -> None:
    model = mlflow.pyfunc.load_model(str(folder))
    assert np.isfinite(model.predict(model.input_example)).all()


def test_the_recorded_scoring_is_test_rows_and_what_was_predicted(folder: Path, tmp_path: Path) -> None:
    text = (folder / model_folder.RECORDED_SCORING).read_text()
    recorded = json.loads(text)
    metadata = mlflow.models.get_model_info(str(folder)).metadata
    assert metadata["recorded_scoring_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    rows = pd.DataFrame(**recorded["rows"])
    table = read(str(tmp_path / "mixed.csv"), "progression")
    everything = {tuple(row) for row in table.features.astype(object).where(table.features.notna(), None).to_numpy()}
    assert {tuple(row) for row in rows.astype(object).where(rows.notna(), None).to_numpy()} <= everything
    assert len(rows) == len(recorded["predictions"]) == min(model_folder.RECORDED_ROWS, len(rows))
    model = mlflow.sklearn.load_model(str(folder))
    assert model.predict(rows).tolist() == recorded["predictions"]
    assert recorded["versions"]["scikit-learn"] == "1.9.1"


def test_the_environment_of_the_model_is_the_locked_one(folder: Path) -> None:
    locked = yaml.safe_load((ROOT / "conda.yml").read_text())
    assert yaml.safe_load((folder / "conda.yaml").read_text()) == locked
    assert (folder / "requirements.txt").read_text().splitlines() == locked["dependencies"][-1]["pip"]


def test_only_skops_reads_it(folder: Path) -> None:
    flavour = mlflow.models.get_model_info(str(folder)).flavors["sklearn"]
    assert flavour["serialization_format"] == "skops"
    assert not list(folder.glob("*.pkl"))
