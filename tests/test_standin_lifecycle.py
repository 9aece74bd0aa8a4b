"""Start, stop, start again, two at once; and whatever happens, nothing remains."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import standin_http as http
from tests.standin import Fault, StandIn, names
from tests.standin import __main__ as command_line
from tests.standin.identity import Tokens
from tests.test_standin_environments import conda, put

ROOT = Path(__file__).parents[1]


def alive(state: Path) -> list[str]:
    """Return the processes that have a state folder in their command line or their environment."""
    found = []
    mark = os.fsencode(str(state))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environ = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if int(folder.name) != os.getpid() and (mark in command or mark in environ):
            found.append(f"{folder.name}: {command.decode(errors='replace')[:200]}")
    return found


def gone(state: Path, seconds: float = 240) -> bool:
    """Wait until nothing has to do with a state folder."""
    until = time.monotonic() + seconds
    while alive(state):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End a process with the block, whatever happens in it."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


PROC = Path("/proc/self/environ").exists()
needs_proc = pytest.mark.skipif(not PROC, reason="processes are found in /proc")


SUBMIT = """
import sys, time
from tests import standin_http as http
from tests.standin import StandIn

workspace = StandIn.attach(sys.argv[1])
http.submit(workspace, "stubborn", "trap '' TERM; (sleep 600; true) & sleep 600; sleep 600").raise_for_status()
http.wait(workspace, "stubborn", "Running")
print("running", flush=True)
time.sleep(600)
"""


def served(state: Path, *command: str) -> subprocess.Popen[str]:
    """Start the command line with a state folder, in a group of its own."""
    line = [sys.executable, "-m", "tests.standin", "--state", str(state)]
    return subprocess.Popen(
        [*line, *(["--", *command] if command else [])],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a stand-in that was killed, with all that belonged to it, while it ran a command and a job."""
    state = tmp_path_factory.mktemp("other")
    with ending(served(state, sys.executable, "-c", SUBMIT, str(state))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        assert not PROC or len(alive(state)) >= 5
        process.kill()
        assert process.wait(240) == -signal.SIGKILL
        os.killpg(process.pid, signal.SIGKILL)  # the command is its own master
    assert not PROC or gone(state), alive(state)
    return state


@pytest.fixture(scope="module")
def other(killed: Path) -> Iterator[StandIn]:
    """A workspace of these tests alone, which they break: without aliases, and with environments that are built."""
    with StandIn(killed, aliases=False, build_env=True) as workspace:
        yield workspace
    assert not PROC or gone(workspace.folder.root), alive(workspace.folder.root)


def test_the_job_of_a_stand_in_that_was_killed_has_failed(other: StandIn) -> None:
    assert http.wait(other, "stubborn") == "Failed"
    assert "is gone" in http.details(other, "stubborn")["error"]["error"]["message"]


def test_a_token_of_another_stand_in_opens_nothing(other: StandIn) -> None:
    foreign, _ = Tokens(b"the secret of another stand-in, as long as this").issue(http.MANAGEMENT)
    assert http.call(other, "GET", "/jobs", bearer=foreign).status_code == 401
    assert http.call(other, "GET", "/jobs").status_code == 200


def test_an_unknown_route_is_refused_and_noted(other: StandIn) -> None:
    answer = http.call(other, "GET", "/schedules")
    assert answer.status_code == 501
    assert other.unknown_routes[-1] == f"GET {names.SCOPE}/schedules (unknown route)"
    http.call(other, "GET", "/jobs", params={"api-version": "2099-01-01"})
    assert "2099-01-01" in other.unknown_routes[-1]
    http.call(other, "GET", f"{http.MLFLOW}/prompts/search")
    assert "prompts/search" in other.unknown_routes[-1]


@pytest.mark.parametrize("url", ["https://management.azure.com/", "http://example.com/x"])
def test_another_host_is_refused_and_noted(other: StandIn, url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = dict.fromkeys(("http", "https"), other.environ["HTTPS_PROXY"])
        if url.startswith("https"):
            with pytest.raises(requests.exceptions.ProxyError):
                session.get(url, timeout=30)
        else:
            assert session.get(url, timeout=30).status_code == 403
    assert other.refused_hosts[-1] == url.split("/")[2]


def test_aliases_may_be_missing(other: StandIn) -> None:
    call = f"{http.MLFLOW}/registered-models"
    assert http.call(other, "POST", f"{call}/create", json={"name": "m"}).status_code == 200
    body = {"name": "m", "alias": "champion", "version": "1"}
    answer = http.call(other, "POST", f"{call}/alias", json=body)
    assert (answer.status_code, answer.text) == (404, "")
    assert http.call(other, "GET", f"{call}/alias", params={"name": "m", "alias": "champion"}).status_code == 404
    tag = {"name": "m", "key": "k", "value": "v"}
    assert http.call(other, "POST", f"{call}/set-tag", json=tag).status_code == 200


def wheel(folder: Path) -> Path:
    """Write a package that is nowhere but here, so that nothing is downloaded."""
    path = folder / "standin_probe-1.0-py3-none-any.whl"
    about = "standin_probe-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("standin_probe.py", "WORD = 'built'\n")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: standin-probe\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return path


def test_a_job_runs_in_the_environment_that_it_names(other: StandIn, tmp_path: Path) -> None:
    requirement = f"standin-probe @ {wheel(tmp_path).as_uri()}"
    assert put(other, "probe", "1", conda(requirement)) == 201
    environment = f"{names.SCOPE}/environments/probe/versions/1"
    show = "import standin_probe, sys; print(standin_probe.WORD, sys.prefix)"
    command = f'python -c "{show}"; python -c "import numpy"'
    logs = []
    for name in ("built", "built-again"):
        http.submit(other, name, command, environmentId=environment).raise_for_status()
        assert http.wait(other, name) == "Failed", "there is nothing else in it"
        word, prefix = http.log(other, name).splitlines()[0].split()
        assert word == "built"
        assert Path(prefix).parent == other.folder.root / "environments"
        assert "No module named 'numpy'" in http.log(other, name)
        logs.append(set(http.details(other, name)["logFiles"]))
    assert "azureml-logs/20_image_build_log.txt" in logs[0]
    assert "azureml-logs/20_image_build_log.txt" not in logs[1], "it is built once"
    assert "standin-probe" in http.log(other, "built", "azureml-logs/20_image_build_log.txt")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("absent", conda("standin-probe @ file:///nowhere/standin_probe-1.0-py3-none-any.whl"), "nowhere"),
        ("condas", json.dumps({"dependencies": ["python=3.11", "cudatoolkit=11"]}), "cudatoolkit"),
    ],
)
def test_a_build_that_fails_fails_the_job(other: StandIn, name: str, text: str, said: str) -> None:
    assert put(other, name, "1", text) == 201
    environment = f"{names.SCOPE}/environments/{name}/versions/1"
    http.submit(other, name, "true", environmentId=environment).raise_for_status()
    assert http.wait(other, name) == "Failed"
    assert "Image build failed" in http.details(other, name)["error"]["error"]["message"]
    assert said in http.log(other, name, "azureml-logs/20_image_build_log.txt")


