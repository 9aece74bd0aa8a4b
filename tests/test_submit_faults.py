"""What goes wrong on the way, on the stand-in, with what the command does about it.

The rules themselves are tested without a process, in the files beside this one; here they meet the real clients.
"""

import os
import re
import signal
from pathlib import Path

import pytest

from tests import standin_http as http
from tests.conftest import Submitted
from tests.standin import Fault, StandIn
from tests.standin.state import holder
from tests.submitting import Warm, command, job_name, log_lines, tiny, together

ALL_LINES = [f"line {number} of the log" for number in range(10)]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose job writes ten lines and fails."""
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def failed(remote: Warm, standin_session: StandIn, project: Path) -> str:
    """A job that has ended with exit code 4 and ten lines in its log."""
    standin_session.clear_faults()
    done = remote("--yes", project=project, cwd=project)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"job {job_name(done.stdout)} is failed"
    return job_name(done.stdout)


def jobs_sent(standin: StandIn, since: int) -> list[str]:
    """Name the jobs that were taken in."""
    sent = [one for one in standin.requests[since:] if one.method == "PUT" and "/jobs/" in one.path]
    return sorted({one.path.rsplit("/", 1)[-1] for one in sent if one.status in (200, 201)})


def cancel(standin: StandIn, name: str) -> None:
    http.call(standin, "POST", f"/jobs/{name}/cancel").raise_for_status()


def test_sending_goes_on_when_the_faults_have_passed(
    remote: Warm, standin: StandIn, project: Path, failed: str, tmp_path: Path
) -> None:
    faults = (
        Fault("429", route="PUT */jobs/*"), Fault("503", route="GET */computes/*"),
        Fault("reset", route="PUT */jobs/*"),
        Fault("html502", route="GET */environments/*"), Fault("expired-token", route="PUT */jobs/*"),
        Fault("slow-upload", seconds=0.1),
    )  # fmt: skip
    for fault in faults:
        standin.inject(fault)
    before = len(standin.requests)
    (tmp_path / "new.csv").write_text("a,b\n1,2\n")
    done = remote("--yes", "--detach", "--data", "new.csv", project=project, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert standin.faults == []
    assert jobs_sent(standin, before) == [job_name(done.stdout)]


def test_following_goes_on_and_shows_every_line_once(
    remote: Warm, standin: StandIn, failed: str, tmp_path: Path
) -> None:
    for kind in ("429", "503", "html502", "expired-token"):
        standin.inject(Fault(kind, route="GET */details*"))
    standin.inject(Fault("reset"))
    done = remote("attach", failed, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert standin.faults == []
    assert log_lines(done.stdout) == ALL_LINES
    assert done.stderr == ""


def test_the_workspace_may_go_away_and_come_back(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    client = remote.start(command("--yes", project=tiny(tmp_path / "gated", gate=gate))[1:], tmp_path)
    client.until(r"\| line 1 of the log")
    standin.stop()
    try:
        client.until(r"no answer from the service; trying again")
    finally:
        standin.start()
    gate.touch()
    assert client.wait().returncode == 1, client.text
    assert log_lines(client.text) == ALL_LINES


def test_a_client_that_was_killed_is_replaced_by_attach(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    gate, before = tmp_path / "gate", len(standin.requests)
    client = remote.start(command("--yes", project=tiny(tmp_path / "gated", gate=gate))[1:], tmp_path)
    client.until(r"\| line 0 of the log")
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    name = job_name(client.text)
    assert http.job(standin, name)["status"] == "Running"
    gate.touch()
    done = remote("attach", name, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert log_lines(done.stdout) == ALL_LINES
    assert jobs_sent(standin, before) == [name]


# ---- what a role on the workspace alone may not see


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ([Fault("workspace-role")], "not readable with your role"),
        ([Fault("sizes-404"), Fault("sizes-404", route="usages")], "the service does not tell (404)"),
        ([Fault("sizes-404", code=501), Fault("sizes-404", code=501, route="usages")],
         "the service does not tell (501)"),
        ([Fault("sizes-empty"), Fault("sizes-empty", route="usages")], "the service lists none"),
    ],
)  # fmt: skip
def test_advice_never_blocks(
    remote: Warm, standin: StandIn, project: Path, faults: list[Fault], said: str, tmp_path: Path
) -> None:
    for fault in faults:
        standin.inject(fault)
    done = remote("--yes", "--detach", project=project, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\nsizes: {said}\nquota: {said}\n" in done.stdout
    assert "price" not in done.stdout


def test_a_quota_that_is_too_small_is_said_before_anything_is_sent(
    remote: Warm, standin: StandIn, project: Path, tmp_path: Path
) -> None:
    standin.quota(standardDDSv4Family=2)
    standin.inject(Fault("quota-keys"))
    done = remote("--yes", "--detach", project=project, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"! .* is 2 cores, and a node takes 4: the job will wait in the queue", done.stdout)
    cancel(standin, job_name(done.stdout))


# ---- storage by identity, and storage that refuses


@pytest.mark.parametrize("where", ["cluster", "serverless"])
def test_a_workspace_by_identity_gets_jobs_with_an_identity(
    remote: Warm, standin: StandIn, project: Path, where: str, tmp_path: Path
) -> None:
    standin.inject(Fault("no-keys"))
    (tmp_path / "new.csv").write_text(f"a,b\n1,{where}\n")
    asked = ("--serverless",) if where == "serverless" else ("--cluster", "by-identity")
    done = remote("--yes", "--data", "new.csv", *asked, project=project, cwd=tmp_path)
    assert log_lines(done.stdout) == ALL_LINES, done.stdout + done.stderr
    job = http.job(standin, job_name(done.stdout))
    assert job["identity"]["identityType"] == {"cluster": "Managed", "serverless": "UserIdentity"}[where]
    if where == "cluster":
        assert "--role 'Storage Blob Data Contributor' --scope /subscriptions/" in done.stdout
        assert http.call(standin, "GET", "/computes/by-identity").json()["identity"]["type"] == "SystemAssigned"
    else:
        assert not job.get("computeId")
        assert job["resources"]["instanceType"].casefold() == "standard_d4ds_v4"


def test_results_are_fetched_with_the_users_own_identity(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    standin.inject(Fault("no-keys"))
    done = remote("attach", submitted.job, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


REFUSED = {
    "AuthorizationPermissionMismatch": "ask an owner for 'Storage Blob Data Contributor'",
    "KeyBasedAuthenticationNotPermitted": "--system-datastores-auth-mode identity",
    "AuthorizationFailure": "Networking of teststorage",
}


@pytest.mark.parametrize("variant", REFUSED)
def test_a_download_that_the_storage_refuses_names_the_way_in(
    remote: Warm, standin: StandIn, submitted: Submitted, variant: str, tmp_path: Path
) -> None:
    standin.inject(Fault("storage-403", variant=variant, route="GET "))
    done = remote("attach", submitted.job, cwd=tmp_path)
    told, fix = done.stderr.splitlines()
    assert done.returncode == 2
    assert re.match(rf"error: the storage account teststorage refuses to .* \(403 {variant}\)", told), told
    assert REFUSED[variant] in fix
    assert list((tmp_path / "outputs").iterdir()) == []


def test_an_upload_that_the_storage_refuses_names_the_way_in(
    remote: Warm, standin: StandIn, project: Path, failed: str, tmp_path: Path
) -> None:
    standin.inject(Fault("storage-403", route="PUT "))
    (tmp_path / "new.csv").write_text("a,b\n3,4\n")
    done = remote("--yes", "--data", "new.csv", project=project, cwd=tmp_path)
    told, fix = done.stderr.splitlines()
    assert done.returncode == 2
    assert told.startswith("error: the storage account teststorage refuses to send the job (403 "), told
    assert REFUSED["AuthorizationPermissionMismatch"] in fix


def test_a_log_that_the_storage_refuses_does_not_end_the_following(
    remote: Warm, standin: StandIn, project: Path, tmp_path: Path
) -> None:
    standin.inject(Fault("storage-403", route="user_logs"))
    done = remote("--yes", "--debug", project=project, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("the storage account teststorage refuses to read the log (403 ") == 1
    assert "Storage Blob Data Contributor" in done.stdout
    assert "exited with status code 4" in done.stdout
    assert done.stderr == ""


# ---- a job that does not simply run


def test_a_job_without_a_node_is_cancelled_after_the_queue_timeout(
    remote: Warm, standin: StandIn, project: Path, tmp_path: Path
) -> None:
    standin.inject(Fault("no-quota"))
    done = remote("--yes", "--queue-timeout", "1s", project=project, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^no node in \d:\d\d: cancelling the job, as --queue-timeout asks\..*doctor", done.stdout, re.M)
    assert re.search(r"^Queued \(nodes: .*\) \(\d:\d\d\)$", done.stdout, re.MULTILINE), done.stdout
    name = job_name(done.stdout)
    assert done.stdout.splitlines()[-1] == f"job {name} is canceled"
    assert http.job(standin, name)["status"] == "Canceled"


@pytest.mark.parametrize(("kind", "shown"), [("not-responding", "NotResponding"), ("paused", "Paused")])
def test_a_state_that_is_not_the_end_is_shown_and_waited_out(
    remote: Warm, standin: StandIn, project: Path, kind: str, shown: str, tmp_path: Path
) -> None:
    standin.inject(Fault(kind))
    done = remote("--yes", project=project, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"^{shown} \(\d:\d\d\)$", done.stdout, re.MULTILINE), done.stdout
    assert log_lines(done.stdout) == ALL_LINES
    assert "exited with status code 4" in done.stdout


def test_a_job_that_is_not_responding_is_cancelled(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    standin.inject(Fault("not-responding", gate=str(gate)))
    done = remote("--yes", "--detach", project=tiny(tmp_path / "p", gate=gate), cwd=tmp_path)
    name = job_name(done.stdout)
    assert http.wait(standin, name, "NotResponding") == "NotResponding"
    assert remote("cancel", name, cwd=tmp_path).stdout.splitlines()[-1] == f"job {name} is canceled"


def test_a_job_that_the_service_starts_again_is_the_same_job(
    remote: Warm, standin: StandIn, project: Path, tmp_path: Path
) -> None:
    before = len(standin.requests)
    standin.inject(Fault("requeue"))
    done = remote("--yes", project=project, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "exited with status code 4" in done.stdout
    assert len(jobs_sent(standin, before)) == 1


def test_the_end_of_a_failing_image_build_is_shown(
    remote: Warm, standin: StandIn, project: Path, tmp_path: Path
) -> None:
    standin.inject(Fault("build-fails"))
    before = len(standin.requests)
    done = remote("--yes", project=project, cwd=tmp_path)
    assert done.returncode == 1
    assert "failed: Image build failed." in done.stdout
    assert "| ERROR: No matching distribution found for nonexistent-package==0.0.0" in done.stdout
    assert len(jobs_sent(standin, before)) == 1


@pytest.mark.parametrize("where", ["spot", "serverless"])
def test_a_job_whose_node_is_taken_away_again_and_again_is_given_up(
    remote: Warm, standin: StandIn, where: str, tmp_path: Path
) -> None:
    standin.quota(low_priority=100)
    project = tiny(tmp_path / "p", gate=tmp_path / "never")
    standin.inject(Fault("preempt", route=where, times=2, seconds=0.1))
    before = len(standin.requests)
    asked = ("--serverless",) if where == "serverless" else ("--cluster", "spot")
    done = remote("--yes", "--low-priority", *asked, "--resubmit", 1, project=project, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("its node was taken away: sent again, 1 of 1 times") == 1
    assert "PreemptionError" in done.stdout
    sent = jobs_sent(standin, before)
    assert len(sent) == 2
    again = job_name(done.stdout)
    assert http.job(standin, again)["tags"]["resubmission_of"] == next(name for name in sent if name != again)


def test_a_cluster_that_somebody_else_is_creating_is_waited_for(
    remote: Warm, standin: StandIn, project: Path, tmp_path: Path
) -> None:
    standin.inject(Fault("cluster-creating", route="shared"))
    done = remote("--yes", "--detach", "--cluster", "shared", project=project, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    standin.inject(Fault("cluster-creating", route="broken", variant="Failed"))
    failed = remote("--yes", "--detach", "--cluster", "broken", project=project, cwd=tmp_path)
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert re.search(r"the cluster broken .*Failed", failed.stderr)
    assert "--serverless" in failed.stderr


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are found in /proc")
def test_a_node_that_is_lost_ends_the_job_and_registers_nothing(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    before, model, victim = len(standin.requests), "lost", 1
    options = ("--yes", "--timeout", "15m", *together(tmp_path, model, trees=1_000_000))
    client = remote.start(command(*options)[1:], tmp_path)
    client.until("got rank 0")  # XGBoost says so once both have come: into the fit, which would take hours
    name = job_name(client.text)
    keeper = holder(standin.folder.job(name) / f"keeper-{victim}.lock")
    os.kill(int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text()), signal.SIGKILL)
    assert client.wait().returncode == 1, client.text
    log = f"user_logs/std_log_process_{victim}.txt"
    assert re.search(rf"^failed: .* exited with status code -9\. .*'{log}'", client.text, re.MULTILINE), client.text
    assert f"the last lines of {log}:" in client.text
    assert client.text.splitlines()[-1] == f"job {name} is failed"
    assert "Traceback" not in client.text
    assert jobs_sent(standin, before) == [name]
    assert http.run(standin, name)["info"]["status"] == "FAILED"
    query = {"filter": f"name='{model}'"}
    found = http.call(standin, "GET", f"{http.MLFLOW}/model-versions/search", params=query).json()
    assert found.get("model_versions", []) == []
    assert not (tmp_path / "outputs").exists()


# ---- what comes down


@pytest.mark.parametrize("kind", ["truncated-download", "short-download"])
def test_a_download_that_is_cut_short_leaves_nothing(
    remote: Warm, standin: StandIn, submitted: Submitted, kind: str, tmp_path: Path
) -> None:
    standin.inject(Fault(kind, route="*metric.json", times=0))
    done = remote("attach", submitted.job, cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "metric.json" in done.stderr
    assert f"attach {submitted.job}" in done.stderr
    assert list((tmp_path / "outputs").iterdir()) == []


def test_artifacts_that_no_training_run_stores_are_refused(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    standin.inject(Fault("hostile-artifacts"))
    done = remote("--yes", project=tiny(tmp_path / "p", code=0), cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert list((tmp_path / "outputs").iterdir()) == []
    assert not (tmp_path / "x").exists()


def test_a_model_that_the_job_could_not_register_is_registered_by_attach(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    standin.inject(Fault("forbidden", route="POST */model-versions/create"))
    done = remote("--yes", "-P", "model_name=late", "-P", "cv=0", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    name = job_name(done.stdout)
    assert f"its model is stored all the same; to register it: python submit/remote.py attach {name} --register" in (
        done.stdout
    )
    again = remote("attach", name, "--register", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f" models:/late/1, from run {name} (rows 442, data_sha256 " in again.stdout
    standin.inject(Fault("version-without-run-id"))
    standin.inject(Fault("small-pages"))
    found = remote("attach", name, "--register", cwd=tmp_path)
    assert f" models:/late/1, from run {name} (rows 442, data_sha256 " in found.stdout, found.stdout + found.stderr
