"""The folder of a logged model: an MLflow model and a recorded scoring."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trainer import estimators
from trainer.hashing import is_number
from trainer.verification import RECORDED_SCORING, model_file

CONDA_YML = Path(__file__).resolve().parent.parent / "conda.yml"
RECORDED_ROWS = 200
EXAMPLE_ROWS = 5


def save(
    path: Path, model: Any, scored: pd.DataFrame, versions: Mapping[str, str], metadata: Mapping[str, Any]
) -> None:
    """Write a fitted model as an MLflow model: of the sklearn flavour in skops' format, or of the xgboost flavour.

    Beside it goes the recorded scoring, ``recorded_scoring.json``: rows, what the model predicts for them now, and
    with which versions. It is what tells later whether the model still predicts the same. The ``MLmodel`` file holds
    its digest, and that of the model's own file.

    Parameters
    ----------
    path : Path
        A folder that does not exist yet.
    model : fitted Pipeline or XGBRegressor
    scored : DataFrame of shape (n_rows, n_features)
        The first `RECORDED_ROWS` of them are recorded, the first `EXAMPLE_ROWS` are the input example.
    versions : mapping of str to str
        Packages that predictions may depend on, by name.
    metadata : mapping
        Kept in the ``MLmodel`` file; JSON types only.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    rows = scored.head(RECORDED_ROWS)
    answers = np.asarray(model.predict(rows))
    predictions = answers.astype(np.float64)
    common = {
        "conda_env": str(CONDA_YML),
        "signature": ModelSignature(
            inputs=Schema([ColSpec(_mlflow_type(column), str(name)) for name, column in scored.items()]),
            outputs=Schema([TensorSpec(answers.dtype, (-1,))]),
        ),
        "input_example": rows.head(EXAMPLE_ROWS),
    }
    if estimators.is_pipeline(model):
        import mlflow.sklearn

        trusted = {"serialization_format": "skops", "skops_trusted_types": estimators.TRUSTED_TYPES}
        mlflow.sklearn.save_model(model, str(path), **common, **trusted)
    else:
        import mlflow.xgboost

        mlflow.xgboost.save_model(model, str(path), **common)
    saved = Model.load(str(path))
    recorded = {
        "rows": {"columns": list(rows.columns), "data": _json_rows(rows)},
        "predictions": predictions.tolist(),
        "versions": dict(versions),
    }
    text = json.dumps(recorded, allow_nan=False).encode()
    (path / RECORDED_SCORING).write_bytes(text)
    saved.metadata = {
        **metadata,
        "recorded_scoring_sha256": _sha256(text),
        "model_sha256": _sha256((path / model_file(saved)).read_bytes()),
    }
    saved.save(str(path / "MLmodel"))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _mlflow_type(column: "pd.Series[Any]") -> str:
    """Name the MLflow type that mlflow holds the columns of a prediction's input to."""
    if column.dtype.kind == "i":
        return "long"
    if column.dtype.kind == "f":
        return "double"
    return "boolean" if is_number(column) else "string"


def _json_rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Give rows in JSON's types: numbers exactly (as Python prints them), a missing value as null."""
    missing = frame.isna().to_numpy()
    return [
        [None if gap else value for value, gap in zip(row, gaps, strict=True)]
        for row, gaps in zip(frame.astype(object).to_numpy().tolist(), missing, strict=True)
    ]
