"""Managed online endpoints: their deployments, keys and logs."""

from __future__ import annotations

import asyncio
import json
import math
import re
import secrets
import shutil
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.standin import computes, names, rendering
from tests.standin.containers import CRASHED, DEPLOYMENT, ENDPOINT, LOG, MODEL, PROBE, STARTED, Containers, CrashedError
from tests.standin.control import arm_id, hurry, ok, system_data
from tests.standin.errors import ServiceError, not_found
from tests.standin.state import Document
from tests.standin.wire import DESCRIBED, RECORDED, Call, Route

if TYPE_CHECKING:
    from tests.standin.service import Service

BUSY = ("Creating", "Updating", "Deleting")
_PROBE = {"failureThreshold": 30, "successThreshold": 1, "timeout": "PT2S", "period": "PT10S", "initialDelay": "PT10S"}
# What the service adds to a deployment, as recorded.
DEFAULTS: Document = {
    "properties": {},
    "environmentVariables": {},
    "scaleSettings": {"scaleType": "Default"},
    "requestSettings": {"maxQueueWait": "PT0S", "requestTimeout": "PT5S", "maxConcurrentRequestsPerInstance": 1},
    "livenessProbe": _PROBE,
    "readinessProbe": _PROBE,
    "appInsightsEnabled": False,
    "egressPublicNetworkAccess": "Enabled",
    "endpointComputeType": "Managed",
}
GUIDE = "Please see troubleshooting guide, available here: https://aka.ms/oe-tsg"
_NAME = re.compile(r"[A-Za-z][-A-Za-z0-9]{1,30}[A-Za-z0-9]")
_MODEL = re.compile(r".*/models/([^/]+)/versions/([^/]+)$")
# How long something is being changed at least: long enough to be seen.
MOMENT = 0.1


