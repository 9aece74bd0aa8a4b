"""The small parts of the stand-in, each by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import uses_workspace
from tests.standin import azurite, keeper, rendering
from tests.standin.state import Documents, Folder, free_port, holder, listen
from tests.standin.wire import Route, Router

KEEPER = [sys.executable, "-I", keeper.__file__]


def appeared(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def ending(path: Path) -> dict[str, object]:
    appeared(path)
    body: dict[str, object] = json.loads(path.read_text())
    return body


def test_a_keeper_tells_how_its_command_has_ended(tmp_path: Path) -> None:
    files = ["--exit-file", str(tmp_path / "exit.json"), "--log", str(tmp_path / "log.txt")]
    assert subprocess.run([*KEEPER, *files, "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).returncode == 7
    assert ending(tmp_path / "exit.json")["code"] == 7
    assert ending(tmp_path / "exit.json")["reason"] == "exited"
    assert (tmp_path / "log.txt").read_text() == "out\nerr\n"
    assert subprocess.run([*KEEPER, *files, "--", "no-such-command"]).returncode == 127
    assert "no-such-command" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("reason", ["deadline", "owner-gone", "terminated"])
def test_a_keeper_ends_its_command_and_what_that_has_started(tmp_path: Path, reason: str) -> None:
    read, write = os.pipe()
    options = [
        "--pipes",
        str(read),
        "--exit-file",
        str(tmp_path / "exit.json"),
        "--lock",
        str(tmp_path / "lock"),
    ]
    options += ["--deadline", "3"] if reason == "deadline" else []
    script = f"(while true; do date > {tmp_path}/beat; sleep 0.05; done) & sleep 600"
    with subprocess.Popen([*KEEPER, *options, "--", "sh", "-c", script], pass_fds=[read]) as process:
        os.close(read)
        appeared(tmp_path / "beat")
        assert holder(tmp_path / "lock") == process.pid
        if reason == "owner-gone":
            os.close(write)
        if reason == "terminated":
            process.terminate()
        assert ending(tmp_path / "exit.json")["reason"] == reason
        assert process.wait(60) != 0
    if reason != "owner-gone":
        os.close(write)
    assert holder(tmp_path / "lock") is None
    (tmp_path / "beat").unlink()
    time.sleep(0.3)
    assert not (tmp_path / "beat").exists(), "its child has ended with it"


def test_a_keeper_leaves_nothing_of_a_command_that_has_ended(tmp_path: Path) -> None:
    script = (
        f"(while true; do date > {tmp_path}/beat; sleep 0.05; done) & until [ -e {tmp_path}/beat ]; do sleep 0.05; done"
    )
    assert subprocess.run([*KEEPER, "--", "sh", "-c", script], check=False).returncode == 0
    (tmp_path / "beat").unlink()
    time.sleep(0.3)
    assert not (tmp_path / "beat").exists()


def test_documents_keep_their_order_and_survive(tmp_path: Path) -> None:
    documents = Documents(tmp_path / "state.db")
    for version in ("1", "2", "3"):
        documents.put("environments", "e", {"v": version}, version)
    documents.put("environments", "e", {"v": "changed"}, "1")
    documents.close()
    documents = Documents(tmp_path / "state.db")
    assert [version for version, _ in documents.versions("environments", "e")] == ["3", "2", "1"]
    assert documents.get("environments", "e", "1") == {"v": "changed"}
    documents.drop("environments", "e", "2")
    assert [(name, version) for name, version, _ in documents.all("environments")] == [("e", "3"), ("e", "1")]
    assert documents.get("environments", "e", "2") is None
    documents.close()


def test_secrets_are_drawn_once_and_are_nobody_elses(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "state")
    assert folder.secret("token") == Folder(tmp_path / "state").secret("token")
    assert folder.secret("token") != folder.secret("account")
    assert (tmp_path / "state" / "token.key").stat().st_mode & 0o077 == 0
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0


def test_a_port_is_kept_if_it_is_free() -> None:
    port = free_port()
    assert free_port(port) == port
    with listen(port):
        assert free_port(port) != port


def test_nobody_holds_a_lock_that_is_not_there(tmp_path: Path) -> None:
    assert holder(tmp_path / "none") is None
    (tmp_path / "left").write_text("1")
    assert holder(tmp_path / "left") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT5S", 5), ("PT1M30S", 90), ("PT2H", 7200), ("P1DT1S", 86401), (None, None), ("", None)],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert rendering.seconds(text) == seconds


@pytest.mark.parametrize("text", ["P", "PT", "5", "P1Y", "PT5"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        rendering.seconds(text)


def test_routes_are_matched_whole_and_decoded() -> None:
    async def handler(*_: object) -> None:
        raise NotImplementedError

    routes = [
        Route("GET", "{S}/codes/{name}/versions", "1", handler),  # type: ignore[arg-type]
        Route("GET POST", "/x/{rest*}", "", handler),  # type: ignore[arg-type]
    ]
    router = Router(routes)
    scope = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    found = router.match("GET", f"{scope}/codes/a%2Fb/versions")
    assert found is not None
    assert found[1] == {"sub": "s", "rg": "g", "ws": "w", "name": "a/b"}
    assert router.match("PUT", f"{scope}/codes/a/versions") is None
    assert router.match("GET", f"{scope}/codes/a/b/versions") is None
    assert router.match("POST", "/x/a/b/c") == (routes[1], {"rest": "a/b/c"})


def test_azurite_is_pinned_and_its_lock_names_no_host() -> None:
    here = Path(azurite.__file__).parent
    lock = json.loads((here / "package-lock.json").read_text())
    assert lock["packages"]["node_modules/azurite"]["version"] == "3.37.0"
    assert json.loads((here / "package.json").read_text())["dependencies"] == {"azurite": "3.37.0"}
    assert "resolved" not in (here / "package-lock.json").read_text()
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
    assert azurite.install().is_file()


def test_node_comes_from_a_wheel_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    done = subprocess.run([*azurite.node(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("v")
    done = subprocess.run([*azurite.npm(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().count(".") == 2


def test_every_file_that_uses_the_workspace_of_the_run_is_known(request: pytest.FixtureRequest) -> None:
    """One worker gets them all, so that there is one workspace."""
    uses = {
        item.nodeid.partition("::")[0]
        for item in request.session.items
        if "standin_session" in getattr(item, "fixturenames", ())
    }
    assert not [file for file in uses if not uses_workspace(file)]
    assert not uses_workspace("tests/test_standin_rooms.py")
