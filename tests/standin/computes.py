"""Clusters, sizes of virtual machines, and the quota of an ordinary pay-as-you-go subscription."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from tests.standin import names
from tests.standin.control import arm_id, hurry, ok, system_data
from tests.standin.errors import ServiceError, forbidden
from tests.standin.state import Document
from tests.standin.wire import ASSUMED, DESCRIBED, RECORDED, Call, Route

if TYPE_CHECKING:
    from tests.standin.service import Service

CLUSTER, BOTH, ENDPOINTS = ("AmlCompute",), ("AmlCompute", "ComputeInstance"), ("MIR",)
ALL = (*BOTH, *ENDPOINTS)  # the documented list of sizes for online endpoints (2025-10) has these
# name: family, cores, GPUs, memory in GB, disk in MB, USD an hour, what it is for
SIZES: dict[str, tuple[str, int, int, float, int, float, tuple[str, ...]]] = {
    "Standard_DS2_v2": ("standardDSv2Family", 2, 0, 7.0, 14336, 0.146, ALL),
    "Standard_DS3_v2": ("standardDSv2Family", 4, 0, 14.0, 28672, 0.293, ALL),
    "Standard_DS11_v2": ("standardDSv2Family", 2, 0, 14.0, 28672, 0.185, BOTH),
    "Standard_D2s_v3": ("standardDSv3Family", 2, 0, 8.0, 16384, 0.115, BOTH),
    "Standard_D4s_v3": ("standardDSv3Family", 4, 0, 16.0, 32768, 0.230, BOTH),
    "Standard_D2as_v4": ("standardDASv4Family", 2, 0, 8.0, 16384, 0.115, ALL),
    "Standard_D4as_v4": ("standardDASv4Family", 4, 0, 16.0, 32768, 0.230, ALL),
    "Standard_D2ads_v5": ("standardDADSv5Family", 2, 0, 8.0, 75000, 0.124, BOTH),
    "Standard_D4ads_v5": ("standardDADSv5Family", 4, 0, 16.0, 150000, 0.248, BOTH),
    "Standard_D8ads_v5": ("standardDADSv5Family", 8, 0, 32.0, 300000, 0.496, BOTH),
    "Standard_D2ds_v4": ("standardDDSv4Family", 2, 0, 8.0, 76800, 0.135, BOTH),
    "Standard_D4ds_v4": ("standardDDSv4Family", 4, 0, 16.0, 153600, 0.270, BOTH),
    "Standard_D8ds_v4": ("standardDDSv4Family", 8, 0, 32.0, 307200, 0.540, BOTH),
    "Standard_E4s_v3": ("standardESv3Family", 4, 0, 32.0, 65536, 0.320, ALL),
    "Standard_E4ds_v4": ("standardEDSv4Family", 4, 0, 32.0, 153600, 0.344, BOTH),
    "Standard_E4ds_v5": ("standardEDSv5Family", 4, 0, 32.0, 150000, 0.344, BOTH),
    "Standard_D2ds_v5": ("standardDDSv5Family", 2, 0, 8.0, 75000, 0.135, BOTH),
    "Standard_D4ds_v5": ("standardDDSv5Family", 4, 0, 16.0, 150000, 0.270, BOTH),
    "Standard_D8ds_v5": ("standardDDSv5Family", 8, 0, 32.0, 300000, 0.540, BOTH),
    "Standard_F4s_v2": ("standardFSv2Family", 4, 0, 8.0, 32768, 0.194, ALL),
    "Standard_F8s_v2": ("standardFSv2Family", 8, 0, 16.0, 65536, 0.388, ALL),
    "Standard_NC6s_v3": ("standardNCSv3Family", 6, 1, 112.0, 344064, 3.823, (*CLUSTER, *ENDPOINTS)),
    "Standard_NC4as_T4_v3": ("standardNCASv3_T4Family", 4, 1, 28.0, 180224, 0.605, ALL),
    "Standard_NC24ads_A100_v4": ("standardNCADSA100v4Family", 24, 1, 220.0, 958464, 4.775, (*CLUSTER, *ENDPOINTS)),
    "Standard_NV6ads_A10_v5": ("standardNVADSA10v5Family", 6, 1, 55.0, 184320, 0.546, ENDPOINTS),
}
_BY_LOWER = {size.lower(): size for size in SIZES}
# Cores, as measured in such a subscription in 2026; every other family has none.
REGIONAL, LOW_PRIORITY = 20, 0
QUOTA = {
    "standardESv3Family": 20,
    "standardFSv2Family": 16,
    "standardDASv4Family": 10,
    "standardEDSv4Family": 10,
    **dict.fromkeys(
        (
            "standardDFamily",
            "standardDv2Family",
            "standardDv3Family",
            "standardDSv2Family",
            "standardDSv3Family",
            "standardEAv4Family",
            "standardEv3Family",
            "standardDDSv4Family",
            "standardLSv2Family",
        ),
        6,
    ),
    **dict.fromkeys(
        sorted(
            {family for family, *_ in SIZES.values()}
            - {
                "standardESv3Family",
                "standardFSv2Family",
                "standardDASv4Family",
                "standardEDSv4Family",
                "standardDSv2Family",
                "standardDSv3Family",
                "standardDDSv4Family",
            }
        ),
        0,
    ),
    "standardNCSv3Family": -1,  # no dedicated cores have ever been given
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,30}[A-Za-z0-9]")
# How long a cluster is Creating: long enough to be seen, short enough for tests.
_CREATION = 0.3
_SCOPE = f"/subscriptions/{names.SUBSCRIPTION}/providers/{names.PROVIDER}/locations"


def size_of(name: str) -> str | None:
    """Return a size's name as the list spells it, None if there is no such size."""
    return _BY_LOWER.get(name.lower())