@dataclass
class Online:
    """What goes on with endpoints: operations by number, the tasks that bring them to their end, containers."""

    service: Service
    operations: dict[str, tuple[str, str]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.containers = Containers(self.service)

    def begin(self, work: Coroutine[Any, Any, None], endpoint: str, deployment: str = "") -> dict[str, str]:
        """Begin an operation and return the headers that lead to it."""
        number = f"{'od' if deployment else 'oe'}:{names.WORKSPACE_ID}:{uuid.uuid4()}"
        self.operations[number] = (endpoint, deployment)
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        where = f"https://{names.MANAGEMENT}{_LOCATION.format(sub=names.SUBSCRIPTION, location=names.LOCATION)}"
        return {
            "Azure_AsyncOperation": f"{where}/mfeOperationsStatus/{number}?api-version={_ENDPOINTS}",
            **hurry(self.service),
        }

    async def leave(self) -> None:
        """Leave what is not at its end, and stop the containers."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for folder in list(self.containers.running):
            self.containers.end(folder)

    def folder(self, endpoint: str, deployment: str) -> Path:
        """Return the folder of a deployment."""
        return self.service.folder.root / "endpoints" / endpoint / deployment

    def endpoint(self, name: str) -> Document:
        """Return an endpoint's document; 404 where there is none."""
        if (body := self.service.documents.get(ENDPOINT, name)) is None:
            raise not_found("OnlineEndpoint", name)
        return body

    def deployment(self, endpoint: str, name: str) -> Document:
        """Return a deployment's document; 404 where there is none."""
        self.endpoint(endpoint)
        if (body := self.service.documents.get(DEPLOYMENT, endpoint, name)) is None:
            raise not_found("OnlineDeployment", f"{endpoint}/{name}")
        return body

    def deployments(self, endpoint: str) -> dict[str, Document]:
        """Return the deployments of an endpoint by name, newest first."""
        return dict(self.service.documents.versions(DEPLOYMENT, endpoint))

    def forget(self, endpoint: str, deployment: str) -> None:
        """Delete a deployment with its container."""
        folder = self.folder(endpoint, deployment)
        self.containers.end(folder)
        self.service.documents.drop(DEPLOYMENT, endpoint, deployment)
        shutil.rmtree(folder, ignore_errors=True)


def _invalid(error: str, what: str = "", code: str = "InferencingClientCallFailed") -> ServiceError:
    """Return a refusal as the service behind the control plane words it: JSON in the message of a detail."""
    inner = json.dumps({"errors": {what: [error]}, "title": "One or more validation errors occurred."})
    details: list[Document] = [{"code": code, "message": f"{{{inner}}}", "details": [], "additionalInfo": []}]
    return ServiceError(400, code, "The request is invalid.", details=details, top="BadRequest")


def _shown(kind: str, name: str, body: Document) -> Document:
    properties = {**body["properties"], "provisioningState": body["state"]}
    return {
        "id": f"{names.SCOPE}/onlineEndpoints/{name}",
        "name": name.rpartition("/")[2],
        "type": f"{names.PROVIDER}/workspaces/{kind}",
        "properties": properties,
        "location": names.LOCATION,
        "kind": "Managed",
        **{key: body[key] for key in ("systemData", "tags", "identity", "sku") if key in body},
    }


def _show_endpoint(name: str, body: Document) -> Document:
    return _shown("onlineEndpoints", name, body)


def _show_deployment(endpoint: str, name: str, body: Document) -> Document:
    return _shown("onlineEndpoints/deployments", f"{endpoint}/deployments/{name}", body)


async def list_endpoints(service: Service, _: Call) -> web.Response:
    """Return the endpoints."""
    return ok({"value": [_show_endpoint(name, body) for name, __, body in service.documents.all(ENDPOINT)]})


async def get_endpoint(service: Service, call: Call) -> web.Response:
    """Return an endpoint."""
    return ok(_show_endpoint(call.params["name"], service.online.endpoint(call.params["name"])))


async def put_endpoint(service: Service, call: Call) -> web.Response:
    """Create an endpoint, or change its traffic."""
    name, sent = call.params["name"], call.json()
    if not _NAME.fullmatch(name):
        raise _invalid(f"Endpoint name {name} is invalid: 3 to 32 letters, digits and -, the first a letter.")
    if service.faults.take({"name-taken"}, name):
        text = "There is already an endpoint with this name, Endpoint name needs to be unique within a region."
        raise _invalid(f"{text} Try some other name.")
    existing = service.documents.get(ENDPOINT, name)
    properties = sent.get("properties") or {}
    traffic = properties.get("traffic") or {}
    _check_traffic(service, name, traffic)
    if existing is None:
        host = f"https://{name}.{names.INFERENCE}"
        made = {
            "description": properties.get("description"), "authMode": properties.get("authMode", "Key"),
            "properties": {"azureml.onlineendpointid": arm_id("onlineEndpoints", name).lower()}, "compute": None,
            "traffic": {}, "mirrorTraffic": {}, "publicNetworkAccess": "Enabled",
            "scoringUri": f"{host}/score", "swaggerUri": f"{host}/swagger.json",
        }  # fmt: skip
        identity = {"type": "SystemAssigned", "principalId": names.TENANT, "tenantId": names.TENANT}
        existing = {"properties": made, "tags": sent.get("tags") or {}, "identity": identity, "state": "Creating"}
        existing |= {
            "systemData": system_data(),
            "keys": [f"standin-key-{secrets.token_urlsafe(24)}" for _ in range(2)],
        }
    elif existing["state"] in BUSY:
        raise ServiceError(409, "ResourceBusy", f"The endpoint {name} is being changed ({existing['state']}).")
    else:
        existing["state"] = "Updating"
    service.documents.put(ENDPOINT, name, existing)
    headers = service.online.begin(_settle_endpoint(service, name, traffic), name)
    return ok(_show_endpoint(name, existing), 201, **headers)


def _check_traffic(service: Service, endpoint: str, traffic: Document) -> None:
    if unknown := set(traffic) - set(service.online.deployments(endpoint)):
        raise _invalid(f"The traffic names deployments that do not exist: {', '.join(sorted(unknown))}.", "traffic")
    if traffic and sum(traffic.values()) not in (0, 100):
        raise _invalid(f"The traffic sums up to {sum(traffic.values())}; it should be 0 or 100.", "traffic")


async def _settle_endpoint(service: Service, name: str, traffic: Document) -> None:
    await asyncio.sleep(MOMENT)
    if (body := service.documents.get(ENDPOINT, name)) is not None:
        body["properties"]["traffic"] = traffic
        service.documents.put(ENDPOINT, name, body | {"state": "Succeeded"})


async def delete_endpoint(service: Service, call: Call) -> web.Response:
    """Delete an endpoint and its deployments."""
    name = call.params["name"]
    body = service.documents.get(ENDPOINT, name)
    if body is None:
        return web.Response(status=204)
    service.documents.put(ENDPOINT, name, body | {"state": "Deleting"})

    async def work() -> None:
        await asyncio.sleep(MOMENT)
        for deployment in service.online.deployments(name):
            service.online.forget(name, deployment)
        service.documents.drop(ENDPOINT, name)

    return ok(None, 202, **service.online.begin(work(), name))


async def list_keys(service: Service, call: Call) -> web.Response:
    """Return the keys of an endpoint."""
    first, second = service.online.endpoint(call.params["name"])["keys"]
    return ok({"primaryKey": first, "secondaryKey": second})


async def get_token(service: Service, call: Call) -> web.Response:
    """Return a token for an endpoint whose mode is AMLToken."""
    first, _ = service.online.endpoint(call.params["name"])["keys"]
    return ok({"accessToken": first, "tokenType": "Bearer", "expiryTimeUtc": 2**31, "refreshAfterTimeUtc": 2**31})


async def list_deployments(service: Service, call: Call) -> web.Response:
    """Return the deployments of an endpoint."""
    name = call.params["name"]
    service.online.endpoint(name)
    found = service.online.deployments(name).items()
    return ok({"value": [_show_deployment(name, deployment, body) for deployment, body in found]})


async def get_deployment(service: Service, call: Call) -> web.Response:
    """Return a deployment."""
    endpoint, name = call.params["name"], call.params["deployment"]
    return ok(_show_deployment(endpoint, name, service.online.deployment(endpoint, name)))


async def put_deployment(service: Service, call: Call) -> web.Response:
    """Create a deployment of a registered MLflow model."""
    endpoint, name, sent = call.params["name"], call.params["deployment"], call.json()
    service.online.endpoint(endpoint)
    if not _NAME.fullmatch(name):
        raise _invalid(f"Deployment name {name} is invalid: 3 to 32 letters, digits and -, the first a letter.")
    given = {key: value for key, value in (sent.get("properties") or {}).items() if value is not None}
    properties = {**DEFAULTS, **given}
    properties["requestSettings"] = DEFAULTS["requestSettings"] | (given.get("requestSettings") or {})
    if (found := _MODEL.fullmatch(str(properties.get("model") or ""))) is None:
        raise ServiceError(400, "BadArgument", "The stand-in deploys registered models only.")
    _check_place(service, str(properties.get("instanceType") or ""), int((sent.get("sku") or {}).get("capacity") or 0))
    source = await _source(service, found[1], found[2])
    body = {"properties": properties, "tags": sent.get("tags") or {}, "sku": sent["sku"], "state": "Creating"}
    service.documents.put(DEPLOYMENT, endpoint, body | {"systemData": system_data()}, name)
    headers = service.online.begin(_provision(service, endpoint, name, source), endpoint, name)
    return ok(_show_deployment(endpoint, name, service.online.deployment(endpoint, name)), 201, **headers)


def _check_place(service: Service, size: str, instances: int) -> None:
    known = computes.size_of(size)
    if known is None or "MIR" not in computes.SIZES[known][-1]:
        raise _invalid(f"The instance type {size} is not supported for online deployments.", "VmSize")
    if instances < 1:
        raise _invalid("The instance count should be at least 1.", "InstanceCount")
    family, cores = computes.cores_of(known)
    # a fifth more is kept for upgrades
    needed = math.ceil(1.2 * instances) * cores
    taken, allowed = computes.used(service), computes.limits(service)
    for key in (family, "regional"):
        used, limit = taken.get(key, 0), max(allowed.get(key, 0), 0)
        if used + needed > limit:
            text = (
                f"Not enough quota available for {known} in SubscriptionId {names.SUBSCRIPTION}. Current usage/limit: "
            )
            text += f"{used}/{limit}. Additional needed: {needed} {GUIDE}#error-outofquota"
            raise _invalid(text, "VmSize", "InferencingClientCreateDeploymentFailed")


async def _source(service: Service, model: str, version: str) -> tuple[str, str]:
    """Return container and path of a registered model's folder, which must hold an MLflow model."""
    own = service.documents.get("models", model, version)
    found = own or dict(await service.tracking.model_versions(model)).get(version)
    if found is None:
        raise not_found("Model", f"{model}:{version}")
    uri = str(found["properties"]["modelUri"])
    if run := re.fullmatch(r"azureml://.*/runs/([^/]+)/artifacts/(.+)", uri):
        return names.ARTIFACTSTORE, f"{names.artifact_prefix(run[1])}/{run[2]}"
    return rendering.locate(service, uri)


async def _provision(service: Service, endpoint: str, name: str, source: tuple[str, str]) -> None:
    """Bring a deployment up, or to its failure."""
    folder, faults = service.online.folder(endpoint, name), service.faults
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / LOG).write_text(STARTED)
    await asyncio.sleep(MOMENT)
    if fault := faults.take({"slow-start"}, endpoint):
        await fault.wait()
    failure = ""
    files = await service.in_thread(service.storage.download, *source, folder / MODEL)
    if not any(file.name == "MLmodel" and file.parent == folder / MODEL for file in files):
        failure = "The model is not an MLflow model: it has no file MLmodel. Give an environment and a scoring script."
    elif faults.take({"container-crashes"}, endpoint):
        (folder / LOG).write_text(STARTED + CRASHED)
        failure = f"User container has crashed or terminated. {GUIDE}#error-resourcenotready"
    elif faults.take({"probe-fails"}, endpoint):
        with (folder / LOG).open("a") as log:
            log.write("Liveness probe failed: HTTP probe failed with statuscode: 502\n" * 3)
        failure = PROBE
    else:
        try:
            await service.online.containers.start(folder, folder / LOG)
        except CrashedError as error:
            failure = str(error)
    body = service.documents.get(DEPLOYMENT, endpoint, name)
    if body is None:  # deleted meanwhile
        service.online.forget(endpoint, name)
        return
    state = {"state": "Failed" if failure else "Succeeded", "failure": failure}
    service.documents.put(DEPLOYMENT, endpoint, body | state, name)


