"""The data planes: discovery, run history, artifacts, the addresses of outputs."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web

from tests.standin import identity, names
from tests.standin.control import ok
from tests.standin.errors import ServiceError
from tests.standin.state import Document
from tests.standin.wire import ACCOUNT, ASSUMED, DESCRIBED, Call, Route

if TYPE_CHECKING:
    from tests.standin.service import Service


async def get_metadata(_: Service, __: Call) -> web.Response:
    """Describe this cloud."""
    return ok(identity.metadata())


async def discover(_: Service, __: Call) -> web.Response:
    """Say where the workspace's services are: all of them at one name."""
    services = ("api", "history", "experimentation", "modelmanagement", "studio", "data")
    return ok(dict.fromkeys(services, f"https://{names.API}"))


def _job(service: Service, run: str) -> Document:
    body = service.documents.get("job", run)
    if body is None:
        raise ServiceError(404, "NotFound", f"Run {run} was not found.", plane="data")
    return body


def _run(service: Service, name: str) -> Document:
    """Return a run as history shows it."""
    body = _job(service, name)
    properties = body["properties"]
    return {
        "runNumber": 1,
        "rootRunId": body.get("parent") or name,
        "parentRunId": body.get("parent"),
        "runId": name,
        "runUuid": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "experimentId": service.tracking.experiment_of(name),
        "displayName": properties.get("displayName"),
        "description": properties.get("description"),
        "status": body["status"],
        "createdUtc": body["created"],
        "startTimeUtc": body.get("started"),
        "endTimeUtc": body.get("ended"),
        "dataContainerId": f"dcid.{name}",
        "runType": "azureml.scriptrun" if properties["jobType"] == "Command" else "azureml.HyperDrive",
        "target": (properties.get("computeId") or "").rsplit("/", 1)[-1],
        "tags": service.jobs.resource(name)["properties"]["tags"],
        "properties": properties.get("properties") or {},
        "hidden": bool(body.get("archived")),
        "error": body.get("error"),
        "warnings": [],
        "services": {},
        "outputs": {
            output: {"assetId": _asset(name, output), "type": "uri_folder"}
            for output in body.get("outputs", {})
            if output != "default"
        },
        "inputs": {},
    }


def _asset(run: str, output: str) -> str:
    return f"azureml://locations/{names.LOCATION}/workspaces/{names.WORKSPACE_ID}/data/azureml_{run}_output_data_{output}/versions/1"


async def get_run(service: Service, call: Call) -> web.Response:
    """Return a run."""
    return ok(_run(service, call.params["run"]))


async def get_details(service: Service, call: Call) -> web.Response:
    """Return a run with the addresses of its logs."""
    name = call.params["run"]
    service.jobs.look(name)
    run = _run(service, name)
    logs = await service.in_thread(service.jobs.log_files, name)
    times = {"createdTimeUtc": run["createdUtc"], "startTimeUtc": run["startTimeUtc"]}
    return ok({**run, **times, "logFiles": logs})


async def get_rundata(service: Service, call: Call) -> web.Response:
    """Return a run with its outputs."""
    return ok({"runMetadata": _run(service, str(call.json().get("runId")))})


async def get_children(service: Service, call: Call) -> web.Response:
    """Return the children of a run, as a sweep's trials are."""
    name = call.params["run"]
    _job(service, name)
    children = [child for child, _, body in service.documents.all("job") if body.get("parent") == name]
    return ok({"value": [_run(service, child) for child in children]})


async def patch_run(service: Service, call: Call) -> web.Response:
    """Change the tags, the description or the display name of a run, or archive it."""
    name, change = call.params["run"], call.json()
    body = _job(service, name)
    properties = body["properties"]
    for key in ("tags", "properties"):
        properties[key] = (properties.get(key) or {}) | (change.get(key) or {})
    for key in ("description", "displayName"):
        if change.get(key) is not None:
            properties[key] = change[key]
    if change.get("hidden") is not None:
        body["archived"] = change["hidden"]
    service.documents.put("job", name, body)
    return ok(_run(service, name))


async def get_token(service: Service, call: Call) -> web.Response:
    """Give a running job a new token in exchange for its old one."""
    token, expires = service.tokens.issue(names.AML_RESOURCE, run=call.params["run"])
    return ok({"token": token, "expiryTimeUtc": datetime.fromtimestamp(expires, UTC).isoformat()})


async def resolve_uris(service: Service, call: Call) -> web.Response:
    """Return where the outputs of runs lie."""
    values = {}
    for asset in call.json().get("values") or []:
        for name, _, body in service.documents.all("job"):
            for output, uri in body.get("outputs", {}).items():
                if _asset(name, output) == asset:
                    values[asset] = {"uri": uri, "type": "uri_folder"}
    return ok({"values": values})


