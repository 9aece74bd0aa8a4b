"""The control plane's assets: environments, code, data, models; each has a name and versions."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import yaml
from aiohttp import web

from tests.standin import names
from tests.standin.control import arm_id, ok, system_data
from tests.standin.errors import ServiceError, not_found
from tests.standin.state import Document
from tests.standin.wire import DESCRIBED, RECORDED, Call, Route

if TYPE_CHECKING:
    from tests.standin.service import Service

KINDS = {"environments": "Environment", "codes": "Code", "data": "DataAsset", "models": "Model"}


def _kind(call: Call) -> str:
    """Return which family of assets a path is about."""
    return call.path.removeprefix(names.SCOPE).split("/")[1]


def resource(kind: str, name: str, version: str, body: Document) -> Document:
    """Return an asset's version as the service shows it."""
    return {
        "id": arm_id(kind, name, version),
        "name": version,
        "type": f"{names.PROVIDER}/workspaces/{kind}/versions",
        "properties": body["properties"],
        "systemData": body.get("systemData") or system_data(),
    }


async def _versions(service: Service, kind: str, name: str) -> list[tuple[str, Document]]:
    found = service.documents.versions(kind, name)
    if kind != "models":
        return found
    # What MLflow has registered is a model asset as well: there is one registry behind both doors.
    known = {version for version, _ in found}
    return found + [pair for pair in await service.tracking.model_versions(name) if pair[0] not in known]


async def list_versions(service: Service, call: Call) -> web.Response:
    """Return the versions of an asset, newest first; code is found by its hash under any name."""
    kind, name = _kind(call), call.params["name"]
    if kind == "codes":
        wanted = call.query.get("hash")
        rows = [
            resource(kind, other, version, body)
            for other, version, body in service.documents.all(kind)
            if (other == name if wanted is None else _hash(body) == wanted)
        ]
        return ok({"value": rows})
    found = await _versions(service, kind, name)
    if not found:
        raise not_found(KINDS[kind], f"{name}")
    top = int(call.query.get("$top", len(found)))
    return ok({"value": [resource(kind, name, version, body) for version, body in found[:top]]})


def _hash(body: Document) -> Any:
    properties = body["properties"].get("properties") or {}
    return properties.get("hash_sha256")


async def get_version(service: Service, call: Call) -> web.Response:
    """Return one version of an asset."""
    kind, name, version = _kind(call), call.params["name"], call.params["version"]
    found = dict(await _versions(service, kind, name))
    if version not in found:
        raise not_found(KINDS[kind], f"{name}:{version}")
    return ok(resource(kind, name, version, found[version]))


async def put_version(service: Service, call: Call) -> web.Response:
    """Register a version; a version that exists may be described anew but does not change."""
    kind, name, version = _kind(call), call.params["name"], call.params["version"]
    properties = call.json().get("properties") or {}
    if kind == "environments":
        properties = _environment(properties)
    existing = service.documents.get(kind, name, version)
    if existing is not None:
        _same(kind, name, version, existing["properties"], properties)
        properties = existing["properties"] | {
            key: properties[key] for key in ("description", "tags", "isArchived") if key in properties
        }
    if kind == "models":
        properties = {"flavors": {}, "stage": "None", "isArchived": False, **properties}
        properties["flavors"] = properties["flavors"] or {}
    body = {"properties": properties, "systemData": (existing or {}).get("systemData") or system_data()}
    service.documents.put(kind, name, body, version)
    where = f"https://{names.MANAGEMENT}{arm_id(kind, name, version)}"
    return ok(resource(kind, name, version, body), 200 if existing else 201, Location=where)


def _same(kind: str, name: str, version: str, old: Document, new: Document) -> None:
    keys = {
        "environments": ("image", "condaFile"),
        "codes": ("codeUri",),
        "data": ("dataUri", "dataType"),
        "models": ("modelUri",),
    }
    for key in keys[kind]:
        if key in new and new[key] != old.get(key):
            text = f"A resource with this name and version exists: {name}:{version} ({key} cannot be changed)."
            raise ServiceError(409, "ResourceConflict", text)