async def patch_deployment(service: Service, call: Call) -> web.Response:
    """Change the tags of a deployment, or how many instances it has."""
    endpoint, name, sent = call.params["name"], call.params["deployment"], call.json()
    body = service.online.deployment(endpoint, name)
    body |= {key: {**body[key], **sent[key]} for key in ("tags", "sku") if sent.get(key)}
    service.documents.put(DEPLOYMENT, endpoint, body, name)
    return ok(_show_deployment(endpoint, name, body))


async def delete_deployment(service: Service, call: Call) -> web.Response:
    """Delete a deployment that gets no traffic."""
    endpoint, name = call.params["name"], call.params["deployment"]
    share = (service.online.endpoint(endpoint)["properties"]["traffic"] or {}).get(name, 0)
    if share:
        raise _invalid(f"Deployment {name} gets {share}% of the traffic: set it to 0 before it is deleted.", "traffic")
    body = service.documents.get(DEPLOYMENT, endpoint, name)
    if body is None:
        return web.Response(status=204)
    service.documents.put(DEPLOYMENT, endpoint, body | {"state": "Deleting"}, name)

    async def work() -> None:
        await asyncio.sleep(MOMENT)
        service.online.forget(endpoint, name)

    return ok(None, 202, **service.online.begin(work(), endpoint, name))


