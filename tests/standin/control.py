"""The control plane: the workspace, its clusters, sizes and quota, datastores, and jobs."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.standin import names
from tests.standin.errors import ServiceError, dumps, not_found
from tests.standin.state import Document
from tests.standin.wire import Call, Route

if TYPE_CHECKING:
    from tests.standin.service import Service

# name: family, cores, GPUs, memory in GB, disk in MB
SIZES: dict[str, tuple[str, int, int, float, int]] = {
    "Standard_DS2_v2": ("standardDSv2Family", 2, 0, 7.0, 14336),
    "Standard_DS3_v2": ("standardDSv2Family", 4, 0, 14.0, 28672),
    "Standard_DS11_v2": ("standardDSv2Family", 2, 0, 14.0, 28672),
    "Standard_D2s_v3": ("standardDSv3Family", 2, 0, 8.0, 16384),
    "Standard_D4s_v3": ("standardDSv3Family", 4, 0, 16.0, 32768),
    "Standard_D2as_v4": ("standardDASv4Family", 2, 0, 8.0, 16384),
    "Standard_D2ads_v5": ("standardDADSv5Family", 2, 0, 8.0, 75000),
    "Standard_D4ads_v5": ("standardDADSv5Family", 4, 0, 16.0, 150000),
    "Standard_D8ads_v5": ("standardDADSv5Family", 8, 0, 32.0, 300000),
    "Standard_D2ds_v4": ("standardDDSv4Family", 2, 0, 8.0, 76800),
    "Standard_D4ds_v4": ("standardDDSv4Family", 4, 0, 16.0, 153600),
    "Standard_E4ds_v4": ("standardEDSv4Family", 4, 0, 32.0, 153600),
    "Standard_E4ds_v5": ("standardEDSv5Family", 4, 0, 32.0, 150000),
    "Standard_D2ds_v5": ("standardDDSv5Family", 2, 0, 8.0, 75000),
    "Standard_D4ds_v5": ("standardDDSv5Family", 4, 0, 16.0, 150000),
    "Standard_D8ds_v5": ("standardDDSv5Family", 8, 0, 32.0, 300000),
    "Standard_F4s_v2": ("standardFSv2Family", 4, 0, 8.0, 32768),
    "Standard_F8s_v2": ("standardFSv2Family", 8, 0, 16.0, 65536),
    "Standard_NC6s_v3": ("standardNCSv3Family", 6, 1, 112.0, 344064),
    "Standard_NC4as_T4_v3": ("standardNCASv3_T4Family", 4, 1, 28.0, 180224),
    "Standard_NC24ads_A100_v4": ("StandardNCADSA100v4Family", 24, 1, 220.0, 958464),
}
# A subscription that has never asked for more: cores for everything but GPUs.
QUOTA = {family: (0 if gpus else 24) for family, _, gpus, _, _ in SIZES.values()}
LOW_PRIORITY_QUOTA = 100


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


async def get_workspace(_: Service, call: Call) -> web.Response:
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
                "storageAccount": f"{group}/Microsoft.Storage/storageAccounts/{names.ACCOUNT}",
                "keyVault": f"{group}/Microsoft.Keyvault/vaults/standin",
                "applicationInsights": f"{group}/Microsoft.insights/components/standin",
                "hbiWorkspace": False,
                "v1LegacyMode": False,
                "publicNetworkAccess": "Enabled",
            },
        }
    )


async def vm_sizes(_: Service, __: Call) -> web.Response:
    """Return the sizes of virtual machines."""
    sizes = [
        {
            "name": name,
            "family": family,
            "vCPUs": cores,
            "gpus": gpus,
            "osVhdSizeMB": 1047552,
            "maxResourceVolumeMB": disk,
            "memoryGB": memory,
            "lowPriorityCapable": True,
            "premiumIO": True,
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        }
        for name, (family, cores, gpus, memory, disk) in SIZES.items()
    ]
    return ok({"value": sizes})


async def usages(service: Service, call: Call) -> web.Response:
    """Return the quota of the subscription and what the clusters take of it.

    The fault `no-quota` shows here as well: a family without cores is what keeps a job in the queue.
    """
    used: dict[str, int] = {}
    for _, __, body in service.documents.all("compute"):
        inner = body["properties"]["properties"]
        family, cores, *___ = SIZES[inner["vmSize"]]
        key = "Low-priority" if inner.get("vmPriority") == "LowPriority" else family
        used[key] = used.get(key, 0) + cores * service.jobs.nodes_in_use(body["name"])
    rows = [("Low-priority", "Total Cluster Low Priority Regional vCPUs", LOW_PRIORITY_QUOTA, "lowPriorityCores")]
    rows += [(family, f"{family} Cluster Dedicated vCPUs", limit, family) for family, limit in QUOTA.items()]
    prefix = f"/subscriptions/{names.SUBSCRIPTION}/providers/{names.PROVIDER}/locations/{call.params['location']}"
    value = [
        {
            "id": f"{prefix}/usages/{name}",
            "type": f"{names.PROVIDER}/usages",
            "unit": "Count",
            "currentValue": used.get(key, 0),
            "limit": 0 if service.faults.present("no-quota") else limit,
            "name": {"value": name, "localizedValue": label},
        }
        for key, label, limit, name in rows
    ]
    return ok({"value": value})


async def list_computes(service: Service, _: Call) -> web.Response:
    """Return the clusters."""
    return ok({"value": [_compute(service, body) for __, ___, body in service.documents.all("compute")]})


async def get_compute(service: Service, call: Call) -> web.Response:
    """Return a cluster; a missing one is a 404 with a null body, as recorded."""
    body = service.documents.get("compute", call.params["name"])
    return ok(None, 404) if body is None else ok(_compute(service, body))


def _compute(service: Service, body: Document) -> Document:
    nodes = service.jobs.nodes_in_use(body["name"])
    body["properties"]["properties"].update(
        allocationState="Steady",
        currentNodeCount=nodes,
        targetNodeCount=nodes,
        nodeStateCounts={"runningNodeCount": nodes, "idleNodeCount": 0, "preparingNodeCount": 0},
        errors=None,
    )
    return body


async def put_compute(service: Service, call: Call) -> web.Response:
    """Create or change a cluster, asynchronously."""
    name, body = call.params["name"], call.json()
    properties = body.get("properties") or {}
    if properties.get("computeType") != "AmlCompute":
        raise ServiceError(400, "UnsupportedComputeType", "The stand-in has clusters (AmlCompute) only.")
    inner = properties.get("properties") or {}
    by_lower = {size.lower(): size for size in SIZES}
    size = str(inner.get("vmSize", "")).lower()
    if size not in by_lower:
        text = (
            f"STANDARD_{size.upper().removeprefix('STANDARD_')} is not a valid VM size in {names.LOCATION}. "
            f"Please choose one of: {', '.join(SIZES)}."
        )
        raise ServiceError(400, "InvalidVmSize", text)
    inner["vmSize"] = by_lower[size]
    existing = service.documents.get("compute", name)
    document = {
        "id": arm_id("computes", name),
        "name": name,
        "type": f"{names.PROVIDER}/workspaces/computes",
        "location": body.get("location", names.LOCATION),
        "tags": body.get("tags"),
        "identity": body.get("identity"),
        "properties": {
            **properties,
            "properties": inner,
            "computeLocation": names.LOCATION,
            "createdOn": system_data()["createdAt"],
            "provisioningState": "Succeeded",
        },
    }
    service.documents.put("compute", name, document)
    operation = service.operations.begin()
    body = {**document, "properties": {**document["properties"], "provisioningState": "Creating"}}
    return ok(_compute(service, body), 200 if existing else 201, Azure_AsyncOperation=operation, Retry_After="1")


async def delete_compute(service: Service, call: Call) -> web.Response:
    """Delete a cluster, asynchronously."""
    service.documents.drop("compute", call.params["name"])
    return web.Response(status=202, headers={"Azure-AsyncOperation": service.operations.begin(), "Retry-After": "1"})


async def get_operation(service: Service, call: Call) -> web.Response:
    """Return the state of an asynchronous operation: in progress at the first look, done at the second."""
    done = service.operations.look(call.params["id"])
    body = {"status": "Succeeded", "percentComplete": 100.0} if done else {"status": "InProgress"}
    return ok(body, Retry_After="1")


def _datastore(name: str) -> Document:
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
            "credentials": {"credentialsType": "AccountKey"},
            "datastoreType": "AzureBlob",
            "accountName": names.ACCOUNT,
            "containerName": names.CONTAINERS[name],
            "endpoint": names.STORAGE_SUFFIX,
            "protocol": "https",
            "serviceDataAccessAuthIdentity": "None",
        },
    }


async def list_datastores(_: Service, call: Call) -> web.Response:
    """Return the datastores, or the default one alone."""
    default = call.query.get("isDefault", "").lower() == "true"
    return ok({"value": [_datastore(n) for n in names.CONTAINERS if n == names.BLOBSTORE or not default]})


async def get_datastore(_: Service, call: Call) -> web.Response:
    """Return a datastore."""
    if call.params["name"] not in names.CONTAINERS:
        raise not_found("Datastore", call.params["name"])
    return ok(_datastore(call.params["name"]))


async def list_secrets(service: Service, call: Call) -> web.Response:
    """Return the key of the account: clients sign with it, so a signature would not do."""
    if call.params["name"] not in names.CONTAINERS:
        raise not_found("Datastore", call.params["name"])
    return ok({"secretsType": "AccountKey", "key": service.storage.account_key})


async def list_jobs(service: Service, call: Call) -> web.Response:
    """Return the jobs, newest first, a page at a time."""
    archived = call.query.get("listViewType", "ActiveOnly")
    rows = [
        service.jobs.resource(name)
        for name, _, body in service.documents.all("job")
        if not body.get("parent") and (archived == "All" or bool(body.get("archived")) == (archived == "ArchivedOnly"))
    ]
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
    return ok(service.jobs.resource(call.params["name"]))


async def put_job(service: Service, call: Call) -> web.Response:
    """Create a job, or change the tags of one; the client chooses the name, so it may send the job again."""
    name = call.params["name"]
    created = service.documents.get("job", name) is None
    await service.jobs.submit(name, call.json().get("properties") or {})
    return ok(service.jobs.resource(name), 201 if created else 200)


async def cancel_job(service: Service, call: Call) -> web.Response:
    """Ask a job to end."""
    name = call.params["name"]
    service.jobs.cancel(name)
    where = f"https://{names.MANAGEMENT}{names.SCOPE}/jobs/{name}/operationresults/{uuid.uuid4()}"
    return ok(None, 202, Location=f"{where}?api-version={call.query.get('api-version', '')}", Retry_After="1")


async def cancel_result(service: Service, call: Call) -> web.Response:
    """Answer 202 until the job has ended, then 200, empty."""
    if service.jobs.ended(call.params["name"]):
        return web.Response(status=200)
    return ok({}, 202, Retry_After="1")


_LOCATIONS = f"/subscriptions/{{sub}}/providers/{names.PROVIDER}/locations/{{location}}"
_COMPUTE = "2023-08-01-preview"
_STORE = "2024-10-01-preview"
_JOBS = "2024-01-01-preview"

ROUTES = [
    Route("GET", "{S}", "2024-10-01-preview 2023-08-01-preview", get_workspace),
    Route("GET", f"{_LOCATIONS}/vmSizes", _COMPUTE, vm_sizes),
    Route("GET", f"{_LOCATIONS}/usages", _COMPUTE, usages),
    Route("GET", f"{_LOCATIONS}/operations/{{id}}", _COMPUTE, get_operation),
    Route("GET", "{S}/computes", _COMPUTE, list_computes),
    Route("GET", "{S}/computes/{name}", _COMPUTE, get_compute),
    Route("PUT", "{S}/computes/{name}", _COMPUTE, put_compute),
    Route("DELETE", "{S}/computes/{name}", _COMPUTE, delete_compute),
    Route("GET", "{S}/datastores", _STORE, list_datastores),
    Route("GET", "{S}/datastores/{name}", _STORE, get_datastore),
    Route("POST", "{S}/datastores/{name}/listSecrets", _STORE, list_secrets),
    Route("GET", "{S}/jobs", _JOBS, list_jobs),
    Route("GET", "{S}/jobs/{name}", _JOBS, get_job),
    Route("PUT", "{S}/jobs/{name}", f"2025-01-01-preview {_JOBS}", put_job),
    Route("POST", "{S}/jobs/{name}/cancel", "2023-04-01-preview", cancel_job),
    Route("GET", "{S}/jobs/{name}/operationresults/{id}", "2023-04-01-preview", cancel_result),
]
