"""MLflow's tracking and registry: a real `mlflow server`, behind a door that knows runs by the names of jobs.

MLflow mints the ids of its runs itself. In a workspace the run of a job has the job's name as its id, so the
ids are exchanged on the way in and on the way out.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from tests.standin import limits, names
from tests.standin.errors import ServiceError
from tests.standin.faults import Faults
from tests.standin.state import Document, Documents
from tests.standin.wire import ACCOUNT, ASSUMED, DESCRIBED, Call, Route

if TYPE_CHECKING:
    from tests.standin.service import Service

ENDPOINTS = {
    "experiments": {
        "create", "search", "list", "get", "get-by-name", "delete", "restore", "update", "set-experiment-tag",
    },
    "runs": {
        "create", "update", "delete", "restore", "get", "search", "log-metric", "log-parameter", "log-batch",
        "log-model", "log-inputs", "set-tag", "delete-tag",
    },
    "metrics": {"get-history", "get-history-bulk", "get-history-bulk-interval"},
    "registered-models": {
        "create", "get", "update", "rename", "delete", "search", "list", "get-latest-versions", "set-tag",
        "delete-tag", "alias",
    },
    "model-versions": {
        "create", "get", "update", "delete", "search", "get-download-uri", "transition-stage", "set-tag",
        "delete-tag",
    },
}  # fmt: skip
# Where it is known from that a workspace answers a group of routes, or how it refuses it.
EVIDENCE = {
    "experiments/*": ("GET POST", ACCOUNT),
    "runs/*, metrics/*": ("GET POST", ACCOUNT),
    "runs/create": ("POST", f"{ACCOUNT}; two tags are dropped: azure-sdk-for-python#45207"),
    "runs/log-inputs": ("POST", ASSUMED),
    "registered-models/*": ("GET POST", DESCRIBED),
    "registered-models/delete": ("DELETE", f"{DESCRIBED}: a model cannot be deleted, its versions can"),
    "registered-models/alias": ("GET POST DELETE", ASSUMED),
    "model-versions/*": ("GET POST PATCH DELETE", DESCRIBED),
    "logged-models*": ("any", f"{ACCOUNT}, azure-sdk-for-python#44896: 404, empty"),
    "traces*": ("any", "azure-sdk-for-python#40261: 403, empty"),
    "* (anything else, and other versions)": ("any", f"{ASSUMED}: 404, empty"),
    "* (its errors)": ("any", "mlflow#8008: `error_code` and `Error.Message`, no `message`"),
}
_DROPPED = ("mlflow.source.name", "mlflow.source.type")
STATUS = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}
_ID = re.compile(r"\b[0-9a-f]{32}\b")


@dataclass
class Tracking:
    """The MLflow server of a workspace.

    Parameters
    ----------
    port : int
        Where it listens, on loopback.
    documents : Documents
        Where the names of runs are kept.
    aliases : bool
        Whether the registry has aliases. Nobody has documented that the service's has.
    faults : Faults
    """

    port: int
    documents: Documents
    aliases: bool
    faults: Faults
    _known: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _ids: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, _, body in self.documents.all("run"):
            self._names[body["uuid"]], self._ids[name] = name, body["uuid"]

    async def open(self) -> None:
        """Make connections to the server possible.

        Each request has its own: a server closes one that was idle, and it may do so just when it is used again.
        """
        self._session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(force_close=True))

    async def close(self) -> None:
        """Close them."""
        await self._session.close()

    async def call(self, method: str, endpoint: str, body: Document | None = None, **query: str) -> Document:
        """Call the server, as the service itself does.

        Raises
        ------
        ServiceError
            With MLflow's own code, if it refuses.
        """
        url = f"http://127.0.0.1:{self.port}/api/2.0/mlflow/{endpoint}"
        async with self._session.request(method, url, json=body, params=query) as response:
            text = await response.text()
            answer: Document = json.loads(text) if text.startswith("{") else {}
            if response.status != 200:
                code = answer.get("error_code", "INTERNAL_ERROR")
                raise ServiceError(response.status, code, answer.get("message", text), "mlflow")
            return answer

    async def experiment(self, name: str) -> str:
        """Return the id of an experiment, created if it is not there."""
        try:
            found = await self.call("GET", "experiments/get-by-name", experiment_name=name)
            return str(found["experiment"]["experiment_id"])
        except ServiceError as error:
            if error.status != 404:
                raise
        try:
            created = await self.call("POST", "experiments/create", {"name": name})
        except ServiceError as error:
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
            return await self.experiment(name)
        return str(created["experiment_id"])

    async def create_run(self, name: str, experiment: str, title: str, tags: dict[str, str]) -> None:
        """Create the run of a job; a job has one, however often it is sent."""
        if name in self._ids:
            return
        number = await self.experiment(experiment)
        body = {
            "experiment_id": number,
            "start_time": int(time.time() * 1000),
            "run_name": title,
            "tags": [{"key": key, "value": str(value)} for key, value in tags.items()],
        }
        run = (await self.call("POST", "runs/create", body))["run"]["info"]["run_id"]
        self._names[run], self._ids[name] = name, run
        self.documents.put("run", name, {"uuid": run, "experiment_id": number, "experiment": experiment})

    async def end_run(self, name: str, status: str) -> None:
        """End the run of a job: the client leaves that to the service."""
        body = {"run_id": self._ids[name], "status": STATUS[status], "end_time": int(time.time() * 1000)}
        await self.call("POST", "runs/update", body)

    async def metric(self, name: str, key: str) -> float | None:
        """Return the last value of a metric of a job's run, or None."""
        run = await self.call("GET", "runs/get", run_id=self._ids[name])
        values = {m["key"]: m["value"] for m in run["run"]["data"].get("metrics", [])}
        return None if key not in values else float(values[key])

    def experiment_of(self, name: str) -> str | None:
        """Return the id of the experiment of a job's run."""
        body = self.documents.get("run", name)
        return None if body is None else str(body["experiment_id"])

    async def model_names(self) -> list[str]:
        """Return the names of the registered models."""
        found = await self.call("GET", "registered-models/search")
        return [model["name"] for model in found.get("registered_models", [])]

    async def model_versions(self, name: str) -> list[tuple[str, Document]]:
        """Return the versions of a registered model as assets, newest first."""
        found = await self.call("GET", "model-versions/search", filter=f"name='{name}'", max_results="200")
        rows = sorted(found.get("model_versions", []), key=lambda row: -int(row["version"]))
        return [(row["version"], {"properties": self._model(row)}) for row in rows]

    def _model(self, row: Document) -> Document:
        run = self.outward(row.get("run_id") or "")
        return {
            "modelUri": row.get("source"),
            "modelType": "mlflow_model",
            "jobName": run or None,
            "flavors": {"python_function": {"data": {}}},
            "tags": {tag["key"]: tag["value"] for tag in row.get("tags", [])},
            "properties": {},
            "description": row.get("description") or "",
            "stage": row.get("current_stage", "None"),
            "isArchived": False,
        }

    def inward(self, value: Any, key: str = "") -> Any:
        """Exchange the names of jobs for MLflow's ids in a request."""
        if isinstance(value, dict):
            return {name: self.inward(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.inward(item, key) for item in value]
        if isinstance(value, str) and key in ("run_id", "run_uuid", "run_ids"):
            return self._ids.get(value, value)
        if isinstance(value, str) and key == "filter" and "run_id" in value:
            return re.sub(r"'([^']*)'", lambda found: f"'{self._ids.get(found[1], found[1])}'", value)
        return value

    def outward(self, text: str) -> str:
        """Exchange MLflow's ids for the names of jobs in an answer."""
        return _ID.sub(lambda found: self._names.get(found[0], found[0]), text)

    async def forward(self, call: Call, endpoint: str) -> web.Response:
        """Pass a client's request on and its answer back."""
        sent = json.loads(call.body) if call.body.strip() else None
        query = dict(call.query)
        if isinstance(sent, dict):
            await self._check(endpoint, sent)
        if endpoint.endswith("/search") and (fault := self.faults.take({"small-pages"}, f"{call.method} {call.path}")):
            (query if call.method == "GET" else sent)["max_results"] = str(fault.code)  # type: ignore[index]
        pairs = [(key, self.inward(value, key)) for key, value in query.items()]
        url = f"http://127.0.0.1:{self.port}/api/2.0/mlflow/{endpoint}"
        body = json.dumps(self.inward(sent)) if sent is not None else None
        headers = {"Content-Type": "application/json"}
        address = f"{url}?{urlencode(pairs)}" if pairs else url
        async with self._session.request(call.method, address, data=body, headers=headers) as response:
            text = self.outward(await response.text())
            answer = json.loads(text) if text.startswith("{") else None
            if response.status >= 400 and answer is not None:
                code = str(answer.get("error_code", "INTERNAL_ERROR"))
                if code == "RESOURCE_ALREADY_EXISTS" and self.faults.present("already-exists"):
                    code = "ALREADY_EXISTS"
                raise ServiceError(response.status, code, str(answer.get("message", "")), "mlflow")
            if answer is not None:
                text = json.dumps(_artifacts(answer, not self.faults.present("version-without-run-id")))
            return web.Response(text=text, status=response.status, content_type="application/json")

    async def _check(self, endpoint: str, body: Document) -> None:
        """Refuse what the service refuses, and drop what it drops.

        Raises
        ------
        ServiceError
        """
        if endpoint == "experiments/create":
            limits.check_experiment(str(body.get("name")))
        if endpoint == "runs/create":
            body["tags"] = [tag for tag in body.get("tags") or [] if tag["key"] not in _DROPPED]
        if endpoint == "registered-models/delete":
            text = "Deleting a registered model is not supported; delete its versions."
            raise ServiceError(400, "BAD_REQUEST", text, "mlflow")
        if endpoint == "model-versions/create" and body.get("tags") and self.faults.present("version-tags-400"):
            raise ServiceError(400, "INVALID_PARAMETER_VALUE", "The request is invalid.", "mlflow")
        name = str(body.get("run_id") or body.get("run_uuid") or "")
        if endpoint in ("runs/log-batch", "runs/log-parameter", "runs/set-tag", "runs/log-metric"):
            if name not in self._known:
                found = await self.call("GET", "runs/get", run_id=self._ids.get(name, name))
                data = found["run"]["data"]
                self._known[name] = {
                    kind: {row["key"] for row in data.get(kind, [])} for kind in ("params", "tags", "metrics")
                }
            limits.check_run(endpoint, body, self._known[name])


def _artifacts(value: Any, lineage: bool) -> Any:
    """Say where the artifacts of runs are: an address that azureml-mlflow takes apart.

    Without lineage, versions of models do not say which run they are from.
    """
    if isinstance(value, list):
        return [_artifacts(item, lineage) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _artifacts(item, lineage) for key, item in value.items()}
    if not lineage and "version" in value and "source" in value:
        value.pop("run_id", None)
    if "artifact_uri" in value and "run_id" in value and "experiment_id" in value:
        runs = f"{names.TRACKING_URI}/experiments/{value['experiment_id']}/runs"
        value["artifact_uri"] = f"{runs}/{value['run_id']}/artifacts"
    if "artifact_location" in value and "experiment_id" in value:
        value["artifact_location"] = f"{names.TRACKING_URI}/experiments/{value['experiment_id']}/runs"
    return value


async def mlflow(service: Service, call: Call) -> web.Response:
    """Answer a call of MLflow's REST interface.

    The service knows version 2.0 without logged models and traces; to traces it answers 403, to anything else 404,
    with an empty body.
    """
    api = call.params["api"]
    if fault := service.faults.take({"mlflow-403"}, f"{call.method} {call.path}"):
        if fault.code in (403, 404, 405, 501):
            return web.Response(status=fault.code)
        code = "BAD_REQUEST" if fault.code == 400 else "INTERNAL_ERROR"
        raise ServiceError(int(fault.code or 403), code, "The request is invalid.", "mlflow")
    if re.match(r"api/\d\.0/mlflow/traces\b", api):
        return web.Response(status=403)
    if api.startswith("api/2.0/preview/mlflow/runs/"):
        return await _batch(service, call, api.rsplit("/", 1)[-1])
    group, _, name = api.removeprefix("api/2.0/mlflow/").partition("/")
    if not api.startswith("api/2.0/mlflow/") or group == "logged-models":
        return web.Response(status=404)
    if name not in ENDPOINTS.get(group, set()):
        service.note_unknown(f"mlflow: {call.method} {group}/{name}")
        return web.Response(status=404)
    if name == "alias" and not service.tracking.aliases:
        return web.Response(status=404)
    return await service.tracking.forward(call, f"{group}/{name}")


async def _batch(service: Service, call: Call, name: str) -> web.Response:
    """Answer the asynchronous logging of azureml-mlflow: here it is done at once, and nothing to wait for."""
    if name == "get-run-data-status":
        return web.json_response({"is_complete": True})
    if name == "log-batch-async":
        done = await service.tracking.forward(call, "runs/log-batch")
        return done if done.status != 200 else web.json_response({"batch_tracking_id": ""})
    return web.Response(status=404)


ROUTES = [Route("GET POST PATCH PUT DELETE", "/mlflow/v2.0{S}/{api*}", "", mlflow, "mlflow", "as below")]
