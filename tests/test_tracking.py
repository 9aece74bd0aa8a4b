"""What is said to a tracking server, and what of it is said to a person."""

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from tests.conftest import Trainer
from trainer import tracking
from trainer.errors import UserError
from trainer.git import Git


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_an_unreachable_server_is_named_within_seconds(
    trains: Trainer, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:secret@127.0.0.1:{closed_port}")
    started = time.monotonic()
    done = trains()
    assert time.monotonic() - started < 30  # mlflow alone tries for minutes
    assert done.code == 2
    assert f"the MLflow tracking server at http://127.0.0.1:{closed_port} cannot be reached" in done.err
    assert "secret" not in done.err + done.out
    assert len(done.err.splitlines()) == 2


def test_a_server_that_does_not_answer_is_named(
    trains: Trainer, deaf_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "REACHABLE_SECONDS", 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{deaf_port}")
    done = trains()
    assert done.code == 2
    assert "it did not answer" in done.err


def test_a_store_that_is_no_database(trains: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}")
    done = trains()
    assert done.code == 2
    assert "cannot be reached: unable to open database file" in done.err


def test_a_file_store_is_refused_in_one_line(trains: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    done = trains()
    assert done.code == 2
    assert "could not open a run" in done.err
    assert len(done.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ada:secret@host:5000/path?token=1", "http://host:5000/path"),
        ("postgresql://ada:secret@host/db", "postgresql://host/db"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        (
            "azureml://region.api.azureml.ms/mlflow/v2.0/subscriptions/s/resourceGroups/g/providers/p/workspaces/w?",
            "the Azure Machine Learning workspace w",
        ),
        ("./mlruns", "./mlruns"),
    ],
)
def test_secrets_of_an_address_are_left_out(uri: str, shown: str) -> None:
    assert tracking._without_secrets(uri) == shown


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_and_whether_the_tree_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "trainer"
    package.mkdir()
    (package / "tracking.py").write_text("")
    run = tracking.Run("id", "0", "", {"mlflow.source.git.commit": "told by mlflow"}, None)  # type: ignore[arg-type]
    monkeypatch.setattr(tracking, "__file__", str(package / "tracking.py"))
    assert tracking.git_state(run) == Git("told by mlflow", "unknown")
    monkeypatch.setenv("GIT_COMMIT", "told by the submitting side")
    monkeypatch.setenv("GIT_DIRTY", "true")
    assert tracking.git_state(run) == Git("told by the submitting side", "true")

    git(tmp_path, "init")  # somebody else's repository around an untracked copy of the code
    git(tmp_path, "commit", "--allow-empty", "-m", "theirs")
    assert tracking.git_state(run).commit == "told by the submitting side"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    assert tracking.git_state(run) == Git(git(tmp_path, "rev-parse", "HEAD"), "false")
    (package / "tracking.py").write_text("changed")
    assert tracking.git_state(run) == Git(git(tmp_path, "rev-parse", "HEAD"), "true")


def away(*_: object) -> None:
    raise OSError("the server is away")


def test_a_run_that_cannot_be_ended_is_told(trains: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", away)
    done = trains(model_name="none", cv=0)
    assert (done.code, "could not end a run: the server is away" in done.err) == (2, True), done.err
    done = trains(target="nothing")
    assert (done.code, "the target 'nothing' is not a column" in done.err) == (2, True), done.err


def test_a_child_run_that_cannot_be_ended_does_not_hide_what_went_wrong(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = store.create_run("0").info
    parent = tracking.Run(info.run_id, "0", "", {}, store)
    monkeypatch.setattr(store, "set_terminated", away)
    with pytest.raises(ZeroDivisionError), tracking.child_run(parent, "first", {}, "sweep.py"):
        _ = 1 / 0
    told = pytest.raises(UserError, match="could not end a run: the server is away")
    with told, tracking.child_run(parent, "second", {}, "sweep.py"):
        pass
