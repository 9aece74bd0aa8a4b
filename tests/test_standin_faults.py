"""Each fault does what it is called."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import standin_http as http
from tests.standin import Fault, StandIn
from tests.standin.faults import KINDS

JOB = "/jobs/nothing"


def test_too_many_requests(standin: StandIn) -> None:
    standin.inject(Fault("429", route="GET */jobs/nothing", times=2))
    for _ in range(2):
        answer = http.call(standin, "GET", JOB)
        assert answer.status_code == 429
        assert "Retry-After" not in answer.headers
        assert http.innermost(answer.json()) == "TooManyRequests"
        assert "Retry again after 20 seconds" in answer.json()["error"]["message"]
    assert http.call(standin, "GET", JOB).status_code == 404
    assert http.call(standin, "GET", "/computes").status_code == 200
    standin.inject(Fault("429", seconds=372))
    assert http.call(standin, "GET", JOB).headers["Retry-After"] == "372"
    assert [r.fault for r in standin.requests if r.status == 429][-3:] == ["429", "429", "429"]


def test_service_unavailable_in_the_shape_of_each_plane(standin: StandIn) -> None:
    standin.inject(Fault("503", route="/jobs/nothing"))
    answer = http.call(standin, "GET", JOB)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "TransientError")
    standin.inject(Fault("503", route="/history/"))
    answer = http.call(standin, "GET", f"{http.HISTORY}/runs/x", params={"api-version": "v1.0"})
    assert answer.status_code == 503
    assert answer.json()["error"]["innerError"]["code"] == "ServiceUnavailable"
    standin.inject(Fault("503", route="GET */a.txt"))
    answer = http.call(standin, "GET", http.upload(standin, {"a.txt": b"x"}) + "/a.txt", bearer=None)
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (503, "ServerBusy")


def test_bad_gateway_is_a_page(standin: StandIn) -> None:
    standin.inject(Fault("html502"))
    answer = http.call(standin, "GET", JOB)
    assert answer.status_code == 502
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "<center>nginx</center>" in answer.text


def test_a_log_that_breaks_off(standin: StandIn) -> None:
    http.submit(standin, "breaking", "seq 1 100000").raise_for_status()
    http.wait(standin, "breaking")
    whole = http.log(standin, "breaking")
    standin.inject(Fault("reset"))
    with pytest.raises(requests.RequestException):
        http.log(standin, "breaking")
    assert standin.requests[-1].status == -1
    assert http.log(standin, "breaking") == whole
    standin.inject(Fault("reset", route="/details"))
    with pytest.raises(requests.RequestException):
        http.details(standin, "breaking")
    assert http.details(standin, "breaking")["status"] == "Completed"


def test_a_token_that_expires(standin: StandIn) -> None:
    standin.inject(Fault("expired-token", route="/jobs/"))
    answer = http.call(standin, "GET", JOB)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "ExpiredAuthenticationToken"
    assert http.call(standin, "GET", JOB).status_code == 404


def test_answers_and_uploads_wait_for_their_gate(standin: StandIn, tmp_path: Path) -> None:
    for kind in ("slow", "slow-upload"):
        gate = tmp_path / kind
        standin.inject(Fault(kind, gate=str(gate)))
        with ThreadPoolExecutor(1) as other:
            if kind == "slow":
                answer = other.submit(http.call, standin, "GET", JOB)
            else:
                answer = other.submit(http.upload, standin, {"a.txt": b"x"})
            while standin.faults:  # it has not met the fault yet
                assert not answer.done()
                time.sleep(0.05)
                time.sleep(0.05)
            assert not answer.done()
            gate.touch()
            answer.result()
        assert standin.requests[-1].fault == kind


def _signed(standin: StandIn, data: bytes) -> str:
    http.submit(standin, "download", f"yes 0123456789 | head -c {len(data)}").raise_for_status()
    http.wait(standin, "download")
    return str(http.details(standin, "download")["logFiles"]["user_logs/std_log.txt"])


def test_downloads_may_be_cut(standin: StandIn) -> None:
    size = 300_000
    address = _signed(standin, b"x" * size)
    standin.inject(Fault("truncated-download"))
    with pytest.raises(requests.RequestException):
        http.call(standin, "GET", address, bearer=None)
    assert len(http.call(standin, "GET", address, bearer=None).content) == size
    standin.inject(Fault("short-download"))
    short = http.call(standin, "GET", address, bearer=None)
    assert short.ok
    assert len(short.content) == size // 2 == int(short.headers["Content-Length"])


def test_a_cluster_without_quota(standin: StandIn) -> None:
    http.cluster(standin, "poor")
    standin.inject(Fault("no-quota", route="poor"))
    http.submit(standin, "waiting", "true", compute="poor").raise_for_status()
    http.wait(standin, "waiting", "Queued")
    http.submit(standin, "elsewhere", "true").raise_for_status()
    assert http.wait(standin, "elsewhere") == "Completed"
    assert http.job(standin, "waiting")["status"] == "Queued"
    standin.clear_faults()
    assert http.wait(standin, "waiting") == "Completed"


def test_an_image_that_cannot_be_built(standin: StandIn) -> None:
    standin.inject(Fault("build-fails"))
    http.submit(standin, "unbuilt", "true").raise_for_status()
    assert http.wait(standin, "unbuilt") == "Failed"
    error = http.details(standin, "unbuilt")["error"]["error"]
    assert "Image build failed" in error["message"]
    assert "azureml-logs/20_image_build_log.txt" in error["message"]
    assert "No matching distribution" in http.log(standin, "unbuilt", "azureml-logs/20_image_build_log.txt")
    assert http.run(standin, "unbuilt")["info"]["status"] == "FAILED"


def test_a_job_that_fails(standin: StandIn) -> None:
    standin.inject(Fault("job-fails"))
    http.submit(standin, "asked-to-fail", "echo not run").raise_for_status()
    assert http.wait(standin, "asked-to-fail") == "Failed"
    log = http.log(standin, "asked-to-fail")
    assert log.startswith("Traceback (most recent call last):")
    assert "not run" not in log
    message = http.details(standin, "asked-to-fail")["error"]["error"]["message"]
    assert "exited with status code 3" in message
    assert "ValueError: this failure was asked for" in message


def test_a_node_that_is_taken_away(standin: StandIn, tmp_path: Path) -> None:
    http.cluster(standin, "cheap", priority="LowPriority")
    http.cluster(standin, "dear")
    standin.inject(Fault("preempt", gate=str(tmp_path)))
    http.submit(standin, "stays", "true", compute="dear").raise_for_status()
    assert http.wait(standin, "stays") == "Completed"
    http.submit(standin, "taken", "echo begun; sleep 600", compute="cheap").raise_for_status()
    assert http.wait(standin, "taken") == "Failed"
    assert "PreemptionError" in http.details(standin, "taken")["error"]["error"]["message"]
    http.submit(standin, "sent-again", "echo begun", compute="cheap").raise_for_status()
    assert http.wait(standin, "sent-again") == "Completed"
    standin.inject(Fault("preempt", gate=str(tmp_path), route="serverless"))
    spot: dict[str, Any] = {"queueSettings": {"jobTier": "Spot"}, "resources": {"instanceType": "Standard_D4ds_v4"}}
    http.submit(standin, "spot", "sleep 600", **spot).raise_for_status()
    assert http.wait(standin, "spot") == "Failed"


def test_a_job_that_the_service_starts_again(standin: StandIn, tmp_path: Path) -> None:
    standin.inject(Fault("requeue"))
    command = f"echo attempt >> {tmp_path}/attempts; wc -l < {tmp_path}/attempts; mkdir -p outputs; ls outputs"
    http.submit(standin, "requeued", command).raise_for_status()
    assert http.wait(standin, "requeued") == "Completed"
    assert http.log(standin, "requeued").split() == ["1", "2"], "twice, in one run, each time in a fresh folder"
    standin.inject(Fault("requeue", gate=str(tmp_path / "lost")))
    wait = f"[ -e {tmp_path}/lost ] || {{ touch {tmp_path}/lost; sleep 600; }}; echo second"
    http.submit(standin, "lost", wait).raise_for_status()
    assert http.wait(standin, "lost") == "Completed"
    assert http.log(standin, "lost") == "second\n"


@pytest.mark.parametrize(("kind", "status"), [("not-responding", "NotResponding"), ("paused", "Paused")])
def test_states_that_are_not_the_end(standin: StandIn, tmp_path: Path, kind: str, status: str) -> None:
    standin.inject(Fault(kind))
    http.submit(standin, kind, "true").raise_for_status()
    assert http.wait(standin, kind, status) == status
    assert http.wait(standin, kind) == "Completed"
    standin.inject(Fault(kind, gate=str(tmp_path / "never")))
    http.submit(standin, f"{kind}-cancelled", "sleep 600").raise_for_status()
    http.wait(standin, f"{kind}-cancelled", status)
    assert http.call(standin, "POST", f"/jobs/{kind}-cancelled/cancel").status_code == 202
    assert http.wait(standin, f"{kind}-cancelled") == "Canceled"


def test_states_before_a_job_runs_can_be_held(standin: StandIn, tmp_path: Path) -> None:
    build, nodes = tmp_path / "build", tmp_path / "nodes"
    standin.inject(Fault("slow-build", gate=str(build)))
    standin.inject(Fault("slow-nodes", gate=str(nodes)))
    http.submit(standin, "slow", "true").raise_for_status()
    http.wait(standin, "slow", "Preparing")
    assert "FROM the image" in _soon(standin, "slow", "azureml-logs/20_image_build_log.txt")
    build.touch()
    http.wait(standin, "slow", "Queued")
    assert "RequestedNodeCount" in http.job(standin, "slow")["tags"]["_aml_system_ComputeTargetStatus"]
    nodes.touch()
    assert http.wait(standin, "slow") == "Completed"
    assert "_aml_system_ComputeTargetStatus" not in http.job(standin, "slow")["tags"]


def _soon(standin: StandIn, name: str, file: str) -> str:
    """Return a log as soon as it is there."""
    while file not in http.details(standin, name)["logFiles"]:
        time.sleep(0.1)
    return http.log(standin, name, file)


def test_a_quota_that_binds(standin: StandIn) -> None:
    http.cluster(standin, "tight")
    standin.inject(Fault("quota-binds", route="tight"))
    two: dict[str, Any] = {"resources": {"instanceCount": 2}}
    http.submit(standin, "eight-cores", "true", compute="tight", **two).raise_for_status()
    http.wait(standin, "eight-cores", "Queued")
    http.submit(standin, "no-cores", "true").raise_for_status()
    assert http.wait(standin, "no-cores") == "Completed"
    assert http.job(standin, "eight-cores")["status"] == "Queued", "6 cores of its family, and it wants 8"
    standin.quota(standardDSv2Family=8)
    assert http.wait(standin, "eight-cores") == "Completed"


@pytest.mark.parametrize("variant", ["lines", "line"])
def test_a_log_without_an_end(standin: StandIn, variant: str) -> None:
    standin.inject(Fault("endless-log", variant=variant))
    http.submit(standin, f"endless-{variant}", "true").raise_for_status()
    while len(_soon(standin, f"endless-{variant}", "user_logs/std_log.txt")) < 5_000:
        time.sleep(0.1)
    http.call(standin, "POST", f"/jobs/endless-{variant}/cancel").raise_for_status()
    assert http.wait(standin, f"endless-{variant}") == "Canceled"
    assert ("\n" in http.log(standin, f"endless-{variant}")) == (variant == "lines")


def test_artifacts_with_hostile_names(standin: StandIn) -> None:
    standin.inject(Fault("hostile-artifacts"))
    http.submit(standin, "hostile", "true").raise_for_status()
    assert http.wait(standin, "hostile") == "Completed"
    artifacts = http.call(standin, "GET", f"{http.HISTORY}/experimentids/0/runs/hostile/artifacts").json()["value"]
    assert {"../outside.txt", "n" * 300, "twice", "twice/inner.txt"} <= {item["path"] for item in artifacts}


def test_faults_are_read_and_shown(standin: StandIn) -> None:
    text = "429,route=PUT */jobs/*,times=2"
    assert Fault.parse(text) == Fault("429", route="PUT */jobs/*", times=2)
    assert Fault.parse("preempt,seconds=2.5").seconds == 2.5
    standin.inject(Fault.parse(text))
    assert standin.faults == [Fault("429", route="PUT */jobs/*", times=2)]
    standin.clear_faults()
    assert standin.faults == []


@pytest.mark.parametrize("text", ["", "nonsense", "429,times", "429,when=now", "429,times=x", "429,times=-1"])
def test_a_fault_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Fault.parse(text)


def test_every_fault_has_a_test() -> None:
    here = Path(__file__)
    names = (
        *("test_standin_faults.py", "test_standin_identity.py", "test_standin_service.py"),
        *("test_standin_endpoints.py", "test_submit_deploy.py"),
    )
    source = "".join(here.with_name(name).read_text() for name in names)
    assert not [kind for kind in KINDS if f'"{kind}"' not in source]
