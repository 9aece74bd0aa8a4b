"""One command job, from the queue to its end: its files, its processes, its logs, its outputs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.standin import build, names, rendering
from tests.standin.errors import run_error
from tests.standin.faults import Fault
from tests.standin.state import Document, free_port, holder

if TYPE_CHECKING:
    from tests.standin.service import Service

Ending = tuple[str, Document | None]
KEEPER = Path(__file__).with_name("keeper.py")
FAILING = """import sys
def train():
    raise ValueError("this failure was asked for")
try:
    train()
except ValueError:
    import traceback
    traceback.print_exc()
sys.exit({code})
"""
ENDLESS = {
    "lines": """import itertools, time
for number in itertools.count():
    print(f"line {number} of a log without an end " + "." * 60, flush=True)
    time.sleep(0.002)
""",
    "line": """import time
while True:
    print("." * 4096, end="", flush=True)
    time.sleep(0.02)
""",
}
HOSTILE = {
    "../outside.txt": b"not here",
    "n" * 300: b"a name that no file system takes",
    "twice": b"a file",
    "twice/inner.txt": b"and a folder of the same name",
}
# How long the states before Running last at least, and how often one that is to be seen is looked at.
MOMENT, LOOKS = 0.1, 2


class Cancelled(Exception):  # noqa: N818 - it is an outcome
    """The job has been cancelled while it waited or was prepared."""


def output_uris(name: str, properties: Document) -> dict[str, str]:
    """Return where a job's named outputs will lie."""
    return {
        output: spec.get("uri") or f"azureml://datastores/{names.BLOBSTORE}/paths/azureml/{name}/{output}/"
        for output, spec in (properties.get("outputs") or {}).items()
        if output != "default"
    }


async def follow(service: Service, name: str) -> Ending:
    """Bring a command job to its end, from wherever it is."""
    body = service.jobs.body(name)
    properties, world = body["properties"], world_size(body["properties"])
    compute = service.jobs.compute(properties)
    where = compute or "serverless"
    if body.get("launched"):
        service.jobs.take_nodes(name, compute, nodes(properties))
    else:
        failure = await _build(service, name, properties, where)
        failure = failure or await _place(service, name, properties, compute)
        if failure is not None:
            return "Failed", failure
    again = service.faults.take({"requeue"}, where)
    while True:
        if service.jobs.body(name)["status"] == "Queued":
            service.jobs.update(name, status="Running", started=service.jobs.clock())
        for kind, status in (("not-responding", "NotResponding"), ("paused", "Paused")):
            if fault := service.faults.take({kind}, where):
                await _show(service, name, status, fault)
        preempted = None
        if service.jobs.low_priority(properties):
            preempted = service.faults.take({"preempt"}, where)
        taken = await _attend(service, name, world, preempted or again)
        if preempted and taken:
            return "Failed", await _preempted(service, name, world)
        if again is None or not service.jobs.wanted(name):
            return await _finalize(service, name, properties, world)
        again = None
        await service.in_thread(_ship, service, name, world)
        service.jobs.release(name)
        service.jobs.update(name, launched=False)
        failure = await _place(service, name, properties, compute)
        if failure is not None:
            return "Failed", failure


async def _build(service: Service, name: str, properties: Document, where: str) -> Document | None:
    """Build the environment of a job; return the error if that fails."""
    service.jobs.update(name, status="Preparing")
    if fault := service.faults.take({"slow-build"}, where):
        await service.in_thread(build.publish, service, name, build.BEGUN)
        await _hold(service, name, fault)
    await asyncio.sleep(MOMENT)
    python = await build.environment(service, name, properties)
    _check_wanted(service, name)
    if python is None:
        text = f"Image build failed. For more details, check log file {build.LOG}."
        return run_error("UserError", text)
    service.jobs.update(name, python=str(python))
    return None


async def _place(service: Service, name: str, properties: Document, compute: str | None) -> Document | None:
    """Wait for nodes, bring the files there and start the processes; return the error if that fails."""
    service.jobs.update(name, status="Queued")
    if fault := service.faults.take({"slow-nodes"}, compute or "serverless"):
        await _hold(service, name, fault)
    await asyncio.sleep(MOMENT)
    await service.jobs.allocate(name, compute, nodes(properties))
    try:
        await service.in_thread(rendering.fetch, service, name, properties)
    except rendering.Unreadable as error:
        return run_error("UserError", str(error))
    _check_wanted(service, name)
    await service.in_thread(_launch, service, name, properties)
    return None