def cores_of(size: str) -> tuple[str, int]:
    """Return the family and the cores of a size."""
    family, cores, *_ = SIZES[_BY_LOWER[size.lower()]]
    return family, cores


def _advice(service: Service, call: Call) -> web.Response | None:
    """Return the answer of a fault to a question about the subscription, or None."""
    where = f"{call.method} {call.path}"
    if service.faults.take({"workspace-role"}, where):
        raise forbidden(call.method, call.path, "control")
    if fault := service.faults.take({"sizes-404"}, where):
        raise ServiceError(int(fault.code or 404), "NotFound", "The resource cannot be found.", plane="gateway")
    return ok({"value": []}) if service.faults.take({"sizes-empty"}, where) else None


async def vm_sizes(service: Service, call: Call) -> web.Response:
    """Return the sizes of virtual machines, those for endpoints among them."""
    refused = _advice(service, call)
    if refused is not None:
        return refused
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
            "estimatedVMPrices": _prices(price),
            "supportedComputeTypes": list(purposes),
        }
        for name, (family, cores, gpus, memory, disk, price, purposes) in SIZES.items()
    ]
    return ok({"value": sizes})


def _prices(price: float) -> Document:
    parts = {("Linux", "Standard"): 1.0, ("Linux", "LowPriority"): 0.2, ("Linux", "Spot"): 0.25}
    parts |= {("Windows", "Standard"): 1.8, ("Windows", "LowPriority"): 0.7}
    values = [
        {"retailPrice": round(price * part, 4), "osType": system, "vmTier": tier}
        for (system, tier), part in parts.items()
    ]
    return {"billingCurrency": "USD", "unitOfMeasure": "OneHour", "values": values}


def limits(service: Service) -> dict[str, int]:
    """Return the cores of each family, of the region, and of low priority."""
    known = QUOTA | {"regional": REGIONAL, "low_priority": LOW_PRIORITY} | service.faults.quota
    return dict.fromkeys(known, 0) if service.faults.present("no-quota") else known


def used(service: Service) -> dict[str, int]:
    """Return the cores that are at work, by the names of `limits`."""
    found: dict[str, int] = {}
    for _, __, body in service.documents.all("compute"):
        inner = body["properties"]["properties"]
        family, cores = cores_of(inner["vmSize"])
        cores *= service.jobs.nodes_in_use(body["name"])
        for key in ("low_priority",) if inner.get("vmPriority") == "LowPriority" else (family, "regional"):
            found[key] = found.get(key, 0) + cores
    for _, __, body in service.documents.all("deployment"):
        family, cores = cores_of(body["properties"]["instanceType"])
        for key in (family, "regional"):
            found[key] = found.get(key, 0) + cores * int(body["sku"]["capacity"])
    return found


def fits(service: Service, compute: str, count: int) -> bool:
    """Say whether the quota allows so many more nodes of a cluster."""
    body = service.documents.get("compute", compute)
    if body is None:
        return True
    inner = body["properties"]["properties"]
    family, cores = cores_of(inner["vmSize"])
    keys = ("low_priority",) if inner.get("vmPriority") == "LowPriority" else (family, "regional")
    taken, allowed = used(service), limits(service)
    return all(taken.get(key, 0) + cores * count <= allowed.get(key, 0) for key in keys)


