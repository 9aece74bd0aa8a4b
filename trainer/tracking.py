"""Everything that is said to an MLflow tracking server."""

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from trainer.errors import UnreachableError, UserError, first_line
from trainer.secrets import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from trainer.formats import Source

# What a child run has from its parent: who has started it, and how.
INHERITED = ("mlflow.user", "mlflow.source.type", "mlflow.source.git.commit")
# The experiment that `mlflow run` uses where none is named; a workspace has it only once it is asked for.
DEFAULT_EXPERIMENT = "Default"
REACHABLE_SECONDS = 5
DEFAULT_STORE = "sqlite:///mlflow.db"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """An active MLflow run.

    Attributes
    ----------
    id : str
    experiment_id : str
    artifact_uri : str
    tags : mapping of str to str
        Those that it was opened with.
    client : MlflowClient
    """

    id: str
    experiment_id: str
    artifact_uri: str
    tags: Mapping[str, str]
    client: "MlflowClient"


@contextmanager
def start_run(params: Mapping[str, str], source: str) -> Iterator[Run]:
    """Open a run, or continue the one that `mlflow run` or Azure Machine Learning has opened.

    It ends FINISHED, or FAILED where the block raises, SystemExit and KeyboardInterrupt included.

    Parameters
    ----------
    params : mapping of str to str
        Logged in this spelling, except where the run has them already.
    source : str
        The script, for the run's tag ``mlflow.source.name``.

    Raises
    ------
    UserError
        The tracking server cannot be reached, or refuses.
    """
    import mlflow

    check_reachable(mlflow.get_tracking_uri())
    with said_to_server("open a run"):
        given = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
        if not any(os.environ.get(name) for name in given):
            mlflow.set_experiment(DEFAULT_EXPERIMENT)
        active = mlflow.start_run()
    with _ending(mlflow.end_run):
        info, known = active.info, active.data.params
        for name in params.keys() & known.keys():
            if params[name] != known[name]:
                raise UserError(
                    f"run {info.run_id} already has {name}={known[name]}, and is given {name}={params[name]}",
                    "unset MLFLOW_RUN_ID to train in a run of its own",
                )
        client = mlflow.MlflowClient()
        run = Run(info.run_id, info.experiment_id, info.artifact_uri, active.data.tags, client)
        log(
            run,
            params={name: text for name, text in params.items() if name not in known},
            tags={"mlflow.source.name": source} if _is_local(active.data.tags) else {},
        )
        yield run


@contextmanager
def child_run(parent: Run, name: str, params: Mapping[str, str], source: str) -> Iterator[Run]:
    """Open a run below another one; it ends as `start_run` ends one."""
    import mlflow

    inherited = {key: text for key, text in parent.tags.items() if key in INHERITED}
    with said_to_server("open a run"):
        active = mlflow.start_run(
            experiment_id=parent.experiment_id,
            run_name=name,
            nested=True,
            parent_run_id=parent.id,
            tags=inherited | {"mlflow.source.name": source},
        )
    child = Run(active.info.run_id, parent.experiment_id, active.info.artifact_uri, active.data.tags, parent.client)
    with _ending(mlflow.end_run):
        log(child, params=params)
        yield child


@contextmanager
def _ending(end: Callable[[str], None]) -> Iterator[None]:
    """End a run FINISHED, or FAILED where the block raises."""
    try:
        yield
    except BaseException:
        with suppress(UserError), said_to_server("end a run"):  # that the server is away came second
            end("FAILED")
        raise
    with said_to_server("end a run"):
        end("FINISHED")


