"""The way to evidence: the flow against a real workspace, and that what it notes is right."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests import standin_http as http
from tests.standin import StandIn, names, real, routes

ROOT = Path(__file__).parents[1]
CLIENT = ROOT / "tests" / "clients" / "flow.py"
ASK = """
import sys, requests
for url in sys.argv[2:]:
    requests.get(url, headers={"Authorization": f"Bearer {sys.argv[1]}"}, timeout=60)
"""


@pytest.mark.skipif(os.environ.get("STANDIN_REAL") != "1", reason="STANDIN_REAL=1 is not set")
@pytest.mark.timeout(3 * 3600)  # an image of ten minutes, and six jobs that wait for nodes
def test_the_flow_against_a_real_workspace(tmp_path: Path) -> None:
    named = real.workspace(ROOT)
    assert named is not None
    done = real.run(CLIENT, named, tmp_path / "seen.jsonl")
    real.keep(real.answers(real.read(tmp_path / "seen.jsonl"), routes.ALL))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    steps = {row["step"]: row for row in map(json.loads, done.stdout.splitlines()) if "step" in row}
    assert steps["ended"]["status"] == "Completed"
    assert steps["run"]["id"] == steps["sent"]["name"]
    assert steps["run"]["metrics"]["rows"] == 3.0
    assert steps["version"]["run"] == steps["sent"]["name"]
    assert steps["cancelled"]["status"] == "Canceled"


def test_what_a_client_asks_is_noted_by_route_and_without_secrets(standin: StandIn, tmp_path: Path) -> None:
    urls = [
        f"{http.MANAGEMENT}{names.SCOPE}/jobs/nobodys?api-version={http.VERSIONS['jobs']}",
        f"{http.MANAGEMENT}{names.SCOPE}/computes?api-version={http.VERSIONS['computes']}&secret=x",
    ]
    seen, kept = tmp_path / "seen.jsonl", tmp_path / "verified.json"
    environ = standin.process_environ() | real.recording(seen)
    done = standin.run([sys.executable, "-c", ASK, http.token(standin), *urls], env=environ)
    assert done.returncode == 0, done.stderr
    assert "secret" not in seen.read_text()
    assert "eyJ" not in seen.read_text()
    found = real.answers(real.read(seen), routes.ALL)
    assert found == {"GET {S}/computes": [200], "GET {S}/jobs/{name}": [404]}
    real.keep(found, kept)
    route = next(route for route in routes.ALL if route.template == "{S}/jobs/{name}" and route.methods == "GET")
    assert real.verified(route, kept).endswith("(404)")
    assert real.verified(route, tmp_path / "none.json") == ""


def test_the_real_workspace_is_asked_for_by_name(tmp_path: Path) -> None:
    assert real.workspace(tmp_path, {}) is None
    asked = {"STANDIN_REAL": "1"}
    named = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
    (tmp_path / "config.json").write_text(json.dumps(named))
    assert real.workspace(tmp_path / "inner", asked) == {
        "AZURE_SUBSCRIPTION_ID": "s",
        "AZURE_RESOURCE_GROUP": "g",
        "AZUREML_WORKSPACE_NAME": "w",
    }
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RuntimeError, match="names a workspace"):
        real.workspace(tmp_path, asked)
