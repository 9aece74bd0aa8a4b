"""What an error of a tracking server, a database or a driver means: one line of cause, and the remedy of that cause."""

import errno
import logging
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from trainer.errors import UnreachableError, UserError, first_line
from trainer.secrets import holds_secret, redact, without_secrets

DEFAULT_STORE = "sqlite:///mlflow.db"

# The packages whose exceptions are a server's, a database's or an artifact store's answer, and no bug of this project.
_THEIRS = frozenset(
    (
        *("mlflow", "azureml", "databricks", "requests", "urllib3", "http", "ssl", "socket"),
        *("sqlalchemy", "alembic", "sqlite3", "psycopg", "psycopg2", "pymysql", "MySQLdb", "pyodbc", "asyncpg"),
        *("botocore", "boto3", "s3transfer", "azure", "google", "paramiko", "pysftp", "pyarrow", "filelock"),
    )
)
# The package to install for a module that is missing, where the two have different names.
_PACKAGES = {
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "google": "google-cloud-storage",
    "google.cloud": "google-cloud-storage",
    "azure": "azure-storage-blob azure-identity",
}
_DRIVER = re.compile(r"^\((?:[\w.]+)\)\s*")  # "(sqlite3.OperationalError) database is locked"


@dataclass(frozen=True)
class Fault:
    """One kind of error: how its text is recognised, what it is called, and what is to be done.

    `cause` and `remedy` may hold ``{uri}`` (of the store, without secrets), ``{found}`` (what the pattern's group
    matched), ``{mlflow}`` (the command as it runs in this shell) and ``{version}`` (of MLflow here).
    """

    pattern: str
    cause: str
    remedy: str


_TEXT_AS_NUMBER = "operator does not exist: integer = character varying"
_PSYCOPG2 = (
    "uv pip install psycopg2-binary  # and write postgresql+psycopg2://... for the database: in MLFLOW_TRACKING_URI, "
    "or in the server's --backend-store-uri"
)
# Of PostgreSQL, SQLite and MySQL; and of MLflow, which tries the next number of a version three times.
_CROSSED = re.compile(
    "database is locked|database table is locked|duplicate key value violates|UNIQUE constraint failed|Duplicate entry|"
    "Model Version creation error.*Giving up"
)
_NEWER = "Can't locate revision"

_FAULTS = (
    Fault(
        r"deleted experiment '([^']*)'",
        "the experiment {found} is deleted",
        "restore it ({mlflow} experiments restore -x ID; search --view all lists the ids), or set another "
        "MLFLOW_EXPERIMENT_NAME",
    ),
    Fault(
        r"No Experiment with id=(\S+) exists|Could not find experiment with ID (\S+)",
        "there is no experiment with the id {found}",
        "unset MLFLOW_EXPERIMENT_ID, or give one that `{mlflow} experiments search` lists",
    ),
    Fault(
        r"Run with id=(\S+) not found|Run '?([^' ]+)'? not found",
        "there is no run {found}",
        "unset MLFLOW_RUN_ID to train in a run of its own, or set MLFLOW_TRACKING_URI to the server that has it",
    ),
    Fault(
        r"[Bb]lob already exists|BlobAlreadyExists",
        "the run has artifacts of this name already, which a workspace does not overwrite: the job was started again "
        "after it had stored them",
        "send a new job (python submit/remote.py); the studio shows what the first attempt of this one has stored",
    ),
    Fault(
        _TEXT_AS_NUMBER,
        "its driver, psycopg 3, does not compare numbers with text, as MLflow {version} does to find a version",
        _PSYCOPG2,
    ),
    Fault(
        r"out-of-date database schema",
        "its tables are those of an older MLflow than the {version} that is installed here",
        "make a copy of it, then: {mlflow} db upgrade {uri}",
    ),
    Fault(
        _NEWER,
        "its tables were made by a newer MLflow than the {version} that is installed here",
        "use that MLflow, or set MLFLOW_TRACKING_URI to another store",
    ),
    Fault(
        r"_alembic_tmp_|table \S+ already exists|duplicate column name",
        "its tables are half made: the run that made them was killed, or several began at once",
        "where it holds no runs yet, remove it and start again; else: {mlflow} db upgrade {uri}",
    ),
    Fault(
        r"file is not a database|file is encrypted",
        "the file is not an SQLite database",
        "set MLFLOW_TRACKING_URI to a store, as in {store}, or remove the file",
    ),
    Fault(
        r"disk is full|No space left|[Qq]uota exceeded",
        "the disk is full",
        "free some space there, or set MLFLOW_TRACKING_URI to a store on another disk",
    ),
    Fault(r"readonly database|Read-only file system", "it is read-only", "make the file and its folder writable"),
    Fault(
        r"database is locked",
        "another process has been writing to it all the time",
        "end that process (lsof names it) and start again; for many at once: {mlflow} server, "
        "and MLFLOW_TRACKING_URI=http://...",
    ),
    Fault(
        r"disk I/O error|Input/output error",
        "the disk does not answer as it should (disk I/O error)",
        "set MLFLOW_TRACKING_URI to a store on another disk; SQLite needs one with locks, which NFS often lacks",
    ),
    Fault(
        re.escape(os.strerror(errno.EFBIG)),
        "this shell limits the size of files, and the store is larger",
        "raise the limit: ulimit -f unlimited",
    ),
    Fault(
        r"database disk image is malformed",
        "the database is damaged",
        "save what can be read (sqlite3 FILE .recover), or set MLFLOW_TRACKING_URI to another store",
    ),
    Fault(
        r"unable to open database file",
        "the file cannot be opened",
        "check that its folder is there and writable, or set MLFLOW_TRACKING_URI to another store",
    ),
    Fault(
        r"filesystem tracking backend|file:? ?store",
        "MLflow {version} keeps no runs in a folder of files any more",
        "set MLFLOW_TRACKING_URI={store}, or copy the folder's runs into one: {mlflow} migrate-filestore --help",
    ),
    Fault(
        r"supported URI|unsupported URI|Could not find a registered|Can't load plugin|Could not parse",
        "MLflow does not know this kind of address",
        "set MLFLOW_TRACKING_URI to http://HOST:PORT, {store}, or postgresql://...",
    ),
    Fault(
        r"password authentication failed|Access denied for user|no password supplied",
        "user or password is wrong",
        "give both in MLFLOW_TRACKING_URI, with %40 for an @ in them",
    ),
    Fault(
        r"database \"([^\"]*)\" does not exist|Unknown database '([^']*)'",
        "there is no database {found} on it",
        "create it (createdb {found}), or name another in MLFLOW_TRACKING_URI",
    ),
    Fault(
        r"[Uu]nable to locate credentials|NoCredentials|DefaultCredentialsError|ClientAuthenticationError",
        "the artifact store asks for credentials that are not here",
        "sign in to it (aws configure, az login, gcloud auth application-default login)",
    ),
)