async def get_logs(service: Service, call: Call) -> web.Response:
    """Return the last lines of a container's log."""
    endpoint, name = call.params["name"], call.params["deployment"]
    service.online.deployment(endpoint, name)
    log = service.online.folder(endpoint, name) / LOG
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return ok({"content": "\n".join(lines[-int(call.json().get("tail") or 100) :])})


async def get_operation(service: Service, call: Call) -> web.Response:
    """Return how an operation stands."""
    number = call.params["id"]
    if number not in service.online.operations:
        raise not_found("Operation", number)
    endpoint, deployment = service.online.operations[number]
    body = service.documents.get(DEPLOYMENT if deployment else ENDPOINT, endpoint, deployment)
    state = "Succeeded" if body is None else body["state"]
    said: Document = {"id": call.path, "name": number, "percentComplete": 0.0 if state in BUSY else 100.0}
    said["status"] = "Updating" if state in BUSY else state
    if state == "Failed" and body is not None:
        said["error"] = {"code": "BadArgument", "message": body["failure"], "details": [], "additionalInfo": []}
    return ok(said, 200, **hurry(service))


_LOCATION = f"/subscriptions/{{sub}}/providers/{names.PROVIDER}/locations/{{location}}"
_ENDPOINTS, _DEPLOYMENTS = "2022-02-01-preview", "2023-04-01-preview"
_BOTH = f"{_ENDPOINTS} {_DEPLOYMENTS}"
_ONE = "{S}/onlineEndpoints/{name}"
_OF_ONE = f"{_ONE}/deployments/{{deployment}}"
_SDK = f"{DESCRIBED} by the SDK"

ROUTES = [
    Route("GET", "{S}/onlineEndpoints", _ENDPOINTS, list_endpoints, evidence=_SDK),
    Route("GET", _ONE, _BOTH, get_endpoint, evidence=RECORDED),
    Route("PUT", _ONE, _ENDPOINTS, put_endpoint, evidence=RECORDED),
    Route("DELETE", _ONE, _ENDPOINTS, delete_endpoint, evidence=RECORDED),
    Route("POST", f"{_ONE}/listKeys", _ENDPOINTS, list_keys, evidence=_SDK),
    Route("POST", f"{_ONE}/token", _ENDPOINTS, get_token, evidence=RECORDED),
    Route("GET", f"{_ONE}/deployments", _BOTH, list_deployments, evidence=RECORDED),
    Route("GET", _OF_ONE, _DEPLOYMENTS, get_deployment, evidence=RECORDED),
    Route("PUT", _OF_ONE, _DEPLOYMENTS, put_deployment, evidence=RECORDED),
    Route("PATCH", _OF_ONE, _DEPLOYMENTS, patch_deployment, evidence=_SDK),
    Route("DELETE", _OF_ONE, _DEPLOYMENTS, delete_deployment, evidence=_SDK),
    Route("POST", f"{_OF_ONE}/getLogs", _DEPLOYMENTS, get_logs, evidence=_SDK),
    Route("GET", f"{_LOCATION}/mfeOperationsStatus/{{id}}", _BOTH, get_operation, evidence=RECORDED),
]
