"""Jobs: what their processes find, how they end."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests import standin_http as http
from tests.standin import Fault, StandIn, names

SHOW = "python -c 'import json, os; print(json.dumps(dict(os.environ)))'"


def held(flag: Path) -> str:
    """A command that waits for a file."""
    return f"until [ -e '{flag}' ]; do sleep 0.05; done"


def literal(value: str) -> dict[str, str]:
    return {"jobInputType": "literal", "value": value}


def test_literals_are_put_in_and_an_empty_one_leaves_nothing(standin: StandIn) -> None:
    command = "printf '<%s>' a ${{inputs.alpha}} ${{inputs.nothing}} ${{ inputs.words }} z"
    inputs = {"alpha": literal("0.5"), "nothing": literal(""), "words": literal("one two")}
    http.submit(standin, "literals", command, inputs=inputs).raise_for_status()
    assert http.wait(standin, "literals") == "Completed"
    assert http.log(standin, "literals") == "<a><0.5><one><two><z>"


@pytest.mark.parametrize("mode", ["ReadOnlyMount", "Download"])
def test_files_and_folders_come_in_by_their_mode(standin: StandIn, mode: str) -> None:
    base = http.upload(standin, {"in/a.csv": b"1\n", "in/deep/b.csv": b"2\n", "ink.csv": b"3\n"})
    inputs = {
        "one": {"jobInputType": "uri_file", "uri": f"{base}/in/a.csv", "mode": mode},
        "all": {"jobInputType": "uri_folder", "uri": f"{base}/in/", "mode": mode},
    }
    name = f"inputs-{mode}"
    command = "stat -c '%a %n' ${{inputs.one}}; cd ${{inputs.all}} && find . -type f | sort"
    http.submit(standin, name, command, inputs=inputs).raise_for_status()
    assert http.wait(standin, name) == "Completed"
    first, *rest = http.log(standin, name).splitlines()
    assert first.startswith("444 " if mode == "ReadOnlyMount" else "6")
    assert first.endswith("/INPUT_one/a.csv")
    assert rest == ["./a.csv", "./deep/b.csv"]


def test_data_assets_are_inputs_and_absent_ones_are_not(standin: StandIn) -> None:
    base = http.upload(standin, {"t.csv": b"x\n1\n"})
    assert http.call(standin, "GET", "/data/table/versions/1").status_code == 404
    body = {"properties": {"dataType": "uri_file", "dataUri": f"{base}/t.csv"}}
    made = http.call(standin, "PUT", "/data/table/versions/1", json=body)
    assert made.status_code == 201
    assert http.call(standin, "GET", "/data/table").json()["properties"]["latestVersion"] == "1"
    for name, version, status in (("asset", "1", "Completed"), ("no-asset", "2", "Failed")):
        uri = f"{names.SCOPE}/data/table/versions/{version}"
        inputs = {"data": {"jobInputType": "uri_file", "uri": uri}}
        http.submit(standin, name, "cat ${{inputs.data}}", inputs=inputs).raise_for_status()
        assert http.wait(standin, name) == status
    assert http.log(standin, "asset") == "x\n1\n"
    assert "table:2 does not exist" in http.details(standin, "no-asset")["error"]["error"]["message"]
    inputs = {"data": {"jobInputType": "uri_file", "uri": "https://example.com/table.csv"}}
    http.submit(standin, "outside", "cat ${{inputs.data}}", inputs=inputs).raise_for_status()
    assert http.wait(standin, "outside") == "Failed"
    assert "example.com" in http.details(standin, "outside")["error"]["error"]["message"]


def test_code_is_what_was_uploaded_and_outputs_are_kept(standin: StandIn) -> None:
    identifier = http.code(standin, "the-code", {"main.py": b"print('main')", "pkg/inner.py": b"x = 1"})
    command = (
        "find . -type f | sort; python main.py; echo kept > ${{outputs.model}}/m.txt; "
        "mkdir outputs; echo also > outputs/o.txt"
    )
    outputs = {"model": {"jobOutputType": "uri_folder"}}
    http.submit(standin, "coded", command, codeId=identifier, outputs=outputs).raise_for_status()
    assert http.wait(standin, "coded") == "Completed"
    assert http.log(standin, "coded").splitlines() == ["./main.py", "./pkg/inner.py", "main"]
    answer = http.call(
        standin, "POST", f"{http.HISTORY}/rundata", params={"api-version": "v1.0"}, json={"runId": "coded"}
    )
    asset = answer.json()["runMetadata"]["outputs"]["model"]["assetId"]
    url = f"{http.API}/data/v1.0{names.SCOPE}/dataversion/batchGetResolvedUris"
    found = http.call(standin, "POST", url, params={"api-version": "1.5.0"}, json={"values": [asset]})
    assert found.json()["values"][asset]["uri"].endswith("paths/azureml/coded/model/")
    artifacts = f"{http.HISTORY}/experiments/http/runs/coded/artifacts"
    paths = {item["path"] for item in http.call(standin, "GET", artifacts).json()["value"]}
    assert paths == {"outputs/o.txt", "user_logs/std_log.txt"}


def test_a_job_sees_the_service_and_nothing_of_the_submitter(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBMITTER_SECRET", "x")
    variables = {"MINE": "${{inputs.alpha}}", "OTHER": "1"}
    http.submit(
        standin, "environ", SHOW, environmentVariables=variables, inputs={"alpha": literal("0.5")}
    ).raise_for_status()
    assert http.wait(standin, "environ") == "Completed"
    environ = json.loads(http.log(standin, "environ"))
    assert environ["MINE"] == environ["AZUREML_INPUT_alpha"] == "0.5"
    assert environ["MLFLOW_RUN_ID"] == environ["AZUREML_RUN_ID"] == "environ"
    assert environ["MLFLOW_EXPERIMENT_NAME"] == "http"
    assert environ["MLFLOW_TRACKING_URI"].startswith(f"azureml://{names.API}/mlflow/v2.0{names.SCOPE}")
    assert environ["MLFLOW_TRACKING_TOKEN"].count(".") == 2
    assert environ["AZUREML_ARM_WORKSPACE_NAME"] == names.WORKSPACE
    assert environ["HTTPS_PROXY"] == standin.environ["HTTPS_PROXY"]
    assert not {
        "SUBMITTER_SECRET",
        "IDENTITY_ENDPOINT",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "PYTEST_CURRENT_TEST",
    } & set(environ)
    answer = http.call(
        standin,
        "GET",
        f"{http.HISTORY}/experimentids/1/runs/environ/token",
        bearer=environ["MLFLOW_TRACKING_TOKEN"],
    )
    assert answer.json()["token"].count(".") == 2


def test_the_run_is_there_before_the_script_and_ends_with_it(standin: StandIn, tmp_path: Path) -> None:
    for name, command, status, run_status in (
        ("run-good", "exit 0", "Completed", "FINISHED"),
        ("run-bad", "exit 4", "Failed", "FAILED"),
    ):
        http.submit(standin, name, f"{held(tmp_path / name)}; {command}", displayName="shown").raise_for_status()
        info = http.run(standin, name)["info"]
        assert (info["run_id"], info["status"], info["run_name"]) == (name, "RUNNING", "shown")
        assert info["artifact_uri"].endswith(f"/runs/{name}/artifacts")
        (tmp_path / name).touch()
        assert http.wait(standin, name) == status
        assert http.run(standin, name)["info"]["status"] == run_status
        assert http.run(standin, name)["info"]["end_time"] > 0
    error = http.details(standin, "run-bad")["error"]["error"]
    assert error["code"] == "UserError"
    assert "exited with status code 4" in error["message"]


def test_sending_a_job_twice_makes_one(standin: StandIn) -> None:
    assert http.submit(standin, "twice", "echo once", tags={"a": "1"}).status_code == 201
    assert http.submit(standin, "twice", "echo once", tags={"a": "2"}).status_code == 200
    assert http.wait(standin, "twice") == "Completed"
    assert http.log(standin, "twice") == "once\n"
    assert http.job(standin, "twice")["tags"] == {"a": "2"}
    url = f"{http.HISTORY}/experiments/http/runs/twice"
    changed = http.call(standin, "PATCH", url, params={"api-version": "v1.0"}, json={"tags": {"b": "3"}})
    assert changed.json()["tags"] == {"a": "2", "b": "3"}


def test_several_nodes_get_their_ranks(standin: StandIn) -> None:
    http.cluster(standin, "wide", nodes=3)
    command = 'echo "$RANK $NODE_RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR $MASTER_PORT"; touch mine; ls | wc -l'
    http.submit(
        standin,
        "ranks",
        command,
        compute="wide",
        distribution={"distributionType": "PyTorch", "processCountPerInstance": 1},
        resources={"instanceCount": 3},
    ).raise_for_status()
    assert http.wait(standin, "ranks") == "Completed"
    ports = set()
    for rank in range(3):
        first, files = http.log(standin, "ranks", f"user_logs/std_log_process_{rank}.txt").splitlines()
        place, port = first.rsplit(" ", 1)
        assert place == f"{rank} {rank} 0 3 127.0.0.1"
        assert int(files) == 1
        ports.add(port)
    assert len(ports) == 1
    assert int(ports.pop()) > 0


def test_one_node_that_dies_takes_the_others_along(standin: StandIn) -> None:
    http.cluster(standin, "wide", nodes=3)
    http.submit(
        standin,
        "dying",
        'if [ "$RANK" = 1 ]; then echo boom; exit 9; fi; sleep 600',
        compute="wide",
        distribution={"distributionType": "PyTorch", "processCountPerInstance": 1},
        resources={"instanceCount": 2},
    ).raise_for_status()
    assert http.wait(standin, "dying") == "Failed"
    message = http.details(standin, "dying")["error"]["error"]["message"]
    assert "status code 9" in message
    assert "std_log_process_1.txt" in message
    assert "boom" in message


def test_the_node_that_died_first_is_named(standin: StandIn) -> None:
    http.cluster(standin, "wide", nodes=3)
    gone = standin.folder.job("following") / "exit-1.json"
    http.submit(
        standin,
        "following",
        f'[ "$RANK" = 0 ] || exit 9; until [ -e "{gone}" ]; do sleep 0.01; done; exit 2',
        compute="wide",
        distribution={"distributionType": "PyTorch", "processCountPerInstance": 1},
        resources={"instanceCount": 2},
    ).raise_for_status()
    assert http.wait(standin, "following") == "Failed"
    assert "std_log_process_1.txt" in http.details(standin, "following")["error"]["error"]["message"]


def test_more_nodes_than_there_are_are_refused(standin: StandIn) -> None:
    http.cluster(standin, "narrow", nodes=1)
    answer = http.submit(standin, "wanting", "true", compute="narrow", resources={"instanceCount": 2})
    assert answer.status_code == 400
    assert "at most 1" in answer.json()["error"]["message"]
    assert http.call(standin, "GET", "/jobs/wanting").status_code == 404


def test_jobs_wait_for_each_other(standin: StandIn, tmp_path: Path) -> None:
    http.cluster(standin, "single", nodes=1)
    http.submit(standin, "before", held(tmp_path / "go"), compute="single").raise_for_status()
    http.wait(standin, "before", "Running")
    http.submit(standin, "behind", "true", compute="single").raise_for_status()
    assert http.wait(standin, "behind", "Queued") == "Queued"
    assert http.job(standin, "before")["status"] == "Running"
    usage = http.call(
        standin,
        "GET",
        f"{http.MANAGEMENT}/subscriptions/{names.SUBSCRIPTION}/providers/{names.PROVIDER}/locations/westeurope/usages",
        params={"api-version": http.VERSIONS["locations"]},
    ).json()["value"]
    used = {row["name"]["value"]: row["currentValue"] for row in usage if "/workspaces/" not in row["id"]}
    assert used["Standard DSv2 Family Cluster Dedicated vCPUs"] >= 4
    (tmp_path / "go").touch()
    assert http.wait(standin, "behind") == "Completed"


def test_time_limits_hold(standin: StandIn) -> None:
    limits = {"jobLimitsType": "Command", "timeout": "PT1S"}
    http.submit(standin, "endless", "echo begun; sleep 600", limits=limits).raise_for_status()
    assert http.wait(standin, "endless") == "Canceled"
    assert "time limit (PT1S)" in http.details(standin, "endless")["error"]["error"]["message"]
    assert http.run(standin, "endless")["info"]["status"] == "KILLED"
    assert http.log(standin, "endless") == "begun\n"


def test_a_job_may_be_cancelled_at_any_moment_of_its_start(standin: StandIn) -> None:
    bearer, moments = http.token(standin), 12
    for number in range(moments):
        http.submit(standin, f"early-{number}", "sleep 600").raise_for_status()
        time.sleep(number * 0.02)  # Preparing, Queued, Running begin at some of these moments
        cancel = {"params": {"api-version": "2023-04-01-preview"}, "bearer": bearer}
        http.call(standin, "POST", f"/jobs/early-{number}/cancel", **cancel).raise_for_status()
    for number in range(moments):
        assert http.wait(standin, f"early-{number}", seconds=60) == "Canceled"


def test_a_cancelled_job_ends_wherever_it_is(standin: StandIn) -> None:
    standin.inject(Fault("no-quota", route="held"))
    http.cluster(standin, "held")
    http.submit(standin, "queued", "true", compute="held").raise_for_status()
    http.wait(standin, "queued", "Queued")
    http.submit(standin, "running", "trap '' TERM; sleep 600 & wait; sleep 600").raise_for_status()
    http.wait(standin, "running", "Running")
    for name in ("queued", "running"):
        answer = http.call(standin, "POST", f"/jobs/{name}/cancel", params={"api-version": "2023-04-01-preview"})
        assert answer.status_code == 202
        assert answer.text == "null"
        assert answer.headers["Location"]
        assert http.wait(standin, name) == "Canceled"
        result = http.call(standin, "GET", answer.headers["Location"])
        assert (result.status_code, result.text) == (200, "")
        again = http.call(standin, "POST", f"/jobs/{name}/cancel", params={"api-version": "2023-04-01-preview"})
        assert again.status_code == 400
        assert http.innermost(again.json()) == "JobInTerminalState"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"computeId": f"{names.SCOPE}/computes/absent"}, "ComputeNotFound"),
        ({"environmentId": f"{names.SCOPE}/environments/absent/versions/1"}, "EnvironmentNotFound"),
        ({"codeId": f"{names.SCOPE}/codes/absent/versions/1"}, "CodeNotFound"),
        ({"jobType": "Pipeline"}, "JobTypeNotSupported"),
        ({"command": ""}, "InvalidJob"),
    ],
)
def test_a_job_that_cannot_be_is_refused(standin: StandIn, change: dict[str, str], code: str) -> None:
    answer = http.submit(standin, "refused", **({"command": "true"} | change))
    assert answer.status_code in (400, 404)
    assert http.innermost(answer.json()) == code
    missing = http.call(standin, "GET", "/jobs/refused")
    assert missing.status_code == 404
    assert http.innermost(missing.json()) == "JobNotFound"
    assert missing.json()["error"]["code"] == "UserError"


def test_logs_come_while_the_job_runs(standin: StandIn) -> None:
    http.submit(standin, "talking", "echo one; sleep 600; echo two").raise_for_status()
    http.wait(standin, "talking", "Running")
    for _ in range(200):
        if http.details(standin, "talking")["logFiles"] and http.log(standin, "talking") == "one\n":
            break
    assert http.log(standin, "talking") == "one\n"
    assert http.job(standin, "talking")["status"] == "Running"
    http.call(standin, "POST", "/jobs/talking/cancel", params={"api-version": "2023-04-01-preview"})
    http.wait(standin, "talking")


def test_jobs_are_listed_and_can_be_put_away(standin: StandIn) -> None:
    http.submit(standin, "listed", "true").raise_for_status()
    http.wait(standin, "listed")

    def listed() -> list[str]:
        found = http.call(standin, "GET", "/jobs", params={"listViewType": "ActiveOnly"}).json()["value"]
        return [row["name"] for row in found]

    assert "listed" in listed()
    url = f"{http.HISTORY}/experiments/http/runs/listed"
    http.call(standin, "PATCH", url, params={"api-version": "v1.0"}, json={"hidden": True}).raise_for_status()
    assert "listed" not in listed()


def test_state_of_a_job_is_beside_the_others(standin: StandIn) -> None:
    http.submit(standin, "folder", "pwd").raise_for_status()
    http.wait(standin, "folder")
    place = Path(http.log(standin, "folder").strip())
    assert place == standin.folder.job("folder").resolve() / "nodes" / "0"
    assert not place.exists(), "the working folder goes with the job"
    assert re.fullmatch(r"[0-9a-f]{64}", standin.folder.secret("account").hex()[:64])
