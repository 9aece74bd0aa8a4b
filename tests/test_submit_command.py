"""The command line: help, dry run, bad input, interruption."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests import standin_http as http
from tests.conftest import ROOT
from tests.standin import Fault, StandIn, names
from tests.submitting import Client, Warm, command, job_name, tiny, without_azure


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command("--help")[1:]],
        cwd=tmp_path, env=without_azure(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Exit codes: 0 done and proved" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported
    heavy = {"azure", "mlflow", "pandas", "numpy", "sklearn", "rich", "requests"}
    assert heavy & {name.partition(".")[0] for name in imported} == set()


def test_a_dry_run_needs_nothing_and_prints_what_load_job_takes(tmp_path: Path) -> None:
    asked = ("--dry-run", "-P", "alpha=1e-05", "-P", "target=blood pressure", "--timeout", "90m", "--experiment", "e")
    done = subprocess.run(
        command(*asked), cwd=tmp_path, env=without_azure(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "job.yml").write_text(done.stdout)
    load = (
        "import json; from azure.ai.ml import load_job; job = load_job('job.yml'); "
        "print(json.dumps([job.command, job.compute, job.experiment_name, job.limits.timeout, "
        "{key: one._data for key, one in job.inputs.items() if key != 'data'}, job.inputs['data'].path]))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", load], cwd=tmp_path, env=without_azure(), capture_output=True, text=True, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    text, compute, experiment, timeout, inputs, data = yaml.safe_load(loaded.stdout.splitlines()[-1])
    assert text.startswith("python train.py --data")
    assert (compute, experiment, timeout) == ("cpu-cluster", "e", 5400)
    assert (inputs["alpha"], inputs["target"], inputs["test_fraction"]) == ("1e-05", "'blood pressure'", "0.2")
    assert data.endswith(str(ROOT / "data" / "diabetes.csv"))


BAD = {
    "unknown parameter": (["-P", "alhpa=1"], r"MLproject has no parameter 'alhpa'; did you mean 'alpha'\?"),
    "refused value": (["-P", "alpha=-1"], "alpha should be a number at least 0, and is '-1'"),
    "no such file": (["--data", "nothing.csv"], "there is no file or folder 'nothing.csv'"),
    "no such asset": (["--data", "azureml:nothing:1"], "has no data asset nothing of version 1"),
    "no such size": (["--size", "Standard_D4ad_v5"], "is not a size of virtual machines .*'Standard_D4ads_v5'"),
    "no duration": (["--timeout", "soon"], "--timeout 'soon' is not a duration"),
    "no such option": (["--sise", "x"], "No such option '?--sise'?.*--size"),
    "option before a command": (["--yes", "jobs"], "options of a submission cannot go before jobs"),
    "no such job": (["attach", "nobody"], "has no job 'nobody'"),
    "nothing to cancel": (["cancel", "nobody"], "has no job 'nobody'"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_in_two_lines_before_anything_is_sent(
    remote: Warm, standin: StandIn, what: str, tmp_path: Path
) -> None:
    arguments, cause = BAD[what]
    before = len(standin.requests)
    done = remote(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    told, fix = done.stderr.splitlines()
    assert re.match(rf"error: .*{cause}", told), told
    assert fix.startswith("  fix: ")
    assert [one for one in standin.requests[before:] if one.method != "GET"] == []


def test_no_config_and_a_workspace_that_does_not_exist(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    none = remote(cwd=tmp_path, environ={"AZUREML_WORKSPACE_NAME": ""})
    assert none.returncode == 2
    assert re.match(r"error: no workspace is named: .* have no config\.json", none.stderr)
    assert "set AZUREML_WORKSPACE_NAME" in none.stderr
    other = remote(cwd=tmp_path, environ={"AZUREML_WORKSPACE_NAME": "another"})
    assert other.returncode == 2
    assert other.stderr.startswith("error: there is no workspace 'another' in resource group 'standin-group'")
    config = f'{{"subscription_id": "{names.SUBSCRIPTION}", "resource_group": "{names.RESOURCE_GROUP}", '
    (tmp_path / "config.json").write_text(config + '"workspace_name": "nobody"}')
    filed = remote(cwd=tmp_path, environ={"AZUREML_WORKSPACE_NAME": ""})
    assert "there is no workspace 'nobody'" in filed.stderr
    assert f"correct {tmp_path / 'config.json'}" in filed.stderr


def test_nobody_is_signed_in(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    standin.inject(Fault("no-identity", times=0))
    began = time.monotonic()
    done = remote(cwd=tmp_path)
    assert done.returncode == 2
    assert "nobody is signed in to Azure" in done.stderr
    assert "run `az login`" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("route", "what"),
    [("GET */workspaces/*", "reach the workspace"), ("PUT */computes/*", "create the cluster"),
     ("PUT */jobs/*", "send the job")],
)  # fmt: skip
def test_no_permission_is_told_in_two_lines(
    remote: Warm, standin: StandIn, route: str, what: str, tmp_path: Path
) -> None:
    standin.inject(Fault("forbidden", route=route, times=0))
    done = remote("--yes", "--detach", "--cluster", f"new-{what.split()[-1]}", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    told, fix = done.stderr.splitlines()
    assert re.match(rf"error: you are not permitted to {what} .*\(403\)", told)
    assert "role 'AzureML Data Scientist'" in fix


def test_debug_shows_the_traceback(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    done = remote("--debug", "-P", "alhpa=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-2].startswith("error: MLproject has no parameter")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose job takes longer than a test."""
    return tiny(tmp_path_factory.mktemp("endless"), pause=30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_an_interruption_detaches(
    remote: Warm, standin: StandIn, endless: Path, number: int, tmp_path: Path
) -> None:
    client = Client(standin, "--yes", project=endless, said=tmp_path / "said.txt")
    client.until(r"\| line 0 of the log")
    client.process.send_signal(number)
    assert client.wait() == 130
    name = job_name(client.text)
    assert client.text.splitlines()[-1] == (
        f"job {name} goes on. To follow it again: python submit/remote.py attach {name}"
    )
    assert http.job(standin, name)["status"] == "Running"
    done = remote("cancel", name, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == f"job {name} is canceled"
    assert http.job(standin, name)["status"] == "Canceled"
    assert "had ended already" in remote("cancel", name, cwd=tmp_path).stdout


def test_an_interruption_cancels_where_it_was_told_to(standin: StandIn, endless: Path, tmp_path: Path) -> None:
    client = Client(standin, "--yes", "--on-interrupt", "cancel", project=endless, said=tmp_path / "said.txt")
    client.until(r"Running")
    client.process.terminate()
    assert client.wait() == 1
    assert http.job(standin, job_name(client.text))["status"] == "Canceled"


class Terminal:
    """A program on a terminal, with somebody who types."""

    def __init__(self, line: list[str], environ: dict[str, str], cwd: Path) -> None:
        self.text = ""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(line[0], line, environ | {"TERM": "xterm", "COLUMNS": "200"})

    @property
    def plain(self) -> str:
        """The text without what moves the cursor and colours it."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", self.text)

    def until(self, pattern: str, seconds: float = 240) -> None:
        """Read until something is on the screen."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, self.text
            if select.select([self.descriptor], [], [], 0.2)[0]:
                self.text += os.read(self.descriptor, 65536).decode(errors="replace")

    def type(self, text: str) -> None:
        """Type."""
        os.write(self.descriptor, text.encode())

    def wait(self, seconds: float = 240) -> int:
        """Read the rest, and return the exit code."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self.descriptor], [], [], 0.2)[0]:
                try:
                    data = os.read(self.descriptor, 65536)
                except OSError:  # nobody holds the other end any more
                    break
                self.text += data.decode(errors="replace")
        else:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def on_terminal(standin: StandIn, *arguments: object, project: Path, cwd: Path) -> Terminal:
    """Start `submit/remote.py` on a terminal."""
    return Terminal(command(*arguments, project=project), standin.process_environ(), cwd)


def test_on_a_terminal_it_asks_before_it_sends_and_when_it_is_interrupted(
    standin: StandIn, endless: Path, tmp_path: Path
) -> None:
    terminal = on_terminal(standin, project=endless, cwd=tmp_path)
    terminal.until(r"Send it\? \[Y/n\]")
    terminal.type("y\n")
    terminal.until(r"\| line 0 of the log")
    terminal.type("\x03")
    terminal.until(r"\[d\]etach .* or \[c\]ancel it\?")
    terminal.type("c\n")
    assert terminal.wait() == 1, terminal.text
    name = job_name(terminal.plain)
    assert http.job(standin, name)["status"] == "Canceled"


def test_an_interruption_is_heard_as_soon_as_the_question_is_on_the_screen(tmp_path: Path) -> None:
    asking = (
        "import os\nfrom submit.follow import interruptible\nfrom submit.screen import typed\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"  # the two ends take turns, as on a busy machine
        "with interruptible():\n"
        "    for number in range(300):\n"
        "        try:\n            typed(f'question {number}?')\n"
        "        except KeyboardInterrupt:\n            print(f'heard {number}!')\n"
    )
    mine = os.sched_getaffinity(0)
    terminal = Terminal([sys.executable, "-c", asking], {"PYTHONPATH": str(ROOT)}, tmp_path)
    os.sched_setaffinity(0, {min(mine)})
    try:
        for number in range(300):
            terminal.until(rf"question {number}\?")
            terminal.type("\x03")
            terminal.until(f"heard {number}!", seconds=60)
    finally:
        os.sched_setaffinity(0, mine)
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.wait()


def test_a_second_interruption_detaches_and_no_is_no(
    remote: Warm, standin: StandIn, endless: Path, tmp_path: Path
) -> None:
    terminal = on_terminal(standin, "--yes", project=endless, cwd=tmp_path)
    terminal.until(r"\| line 0 of the log")
    terminal.type("\x03")
    terminal.until(r"\[c\]ancel it\?")
    terminal.type("\x03")
    assert terminal.wait() == 130, terminal.text
    name = job_name(terminal.plain)
    assert f"attach {name}" in terminal.text
    assert http.job(standin, name)["status"] == "Running"
    assert remote("cancel", name, cwd=tmp_path).returncode == 0

    before = len(standin.requests)
    terminal = on_terminal(standin, project=endless, cwd=tmp_path)
    terminal.until(r"Send it\? \[Y/n\]")
    terminal.type("n\n")
    assert terminal.wait() == 1
    assert "nothing was sent" in terminal.text
    assert [one for one in standin.requests[before:] if one.method == "PUT"] == []
