"""What MLflow can and cannot do against a workspace holds here too, row by row."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.standin import StandIn

CLIENT = Path(__file__).parent / "clients" / "facts.py"
LOGGED_MODELS = "logged-models{} failed with error code 404 != 200. Response body: ''"


@pytest.fixture(scope="module")
def facts(standin_session: StandIn) -> dict[str, Any]:
    """What the client has printed, and its warnings."""
    standin_session.clear_faults()
    done = standin_session.run([sys.executable, str(CLIENT), standin_session.tracking_uri], timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
    autolog = done.stderr.split("autolog begins")[1].split("autolog ends")[0]
    return {row["step"]: row for row in rows} | {"warnings of autolog": autolog}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("log_model", LOGGED_MODELS.format("")),
        ("log_model by path", LOGGED_MODELS.format("")),
        ("register runs:/", LOGGED_MODELS.format("/search")),
        ("list folder", LOGGED_MODELS.format("/search")),
        ("log_table", LOGGED_MODELS.format("/search")),
        ("load_table", "No runs found with the corresponding table artifact"),
        ("same path twice", "BlobAlreadyExists"),
    ],
)
def test_what_fails_on_a_workspace_fails_here(facts: dict[str, Any], step: str, message: str) -> None:
    assert facts[step]["error"] is not None
    assert message in facts[step]["error"]


def test_a_run_whose_model_was_not_logged_has_failed(facts: dict[str, Any]) -> None:
    assert facts["state of that run"]["value"] == ["FAILED", "FAILED"]


@pytest.mark.parametrize("step", ["log_artifacts", "log_dict", "log_text", "log_figure", "log_input", "version tag"])
def test_what_is_written_on_a_workspace_is_written_here(facts: dict[str, Any], step: str) -> None:
    assert facts[step]["error"] is None


def test_models_are_saved_registered_and_loaded(facts: dict[str, Any]) -> None:
    name = facts["run"]["value"]
    assert facts["create version"]["value"] == ["1", name, "READY"]
    assert facts["register uri"] == {"step": "register uri", "value": "", "error": None}, "no lineage this way"
    loaded = [facts[step]["value"] for step in ("load runs:/", "load uri", "load models:/")]
    assert loaded[0] is not None
    assert loaded[0] == loaded[1] == loaded[2]
    assert {"MLmodel", "model.skops", "requirements.txt"} <= set(facts["download"]["value"])


def test_runs_are_searched_and_nested(facts: dict[str, Any]) -> None:
    name = facts["run"]["value"]
    assert facts["nested"]["value"] == name
    assert facts["search"]["value"] == [name]
    assert {"figures", "metric.json", "models", "notes"} <= set(facts["list root"]["value"])


def test_a_listing_matches_by_prefix(facts: dict[str, Any]) -> None:
    found = {path.split("/")[0] for path in facts["list by prefix"]["value"]}
    assert found == {"models", "models_old"}


def test_the_registry_keeps_tags_aliases_and_stages(facts: dict[str, Any]) -> None:
    assert facts["read tag"]["value"] == {"data": "abc"}
    assert facts["by alias"]["value"] == "1"
    assert facts["stage"]["value"] == "Staging"


def test_autolog_warns_once_and_logs_no_model(facts: dict[str, Any]) -> None:
    assert facts["autolog"]["value"][:2] == ["FINISHED", True]
    assert "models" not in str(facts["autolog"]["value"][2])
    assert facts["warnings of autolog"].count("WARNING") == 1
    assert "logged-models" in facts["warnings of autolog"]