def command(words: str) -> str:
    """Return a command as it runs in the shell that has started this process."""
    return f"uv run {words}" if os.environ.get("UV") else words


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow and its drivers from logging a traceback of what is told in two lines; with --debug they may."""
    if logging.getLogger("trainer").isEnabledFor(logging.DEBUG):
        yield
        return
    # Of all loggers at once: a level that is set empties the cache of every logger, and that of a dozen costs more than
    # most calls do.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def is_theirs(error: BaseException) -> bool:
    """Whether an exception is the answer of a server or a driver, and not a bug of this project."""
    if isinstance(error, OSError | ImportError):
        return True
    return any(kind.__module__.partition(".")[0] in _THEIRS for kind in type(error).__mro__)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Walk from an exception to what it came from."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def is_crossed(error: BaseException) -> bool:
    """Whether a database has refused because another process was writing, so that asking again is right.

    MLflow inserts a tag, or an alias, where it has found none: of two processes that do so at once, one is refused.
    """
    return any(_CROSSED.search(str(one)) for one in chain(error))


def is_of_driver(error: BaseException) -> bool:
    """Whether PostgreSQL has refused because of how its driver gives numbers that are text."""
    return any(_TEXT_AS_NUMBER in str(one) for one in chain(error))


def explain(error: BaseException, what: str, uri: str, remedy: str = "") -> UserError:
    """Say in two lines what an error of a server means.

    Parameters
    ----------
    error : exception
    what : str
        What was asked of it, as in "could not `what`".
    uri : str
        Of the tracking server.
    remedy : str
        What to do where nothing better is known.
    """
    found = known(error, uri)
    if found is not None:
        return UserError(f"MLflow at {shown(uri)} could not {what}: {found.cause}", found.remedy)
    status = _status(error)
    fallback = remedy or "check MLFLOW_TRACKING_URI, your access to it, and its free space"
    if status == 401:
        fallback = SIGN_IN
    elif status == 403:
        fallback = "ask for the right to do that, or set MLFLOW_TRACKING_TOKEN to a token that has it"
    return UserError(f"MLflow at {shown(uri)} could not {what}: {said(error)}", fallback)


SIGN_IN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


def known(error: BaseException, uri: str) -> Fault | None:
    """Return the cause and the remedy of an error that is known; both are ready to be printed."""
    links = list(chain(error))
    for one in links:
        if isinstance(one, ModuleNotFoundError) and one.name:
            return _missing(one.name)
        if isinstance(one, MemoryError):
            return Fault("", "there is not enough memory", "free some memory, or use a larger machine")
    text = "\n".join(str(one) for one in links)
    if "disk I/O error" in text and _limits_size():
        text = os.strerror(errno.EFBIG)  # SQLite does not tell the two apart
    if (found := re.search(r"found version (\w+)", text)) and not _is_revision(found[1]):
        text = _NEWER  # MLflow calls it out of date all the same
    for fault in _FAULTS:
        if match := re.search(fault.pattern, text):
            group = next((one for one in match.groups() if one), "")
            return Fault("", _filled(fault.cause, uri, group), _filled(fault.remedy, uri, group))
    for one in links:
        if isinstance(one, OSError) and one.errno in _DISK:
            where = f" ({one.filename})" if one.filename else ""
            return Fault("", f"{os.strerror(one.errno or 0)}{where}", _DISK[one.errno or 0])
    return None


def _limits_size() -> bool:
    """Whether this process may not write files of any size."""
    try:
        import resource
    except ModuleNotFoundError:  # on Windows
        return False
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def _is_revision(name: str) -> bool:
    """Whether MLflow, as it is installed here, knows the tables of this revision."""
    import mlflow.store

    versions = Path(mlflow.store.__file__).parent / "db_migrations" / "versions"
    return any(versions.glob(f"{name}_*.py"))


_PLACE = "or set MLFLOW_TRACKING_URI to another store"
_DISK = {
    errno.ENOSPC: f"free some space there, {_PLACE}",
    errno.EDQUOT: f"free some space there, {_PLACE}",
    errno.EACCES: f"make that place writable, {_PLACE}",
    errno.EPERM: f"make that place writable, {_PLACE}",
    errno.EROFS: f"make that place writable, {_PLACE}",
    errno.EIO: f"look at that disk, {_PLACE}",
    errno.EMFILE: "raise the number of open files: ulimit -n 1024",
    errno.ENFILE: "end other processes: this machine has as many open files as it can have",
    errno.ENAMETOOLONG: f"use shorter names, {_PLACE}",
}


def package(module: str) -> str:
    """Return what is to be installed for a module."""
    top = module.partition(".")[0]
    return _PACKAGES.get(module) or _PACKAGES.get(top) or top


def _missing(module: str) -> Fault:
    if module == "psycopg":
        return Fault("", "its address takes psycopg 3, with which MLflow would find no version of a model", _PSYCOPG2)
    wanted = package(module)
    return Fault("", f"it needs the package {wanted}, which is not installed here", f"uv pip install '{wanted}'")


def _filled(sentence: str, uri: str, found: str) -> str:
    from importlib import metadata

    return sentence.format(
        uri=argument(uri),
        found=found.rstrip("."),
        mlflow=command("mlflow"),
        store=DEFAULT_STORE,
        version=metadata.version("mlflow"),
    )


def said(error: BaseException) -> str:
    """Return what a server has said, in one line, without secrets.

    An Azure Machine Learning workspace has its sentence in ``Error.Message``; MLflow prints that whole document.
    """
    document = getattr(error, "json", None)
    if isinstance(document, dict) and isinstance(document.get("Error"), dict) and "message" not in document:
        inner = document["Error"]
        text = f"{document.get('error_code') or inner.get('Code') or 'refused'}: {inner.get('Message', '')}"
    else:
        text = _DRIVER.sub("", first_line(error))
    return redact(text)


def _status(error: BaseException) -> int | None:
    for one in chain(error):
        if callable(ask := getattr(one, "get_http_status_code", None)):
            return int(ask())
    return None


def is_refusal(error: BaseException) -> bool:
    """Whether a server has refused what it may not know, so that asking again, or signing in, is of no use."""
    if not is_theirs(error) or (status := _status(error)) is None:
        return False
    return status == 501 or (400 <= status < 500 and status not in (401, 408, 429))


def is_default(uri: str) -> bool:
    """Whether a tracking URI is that of the file that MLflow uses in this folder where none is set."""
    file = unquote(uri.removeprefix("sqlite:///"))
    return uri.startswith("sqlite:///") and file in ("mlflow.db", str(Path("mlflow.db").absolute()))


def shown(uri: str) -> str:
    """Return a tracking URI as it may be printed: without secrets, and without where this folder is."""
    if is_default(uri):
        return DEFAULT_STORE
    if uri.startswith("azureml:"):
        return f"the Azure Machine Learning workspace {uri.rstrip('?').rpartition('/workspaces/')[2]}"
    return redact(without_secrets(uri))


def argument(uri: str) -> str:
    """Return a tracking URI as an argument of a command, which runs where it is pasted and shows no secret."""
    if holds_secret(uri) or (urlsplit(uri).scheme not in ("sqlite", "") and "@" in uri):
        return '"$MLFLOW_TRACKING_URI"'
    return shlex.quote(DEFAULT_STORE if shown(uri) == DEFAULT_STORE else uri)


def unreachable(uri: str, reason: str, remedy: str = "") -> UnreachableError:
    """Say that there is no server, or no database, at an address."""
    return UnreachableError(
        f"the MLflow tracking server at {shown(uri)} cannot be reached: {reason}",
        remedy or "start it, or set MLFLOW_TRACKING_URI to another; unset, the runs go to ./mlflow.db",
    )
