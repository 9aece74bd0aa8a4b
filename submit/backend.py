"""MLflow's project backend `aml`: ``mlflow run PROJECT -b aml`` and ``mlflow.projects.run(..., backend="aml")``.

The job's name is the run's id. The `mlflow` command does not wait for the backends of plugins, so the job is followed
before it is told of the run; a program gets the run at once, and follows by `wait`.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun
from mlflow.projects.utils import PROJECT_SYNCHRONOUS

from . import follow, submission
from .compute import Asked
from .console import command
from .errors import UserError, nearest
from .project import opened
from .rules import seconds, slug
from .secrets import redact
from .signals import heard
from .submission import DETACHED, DONE, Sent, Submission

NAME = "aml"
# What MLflow itself puts beside what a user has written.
_MLFLOWS = frozenset(("ENV_MANAGER", "SYNCHRONOUS", "DOCKER_ARGS", "STORAGE_DIR", "build_image", "docker_auth"))
_STATUS = {
    "Completed": "FINISHED",
    "Failed": "FAILED",
    "Canceled": "KILLED",
    "Running": "RUNNING",
    "Finalizing": "RUNNING",
}
_LOGGERS = ("azure", "azure.ai.ml", "azureml", "mlflow", "msal", "msrest", "urllib3", "requests", "alembic")


@dataclass(frozen=True)
class Config:
    """The backend's configuration: the options of submit/remote.py, by the same words."""

    workspace: str | None = None
    cluster: str | None = None
    serverless: bool = False
    size: str | None = None
    max_nodes: int | None = None
    low_priority: bool = False
    nodes: int = 1
    timeout: int | None = None
    queue_timeout: int = 1800
    experiment: str | None = None
    image: str | None = None
    detach: bool = False
    on_interrupt: str = "ask"
    resubmit: int = 2
    output_dir: str = "outputs"


_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("workspace", "cluster", "size", "experiment", "image", "on_interrupt", "output_dir"), (str,)),
    **dict.fromkeys(("serverless", "low_priority", "detach"), (bool,)),
    **dict.fromkeys(("max_nodes", "nodes", "resubmit"), (int,)),
    **dict.fromkeys(("timeout", "queue_timeout"), (int, str)),
}
_SAID = {str: "a text", bool: "true or false", int: "a number"}


def read_config(given: Mapping[str, Any]) -> Config:
    """Check what a user has written into the backend's configuration."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if key in _MLFLOWS:
            continue
        if name not in _KINDS:
            raise UserError(
                f"the backend config has a key {key!r}, which is none of {NAME}'s{nearest(name, _KINDS)}",
                f"it takes {', '.join(_KINDS)}",
            )
        kinds = _KINDS[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UserError(
                f"{key} of the backend config is {json.dumps(value, default=str)}",
                f"give {' or '.join(_SAID[kind] for kind in kinds)}",
            )
        if name in ("timeout", "queue_timeout"):
            value = seconds(key, str(value))
        if (name in ("max_nodes", "nodes") and value < 1) or (name == "resubmit" and value < 0):
            raise UserError(
                f"{key} of the backend config is {value}", f"give {key} of at least {int(name != 'resubmit')}"
            )
        if name == "on_interrupt" and value not in ("ask", "detach", "cancel"):
            raise UserError(f"on_interrupt of the backend config is {value!r}", "give ask, detach or cancel")
        found[name] = value
    return Config(**found)


class Detached(ExecutionException):
    """The job goes on, and nobody waits for it: MLflow is not to end its run."""


class AmlRun(SubmittedRun):
    """A job of Azure Machine Learning, as MLflow's projects know runs."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent
        self._code: int | None = None

    @property
    def run_id(self) -> str:
        """The job's name; where its node was taken away, that of the job in its place."""
        return self._sent.name

    def wait(self) -> bool:
        """Follow the job to its end, fetch and verify; return whether it has come to a good one.

        Raises
        ------
        Detached
            It was left running.
        ExecutionException
            What was downloaded could not be verified, or the workspace is out of reach.
        """
        with _as_exception():
            code = self.follow()
        if code == DETACHED:
            raise Detached(f"the job {self.run_id} goes on; {command('attach', self.run_id)} follows it again")
        return code == DONE

    def follow(self) -> int:
        """Follow the job to its end, fetch and verify; return the exit code."""
        if self._code in (None, DETACHED):
            with _quiet(), heard():
                self._code = submission.finish(self._sent)
        assert self._code is not None
        return self._code

    def get_status(self) -> str:
        """Return MLflow's word for the job's status."""
        with _quiet(), _as_exception():
            status = follow.look(self._sent.workspace, self.run_id).status
        return str(RunStatus.to_string(RunStatus.from_string(_STATUS.get(status, "SCHEDULED"))))  # type: ignore[no-untyped-call]

    def cancel(self) -> None:
        """Cancel the job, and wait until it has ended."""
        with _quiet(), _as_exception():
            follow.cancel(self._sent.workspace, self.run_id)