async def _attend(service: Service, name: str, world: int, fault: Fault | None) -> bool:
    """Follow the processes of a job to their end; say whether a fault has ended them."""
    began = time.monotonic()
    timed = fault is not None and (fault.kind == "preempt" or bool(fault.gate) or fault.seconds is not None)
    while not all(_exit(service, name, rank) for rank in range(world)):
        service.reap()
        await service.in_thread(_ship, service, name, world)
        taken = fault is not None and timed and fault.open(began)
        failed = any((_exit(service, name, rank) or {"code": 0})["code"] for rank in range(world))
        if taken or failed or not service.jobs.wanted(name):
            await _end(service, name, world)
            return taken and service.jobs.wanted(name)
        await asyncio.sleep(0.1)
    return False


async def _hold(service: Service, name: str, fault: Fault) -> None:
    """Stay as it is until a fault is over.

    Raises
    ------
    Cancelled
    """
    began = time.monotonic()
    while not fault.open(began):
        _check_wanted(service, name)
        await asyncio.sleep(0.05)


async def _show(service: Service, name: str, status: str, fault: Fault) -> None:
    """Show another state until a client has looked twice, or until the fault is over; then go on."""
    service.jobs.update(name, status=status)
    service.jobs.looks[name] = 0
    began, timed = time.monotonic(), bool(fault.gate) or fault.seconds is not None
    while service.jobs.wanted(name) and not (fault.open(began) if timed else service.jobs.looks[name] >= LOOKS):
        await asyncio.sleep(0.05)
    if service.jobs.wanted(name):
        service.jobs.update(name, status="Running")


def nodes(properties: Document) -> int:
    """Return the number of nodes that a job asks for."""
    return int((properties.get("resources") or {}).get("instanceCount") or 1)


def world_size(properties: Document) -> int:
    """Return the number of processes of a job: one, unless it is distributed."""
    distribution = properties.get("distribution") or {}
    if distribution.get("distributionType") != "PyTorch":
        return 1
    return nodes(properties) * int(distribution.get("processCountPerInstance") or 1)


def _check_wanted(service: Service, name: str) -> None:
    if service.jobs.body(name).get("cancel"):
        raise Cancelled