def log(
    run: Run,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log params, metrics and tags in one request.

    Raises
    ------
    UserError
        The tracking server refused.
    """
    from time import time

    from mlflow.entities import Metric, Param, RunTag

    now = int(time() * 1000)
    with said_to_server("log params, metrics and tags"):
        run.client.log_batch(
            run.id,
            metrics=[Metric(name, value, now, 0) for name, value in (metrics or {}).items()],
            params=[
                Param(name, text)  # type: ignore[no-untyped-call]
                for name, text in (params or {}).items()
            ],
            tags=[
                RunTag(name, text)  # type: ignore[no-untyped-call]
                for name, text in (tags or {}).items()
            ],
        )


def log_dataset(run: Run, source: "Source", n_rows: int, n_columns: int) -> None:
    """Log the table as the run's input, where the server knows inputs (a workspace may not).

    mlflow's own `from_pandas` hashes the whole table once more; the digest is known already.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    dataset = Dataset(
        name=source.name,
        digest=source.sha256[:32],
        source_type="local" if "://" not in source.uri else "http",
        source=json.dumps({"uri": source.uri}),
        profile=json.dumps({"num_rows": n_rows, "num_elements": n_rows * n_columns}),
    )
    try:
        run.client.log_inputs(run.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    except MlflowException as error:
        if error.error_code not in ("ENDPOINT_NOT_FOUND", "RESOURCE_DOES_NOT_EXIST", "NOT_IMPLEMENTED"):
            raise
        _logger.info("this server does not know run inputs; the data's tags say the same")


def log_folder(run: Run, folder: Path) -> None:
    """Log all files of a folder, at the paths that they have in it.

    Raises
    ------
    UserError
        The artifact store refused, or is full.
    """
    with said_to_server("store the artifacts", any_error=True):
        run.client.log_artifacts(run.id, str(folder))


def log_file(run: Run, path: str, folder: str) -> None:
    """Log one file, into a folder of the artifacts.

    Raises
    ------
    UserError
        The artifact store refused, or is full.
    """
    with said_to_server("store the artifacts", any_error=True):
        run.client.log_artifact(run.id, path, folder)


def _is_local(tags: Mapping[str, str]) -> bool:
    """Whether the source that mlflow noted is a path of this machine, which says nothing on another."""
    source = tags.get("mlflow.source.name", "")
    return source.startswith("file:") or Path(source.partition("#")[0]).is_absolute()


def where_to_look(run: Run) -> str:
    """Say how a person gets to see a run: an address, or the command that serves one."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    page = f"/#/experiments/{run.experiment_id}/runs/{run.id}"
    if urlsplit(uri).scheme in ("http", "https"):
        return _shown(uri).rstrip("/") + page
    if urlsplit(uri).scheme == "azureml":
        return (
            f"https://ml.azure.com/runs/{run.id}?wsid=/subscriptions/{uri.partition('/subscriptions/')[2].rstrip('?')}"
        )
    shown = _shown(uri)
    store = "" if shown == DEFAULT_STORE else f" --backend-store-uri {shown}"
    return f"mlflow ui{store}, then http://127.0.0.1:5000{page}"


@contextmanager
def said_to_server(what: str, remedy: str = "", any_error: bool = False) -> Iterator[None]:
    """Turn the errors of a tracking server or model registry into one line that names it.

    Parameters
    ----------
    what : str
        What was asked of it, as in "could not `what`".
    remedy : str
        What to do about it, where that is not the address, the access or the space.
    any_error : bool
        Whether every exception is the server's: the drivers of artifact stores have exceptions of their own.
    """
    import mlflow
    import requests
    from mlflow.exceptions import MlflowException

    theirs = (MlflowException, requests.RequestException, OSError)
    try:
        yield
    except Exception as error:
        if not any_error and not isinstance(error, theirs):
            raise
        cause = first_line(error)
        server = _shown(mlflow.get_tracking_uri())
        raise UserError(
            f"MLflow at {server} could not {what}: {cause}",
            remedy or "check MLFLOW_TRACKING_URI, your access to it, and its free space",
        ) from error


def check_reachable(uri: str) -> None:
    """Fail within seconds where mlflow itself would try again for minutes.

    Raises
    ------
    UserError
        There is no server, or no database, at this address.
    """
    import requests

    parts = urlsplit(uri)
    try:
        if parts.scheme in ("http", "https"):
            requests.get(uri, timeout=REACHABLE_SECONDS, stream=True).close()
        elif parts.scheme == "sqlite":
            path = Path(unquote(uri.removeprefix("sqlite:///")))
            path.parent.mkdir(parents=True, exist_ok=True)
            sqlite3.connect(path).close()
            if not os.access(path, os.W_OK):
                raise PermissionError(f"{path.name} is read-only")
    except (requests.RequestException, sqlite3.Error, OSError) as error:
        reason = "it did not answer" if isinstance(error, requests.RequestException) else str(error)
        raise UnreachableError(
            f"the MLflow tracking server at {_shown(uri)} cannot be reached: {reason}",
            "start it, or set MLFLOW_TRACKING_URI to another; unset, the runs go to ./mlflow.db",
        ) from error


def _shown(uri: str) -> str:
    """Return a tracking URI as it may be printed: without secrets, and without where this folder is."""
    if uri == f"sqlite:///{Path('mlflow.db').resolve()}":
        return DEFAULT_STORE
    if uri.startswith("azureml:"):
        return f"the Azure Machine Learning workspace {uri.rstrip('?').rpartition('/workspaces/')[2]}"
    return without_secrets(uri)
