"""MLflow's project backend `aml`: its configuration, what it gives MLflow, and one run on the stand-in."""

import os
import signal
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from mlflow.exceptions import ExecutionException

from submit import backend, follow, submission
from submit.backend import AmlRun, Backend, Config, Detached, read_config
from submit.console import Screen
from submit.errors import Interrupted, UserError
from tests import standin_http as http
from tests.conftest import ROOT, SECRET
from tests.standin import Fault, StandIn
from tests.submitting import TINY, Warm, fake_workspace, job_name

# of the SDK's own use of marshmallow
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RUN = """
import sys
import click
from submit.backend import Backend
import mlflow.projects.backend.loader as loader
loader.MLFLOW_BACKENDS["aml"] = Backend
from mlflow.cli import cli
cli(["run", *sys.argv[1:], "-b", "aml"])
"""
SCRIPT = """
import sys, mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("rows", len(open(sys.argv[1]).readlines()))
    done = mlflow.projects.run(".", "step", parameters={"x": 2.5}, env_manager="local")
    parent = mlflow.MlflowClient().get_run(done.run_id).data.tags["mlflow.parentRunId"]
    print("nested in", parent)
"""
STEP = """
import sys, mlflow
with mlflow.start_run():
    mlflow.log_metric("x", float(sys.argv[1]))
"""
MLPROJECT = """
name: nested
python_env: python_env.yaml
entry_points:
  main: {parameters: {table: path}, command: "python main.py {table}"}
  step: {parameters: {x: float}, command: "python step.py {x}"}
"""


def test_the_configuration_has_the_words_of_the_options() -> None:
    mlflows = {"ENV_MANAGER": None, "SYNCHRONOUS": False, "DOCKER_ARGS": {}, "build_image": False}
    given = {"queue-timeout": "10m", "timeout": 90, "serverless": True, "nodes": 2, "image": "a/b", **mlflows}
    assert read_config(given) == Config(queue_timeout=600, timeout=90, serverless=True, nodes=2, image="a/b")
    assert read_config({}) == Config()


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ({"custer": "x"}, "the backend config has a key 'custer', which is none of aml's; did you mean 'cluster'?"),
        ({"nodes": "two"}, 'nodes of the backend config is "two"'),
        ({"nodes": True}, "nodes of the backend config is true"),
        ({"nodes": 0}, "nodes of the backend config is 0"),
        ({"detach": "yes"}, 'detach of the backend config is "yes"'),
        ({"timeout": "soon"}, "timeout 'soon' is not a duration"),
        ({"on_interrupt": "x"}, "on_interrupt of the backend config is 'x'"),
    ],
)
def test_a_configuration_that_cannot_be_is_told(given: dict[str, Any], cause: str) -> None:
    with pytest.raises(UserError) as caught:
        read_config(given)
    assert caught.value.cause == cause


def run_of(monkeypatch: pytest.MonkeyPatch, code: Any, status: str = "Completed") -> AmlRun:
    def finish(_: Any) -> int:
        if isinstance(code, BaseException):
            raise code
        return int(code)

    monkeypatch.setattr(submission, "finish", finish)
    monkeypatch.setattr(follow, "look", lambda *_: SimpleNamespace(status=status))
    return AmlRun(SimpleNamespace(name="wine-1", workspace=fake_workspace()))  # type: ignore[arg-type]


def test_mlflow_is_told_how_a_job_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_of(monkeypatch, 0).wait() is True
    assert run_of(monkeypatch, 1).wait() is False
    assert run_of(monkeypatch, 0).run_id == "wine-1"
    with pytest.raises(Detached, match="the job wine-1 goes on; python submit"):
        run_of(monkeypatch, 130).wait()  # else MLflow would end its run
    with pytest.raises(ExecutionException, match=r"cause \(remedy\)"):
        run_of(monkeypatch, UserError("cause", "remedy")).wait()
    for status, said in {"Queued": "SCHEDULED", "Running": "RUNNING", "Completed": "FINISHED", "Failed": "FAILED",
                         "Canceled": "KILLED"}.items():  # fmt: skip
        assert run_of(monkeypatch, 0, status).get_status() == said
    cancelled: list[str] = []
    monkeypatch.setattr(follow, "cancel", lambda _, name: cancelled.append(name))
    run_of(monkeypatch, 0).cancel()
    assert cancelled == ["wine-1"]


