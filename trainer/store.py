"""Reach an MLflow server, or prepare its store, before anything is asked of it.

The check of an address writes nothing. A new SQLite store is made under a lock, in a file of its own that is renamed
when it is whole: however many runs start at once, and whatever interrupts them, there is a whole store or none.
"""

import os
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from trainer import causes, reach, recording, signals
from trainer.causes import DEFAULT_STORE, command, unreachable
from trainer.errors import UserError
from trainer.secrets import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sqlalchemy import Connection

# Making the tables takes a second or two; whoever waits longer than this has met a process that hangs.
MAKING_SECONDS = 300.0
# Tables that are incomplete, and have been written to this shortly ago, are perhaps being made by somebody else.
SETTLED_SECONDS = 5.0


def check(uri: str, make: bool = False) -> None:
    """Fail within seconds, and with the reason, where MLflow itself would try again for minutes.

    Parameters
    ----------
    uri : str
        A tracking or registry URI.
    make : bool
        Whether an SQLite store, or the tables of one in PostgreSQL, are made where there are none.

    Raises
    ------
    UserError
        There is no server or database at this address, or it cannot be used.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    with causes.quiet():
        if scheme in ("http", "https"):
            reach.ask(uri)
        elif scheme == "sqlite":
            _sqlite(uri, make)
        elif scheme in ("postgresql", "mysql", "mssql"):
            with reach.database(uri) as connection:
                if make and connection.dialect.name == "postgresql":
                    _make_tables(connection, uri)


# -- an SQLite file --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tables:
    """What there is in a database: names of tables, whether MLflow has noted a revision, and its runs."""

    names: frozenset[str]
    has_revision: bool
    runs: int


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for another kind, or where SQLite is given a URI of its own.

    Raises
    ------
    UserError
        The store would be in memory.
    """
    if not uri.startswith("sqlite"):
        return None
    name = reach.parsed(uri).database or ""
    if name in ("", ":memory:") or "mode=memory" in uri:
        raise UserError(
            f"the store {uri} is in memory: it, and the model in it, would be gone with the process",
            f"set MLFLOW_TRACKING_URI={DEFAULT_STORE}",
        )
    return None if name.startswith("file:") else Path(name)


def _sqlite(uri: str, make: bool) -> None:
    path = sqlite_file(uri)
    if path is None:
        return
    try:
        if path.is_dir():
            raise unreachable(uri, f"{path} is a folder", f"set MLFLOW_TRACKING_URI=sqlite:///{path}/mlflow.db")
        if not path.parent.is_dir():
            raise unreachable(uri, f"there is no folder {path.parent}", f"mkdir -p {path.parent}")
        if path.exists() and path.stat().st_size:
            _check_file(uri, path)
        elif make:
            _make(uri, path)
        else:
            raise unreachable(
                uri, "there is no such file yet", f"{command('python')} train.py makes it; or set MLFLOW_TRACKING_URI"
            )
    except (sqlite3.Error, OSError) as error:
        found = causes.known(error, uri)
        raise unreachable(uri, *(found.cause, found.remedy) if found else (causes.said(error),)) from error


def _check_file(uri: str, path: Path) -> None:
    tables = _tables(path)
    if not tables.names:
        _make(uri, path)
        return
    if not tables.names & {"experiments", "runs", "alembic_version"}:
        raise unreachable(
            uri,
            "it is a database of something else, without MLflow's tables",
            f"set MLFLOW_TRACKING_URI={DEFAULT_STORE}",
        )
    started = time.monotonic()
    while not _is_whole(tables):
        settled = time.time() - path.stat().st_mtime > SETTLED_SECONDS
        if settled or time.monotonic() - started > MAKING_SECONDS:
            _refuse_incomplete(uri, path, tables)
        time.sleep(0.2)
        tables = _tables(path)
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise unreachable(uri, "it is read-only", f"chmod u+w {path} {path.parent}")


def _tables(path: Path) -> _Tables:
    # Not mode=ro: what a killed process has left in the journal could not be taken back then.
    address = f"file:{quote(str(path.resolve()))}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=30)) as connection:
        names = frozenset(name for (name,) in connection.execute("select name from sqlite_master where type='table'"))
        revisions = connection.execute("select * from alembic_version").fetchall() if "alembic_version" in names else []
        runs = connection.execute("select count(*) from runs").fetchone()[0] if "runs" in names else 0
        return _Tables(names, bool(revisions), int(runs))


def _is_whole(tables: _Tables) -> bool:
    import mlflow.store.db.utils  # noqa: F401 - it imports all the tables there are
    from mlflow.store.db.base_sql_model import Base

    half_made = any(name.startswith("_alembic_tmp_") for name in tables.names)
    return tables.has_revision and not half_made and set(Base.metadata.tables) <= tables.names


def _refuse_incomplete(uri: str, path: Path, tables: _Tables) -> None:
    if tables.runs == 0:
        raise unreachable(
            uri,
            "its tables are half made (the run that made them was killed), and it holds no runs",
            f"rm {path}  # and start again",
        )
    raise unreachable(
        uri,
        "its tables are those of an older MLflow, or half changed",
        f"cp {path} {path}.copy && {command('mlflow')} db upgrade {causes.argument(uri)}",
    )


