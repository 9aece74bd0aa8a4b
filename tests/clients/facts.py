"""What MLflow can and cannot do against a workspace: one line of JSON for each call."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import matplotlib as mpl  # noqa: E402

mpl.use("Agg")

import mlflow  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: E402
from sklearn.linear_model import Ridge  # noqa: E402

X, Y = np.arange(12.0).reshape(6, 2), np.arange(6.0)
OPTIONS = {"pip_requirements": ["scikit-learn"], "serialization_format": "skops"}


def attempt(step: str, function: Callable[[], Any]) -> None:
    try:
        value, error = function(), None
    except Exception as problem:  # noqa: BLE001 - how it fails is what the test wants to know
        value, error = None, f"{type(problem).__name__}: {problem}"
        while mlflow.active_run():
            mlflow.end_run("FAILED")
    print(json.dumps({"step": step, "value": value, "error": error}, default=str), flush=True)


def main() -> None:
    mlflow.set_tracking_uri(sys.argv[1])
    mlflow.set_experiment("facts")
    client = mlflow.MlflowClient()
    model = Ridge().fit(X, Y)
    scratch = Path(tempfile.mkdtemp())
    folder = scratch / "models"
    mlflow.sklearn.save_model(model, str(folder), input_example=X[:2], **OPTIONS)

    def log_model() -> None:
        with mlflow.start_run(run_name="log-model"):
            mlflow.sklearn.log_model(model, name="models", **OPTIONS)

    def log_model_by_path() -> None:
        with mlflow.start_run():
            mlflow.sklearn.log_model(model, artifact_path="models", **OPTIONS)

    attempt("log_model", log_model)
    attempt("log_model by path", log_model_by_path)
    attempt("state of that run", lambda: mlflow.search_runs(experiment_names=["facts"])["status"].tolist())

    with mlflow.start_run(run_name="good") as run:
        mlflow.log_param("alpha", 1)
        mlflow.log_metrics({"rmse": 1.5, "r2": 0.5})
        attempt("log_artifacts", lambda: mlflow.log_artifacts(str(folder), "models"))
        attempt("log_dict", lambda: mlflow.log_dict({"a": 1}, "metric.json"))
        attempt("log_text", lambda: mlflow.log_text("words", "notes/words.txt"))
        figure = Figure()
        figure.subplots().plot([1, 2])
        attempt("log_figure", lambda: mlflow.log_figure(figure, "figures/line.png"))

        def nested() -> str:
            with mlflow.start_run(run_name="child", nested=True) as child:
                mlflow.log_metric("rmse", 2.0)
                return str(mlflow.get_run(child.info.run_id).data.tags["mlflow.parentRunId"])

        attempt("nested", nested)
        attempt("same path twice", lambda: mlflow.log_dict({"a": 2}, "metric.json"))
    with mlflow.start_run(run_id=run.info.run_id):
        table = {"a": [1, 2], "b": [3, 4]}
        attempt("log_table", lambda: mlflow.log_table(table, "tables/table.json"))
        mlflow.log_dict({"columns": ["a"], "data": [[1]]}, "tables/other.json")
    attempt("load_table", lambda: mlflow.load_table("tables/other.json", run_ids=[run.info.run_id]))

    name, source = run.info.run_id, f"{run.info.artifact_uri}/models"
    attempt("register runs:/", lambda: mlflow.register_model(f"runs:/{name}/models", "by-run"))
    attempt("list root", lambda: sorted(f.path for f in client.list_artifacts(name)))
    attempt("list folder", lambda: [f.path for f in client.list_artifacts(name, "models")])
    attempt("register uri", lambda: vars(mlflow.register_model(source, "by-uri"))["_run_id"])

    def lineage() -> list[str]:
        client.create_registered_model("with-lineage")
        version = client.create_model_version("with-lineage", source, run_id=name)
        found = client.get_model_version("with-lineage", version.version)
        return [version.version, str(found.run_id), found.status]

    attempt("create version", lineage)
    for step, address in (
        ("load runs:/", f"runs:/{name}/models"),
        ("load uri", source),
        ("load models:/", "models:/with-lineage/1"),
    ):
        attempt(step, lambda address=address: mlflow.pyfunc.load_model(address).predict(X[:1]).tolist())
    attempt("download", lambda: sorted(os.listdir(mlflow.artifacts.download_artifacts(f"runs:/{name}/models"))))
    attempt(
        "search",
        lambda: mlflow.search_runs(experiment_names=["facts"], filter_string="metrics.rmse < 1.9")["run_id"].tolist(),
    )
    attempt("version tag", lambda: client.set_model_version_tag("with-lineage", "1", "data", "abc"))
    attempt("read tag", lambda: client.get_model_version("with-lineage", "1").tags)
    attempt("alias", lambda: client.set_registered_model_alias("with-lineage", "champion", "1"))
    attempt("by alias", lambda: client.get_model_version_by_alias("with-lineage", "champion").version)
    attempt("stage", lambda: client.transition_model_version_stage("with-lineage", "1", "Staging").current_stage)

    def dataset() -> None:
        with mlflow.start_run(run_id=name):
            mlflow.log_input(mlflow.data.from_numpy(X, targets=Y), context="training")

    attempt("log_input", dataset)

    def autolog() -> list[Any]:
        print("autolog begins", file=sys.stderr, flush=True)
        mlflow.sklearn.autolog(log_models=True)
        with mlflow.start_run() as auto:
            Ridge().fit(X, Y)
        mlflow.sklearn.autolog(disable=True)
        print("autolog ends", file=sys.stderr, flush=True)
        found = mlflow.get_run(auto.info.run_id)
        return [
            found.info.status,
            "alpha" in found.data.params,
            [f.path for f in client.list_artifacts(auto.info.run_id)],
        ]

    attempt("autolog", autolog)

    def prefix() -> list[str]:
        client.log_text(name, "x", "models_old/x.txt")
        return sorted({f.path for f in get_artifact_repository(run.info.artifact_uri).list_artifacts("model")})

    attempt("list by prefix", prefix)
    print(json.dumps({"step": "run", "value": name, "error": None}), flush=True)


if __name__ == "__main__":
    main()
