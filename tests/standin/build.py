"""The environment of a job: the interpreter that is here, or a virtual one made from its conda file."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.standin import names, rendering
from tests.standin.state import Document

if TYPE_CHECKING:
    from tests.standin.service import Service

LOG = "azureml-logs/20_image_build_log.txt"
KEEPER = Path(__file__).with_name("keeper.py")
BEGUN = b"Step 1/12 : FROM the image\nStep 7/12 : RUN ldconfig && conda env create -p /azureml-envs/azureml_standin\n"
FAILED = """Step 7/12 : RUN ldconfig && conda env create -p /azureml-envs/azureml_standin
Collecting nonexistent-package==0.0.0
ERROR: Could not find a version that satisfies the requirement nonexistent-package==0.0.0
ERROR: No matching distribution found for nonexistent-package==0.0.0

CondaEnvException: Pip failed
The command '/bin/sh -c ldconfig' returned a non-zero code: 1
failed to run step ID: acb_step_0: exit status 1
"""
_building: dict[str, asyncio.Lock] = {}


async def environment(service: Service, name: str, properties: Document) -> Path | None:
    """Return the python of a job's environment, or None if it cannot be built; the log says why."""
    compute = (properties.get("computeId") or "serverless").rsplit("/", 1)[-1]
    if service.faults.take({"build-fails"}, compute):
        await service.in_thread(publish, service, name, FAILED.encode())
        return None
    if not service.build_env:
        return rendering.interpreter()
    conda = _conda(service, properties)
    if conda is None:
        return rendering.interpreter()
    key = hashlib.sha256(json.dumps(conda, sort_keys=True).encode()).hexdigest()[:16]
    folder = service.folder.root / "environments" / key
    python, log = folder / "bin" / "python", folder.with_suffix(".log")
    async with _building.setdefault(str(folder), asyncio.Lock()):
        built = folder.with_suffix(".built")
        if not built.exists():
            shutil.rmtree(folder, ignore_errors=True)
            log.write_bytes(b"")
            done = await _build(service, conda, folder, log)
            await service.in_thread(publish, service, name, log.read_bytes())
            if not done:
                return None
            built.touch()
    return python


def publish(service: Service, name: str, text: bytes) -> None:
    """Show the log of a build."""
    service.storage.upload(names.ARTIFACTSTORE, f"{names.artifact_prefix(name)}/{LOG}", text or b"\n")


def _conda(service: Service, properties: Document) -> dict[str, Any] | None:
    found = re.search(r"/environments/([^/]+)/versions/([^/]+)$", properties.get("environmentId") or "")
    body = service.documents.get("environments", found[1], found[2]) if found else None
    text = body and body["properties"].get("condaFile")
    return json.loads(text) if text else None


async def _build(service: Service, conda: dict[str, Any], folder: Path, log: Path) -> bool:
    """Make the virtual environment; everything that is said goes to `log`."""
    try:
        version, requirements = read(conda)
    except ValueError as error:
        log.write_text(f"{error}\n")
        return False
    uv = shutil.which("uv")
    if uv is None:
        log.write_text("uv is not on PATH; the stand-in builds environments with it.\n")
        return False
    wanted = folder.with_suffix(".txt")
    wanted.write_text("\n".join(requirements) + "\n")
    steps = [
        [uv, "venv", "--no-project", "--python", version, str(folder)],
        [uv, "pip", "install", "--python", str(folder / "bin" / "python"), "--requirement", str(wanted)],
    ]
    for step in steps:
        with log.open("a") as file:
            file.write(f"$ {' '.join(step)}\n")
        if await _run(service, step, log):
            return False
    return True


async def _run(service: Service, command: list[str], log: Path) -> int:
    keeper = [
        sys.executable,
        "-I",
        str(KEEPER),
        "--pipes",
        f"{service.owner},{service.alive}",
        "--log",
        str(log),
    ]
    process = await asyncio.create_subprocess_exec(
        *keeper, "--", *command, env=dict(os.environ), pass_fds=(service.owner, service.alive)
    )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise


def read(conda: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the python version and the pip requirements of a conda file.

    Raises
    ------
    ValueError
        If it asks for what only conda can install.
    """
    version, requirements = "", []
    for item in conda.get("dependencies") or []:
        if isinstance(item, dict):
            requirements += [str(line) for line in item.get("pip") or []]
            continue
        package, _, wanted = re.sub(r"\s", "", str(item)).partition("=")
        if package == "python":
            version = wanted.lstrip("=")
        elif package not in ("pip", "setuptools", "wheel"):
            raise ValueError(f"PackagesNotFoundError: {item}: the stand-in takes python and the pip section")
    if not version:
        raise ValueError("The conda file names no python version.")
    return version.removesuffix(".*"), requirements
