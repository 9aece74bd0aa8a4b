"""The real clients, unpatched, go the whole way of a submission against the stand-in."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import standin_http as http
from tests.standin import Fault, Request, StandIn, names, routes

CLIENT = Path(__file__).parent / "clients" / "flow.py"
Steps = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def flow(standin_session: StandIn) -> tuple[Steps, list[Request]]:
    """What the client has printed, step by step, and what it has asked for."""
    standin_session.clear_faults()
    # `jobs.stream` of azure-ai-ml 1.35 takes a signature for a key and signs with it, which may or may not fail.
    standin_session.inject(Fault("account-key"))
    before = len(standin_session.requests)
    done = standin_session.run([sys.executable, str(CLIENT), "--assets"], timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    standin_session.clear_faults()
    steps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
    return {step.pop("step"): step for step in steps}, standin_session.requests[before:]


@pytest.fixture(scope="module")
def steps(flow: tuple[Steps, list[Request]]) -> Steps:
    return flow[0]


@pytest.fixture(scope="module")
def requests(flow: tuple[Steps, list[Request]]) -> list[Request]:
    return flow[1]


def test_workspace_and_cluster(steps: Steps) -> None:
    assert steps["workspace"] == {"location": names.LOCATION, "tracking": names.TRACKING_URI}
    expected = {"cores": 4, "limit": 6, "left_out": ["Standard_NV6ads_A10_v5"], "currency": "USD"}
    assert steps["sizes"] == expected
    assert steps["no cluster"]["status"] == 404
    assert steps["cluster"] == {
        "name": "flow-cluster",
        "size": "STANDARD_DS3_V2",
        "maximum": 2,
        "state": "Succeeded",
    }
    assert steps["cluster updated"]["maximum"] == 3
    assert steps["bad size"]["status"] == 400
    assert "STANDARD_NONSENSE is not a valid VM size" in steps["bad size"]["message"]


def test_environment_and_job(steps: Steps) -> None:
    assert steps["environment"] == {"version": "1", "latest": "1"}
    name = steps["sent"]["name"]
    assert steps["sent"]["status"] == "Starting"
    assert steps["sent"]["studio"].count("tid=") == 1
    log = steps["stream"]["log"]
    assert "Streaming user_logs/std_log.txt" in log
    assert "rest [] files ['extra.txt', 'report.py', 'train.py']" in log, "an empty literal is no argument"
    assert f"done {name}" in log
    assert log.count(f"done {name}") == 1
    assert steps["ended"] == {"status": "Completed", "outputs": ["default", "model"]}


def test_downloads(steps: Steps) -> None:
    assert steps["downloads"]["all"] == [
        "artifacts/metric.json",
        "artifacts/models/MLmodel",
        "artifacts/user_logs/std_log.txt",
        "named-outputs/model/models/MLmodel",
    ]
    assert steps["downloads"]["named"] == ["named-outputs/model/models/MLmodel"]
    assert steps["downloads"]["run"] == steps["sent"]["name"]
    assert "Download is allowed only in states" in steps["early download"]["message"]


def test_the_run_has_the_name_of_the_job(steps: Steps) -> None:
    name, run = steps["sent"]["name"], steps["run"]
    assert (run["id"], run["status"]) == (name, "FINISHED")
    assert run["params"] == {"alpha": "0.5"}
    assert run["metrics"] == {"rmse": 1.2, "rows": 3.0}
    assert run["tags"] == {"who": "flow", "mlflow.runName": "flow run"}
    assert re.fullmatch(rf"{re.escape(names.TRACKING_URI)}/experiments/\d+/runs/{name}/artifacts", run["uri"])
    assert steps["search"]["runs"] == [name]
    assert steps["artifacts"] == {"files": ["MLmodel"], "listed": ["metric.json", "models", "user_logs"]}


def test_a_registered_version_is_a_model_asset(steps: Steps) -> None:
    assert steps["version"] == {
        "version": "1",
        "run": steps["sent"]["name"],
        "asset": f"{steps['run']['uri']}/models",
        "latest": "1",
    }


def test_code_is_uploaded_once(steps: Steps, requests: list[Request]) -> None:
    assert steps["again"] == {"status": "Completed", "same_code": True}
    uploads = [r for r in requests if r.method == "PUT" and r.plane == "blob" and r.path.endswith("/train.py")]
    assert len([r for r in uploads if r.operation == ""]) == 1
    assert len([r for r in requests if r.path.endswith("/startPendingUpload")]) == 1


def test_sweep(steps: Steps) -> None:
    sweep = steps["sweep"]
    assert sweep["status"] == "Completed"
    assert sweep["children"] == [f"{sweep['name']}_0", f"{sweep['name']}_1"]
    assert sweep["parents"] == [sweep["name"]] * 2
    assert (sweep["best"], float(sweep["score"])) == (f"{sweep['name']}_1", -0.3)
    assert {"artifacts/outputs/data.csv", "hd-artifacts/azureml-logs/hyperdrive.txt"} <= set(sweep["files"])


def test_failure_and_cancellation(steps: Steps) -> None:
    failing = steps["failing"]
    assert (failing["status"], failing["run"]) == ("Failed", "FAILED")
    assert "exited with status code 1" in failing["message"]
    assert "ValueError: broken" in failing["message"]
    assert steps["cancelled"] == {"status": "Canceled", "run": "KILLED"}
    assert steps["cancelled twice"]["status"] == 400
    assert steps["jobs"]["names"][0] != steps["sent"]["name"], "newest first"
    assert steps["sent"]["name"] in steps["jobs"]["names"]
    assert steps["jobs"]["names"][-1] is None, "a job that the SDK cannot read"
    assert not [name for name in steps["jobs"]["names"] if name in steps["sweep"]["children"]]


def test_nothing_tried_to_leave(flow: object, standin: StandIn) -> None:
    assert standin.refused_hosts == []


def test_every_request_is_in_the_table(requests: list[Request]) -> None:
    """The table of routes is what was observed of today's clients; each request must match a row of it."""
    rows = routes.ALL
    seen = set()
    for request in requests:
        if request.plane == "blob":
            continue
        matching = [
            row for row in rows if request.method in row.methods.split() and row.pattern.fullmatch(request.path)
        ]
        assert matching, request
        assert request.api_version in (matching[0].versions.split() or [""]), request
        seen.add(matching[0].template)
    assert {
        "/metadata/endpoints",
        "{S}",
        "{S}/computes/{name}",
        "{S}/environments/{name}/versions/{version}",
        "{S}/codes/{name}/versions/{version}/startPendingUpload",
        "{S}/jobs/{name}",
        "{S}/jobs/{name}/cancel",
        "{S}/datastores/{name}/listSecrets",
        "/discovery/workspaces/{id}",
        "/history/v1.0{S}/runs/{run}/details",
        "/history/v1.0{S}/rundata",
        "/history/v1.0{S}/runs/{run}/children",
        "/history/v1.0{S}/experiments/{e}/runs/{run}/artifacts/batch/metadata",
        "/history/v1.0{S}/experiments/{e}/runs/{run}/artifacts/contentinfo",
        "/data/v1.0{S}/dataversion/batchGetResolvedUris",
        "/mlflow/v2.0{S}/{api*}",
    } <= seen


