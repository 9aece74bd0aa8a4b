"""`mlflow run`, for real: what it quotes, cuts off and has opened before the script begins."""

import os
import shlex
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import ExecutionException

from tests.conftest import ROOT, link

# Longer than MLflow's params and tags may be.
COLUMNS = ",".join(f"column {number} {'x' * 500}" for number in range(17))


@pytest.fixture
def project(store: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the project at a path with a blank, and a shell in another folder."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    linked = tmp_path / "my trainer"
    link(linked, ROOT)
    monkeypatch.chdir(tmp_path)
    return linked


def table(folder: Path, name: str, *columns: str) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    rows = ([str((row * (2 * n + 3)) % 17) for n in range(len(columns))] for row in range(60))
    header = ",".join(f'"{column}"' for column in columns)
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]), encoding="utf-8")
    return str(path)


def test_any_value_arrives_and_the_run_goes_on(project: Path, store: mlflow.MlflowClient, tmp_path: Path) -> None:
    data = table(tmp_path / "my data", "o'brien & co (2024).csv", *COLUMNS.split(","), "price (€), net")
    values = {"data": data, "target": "price (€), net", "columns": COLUMNS, "model_name": "asked", "cv": "0"}
    submitted = mlflow.projects.run(  # type: ignore[no-untyped-call]
        str(project), parameters=values, env_manager="local", synchronous=False
    )
    assert submitted.wait()
    number = submitted.run_id
    found = store.get_run(number)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "ridge o'brien & co (2024).csv"
    assert found.data.params["data"] == shlex.quote(data)
    assert found.data.params["columns"] == shlex.quote(COLUMNS)[:6000]
    assert found.data.tags["param.data"] == data
    assert found.data.tags["param.target"] == "price (€), net"
    whole = mlflow.artifacts.load_dict(f"runs:/{number}/parameters.json")
    assert whole["columns"] == COLUMNS
    assert store.get_model_version("asked", "1").run_id == number


def test_what_a_run_fails_of_is_in_the_run(project: Path, store: mlflow.MlflowClient, tmp_path: Path) -> None:
    values = {"data": table(tmp_path, "a.csv", "x", "y"), "target": "z", "model_name": "none"}
    with pytest.raises(ExecutionException):
        mlflow.projects.run(str(project), parameters=values, env_manager="local")  # type: ignore[no-untyped-call]
    (found,) = store.search_runs(["0"])
    assert found.info.status == "FAILED"
    assert "the target 'z' is not a column" in found.data.tags["error"]
