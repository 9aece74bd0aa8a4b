"""What a server or a driver says is told in two lines, with the remedy of that very cause."""

import errno
import logging
import os

import pytest
import sqlalchemy
from mlflow.exceptions import MlflowException, RestException

from trainer import causes, recording
from trainer.errors import UserError

URI = "sqlite:////data/runs.db"


@pytest.fixture(autouse=True)
def plain_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV", raising=False)


@pytest.mark.parametrize(
    ("error", "cause", "remedy"),
    [
        (MlflowException("Cannot set a deleted experiment 'x'"), "the experiment x is deleted", "experiments restore"),
        (MlflowException("No Experiment with id=7 exists"), "no experiment with the id 7", "MLFLOW_EXPERIMENT_ID"),
        (MlflowException("Run with id=abc not found"), "there is no run abc", "unset MLFLOW_RUN_ID"),
        (MlflowException("The specified blob already exists."), "the job was started again", "send a new job"),
        (MlflowException("(sqlite3.OperationalError) database or disk is full"), "the disk is full", "free some space"),
        (MlflowException("attempt to write a readonly database"), "it is read-only", "writable"),
        (MlflowException("(sqlite3.OperationalError) database is locked"), "another process", "lsof"),
        (MlflowException("disk I/O error"), "the disk does not answer", "NFS"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "limits the size of files", "ulimit -f unlimited"),
        (MlflowException("database disk image is malformed"), "the database is damaged", ".recover"),
        (MlflowException("unable to open database file"), "the file cannot be opened", "its folder"),
        (MlflowException("table metrics already exists"), "its tables are half made", "remove it"),
        (
            MlflowException("The filesystem tracking backend (e.g., './mlruns')"),
            "no runs in a folder",
            "migrate-filestore",
        ),
        (
            MlflowException("Model registry functionality is unavailable; got unsupported URI"),
            "this kind of",
            "HOST:PORT",
        ),
        (MlflowException('password authentication failed for user "u"'), "user or password", "%40"),
        (MlflowException('database "m" does not exist'), "there is no database m on it", "createdb m"),
        (
            MlflowException("(psycopg.errors.UndefinedFunction) operator does not exist: integer = character varying"),
            "its driver, psycopg 3, does not compare numbers with text",
            "uv pip install psycopg2-binary # and write postgresql+psycopg2://",
        ),
        (MlflowException("Unable to locate credentials"), "asks for credentials", "aws configure"),
        (ModuleNotFoundError("No module named 'boto3'", name="boto3"), "the package boto3", "uv pip install 'boto3'"),
        (ModuleNotFoundError("x", name="google.cloud"), "google-cloud-storage", "uv pip install"),
        (MemoryError(), "there is not enough memory", "larger machine"),
        *(
            (OSError(number, "x", "/data/runs.db"), f"({'/data/runs.db'})", remedy)
            for number, remedy in {
                errno.EACCES: "make that place writable",
                errno.EROFS: "make that place writable",
                errno.EIO: "look at that disk",
                errno.EMFILE: "ulimit -n",
                errno.ENAMETOOLONG: "shorter names",
            }.items()
        ),
        (
            MlflowException("something new, of password=abc"),
            "something new, of password=***",
            "check MLFLOW_TRACKING_URI",
        ),
    ],
)
def test_a_cause_has_its_remedy(error: Exception, cause: str, remedy: str) -> None:
    told = causes.explain(error, "open a run", URI)
    assert told.cause.startswith("MLflow at sqlite:////data/runs.db could not open a run: ")
    assert cause in told.cause
    assert remedy in told.remedy


def test_a_limit_of_files_is_told_from_a_disk_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causes, "_limits_size", lambda: True)
    told = causes.explain(MlflowException("(sqlite3.OperationalError) disk I/O error"), "log", URI)
    assert told.remedy == "raise the limit: ulimit -f unlimited"


def test_what_an_error_came_from_is_looked_at_too() -> None:
    outer = MlflowException("Failed to do it")
    outer.__cause__ = sqlalchemy.exc.OperationalError("insert", {}, Exception("database or disk is full"))
    assert "the disk is full" in causes.explain(outer, "log", URI).cause


@pytest.mark.parametrize(("status", "remedy"), [(401, "MLFLOW_TRACKING_USERNAME"), (403, "ask for the right")])
def test_who_may_not_is_told_so(status: int, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MlflowException, "get_http_status_code", lambda _: status)
    assert remedy in causes.explain(MlflowException("no"), "log", "http://h").remedy


def test_the_sentence_of_a_workspace_is_taken_out_of_its_document() -> None:
    document = {
        "error_code": "BAD_REQUEST",
        "Error": {"Code": "UserError", "Message": "The request is invalid.", "Severity": None},
        "Correlation": {"operation": "0123"},
    }
    error = RestException(document)  # type: ignore[no-untyped-call]
    assert causes.said(error) == "BAD_REQUEST: The request is invalid."


@pytest.mark.parametrize(
    "error",
    [
        sqlalchemy.exc.OperationalError("select", {}, Exception("no such table: runs")),
        MlflowException("no"),
        OSError("gone"),
        ModuleNotFoundError("No module named 'psycopg'", name="psycopg"),
    ],
)
def test_an_error_of_a_driver_is_the_server_s(error: Exception) -> None:
    with pytest.raises(UserError, match="could not log"), recording.said_to_server("log"):
        raise error


def test_a_bug_is_no_error_of_the_server() -> None:
    with pytest.raises(ZeroDivisionError), recording.said_to_server("log"):
        _ = 1 / 0
    with pytest.raises(UserError, match="could not store"), recording.said_to_server("store", any_error=True):
        _ = 1 / 0


def test_mlflow_logs_no_traceback_above_the_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    loud = logging.getLogger("mlflow.store.db.utils")
    with causes.quiet():
        loud.error("Traceback")
    assert caplog.text == ""
    loud.error("afterwards")
    assert "afterwards" in caplog.text
    caplog.clear()
    trainer = logging.getLogger("trainer")
    before = trainer.level
    trainer.setLevel(logging.DEBUG)  # as with --debug
    try:
        with causes.quiet():
            loud.error("Traceback")
    finally:
        trainer.setLevel(before)
    assert "Traceback" in caplog.text


def test_a_command_runs_in_the_shell_that_has_started_this(monkeypatch: pytest.MonkeyPatch) -> None:
    assert causes.command("mlflow ui") == "mlflow ui"
    monkeypatch.setenv("UV", "/bin/uv")
    assert causes.command("mlflow ui") == "uv run mlflow ui"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ada:secret@host:5000/path?token=1", "http://host:5000/path"),
        ("postgresql://ada:secret@host/db", "postgresql://host/db"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        (
            "azureml://region.api.azureml.ms/mlflow/v2.0/subscriptions/s/resourceGroups/g/providers/p/workspaces/w?",
            "the Azure Machine Learning workspace w",
        ),
        ("./mlruns", "./mlruns"),
    ],
)
def test_an_address_is_shown_without_secrets(uri: str, shown: str) -> None:
    assert causes.shown(uri) == shown
