"""The control plane: the workspace, its datastores, and jobs."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.standin import names
from tests.standin.errors import ServiceError, dumps
from tests.standin.state import Document
from tests.standin.wire import DESCRIBED, RECORDED, Call, Route

if TYPE_CHECKING:
    from tests.standin.service import Service


def system_data() -> Document:
    """Return who made a resource, and when."""
    return {
        "createdAt": datetime.now(UTC).isoformat(),
        "createdBy": "Stand In",
        "createdByType": "User",
        "lastModifiedAt": datetime.now(UTC).isoformat(),
    }


def ok(body: object, status: int = 200, **headers: str) -> web.Response:
    """Return an answer in JSON; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(text=dumps(body), status=status, content_type="application/json", headers=named)


def arm_id(kind: str, name: str, version: str = "") -> str:
    """Return the id of a resource of the workspace."""
    return f"{names.SCOPE}/{kind}/{name}" + (f"/versions/{version}" if version else "")


def hurry(service: Service) -> dict[str, str]:
    """Return the header with which a client looks again soon.

    The real service sends none, so that a client sleeps for 30 s: this is an acceleration of the stand-in.
    """
    return {} if service.faults.present("no-retry-after") else {"retry_after_ms": "100"}


async def get_workspace(service: Service, call: Call) -> web.Response:
    """Return the workspace."""
    group = f"/subscriptions/{names.SUBSCRIPTION}/resourceGroups/{names.RESOURCE_GROUP}/providers"
    return ok(
        {
            "id": names.SCOPE,
            "name": call.params["ws"],
            "type": f"{names.PROVIDER}/workspaces",
            "location": names.LOCATION,
            "tags": {},
            "identity": {"type": "SystemAssigned", "principalId": names.TENANT, "tenantId": names.TENANT},
            "kind": "Default",
            "sku": {"name": "Basic", "tier": "Basic"},
            "systemData": system_data(),
            "properties": {
                "friendlyName": names.WORKSPACE,
                "description": "",
                "workspaceId": names.WORKSPACE_ID,
                "provisioningState": "Succeeded",
                "mlFlowTrackingUri": names.TRACKING_URI.replace("/mlflow/v2.0", "/mlflow/v1.0"),
                "discoveryUrl": f"https://{names.API}/discovery/workspaces/{names.WORKSPACE_ID}",
                "systemDatastoresAuthMode": "identity" if service.faults.present("no-keys") else "accesskey",
                "storageAccount": f"{group}/Microsoft.Storage/storageAccounts/{names.ACCOUNT}",
                "keyVault": f"{group}/Microsoft.Keyvault/vaults/standin",
                "applicationInsights": f"{group}/Microsoft.insights/components/standin",
                "hbiWorkspace": False,
                "v1LegacyMode": False,
                "publicNetworkAccess": "Enabled",
            },
        }
    )


def _datastore(service: Service, name: str) -> Document:
    keyless = service.faults.present("no-keys")
    return {
        "id": arm_id("datastores", name),
        "name": name,
        "type": f"{names.PROVIDER}/workspaces/datastores",
        "systemData": system_data(),
        "properties": {
            "description": None,
            "tags": {},
            "properties": {},
            "isDefault": name == names.BLOBSTORE,
            "credentials": {"credentialsType": "None" if keyless else "AccountKey"},
            "datastoreType": "AzureBlob",
            "accountName": names.ACCOUNT,
            "containerName": names.CONTAINERS[name],
            "endpoint": names.STORAGE_SUFFIX,
            "protocol": "https",
            "serviceDataAccessAuthIdentity": "None",
        },
    }


def _known(name: str) -> str:
    if name not in names.CONTAINERS:
        raise ServiceError(404, "NotFoundError", f"Could not find datastore: {name}.")
    return name


async def list_datastores(service: Service, call: Call) -> web.Response:
    """Return the datastores, or the default one alone."""
    default = call.query.get("isDefault", "").lower() == "true"
    return ok({"value": [_datastore(service, n) for n in names.CONTAINERS if n == names.BLOBSTORE or not default]})


async def get_datastore(service: Service, call: Call) -> web.Response:
    """Return a datastore."""
    return ok(_datastore(service, _known(call.params["name"])))


async def list_secrets(service: Service, call: Call) -> web.Response:
    """Return what opens the blobs: a signature where the client takes one that expires, else the account's key."""
    name = _known(call.params["name"])
    if service.faults.present("no-keys"):
        raise ServiceError(400, "BadArgument", f"The datastore {name} has no credentials.")
    if call.json().get("expirableSecret") and not service.faults.present("account-key"):
        return ok(
            {"secretsType": "Sas", "sasToken": service.storage.container_sas(names.CONTAINERS[name]).split("?")[1]}
        )
    return ok({"secretsType": "AccountKey", "key": service.storage.account_key})


