"""What answers behind a deployment: the model's folder, loaded in this process or served by Microsoft's own server.

By default a container is a model that `mlflow.pyfunc` has loaded here, and a few lines that do with a request what the
service's script does: its JSON, its cast to the types of the model's input example. With `--build-env` it is the real
thing without Docker: an environment made with uv from the model's `conda.yaml`, and `azmlinfsrv` in it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from tests.standin import names
from tests.standin.control import ok
from tests.standin.errors import ServiceError
from tests.standin.state import Document, free_port
from tests.standin.wire import RECORDED, Call, Route

if TYPE_CHECKING:
    from tests.standin.service import Service

ENDPOINT, DEPLOYMENT = "endpoint", "deployment"
MODEL = "model"
LOG = "container.log"
# What a log begins with; Microsoft's server has its own.
STARTED = """Instance status:
SystemSetup: Succeeded
UserContainerImagePull: Succeeded
ModelDownload: Succeeded
UserContainerStart: InProgress
"""
CRASHED = """Traceback (most recent call last):
  File "/var/mlflow_resources/mlflow_score_script.py", line 18, in <module>
    from azureml.ai.monitoring import Collector
ModuleNotFoundError: No module named 'azureml.ai'
[ERROR] Worker (pid:12) exited with code 3
[ERROR] Reason: Worker failed to boot.
"""
PROBE = "User container has crashed or terminated: Liveness probe failed: HTTP probe failed with statuscode: 502."
PATIENCE = 300.0


class CrashedError(Exception):
    """A container has ended, or answers no probe; its log says why."""


@dataclass
class Container:
    """One container that answers.

    Parameters
    ----------
    answer : callable
        Takes the body of a request, returns what is sent back; it runs in a thread.
    port : int
        Of Microsoft's server on loopback; 0 for a model that is loaded here.
    process : Popen, optional
        Its keeper.
    """

    answer: Callable[[Document], Any] | None = None
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def end(self) -> None:
        """Stop it."""
        if self.process is not None:
            self.process.terminate()


@dataclass
class Containers:
    """The containers that run, by the folder of their deployment."""

    service: Service
    running: dict[Path, Container] = field(default_factory=dict)
    asked: int = 0

    async def start(self, folder: Path, shown_log: Path) -> Container:
        """Start a container for the model in a folder, unless it runs.

        Raises
        ------
        CrashedError
        """
        if folder not in self.running:
            shown_log.write_text(STARTED)
            start = self._serve if self.service.build_env else self._load
            self.running[folder] = await start(folder / MODEL, shown_log)
        return self.running[folder]

    def end(self, folder: Path) -> None:
        """Stop the container of a folder, if there is one."""
        if container := self.running.pop(folder, None):
            container.end()

    async def _load(self, model: Path, log: Path) -> Container:
        try:
            answer = await self.service.in_thread(loaded, model)
        except Exception as error:
            with log.open("a") as file:
                file.write(f"{type(error).__name__}: {error}\n")
            raise CrashedError("User container has crashed or terminated.") from error
        with log.open("a") as file:
            file.write(f"Model {model.name} is loaded\nListening at: http://0.0.0.0:31311\n")
        return Container(answer)

    async def _serve(self, model: Path, log: Path) -> Container:
        from tools import rehearse_deploy
        from trainer.errors import UserError

        try:
            python = await self.service.in_thread(rehearse_deploy.build, model)
        except UserError as error:
            with log.open("a") as file:
                file.write(f"{error.cause}\n")
            raise CrashedError("Image build failed.") from error
        port = free_port()
        command, environ = rehearse_deploy.microsofts_server(python, model, port)
        keys = ("PATH", "HOME", "LANG", "TMPDIR")
        base = {key: os.environ[key] for key in keys if key in os.environ}
        name = f"container-{port}"
        process = self.service.start(name, command, base | environ)
        try:
            await self._answers(port, process)
        finally:
            with log.open("a") as file:
                file.write((self.service.folder.root / f"{name}.log").read_text(errors="replace"))
        return Container(port=port, process=process)

    async def _answers(self, port: int, process: subprocess.Popen[bytes]) -> None:
        from tests.standin.service import reachable

        log = self.service.folder.root / f"container-{port}.log"
        try:
            await reachable(f"http://127.0.0.1:{port}/", process, log, PATIENCE)
        except RuntimeError as error:
            process.terminate()
            raise CrashedError(PROBE) from error

    async def score(self, container: Container, body: bytes) -> tuple[int, str]:
        """Return status and text of an answer."""
        if container.port:
            headers = {"Content-Type": "application/json"}
            url = f"http://127.0.0.1:{container.port}/score"
            async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
                return response.status, await response.text()
        assert container.answer is not None
        try:
            return 200, json.dumps(await self.service.in_thread(container.answer, json.loads(body)))
        except Exception as error:  # noqa: BLE001 - as the service: whatever the model raises is a 424
            text = f"An unexpected error occurred in scoring script. {type(error).__name__}: {error}"
            return 424, json.dumps({"message": text})


def loaded(model: Path) -> Callable[[Document], Any]:
    """Load a model as the service's script does, and return a function from a request's body to its answer."""
    import mlflow.pyfunc
    import numpy as np
    import pandas as pd

    loaded_model = mlflow.pyfunc.load_model(str(model))
    example = loaded_model.metadata.saved_input_example_info
    types: dict[Any, Any] = {}
    if example:
        text = (model / example["artifact_path"]).read_text()
        types = pd.read_json(StringIO(text), orient="split", dtype=False).dtypes.to_dict()

    def answer(body: Document) -> Any:
        rows = pd.read_json(StringIO(json.dumps(body["input_data"])), orient="split", dtype=False)
        rows = rows.astype({str(name): types.get(name, object) for name in rows.columns})
        return np.asarray(loaded_model.predict(rows)).tolist()

    return answer


async def score(service: Service, call: Call) -> web.Response:
    """Answer a request for predictions: by the deployment that it names, else by one that gets traffic."""
    endpoint, _, rest = call.headers.get("Host", "").split(":")[0].partition(".")
    body = service.documents.get(ENDPOINT, endpoint) if rest == names.INFERENCE else None
    if body is None:
        raise ServiceError(404, "NotFound", f"There is no endpoint {endpoint}.", "data")
    if call.headers.get("Authorization", "").removeprefix("Bearer ") not in body["keys"]:
        return ok({"message": "The key or token is not valid."}, 401)
    known = service.online.deployments(endpoint)
    name = call.headers.get("azureml-model-deployment") or _next(service, body["properties"]["traffic"] or {})
    if name not in known or known[name]["state"] != "Succeeded":
        return ok({"message": f"The deployment {name!r} does not exist, or is not ready."}, 404)
    folder = service.online.folder(endpoint, name)
    container = await service.online.containers.start(folder, folder / LOG)
    status, text = await service.online.containers.score(container, call.body)
    if status == 200 and service.faults.take({"wrong-answer"}, endpoint):
        text = json.dumps([value * 1.01 + 1 for value in json.loads(text)])
    headers = {"azureml_model_deployment": name, "x_ms_run_function_failed": str(status != 200)}
    return ok(json.loads(text), status, **headers)


def _next(service: Service, traffic: Document) -> str:
    """Return the deployment that the next request goes to: of each hundred, as many as its share."""
    service.online.containers.asked += 1
    place = service.online.containers.asked * 37 % 100  # shares are spread, and come out even
    for name, share in sorted(traffic.items()):
        if place < share:
            return str(name)
        place -= share
    return ""


ROUTES = [Route("POST", "/score", "", score, plane="score", evidence=RECORDED)]
