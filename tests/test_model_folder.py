"""The folder of a logged model: what is written, and what MLflow and its scoring server make of it."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server

from tests import models
from trainer import model_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of features of every kind."""
    return models.saved(tmp_path_factory.mktemp("folder") / "models")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    """The same, as a user of MLflow loads it."""
    return mlflow.pyfunc.load_model(str(folder))


def test_the_recorded_scoring_is_the_first_rows_and_what_was_predicted(tmp_path: Path) -> None:
    fitted, frame, columns = models.fitted()
    many = pd.concat([frame, frame], ignore_index=True)
    model_folder.save(tmp_path / "m", fitted, many, columns, {"scikit-learn": "1.0"}, {"estimator": "ridge"})
    recorded = model_folder.read_recorded(tmp_path / "m")
    assert len(many) > model_folder.RECORDED_ROWS == len(recorded.rows)
    assert recorded.predictions.tolist() == fitted.predict(many.head(model_folder.RECORDED_ROWS)).tolist()
    assert recorded.versions == {"scikit-learn": "1.0"}
    first = json.loads((tmp_path / "m" / "recorded_scoring.json").read_text())["rows"]["data"][3]
    assert first == [frame["size"][3], frame["visits"][3], None, None, frame["street"][3], None]
    assert model_folder.score_again(tmp_path / "m").largest_relative < 1e-12


def test_the_signature_names_every_column_and_refuses_none_of_their_types(model: Any) -> None:
    inputs = model.metadata.get_input_schema()
    assert inputs.required_input_names() == list(models.table()[0].columns)
    frame, _ = models.table()
    expected = model.predict(frame)
    others = {
        "decimals": frame,
        "integers": frame.astype({"visits": "int64"}),
        "small integers": frame.astype({"visits": "int8"}),
        "true and false": frame.assign(smoker=frame["smoker"].map({1.0: True, 0.0: False})),
        "objects": frame.astype(object).where(frame.notna(), None),
        "nullable": frame.convert_dtypes(),
        "of pyarrow": frame.convert_dtypes(dtype_backend="pyarrow"),
        "categories": frame.astype({"city": "category", "street": "category"}),
        "dates as text": frame.assign(since=frame["since"].dt.strftime("%Y-%m-%d %H:%M")),
        "shuffled": frame[frame.columns[::-1]].assign(more=1),
    }
    for what, given in others.items():
        np.testing.assert_allclose(model.predict(given), expected, rtol=1e-12, err_msg=what)
    np.testing.assert_allclose(model.predict(frame.iloc[[3]]), expected[[3]], rtol=1e-12)


def test_a_column_that_is_not_there_is_refused_by_name(model: Any) -> None:
    frame, _ = models.table()
    with pytest.raises(mlflow.MlflowException, match=r"Model is missing inputs \['visits'\]"):
        model.predict(frame.drop(columns="visits"))


def test_csv_and_json_are_scored_as_mlflow_models_predict_does(folder: Path, model: Any, tmp_path: Path) -> None:
    frame, _ = models.table()
    frame.to_csv(tmp_path / "rows.csv", index=False)
    expected = model.predict(frame).tolist()
    scoring_server._predict(str(folder), str(tmp_path / "rows.csv"), str(tmp_path / "out.json"), "csv")
    np.testing.assert_allclose(json.loads((tmp_path / "out.json").read_text())["predictions"], expected, rtol=1e-12)
    sent = frame.assign(since=frame["since"].dt.strftime("%Y-%m-%d %H:%M"))
    rows = sent.astype(object).where(frame.notna(), None)
    (tmp_path / "rows.json").write_text(json.dumps({"dataframe_split": rows.to_dict(orient="split")}))
    scoring_server._predict(str(folder), str(tmp_path / "rows.json"), str(tmp_path / "out.json"), "json")
    np.testing.assert_allclose(json.loads((tmp_path / "out.json").read_text())["predictions"], expected, rtol=1e-12)


def test_the_scoring_server_takes_json_with_gaps(model: Any) -> None:
    known = {"size": 50, "visits": 3, "smoker": True, "city": "Oslo", "street": "s1", "since": "2024-02-03"}
    rows = [known, *({**known, name: None} for name in known), {**known, "city": "Bonn", "street": "new"}]
    asked = json.dumps({"dataframe_records": rows})
    answer = scoring_server.invocations(asked, "application/json", model, model.metadata.get_input_schema())
    assert answer.status == 200
    assert np.isfinite(json.load(StringIO(answer.response))["predictions"]).all()


def test_the_input_example_is_decimals_and_text_and_can_be_scored(folder: Path, model: Any) -> None:
    example = json.loads((folder / "input_example.json").read_text())
    assert example["columns"] == list(models.table()[0].columns)
    assert {type(value) for row in example["data"] for value in row[:3]} <= {float, type(None)}
    assert np.isfinite(model.predict(model.input_example)).all()


def test_only_skops_reads_it(folder: Path) -> None:
    flavor = mlflow.models.get_model_info(str(folder)).flavors["sklearn"]
    assert flavor["serialization_format"] == "skops"
    assert not list(folder.glob("*.pkl"))
