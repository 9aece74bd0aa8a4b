"""The stand-in as a test or a command line holds it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.standin import identity, names, rendering
from tests.standin.faults import Fault
from tests.standin.state import Folder, holder

ROOT = Path(__file__).parents[2]
# Its processes hold locks and stop each other as POSIX has it; Windows has not.
POSSIBLE = find_spec("fcntl") is not None
PATIENCE = 3600.0  # it is noticed at once if it ends; a loaded machine may need long
# What would lead a client elsewhere, or give it another identity.
_FOREIGN = ("AZURE", "MLFLOW_", "ARM_", "IDENTITY_", "MSI_", "REQUESTS_CA", "CURL_CA", "SSL_CERT")
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Request:
    """A request that has reached the stand-in.

    Attributes
    ----------
    time : float
        Seconds since the epoch.
    plane : str
        `control`, `data`, `mlflow`, `blob`, `open`, `unknown`, or `refused` for a host that is not one of
        the stand-in's.
    method, path : str
        As sent, without the query. For `refused` the path is the host.
    api_version : str
    status : int
        As answered; -1 if the connection was broken.
    operation : str
        `comp` of a request for a blob.
    fault : str
        The fault that it met.
    note : str
        What was wrong with it: an unknown route, an api-version that no known client sends.
    """

    time: float
    plane: str
    method: str
    path: str
    api_version: str
    status: int
    operation: str = ""
    fault: str = ""
    note: str = ""


class StandIn:
    """A workspace of Azure Machine Learning on this machine.

    Parameters
    ----------
    state : path, optional
        The folder that it remembers in. Without one it uses a temporary folder and forgets.
    build_env : bool
        Whether jobs run in a virtual environment made from their conda file. By default they run in this one.
    aliases : bool
        Whether the model registry has aliases.
    lifetime : float
        Seconds after which it ends by itself, whatever its owner does. 0 means never.

    Examples
    --------
    >>> with StandIn() as workspace:  # doctest: +SKIP
    ...     workspace.inject(Fault("429", route="PUT */jobs/*"))
    ...     workspace.run([sys.executable, "client.py"])
    """

    def __init__(
        self,
        state: str | os.PathLike[str] | None = None,
        *,
        build_env: bool = False,
        aliases: bool = True,
        lifetime: float = 4 * 3600.0,
    ) -> None:
        self._temporary = tempfile.mkdtemp(prefix="standin-") if state is None else None
        self.folder = Folder(Path(state or str(self._temporary)).resolve())
        self.options = (["--build-env"] if build_env else []) + ([] if aliases else ["--no-aliases"])
        self._ends_at = time.time() + lifetime if lifetime else None
        self._process: subprocess.Popen[bytes] | None = None
        # The kernel closes the other end when this process ends, however it ends.
        self._owner, self._held = os.pipe()

    def start(self) -> Self:
        """Start, and wait until the workspace can be reached. A second call does nothing.

        Raises
        ------
        RuntimeError
            If it does not come up; the end of its log is in the message.
        """
        if self._process is not None:
            return self
        log = self.folder.root / "service.log"
        command = self._command()
        self.folder.ready.unlink(missing_ok=True)
        environ = {key: value for key, value in os.environ.items() if key.upper() not in _PROXIES}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(self._owner,),
                start_new_session=True,
            )
        until = time.monotonic() + PATIENCE
        while not self.folder.ready.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                said = self._said()  # before close(), which removes a temporary folder
                self.close()
                raise RuntimeError(f"the stand-in does not start:\n{said}")
            time.sleep(0.02)
        return self

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "tests.standin.service", "--state", str(self.folder.root)]
        command += ["--owner", str(self._owner), *self.options]
        if self._ends_at is not None:
            command += ["--lifetime", str(max(1.0, self._ends_at - time.time()))]
        return command

    def _said(self) -> str:
        """Return the ends of the logs of the service and its servers."""
        logs = [self.folder.root / f"{name}.log" for name in ("service", "azurite", "mlflow")]
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-4000:]}" for log in logs if log.exists())

    @classmethod
    def attach(cls, state: str | os.PathLike[str]) -> Self:
        """Return the stand-in that another process serves in a folder; it is not ended with this object."""
        workspace = cls.__new__(cls)
        workspace.folder = Folder(Path(state).resolve())
        return workspace

    def stop(self) -> None:
        """Stop serving, as if the region had gone dark: jobs go on; `start` serves at the same address."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End everything, jobs too, and wait until it is gone."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._owner >= 0:
            self._wait_for_jobs()
            os.close(self._owner)
            self._owner = -1
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _wait_for_jobs(self) -> None:
        """Wait for the keepers of jobs; each has seen its owner go."""
        until = time.monotonic() + 15
        for lock in self.folder.root.glob("jobs/*/keeper-*.lock"):
            while holder(lock) is not None and time.monotonic() < until:
                time.sleep(0.05)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _serving(self) -> dict[str, int]:
        ports: dict[str, int] = json.loads(self.folder.ready.read_text())
        return ports

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that lead any client here, and nowhere else."""
        ports = self.folder.ports()
        return {
            **rendering.client_environ(ports["proxy"], self.folder.ca),
            "AZURE_SUBSCRIPTION_ID": names.SUBSCRIPTION,
            "AZURE_RESOURCE_GROUP": names.RESOURCE_GROUP,
            "AZUREML_WORKSPACE_NAME": names.WORKSPACE,
            "IDENTITY_ENDPOINT": f"http://127.0.0.1:{ports['plain']}/msi/token",
            "IDENTITY_HEADER": identity.header(self.folder),
            "AZUREML_RUN_POLLING_INTERVAL_MIN": "1",
            "AZUREML_RUN_POLLING_INTERVAL_MAX": "1",
        }

    def process_environ(self) -> dict[str, str]:
        """Return the environment of this process without Azure, MLflow and proxies, plus `environ`."""
        own = {
            key: value
            for key, value in os.environ.items()
            if not key.upper().startswith(_FOREIGN) and key.upper() not in _PROXIES
        }
        return own | self.environ

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as a client of this workspace.

        Parameters
        ----------
        command : sequence of str
        **options
            As for `subprocess.run`; output is captured as text unless they say otherwise.
        """
        settings: dict[str, Any] = {"env": self.process_environ(), "capture_output": True, "text": True}
        done: subprocess.CompletedProcess[str] = subprocess.run(command, check=False, **(settings | options))
        return done

    @property
    def tracking_uri(self) -> str:
        """The address of the workspace's MLflow tracking and registry."""
        return names.TRACKING_URI

    @property
    def requests(self) -> list[Request]:
        """Every request so far, oldest first."""
        if not self.folder.requests.exists():
            return []
        known = {field.name for field in fields(Request)}
        complete, _, _ = self.folder.requests.read_text().rpartition("\n")  # the last line may be half written
        rows = [json.loads(line) for line in complete.splitlines()]
        return [Request(**{key: value for key, value in row.items() if key in known}) for row in rows]

    @property
    def refused_hosts(self) -> list[str]:
        """The hosts, other than the stand-in's, that somebody wanted to reach through the proxy."""
        return [request.path for request in self.requests if request.plane == "refused"]

    @property
    def unknown_routes(self) -> list[str]:
        """What clients have asked for that the table of routes does not have, and what has failed here."""
        return [f"{request.method} {request.path} ({request.note})" for request in self.requests if request.note]

    def inject(self, fault: Fault) -> None:
        """Put a fault in force."""
        self._faults("POST", json.dumps(fault.document()).encode())

    def clear_faults(self) -> None:
        """Drop every fault; jobs that a fault kept waiting go on."""
        self._faults("DELETE")

    @property
    def faults(self) -> list[Fault]:
        """The faults in force."""
        return [Fault(**fault) for fault in self._faults("GET")["faults"]]

    def quota(self, *, regional: int | None = None, low_priority: int | None = None, **families: int) -> None:
        """Change the quota until the faults are cleared: `quota(regional=10, standardDDSv4Family=8)`."""
        given = {"regional": regional, "low_priority": low_priority, **families}
        limits = {name: limit for name, limit in given.items() if limit is not None}
        self._control("POST", "quota", json.dumps(limits).encode())

    def plant(self, job: str, path: str, data: bytes = b"x") -> None:
        """Put an artifact of any name into a job, also one that must not be written as it is called."""
        from tests.standin.storage import Storage

        store = Storage(self.folder.ports()["azurite"], self.folder.secret("account"))
        store.plant(names.artifact_prefix(job), path, data)

    def _faults(self, method: str, body: bytes | None = None) -> Any:
        return self._control(method, "faults", body)

    def _control(self, method: str, what: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._serving['plain']}/standin/{what}",
            data=body,
            method=method,
            headers={"X-IDENTITY-HEADER": identity.header(self.folder)},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=30) as response:
            return json.load(response)