def test_no_secret_is_recorded(standin: StandIn, flow: object) -> None:
    text = standin.folder.requests.read_text() + (standin.folder.root / "service.log").read_text()
    assert "sig=" not in text
    assert "Bearer" not in text
    assert "eyJ" not in text


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("no data", "DataAssetNotFound"),
        ("no model", "ModelNotFound"),
        ("no environment", "EnvironmentNotFound"),
        ("no job", "JobNotFound"),
    ],
)
def test_what_is_absent_is_not_found(steps: Steps, step: str, code: str) -> None:
    body = steps[step]["body"]
    assert body["error"]["code"] == "UserError"
    assert http.innermost(body) == code


def test_data_assets_have_versions(standin: StandIn, steps: Steps) -> None:
    assert steps["data"]["versions"] == ["1", "2"]
    assert steps["data"]["latest"] == "2"
    assert "assets-data" in steps["data list"]["names"]
    assert steps["data read"]["files"] == ["o.txt", "std_log.txt"], "read and written with signatures"
    assert http.log(standin, steps["data read"]["job"]).split() == ["a", "2", "a", "1"]


def test_an_environment_without_a_version_gets_the_next(steps: Steps) -> None:
    assert steps["environment one"]["version"] == "1"
    assert steps["environment two"]["version"] == "2"
    assert "assets-env" in steps["environments"]["names"]


def test_clusters_are_listed_and_deleted(steps: Steps) -> None:
    assert steps["assets cluster"]["tier"] == "low_priority"
    assert steps["assets cluster"]["listed"] == ["assets-cluster"]
    assert steps["deleted"]["status"] == 404


def test_a_job_that_has_ended_takes_tags_and_is_put_away(steps: Steps) -> None:
    assert steps["tags"]["tags"] == {"first": "1", "second": "2"}
    assert steps["archived"]["active"] == []


def test_a_model_is_registered_from_a_job_and_read_by_another(standin: StandIn, steps: Steps) -> None:
    assert steps["model"]["version"] == "1"
    assert steps["model"]["path"].endswith("/outputs/artifacts/paths/outputs/")
    assert steps["models"]["names"] == ["assets-model"]
    assert http.log(standin, steps["model read"]["job"]) == "saved\n"
