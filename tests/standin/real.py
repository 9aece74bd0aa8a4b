"""The clients of these tests against a real workspace: `STANDIN_REAL=1`, a config.json, and somebody signed in.

What was answered there becomes evidence of the table of routes in README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.standin.wire import Route, Router

VERIFIED = Path(__file__).with_name("verified.json")
RECORDER = Path(__file__).parents[1] / "clients" / "recorder"
_VARIABLES = {
    "subscription_id": "AZURE_SUBSCRIPTION_ID",
    "resource_group": "AZURE_RESOURCE_GROUP",
    "workspace_name": "AZUREML_WORKSPACE_NAME",
}


@dataclass(frozen=True)
class Seen:
    """What a client asked, and the status of the answer."""

    method: str
    path: str
    api_version: str
    status: int


def workspace(start: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str] | None:
    """Return the variables of the real workspace, None unless `STANDIN_REAL=1` asks for one.

    Raises
    ------
    RuntimeError
        If it is asked for, and no config.json names it.
    """
    if environ.get("STANDIN_REAL") != "1":
        return None
    for folder in (start, *start.parents):
        for path in (folder / ".azureml" / "config.json", folder / "config.json"):
            if path.is_file():
                named = json.loads(path.read_text(encoding="utf-8-sig"))
                if all(named.get(key) for key in _VARIABLES):
                    return {variable: str(named[key]) for key, variable in _VARIABLES.items()}
    raise RuntimeError(f"STANDIN_REAL=1, and no config.json in {start} or above names a workspace")


def recording(file: Path) -> dict[str, str]:
    """Return the variables with which a Python process notes its requests in a file."""
    path = os.pathsep.join(filter(None, (str(RECORDER), os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path, "STANDIN_RECORD": str(file)}


def run(script: Path, named: Mapping[str, str], file: Path, arguments: Sequence[str] = ()) -> Any:
    """Run a client against the workspace, signed in as whoever runs this, and note its requests."""
    environ = {**os.environ, **named, **recording(file)}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def read(file: Path) -> list[Seen]:
    """Return what was noted."""
    return [Seen(**json.loads(line)) for line in file.read_text().splitlines()]


def answers(seen: Iterable[Seen], routes: list[Route]) -> dict[str, list[int]]:
    """Return the statuses that each route was answered with, by `METHOD template`."""
    router, found = Router(routes), dict[str, set[int]]()
    for one in seen:
        match = router.match(one.method, one.path)
        if match is not None:
            found.setdefault(f"{one.method} {match[0].template}", set()).add(one.status)
    return {name: sorted(statuses) for name, statuses in sorted(found.items())}


def keep(found: dict[str, list[int]], path: Path = VERIFIED) -> None:
    """Add what was answered today to the evidence."""
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    today = datetime.now(UTC).date().isoformat()
    known |= {name: f"recorded {today} ({', '.join(map(str, statuses))})" for name, statuses in found.items()}
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def verified(route: Route, path: Path = VERIFIED) -> str:
    """Return what a real workspace has answered on a route, empty where nobody has asked one."""
    if not path.exists():
        return ""
    known: dict[str, str] = json.loads(path.read_text())
    names = [f"{method} {route.template}" for method in route.methods.split()]
    return "; ".join(dict.fromkeys(known[name] for name in names if name in known))
