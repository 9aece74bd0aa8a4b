"""What a job's processes find: their folders, their command line, their environment variables."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.standin import azurite, names
from tests.standin.state import Document

if TYPE_CHECKING:
    from tests.standin.service import Service

_BINDING = re.compile(r"\$\{\{\s*(inputs|outputs|search_space)\.(\w+)(?:\.path)?\s*\}\}")
_DATASTORE = re.compile(r"azureml://(?:.*/)?datastores/([^/]+)/paths/(.*)")
_ASSET = re.compile(r"(?:azureml:)?/?.*/(data|models)/([^/]+)/versions/([^/]+)$")
_ARTIFACT = re.compile(r"azureml://jobs/([^/]+)/outputs/artifacts/paths/(.*)")


class Unreadable(Exception):  # noqa: N818 - it is the job's error, not the stand-in's
    """An input, or the code, cannot be read."""


def working_folder(service: Service, name: str, node: int) -> Path:
    """Return the folder in which the processes of one node start; it holds the code and nothing else."""
    return service.folder.job(name) / "nodes" / str(node)


def seconds(duration: str | None) -> float | None:
    """Read an ISO 8601 duration without years and months, `PT1H30M`.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if not duration:
        return None
    found = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", duration)
    if not found or duration in ("P", "PT"):
        raise ValueError(f"{duration!r} is not a duration")
    days, hours, minutes, rest = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def fetch(service: Service, name: str, properties: Document) -> None:
    """Bring code and inputs from the blobs, as they arrived there, into fresh folders.

    Raises
    ------
    Unreadable
        If something is not there.
    """
    folder = service.folder.job(name)
    for old in ("inputs", "outputs", "nodes"):
        shutil.rmtree(folder / old, ignore_errors=True)
    first = working_folder(service, name, 0)
    first.mkdir(parents=True)
    code = re.search(r"/codes/([^/]+)/versions/([^/]+)$", properties.get("codeId") or "")
    if code:
        document = service.documents.get("codes", code[1], code[2]) or {"properties": {"codeUri": ""}}
        container, _, prefix = _blob_path(document["properties"]["codeUri"]).partition("/")
        if not service.storage.download(container, prefix, first):
            raise Unreadable(f"The code of the job is not at {document['properties']['codeUri']}.")
    for node in range(1, int((properties.get("resources") or {}).get("instanceCount") or 1)):
        shutil.copytree(first, working_folder(service, name, node))
    for key, spec in (properties.get("inputs") or {}).items():
        if spec and spec.get("jobInputType") != "literal":
            if not _may_read(service, properties):
                text = "ScriptExecution.StreamAccess.Authentication: Authentication failed when trying to access the"
                raise Unreadable(f"{text} stream. Make sure the identity of the compute or the job may read {key}.")
            _fetch_input(service, folder, key, spec)
    for output in properties.get("outputs") or {}:
        (folder / "outputs" / output).mkdir(parents=True)


def _blob_path(address: str) -> str:
    """Return `container/blob` of the address of a blob."""
    if not address.startswith(f"https://{names.BLOB}/"):
        raise Unreadable(f"{address} is not in the storage account of the workspace; a stand-in reads nothing else.")
    return address.removeprefix(f"https://{names.BLOB}/").split("?")[0]


def _may_read(service: Service, properties: Document) -> bool:
    """Say whether the nodes of a job may read the blobs: without keys they need somebody to be."""
    if not service.faults.present("no-keys"):
        return True
    if (properties.get("identity") or {}).get("identityType") == "UserIdentity":
        return True
    compute = service.documents.get("compute", service.jobs.compute(properties) or "") or {}
    return (compute.get("identity") or {}).get("type") not in (None, "None")


def _fetch_input(service: Service, folder: Path, key: str, spec: Document) -> None:
    datastore, path = locate(service, spec["uri"])
    target = folder / "inputs" / f"INPUT_{key}"
    written = service.storage.download(datastore, path, target)
    if not written:
        raise Unreadable(f"Input {key} does not exist: {spec['uri']} (StreamAccess error: NotFound).")
    if spec["jobInputType"] == "uri_file" and len(written) != 1:
        raise Unreadable(f"Input {key} is a uri_file but {spec['uri']} holds {len(written)} files.")
    if spec.get("mode", "ReadOnlyMount") == "ReadOnlyMount":
        for file in written:
            file.chmod(0o444)


def locate(service: Service, uri: str) -> tuple[str, str]:
    """Return datastore (or container) and path of whatever names a file or a folder.

    Raises
    ------
    Unreadable
        If the asset does not exist or the address leads out of the workspace.
    """
    if found := _DATASTORE.fullmatch(uri):
        return found[1], found[2]
    if found := _ARTIFACT.fullmatch(uri):
        return names.ARTIFACTSTORE, f"{names.artifact_prefix(found[1])}/{found[2]}"
    if found := _ASSET.fullmatch(uri):
        body = service.documents.get(found[1], found[2], found[3])
        if body is None:
            raise Unreadable(f"Asset {found[2]}:{found[3]} does not exist.")
        properties = body["properties"]
        return locate(service, properties.get("dataUri") or properties["modelUri"])
    container, _, path = _blob_path(uri).partition("/")
    return container, path


