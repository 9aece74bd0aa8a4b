"""Assets, labels, tags: what azure-ai-ml does beside the way of a submission."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import standin_http as http
from tests.standin import StandIn

CLIENT = Path(__file__).parent / "clients" / "assets.py"


@pytest.fixture(scope="module")
def steps(standin_session: StandIn) -> dict[str, dict[str, Any]]:
    standin_session.clear_faults()
    done = standin_session.run([sys.executable, str(CLIENT)], timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
    return {row["step"]: row for row in rows}


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("no data", "DataAssetNotFound"),
        ("no model", "ModelNotFound"),
        ("no environment", "EnvironmentNotFound"),
        ("no job", "JobNotFound"),
    ],
)
def test_what_is_absent_is_not_found(steps: dict[str, dict[str, Any]], step: str, code: str) -> None:
    body = steps[step]["body"]
    assert body["error"]["code"] == "UserError"
    assert http.innermost(body) == code


def test_data_assets_have_versions(standin: StandIn, steps: dict[str, dict[str, Any]]) -> None:
    assert steps["data"]["versions"] == ["1", "2"]
    assert steps["data"]["latest"] == "2"
    assert "assets-data" in steps["data list"]["names"]
    assert steps["data read"]["files"] == ["o.txt", "std_log.txt"], "read and written with signatures"
    assert http.log(standin, steps["data read"]["job"]).split() == ["a", "2", "a", "1"]


def test_an_environment_without_a_version_gets_the_next(steps: dict[str, dict[str, Any]]) -> None:
    assert steps["environment one"]["version"] == "1"
    assert steps["environment two"]["version"] == "2"
    assert "assets-env" in steps["environments"]["names"]


def test_clusters_are_listed_and_deleted(steps: dict[str, dict[str, Any]]) -> None:
    assert steps["cluster"]["tier"] == "low_priority"
    assert steps["cluster"]["listed"] == ["assets-cluster"]
    assert steps["deleted"]["status"] == 404


def test_a_job_that_has_ended_takes_tags_and_is_put_away(steps: dict[str, dict[str, Any]]) -> None:
    assert steps["tags"]["tags"] == {"first": "1", "second": "2"}
    assert steps["archived"]["active"] == []


def test_a_model_is_registered_from_a_job_and_read_by_another(
    standin: StandIn, steps: dict[str, dict[str, Any]]
) -> None:
    assert steps["model"]["version"] == "1"
    assert steps["model"]["path"].endswith("/outputs/artifacts/paths/outputs/")
    assert steps["models"]["names"] == ["assets-model"]
    assert http.log(standin, steps["model read"]["job"]) == "saved\n"
