"""A run, from the first look at the server to its end: opened, continued, refused, ended with its reason."""

import os
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.engine import Engine

from tests.conftest import Trainer, run_id
from trainer import processes, recording, signals, tracking
from trainer.errors import Interrupted, UserError

GIVEN = {"data": "a.csv", "alpha": "auto"}
Opened = Callable[..., str]


@pytest.fixture
def opened(store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Open a run as `mlflow run` does, with these params as it logs them, and name it in the environment."""

    def call(name: str | None = None, project: bool = True, **params: str) -> str:
        tags = {"mlflow.project.entryPoint": "main", "mlflow.source.name": "/somewhere"} if project else {}
        info = store.create_run("0", run_name=name, tags=tags).info
        for key, text in params.items():
            store.log_param(info.run_id, key, shlex.quote(text) if project else text)
        monkeypatch.setenv("MLFLOW_RUN_ID", info.run_id)
        return str(info.run_id)

    return call


def fail(error: BaseException, work: Callable[[tracking.Run], object] = lambda _: None) -> Iterator[str]:
    """Open a run, name it, do some work in it, and fail; the error comes second."""
    with tracking.session(GIVEN, "train.py") as session:
        run = session.open("ridge")
        yield run.id
        work(run)
        raise error


def runs(store: mlflow.MlflowClient) -> set[str]:
    return {run.info.run_id for run in store.search_runs(["0"])}


def test_no_run_is_opened_before_it_is_asked_for(store: mlflow.MlflowClient) -> None:
    before = runs(store)
    with pytest.raises(UserError, match="no such file"), tracking.session(GIVEN, "train.py"):
        raise UserError("no such file", "give another")
    assert runs(store) == before


def test_a_run_has_a_name_a_description_and_the_params(store: mlflow.MlflowClient) -> None:
    with tracking.session(GIVEN, "train.py") as session:
        run = session.open("ridge on a.csv", "**rmse** 48")
    found = store.get_run(run.id)
    assert (found.info.status, found.info.run_name, found.data.params) == ("FINISHED", "ridge on a.csv", GIVEN)
    assert found.data.tags["mlflow.note.content"] == "**rmse** 48"
    assert found.data.tags["mlflow.source.name"] == "train.py"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("the target 'y' is not there", "give another"), "the target 'y' is not there"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (SystemExit(3), "SystemExit: 3"),
        (Interrupted(signal.SIGTERM), "stopped by SIGTERM"),
        (UserError("https://ada:pw@host/x?sig=abc is not there", "x"), "https://***@host/x?sig=*** is not there"),
    ],
)
def test_a_run_that_fails_says_why(store: mlflow.MlflowClient, error: BaseException, said: str) -> None:
    steps = fail(error)
    number = next(steps)
    with pytest.raises(type(error)):
        next(steps)
    found = store.get_run(number)
    assert (found.info.status, found.data.tags["error"]) == ("FAILED", said)


def test_what_became_of_a_run_is_looked_up_for_who_stopped_it(store: mlflow.MlflowClient) -> None:
    def register(run: tracking.Run) -> None:
        store.create_registered_model("kept")
        store.create_model_version("kept", f"{run.artifact_uri}/models", run_id=run.id)

    for work, kept in {
        (lambda _: None): "nothing was registered",
        register: "version 1 of kept is registered and stays",
    }.items():
        steps = fail(Interrupted(signal.SIGTERM), work)
        number = next(steps)
        with pytest.raises(Interrupted) as told:
            next(steps)
        assert told.value.__notes__ == [f"run {number} is FAILED; {kept}"]


def test_a_signal_while_a_run_is_ended_comes_after_its_end(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminate = mlflow.MlflowClient.set_terminated

    def stopped(*arguments: Any, **named: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        terminate(*arguments, **named)

    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", stopped)
    with pytest.raises(Interrupted) as told, signals.heard(), tracking.session(GIVEN, "train.py") as session:
        run = session.open("ridge")
    assert told.value.__notes__ == [f"run {run.id} is FINISHED; nothing was registered"]
    assert store.get_run(run.id).info.status == "FINISHED"


def test_a_signal_while_a_run_is_opened_ends_it(store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    create = mlflow.MlflowClient.create_run

    def stopped(*arguments: Any, **named: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return create(*arguments, **named)

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", stopped)
    before = runs(store)
    with pytest.raises(Interrupted), signals.heard(), tracking.session(GIVEN, "train.py") as session:
        session.open("ridge")
    (new,) = runs(store) - before
    assert store.get_run(new).info.status == "FAILED"


# -- a run that is there already ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["my data/o'brien & co (2024).csv", "price (€), net", "$HOME `id`", "größe", "weight [kg]", "~/x", "#", "a;b"],
)
def test_a_value_that_mlflow_run_has_quoted_is_the_same_value(
    store: mlflow.MlflowClient, opened: Opened, text: str
) -> None:
    number = opened(data=text)
    with tracking.session({"data": text, "alpha": "1"}, "train.py") as session:
        assert session.open("ridge").id == number
    found = store.get_run(number).data
    assert found.params == {"data": shlex.quote(text), "alpha": "1"}
    assert found.tags["param.data"] == text


def test_a_value_that_mlflow_has_cut_off_is_the_same_value(store: mlflow.MlflowClient, opened: Opened) -> None:
    text = ",".join(f"column {number}" for number in range(600))
    number = opened(columns=text)
    with tracking.session({"columns": text}, "train.py") as session:
        session.open("ridge")
    found = store.get_run(number).data
    assert found.params["columns"] == shlex.quote(text)[:6000]
    assert found.tags["param.columns"] == text


def test_what_no_tag_can_hold_is_in_an_artifact(store: mlflow.MlflowClient, opened: Opened) -> None:
    text = ",".join(f"column{number}" for number in range(1500))
    with tracking.session({"columns": text}, "train.py") as session:
        number = session.open("ridge").id
    found = store.get_run(number).data
    assert found.params["columns"] == text[:6000]
    assert "param.columns" not in found.tags
    assert mlflow.artifacts.load_dict(f"runs:/{number}/parameters.json") == {"columns": text}


def test_a_failure_before_open_ends_the_run_that_mlflow_run_has_opened(
    store: mlflow.MlflowClient, opened: Opened
) -> None:
    number = opened(data="a.csv")
    with pytest.raises(UserError), tracking.session({"data": "a.csv"}, "train.py"):
        raise UserError("there is no file a.csv", "give another")
    found = store.get_run(number)
    assert (found.info.status, found.data.tags["error"]) == ("FAILED", "there is no file a.csv")


@pytest.mark.parametrize(
    ("project", "azure", "remedy"),
    [(True, False, "leave out --run-id"), (False, False, "unset MLFLOW_RUN_ID"), (False, True, "as a new job")],
)
def test_a_run_that_another_training_has_used_is_refused_and_left_as_it_is(
    store: mlflow.MlflowClient, opened: Opened, monkeypatch: pytest.MonkeyPatch, project: bool, azure: bool, remedy: str
) -> None:
    number = opened(project=project, data="a.csv")
    if azure:
        monkeypatch.setenv("AZUREML_RUN_ID", number)
    with pytest.raises(UserError) as told, tracking.session({"data": "b.csv"}, "train.py"):
        pytest.fail("it was continued")
    assert told.value.cause == f"run {number} already has data=a.csv, and is given data=b.csv"
    assert remedy in told.value.remedy
    assert store.get_run(number).info.status == "RUNNING"

    store.log_metric(number, "rmse", 1.0)
    store.set_terminated(number)
    with pytest.raises(UserError, match="has ended, with its metrics"), tracking.session({"data": "a.csv"}, "train.py"):
        pytest.fail("it was continued")
    assert store.get_run(number).info.status == "FINISHED"


def test_a_deleted_run_is_refused(store: mlflow.MlflowClient, opened: Opened) -> None:
    number = opened(project=False)
    store.delete_run(number)
    with pytest.raises(UserError, match="is deleted"), tracking.session({}, "train.py"):
        pytest.fail("it was continued")


def test_a_run_of_nobody_is_named(store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(UserError) as told, tracking.session({}, "train.py"):
        pytest.fail("it was continued")
    assert f"there is no run {'0' * 32}" in told.value.cause
    assert "unset MLFLOW_RUN_ID" in told.value.remedy


@pytest.mark.parametrize(
    ("present", "name"), [(None, "ridge a.csv"), ("secretive-stork-941", "ridge a.csv"), ("my-model-1", "my-model-1")]
)
def test_a_name_drawn_by_lot_is_replaced_and_that_of_a_person_kept(
    store: mlflow.MlflowClient, opened: Opened, present: str | None, name: str
) -> None:
    number = opened(present)
    with tracking.session({}, "train.py") as session:
        session.open("ridge a.csv", "what it is")
    found = store.get_run(number)
    assert (found.info.run_name, found.data.tags["mlflow.note.content"]) == (name, "what it is")


def test_a_child_run_is_no_second_parent(store: mlflow.MlflowClient, opened: Opened) -> None:
    number = opened()
    with tracking.session({}, "sweep.py") as session:
        parent = session.open("sweep")
        with tracking.child_run(parent, "trial 1", {"alpha": "1"}, "sweep.py") as child:
            pass
    found = store.get_run(child.id)
    assert found.data.tags["mlflow.parentRunId"] == number
    assert (found.info.status, found.info.run_name, found.data.params) == ("FINISHED", "trial 1", {"alpha": "1"})


def test_what_fails_before_a_session_is_noted_in_the_run_of_mlflow_run(
    trains: Trainer, store: mlflow.MlflowClient, opened: Opened
) -> None:
    number = opened(alpha="much")
    assert trains(alpha="much").code == 2
    assert "alpha should be a number" in store.get_run(number).data.tags["error"]


# -- the experiment ----------------------------------------------------------------------------------


def test_a_new_experiment_is_created_only_with_its_run(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "new experiment")
    with tracking.session({}, "train.py") as session:
        assert store.get_experiment_by_name("new experiment") is None
        run = session.open("ridge")
    found = store.get_experiment_by_name("new experiment")
    assert found is not None
    assert found.experiment_id == run.experiment_id


def test_a_deleted_experiment_is_restored_by_the_command_that_is_told(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = store.create_experiment("deleted by mistake")
    store.delete_experiment(number)
    for name, text in {"MLFLOW_EXPERIMENT_NAME": "deleted by mistake", "MLFLOW_EXPERIMENT_ID": number}.items():
        with monkeypatch.context() as patched:
            patched.setenv(name, text)
            with pytest.raises(UserError) as told, tracking.session({}, "train.py"):
                pytest.fail("it began")
        assert "the experiment 'deleted by mistake'" in told.value.cause
        assert f"mlflow experiments restore -x {number}" in told.value.remedy


def test_an_experiment_of_nobody_is_named(store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "123456")
    with pytest.raises(UserError) as told, tracking.session({}, "train.py"):
        pytest.fail("it began")
    assert "there is no experiment with the id 123456" in told.value.cause
    assert "MLFLOW_EXPERIMENT_ID" in told.value.remedy


# -- how it ends, where the server does not play along -----------------------------------------------


def away(*_: object, **__: object) -> None:
    raise OSError("the server is away")


def test_a_run_that_cannot_be_ended_is_told(store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", away)
    with (
        pytest.raises(UserError, match="could not end a run: the server is away"),
        tracking.session({}, "train.py") as session,
    ):
        session.open("ridge")
    with pytest.raises(UserError, match="came first"):
        list(fail(UserError("came first", "")))


def test_a_run_is_ended_once_a_store_that_was_locked_answers(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    terminate, refusals = mlflow.MlflowClient.set_terminated, [MlflowException("database is locked")] * 2

    def late(*arguments: Any, **named: Any) -> None:
        if refusals:
            raise refusals.pop()
        terminate(*arguments, **named)

    monkeypatch.setattr(mlflow.MlflowClient, "set_terminated", late)
    with tracking.session({}, "train.py") as session:
        run = session.open("ridge")
    assert store.get_run(run.id).info.status == "FINISHED"


def test_a_run_is_abandoned_from_a_thread(store: mlflow.MlflowClient) -> None:
    with tracking.session({}, "train.py") as session:
        run = session.open("ridge")
        thread = threading.Thread(target=session.abandon)
        thread.start()
        thread.join()
        found = store.get_run(run.id)
    assert (found.info.status, found.data.tags["error"]) == ("FAILED", "another process was lost")


def test_a_run_that_cannot_be_looked_up_is_not_said_to_be_failed(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow.MlflowClient, "search_model_versions", away)
    steps = fail(Interrupted(signal.SIGTERM))
    number = next(steps)
    with pytest.raises(Interrupted) as told:
        next(steps)
    assert told.value.__notes__[0].startswith(f"run {number} may be left RUNNING")


# -- what is logged ----------------------------------------------------------------------------------


@pytest.fixture
def run(store: mlflow.MlflowClient) -> Iterator[tracking.Run]:
    with tracking.session({}, "train.py") as session:
        yield session.open("ridge")


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_refusal_of_what_is_optional_is_passed_over(
    run: tracking.Run, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    assert tracking.optional("ask", refusing(monkeypatch, status)) is False


@pytest.mark.parametrize("status", [401, 408, 429, 500, 502, 503])
def test_a_server_that_is_busy_or_does_not_know_us_is_no_refusal(
    run: tracking.Run, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with pytest.raises(UserError, match="could not ask"):
        tracking.optional("ask", refusing(monkeypatch, status))


def refusing(monkeypatch: pytest.MonkeyPatch, status: int) -> Callable[[], None]:
    monkeypatch.setattr(MlflowException, "get_http_status_code", lambda _: status)

    def call() -> None:
        raise MlflowException("no")

    return call


def test_a_store_that_is_locked_is_asked_again(run: tracking.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    answers = iter([MlflowException("(sqlite3.OperationalError) database is locked")] * 3)

    def call() -> str:
        for error in answers:
            raise error
        return "done"

    assert tracking.patiently(call) == "done"


@pytest.mark.parametrize("uv", [False, True])
def test_the_page_that_is_told_is_that_of_model_training(
    run: tracking.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uv: bool
) -> None:
    monkeypatch.setenv("UV", "/bin/uv") if uv else monkeypatch.delenv("UV", raising=False)
    page = f"/#/experiments/0/runs/{run.id}?workflowType=machine_learning"
    start = "uv run mlflow ui --workers 1" if uv else "mlflow ui --workers 1"
    monkeypatch.setattr(recording, "_listens", lambda _: False)
    monkeypatch.chdir(tmp_path)  # the folder whose mlflow.db is MLflow's default
    shown = {
        "http://ada:secret@host:5000/path?token=1": f"http://host:5000/path{page}",
        "postgresql://ada:secret@host/db": f'{start} --backend-store-uri "$MLFLOW_TRACKING_URI"\n'
        f"http://127.0.0.1:5000{page}",
        f"sqlite:///{tmp_path}/mlflow.db": f"{start}\nhttp://127.0.0.1:5000{page}",
        "sqlite:////else where/x.db": f"{start} --backend-store-uri 'sqlite:////else where/x.db'\n"
        f"http://127.0.0.1:5000{page}",
        "azureml://r.api.azureml.ms/mlflow/v2.0/subscriptions/s/resourceGroups/g/workspaces/w?": "https://ml.azure.com/"
        f"runs/{run.id}?wsid=/subscriptions/s/resourceGroups/g/workspaces/w",
    }
    for uri, expected in shown.items():
        with monkeypatch.context() as patched:
            patched.setattr(mlflow, "get_tracking_uri", lambda uri=uri: uri)
            assert tracking.where_to_look(run) == expected


def test_a_port_that_is_taken_is_passed_over_unless_the_run_is_shown_there(
    run: tracking.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(recording, "PORT", port)
        monkeypatch.setattr(recording, "_listens", lambda asked: asked == port)
        monkeypatch.setattr(recording, "_serves", lambda *_: False)
        said = tracking.where_to_look(run)
        assert said.startswith(f"mlflow ui --workers 1 --port {port + 1} ")
        assert f"\nhttp://127.0.0.1:{port + 1}/#/" in said
        monkeypatch.setattr(recording, "_serves", lambda *_: True)
        assert tracking.where_to_look(run).startswith(f"http://127.0.0.1:{port}/#/experiments/0/runs/{run.id}?")


# -- a run whose process was killed --------------------------------------------------------------------


@pytest.mark.skipif(not processes.tags(), reason="this system does not tell what names a process for certain")
def test_a_run_whose_process_is_gone_is_closed_by_the_next(
    store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = processes.tags()[processes.PROCESS]
    place, number, start = mine.rsplit(" ", 2)
    elsewhere = mine.replace(place.split()[1], "another-boot")
    killed, alive, other = (
        store.create_run("0", tags={processes.PROCESS: tag}).info.run_id
        for tag in (f"{place} {number} {int(start) - 1}", mine, elsewhere)
    )
    with tracking.session({}, "train.py"):
        pass
    found = store.get_run(killed)
    assert (found.info.status, found.data.tags["error"]) == ("FAILED", "its process was killed")
    assert [store.get_run(one).info.status for one in (alive, other)] == ["RUNNING", "RUNNING"]
    assert killed in capsys.readouterr().out
    for one in (alive, other):
        store.set_terminated(one)


def test_the_command_line_still_trains(trains: Trainer, store: mlflow.MlflowClient) -> None:
    done = trains(model_name="none", cv=0)
    assert done.code == 0, done.err
    assert store.get_run(run_id(done)).info.status == "FINISHED"
    assert "MLFLOW_RUN_ID" not in os.environ


# -- a signal at any statement ---------------------------------------------------------------------------


def work(folder: Path) -> Iterator[str]:
    """Do in a run what a training does to a store, one thing after the other; the run comes first."""
    with signals.heard(), tracking.session({"alpha": "1"}, "train.py") as session:
        run = session.open("ridge")
        tracking.log(run, metrics={"rmse": 1.0}, tags={"a": "b"})
        tracking.log_folder(run, folder)
        with tracking.said_to_server("register a version"):
            run.client.create_model_version("walked", f"{run.artifact_uri}/models", run_id=run.id)
        yield run.id


@pytest.mark.parametrize("times", [1, 2])
def test_whatever_statement_a_signal_meets_the_run_has_ended_and_what_is_said_of_it_is_true(
    store: mlflow.MlflowClient, tmp_path: Path, times: int
) -> None:
    store.create_registered_model("walked")
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    count, stop = 0, range(0)

    def executed(*_: object) -> None:
        nonlocal count
        if count in stop:
            signal.raise_signal(signal.SIGTERM)
        count += 1

    event.listen(Engine, "before_cursor_execute", executed)
    try:
        list(work(folder))
        statements = count
        assert statements > 50
        for first in range(0, statements, 7):
            before = runs(store)
            count, stop = 0, range(first, first + times)
            with pytest.raises(Interrupted) as told:
                list(work(folder))
            stop = range(0)
            for number in runs(store) - before:
                (said,) = told.value.__notes__
                status = store.get_run(number).info.status
                assert status in ("FAILED", "FINISHED"), first
                assert said.startswith(f"run {number} is {status}; "), first
                registered = store.search_model_versions(f"run_id='{number}'")
                assert ("is registered and stays" in said) == bool(registered), first
    finally:
        event.remove(Engine, "before_cursor_execute", executed)


def test_a_secret_that_mlflow_run_has_logged_already_is_told(
    store: mlflow.MlflowClient, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    address = "https://host/x.csv?sig=S3CR3T"
    number = opened(data=address)
    with tracking.session({"data": address}, "train.py") as session:
        session.open("ridge")
    assert f"the address in data holds a secret, and it was logged to run {number}" in caplog.text
    assert "S3CR3T" not in caplog.text
    assert store.get_run(number).data.tags["param.data"] == "https://host/x.csv"