def _value(service: Service, name: str, kind: str, key: str, properties: Document) -> str:
    folder = service.folder.job(name)
    if kind == "outputs":
        return str(folder / "outputs" / key)
    spec = (properties.get("inputs") or {}).get(key)
    if spec is None:
        return ""
    if spec.get("jobInputType") == "literal":
        return str(spec.get("value") or "")
    target = folder / "inputs" / f"INPUT_{key}"
    if spec["jobInputType"] == "uri_file":
        files = [path for path in target.rglob("*") if path.is_file()]
        return str(files[0]) if files else str(target)
    return str(target)


def render(service: Service, name: str, text: str, properties: Document) -> str:
    """Put values in the place of `${{inputs.x}}` and `${{outputs.x}}`; an empty literal leaves nothing."""
    return _BINDING.sub(lambda found: _value(service, name, found[1], found[2], properties), text)


def environ(service: Service, name: str, properties: Document, python: Path) -> dict[str, str]:
    """Return the environment variables of a job's process: the service's, and the job's own.

    Nothing of the submitting side's environment is in it.
    """
    run = service.documents.get("run", name) or {}
    token, expires = service.tokens.issue(names.AML_RESOURCE, run=name)
    home = azurite.cache() / "home"
    home.mkdir(parents=True, exist_ok=True)
    api = f"https://{names.API}"
    own = {
        "PATH": os.pathsep.join([str(python.parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TMPDIR": tempfile.gettempdir(),
        "PYTHONUNBUFFERED": "1",
        **client_environ(service.proxy_port, service.folder.ca),
        "MLFLOW_TRACKING_URI": f"{names.TRACKING_URI}?",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_RUN_ID": name,
        "MLFLOW_EXPERIMENT_ID": str(run.get("experiment_id", "")),
        "MLFLOW_EXPERIMENT_NAME": properties["experimentName"],
        "AZUREML_RUN_ID": name,
        "AZUREML_ROOT_RUN_ID": str(service.jobs.body(name).get("parent") or name),
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": str(expires),
        "AZUREML_EXPERIMENT_ID": str(run.get("experiment_id", "")),
        "AZUREML_ARM_SUBSCRIPTION": names.SUBSCRIPTION,
        "AZUREML_ARM_RESOURCEGROUP": names.RESOURCE_GROUP,
        "AZUREML_ARM_WORKSPACE_NAME": names.WORKSPACE,
        "AZUREML_ARM_PROJECT_NAME": properties["experimentName"],
        "AZUREML_WORKSPACE_ID": names.WORKSPACE_ID,
        "AZUREML_WORKSPACE_SCOPE": names.SCOPE,
        "AZUREML_EXPERIMENT_SCOPE": f"{names.SCOPE}/experiments/{properties['experimentName']}",
        "AZUREML_SERVICE_ENDPOINT": api,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{api}/discovery",
        "AZUREML_RUN_HISTORY_SERVICE_ENDPOINT": api,
        "AZUREML_NODE_COUNT": str((properties.get("resources") or {}).get("instanceCount") or 1),
    }
    for kind in ("inputs", "outputs"):
        for key in properties.get(kind) or {}:
            value = _value(service, name, kind, key, properties)
            own[f"AZUREML_{kind[:-1].upper()}_{key}"] = own[f"AZURE_ML_{kind[:-1].upper()}_{key}"] = value
    for key, value in (properties.get("environmentVariables") or {}).items():
        own[key] = render(service, name, str(value), properties)
    return own


def client_environ(proxy: int, ca: Path) -> dict[str, str]:
    """Return the variables with which any process reaches this stand-in and nothing else.

    Parameters
    ----------
    proxy : int
        The proxy's port.
    ca : Path
        The authority's certificate.
    """
    address, local = f"http://127.0.0.1:{proxy}", "127.0.0.1,localhost"
    both = {"HTTPS_PROXY": address, "HTTP_PROXY": address, "NO_PROXY": local}
    return {
        **both,
        **{key.lower(): value for key, value in both.items()},
        "REQUESTS_CA_BUNDLE": str(ca),
        "AZUREML_CURRENT_CLOUD": names.CLOUD,
        "ARM_CLOUD_METADATA_URL": f"https://{names.MANAGEMENT}/metadata/endpoints?api-version=2019-05-01",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def interpreter() -> Path:
    """Return the python that runs the stand-in: the environment of its jobs unless theirs is built."""
    return Path(sys.executable)