def _long(family: str) -> str:
    return f"Standard {family.removeprefix('standard').removesuffix('Family')} Family"


async def usages(service: Service, call: Call) -> web.Response:
    """Return the quota of the subscription, what is taken of it, and the rows of other workspaces and of clusters.

    The fault `no-quota` shows here as well: a family without cores is what keeps a job in the queue.
    """
    refused = _advice(service, call)
    if refused is not None:
        return refused
    taken, allowed = used(service), limits(service)
    keys = service.faults.present("quota-keys")
    prefix, kind = f"{_SCOPE}/{call.params['location']}", f"{names.PROVIDER}/usages"

    def row(limit: int, current: int, value: str, label: str, place: str = prefix, kind: str = kind) -> Document:
        return {
            "id": f"{place}/usages/{value}",
            "type": kind,
            "unit": "Count",
            "currentValue": current,
            "limit": limit,
            "name": {"value": value if keys else label, "localizedValue": label},
        }

    region, low = "Total Cluster Dedicated Regional vCPUs", "Total Cluster Low Priority Regional vCPUs"
    value = [
        row(allowed["regional"], taken.get("regional", 0), region, region),
        row(allowed["low_priority"], taken.get("low_priority", 0), low, low),
    ]
    group = f"/subscriptions/{names.SUBSCRIPTION}/resourceGroups"
    other = f"{group}/another-group/providers/{names.PROVIDER}/workspaces/another-workspace"
    for family in QUOTA:
        label = f"{_long(family)} Cluster Dedicated vCPUs"
        value += [
            row(allowed[family], taken.get(family, 0), family, label),
            row(-1, 0, f"{family}LowPriority", f"{_long(family)} Cluster Low Priority vCPUs"),
            row(0, 0, family, label, other, f"{names.PROVIDER}/workspaces/usages"),
        ]
    cluster = f"{other}/computes/another-cluster"
    family, label = "standardDDSv4Family", f"{_long('standardDDSv4Family')} Cluster Dedicated vCPUs"
    value.append(row(0, 0, family, label, cluster, f"{names.PROVIDER}/workspaces/computes/usages"))
    return ok({"value": value})


async def list_computes(service: Service, _: Call) -> web.Response:
    """Return the clusters."""
    return ok({"value": [_shown(service, body) for __, ___, body in service.documents.all("compute")]})


async def get_compute(service: Service, call: Call) -> web.Response:
    """Return a cluster; a missing one is a 404 with a null body, as recorded."""
    name = call.params["name"]
    body = service.documents.get("compute", name)
    if body is None and (fault := service.faults.take({"cluster-creating"}, name)):
        body = _document(name, names.LOCATION, _somebody_elses(), {})
        fixed = fault.gate or fault.seconds is not None
        until = time.time() + (fault.seconds or 0.0)
        body["creation"] = {"ends": fault.variant, "gate": fault.gate, "until": until, "looks": 0 if fixed else 2}
        service.documents.put("compute", name, body)
    if body is None:
        return ok(None, 404)
    if (looks := (body.get("creation") or {}).get("looks", 0)) > 0:
        changed = body | {"creation": body["creation"] | {"looks": looks - 1}}
        service.documents.put("compute", name, changed)
    return ok(_shown(service, body))