def _environment(properties: Document) -> Document:
    """Check a conda file and turn it to JSON text, as the service gives it back."""
    text = properties.get("condaFile")
    if text is not None:
        try:
            conda = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ServiceError(400, "InvalidCondaFile", f"The conda file is not valid YAML: {error}") from error
        if not isinstance(conda, dict) or not isinstance(conda.get("dependencies"), list):
            raise ServiceError(400, "InvalidCondaFile", "The conda file has no list of dependencies.")
        properties = properties | {"condaFile": json.dumps(conda, indent=2)}
    return {
        "environmentType": "UserCreated",
        "osType": "Linux",
        "isArchived": False,
        "stage": None,
        **properties,
    }


async def get_container(service: Service, call: Call) -> web.Response:
    """Return an asset without a version: which version is the last, which would be the next."""
    kind, name = _kind(call), call.params["name"]
    found = await _versions(service, kind, name)
    if not found:
        raise not_found(KINDS[kind], name)
    return ok(_container(kind, name, [version for version, _ in found]))


def _container(kind: str, name: str, versions: list[str]) -> Document:
    numbers = [int(version) for version in versions if version.isdigit()]
    properties: Document = {
        "description": None,
        "tags": {},
        "properties": {},
        "isArchived": False,
        "latestVersion": versions[0],
        "nextVersion": str(max(numbers, default=0) + 1),
    }
    if kind == "data":
        properties["dataType"] = "uri_file"
    return {
        "id": arm_id(kind, name),
        "name": name,
        "type": f"{names.PROVIDER}/workspaces/{kind}",
        "properties": properties,
        "systemData": system_data(),
    }


async def list_containers(service: Service, call: Call) -> web.Response:
    """Return the assets of one kind."""
    kind = _kind(call)
    found: dict[str, list[str]] = {}
    for name, version, _ in service.documents.all(kind):
        found.setdefault(name, []).append(version)
    if kind == "models":
        for name in await service.tracking.model_names():
            found.setdefault(name, [version for version, _ in await _versions(service, kind, name)])
    return ok({"value": [_container(kind, name, versions) for name, versions in found.items() if versions]})


async def start_upload(service: Service, _: Call) -> web.Response:
    """Give out one fresh container, signed, into which code is uploaded."""
    container = f"{uuid.uuid4().hex[:8]}-{uuid.uuid4()}"
    await service.in_thread(service.storage.create, container)
    signed = service.storage.container_sas(container)
    return ok(
        {
            "pendingUploadId": str(uuid.uuid4()),
            "pendingUploadType": "TemporaryBlobReference",
            "blobReferenceForConsumption": {
                "blobUri": signed.split("?")[0],
                "storageAccountArmId": f"{names.SCOPE}/{names.ACCOUNT}",
                "credential": {"credentialType": "SAS", "sasUri": signed},
            },
        }
    )


_ENVIRONMENT, _CODE, _DATA, _MODEL = (
    "2023-04-01-preview",
    "2023-04-01",
    "2023-04-01-preview",
    "2023-08-01-preview",
)


def _seen(kind: str) -> str:
    return RECORDED if kind in ("environments", "codes") else f"{DESCRIBED} by the SDK"


ROUTES = [
    Route("POST", "{S}/codes/{name}/versions/{version}/startPendingUpload", _CODE, start_upload, evidence=RECORDED),
    *(
        route
        for kind, versions in {
            "environments": _ENVIRONMENT,
            "codes": _CODE,
            "data": _DATA,
            "models": _MODEL,
        }.items()
        for route in (
            Route("GET", f"{{S}}/{kind}", versions, list_containers, evidence=DESCRIBED),
            Route("GET", f"{{S}}/{kind}/{{name}}", versions, get_container, evidence=DESCRIBED),
            Route("GET", f"{{S}}/{kind}/{{name}}/versions", versions, list_versions, evidence=_seen(kind)),
            Route("GET", f"{{S}}/{kind}/{{name}}/versions/{{version}}", versions, get_version, evidence=_seen(kind)),
            Route("PUT", f"{{S}}/{kind}/{{name}}/versions/{{version}}", versions, put_version, evidence=_seen(kind)),
        )
    ),
]
