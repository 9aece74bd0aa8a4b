"""The environments of jobs: described, versioned, and, when asked for, really built."""

from __future__ import annotations

import json

import pytest

from tests import standin_http as http
from tests.standin import StandIn
from tests.standin.build import read

IMAGE = "mcr.microsoft.com/azureml/openmpi5.0-ubuntu24.04:20260901.v1"


def conda(*requirements: str, python: str = "python=3.11") -> str:
    return json.dumps({"name": "e", "dependencies": [python, "pip", {"pip": list(requirements)}]})


def put(workspace: StandIn, name: str, version: str, text: str) -> int:
    body = {"properties": {"image": IMAGE, "condaFile": text}}
    answer = http.call(workspace, "PUT", f"/environments/{name}/versions/{version}", json=body)
    return answer.status_code


def test_versions_of_environments(standin: StandIn) -> None:
    assert http.call(standin, "GET", "/environments/made").status_code == 404
    assert put(standin, "made", "1", conda("a")) == 201
    assert put(standin, "made", "1", conda("a")) == 200
    assert put(standin, "made", "1", conda("b")) == 409, "a version does not change"
    assert put(standin, "made", "2", conda("b")) == 201
    assert put(standin, "made", "3", "dependencies: [") == 400
    assert put(standin, "made", "3", "name: nothing") == 400
    container = http.call(standin, "GET", "/environments/made").json()["properties"]
    assert (container["latestVersion"], container["nextVersion"]) == ("2", "3")
    newest = http.call(standin, "GET", "/environments/made/versions", params={"$top": "1"}).json()["value"]
    assert [row["name"] for row in newest] == ["2"]
    text = http.call(standin, "GET", "/environments/made/versions/1").json()["properties"]["condaFile"]
    assert json.loads(text)["dependencies"][0] == "python=3.11"


def test_conda_files_are_read() -> None:
    file = {"dependencies": ["python=3.11.*", "pip=24", {"pip": ["numpy==2.4.6", "mlflow"]}]}
    assert read(file) == ("3.11", ["numpy==2.4.6", "mlflow"])
    assert read({"dependencies": ["python==3.11.7"]}) == ("3.11.7", [])
    with pytest.raises(ValueError, match="no python version"):
        read({"dependencies": ["pip"]})
    with pytest.raises(ValueError, match="PackagesNotFoundError: gcc"):
        read({"dependencies": ["python=3.11", "gcc"]})