def call(config: dict[str, Any], where: str = "/nowhere") -> AmlRun:
    return Backend().run(where, "main", {}, None, config, "sqlite://", "0")


def test_what_cannot_be_sent_is_two_lines_for_a_person_and_an_exception_for_a_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExecutionException, match="the backend config has a key 'x'"):
        call({"x": 1})
    with click.Context(click.Command("run")), pytest.raises(SystemExit) as ended:
        call({"x": 1})
    assert ended.value.code == 2
    told, fix = capsys.readouterr().err.splitlines()
    assert told.startswith("error: the backend config has a key 'x'")
    assert fix.startswith("  fix: ")


@pytest.mark.parametrize(
    ("on_command_line", "config", "follows"),
    [(True, {}, True), (True, {"detach": True}, False), (False, {"SYNCHRONOUS": False}, False),
     (False, {"SYNCHRONOUS": True}, False)],
)  # fmt: skip
def test_the_command_line_follows_and_a_program_waits_itself(
    on_command_line: bool, config: dict[str, Any], follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(monkeypatch, 0)
    monkeypatch.setattr(backend, "_send", lambda *_: run)
    if on_command_line:
        with click.Context(click.Command("run")):
            assert call(config) is run
    else:
        assert call(config) is run
    assert (run._code is not None) == follows


@pytest.mark.parametrize("code", [1, 2, 3, 130])
def test_the_command_line_ends_with_the_exit_code_of_the_job(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(monkeypatch, code)
    monkeypatch.setattr(backend, "_send", lambda *_: run)
    with click.Context(click.Command("run")), pytest.raises(SystemExit) as ended:
        call({})
    assert ended.value.code == code


@pytest.mark.parametrize(("typed", "code", "cancelled"), [("c", 1, ["wine-1"]), ("d", 130, [])])
def test_on_a_terminal_an_interruption_asks_what_remote_py_asks(
    typed: str, code: int, cancelled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ended: list[str] = []

    def cancel(_: Any, name: str) -> tuple[follow.Ending, bool]:
        ended.append(name)
        return follow.Ending("Canceled"), False

    def stopped(*_: Any) -> None:
        raise Interrupted(signal.SIGINT)

    monkeypatch.setattr(follow, "_follow", stopped)
    monkeypatch.setattr(follow, "can_ask", lambda: True)
    monkeypatch.setattr(follow, "prompt", lambda question: asked.append(question) or typed)
    monkeypatch.setattr(follow, "cancel", cancel)
    sent = SimpleNamespace(
        name="wine-1", workspace=fake_workspace(screen=Screen(terminal=True)), ending=None, price=None,
        submission=SimpleNamespace(queue_timeout=9, on_interrupt="ask", resubmit=2, output_dir=Path("x"),
                                   work=SimpleNamespace(home=None)),
    )  # fmt: skip
    monkeypatch.setattr(backend, "_send", lambda *_: AmlRun(sent))  # type: ignore[arg-type]
    with click.Context(click.Command("run")), pytest.raises(SystemExit) as left:
        call({})
    assert (left.value.code, ended) == (code, cancelled)
    assert asked == ["[d]etach (job wine-1 goes on, and costs) or [c]ancel it? "]


def test_the_entry_point_names_the_backend() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert document["project"]["entry-points"]["mlflow.project_backend"] == {"aml": "mlflow_aml.backend:Backend"}
    import mlflow_aml

    assert [Path(one) for one in mlflow_aml.__path__] == [ROOT / "submit"]


FAILS = """
name: fails
entry_points:
  main: {parameters: {gate: string}, command: "python main.py {gate}"}
"""


@pytest.fixture
def runs(tmp_path: Path) -> Callable[[str], list[str]]:
    """A project whose job writes ten lines, the second half once a file is there, and fails; how a script runs it."""
    folder = tmp_path / "fails"
    folder.mkdir()
    (folder / "MLproject").write_text(FAILS)
    (folder / "main.py").write_text(TINY.replace("CODE", "4").replace("GATE", "sys.argv[1]"))

    def line(script: str) -> list[str]:
        path = tmp_path / "run.py"
        path.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{script}")
        return [str(path), str(folder), "-P", f"gate={tmp_path / 'gate'}"]

    return line


def test_an_interruption_detaches_and_attach_shows_how_the_code_has_failed(
    remote: Warm, standin: StandIn, runs: Callable[[str], list[str]], tmp_path: Path
) -> None:
    client = remote.start(runs(RUN), tmp_path)
    client.until(r"\| line 4 of the log")
    os.kill(client.pid, signal.SIGINT)
    assert client.wait().returncode == 130
    name = job_name(client.text, "fails")
    assert client.text.splitlines()[-1] == (
        f"job {name} goes on. To follow it again: python submit/remote.py attach {name}"
    )
    assert http.run(standin, name)["info"]["status"] == "RUNNING"
    (tmp_path / "gate").touch()
    done = remote("attach", name, cwd=tmp_path)
    assert done.returncode == 1
    assert "exited with status code 4" in done.stdout
    assert done.stdout.splitlines()[-1] == f"job {name} is failed"
    assert "| line 9 of the log" in done.stdout.split("the last lines of ")[1]
    assert http.run(standin, name)["info"]["status"] == "FAILED"


def test_the_end_of_a_failing_image_build_is_shown(
    remote: Warm, standin: StandIn, runs: Callable[[str], list[str]], tmp_path: Path
) -> None:
    standin.inject(Fault("build-fails"))
    client = remote.start(runs(RUN), tmp_path)
    assert client.wait().returncode == 1
    assert "failed: Image build failed." in client.text
    assert "| ERROR: No matching distribution found for nonexistent-package==0.0.0" in client.text
    assert http.run(standin, job_name(client.text, "fails"))["info"]["status"] == "FAILED"


PROGRAM = """
import mlflow
from submit.backend import Backend
import mlflow.projects.backend.loader as loader
loader.MLFLOW_BACKENDS["aml"] = Backend
given = dict([sys.argv[3].split("=")])
run = mlflow.projects.run(sys.argv[1], parameters=given, backend="aml", synchronous=False)
first = run.get_status()
run.cancel()
print("told", run.run_id, first in ("SCHEDULED", "RUNNING"), run.get_status(), run.wait())
"""


def test_a_program_gets_a_run_that_it_can_look_at_and_cancel(
    remote: Warm, standin: StandIn, runs: Callable[[str], list[str]], tmp_path: Path
) -> None:
    client = remote.start(runs(PROGRAM), tmp_path)
    done = client.wait()
    assert done.returncode == 0, done.stdout + done.stderr
    name = job_name(client.text, "fails")
    assert f"told {name} True KILLED False" in client.text
    assert http.job(standin, name)["status"] == "Canceled"


@pytest.mark.usefixtures("submitted")  # which finds a workspace with nothing in it
def test_mlflow_run_sends_follows_and_fetches(standin: StandIn, tmp_path: Path) -> None:
    folder = tmp_path / "nested"
    folder.mkdir()
    for name, text in {"MLproject": MLPROJECT, "main.py": SCRIPT, "step.py": STEP, "t.csv": "a\n1\n2\n",
                       "python_env.yaml": "dependencies: [mlflow]\n"}.items():  # fmt: skip
        (folder / name).write_text(text)
    (tmp_path / "run.py").write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{RUN}")
    line = [sys.executable, "-W", "ignore", str(tmp_path / "run.py"), str(folder), "-P", "table=t.csv"]
    done = standin.run(line, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    name = next(text.split()[1] for text in done.stdout.splitlines() if text.startswith("job "))
    assert f"| nested in {name}" in done.stdout
    assert "added: azureml-mlflow" in done.stdout
    assert "verified  no: its project records nothing to score again" in done.stdout
    assert "rows      3.0" in done.stdout
    assert (tmp_path / "outputs" / name / "user_logs" / "std_log.txt").is_file()
    assert not SECRET.search(done.stdout + done.stderr)
    run = http.run(standin, name)
    assert run["info"]["status"] == "FINISHED"
    assert {one["key"]: one["value"] for one in run["data"]["params"]} == {"table": "t.csv"}
    tags = {one["key"]: one["value"] for one in run["data"]["tags"]}
    assert (tags["mlflow.project.backend"], tags["mlflow.project.entryPoint"]) == ("aml", "main")
