"""The scripts against an Azure Machine Learning workspace, with the real clients: a laptop that logs to the cloud."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests import standin_http as http
from tests.conftest import ROOT, Done
from tests.standin import Fault, StandIn
from tests.submitting import Warm

Script = Callable[..., Done]


@pytest.fixture
def script(remote: Warm, standin: StandIn) -> Script:
    """Return the scripts as functions, with the workspace as tracking server."""

    def call(name: str, **parameters: object) -> Done:
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in parameters.items()]
        environ = {"MLFLOW_TRACKING_URI": standin.tracking_uri}
        done = remote.start([str(ROOT / f"{name}.py"), *flags], ROOT, environ).wait()
        return Done(done.returncode, done.stdout, done.stderr)

    return call


def versions(standin: StandIn, model: str) -> list[dict[str, Any]]:
    query = {"filter": f"name='{model}'"}
    answer = http.call(standin, "GET", f"{http.MLFLOW}/model-versions/search", params=query).json()
    found: list[dict[str, Any]] = answer.get("model_versions", [])
    return sorted(found, key=lambda one: int(one["version"]))


def run_of(done: Done) -> str:
    """Read a run's id from what train.py printed."""
    found = re.search(r"^run +(\S+)$", done.out, re.MULTILINE)
    assert found, done
    return found[1]


def status(standin: StandIn, run: str) -> str:
    return str(http.run(standin, run)["info"]["status"])


def test_train_champion_and_verify_in_a_workspace(script: Script, standin: StandIn) -> None:
    first = script("train", data="data/diabetes_350.csv", model_name="story", cv=0)
    assert (first.code, "version 1 is the first champion" in first.out) == (0, True), first.err
    second = script("train", model_name="story", cv=0)
    assert second.code == 0, second.err
    assert "a tie: version 1 stays" in second.out, second.out
    verified = script("verify", model="models:/story@champion")
    assert (verified.code, "75 recorded rows" in verified.out) == (0, True), verified.err
    named = script("champion", model_name="story")
    assert (named.code, "models:/story/1" in named.out) == (0, True), named.err
    missing = script("verify", model="models:/story/7")
    assert (missing.code, "models:/story/7" in missing.err) == (2, True), missing.err
    found = versions(standin, "story")
    assert [one["run_id"] for one in found] == [run_of(first), run_of(second)]
    assert {status(standin, one["run_id"]) for one in found} == {"FINISHED"}
    assert not standin.refused_hosts


REFUSALS = {
    "the run": ("runs/create", "could not open a run"),
    "the artifacts": ("batch/metadata", "could not store the artifacts"),
    "the version": ("model-versions/create", "could not register a version"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_not_permitted_is_told_and_nothing_is_registered(what: str, script: Script, standin: StandIn) -> None:
    name = f"refused-{what.split()[-1]}"
    route, told = REFUSALS[what]
    standin.inject(Fault("forbidden", route=route, times=0))
    done = script("train", model_name=name, cv=0)
    standin.clear_faults()
    assert done.code == 2, done.err
    lines = [line for line in done.err.splitlines() if line.startswith(("error: ", "  fix: "))]
    assert len(lines) == 2
    assert told in lines[0]
    assert "workspace standin-workspace" in lines[0]
    assert "Traceback" not in done.err
    assert versions(standin, name) == []
    query = {"experiment_ids": ["0"], "filter": f"params.model_name = '{name}'"}
    found = http.call(standin, "POST", f"{http.MLFLOW}/runs/search", json=query).json().get("runs", [])
    assert [run["info"]["status"] for run in found] == ([] if what == "the run" else ["FAILED"])