def _place(call: Call) -> tuple[str, str, str]:
    """Return origin, container and folder of the artifacts that a path is about."""
    if "run" in call.params:
        run = call.params["run"]
        return "ExperimentRun", f"dcid.{run}", names.artifact_prefix(run)
    origin, container = call.params["origin"], call.params["container"]
    return origin, container, f"{origin}/{container}"


def _artifact(call: Call, path: str) -> Document:
    origin, container, folder = _place(call)
    return {
        "artifactId": f"{origin}/{container}/{path}",
        "origin": origin,
        "container": container,
        "path": path,
        "etag": None,
        "createdTime": datetime.now(UTC).isoformat(),
        "dataPath": {"dataStoreName": names.ARTIFACTSTORE, "relativePath": f"{folder}/{path}"},
        "tags": {},
    }


async def list_artifacts(service: Service, call: Call) -> web.Response:
    """Return every artifact of a run; the client asks for no folder and filters by itself."""
    _, _, folder = _place(call)
    blobs = await service.in_thread(service.storage.names, names.ARTIFACTSTORE, f"{folder}/")
    value = [_artifact(call, blob.removeprefix(f"{folder}/")) for blob in blobs]
    return ok({"value": value, "continuationToken": "", "nextLink": None})


async def content_info(service: Service, call: Call) -> web.Response:
    """Return a signed address from which an artifact is read."""
    _, _, folder = _place(call)
    path = call.query.get("path", "")
    blob = f"{folder}/{path}"
    if not await service.in_thread(service.storage.exists, names.ARTIFACTSTORE, blob):
        raise ServiceError(404, "NotFound", f"Artifact {path} was not found.", plane="data")
    signed = service.storage.blob_sas(names.ARTIFACTSTORE, blob, job="run" in call.claims)
    return ok({**_artifact(call, path), "contentUri": signed})


async def create_artifacts(service: Service, call: Call) -> web.Response:
    """Return signed addresses to which artifacts are written."""
    _, _, folder = _place(call)
    paths = [str(item["path"]) for item in call.json().get("paths") or []]
    signed = {
        path: {
            **_artifact(call, path),
            "contentUri": service.storage.blob_sas(
                names.ARTIFACTSTORE, f"{folder}/{path}", write=True, job="run" in call.claims
            ),
        }
        for path in paths
    }
    artifacts = {path: _artifact(call, path) for path in paths}
    return ok({"artifacts": artifacts, "artifactContentInformation": signed, "errors": {}})


_H, _A = "/history/v1.0{S}", "/artifact/v2.0{S}/artifacts/{origin}/{container}"
_DATA, _SDK, _PLUGIN = "data", f"{DESCRIBED} by the SDK", f"{DESCRIBED} by azureml-mlflow"

ROUTES = [
    Route("GET", "/metadata/endpoints", "2019-05-01", get_metadata, "open", DESCRIBED),
    Route("GET", "/discovery/workspaces/{id}", "", discover, "open", _SDK),
    Route("GET", f"{_H}/runs/{{run}}", "v1.0", get_run, _DATA, ASSUMED),
    Route("GET", f"{_H}/runs/{{run}}/details", "v1.0", get_details, _DATA, ACCOUNT),
    Route("GET", f"{_H}/runs/{{run}}/children", "v1.0", get_children, _DATA, _SDK),
    Route("POST", f"{_H}/rundata", "v1.0", get_rundata, _DATA, _SDK),
    *(
        route
        for experiments in ("experiments", "experimentids")
        for route in (
            Route("PATCH", f"{_H}/{experiments}/{{e}}/runs/{{run}}", "v1.0", patch_run, _DATA, _PLUGIN),
            Route("GET", f"{_H}/{experiments}/{{e}}/runs/{{run}}/token", "", get_token, _DATA, _PLUGIN),
            Route("GET", f"{_H}/{experiments}/{{e}}/runs/{{run}}/artifacts", "", list_artifacts, _DATA, _PLUGIN),
            Route(
                "GET", f"{_H}/{experiments}/{{e}}/runs/{{run}}/artifacts/contentinfo", "", content_info, _DATA, _PLUGIN
            ),
            Route(
                "POST",
                f"{_H}/{experiments}/{{e}}/runs/{{run}}/artifacts/batch/metadata",
                "",
                create_artifacts,
                _DATA,
                _PLUGIN,
            ),
        )
    ),
    Route("GET", _A, "", list_artifacts, _DATA, _PLUGIN),
    Route("GET", f"{_A}/contentinfo", "", content_info, _DATA, _PLUGIN),
    Route("POST", f"{_A}/batch/metadata", "", create_artifacts, _DATA, _PLUGIN),
    Route(
        "POST",
        "/data/v1.0{S}/dataversion/batchGetResolvedUris",
        "1.5.0",
        resolve_uris,
        _DATA,
        _SDK,
    ),
]