class Backend(AbstractBackend):
    """Sends a project as a job of Azure Machine Learning."""

    def run(
        self, project_uri: str, entry_point: str, params: Mapping[str, Any] | None, version: str | None,
        backend_config: Mapping[str, Any], tracking_uri: str, experiment_id: str,
    ) -> AmlRun:  # fmt: skip
        """Send; on mlflow's command line, follow as well.

        What cannot be sent ends that command line with exit code 2 and two lines; a program gets an ExecutionException.
        """
        on_command_line = click.get_current_context(silent=True) is not None
        try:
            with _quiet(), heard():
                config = read_config(backend_config)
                run = _send(project_uri, entry_point, params or {}, version, config, tracking_uri, experiment_id)
                follows = on_command_line and not backend_config.get(PROJECT_SYNCHRONOUS) and not config.detach
                code = run.follow() if follows else DONE
        except UserError as error:
            if not on_command_line:
                raise ExecutionException(redact(f"{error.cause} ({error.remedy})")) from error
            click.echo(redact(str(error)), err=True)
            raise SystemExit(error.exit_code) from error
        except KeyboardInterrupt:
            if not on_command_line:
                raise
            click.echo("interrupted", err=True)
            raise SystemExit(DETACHED) from None
        if code != DONE:
            raise SystemExit(code)
        return run


def _send(
    uri: str, entry: str, params: Mapping[str, Any], version: str | None, config: Config, tracking_uri: str,
    experiment_id: str,
) -> AmlRun:  # fmt: skip
    """Send a project, and point MLflow to the workspace, where the run is."""
    named = config.workspace or (tracking_uri if tracking_uri.startswith("azureml:") else None)
    where = Asked(config.cluster, config.size, config.max_nodes, config.low_priority, config.nodes, config.serverless)
    given = [f"{name}={value}" for name, value in params.items()]
    with opened(uri, version) as project:
        asked = Submission(
            work=project.read_work(entry, given, None, config.nodes), project=project, where=where, workspace=named,
            experiment=config.experiment or _experiment(experiment_id), image=config.image, timeout=config.timeout,
            queue_timeout=config.queue_timeout, resubmit=config.resubmit, detach=config.detach,
            on_interrupt=config.on_interrupt, output_dir=Path(config.output_dir), ask=False,
            tags={"mlflow.project.backend": NAME},
        )  # fmt: skip
        sent = submission.send(asked)
    assert sent is not None  # nobody was asked
    sent.workspace.mlflow()  # signs in to the address that MLflow is pointed to
    mlflow.set_tracking_uri(sent.workspace.tracking_uri)
    if not config.detach:
        how = {"ask": "asks whether to detach from the job or to cancel it", "detach": "detaches", "cancel": "cancels"}
        sent.workspace.screen.say(
            f'Ctrl-C {how[config.on_interrupt]}; with "detach": true in the backend config nobody waits', "dim"
        )
    return AmlRun(sent)


def _experiment(experiment_id: str) -> str | None:
    """Return the name of the experiment that `mlflow run` was given; None where that is only the default."""
    if experiment_id == "0":  # of a local store, which mlflow-skinny alone cannot open
        return None
    try:
        name = mlflow.MlflowClient().get_experiment(experiment_id).name
    except MlflowException:  # of another store than this one
        return None
    return None if name == "Default" else slug(name) or None


@contextmanager
def _as_exception() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise ExecutionException(redact(f"{error.cause} ({error.remedy})")) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave loggers and warnings of the program as they were: the submitting side silences its libraries."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
