"""The environments of jobs: described, versioned, and, when asked for, really built."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import standin_http as http
from tests.standin import StandIn, names
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


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with StandIn(tmp_path_factory.mktemp("builder"), build_env=True) as workspace:
        yield workspace


def wheel(folder: Path) -> Path:
    """Write a package that is nowhere but here, so that nothing is downloaded."""
    path = folder / "standin_probe-1.0-py3-none-any.whl"
    about = "standin_probe-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("standin_probe.py", "WORD = 'built'\n")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: standin-probe\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return path


def test_a_job_runs_in_the_environment_that_it_names(builder: StandIn, tmp_path: Path) -> None:
    requirement = f"standin-probe @ {wheel(tmp_path).as_uri()}"
    assert put(builder, "probe", "1", conda(requirement)) == 201
    environment = f"{names.SCOPE}/environments/probe/versions/1"
    show = "import standin_probe, sys; print(standin_probe.WORD, sys.prefix)"
    command = f'python -c "{show}"; python -c "import numpy"'
    logs = []
    for name in ("built", "built-again"):
        http.submit(builder, name, command, environmentId=environment).raise_for_status()
        assert http.wait(builder, name) == "Failed", "there is nothing else in it"
        word, prefix = http.log(builder, name).splitlines()[0].split()
        assert word == "built"
        assert Path(prefix).parent == builder.folder.root / "environments"
        assert "No module named 'numpy'" in http.log(builder, name)
        logs.append(set(http.details(builder, name)["logFiles"]))
    assert "azureml-logs/20_image_build_log.txt" in logs[0]
    assert "azureml-logs/20_image_build_log.txt" not in logs[1], "it is built once"
    assert "standin-probe" in http.log(builder, "built", "azureml-logs/20_image_build_log.txt")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent", conda("standin-probe @ file:///nowhere/standin_probe-1.0-py3-none-any.whl"), "nowhere"),
        ("condas", json.dumps({"dependencies": ["python=3.11", "cudatoolkit=11"]}), "cudatoolkit"),
    ],
)
def test_a_build_that_fails_fails_the_job(builder: StandIn, name: str, text: str, said: str) -> None:
    assert put(builder, name, "1", text) == 201
    environment = f"{names.SCOPE}/environments/{name}/versions/1"
    http.submit(builder, name, "true", environmentId=environment).raise_for_status()
    assert http.wait(builder, name) == "Failed"
    assert "Image build failed" in http.details(builder, name)["error"]["error"]["message"]
    assert said in http.log(builder, name, "azureml-logs/20_image_build_log.txt")


def test_conda_files_are_read() -> None:
    file = {"dependencies": ["python=3.11.*", "pip=24", {"pip": ["numpy==2.4.6", "mlflow"]}]}
    assert read(file) == ("3.11", ["numpy==2.4.6", "mlflow"])
    assert read({"dependencies": ["python==3.11.7"]}) == ("3.11.7", [])
    with pytest.raises(ValueError, match="no python version"):
        read({"dependencies": ["pip"]})
    with pytest.raises(ValueError, match="PackagesNotFoundError: gcc"):
        read({"dependencies": ["python=3.11", "gcc"]})
