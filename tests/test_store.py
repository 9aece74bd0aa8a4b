"""An SQLite store is made once and whole, checked without being written to, and refused with the reason."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import sqlalchemy
from filelock import FileLock

from tests.conftest import ROOT
from trainer import signals, store, tracking
from trainer.errors import Interrupted, UserError

Altered = Callable[..., str]


@pytest.fixture
def altered(template_store: Path, tmp_path: Path) -> Altered:
    """Give a store on which these statements were run, as something of long ago."""

    def call(*statements: str) -> str:
        path = tmp_path / "altered.db"
        shutil.copy(template_store, path)
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        os.utime(path, (0, 0))
        return f"sqlite:///{path}"

    return call


def refusal(uri: str, make: bool = True) -> UserError:
    with pytest.raises(UserError) as told:
        store.check(uri, make=make)
    return told.value


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def has_experiments(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("select count(*) from experiments").fetchone()[0])


def test_a_store_is_made_whole_and_leaves_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "p%41 c#;"
    folder.mkdir()
    monkeypatch.chdir(folder)
    store.check("sqlite:///mlflow.db", make=True)
    assert files(folder) == ["mlflow.db"]
    assert has_experiments(folder / "mlflow.db")
    assert files(tmp_path) == ["p%41 c#;"]
    # MLflow undoes the escapes of a path, and takes those of an address for what they are.
    assert mlflow.MlflowClient("sqlite:///mlflow.db").get_experiment("0").artifact_location == (
        f"{(folder / 'mlruns').as_uri()}/0"
    )


def test_an_interruption_leaves_no_store_and_the_next_run_makes_one(
    tmp_path: Path, template_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"

    def killed(scratch: Path) -> None:
        scratch.write_bytes(b"half a database")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "_make_whole", lambda _, scratch: killed(scratch))
        with pytest.raises(KeyboardInterrupt):
            store.check(f"sqlite:///{path}", make=True)
    assert not path.exists()
    monkeypatch.setattr(store, "_make_whole", lambda path, _: shutil.copy(template_store, path))
    store.check(f"sqlite:///{path}", make=True)
    assert files(tmp_path) == ["mlflow.db"]


def test_a_signal_waits_until_the_store_is_whole(
    tmp_path: Path, template_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    path = tmp_path / "mlflow.db"

    def make(path: Path, _: Path) -> None:
        signal.raise_signal(signal.SIGTERM)
        shutil.copy(template_store, path)

    monkeypatch.setattr(store, "_make_whole", make)
    with pytest.raises(Interrupted), signals.heard():
        store.check(f"sqlite:///{path}", make=True)
    store.check(f"sqlite:///{path}")


def test_who_comes_second_waits_and_says_so(
    tmp_path: Path, template_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, waits, said = tmp_path / "mlflow.db", threading.Event(), []

    def tell(sentence: str, **_: object) -> None:
        said.append(sentence)
        waits.set()

    monkeypatch.setattr(store, "print", tell, raising=False)
    monkeypatch.setattr(store, "_make_whole", lambda *_: pytest.fail("it was made twice"))
    first = FileLock(tmp_path / ".mlflow.db.lock")
    first.acquire()
    second = threading.Thread(target=store.check, args=(f"sqlite:///{path}", True))
    second.start()
    assert waits.wait(60)
    shutil.copy(template_store, path)
    first.release()
    second.join()
    assert said == [f"waiting for another run that is making sqlite:///{path}"]


def test_a_process_that_never_ends_making_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAKING_SECONDS", 0)
    with FileLock(tmp_path / ".mlflow.db.lock"):
        told = refusal(f"sqlite:///{tmp_path}/mlflow.db")
    assert "another process has been making it for 0 s" in told.cause
    assert told.remedy == f"rm {tmp_path}/.mlflow.db.lock"


def test_three_processes_at_once_make_one_store(tmp_path: Path) -> None:
    code = (
        "import mlflow; from trainer import store; uri = mlflow.get_tracking_uri(); store.check(uri, make=True);"
        "mlflow.MlflowClient().create_run('0')"
    )
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("MLFLOW_")},
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert files(tmp_path) == ["mlflow.db"]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (3,)


# -- what is there already ---------------------------------------------------------------------------


def test_a_whole_store_is_taken_and_not_written_to(altered: Altered) -> None:
    uri = altered()
    path = Path(uri.removeprefix("sqlite:///"))
    before = path.read_bytes()
    for spelled in (
        uri,
        f"{uri}?timeout=30",
        uri.replace("sqlite:", "sqlite+pysqlite:"),
        uri.replace("altered", "%61ltered"),
    ):
        store.check(spelled, make=True)
    assert path.read_bytes() == before
    assert files(path.parent) == ["altered.db"]


def test_what_a_killed_process_has_begun_to_write_is_taken_back(altered: Altered, tmp_path: Path) -> None:
    path = Path(altered().removeprefix("sqlite:///"))
    killed = tmp_path / "killed.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma cache_size = 1")
        for number in range(500):  # more than the cache holds, so that they are in the file before they are committed
            values = (f"key {number}", "x" * 2000)
            connection.execute("insert into experiment_tags (experiment_id, key, value) values (0, ?, ?)", values)
        for suffix in ("", "-journal"):
            shutil.copy(f"{path}{suffix}", f"{killed}{suffix}")
    store.check(f"sqlite:///{killed}")
    with closing(sqlite3.connect(killed)) as connection:
        assert connection.execute("select count(*) from experiment_tags").fetchone() == (0,)


HALF = "create table _alembic_tmp_metrics (step integer)"


def test_half_made_tables_without_runs_may_be_removed(altered: Altered) -> None:
    for statement in (
        HALF,
        "drop table registered_models",
        "delete from alembic_version",
        "drop table alembic_version",
    ):
        uri = altered(statement)
        told = refusal(uri)
        assert "its tables are half made" in told.cause
        assert told.remedy.startswith(f"rm {uri.removeprefix('sqlite:///')} ")


def test_incomplete_tables_with_runs_are_to_be_upgraded(altered: Altered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV", raising=False)
    run = "insert into runs (run_uuid, experiment_id) values ('a', 0)"
    uri = altered(run, "drop table entity_associations")
    told = refusal(uri)
    assert "its tables are those of an older MLflow" in told.cause
    path = uri.removeprefix("sqlite:///")
    assert told.remedy == f"cp {path} {path}.copy && mlflow db upgrade {uri}"


def test_tables_that_somebody_is_making_now_are_waited_for(altered: Altered, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = altered(HALF)
    path = Path(uri.removeprefix("sqlite:///"))
    os.utime(path)

    def finish(_: float) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("drop table _alembic_tmp_metrics")

    monkeypatch.setattr("time.sleep", finish)
    monkeypatch.setattr(store, "SETTLED_SECONDS", float("inf"))
    store.check(uri)


@pytest.mark.parametrize(
    ("statement", "cause", "remedy"),
    [
        ("update alembic_version set version_num = 'fedcba987654'", "a newer MLflow than the", "use that MLflow"),
        ("update alembic_version set version_num = 'bf29a5ff90ea'", "an older MLflow than the", "db upgrade"),
    ],
)
def test_the_tables_of_another_mlflow_are_told(
    altered: Altered, monkeypatch: pytest.MonkeyPatch, statement: str, cause: str, remedy: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", altered(statement))
    with pytest.raises(UserError) as told, tracking.session({}, "train.py"):
        pytest.fail("it began")
    assert cause in told.value.cause
    assert remedy in told.value.remedy


def test_a_file_that_is_no_database_and_one_of_something_else(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.db", tmp_path / "other.db"
    text.write_text("no database " * 100)
    assert "the file is not an SQLite database" in refusal(f"sqlite:///{text}").cause
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("create table songs (title text)")
    assert "without MLflow's tables" in refusal(f"sqlite:///{other}").cause
    assert f"{tmp_path} is a folder" in refusal(f"sqlite:///{tmp_path}").cause


def test_what_is_not_there_is_not_made_by_a_look_at_it(tmp_path: Path) -> None:
    told = refusal(f"sqlite:///{tmp_path}/mlflow.db", make=False)
    assert "there is no such file yet" in told.cause
    assert "train.py" in told.remedy
    told = refusal(f"sqlite:///{tmp_path}/a/b/mlflow.db")
    assert f"there is no folder {tmp_path}/a/b" in told.cause
    assert told.remedy == f"mkdir -p {tmp_path}/a/b"
    assert files(tmp_path) == []


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_store_in_memory_is_refused(uri: str) -> None:
    assert "is in memory" in refusal(uri).cause


def test_a_store_that_is_read_only_is_told(altered: Altered, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = altered()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert "it is read-only" in refusal(uri).cause


@pytest.fixture
def locking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Make the tables of an empty database that has PostgreSQL's locks; return the addresses where that was done."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'server.db'}")
    made: list[str] = []

    def make(address: str) -> sqlalchemy.Engine:
        made.append(address)
        return SimpleNamespace(engine=engine)  # type: ignore[return-value]

    def call(is_free: bool, wait: Callable[[], None] = lambda: None) -> list[str]:
        monkeypatch.setattr("mlflow.tracking._tracking_service.utils._get_store", make)
        with engine.connect() as connection:
            given: Any = connection.connection.driver_connection
            given.create_function("pg_try_advisory_lock", 1, lambda _: is_free)
            given.create_function("pg_advisory_lock", 1, lambda _: wait())
            store._make_tables(connection, "postgresql+psycopg2://ada:secret@host/db")
        return made

    yield call
    engine.dispose()


def test_tables_on_a_server_are_made_under_its_lock(
    locking: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert locking(True) == ["postgresql+psycopg2://ada:secret@host/db"]
    assert capsys.readouterr().err == ""


def test_who_comes_second_waits_for_the_tables_on_a_server(
    locking: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def first() -> None:
        with closing(sqlite3.connect(tmp_path / "server.db")) as connection, connection:
            connection.execute("create table alembic_version as select 'abc' as version_num")

    assert locking(False, first) == []
    assert "waiting for another run that is making the tables of postgresql+psycopg2://host/db" in (
        capsys.readouterr().err
    )
    assert locking(False) == []


def test_an_artifact_store_is_looked_at_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.check_artifacts(str(tmp_path / "not" / "yet"))
    store.check_artifacts((tmp_path / "not yet").as_uri())
    store.check_artifacts("mlflow-artifacts:/0")
    assert files(tmp_path) == []

    monkeypatch.setattr(store, "_is_installed", lambda module: module != "boto3")
    with pytest.raises(UserError) as told:
        store.check_artifacts("s3://key:secret@bucket/runs?sig=1")
    assert told.value.cause == "the runs' artifacts go to s3://bucket/runs, and that needs the package boto3"
    assert told.value.remedy == "uv pip install boto3"

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is no folder"):
        store.check_artifacts(str(tmp_path / "file" / "artifacts"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="is read-only"):
        store.check_artifacts(str(tmp_path / "artifacts"))
