"""Start, stop, start again, two at once; and whatever happens, nothing remains."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import standin_http as http
from tests.standin import Fault, StandIn, names

ROOT = Path(__file__).parents[1]
CLIENTS = Path(__file__).parent / "clients"


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


def gone(state: Path, seconds: float = 60) -> bool:
    """Wait until nothing has to do with a state folder."""
    until = time.monotonic() + seconds
    while alive(state):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process with the block, whatever happens in it."""
    with process:
        try:
            yield
        finally:
            if process.poll() is None:
                process.kill()


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A second workspace, beside that of the session: without aliases."""
    with StandIn(tmp_path_factory.mktemp("other"), aliases=False) as workspace:
        yield workspace


def test_two_stand_side_by_side(standin: StandIn, other: StandIn) -> None:
    assert standin.environ["HTTPS_PROXY"] != other.environ["HTTPS_PROXY"]
    for workspace, word in ((standin, "first"), (other, "second")):
        http.cluster(workspace, "same-name")
        http.submit(workspace, "same-name", f"echo {word}", compute="same-name").raise_for_status()
    for workspace, word in ((standin, "first"), (other, "second")):
        assert http.wait(workspace, "same-name") == "Completed"
        assert http.log(workspace, "same-name") == f"{word}\n"
    foreign = http.call(other, "GET", "/jobs/same-name", bearer=http.token(standin))
    assert foreign.status_code == 401
    standin.inject(Fault("503", times=0))
    assert http.call(standin, "GET", "/jobs/same-name").status_code == 503
    assert http.call(other, "GET", "/jobs/same-name").status_code == 200


def test_an_unknown_route_is_refused_and_noted(other: StandIn) -> None:
    answer = http.call(other, "GET", "/schedules")
    assert answer.status_code == 501
    assert other.unknown_routes[-1] == f"GET {names.SCOPE}/schedules (unknown route)"
    http.call(other, "GET", "/jobs", params={"api-version": "2099-01-01"})
    assert "2099-01-01" in other.unknown_routes[-1]
    http.call(other, "GET", f"{http.MLFLOW}/traces/search")
    assert "traces/search" in other.unknown_routes[-1]


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


def test_a_restart_under_a_waiting_client(other: StandIn) -> None:
    http.cluster(other, "kept")
    script = (
        "import time, mlflow\nfor i in range(40):\n    mlflow.log_metric('step', i, step=i)\n"
        "    print(i, flush=True)\n    time.sleep(0.2)\n"
    )
    identifier = http.code(other, "steady", {"steady.py": script.encode()})
    http.submit(other, "steady", "python steady.py", codeId=identifier, compute="kept").raise_for_status()
    http.wait(other, "steady", "Running")
    client = subprocess.Popen(
        [sys.executable, str(CLIENTS / "waiting.py"), "steady"],
        env=other.process_environ(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with ending(client):
        assert client.stdout is not None
        assert client.stdout.readline() == "waiting\n"
        address, before = other.environ["HTTPS_PROXY"], other.requests
        other.stop()
        with pytest.raises(requests.RequestException):
            http.call(other, "GET", "/jobs/steady")
        other.start()
        assert other.environ["HTTPS_PROXY"] == address
        assert other.requests[: len(before)] == before
        status, silence = client.stdout.readline().split()
    assert status == "Completed"
    assert float(silence) > 1, "it has lived through the outage"
    assert http.log(other, "steady").splitlines()[:40] == [str(number) for number in range(40)]
    found = http.run(other, "steady")
    assert found["info"]["status"] == "FINISHED"
    assert found["data"]["metrics"][0]["value"] == 39
    assert http.call(other, "GET", "/computes/kept").status_code == 200


@needs_proc
def test_a_crash_of_the_service_takes_its_servers_along_and_leaves_the_jobs(other: StandIn) -> None:
    http.submit(other, "surviving", "sleep 4; echo survived").raise_for_status()
    http.wait(other, "surviving", "Running")
    assert other._process is not None
    other._process.kill()
    other._process.wait()
    until = time.monotonic() + 60
    while [line for line in alive(other.folder.root) if "azurite" in line or "mlflow" in line]:
        assert time.monotonic() < until
        time.sleep(0.1)
    other.stop()
    other.start()
    assert http.wait(other, "surviving") == "Completed"
    assert http.log(other, "surviving") == "survived\n"


@needs_proc
def test_the_end_of_a_session_is_the_end_of_everything(tmp_path: Path) -> None:
    """A failed test leaves nothing, and the job that ran then has failed when the state is opened again."""

    def fail() -> None:
        with StandIn(tmp_path) as workspace:
            stubborn = "trap '' TERM; (sleep 600; true) & sleep 600; sleep 600"
            http.submit(workspace, "stubborn", stubborn).raise_for_status()
            http.wait(workspace, "stubborn", "Running")
            assert len(alive(tmp_path)) >= 5
            raise RuntimeError("as a test fails")

    with pytest.raises(RuntimeError, match="as a test fails"):
        fail()
    assert gone(tmp_path, seconds=5), alive(tmp_path)
    with StandIn(tmp_path, lifetime=6) as workspace:
        assert http.wait(workspace, "stubborn") == "Failed"
        assert "is gone" in http.details(workspace, "stubborn")["error"]["error"]["message"]
        http.submit(workspace, "endless", "sleep 600").raise_for_status()
        assert gone(tmp_path), "its time was up"


SUBMIT = """
import sys, time
from pathlib import Path
from tests import standin_http as http
from tests.standin import StandIn

class Here(StandIn):
    def __init__(self, state):
        from tests.standin.state import Folder
        self.folder = Folder(Path(state))

workspace = Here(sys.argv[1])
http.submit(workspace, "endless", "sleep 600").raise_for_status()
http.wait(workspace, "endless", "Running")
try:
    print("running", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(5)
"""


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_remains_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "tests.standin", "--state", str(tmp_path), "--"]
    process = subprocess.Popen(
        [*command, sys.executable, "-c", SUBMIT, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ending(process):
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        assert len(alive(tmp_path)) >= 5
        if number == signal.SIGINT:
            # As a terminal does it: to the whole group.
            os.killpg(process.pid, number)
            assert process.stdout.readline() == "interrupted\n"
        else:
            process.send_signal(number)
        code = process.wait(120)
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)
    expected = {signal.SIGINT: 5, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGKILL: -signal.SIGKILL}
    assert code == expected[number]
    assert gone(tmp_path), alive(tmp_path)


def test_the_command_line_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.standin",
            "--state",
            str(tmp_path),
            "--fault",
            "503,route=/computes,times=1",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with ending(process):
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            if not line.startswith("export "):
                break
            lines.append(line)
        environ = dict(shlex.split(line)[1].split("=", 1) for line in lines)
        again = StandIn(tmp_path)
        assert environ == again.environ
        assert {
            "AZURE_SUBSCRIPTION_ID",
            "AZURE_RESOURCE_GROUP",
            "AZUREML_WORKSPACE_NAME",
            "HTTPS_PROXY",
        } <= set(environ)
        assert http.call(again, "GET", "/computes").status_code == 503, "the fault of the command line"
        assert http.call(again, "GET", "/computes").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
        again.close()


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
