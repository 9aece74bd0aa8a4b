"""The process that serves: doors, Azurite, the MLflow server, jobs. Its owner holds the end of a pipe."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tests.standin import azurite, blobs, identity, names, routes, wire
from tests.standin.endpoints import Online
from tests.standin.faults import Fault, Faults
from tests.standin.identity import Tokens
from tests.standin.jobs import Jobs
from tests.standin.proxy import Proxy
from tests.standin.state import Documents, Folder, free_port, listen
from tests.standin.storage import Storage
from tests.standin.tracking import Tracking

KEEPER = Path(__file__).with_name("keeper.py")
# A loaded machine may need long, and a server that has ended is noticed at once.
PATIENCE = 1800.0


@dataclass
class Operations:
    """Asynchronous operations on clusters, by number: which cluster, and how often somebody has looked."""

    _clusters: dict[str, str] = field(default_factory=dict)
    _looks: Counter[str] = field(default_factory=Counter)

    def begin(self, cluster: str) -> str:
        """Begin an operation and return its number."""
        number = str(uuid.uuid4())
        self._clusters[number] = cluster
        return number

    def look(self, number: str) -> tuple[int, str]:
        """Return how often an operation has been looked at, this time included, and its cluster."""
        self._looks[number] += 1
        return self._looks[number], self._clusters.get(number, "")


@dataclass
class Service:
    """Everything that the rooms share.

    Parameters
    ----------
    folder : Folder
    owner, alive : int
        Ends of pipes: the first closes with the process that started the stand-in, the second with this one.
    build_env, aliases, lifetime
        As in `tests.standin.StandIn`.
    """

    folder: Folder
    documents: Documents
    storage: Storage
    tracking: Tracking
    tokens: Tokens
    faults: Faults
    owner: int
    alive: int
    proxy_port: int
    build_env: bool
    lifetime: float
    leaving: bool = False
    operations: Operations = field(default_factory=Operations)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    job_children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    router: wire.Router = field(default_factory=lambda: wire.Router(routes.ALL))

    def __post_init__(self) -> None:
        self.jobs = Jobs(self)
        self.online = Online(self)
        self.blob_session: aiohttp.ClientSession
        self._requests = self.folder.requests.open("a", buffering=1)

    def record(self, request: dict[str, Any]) -> None:
        """Keep a request; no query and no header, so no signature and no token."""
        self._requests.write(json.dumps(request) + "\n")

    def note_unknown(self, what: str) -> None:
        """Keep the note of something that a client asked for and that nobody here knows."""
        self.record(
            {
                "time": time.time(),
                "plane": "mlflow",
                "method": "",
                "path": what,
                "api_version": "",
                "status": 404,
            }
            | {"note": "unknown route"}
        )

    def reap(self) -> None:
        """Collect the keepers of jobs that have ended."""
        for child in [child for child in self.job_children if child.poll() is not None]:
            self.job_children.remove(child)

    def log(self, text: str) -> None:
        """Write to the service's own log."""
        print(text, file=sys.stderr, flush=True)

    @staticmethod
    async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        """Run something that blocks."""
        return await asyncio.to_thread(function, *arguments)

    def start(self, name: str, command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a server of ours under a keeper; it ends with this process, and with the owner."""
        pipes = (self.owner, self.alive)
        keeper = [sys.executable, "-I", str(KEEPER), "--pipes", ",".join(map(str, pipes))]
        keeper += ["--log", str(self.folder.root / f"{name}.log")]
        process = subprocess.Popen(
            [*keeper, "--", *command],
            env=environ,
            cwd=self.folder.root,
            pass_fds=pipes,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.children.append(process)
        return process


async def answer(request: web.Request) -> web.StreamResponse:
    """Answer a request of whatever host."""
    service: Service = request.app[SERVICE]
    host = request.host.split(":")[0].lower()
    if host == names.BLOB:
        return await blobs.answer(service, request)
    return await wire.answer(service, request)


SERVICE: web.AppKey[Service] = web.AppKey("service")


async def give_token(request: web.Request) -> web.Response:
    """Give a token, as the managed identity of a machine is given one."""
    service: Service = request.app[SERVICE]
    if request.headers.get("X-IDENTITY-HEADER") != identity.header(service.folder):
        return web.json_response({"error": "unauthorized_client"}, status=401)
    if service.faults.take({"no-identity"}, "identity"):
        return web.json_response({"error": "invalid_request", "error_description": "Identity not found"}, status=400)
    short = service.faults.take({"short-token"}, "identity")
    resource = request.query.get("resource", "")
    token, expires = service.tokens.issue(resource, (short.seconds or 0.0) if short else identity.LIFE)
    return web.json_response(
        {"access_token": token, "expires_on": str(expires), "resource": resource, "token_type": "Bearer"}
    )


async def change_faults(request: web.Request) -> web.Response:
    """Put a fault in force (POST), drop all (DELETE), or list them (GET)."""
    service: Service = request.app[SERVICE]
    if request.headers.get("X-IDENTITY-HEADER") != identity.header(service.folder):
        return web.json_response({"error": "unauthorized_client"}, status=401)
    if request.method == "DELETE":
        service.faults.clear()
    if request.method == "POST":
        body = await request.text()
        try:
            fault = Fault(**json.loads(body)) if body.startswith("{") else Fault.parse(body.strip())
        except (ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        service.faults.inject(fault)
    return web.json_response({"faults": service.faults.list()})


async def change_quota(request: web.Request) -> web.Response:
    """Change limits of the quota, until the faults are dropped."""
    service: Service = request.app[SERVICE]
    if request.headers.get("X-IDENTITY-HEADER") != identity.header(service.folder):
        return web.json_response({"error": "unauthorized_client"}, status=401)
    service.faults.quota.update(await request.json())
    return web.json_response(service.faults.quota)


async def reachable(url: str, process: subprocess.Popen[bytes], log: Path, patience: float = PATIENCE) -> None:
    """Wait until a server answers.

    Raises
    ------
    RuntimeError
        If it ends before, or takes too long; the end of its log is in the message.
    """
    until = time.monotonic() + patience
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as response:
                    await response.read()
                    return
            except aiohttp.ClientError:
                if process.poll() is not None or time.monotonic() > until:
                    text = log.read_text(errors="replace")[-2000:] if log.exists() else ""
                    raise RuntimeError(f"{url} does not answer; {log.name} says:\n{text}") from None
                await asyncio.sleep(0.05)


async def start_servers(service: Service) -> None:
    """Start Azurite and the MLflow server and wait for both."""
    root = service.folder.root
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AZURE", "_MLFLOW"))}
    store = [*azurite.node(), str(azurite.install()), "--blobHost", "127.0.0.1"]
    store += ["--blobPort", str(service.storage.port), "--location", str(root / "azurite")]
    store += ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    accounts = {"AZURITE_ACCOUNTS": f"{names.ACCOUNT}:{service.storage.account_key}"}
    blob_process = service.start("azurite", store, environ | accounts)
    server = [sys.executable, str(KEEPER.with_name("mlflow_server.py")), "--port", str(service.tracking.port)]
    server += ["--store", str(root / "mlflow.db"), "--template", str(azurite.cache())]
    server += ["--artifacts", f"{names.TRACKING_URI}/experiments"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true"}
    mlflow_process = service.start("mlflow", server, environ | quiet)
    await asyncio.gather(
        reachable(f"http://127.0.0.1:{service.storage.port}/", blob_process, root / "azurite.log"),
        reachable(f"http://127.0.0.1:{service.tracking.port}/health", mlflow_process, root / "mlflow.log"),
    )
    await service.in_thread(service.storage.prepare)


async def serve(options: argparse.Namespace) -> None:
    """Serve until told to stop, until the owner is gone, or until the time is up."""
    stop, gone = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def owner_gone() -> None:
        loop.remove_reader(options.owner)
        gone.set()

    loop.add_reader(options.owner, owner_gone)

    folder = Folder(Path(options.state).resolve())
    folder.ready.unlink(missing_ok=True)
    old = folder.ports()
    sockets = {name: listen(old.get(name, 0)) for name in ("proxy", "https", "plain")}
    ports = {name: int(sock.getsockname()[1]) for name, sock in sockets.items()}
    ports |= {name: free_port(old.get(name, 0)) for name in ("azurite", "mlflow")}
    folder.keep_ports(ports)
    documents = Documents(folder.root / "state.db")
    alive, held = os.pipe()
    faults = Faults()
    service = Service(
        folder,
        documents,
        Storage(ports["azurite"], folder.secret("account")),
        Tracking(ports["mlflow"], documents, options.aliases, faults),
        Tokens(folder.secret("token")),
        faults,
        options.owner,
        alive,
        ports["proxy"],
        options.build_env,
        options.lifetime,
    )
    await start_servers(service)
    await service.tracking.open()
    service.blob_session = aiohttp.ClientSession(
        auto_decompress=False,
        connector=aiohttp.TCPConnector(force_close=True),
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
    )
    runners = [
        await _site(service, answer, sockets["https"], tls=True),
        await _plain(service, sockets["plain"]),
    ]
    proxy = Proxy(ports["https"], service.record)
    door = await asyncio.start_server(proxy.serve, sock=sockets["proxy"], limit=1 << 16)
    service.jobs.resume()
    folder.serving({**ports, "pid": os.getpid()})

    waits = [asyncio.create_task(event.wait()) for event in (stop, gone)]
    await asyncio.wait(waits, timeout=options.lifetime or None, return_when=asyncio.FIRST_COMPLETED)
    service.leaving = True
    folder.ready.unlink(missing_ok=True)
    door.close()
    proxy.abort()
    await service.jobs.leave()
    await service.online.leave()
    for runner in runners:
        await runner.cleanup()
    ending = list(service.children)
    if not stop.is_set():
        # The owner is gone, and the keepers of the jobs have seen it too; or the time is up.
        service.jobs.end_processes()
        ending += service.job_children
    await service.tracking.close()
    await service.blob_session.close()
    os.close(held)
    await asyncio.gather(*(asyncio.to_thread(_wait, child) for child in ending))
    documents.close()


def _wait(child: subprocess.Popen[bytes]) -> None:
    """Wait for a keeper, which is told by now; a deaf one is killed."""
    try:
        child.wait(15)
    except subprocess.TimeoutExpired:
        child.kill()


async def _site(service: Service, handler: Any, sock: Any, tls: bool) -> web.AppRunner:
    app = web.Application(client_max_size=1 << 30)
    app[SERVICE] = service
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    context = identity.server_context(service.folder) if tls else None
    await web.SockSite(runner, sock, ssl_context=context).start()
    return runner


async def _plain(service: Service, sock: Any) -> web.AppRunner:
    """Serve what needs no TLS: the identity endpoint, and the control of faults."""
    app = web.Application()
    app[SERVICE] = service
    app.router.add_get("/msi/token", give_token)
    for method in ("GET", "POST", "DELETE"):
        app.router.add_route(method, "/standin/faults", change_faults)
    app.router.add_post("/standin/quota", change_quota)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    return runner


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="tests.standin.service")
    parser.add_argument("--state", required=True)
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--lifetime", type=float, default=0.0)
    parser.add_argument("--build-env", action="store_true")
    parser.add_argument("--no-aliases", dest="aliases", action="store_false")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