def _somebody_elses() -> Document:
    scale = {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT2M"}
    inner = {"vmSize": "STANDARD_D4DS_V4", "vmPriority": "Dedicated", "scaleSettings": scale}
    return {"computeType": "AmlCompute", "properties": inner}


def state(body: Document) -> str:
    """Return the provisioning state of a cluster."""
    creation = body.get("creation")
    if not creation:
        return "Succeeded"
    if creation["looks"] > 0 or time.time() < creation["until"]:
        return "Creating"
    if creation["gate"] and not Path(creation["gate"]).exists():
        return "Creating"
    return str(creation["ends"])


def _shown(service: Service, body: Document) -> Document:
    body = {key: value for key, value in body.items() if key != "creation"} | {
        "properties": {**body["properties"], "provisioningState": state(body)}
    }
    nodes, kinds = service.jobs.nodes_in_use(body["name"]), ("idle", "preparing", "unusable", "leaving", "preempted")
    body["properties"]["properties"].update(
        allocationState="Steady",
        currentNodeCount=nodes,
        targetNodeCount=nodes,
        nodeStateCounts={"runningNodeCount": nodes, **{f"{kind}NodeCount": 0 for kind in kinds}},
        errors=None,
    )
    return body


def _document(name: str, location: str, properties: Document, rest: Document) -> Document:
    return {
        "id": arm_id("computes", name),
        "name": name,
        "type": f"{names.PROVIDER}/workspaces/computes",
        "location": location,
        "tags": rest.get("tags"),
        "identity": rest.get("identity"),
        "properties": {
            **properties,
            "computeLocation": names.LOCATION,
            "createdOn": system_data()["createdAt"],
        },
    }


async def put_compute(service: Service, call: Call) -> web.Response:
    """Create or change a cluster, asynchronously."""
    name, body = call.params["name"], call.json()
    if not _NAME.fullmatch(name):
        text = f"{name!r} is not a valid name: 2 to 32 letters, digits and -, the first a letter, the last no -."
        raise ServiceError(400, "InvalidComputeName", text)
    properties = body.get("properties") or {}
    if properties.get("computeType") != "AmlCompute":
        raise ServiceError(400, "UnsupportedComputeType", "The stand-in has clusters (AmlCompute) only.")
    inner = properties.get("properties") or {}
    size = str(inner.get("vmSize", ""))
    known = size_of(size)
    if known is None or "AmlCompute" not in SIZES[known][-1]:
        text = (
            f"STANDARD_{size.upper().removeprefix('STANDARD_')} is not a valid VM size in {names.LOCATION}. "
            f"Please choose one of: {', '.join(size for size in SIZES if 'AmlCompute' in SIZES[size][-1])}."
        )
        raise ServiceError(400, "InvalidVmSize", text)
    existing = service.documents.get("compute", name)
    if existing is not None and state(existing) == "Creating":
        raise ServiceError(409, "ComputeBusy", f"The compute {name} is being created.")
    made = properties | {"properties": inner | {"vmSize": known.upper()}}
    document = _document(name, body.get("location", names.LOCATION), made, body)
    if existing is None:
        document["creation"] = {"ends": "Succeeded", "gate": "", "until": time.time() + _CREATION, "looks": 0}
    service.documents.put("compute", name, document)
    headers = {"Azure_AsyncOperation": _operation(service, name), **hurry(service)}
    return ok(_shown(service, document), 200 if existing else 201, **headers)


def _operation(service: Service, name: str) -> str:
    where = f"https://{names.MANAGEMENT}{_SCOPE}/{names.LOCATION}/computeOperationsStatus"
    return f"{where}/{service.operations.begin(name)}?api-version=2023-08-01-preview&service=new"


async def delete_compute(service: Service, call: Call) -> web.Response:
    """Delete a cluster, asynchronously."""
    service.documents.drop("compute", call.params["name"])
    headers = {"Azure_AsyncOperation": _operation(service, call.params["name"]), **hurry(service)}
    return ok(None, 202, **headers)


async def get_operation(service: Service, call: Call) -> web.Response:
    """Return the state of an operation: in progress at the first look, and while the cluster is being created."""
    looks, name = service.operations.look(call.params["id"])
    body = service.documents.get("compute", name)
    done = looks > 1 and (body is None or state(body) != "Creating")
    said = {"status": "Succeeded", "percentComplete": 100.0} if done else {"status": "InProgress"}
    return ok(said, 200, **hurry(service))


_LOCATIONS = f"/subscriptions/{{sub}}/providers/{names.PROVIDER}/locations/{{location}}"
_VERSION = "2023-08-01-preview"

ROUTES = [
    Route("GET", f"{_LOCATIONS}/vmSizes", _VERSION, vm_sizes, evidence=DESCRIBED),
    Route("GET", f"{_LOCATIONS}/usages", _VERSION, usages, evidence=DESCRIBED),
    Route("GET", f"{_LOCATIONS}/computeOperationsStatus/{{id}}", _VERSION, get_operation, evidence=RECORDED),
    Route("GET", "{S}/computes", _VERSION, list_computes, evidence=ASSUMED),
    Route("GET", "{S}/computes/{name}", _VERSION, get_compute, evidence=RECORDED),
    Route("PUT", "{S}/computes/{name}", _VERSION, put_compute, evidence=RECORDED),
    Route("DELETE", "{S}/computes/{name}", _VERSION, delete_compute, evidence=RECORDED),
]
