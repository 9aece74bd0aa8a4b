"""Online endpoints of the stand-in, in plain HTTP: shapes, traffic, keys, logs, what is refused."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import models
from tests import standin_http as http
from tests.standin import Fault, StandIn, names

ENDPOINTS, DEPLOYMENTS = {"api-version": "2022-02-01-preview"}, {"api-version": "2023-04-01-preview"}


def ask(workspace: StandIn, method: str, path: str, **options: Any) -> requests.Response:
    version = DEPLOYMENTS if path.count("/") > 1 else ENDPOINTS
    return http.call(workspace, method, f"/onlineEndpoints/{path}", params=version, **options)


def settled(workspace: StandIn, path: str) -> Any:
    """Wait until something is at rest, and return it; None where it is gone."""
    deadline = time.monotonic() + 120
    while (answer := ask(workspace, "GET", path)).status_code == 200:
        if answer.json()["properties"]["provisioningState"] not in ("Creating", "Updating", "Deleting"):
            return answer.json()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return None


def endpoint(workspace: StandIn, name: str, **traffic: int) -> requests.Response:
    body = {"location": names.LOCATION, "properties": {"authMode": "Key", "traffic": traffic}}
    answer = ask(workspace, "PUT", name, json=body)
    if answer.status_code == 201:
        settled(workspace, name)
    return answer


def deployment(
    workspace: StandIn, path: str, model: str, size: str = "STANDARD_F4S_V2", count: int = 1
) -> requests.Response:
    properties = {"model": model, "instanceType": size, "endpointComputeType": "Managed"}
    body = {"location": names.LOCATION, "properties": properties, "sku": {"name": "Default", "capacity": count}}
    where, _, name = path.partition("/")
    return ask(workspace, "PUT", f"{where}/deployments/{name}", json=body)


@pytest.fixture(scope="module")
def model(standin_session: StandIn, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Register a model folder, and return the id of its version."""
    folder = models.saved(tmp_path_factory.mktemp("model") / "m", "ridge", "size", "city")
    files = {f"m/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    where = http.upload(standin_session, files)
    body = {"properties": {"modelUri": f"{where}/m", "modelType": "mlflow_model"}}
    answer = http.call(standin_session, "PUT", "/models/plain/versions/1", json=body)
    assert answer.status_code == 201, answer.text
    return f"{names.SCOPE}/models/plain/versions/1"


def score(workspace: StandIn, name: str, key: str, body: Any, **headers: str) -> requests.Response:
    return http.call(
        workspace, "POST", f"https://{name}.{names.INFERENCE}/score", bearer=key, json=body, headers=headers
    )


def test_requests_are_divided_by_traffic_or_go_where_the_header_says(standin: StandIn, model: str) -> None:
    made = endpoint(standin, "divided")
    assert (made.status_code, made.json()["properties"]["provisioningState"]) == (201, "Creating")
    for name in ("blue", "green"):
        answer = deployment(standin, f"divided/{name}", model)
        assert answer.status_code == 201, answer.text
        assert "/mfeOperationsStatus/od:" in answer.headers["Azure-AsyncOperation"]
        body = settled(standin, f"divided/deployments/{name}")
        assert (body["properties"]["provisioningState"], body["properties"]["scaleSettings"]) == (
            "Succeeded", {"scaleType": "Default"},
        )  # fmt: skip
    assert endpoint(standin, "divided", blue=90, green=10).status_code == 201
    key = keys(standin, "divided")
    rows = {"input_data": {"columns": ["size", "city"], "index": [0], "data": [[50.0, "Rome"]]}}
    served = Counter(score(standin, "divided", key, rows).headers["azureml-model-deployment"] for _ in range(100))
    assert served == {"blue": 90, "green": 10}
    one = score(standin, "divided", key, rows, **{"azureml-model-deployment": "green"})
    assert (one.headers["azureml-model-deployment"], len(one.json())) == ("green", 1)
    assert score(standin, "divided", "another", rows).status_code == 401
    assert score(standin, "divided", key, rows, **{"azureml-model-deployment": "red"}).status_code == 404
    assert (
        score(standin, "divided", key, {"input_data": {"columns": ["x"], "index": [0], "data": [[1]]}}).status_code
        == 424
    )
    # what is refused
    assert "set it to 0" in ask(standin, "DELETE", "divided/deployments/green").text
    assert endpoint(standin, "divided", blue=100, red=0).status_code == 400
    assert endpoint(standin, "divided", blue=50, green=10).status_code == 400
    patched = ask(standin, "PATCH", "divided/deployments/green", json={"sku": {"capacity": 2}})
    assert patched.json()["sku"]["capacity"] == 2
    log = ask(standin, "POST", "divided/deployments/blue/getLogs", json={"tail": 1}).json()["content"]
    assert log == "Listening at: http://0.0.0.0:31311"
    assert ask(standin, "DELETE", "divided").status_code == 202
    assert settled(standin, "divided") is None


def keys(workspace: StandIn, name: str) -> str:
    answer = http.call(workspace, "POST", f"/onlineEndpoints/{name}/listKeys", params=ENDPOINTS)
    return str(answer.json()["primaryKey"])


def detail(answer: requests.Response) -> str:
    """Return the sentence that a refusal holds in its innermost message."""
    assert answer.status_code == 400, answer.text
    return str(json.loads(answer.json()["error"]["details"][0]["message"][1:-1])["errors"])


def test_names_sizes_and_quota_are_those_of_the_service(standin: StandIn, model: str) -> None:
    for name in ("ab", "1st", "ends-", "a" * 33):
        assert "is invalid" in detail(endpoint(standin, name))
    endpoint(standin, "refusing")
    assert "is not supported" in detail(deployment(standin, "refusing/blue", model, "Standard_D4ds_v4"))
    text = detail(deployment(standin, "refusing/blue", model, "Standard_F4s_v2", count=4))
    assert "Not enough quota available for Standard_F4s_v2" in text
    assert "Current usage/limit: 0/16. Additional needed: 20" in text
    missing = deployment(standin, "refusing/blue", model.replace("/1", "/7"))
    assert missing.status_code == 404
    assert deployment(standin, "nobody/blue", model).status_code == 404
    ask(standin, "DELETE", "refusing")
    assert settled(standin, "refusing") is None


def test_a_folder_without_an_mlmodel_fails_and_a_slow_start_waits(standin: StandIn, model: str, tmp_path: Path) -> None:
    where = http.upload(standin, {"m/weights.bin": b"1"})
    body = {"properties": {"modelUri": f"{where}/m", "modelType": "mlflow_model"}}
    http.call(standin, "PUT", "/models/bare/versions/1", json=body).raise_for_status()
    endpoint(standin, "slowly")
    standin.inject(Fault("slow-start", route="slowly", gate=str(tmp_path / "gate")))
    answer = deployment(standin, "slowly/bare", f"{names.SCOPE}/models/bare/versions/1")
    look = answer.headers["Azure-AsyncOperation"]
    assert http.call(standin, "GET", look).json()["status"] == "Updating"
    (tmp_path / "gate").touch()
    assert settled(standin, "slowly/deployments/bare")["properties"]["provisioningState"] == "Failed"
    ended = http.call(standin, "GET", look).json()
    assert (ended["status"], "has no file MLmodel" in ended["error"]["message"]) == ("Failed", True)
    ask(standin, "DELETE", "slowly")
    assert settled(standin, "slowly") is None
