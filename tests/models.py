"""Small fitted models for tests, and their folders."""

import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient
from xgboost import XGBRegressor

from trainer import model_folder, pipeline, profile, settings
from trainer.columns import Kind
from trainer.estimators import ESTIMATORS
from trainer.table import Column

ROWS = 120
BOOSTER = "booster"
KEY, INTERVAL = ("patient",), {"confidence": 0.9, "half_width": 2.5}


def table(*names: str) -> tuple[pd.DataFrame, tuple[Column, ...]]:
    """Return features of every kind, as train.py holds them, and what they are; all of them, or those named."""
    generator = np.random.default_rng(7)
    gaps = np.arange(ROWS) % 11 == 3
    cities, streets = (
        np.array(["Rome", "Oslo", "Lima"], dtype=object),
        np.array([f"s{n}" for n in range(60)], dtype=object),
    )
    days = np.datetime64("2024-01-01T08:30", "us") + generator.integers(0, 500, ROWS) * np.timedelta64(1, "D")
    frame = pd.DataFrame(
        {
            "size": generator.normal(50, 10, ROWS),
            "visits": generator.integers(0, 9, ROWS).astype(float),
            "smoker": np.where(gaps, np.nan, generator.integers(0, 2, ROWS)),
            "city": pd.Series(generator.choice(cities, ROWS)).where(~gaps, np.nan),
            "street": streets[np.arange(ROWS) % len(streets)],
            "since": pd.Series(days).where(~gaps),
        }
    )
    kinds: dict[str, Kind] = {
        "size": "number",
        "visits": "integer",
        "smoker": "boolean",
        "city": "text",
        "street": "text",
        "since": "datetime",
    }
    columns = tuple(Column(name, kind, int(frame[name].isna().sum())) for name, kind in kinds.items())
    chosen = names or tuple(frame.columns)
    return frame[list(chosen)], tuple(column for column in columns if column.name in chosen)


def booster(*names: str) -> tuple[Any, pd.DataFrame, tuple[Column, ...]]:
    """Return a model of xgboost without preprocessing, as several processes fit it, and what `fitted` returns."""
    frame, columns = table(*names)
    return XGBRegressor(n_estimators=2, n_jobs=1).fit(frame, frame["size"] * 2), frame, columns


def fitted(estimator: str = "ridge", *names: str, **parameters: str) -> tuple[Any, pd.DataFrame, tuple[Column, ...]]:
    """Return a fitted model, the features that it was fitted on, and what they are."""
    frame, columns = table(*names)
    target = frame["size"].to_numpy() * 2 + (frame["visits"].to_numpy() if "visits" in frame else 0)
    read = settings.read(settings.defaults() | {"estimator": estimator} | parameters)
    model = pipeline.make(read, ESTIMATORS[estimator], columns, frame)
    return pipeline.fit(ESTIMATORS[estimator], model, frame, target), frame, columns


def saved(
    path: Path, estimator: str = "ridge", *names: str, versions: dict[str, str] | None = None, **parameters: str
) -> Path:
    """Return the folder of a fitted model."""
    made = booster(*names) if estimator == BOOSTER else fitted(estimator, *names, **parameters)
    model, frame, columns = made
    facts = {"estimator": estimator, "target": "y", "run_id": "0" * 32}
    model_folder.save(
        path, model, frame, columns, versions or {}, facts, profile.take(columns, frame, "y", KEY, INTERVAL)
    )
    return path


def register(client: MlflowClient, folder: Path) -> tuple[str, str]:
    """Log a model folder and register it as the champion of a name of its own; return the name and the run."""
    name = f"model-{uuid4().hex}"
    run = client.create_run("0").info
    client.log_artifacts(run.run_id, str(folder), "models")
    client.create_registered_model(name)
    version = client.create_model_version(name, f"{run.artifact_uri}/models", run_id=run.run_id).version
    client.set_registered_model_alias(name, "champion", version)
    return name, run.run_id


def read_mlmodel(folder: Path) -> dict[str, Any]:
    """Read the MLmodel file of a folder."""
    content: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text())
    return content


def write_mlmodel(folder: Path, content: dict[str, Any]) -> None:
    """Write the MLmodel file of a folder, with the digests of what is there."""
    metadata = content.get("metadata") or {}
    files = {"recorded_scoring_sha256": "recorded_scoring.json", "training_table_sha256": "training_table.json"}
    own = next((file for file in ("model.skops", "model.ubj") if (folder / file).is_file()), "MLmodel")
    for digest, file in (files | {"model_sha256": own}).items():
        if digest in metadata and (folder / file).is_file():
            metadata[digest] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    (folder / "MLmodel").write_text(yaml.safe_dump(content))


def as_version_010(folder: Path, **types: str) -> Path:
    """Make a folder look as version 0.1.0 wrote it: a typed signature, and nothing of the training table."""
    content = read_mlmodel(folder)
    inputs = json.loads(content["signature"]["inputs"])
    for column in inputs:
        column["type"] = types[column["name"]]
    content["signature"]["inputs"] = json.dumps(inputs)
    del content["metadata"]["training_table_sha256"]
    (folder / "training_table.json").unlink()
    write_mlmodel(folder, content)
    return folder
