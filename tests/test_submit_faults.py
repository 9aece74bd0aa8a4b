"""What goes wrong on the way, one test each, with what the command does about it."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import standin_http as http
from tests.conftest import ROOT, Submitted
from tests.standin import Fault, StandIn
from tests.standin.state import holder
from tests.submitting import Client, Warm, command, job_name, log_lines, tiny, together

ALL_LINES = [f"line {number} of the log" for number in range(10)]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose job writes ten lines and fails."""
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def slow_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose job takes six seconds and fails."""
    return tiny(tmp_path_factory.mktemp("slow"), pause=0.6)


@pytest.fixture(scope="session")
def failed(remote: Warm, standin_session: StandIn, project: Path) -> str:
    """A job that has ended with exit code 4 and ten lines in its log."""
    standin_session.clear_faults()
    done = remote("--yes", project=project, cwd=project)
    assert done.returncode == 1, done.stdout + done.stderr
    return job_name(done.stdout)


def jobs_sent(standin: StandIn, since: int) -> list[str]:
    """Name the jobs that were taken in."""
    sent = [one for one in standin.requests[since:] if one.method == "PUT" and "/jobs/" in one.path]
    return sorted({one.path.rsplit("/", 1)[-1] for one in sent if one.status in (200, 201)})


SENDING = {
    "429": Fault("429", route="PUT */jobs/*", times=4),
    "503": Fault("503", route="GET */computes/*", times=4),
    "html502": Fault("html502", route="GET */environments/*", times=4),
    "reset": Fault("reset", route="PUT */jobs/*", times=3),
    "expired-token": Fault("expired-token", route="PUT */jobs/*", times=1),
}


@pytest.mark.parametrize("what", SENDING)
def test_sending_goes_on_when_the_fault_has_passed(
    remote: Warm, standin: StandIn, project: Path, what: str, failed: str
) -> None:
    standin.inject(SENDING[what])
    before = len(standin.requests)
    data = project / "data" / f"{what.replace(' ', '_')}.csv"
    data.write_text(f"a,b\n{what},1\n")
    done = remote("--yes", "--detach", "--data", data, project=project, cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert standin.faults == []
    assert jobs_sent(standin, before) == [job_name(done.stdout)]
    assert "Traceback" not in done.stderr


FOLLOWING = {
    "429": Fault("429", route="GET */details*", times=4),
    "503": Fault("503", route="GET */details*", times=4),
    "html502": Fault("html502", route="GET */details*", times=4),
    "expired-token": Fault("expired-token", route="GET */details*", times=1),
    "reset in the log": Fault("reset", times=2),
}


@pytest.mark.parametrize("what", FOLLOWING)
def test_following_goes_on_and_shows_every_line_once(
    remote: Warm, standin: StandIn, failed: str, what: str, tmp_path: Path
) -> None:
    standin.inject(FOLLOWING[what])
    done = remote("attach", failed, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert standin.faults == []
    assert log_lines(done.stdout) == ALL_LINES
    assert done.stderr == ""


def test_a_job_that_may_not_be_looked_at_is_told_in_one_line(
    remote: Warm, standin: StandIn, failed: str, tmp_path: Path
) -> None:
    standin.inject(Fault("forbidden", route="GET */details*", times=0))
    done = remote("attach", failed, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: you are not permitted to look at the job {failed} (403)")


def test_a_job_without_quota_is_cancelled_after_the_queue_timeout(
    remote: Warm, standin: StandIn, project: Path, tmp_path: Path
) -> None:
    standin.inject(Fault("no-quota", times=0))
    done = remote("--yes", "--queue-timeout", "2s", project=project, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "! the quota of" in done.stdout
    assert re.search(r"^no node in \d:\d\d: cancelling the job, as --queue-timeout asks\..*doctor", done.stdout, re.M)
    name = job_name(done.stdout)
    assert done.stdout.splitlines()[-1] == f"job {name} is canceled"
    assert http.wait(standin, name) == "Canceled"


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


def test_a_job_that_fails_by_its_own_code_is_shown_and_never_sent_again(
    remote: Warm, standin: StandIn, project: Path, tmp_path: Path
) -> None:
    standin.inject(Fault("job-fails", code=3))
    before = len(standin.requests)
    done = remote("--yes", project=project, cwd=tmp_path)
    assert done.returncode == 1
    assert "exited with status code 3" in done.stdout
    assert done.stdout.splitlines()[-2:] == [
        "| ValueError: this failure was asked for",
        f"job {job_name(done.stdout)} is failed",
    ]
    assert len(jobs_sent(standin, before)) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_job_whose_node_was_taken_away_is_sent_again(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    standin.inject(Fault("preempt", route="spot", seconds=0.5))
    before = len(standin.requests)
    done = remote("--yes", "--low-priority", "--cluster", "spot", "--size", "Standard_F4s_v2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cluster      spot, 0 to 4 nodes of Standard_F4s_v2, low priority, to be created" in done.stdout
    assert "its node was taken away: sent again, 1 of 2 times" in done.stdout
    first, second = jobs_sent(standin, before)
    assert http.job(standin, second)["tags"]["resubmission_of"] == first
    assert (tmp_path / "outputs" / second / "metric.json").is_file()


def test_a_job_whose_node_is_taken_away_again_and_again_is_given_up(
    remote: Warm, standin: StandIn, slow_project: Path, tmp_path: Path
) -> None:
    standin.inject(Fault("preempt", route="spot", seconds=0.5, times=2))
    before = len(standin.requests)
    options = ("--yes", "--low-priority", "--cluster", "spot", "--size", "Standard_F4s_v2", "--resubmit", 1)
    done = remote(*options, project=slow_project, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "PreemptionError" in done.stdout
    assert len(jobs_sent(standin, before)) == 2


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_node_that_is_lost_ends_the_job_and_registers_nothing(
    standin: StandIn, submitted: Submitted, victim: int, tmp_path: Path
) -> None:
    before, model = len(standin.requests), f"lost-{victim}"
    options = ("--yes", "--timeout", "15m", *together(tmp_path, model, trees=1_000_000))
    client = Client(standin, *options, project=ROOT, said=tmp_path / "said.txt")
    client.until("got rank 0")  # XGBoost says so once both have come
    name = job_name(client.text)
    time.sleep(2)  # into the fit
    keeper = holder(standin.folder.job(name) / f"keeper-{victim}.lock")
    os.kill(int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text()), signal.SIGKILL)
    assert client.wait() == 1, client.text
    log = f"user_logs/std_log_process_{victim}.txt"
    assert re.search(rf"^failed: .* exited with status code -9\. .*'{log}'", client.text, re.MULTILINE), client.text
    assert f"the last lines of {log}:" in client.text
    assert client.text.splitlines()[-1] == f"job {name} is failed"
    assert "Traceback" not in client.text
    assert jobs_sent(standin, before) == [name]
    assert http.job(standin, name)["status"] == "Failed"
    assert http.run(standin, name)["info"]["status"] == "FAILED"
    found = http.call(
        standin, "GET", f"{http.MLFLOW}/model-versions/search", params={"filter": f"name='{model}'"}
    ).json()
    assert found.get("model_versions", []) == []
    assert not (tmp_path / "outputs").exists()


def test_a_slow_upload_is_waited_for(remote: Warm, standin: StandIn, project: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("a,b\n1,2\n")
    standin.inject(Fault("slow-upload", seconds=3.0))
    done = remote("--yes", "--detach", "--data", "new.csv", project=project, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert standin.faults == []


@pytest.mark.parametrize("kind", ["truncated-download", "short-download"])
def test_a_download_that_is_cut_short_leaves_nothing(
    remote: Warm, standin: StandIn, submitted: Submitted, kind: str, tmp_path: Path
) -> None:
    standin.inject(Fault(kind, route="*model_card.md", times=0))
    done = remote("attach", submitted.job, cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "model_card.md" in done.stderr
    assert f"attach {submitted.job}" in done.stderr
    assert list((tmp_path / "outputs").iterdir()) == []


def test_a_download_that_is_cut_short_once_is_read_again(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    standin.inject(Fault("short-download", route="*model_card.md"))
    done = remote("attach", submitted.job, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    card = tmp_path / "outputs" / submitted.job / "model_card.md"
    assert card.read_bytes() == (submitted.outputs / "model_card.md").read_bytes()


def test_the_workspace_may_go_away_and_come_back(standin: StandIn, slow_project: Path, tmp_path: Path) -> None:
    client = Client(standin, "--yes", project=slow_project, said=tmp_path / "said.txt")
    client.until(r"\| line 1 of the log")
    standin.stop()
    try:
        client.until(r"no answer from the service; trying again")
    finally:
        standin.start()
    assert client.wait() == 1, client.text
    assert log_lines(client.text) == ALL_LINES


def test_a_client_that_was_killed_is_replaced_by_attach(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    gate, before = tmp_path / "gate", len(standin.requests)
    client = Client(standin, "--yes", project=tiny(tmp_path / "gated", gate=gate), said=tmp_path / "said.txt")
    client.until(r"\| line 0 of the log")
    client.process.kill()
    client.wait()
    name = job_name(client.text)
    assert http.job(standin, name)["status"] == "Running"
    gate.touch()
    done = remote("attach", name, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert log_lines(done.stdout) == ALL_LINES
    assert jobs_sent(standin, before) == [name]


def test_two_people_submit_to_an_empty_workspace_at_once(standin: StandIn, tmp_path: Path) -> None:
    project = tiny(tmp_path / "project", code=0)
    environment = project / "submit" / "environment.yml"
    environment.write_text(environment.read_text().replace("name: mlflow-trainer", "name: both"))
    (project / "data" / "diabetes.csv").write_text("a,b\n1,2\n")
    options = ("--yes", "--detach", "--cluster", "both")
    line = command(*options, project=project)
    clients = [
        subprocess.Popen(
            line, env=standin.process_environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(2)
    ]
    said = [client.communicate(timeout=240)[0] for client in clients]
    assert [client.returncode for client in clients] == [0, 0], said
    assert [http.wait(standin, job_name(text)) for text in said] == ["Completed", "Completed"]


def test_a_model_that_the_job_could_not_register_is_registered_by_attach(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    standin.inject(Fault("forbidden", route="POST */model-versions/create"))
    done = remote("--yes", "-P", "model_name=late", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    name = job_name(done.stdout)
    assert f"its model is stored all the same; to register it: python submit/remote.py attach {name} --register" in (
        done.stdout
    )
    again = remote("attach", name, "--register", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f" models:/late/1, from run {name} (rows 442, data_sha256 " in again.stdout
