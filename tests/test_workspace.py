"""The scripts against an Azure Machine Learning workspace, with the real clients: a laptop that logs to the cloud."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import ROOT, Done
from tests.standin import Fault, StandIn

Script = Callable[..., Done]


def script(workspace: StandIn) -> Script:
    """Give the scripts as functions that run in a process of their own, with the workspace as tracking server."""
    environ = workspace.process_environ() | {"MLFLOW_TRACKING_URI": workspace.tracking_uri}

    def call(name: str, **parameters: object) -> Done:
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in parameters.items()]
        done = workspace.run([sys.executable, f"{name}.py", *flags], cwd=ROOT, env=environ, timeout=240)
        return Done(done.returncode, done.stdout, done.stderr)

    return call


def ask(workspace: StandIn, question: str) -> Any:
    """Evaluate an expression about the workspace's MLflow, with `client`, in a process of its own."""
    program = f"import json, mlflow; client = mlflow.MlflowClient(); print(json.dumps({question}))"
    environ = workspace.process_environ() | {"MLFLOW_TRACKING_URI": workspace.tracking_uri}
    done = workspace.run([sys.executable, "-c", program], cwd=ROOT, env=environ, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def tell_the_story(workspace: StandIn) -> None:
    run = script(workspace)
    first = run("train", data="data/diabetes_350.csv", model_name="story", cv=0)
    assert (first.code, "version 1 is the first champion" in first.out) == (0, True), first.err
    second = run("train", model_name="story", cv=0)
    assert (second.code, "a tie: version 1 stays" in second.out) == (0, True), second.err
    verified = run("verify", model="models:/story@champion")
    assert (verified.code, "the same predictions for 75 recorded rows" in verified.out) == (0, True), verified.err
    named = run("champion", model_name="story")
    assert (named.code, "models:/story/1" in named.out) == (0, True), named.err
    missing = run("verify", model="models:/story/7")
    assert (missing.code, "could not fetch models:/story/7" in missing.err) == (2, True), missing.err
    lineage = ask(workspace, "[[v.run_id, client.get_run(v.run_id).info.status] for v in "
                             "client.search_model_versions(\"name='story'\")]")  # fmt: skip
    assert sorted(status for _, status in lineage) == ["FINISHED", "FINISHED"]
    assert {run_id for run_id, _ in lineage} == {
        next(line.split()[1] for line in done.out.splitlines() if line.startswith("run ")) for done in (first, second)
    }


def test_train_champion_and_verify_in_a_workspace(standin: StandIn) -> None:
    tell_the_story(standin)
    aliases = ask(standin, "client.get_registered_model('story').aliases")
    assert {name: str(version) for name, version in aliases.items()} == {"champion": "1"}
    assert not standin.refused_hosts


def test_the_same_where_the_registry_has_no_aliases() -> None:
    with StandIn(aliases=False) as workspace:
        tell_the_story(workspace)
        tags = ask(
            workspace, "{v.version: v.tags.get('champion') for v in client.search_model_versions(\"name='story'\")}"
        )
        assert tags == {"1": "true", "2": None}
        assert not workspace.unknown_routes


@dataclass(frozen=True)
class Refusal:
    """What is refused, and what the user is told."""

    fault: Fault
    told: str


REFUSALS = {
    "the run": Refusal(Fault("forbidden", route="runs/create", times=0), "could not open a run"),
    "the artifacts": Refusal(Fault("forbidden", route="batch/metadata", times=0), "could not store the artifacts"),
    "the model": Refusal(Fault("forbidden", route="registered-models/create", times=0), "could not register a version"),
    "the version": Refusal(Fault("forbidden", route="model-versions/create", times=0), "could not register a version"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_not_permitted_is_told_and_nothing_is_registered(what: str, standin: StandIn) -> None:
    name = f"refused-{what.split()[-1]}"
    standin.inject(REFUSALS[what].fault)
    done = script(standin)("train", model_name=name, cv=0)
    standin.clear_faults()
    assert done.code == 2, done.err
    told = [line for line in done.err.splitlines() if line.startswith(("error: ", "  fix: "))]
    assert len(told) == 2
    assert REFUSALS[what].told in told[0]
    assert "workspace standin-workspace" in told[0]
    assert "Traceback" not in done.err
    assert ask(standin, f"[v.version for v in client.search_model_versions(\"name='{name}'\")]") == []
    statuses = ask(standin, f"[r.info.status for r in client.search_runs(['0'], \"params.model_name = '{name}'\")]")
    assert statuses == ([] if what == "the run" else ["FAILED"])