def _another_kind(kind: str) -> Document:
    """Return a job of long ago that is not of the kinds that run here, as a shared workspace has them.

    An AutoML job of a task that today's azure-ai-ml does not know comes out of its list as None; a labeling job ends
    the list with an exception.
    """
    name = f"{kind.lower()}-of-2021"
    properties: Document = {"jobType": kind, "displayName": name, "experimentName": "old", "status": "Completed"}
    properties |= {"tags": {}, "properties": {}, "services": {}, "outputs": {}}
    details = {"taskType": "OldTask", "trainingData": {"jobInputType": "mltable", "uri": "azureml:t:1"}}
    created = {**system_data(), "createdAt": "2021-05-04T08:00:00.000000+00:00"}
    return {
        "id": arm_id("jobs", name),
        "name": name,
        "type": f"{names.PROVIDER}/workspaces/jobs",
        "properties": properties | ({"taskDetails": details} if kind == "AutoML" else {}),
        "systemData": created,
    }


async def list_jobs(service: Service, call: Call) -> web.Response:
    """Return the jobs, newest first, a page at a time."""
    archived = call.query.get("listViewType", "ActiveOnly")
    rows = [
        service.jobs.resource(name)
        for name, _, body in service.documents.all("job")
        if not body.get("parent") and (archived == "All" or bool(body.get("archived")) == (archived == "ArchivedOnly"))
    ]
    if archived != "ArchivedOnly":
        rows.append(_another_kind("AutoML"))
        if service.faults.present("labeling-job"):
            rows.append(_another_kind("Labeling"))
    start, page = int(call.query.get("$skip", 0)), 50
    answer: dict[str, Any] = {"value": rows[start : start + page]}
    if len(rows) > start + page:
        version = call.query["api-version"]
        answer["nextLink"] = (
            f"https://{names.MANAGEMENT}{call.path}?api-version={version}&listViewType={archived}&$skip={start + page}"
        )
    return ok(answer)


async def get_job(service: Service, call: Call) -> web.Response:
    """Return a job."""
    service.jobs.look(call.params["name"])
    return ok(service.jobs.resource(call.params["name"]))


async def put_job(service: Service, call: Call) -> web.Response:
    """Create a job, or change the tags of one; the client chooses the name, so it may send the job again."""
    name = call.params["name"]
    created = service.documents.get("job", name) is None
    await service.jobs.submit(name, call.json().get("properties") or {})
    where = f"https://{names.MANAGEMENT}{arm_id('jobs', name)}?api-version={call.query.get('api-version', '')}"
    return ok(service.jobs.resource(name), 201, Location=where) if created else ok(service.jobs.resource(name))


async def cancel_job(service: Service, call: Call) -> web.Response:
    """Ask a job to end."""
    name = call.params["name"]
    service.jobs.cancel(name)
    where = f"https://{names.MANAGEMENT}{names.SCOPE}/jobs/{name}/operationresults/{uuid.uuid4()}"
    return ok(None, 202, Location=f"{where}?api-version={call.query.get('api-version', '')}", **hurry(service))


async def cancel_result(service: Service, call: Call) -> web.Response:
    """Answer 202 until the job has ended, then 200, empty."""
    if service.jobs.ended(call.params["name"]):
        return web.Response(status=200)
    return ok({}, 202, **hurry(service))


_STORE = "2024-10-01-preview"
_JOBS = "2024-01-01-preview"
_CANCEL = "2023-04-01-preview"

ROUTES = [
    Route("GET", "{S}", "2024-10-01-preview 2023-08-01-preview", get_workspace, evidence=RECORDED),
    Route("GET", "{S}/datastores", _STORE, list_datastores, evidence=RECORDED),
    Route("GET", "{S}/datastores/{name}", _STORE, get_datastore, evidence=RECORDED),
    Route("POST", "{S}/datastores/{name}/listSecrets", _STORE, list_secrets, evidence=f"{DESCRIBED} (SDK #35716)"),
    Route("GET", "{S}/jobs", _JOBS, list_jobs, evidence=DESCRIBED),
    Route("GET", "{S}/jobs/{name}", _JOBS, get_job, evidence=RECORDED),
    Route("PUT", "{S}/jobs/{name}", f"2025-01-01-preview {_JOBS}", put_job, evidence=RECORDED),
    Route("POST", "{S}/jobs/{name}/cancel", _CANCEL, cancel_job, evidence=RECORDED),
    Route("GET", "{S}/jobs/{name}/operationresults/{id}", _CANCEL, cancel_result, evidence=RECORDED),
]