def _make(uri: str, path: Path) -> None:
    """Make a store with all its tables, once, however many processes want it."""
    from filelock import FileLock, Timeout

    guard = path.with_name(f".{path.name}.lock")
    lock = FileLock(guard)
    told = f"waiting for another run that is making {causes.shown(uri)}"
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(told, file=sys.stderr)
            lock.acquire(timeout=MAKING_SECONDS)
    except Timeout as error:
        raise unreachable(uri, f"another process has been making it for {MAKING_SECONDS:g} s", f"rm {guard}") from error
    try:
        if not (path.exists() and path.stat().st_size and _tables(path).names):
            for left in path.parent.glob(f".{path.name}.*.new*"):
                left.unlink(missing_ok=True)  # of a process that was killed here: nobody else has the lock
            with signals.held():
                _make_whole(path, path.with_name(f".{path.name}.{os.getpid()}.new"))
        guard.unlink(missing_ok=True)  # whoever waits for it notices, and makes its own
    finally:
        lock.release()


def _make_whole(path: Path, scratch: Path) -> None:
    from mlflow.tracking._tracking_service.utils import _get_store

    # As sqlite+pysqlite, since of sqlite:/// MLflow also makes the folder, with its escapes as they are: a%20b. And it
    # undoes escapes of a plain path that are none: the artifacts of /p%41 would go to /pA.
    artifacts = Path("mlruns").absolute()
    root = artifacts.as_uri() if "%" in str(artifacts) and "_MLFLOW_SERVER_ARTIFACT_ROOT" not in os.environ else None
    address = f"sqlite+pysqlite:///{quote(str(scratch.absolute()))}"
    store = _get_store(address, root)  # type: ignore[no-untyped-call]
    try:
        store.get_experiment("0")
    finally:
        store.engine.dispose()
    os.replace(scratch, path)


# -- a database on a server ------------------------------------------------------------------------

# Names the lock of PostgreSQL that whoever makes MLflow's tables holds: any number that nobody else has.
_TABLES_LOCK = 0x6D6C666C6F77


def _make_tables(connection: "Connection", uri: str) -> None:
    """Make MLflow's tables in a PostgreSQL database that has none: once, however many runs start at the same moment."""
    import sqlalchemy
    from mlflow.tracking._tracking_service.utils import _get_store

    def are_whole() -> bool:  # the revision is noted last
        inspector = sqlalchemy.inspect(connection)
        has_revision = inspector.has_table("alembic_version") and connection.scalar(
            sqlalchemy.text("select count(*) from alembic_version")
        )
        connection.rollback()
        return bool(has_revision)

    if are_whole():
        return
    lock = {"lock": _TABLES_LOCK}
    if not connection.scalar(sqlalchemy.text("select pg_try_advisory_lock(:lock)"), lock):
        print(f"waiting for another run that is making the tables of {causes.shown(uri)}", file=sys.stderr)
        connection.execute(sqlalchemy.text("select pg_advisory_lock(:lock)"), lock)
    connection.commit()  # the lock lasts as long as the connection
    if not are_whole():
        with recording.said_to_server("make its tables"):
            _get_store(uri).engine.dispose()  # type: ignore[no-untyped-call]


# -- the registry ----------------------------------------------------------------------------------


def check_registry(client: "MlflowClient", uri: str) -> None:
    """Find out before the training whether the registry finds a version by its number.

    MLflow gives the number as text, which PostgreSQL does not compare through psycopg 3: what was registered there
    could be neither looked up nor taken back, whether that driver is here or where the server is.

    Raises
    ------
    UserError
        It does not.
    """
    if urlsplit(uri).scheme.partition("+")[0] not in ("http", "https", "postgresql"):
        return
    try:
        with recording.said_to_server("look up a version of a model"):
            client.get_model_version("a-model-of-nobody", "1")
    except UserError as error:
        if error.__cause__ is not None and causes.is_of_driver(error.__cause__):
            raise


# -- where artifacts go ----------------------------------------------------------------------------

# The module that MLflow needs for an artifact store, by the scheme of its address.
_DRIVERS = {
    "s3": "boto3",
    "r2": "boto3",
    "b2": "boto3",
    "gs": "google.cloud.storage",
    "wasb": "azure.storage.blob",
    "wasbs": "azure.storage.blob",
    "abfss": "azure.storage.filedatalake",
    "sftp": "pysftp",
    "hdfs": "pyarrow",
    "oss": "oss2",
}


def check_artifacts(uri: str) -> None:
    """Find out before the training, and without writing, whether artifacts can be stored.

    Raises
    ------
    UserError
        The driver is not installed, or the folder cannot be written to.
    """
    scheme = urlsplit(uri).scheme
    if (module := _DRIVERS.get(scheme)) is not None and not _is_installed(module):
        package = causes.package(module)
        raise UserError(
            f"the runs' artifacts go to {without_secrets(uri)}, and that needs the package {package}",
            f"uv pip install {package}",
        )
    if scheme in ("", "file"):
        from mlflow.utils.file_utils import local_file_uri_to_path

        folder = Path(local_file_uri_to_path(uri))  # type: ignore[no-untyped-call]
        there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            fault = "is read-only" if there.is_dir() else "is no folder"
            raise UserError(
                f"the runs' artifacts go to {folder}, and {there} {fault}",
                f"chmod u+rwx {there}  # or: export MLFLOW_EXPERIMENT_NAME=another, with artifacts elsewhere",
            )


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
