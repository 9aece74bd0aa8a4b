"""Sweeps: which trials there are, and which is the best."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from tests import standin_http as http
from tests.standin import StandIn, names
from tests.standin.sweeps import combinations

REPORT = Path(__file__).parent / "clients" / "report.py"
GRID = {"samplingAlgorithmType": "Grid"}
RANDOM = {"samplingAlgorithmType": "Random", "seed": 7}


def sweep(workspace: StandIn, name: str, command: str, space: dict[str, Any], **properties: Any) -> None:
    body = {
        "jobType": "Sweep",
        "experimentName": "sweeps",
        "searchSpace": space,
        "samplingAlgorithm": GRID,
        "objective": {"goal": "Maximize", "primaryMetric": "score"},
        "limits": {"jobLimitsType": "Sweep", "maxTotalTrials": 10, "maxConcurrentTrials": 2},
        "trial": {"command": command},
        **properties,
    }
    http.call(workspace, "PUT", f"/jobs/{name}", json={"properties": body}).raise_for_status()


def children(workspace: StandIn, name: str) -> dict[str, str]:
    url = f"{http.HISTORY}/runs/{name}/children"
    found = http.call(workspace, "GET", url, params={"api-version": "v1.0"}).json()["value"]
    return {row["runId"]: row["status"] for row in found}


def test_the_best_trial_is_the_one_with_the_best_metric(standin: StandIn) -> None:
    identifier = http.code(standin, "report", {"report.py": REPORT.read_bytes()})
    command = "test ${{search_space.a}} = 3 && exit 1; python report.py score -${{search_space.a}}"
    trial = {"command": command, "codeId": identifier}
    sweep(standin, "peak", command, {"a": ["choice", [[1, 0, 2, 3]]]}, trial=trial)
    assert http.wait(standin, "peak") == "Completed"
    assert children(standin, "peak") == {
        "peak_0": "Completed",
        "peak_1": "Completed",
        "peak_2": "Completed",
        "peak_3": "Failed",
    }
    found = http.job(standin, "peak")["properties"]
    assert (found["best_child_run_id"], float(found["score"])) == ("peak_1", 0.0)
    tags = {tag["key"]: tag["value"] for tag in http.run(standin, "peak_1")["data"]["tags"]}
    assert tags["mlflow.parentRunId"] == "peak"
    assert "Best trial peak_1" in http.log(standin, "peak", "azureml-logs/hyperdrive.txt")
    assert http.call(standin, "GET", "/jobs").json()["value"][0]["name"] == "peak"


def test_no_more_trials_than_allowed_run_at_once(standin: StandIn) -> None:
    sweep(standin, "pair", "sleep 600", {"a": ["choice", [[1, 2, 3, 4]]]})
    assert set(_soon(standin, "pair", 2)) == {"pair_0", "pair_1"}
    http.wait(standin, "pair_1", "Running")
    assert set(children(standin, "pair")) == {"pair_0", "pair_1"}
    http.call(standin, "POST", "/jobs/pair/cancel", params={"api-version": "2023-04-01-preview"})
    assert http.wait(standin, "pair") == "Canceled"
    assert set(children(standin, "pair").values()) == {"Canceled"}
    assert http.run(standin, "pair_0")["info"]["status"] == "KILLED"


def _soon(workspace: StandIn, name: str, count: int) -> dict[str, str]:
    for _ in range(200):
        found = children(workspace, name)
        if len(found) >= count:
            return found
    raise AssertionError(f"{name} has only {found}")


@pytest.mark.parametrize(
    ("name", "command", "change", "message"),
    [
        ("silent", "true", {}, "No trial has logged the primary metric 'score'"),
        ("failing", "exit 1", {}, "No trial of the sweep has completed"),
        ("bayes", "true", {"samplingAlgorithm": {"samplingAlgorithmType": "Bayesian"}}, "not Bayesian"),
    ],
)
def test_a_sweep_without_a_best_trial_has_failed(
    standin: StandIn, name: str, command: str, change: dict[str, Any], message: str
) -> None:
    sweep(standin, name, command, {"a": ["choice", [[1]]]}, **change)
    assert http.wait(standin, name) == "Failed"
    assert message in http.details(standin, name)["error"]["error"]["message"]


def test_a_sweep_ends_at_its_time_limit(standin: StandIn) -> None:
    limits = {"jobLimitsType": "Sweep", "maxTotalTrials": 1, "maxConcurrentTrials": 1, "timeout": "PT1S"}
    sweep(standin, "late", "sleep 600", {"a": ["choice", [[1]]]}, limits=limits)
    assert http.wait(standin, "late") == "Canceled"
    assert children(standin, "late") == {"late_0": "Canceled"}


def test_a_grid_has_every_combination_once() -> None:
    space = {"a": ["choice", [[1, 2]]], "b": ["choice", [["x", "y", "z"]]]}
    found = list(combinations(space, GRID, "s"))
    assert found == [{"a": a, "b": b} for a, b in itertools.product((1, 2), "xyz")]
    with pytest.raises(ValueError, match="only choice"):
        list(combinations({"a": ["uniform", [0, 1]]}, GRID, "s"))


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        (["uniform", [2, 3]], 2, 3),
        (["loguniform", [math.log(0.1), math.log(10)]], 0.1, 10),
        (["quniform", [1, 9, 2]], 0, 10),
        (["randint", [5]], 0, 4),
        (["lognormal", [0, 1]], 0, math.inf),
        (["normal", [0, 1]], -math.inf, math.inf),
    ],
)
def test_a_random_search_draws_within_bounds_and_again_the_same(spec: list[Any], low: float, high: float) -> None:
    first = [row["a"] for row in itertools.islice(combinations({"a": spec}, RANDOM, "s"), 5)]
    again = [row["a"] for row in itertools.islice(combinations({"a": spec}, RANDOM, "s"), 5)]
    assert first == again
    assert len(set(first)) > 1
    assert all(low <= value <= high for value in first)
    if spec[0] == "quniform":
        assert all(value % 2 == 0 for value in first)


def test_a_random_search_of_few_choices_ends() -> None:
    assert len(list(combinations({"a": ["choice", [[1, 2, 3, 3]]]}, RANDOM, "s"))) == 3
    assert len(list(combinations({"a": ["quniform", [0, 4, 2]]}, RANDOM, "s"))) == 3


def test_names_lead_to_one_account() -> None:
    assert names.BLOB.startswith(f"{names.ACCOUNT}.blob.")
