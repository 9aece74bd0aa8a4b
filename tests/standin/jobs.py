"""Jobs: what was asked for, who waits for whom, what has become of it."""

from __future__ import annotations

import asyncio
import json
import re
import traceback
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.standin import computes, limits, names, runner, sweeps
from tests.standin.control import arm_id, system_data
from tests.standin.errors import ServiceError, not_found, run_error
from tests.standin.state import Document

if TYPE_CHECKING:
    from tests.standin.service import Service

ENDED = ("Completed", "Failed", "Canceled")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]{0,254}")


def now() -> str:
    """Return the time as the service writes it."""
    return datetime.now(UTC).isoformat()


@dataclass
class Jobs:
    """The jobs of the workspace.

    Parameters
    ----------
    service : Service
    """

    service: Service
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _queue: list[str] = field(default_factory=list)
    _nodes: dict[str, tuple[str, int]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    _submitting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def resume(self) -> None:
        """Go on with the jobs that had not ended when the stand-in was stopped."""
        for name, _, body in reversed(list(self.service.documents.all("job"))):
            if body["status"] not in ENDED:
                self._start(name)

    async def leave(self) -> None:
        """Stop following the jobs; their processes go on."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def body(self, name: str) -> Document:
        """Return a job's document.

        Raises
        ------
        ServiceError
            404 if there is no such job.
        """
        body = self.service.documents.get("job", name)
        if body is None:
            raise not_found("Job", name)
        return body

    def update(self, name: str, **changes: Any) -> Document:
        """Change a job's document and return it.

        Raises
        ------
        ServiceError
            404 if there is no such job.
        """
        body = self.service.documents.change("job", name, changes)
        if body is None:
            raise not_found("Job", name)
        return body

    def look(self, name: str) -> None:
        """Note that a client has looked at a job: some states last until they have been seen."""
        self.looks[name] = self.looks.get(name, 0) + 1

    def wanted(self, name: str) -> bool:
        """Say whether nobody has cancelled a job."""
        return not self.body(name).get("cancel")

    def ended(self, name: str) -> bool:
        """Say whether a job has ended."""
        return self.body(name)["status"] in ENDED

    async def submit(self, name: str, properties: Document, parent: str | None = None) -> None:
        """Take a job in, or new tags for one that is there.

        Raises
        ------
        ServiceError
            400 or 404 if the job cannot be: no such cluster, environment or code, too many nodes, another
            kind of job.
        """
        async with self._submitting:
            old = self.service.documents.get("job", name)
            if old is not None:
                known = {key: properties[key] for key in ("tags", "description", "displayName") if key in properties}
                archived = bool(properties.get("isArchived", old.get("archived", False)))
                self.update(name, properties=old["properties"] | known, archived=archived)
                return
            if not _NAME.fullmatch(name):
                raise ServiceError(400, "InvalidJobName", f"{name!r} is not a valid job name.")
            limits.check_job(properties)
            if properties.get("jobType") not in ("Command", "Sweep"):
                kind = properties.get("jobType")
                raise ServiceError(400, "JobTypeNotSupported", f"The stand-in runs command and sweep jobs, not {kind}.")
            self._check(properties)
            properties = {"experimentName": "Default", "displayName": name, **properties}
            properties["experimentName"] = properties["experimentName"] or "Default"
            properties["displayName"] = properties["displayName"] or name
            tags = {
                **{k: v for k, v in (properties.get("properties") or {}).items() if k.startswith("mlflow.")},
                **(properties.get("tags") or {}),
                "mlflow.user": "Stand In",
                "mlflow.source.type": "JOB",
                **({"mlflow.parentRunId": parent} if parent else {}),
            }
            await self.service.tracking.create_run(name, properties["experimentName"], properties["displayName"], tags)
            document = {
                "properties": properties,
                "status": "Starting",
                "created": now(),
                "parent": parent,
                "outputs": runner.output_uris(name, properties),
            }
            self.service.documents.put("job", name, document)
            self._start(name)

    def _check(self, properties: Document) -> None:
        compute = self.compute(properties)
        count = int((properties.get("resources") or {}).get("instanceCount") or 1)
        if compute is not None and count > self._size(compute):
            text = f"The job asks for {count} nodes; cluster {compute} has at most {self._size(compute)}."
            raise ServiceError(400, "InvalidInstanceCount", text)
        resources = properties.get("resources") or {}
        if compute is None and resources.get("instanceType"):
            size = computes.size_of(str(resources["instanceType"]))
            if size is None or "AmlCompute" not in computes.SIZES[size][-1]:
                text = f"The instance type {resources['instanceType']} is not available in {names.LOCATION}."
                raise ServiceError(400, "InvalidInstanceType", text)
        tier = (properties.get("queueSettings") or {}).get("jobTier")
        if tier not in (None, "Null", "Spot", "Basic", "Standard", "Premium"):
            raise ServiceError(400, "InvalidJobTier", f"There is no job tier {tier}.")
        trial = properties.get("trial") or properties
        for key, kind, label in (
            ("environmentId", "environments", "Environment"),
            ("codeId", "codes", "Code"),
        ):
            found = re.search(rf"/{kind}/([^/]+)/versions/([^/]+)$", trial.get(key) or "")
            if found and self.service.documents.get(kind, found[1], found[2]) is None:
                raise not_found(label, f"{found[1]}:{found[2]}")
        if not trial.get("command"):
            raise ServiceError(400, "InvalidJob", "A job needs a command.")

    def compute(self, properties: Document) -> str | None:
        """Return the name of a job's cluster, None for serverless compute.

        Raises
        ------
        ServiceError
            404 if there is no such cluster.
        """
        name = (properties.get("computeId") or "").rsplit("/", 1)[-1]
        if name in ("", "serverless"):
            return None
        if self.service.documents.get("compute", name) is None:
            raise not_found("Compute", name)
        return name

    def low_priority(self, properties: Document) -> bool:
        """Say whether the nodes of a job may be taken away."""
        body = self.service.documents.get("compute", self.compute(properties) or "")
        if body is None:
            return (properties.get("queueSettings") or {}).get("jobTier") == "Spot"
        return bool(body["properties"]["properties"].get("vmPriority") == "LowPriority")

    def _size(self, compute: str) -> int:
        body = self.service.documents.get("compute", compute)
        scale = (body or {"properties": {"properties": {}}})["properties"]["properties"].get("scaleSettings") or {}
        return int(scale.get("maxNodeCount") or 1)

    def nodes_in_use(self, compute: str) -> int:
        """Return how many nodes of a cluster are at work."""
        return sum(count for name, count in self._nodes.values() if name == compute)

    async def allocate(self, name: str, compute: str | None, count: int) -> None:
        """Wait in the queue until the cluster has `count` free nodes and its quota allows them.

        Raises
        ------
        runner.Cancelled
            If the job is cancelled while it waits.
        """
        self._queue.append(name)
        try:
            while True:
                if self.body(name).get("cancel"):
                    raise runner.Cancelled
                held = self.service.faults.present("no-quota", compute or "serverless") or self._unready(compute, count)
                before = self._queue[: self._queue.index(name)]
                first = not any(self._wants(other) == compute for other in before)
                free = compute is None or self._size(compute) - self.nodes_in_use(compute) >= count
                if not held and first and free:
                    self._nodes[name] = (compute or "", count)
                    return
                await asyncio.sleep(0.1)
        finally:
            self._queue.remove(name)

    def _unready(self, compute: str | None, count: int) -> bool:
        """Say whether a cluster is not created yet, or its quota does not allow so many nodes where that binds."""
        body = self.service.documents.get("compute", compute or "")
        if body is None:
            return False
        binds = self.service.faults.present("quota-binds", str(compute))
        return computes.state(body) != "Succeeded" or (binds and not computes.fits(self.service, str(compute), count))

    def take_nodes(self, name: str, compute: str | None, count: int) -> None:
        """Note the nodes of a job that was at work before the stand-in was stopped."""
        self._nodes[name] = (compute or "", count)

    @staticmethod
    def clock() -> str:
        """Return the time as the service writes it."""
        return now()

    def _wants(self, name: str) -> str | None:
        return self.compute(self.body(name)["properties"])

    def release(self, name: str) -> None:
        """Give back the nodes of a job."""
        self._nodes.pop(name, None)

    def cancel(self, name: str) -> None:
        """Ask a job, and its children, to end.

        Raises
        ------
        ServiceError
            404 if there is no such job, 400 if it has ended.
        """
        body = self.body(name)
        if body["status"] in ENDED:
            text = f"Job {name} is in a terminal state ({body['status']}) and cannot be canceled."
            raise ServiceError(400, "JobInTerminalState", text)
        self.update(name, cancel=True, status="CancelRequested")
        for child, _, other in self.service.documents.all("job"):
            if other.get("parent") == name and other["status"] not in ENDED:
                self.update(child, cancel=True, status="CancelRequested")

    def end_processes(self) -> None:
        """End the processes of every job, at once and for good."""
        for name, _, body in self.service.documents.all("job"):
            if body["status"] not in ENDED:
                runner.terminate(self.service, name)

    def _start(self, name: str) -> None:
        kind = self.body(name)["properties"]["jobType"]
        follow = runner.follow if kind == "Command" else sweeps.follow
        self._tasks[name] = asyncio.create_task(self._run(name, follow))

    async def _run(self, name: str, follow: Any) -> None:
        try:
            status, error = await follow(self.service, name)
        except runner.Cancelled:
            status, error = "Canceled", None
        except Exception as problem:  # noqa: BLE001 - a bug of the stand-in must end the job, not leave it running
            self.service.log(traceback.format_exc())
            if self.service.leaving:
                return
            status, error = "Failed", run_error("ServiceError", f"The stand-in failed: {problem!r}")
        self.release(name)
        try:
            await self.service.tracking.end_run(name, status)
        except (ServiceError, aiohttp.ClientError):
            self.service.log(traceback.format_exc())
        self.update(name, status=status, error=error, ended=now())

    def resource(self, name: str) -> Document:
        """Return a job as the control plane shows it."""
        body = self.body(name)
        default = f"azureml://datastores/{names.ARTIFACTSTORE}/{names.artifact_prefix(name)}"
        outputs = {
            output: {**spec, "uri": body["outputs"].get(output) or spec.get("uri")}
            for output, spec in (body["properties"].get("outputs") or {}).items()
        }
        outputs["default"] = {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": default}
        tags = {"tags": body["properties"].get("tags") or {}}
        if body["status"] == "Queued":
            tags["tags"] |= {"_aml_system_ComputeTargetStatus": self._target_status(body)}
        asked = (body["properties"].get("computeId") or "").rsplit("/", 1)[-1]  # it may be deleted by now
        target = "serverless" if asked in ("", "serverless") else "amlctrain"
        kept = {"_azureml.ComputeTargetType": target, **(body["properties"].get("properties") or {})}
        properties = {
            **body["properties"],
            **tags,
            "properties": kept,
            "status": body["status"],
            "isArchived": bool(body.get("archived")),
            "outputs": outputs,
            "services": {
                "Tracking": _endpoint("Tracking", names.TRACKING_URI),
                "Studio": _endpoint("Studio", names.studio_url(name)),
            },
        }
        if body.get("parent"):
            properties["parentJobName"] = body["parent"]
        return {
            "id": arm_id("jobs", name),
            "name": name,
            "type": f"{names.PROVIDER}/workspaces/jobs",
            "properties": properties,
            "systemData": {**system_data(), "createdAt": body["created"]},
        }

    def _target_status(self, body: Document) -> str:
        """Return what a queued job says of its nodes."""
        nodes = self.nodes_in_use((body["properties"].get("computeId") or "").rsplit("/", 1)[-1])
        idle = ("preparing", "idle", "leaving", "preempted")
        counts: Document = {f"{kind}NodeCount": 0 for kind in idle} | {"runningNodeCount": nodes}
        wanted = runner.nodes(body["properties"])
        status = {"AllocationState": "resizing", "PreparingNodeCount": 0, "RunningNodeCount": nodes}
        return json.dumps(status | {"CurrentNodeCount": nodes, "RequestedNodeCount": wanted, "NodeStateCounts": counts})

    def log_files(self, name: str) -> dict[str, str]:
        """Return the logs of a job, each with a signed address."""
        prefix = names.artifact_prefix(name)
        found = []
        for folder in ("user_logs", "azureml-logs"):
            found += self.service.storage.names(names.ARTIFACTSTORE, f"{prefix}/{folder}/")
        return {
            blob.removeprefix(f"{prefix}/"): self.service.storage.blob_sas(names.ARTIFACTSTORE, blob) for blob in found
        }


def _endpoint(kind: str, address: str) -> Document:
    return {"jobServiceType": kind, "endpoint": address, "port": None, "status": None, "errorMessage": None}