STEADY = """
import sys, time
from pathlib import Path
print("begun", flush=True)
while not Path(sys.argv[1]).exists():
    time.sleep(0.05)
print("survived", flush=True)
"""


@needs_proc
def test_an_outage_ends_servers_and_not_jobs_and_clients_find_it_again(other: StandIn, tmp_path: Path) -> None:
    http.cluster(other, "kept")
    go = tmp_path / "go"
    identifier = http.code(other, "steady", {"steady.py": STEADY.encode()})
    http.submit(other, "steady", f"python steady.py {go}", codeId=identifier, compute="kept").raise_for_status()
    http.wait(other, "steady", "Running")
    address, before = other.environ["HTTPS_PROXY"], other.requests
    assert other._process is not None
    other._process.kill()  # as harsh as it can be; `stop` is the gentle way
    other._process.wait()
    until = time.monotonic() + 240
    while [line for line in alive(other.folder.root) if "azurite" in line or "mlflow_server" in line]:
        assert time.monotonic() < until
        time.sleep(0.1)
    other.stop()
    with pytest.raises(requests.RequestException):
        http.call(other, "GET", "/jobs/steady")
    other.start()
    assert other.environ["HTTPS_PROXY"] == address
    assert other.requests[: len(before)] == before
    assert http.job(other, "steady")["status"] == "Running"
    go.touch()
    assert http.wait(other, "steady") == "Completed"
    assert http.log(other, "steady") == "begun\nsurvived\n"
    assert http.run(other, "steady")["info"]["status"] == "FINISHED"
    assert http.call(other, "GET", "/computes/kept").status_code == 200


@needs_proc
def test_it_may_be_ended_while_it_starts(tmp_path: Path) -> None:
    with ending(served(tmp_path)) as process:
        until = time.monotonic() + 240
        while not (tmp_path / "service.log").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        process.terminate()
        assert process.wait(240) == 128 + signal.SIGTERM
    assert gone(tmp_path), alive(tmp_path)


def test_its_time_is_up_whatever_its_owner_does() -> None:
    workspace = StandIn(lifetime=0.5)
    command = workspace._command()
    assert 0 < float(command[command.index("--lifetime") + 1]) <= 1
    workspace.close()


INTERRUPTED = """
import sys, time
from tests.standin.__main__ import _run

class Workspace:
    refused_hosts, unknown_routes = ["example.com"], []
    def process_environ(self):
        return None

if len(sys.argv) == 1:
    sys.exit(_run(Workspace(), [sys.executable, __file__, "command"]))
try:
    print("running", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    sys.exit(5)
"""


def test_an_interruption_is_for_the_command_to_answer(tmp_path: Path) -> None:
    """A terminal sends it to the whole group."""
    (tmp_path / "both.py").write_text(INTERRUPTED)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "both.py")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ending(process):
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "running\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(240) == 5
        assert process.stderr.read() == "stand-in: refused to reach example.com\n"


def test_the_command_line_serves_until_it_is_interrupted(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It prints the variables with which any client finds it."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "StandIn", lambda *_, **__: contextlib.nullcontext(standin))
    monkeypatch.setattr(command_line.time, "sleep", interrupt)
    monkeypatch.setattr(command_line.signal, "signal", lambda *_: None)
    assert command_line.main(["--fault", "503,route=/computes", "--state", str(tmp_path)]) == 0
    assert standin.faults == [Fault("503", route="/computes")]
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if line.startswith("export ")]
    assert (tmp_path / "env").read_text().splitlines() == lines
    assert f"source {tmp_path / 'env'}" in said
    environ = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    assert environ == StandIn.attach(standin.folder.root).environ
    assert {"AZURE_SUBSCRIPTION_ID", "AZUREML_WORKSPACE_NAME", "HTTPS_PROXY"} <= set(environ)


def test_the_command_line_refuses_a_fault_that_is_none() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.standin", "--fault", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no fault is called 'nonsense'" in done.stderr
