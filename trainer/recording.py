"""What is said to an MLflow tracking server, and how its errors are told."""

import json
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from trainer import causes, signals
from trainer.causes import DEFAULT_STORE, argument, command, shown
from trainer.errors import UserError
from trainer.secrets import redact, without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from trainer.formats import Source

# Of `mlflow ui`, unless something else has it (on macOS, AirPlay does).
PORT = 5000

_T = TypeVar("_T")
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


# -- what is logged ----------------------------------------------------------------------------------


def log(
    run: Run,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    model_id: str | None = None,
) -> None:
    """Log params, metrics and tags in one request; the metrics are those of a logged model, too, where one is named.

    Raises
    ------
    UserError
        The tracking server refused.
    """
    from time import time

    from mlflow.entities import Metric, Param, RunTag

    now = int(time() * 1000)
    with said_to_server("log params, metrics and tags"):
        patiently(
            lambda: run.client.log_batch(
                run.id,
                metrics=[Metric(name, value, now, 0, model_id) for name, value in (metrics or {}).items()],
                params=[
                    Param(name, text)  # type: ignore[no-untyped-call]
                    for name, text in (params or {}).items()
                ],
                tags=[
                    RunTag(name, text)  # type: ignore[no-untyped-call]
                    for name, text in (tags or {}).items()
                ],
            )
        )


def log_curves(run: Run, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Log metrics that have a value a step: {name: [(step, value)]}."""
    from time import time

    from mlflow.entities import Metric

    now = int(time() * 1000)
    points = [Metric(name, value, now, step) for name, curve in curves.items() for step, value in curve]
    if points:
        with said_to_server("log the curves"):
            patiently(lambda: run.client.log_batch(run.id, metrics=points))


def describe(run: Run, text: str) -> None:
    """Give a run a description in Markdown, where the server takes one of that length."""
    optional("describe the run", lambda: run.client.set_tag(run.id, "mlflow.note.content", text))


def log_dataset(run: Run, source: "Source", n_rows: int, n_columns: int) -> None:
    """Log the table as the run's input, where the server knows inputs (a workspace may not).

    mlflow's own `from_pandas` hashes the whole table once more; the digest is known already.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    uri = without_secrets(source.uri)
    dataset = Dataset(
        name=redact(source.name),
        digest=source.sha256[:32],
        source_type="local" if "://" not in uri else "http",
        source=json.dumps({"uri": uri}),
        profile=json.dumps({"num_rows": n_rows, "num_elements": n_rows * n_columns}),
    )
    optional(
        "log the run's input",
        lambda: run.client.log_inputs(run.id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]),
    )


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


def optional(what: str, call: Callable[[], object]) -> bool:
    """Ask for something that a server need not know; a refusal is told in the log and passed over.

    Returns
    -------
    bool
        Whether it was done.

    Raises
    ------
    UserError
        The server wants to know who asks (401), has no time (408, 429), or fails (5xx).
    """
    try:
        with said_to_server(what):
            patiently(call)
    except UserError as error:
        if error.__cause__ is None or not causes.is_refusal(error.__cause__):
            raise
        _logger.info("passed over: %s", error.cause)
        return False
    return True


# -- how it is said ----------------------------------------------------------------------------------


@contextmanager
def said_to_server(what: str, remedy: str = "", any_error: bool = False) -> Iterator[None]:
    """Turn the errors of a tracking server or model registry into one line that names it; signals wait meanwhile.

    Parameters
    ----------
    what : str
        What was asked of it, as in "could not `what`".
    remedy : str
        What to do about it, where the cause is none that is known.
    any_error : bool
        Whether every exception is the server's: the drivers of artifact stores have exceptions of their own.
    """
    import mlflow

    with signals.held(), causes.quiet():
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if not any_error and not causes.is_theirs(error):
                raise
            raise causes.explain(error, what, mlflow.get_tracking_uri(), remedy) from error


def patiently(call: Callable[[], _T]) -> _T:
    """Ask again where another process has written at the same moment.

    SQLite says after the 20 seconds that MLflow waits that it is still locked; others refuse one of the two.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

    return Retrying(
        retry=retry_if_exception(causes.is_crossed), stop=stop_after_attempt(4), wait=wait_random(0, 1), reraise=True
    )(call)


def tag_version(client: "MlflowClient", name: str, version: str, key: str, text: str) -> None:
    """Set a tag of a registered version, again where another process has set it at the same moment."""
    with said_to_server(f"tag version {version} of {name}"):
        patiently(lambda: client.set_model_version_tag(name, version, key, text))


def server() -> str:
    """Return the address of the tracking server, as it may be printed."""
    import mlflow

    return shown(mlflow.get_tracking_uri())


def is_workspace() -> bool:
    """Whether it is an Azure Machine Learning workspace."""
    import mlflow

    return urlsplit(mlflow.get_tracking_uri()).scheme == "azureml"


def where_to_look(run: Run) -> str:
    """Say how a person gets to see a run: an address, or the command that serves one, each on a line of its own."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    # Without the query, MLflow 3 opens on its pages for GenAI.
    page = f"/#/experiments/{run.experiment_id}/runs/{run.id}?workflowType=machine_learning"
    if urlsplit(uri).scheme in ("http", "https"):
        return shown(uri).rstrip("/") + page
    if urlsplit(uri).scheme == "azureml":
        workspace = uri.partition("/subscriptions/")[2].partition("?")[0]
        return f"https://ml.azure.com/runs/{run.id}?wsid=/subscriptions/{workspace}"
    port, is_served = _port(run)
    if is_served:
        return f"http://127.0.0.1:{port}{page}"
    backend = "" if shown(uri) == DEFAULT_STORE else f" --backend-store-uri {argument(uri)}"
    other = "" if port == PORT else f" --port {port}"
    return f"{command('mlflow')} ui --workers 1{other}{backend}\nhttp://127.0.0.1:{port}{page}"


def _port(run: Run) -> tuple[int, bool]:
    """Return a port of this machine where MLflow's UI shows a run already, or where it can be started."""
    port = PORT
    while port < PORT + 20 and _listens(port):
        if _serves(port, run):
            return port, True
        port += 1
    return port, False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _serves(port: int, run: Run) -> bool:
    from requests import RequestException, Session

    with Session() as session:
        session.trust_env = False  # no proxy has to do with this machine
        try:
            address = f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/get"
            return session.get(address, params={"run_id": run.id}, timeout=1).status_code == 200
        except RequestException:
            return False
