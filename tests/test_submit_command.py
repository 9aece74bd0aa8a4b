"""The command line: help, dry run, bad input, interruption; what it imports, and what nobody is to see."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from submit import remote as command_line
from submit import submission
from submit.console import Screen
from submit.workspace import VARIABLES, Workspace
from tests import standin_http as http
from tests.conftest import ROOT, Done
from tests.standin import Fault, StandIn, names
from tests.submitting import Answers, Warm, command, fake_workspace, job_name, refusal, tiny, without_azure

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the SDK's own use of marshmallow

BLOB = "https://acct.blob.core.windows.net/c/b?sv=1&sig=TOPSECRET"
# Of what a submission may need, what a dry run may not wait for
HEAVY = {"azure", "mlflow", "pandas", "numpy", "sklearn", "skops", "scipy", "pyarrow", "requests", "tenacity", "train"}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the command line as a function; no workspace is named."""
    for name in (*VARIABLES, "UV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Done:
        capsys.readouterr()
        code = command_line.main(arguments)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


def imported(*arguments: object, cwd: Path, code: int) -> tuple[set[str], str]:
    """Run the command in a process, and return the modules that it imports, and what it prints."""
    line = [sys.executable, "-X", "importtime", *command(*arguments)[1:]]
    done = subprocess.run(line, cwd=cwd, env=without_azure(), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    times = [one for one in done.stderr.splitlines() if one.startswith("import time:")]
    rest = "\n".join(one for one in done.stderr.splitlines() if not one.startswith("import time:"))
    return {one.rpartition("|")[2].strip() for one in times}, done.stdout + rest


def test_a_dry_run_imports_what_it_needs_and_no_more(tmp_path: Path) -> None:
    modules, said = imported("-P", "alpha=abc", "--dry-run", cwd=tmp_path, code=2)
    assert said == "error: alpha should be a number at least 0, and is 'abc'\n  fix: give alpha=NUMBER"
    assert {name for name in modules if name.partition(".")[0] in ("submit", "trainer")} == {
        "submit.artifacts", "submit.compute", "submit.console", "submit.data", "submit.environment", "submit.errors",
        "submit.follow", "submit.git", "submit.job", "submit.log", "submit.outputs", "submit.own",
        "submit.predictions", "submit.project", "submit.project_environment", "submit.refusals", "submit.registered",
        "submit.rules", "submit.secrets", "submit.service", "submit.signals", "submit.sizes", "submit.sources",
        "submit.staging", "submit.submission", "submit.workspace",
        "trainer", "trainer.errors", "trainer.estimators", "trainer.git", "trainer.readers", "trainer.secrets",
        "trainer.settings", "trainer.signals",
    }  # fmt: skip
    assert HEAVY & {name.partition(".")[0] for name in modules} == set()


def test_help_imports_nothing_heavy_and_names_the_exit_codes(tmp_path: Path) -> None:
    modules, said = imported("--help", cwd=tmp_path, code=0)
    assert "Exit codes: 0 done and verified" in said
    assert (HEAVY | {"rich", "yaml"}) & {name.partition(".")[0] for name in modules} == set()


def test_a_dry_run_is_what_load_job_takes(run: Any, tmp_path: Path) -> None:
    asked = ("-P", "alpha=1e-05", "-P", "target=blood pressure", "--timeout", "90m", "--experiment", "e")
    done = run("--dry-run", *asked)
    assert (done.code, done.err) == (0, "")
    (tmp_path / "cluster.yml").write_text(done.out)
    (tmp_path / "serverless.yml").write_text(
        run("--dry-run", "--serverless", "--low-priority", "--nodes", "2", "-P", "estimator=xgboost", "-P", "cv=0").out
    )
    load = (
        "import json; from azure.ai.ml import load_job; a, b = map(load_job, ('cluster.yml', 'serverless.yml')); "
        "print(json.dumps([a.command, a.compute, a.experiment_name, a.limits.timeout, "
        "{key: one._data for key, one in a.inputs.items() if key != 'data'}, a.inputs['data'].path, "
        "b.compute, b.resources.instance_type, b.resources.instance_count, b.queue_settings.job_tier]))"
    )
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", load], cwd=tmp_path, env=without_azure(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
    text, compute, experiment, timeout, inputs, data, *serverless = yaml.safe_load(loaded.stdout.splitlines()[-1])
    assert text.startswith("python train.py --data")
    assert (compute, experiment, timeout) == ("cpu-cluster", "e", 5400)
    assert (inputs["alpha"], inputs["target"], inputs["test_fraction"]) == ("1e-05", "'blood pressure'", "0.2")
    assert data.endswith(str(ROOT / "data" / "diabetes.csv"))
    assert [serverless[0], *serverless[1:3], serverless[3].casefold()] == [None, "Standard_D4ds_v4", 2, "spot"]


BAD = {
    "unknown parameter": (["-P", "alhpa=1"], r"MLproject has no parameter 'alhpa'; did you mean 'alpha'\?"),
    "unknown entry point": (["-e", "swep"], "the entry point 'swep' is not one that is sent; did you mean 'sweep'"),
    "refused value": (["-P", "alpha=-1"], "alpha should be a number at least 0, and is '-1'"),
    "no such file": (["--data", "nothing.csv"], "there is no file or folder 'nothing.csv'"),
    "a secret": (["--data", f"{BLOB}"], "the address of the data holds a signature"),
    "no duration": (["--timeout", "soon"], "--timeout 'soon' is not a duration"),
    "a duration of nothing": (["--queue-timeout", "0"], "--queue-timeout '0' is not a duration"),
    "no such option": (["--sise", "x"], "No such option '?--sise'?.*--size"),
    "option before a command": (["--yes", "jobs"], "options of a submission cannot go before jobs"),
    "an experiment": (["--experiment", "my experiment (2024)/a"], "cannot be the name of an experiment"),
    "an empty experiment": (["--experiment", ""], "'' cannot be the name of an experiment"),
    "a cluster": (["--cluster", "azureml:cpu-cluster"], "'azureml:cpu-cluster' cannot be the name of a cluster"),
    "a job": (["attach", "a/b"], "'a/b' cannot be the name of a job"),
    "a job to cancel": (["cancel", "../x"], "'../x' cannot be the name of a job"),
    "serverless on a cluster": (["--serverless", "--cluster", "abc"], "--serverless needs no cluster"),
    "nodes": (["--nodes", "2"], "2 processes cannot train together with estimator=ridge"),
    "no workspace": ([], r"no workspace is named: .* have no config\.json"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_in_two_lines_before_anybody_is_asked(run: Any, what: str) -> None:
    arguments, cause = BAD[what]
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    told, fix = done.err.splitlines()
    assert re.match(rf"error: .*{cause}", told), told
    assert fix.startswith("  fix: ")
    assert "TOPSECRET" not in done.err


def test_durations(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(submission, "submit", lambda asked: seen.append(asked) or 0)
    for text in ("90", "90s", "15m", "2h", "1d"):
        assert run("--timeout", text, "--queue-timeout", text).code == 0
    assert [(one.timeout, one.queue_timeout) for one in seen] == [(n, n) for n in (90, 90, 900, 7200, 86400)]
    assert run("--yes").code == 0
    assert (seen[-1].timeout, seen[-1].queue_timeout, seen[-1].ask) == (None, 1800, False)


def test_debug_shows_the_traceback_without_secrets(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: str | None) -> Workspace:
        return fake_workspace().call("reach it", Answers(refusal(400, BLOB, text=f"{BLOB} is refused")))

    monkeypatch.setattr(submission, "open_workspace", refused)
    done = run("jobs", "--debug")
    assert done.code == 2
    assert "Traceback (most recent call last)" in done.err
    assert "error: could not reach it: https://acct" in done.err
    assert "TOPSECRET" not in done.err
    assert "Traceback" not in run("jobs").err


def test_a_bug_shows_its_traceback_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    error = ZeroDivisionError(BLOB)
    command_line._trace(type(error), error, None)
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "TOPSECRET" not in said


@pytest.mark.parametrize("given", [["--dry-run"], ["attach", "x"]])
def test_without_the_projects_packages_it_says_what_to_type(given: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-S", *command(*given)[1:]], cwd=tmp_path, env=without_azure(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    told, fix = done.stderr.splitlines()
    assert told == "error: this Python has no package 'click', which the project needs"
    assert fix == f"  fix: uv run python {ROOT / 'submit' / 'remote.py'} {' '.join(given)}"


def test_a_pipe_and_a_file_are_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    (tmp_path / "売上 m².csv").write_text("a\n1\n")
    environ = without_azure() | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    line = [*command("--dry-run", "-P", "target=prix m² 進行度", "--data", "売上 m².csv")]
    done = subprocess.run(line, cwd=tmp_path, env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load(done.stdout.decode("utf-8"))
    assert (document["inputs"]["target"], document["display_name"]) == ("'prix m² 進行度'", "ridge on 売上 m².csv")
    assert (document["environment_variables"]["PYTHONUTF8"], document["tags"]["project"]) == ("1", "mlflow-trainer")
    for path in (ROOT / "submit").glob("*.py"):
        for call in re.findall(
            r"\b(?:read_text|write_text)\([^()]*(?:\([^()]*\)[^()]*)*\)", path.read_text(encoding="utf-8")
        ):
            assert "encoding=" in call, (path.name, call)


class Terminal:
    """A program on a terminal, with somebody who types."""

    def __init__(self, line: list[str], environ: dict[str, str], cwd: Path) -> None:
        import pty  # not on Windows

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


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux binds a process to a processor")
def test_an_interruption_is_heard_as_soon_as_the_question_is_on_the_screen(tmp_path: Path) -> None:
    asking = (
        "import os\nfrom submit.console import prompt\nfrom trainer.signals import heard\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"  # the two ends take turns, as on a busy machine
        "with heard():\n"
        "    for number in range(100):\n"
        "        try:\n            prompt(f'question {number}?')\n"
        "        except KeyboardInterrupt:\n            print(f'heard {number}!')\n"
    )
    mine = os.sched_getaffinity(0)
    terminal = Terminal([sys.executable, "-c", asking], {"PYTHONPATH": str(ROOT)}, tmp_path)
    os.sched_setaffinity(0, {min(mine)})
    try:
        for number in range(100):
            terminal.until(rf"question {number}\?")
            terminal.type("\x03")
            terminal.until(f"heard {number}!")
    finally:
        os.sched_setaffinity(0, mine)
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.wait()


def test_who_says_no_sends_nothing(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = SimpleNamespace(
        compute=SimpleNamespace(list_sizes=Answers([]), list_usage=Answers([]), get=Answers(refusal(404))),
        environments=SimpleNamespace(get=Answers(refusal(404))),
    )
    monkeypatch.setattr(submission, "open_workspace", lambda _: fake_workspace(client, screen=Screen(terminal=True)))
    monkeypatch.setattr(submission, "can_ask", lambda: True)
    monkeypatch.setattr(submission, "_agreed", lambda: False)
    done = run("--data", str(ROOT / "data" / "diabetes.csv"))
    assert (done.code, done.out.splitlines()[-1]) == (1, "nothing was sent"), done
    assert "environment  mlflow-trainer:" in done.out


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose job waits for a file that never comes."""
    folder = tmp_path_factory.mktemp("endless")
    return tiny(folder, gate=folder / "never")


@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_without_a_terminal_an_interruption_detaches(
    remote: Warm, standin: StandIn, endless: Path, number: int, tmp_path: Path
) -> None:
    client = remote.start(command("--yes", project=endless)[1:], tmp_path)
    client.until(r"\| line 0 of the log")
    os.kill(client.pid, number)
    assert client.wait().returncode == 130
    name = job_name(client.text)
    assert client.text.splitlines()[-1] == (
        f"job {name} goes on. To follow it again: python submit/remote.py attach {name}"
    )
    assert http.job(standin, name)["status"] == "Running"
    done = remote("cancel", name, cwd=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"job {name} is canceled")
    assert http.job(standin, name)["status"] == "Canceled"
    assert f"job {name} had ended already: it is canceled" in remote("cancel", name, cwd=tmp_path).stdout


def test_on_a_terminal_it_asks_before_it_sends_and_when_it_is_interrupted(
    standin: StandIn, endless: Path, tmp_path: Path
) -> None:
    terminal = Terminal(command(project=endless), standin.process_environ(), tmp_path)
    terminal.until(r"Send it\? \[Y/n\]")
    terminal.type("y\n")
    terminal.until(r"\| line 0 of the log")
    terminal.type("\x03")
    terminal.until(r"\[d\]etach .* or \[c\]ancel it\?")
    terminal.type("c\n")
    assert terminal.wait() == 1, terminal.text
    assert http.job(standin, job_name(terminal.plain))["status"] == "Canceled"


def test_what_the_workspace_does_not_have_is_told(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    before = len(standin.requests)
    for given, cause in {
        ("--data", "azureml:nothing:1"): "has no data asset nothing of version 1",
        ("--data", "azureml:nothing@latest"): "has no data asset nothing with the label latest",
        ("--data", "job:nobody/models"): "has no job 'nobody'",
        ("--size", "Standard_D4d_v4"): "is not a size of virtual machines .*'Standard_D4ds_v4'",
        ("attach", "nobody"): "has no job 'nobody'",
        ("cancel", "nobody"): "has no job 'nobody'",
    }.items():
        done = remote(*given, cwd=tmp_path)
        told, fix = done.stderr.splitlines()
        assert done.returncode == 2
        assert re.match(rf"error: .*{cause}", told), told
        assert fix.startswith("  fix: ")
    assert [one for one in standin.requests[before:] if one.method not in ("GET", "HEAD")] == []
    config = f'{{"subscription_id": "{names.SUBSCRIPTION}", "resource_group": "{names.RESOURCE_GROUP}", '
    (tmp_path / "config.json").write_text(config + '"workspace_name": "nobody"}')
    filed = remote(cwd=tmp_path, environ={"AZUREML_WORKSPACE_NAME": ""})
    assert filed.stderr.startswith("error: there is no workspace 'nobody' in resource group 'standin-group'")
    assert f"correct {tmp_path / 'config.json'}" in filed.stderr
    for named, cause in {
        "AZURE_SUBSCRIPTION_ID": "there is no subscription nobody's, or your sign-in does not see it",
        "AZURE_RESOURCE_GROUP": 'there is no resource group "nobody\'s" in subscription',
    }.items():
        elsewhere = remote(cwd=tmp_path, environ={named: "nobody's"})
        assert elsewhere.stderr.startswith(f"error: {cause}"), elsewhere.stderr


@pytest.mark.parametrize(
    ("fault", "cause", "remedy"),
    [
        (Fault("no-identity", times=0), "nobody is signed in to Azure", "run `az login`"),
        (Fault("expired-token", times=0, variant="Tenant"), "signed in to another tenant",
         f"az login --tenant {names.TENANT}"),
        (Fault("forbidden", times=0, variant="PrivateLink"), "outside of the designated private link",
         "closed to public networks"),
        (Fault("429", times=0, seconds=372), "asks to be left alone for 372 s", "try again then"),
    ],
)  # fmt: skip
def test_a_workspace_that_lets_nobody_in_is_told_in_two_lines(
    remote: Warm, standin: StandIn, fault: Fault, cause: str, remedy: str, tmp_path: Path
) -> None:
    standin.inject(fault)
    done = remote("jobs", cwd=tmp_path)
    assert done.returncode == 2
    told, fix = done.stderr.splitlines()
    assert cause in told
    assert remedy in fix


@pytest.mark.parametrize(
    ("route", "what", "remedy"),
    [
        ("GET */workspaces/*", "reach the workspace", "role 'AzureML Data Scientist'"),
        ("PUT */computes/*", "create the cluster", "--serverless"),
        ("PUT */jobs/*", "send the job", "role 'AzureML Data Scientist'"),
    ],
)
def test_no_permission_is_told_in_two_lines(
    remote: Warm, standin: StandIn, route: str, what: str, remedy: str, tmp_path: Path
) -> None:
    standin.inject(Fault("forbidden", route=route, times=0))
    done = remote("--yes", "--detach", "--cluster", f"new-{what.split()[-1]}", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    told, fix = done.stderr.splitlines()
    assert re.match(rf"error: you are not permitted to {what} .*\(403\)", told)
    assert remedy in fix
