"""A client of the stand-in that is nothing but HTTP, for tests that want to see what is on the wire."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import requests

from tests.standin import StandIn, names

MANAGEMENT = f"https://{names.MANAGEMENT}"
API = f"https://{names.API}"
JOBS = f"{MANAGEMENT}{names.SCOPE}/jobs"
HISTORY = f"{API}/history/v1.0{names.SCOPE}"
MLFLOW = f"{API}/mlflow/v2.0{names.SCOPE}/api/2.0/mlflow"
VERSIONS = {
    "jobs": "2024-01-01-preview",
    "computes": "2023-08-01-preview",
    "codes": "2023-04-01",
    "environments": "2023-04-01-preview",
    "data": "2023-04-01-preview",
    "models": "2023-08-01-preview",
    "datastores": "2024-10-01-preview",
    "locations": "2023-08-01-preview",
    "cancel": "2023-04-01-preview",
    "": "2024-10-01-preview",
}

# A token lives for a day, and a stand-in that is started again knows its own.
_TOKENS: dict[Path, str] = {}


def token(workspace: StandIn, audience: str = MANAGEMENT) -> str:
    """Ask the identity endpoint for a token."""
    environ = workspace.environ
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            environ["IDENTITY_ENDPOINT"],
            params={"resource": audience, "api-version": "2019-08-01"},
            headers={"X-IDENTITY-HEADER": environ["IDENTITY_HEADER"]},
            timeout=30,
        )
    answer.raise_for_status()
    return str(answer.json()["access_token"])


def call(workspace: StandIn, method: str, url: str, *, bearer: str | None = "", **options: Any) -> requests.Response:
    """Send one request through the proxy.

    Parameters
    ----------
    workspace : StandIn
    method, url : str
        A path is taken as one below the workspace in the control plane; its api-version is added.
    bearer : str, optional
        A token, None for no token, and by default a good one.
    **options
        As for `requests.request`.
    """
    if url.startswith("/") or url == "":
        parts = url.strip("/").split("/")
        kind = "cancel" if parts[-1] == "cancel" else parts[0]
        options["params"] = {"api-version": VERSIONS.get(kind, "none")} | options.get("params", {})
        url = f"{MANAGEMENT}{names.SCOPE}{url}"
    headers = options.pop("headers", {})
    if bearer is not None:
        if not bearer:
            bearer = _TOKENS.setdefault(workspace.folder.root, "") or token(workspace)
            _TOKENS[workspace.folder.root] = bearer
        headers = {"Authorization": f"Bearer {bearer}"} | headers
    environ = workspace.environ
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"https": environ["HTTPS_PROXY"]}
        session.verify = environ["REQUESTS_CA_BUNDLE"]
        return session.request(method, url, headers=headers, timeout=60, **options)


def cluster(workspace: StandIn, name: str, nodes: int = 4, priority: str = "Dedicated") -> None:
    """Make a cluster."""
    inner = {
        "vmSize": "Standard_DS3_v2",
        "vmPriority": priority,
        "scaleSettings": {"minNodeCount": 0, "maxNodeCount": nodes, "nodeIdleTimeBeforeScaleDown": "PT2M"},
    }
    body = {"location": "westeurope", "properties": {"computeType": "AmlCompute", "properties": inner}}
    call(workspace, "PUT", f"/computes/{name}", json=body).raise_for_status()


def upload(workspace: StandIn, files: dict[str, bytes]) -> str:
    """Put files into a fresh container and return its address."""
    begun = call(workspace, "POST", "/codes/c/versions/1/startPendingUpload", json={}).json()
    reference = begun["blobReferenceForConsumption"]
    base, _, signature = reference["credential"]["sasUri"].partition("?")
    for path, data in files.items():
        headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2023-11-03"}
        done = call(workspace, "PUT", f"{base}/{path}?{signature}", bearer=None, data=data, headers=headers)
        assert done.status_code == 201, done.text
    return str(reference["blobUri"])


def code(workspace: StandIn, name: str, files: dict[str, bytes]) -> str:
    """Register code and return its id."""
    container = upload(workspace, {f"src/{path}": data for path, data in files.items()})
    body = {"properties": {"codeUri": f"{container}/src"}}
    done = call(workspace, "PUT", f"/codes/{name}/versions/1", json=body)
    assert done.status_code in (200, 201), done.text
    return str(done.json()["id"])


def submit(workspace: StandIn, name: str, command: str, **properties: Any) -> requests.Response:
    """Send a command job."""
    compute = properties.pop("compute", None)
    body = {"jobType": "Command", "command": command, "experimentName": "http", **properties}
    if compute:
        body["computeId"] = f"{names.SCOPE}/computes/{compute}"
    return call(workspace, "PUT", f"/jobs/{name}", json={"properties": body})


def job(workspace: StandIn, name: str) -> dict[str, Any]:
    """Return the properties of a job."""
    answer = call(workspace, "GET", f"/jobs/{name}")
    answer.raise_for_status()
    properties: dict[str, Any] = answer.json()["properties"]
    return properties


def wait(workspace: StandIn, name: str, *states: str, seconds: float = 240) -> str:
    """Wait until a job is in one of these states, by default until it has ended."""
    wanted = states or ("Completed", "Failed", "Canceled")
    until = time.monotonic() + seconds
    while True:
        status = str(job(workspace, name)["status"])
        if status in wanted:
            return status
        assert time.monotonic() < until, f"{name} is still {status}"
        time.sleep(0.2)


def details(workspace: StandIn, name: str) -> dict[str, Any]:
    """Return the details of a run."""
    answer = call(workspace, "GET", f"{HISTORY}/runs/{name}/details", params={"api-version": "v1.0"})
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def log(workspace: StandIn, name: str, file: str = "user_logs/std_log.txt") -> str:
    """Return a log of a job."""
    address = details(workspace, name)["logFiles"][file]
    answer = call(workspace, "GET", address, bearer=None)
    answer.raise_for_status()
    return answer.text


def run(workspace: StandIn, name: str) -> dict[str, Any]:
    """Return the MLflow run of a job."""
    answer = call(workspace, "GET", f"{MLFLOW}/runs/get", params={"run_id": name})
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()["run"]
    return body


def innermost(error: dict[str, Any]) -> str:
    """Return the innermost code of an error of the control plane."""
    info = {item["type"]: item["info"]["value"] for item in error["error"]["additionalInfo"]}
    inner = info["InnerError"]
    while inner.get("innerError"):
        inner = inner["innerError"]
    return str(inner["code"])