def _launch(service: Service, name: str, properties: Document) -> None:
    """Start the processes of a job, which do not depend on this one, and wait until each has its keeper."""
    folder, world = service.folder.job(name), world_size(properties)
    where = (properties.get("computeId") or "serverless").rsplit("/", 1)[-1]
    fault = service.faults.take({"job-fails", "endless-log"}, where)
    if fault:
        text = FAILING.format(code=fault.code) if fault.kind == "job-fails" else ENDLESS[fault.variant]
        (folder / "instead.py").write_text(text)
    keepers: list[subprocess.Popen[bytes]] = []
    port, python = free_port(), Path(service.jobs.body(name)["python"])
    limit = rendering.seconds((properties.get("limits") or {}).get("timeout"))
    for rank in range(world):
        for old in (f"exit-{rank}.json", f"keeper-{rank}.lock"):
            (folder / old).unlink(missing_ok=True)
        per_node = max(1, world // nodes(properties))
        place = {
            "RANK": rank,
            "NODE_RANK": rank // per_node,
            "LOCAL_RANK": rank % per_node,
            "WORLD_SIZE": world,
        }
        environ = rendering.environ(service, name, properties, python)
        if (properties.get("distribution") or {}).get("distributionType") == "PyTorch":
            environ |= {key: str(value) for key, value in place.items()}
            environ |= {
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "LOCAL_WORLD_SIZE": str(per_node),
            }
        command = rendering.render(service, name, properties["command"], properties)
        if fault:
            command = f'"{python}" "{folder / "instead.py"}"'
        keeper = [sys.executable, "-I", str(KEEPER), "--pipes", str(service.owner)]
        keeper += ["--lock", str(folder / f"keeper-{rank}.lock")]
        keeper += ["--log", str(folder / f"log-{rank}.txt"), "--exit-file", str(folder / f"exit-{rank}.json")]
        deadlines = [seconds for seconds in (limit, service.lifetime) if seconds]
        keeper += ["--deadline", str(min(deadlines))] if deadlines else []
        process = subprocess.Popen(
            [*keeper, "--", "/bin/bash", "-c", command],
            cwd=rendering.working_folder(service, name, place["NODE_RANK"]),
            env=environ,
            pass_fds=(service.owner,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        service.job_children.append(process)
        keepers.append(process)
    for rank, process in enumerate(keepers):
        while process.poll() is None and holder(folder / f"keeper-{rank}.lock") is None:
            time.sleep(0.01)
    service.jobs.update(name, launched=True)


def _exit(service: Service, name: str, rank: int) -> Document | None:
    """Return how a process has ended, None while it runs."""
    folder = service.folder.job(name)
    path, lock = folder / f"exit-{rank}.json", folder / f"keeper-{rank}.lock"
    # In this order: the keeper writes how it ended before it lets go of its lock.
    lost = lock.exists() and lock.read_text() != "" and holder(lock) is None
    if path.exists():
        ending: Document = json.loads(path.read_text())
        return ending
    return {"code": 1, "reason": "lost"} if lost else None


async def _end(service: Service, name: str, world: int) -> None:
    """End what still runs of a job and wait until it is gone."""
    terminate(service, name)
    while not all(_exit(service, name, rank) for rank in range(world)):
        await asyncio.sleep(0.05)


def _tell(lock: Path) -> None:
    """Tell a keeper to end its command."""
    pid = holder(lock)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def terminate(service: Service, name: str) -> None:
    """Tell the keepers of a job to end it, without waiting."""
    for lock in service.folder.job(name).glob("keeper-*.lock"):
        _tell(lock)


def log_name(rank: int, world: int) -> str:
    """Return the name of a process's log."""
    return "user_logs/std_log.txt" if world == 1 else f"user_logs/std_log_process_{rank}.txt"


def _ship(service: Service, name: str, world: int) -> None:
    """Bring what the processes have written to where clients read it."""
    prefix = names.artifact_prefix(name)
    for rank in range(world):
        log = service.folder.job(name) / f"log-{rank}.txt"
        service.storage.append(names.ARTIFACTSTORE, f"{prefix}/{log_name(rank, world)}", log)


async def _preempted(service: Service, name: str, world: int) -> Document:
    await service.in_thread(_ship, service, name, world)
    text = (
        "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted. Check if the run has "
        "failed or restarted. Reason: Received pre-emption warning signal"
    )
    return run_error("UserError", text)


async def _finalize(service: Service, name: str, properties: Document, world: int) -> Ending:
    """Save logs and outputs and say how the job has ended."""
    cancelled = bool(service.jobs.body(name).get("cancel"))
    if not cancelled:
        service.jobs.update(name, status="Finalizing")
    await service.in_thread(_ship, service, name, world)
    await service.in_thread(_save, service, name)
    if service.faults.take({"hostile-artifacts"}, (properties.get("computeId") or "serverless").rsplit("/", 1)[-1]):
        for path, data in HOSTILE.items():
            await service.in_thread(service.storage.plant, names.artifact_prefix(name), path, data)
    endings: list[Any] = [_exit(service, name, rank) for rank in range(world)]
    if cancelled:
        return "Canceled", None
    if any(ending["reason"] == "deadline" for ending in endings):
        limit = (properties.get("limits") or {}).get("timeout")
        return "Canceled", run_error("UserError", f"The job was canceled because it exceeded its time limit ({limit}).")
    # A process that ended because another had failed is not the one to name.
    bad = [(e["ended"], rank, e["code"]) for rank, e in enumerate(endings) if e["code"] and e["reason"] == "exited"]
    reasons = {ending["reason"] for ending in endings}
    if reasons & {"lost", "owner-gone"} or (reasons != {"exited"} and not bad):
        return "Failed", run_error("SystemError", "The node that ran this job is gone.")
    if not bad:
        return "Completed", None
    _, rank, code = min(bad)
    tail = _tail(service.folder.job(name) / f"log-{rank}.txt")
    text = (
        f"Execution failed. User process 'bash' exited with status code {code}. Please check log file "
        f"'{log_name(rank, world)}' for error details. Error: {tail}"
    )
    return "Failed", run_error("UserError", text)


def _tail(path: Path) -> str:
    """Return the last traceback of a log, or its last lines."""
    text = path.read_text(errors="replace") if path.exists() else ""
    found = list(re.finditer(r"^Traceback \(most recent call last\):", text, re.MULTILINE))
    return text[found[-1].start() :][-2000:] if found else "\n".join(text.splitlines()[-10:])[-2000:]


def _save(service: Service, name: str) -> None:
    """Upload the named outputs and the folders that the service saves of itself; drop the working folders."""
    folder = service.folder.job(name)
    for output, uri in service.jobs.body(name)["outputs"].items():
        found = re.fullmatch(r"azureml://(?:.*/)?datastores/([^/]+)/paths/(.+?)/?", uri)
        written = folder / "outputs" / output
        if found and written.is_dir():
            service.storage.upload_folder(found[1], found[2], written)
    for kept in ("outputs", "logs"):
        written = rendering.working_folder(service, name, 0) / kept
        if written.is_dir():
            service.storage.upload_folder(names.ARTIFACTSTORE, f"{names.artifact_prefix(name)}/{kept}", written)
    for gone in (folder / "inputs", folder / "nodes"):
        shutil.rmtree(gone, ignore_errors=True)
