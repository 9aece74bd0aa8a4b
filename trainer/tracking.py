"""Everything that is said to an MLflow tracking server about a run."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from trainer import continued, processes, signals, store
from trainer.causes import DEFAULT_STORE, command, is_default
from trainer.continued import LIMITS, WORKSPACE_LIMITS
from trainer.errors import Interrupted, UserError
from trainer.logged_models import LoggedModel, link, logged_model
from trainer.processes import ERROR
from trainer.readers import NONE
from trainer.recording import (
    Run,
    describe,
    is_workspace,
    log,
    log_curves,
    log_dataset,
    log_file,
    log_folder,
    optional,
    patiently,
    said_to_server,
    server,
    where_to_look,
)
from trainer.secrets import holds_secret, redact, without_secrets
from trainer.store import check as check_reachable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.entities import Run as Found

__all__ = [
    "LoggedModel",
    "Run",
    "Session",
    "check_reachable",
    "child_run",
    "describe",
    "link",
    "log",
    "log_curves",
    "log_dataset",
    "log_file",
    "log_folder",
    "logged_model",
    "note_failure",
    "optional",
    "patiently",
    "said_to_server",
    "session",
    "start_run",
    "where_to_look",
]

# What a child run has from its parent: who has started it, and how.
INHERITED = ("mlflow.user", "mlflow.source.type", "mlflow.source.git.commit")
# The experiment that `mlflow run` uses where none is named; a workspace has it only once it is asked for.
DEFAULT_EXPERIMENT = "Default"
# The whole value of a parameter whose param is quoted or cut off; where a tag is too short for it, an artifact.
WHOLE, WHOLE_FILE = "param.", "parameters.json"
# A path from the root of a machine; of an address, what stands behind the scheme is none.
_PATH = re.compile(r"(?<![\w.:/~-])(?:[A-Za-z]:)?[/\\](?:[^/\\:'\"]+[/\\])+(?P<name>[^/\\:'\"\s]+)")
_STORE = re.compile(r"sqlite:/{3,4}(?:[^\s/]+/)+")
_logger = logging.getLogger(__name__)


@dataclass
class Session:
    """What a script says to a tracking server, from the first look to the end of its run; made by `session`.

    Attributes
    ----------
    source : str
        The script.
    given : dict of str to str
        Its parameters as they may be recorded: addresses without their secrets.
    client : MlflowClient
    experiment : Experiment or None
        Where a new run goes; None where it does not exist yet, or a run is continued.
    run : Run or None
        None until there is one.
    """

    source: str
    given: dict[str, str]
    client: "MlflowClient"
    experiment: "Experiment | None" = None
    run: Run | None = None
    _name: str = field(default="", repr=False)
    _kept: bool = field(default=False, repr=False)

    def open(self, name: str, description: str = "") -> Run:
        """Open a run of this name, or give it to the run that is continued, unless a person has named that one.

        Raises
        ------
        UserError
            The tracking server refused.
        """
        import mlflow

        name = redact(name)
        tags = {"mlflow.note.content": redact(description)} if description else {}
        if self.run is not None:
            rename(self.run, self._name, name, tags)
            return self.run
        with said_to_server("open a run"):
            if self.experiment is None:
                self.experiment = _create_experiment(self.client)
            active = patiently(
                lambda: mlflow.start_run(
                    experiment_id=self.experiment.experiment_id if self.experiment else None,
                    run_name=name,
                    tags={**tags, "mlflow.source.name": self.source} | processes.tags(),
                )
            )
            self.run = _run(active, self.client)
        _log_params(self.run, self.given, {})
        return self.run

    def abandon(self) -> None:
        """End the run FAILED from a thread, because another process is lost and this one is about to be ended."""
        if self.run is not None:
            _fail(self.run, UserError("another process was lost", ""))

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """End the run FINISHED at the end of the block; where that is done, no later error fails it any more."""
        yield
        if self.run is not None:
            _end(self.run, "FINISHED")
        self._kept = True


@contextmanager
def session(given: Mapping[str, str], source: str) -> Iterator[Session]:
    """Reach the server and prepare its store; continue the run that the environment names, or open one when asked.

    Where `mlflow run` or Azure Machine Learning has opened a run, that one is continued at once. Else nothing is
    opened before `Session.open`, so that a mistake leaves no run behind. A run ends FINISHED, or FAILED with the tag
    ``error`` where the block raises, SystemExit and KeyboardInterrupt included.

    Parameters
    ----------
    given : mapping of str to str
        The parameters, as they were spelled.
    source : str
        The script, for the run's tag ``mlflow.source.name``.

    Raises
    ------
    UserError
        The tracking server cannot be reached, or refuses, or the run that is named has been used.
    """
    import mlflow

    uri = mlflow.get_tracking_uri()
    if is_default(uri):
        # Spelled in full, MLflow makes a folder of the same name beside this one where its name has a blank: a%20b.
        os.environ["MLFLOW_TRACKING_URI"] = uri = DEFAULT_STORE
    store.check(uri, make=True)
    if (registry := mlflow.get_registry_uri()) != uri:
        store.check(registry, make=True)
    with said_to_server("begin"):
        begun = Session(source, {name: without_secrets(text) for name, text in given.items()}, mlflow.MlflowClient())
    if given.get("model_name", NONE) != NONE:
        store.check_registry(begun.client, registry)
    with _ending(begun):
        if run_id := _given_run():
            _continue(begun, run_id, given)
        else:
            begun.experiment = _find_experiment(begun.client)
            if begun.experiment is not None:
                store.check_artifacts(begun.experiment.artifact_location)
                processes.close_abandoned(begun.client, begun.experiment.experiment_id)
        yield begun


@contextmanager
def start_run(params: Mapping[str, str], source: str) -> Iterator[Run]:
    """Open a run at once, or continue the one that the environment names."""
    with session(params, source) as begun:
        yield begun.open(Path(source).stem)


@contextmanager
def child_run(parent: Run, name: str, params: Mapping[str, str], source: str) -> Iterator[Run]:
    """Open a run below another one; it ends as that of a `session` does."""
    import mlflow

    inherited = {key: text for key, text in parent.tags.items() if key in INHERITED}
    begun = Session(source, {key: without_secrets(text) for key, text in params.items()}, parent.client)
    with _ending(begun):
        with said_to_server("open a run"):
            active = patiently(
                lambda: mlflow.start_run(
                    experiment_id=parent.experiment_id,
                    run_name=name,
                    nested=True,
                    parent_run_id=parent.id,
                    tags=inherited | {"mlflow.source.name": source} | processes.tags(),
                )
            )
            begun.run = _run(active, parent.client)
        _log_params(begun.run, begun.given, {})
        yield begun.run


# -- a run that was opened by somebody else ----------------------------------------------------------


def _given_run() -> str:
    return os.environ.get("MLFLOW_RUN_ID") or os.environ.get("AZUREML_RUN_ID") or ""


def _continue(begun: Session, run_id: str, given: Mapping[str, str]) -> None:
    import mlflow

    with said_to_server("continue a run"):
        found = patiently(lambda: begun.client.get_run(run_id))
        continued.refuse_used(found, begun.given, given)
        active = patiently(lambda: mlflow.start_run(run_id=run_id))
        os.environ.pop("MLFLOW_RUN_ID", None)  # a child run would take it for its own
        begun.run = _run(active, begun.client)
        begun._name = found.info.run_name or ""
    source = {"mlflow.source.name": begun.source} if continued.is_local(found.data.tags) else {}
    log(begun.run, tags=source | processes.tags())
    _log_params(begun.run, begun.given, found.data.params)
    for name, text in given.items():
        if holds_secret(text) and name in found.data.params and holds_secret(found.data.params[name]):
            _logger.warning(
                "! the address in %s holds a secret, and it was logged to run %s before %s began: "
                "withdraw that secret, or remove the run (%s gc)",
                *(name, run_id, begun.source, command("mlflow")),
            )
    store.check_artifacts(begun.run.artifact_uri)


def rename(run: Run, present: str, name: str, tags: Mapping[str, str]) -> None:
    """Give a run a name that says what it is, where its present one was drawn by lot."""
    if continued.is_random(present):
        optional("rename a run", lambda: run.client.update_run(run.id, name=name))
    if tags:
        log(run, tags=tags)


# -- the experiment ----------------------------------------------------------------------------------


def _find_experiment(client: "MlflowClient") -> "Experiment | None":
    """Find the experiment that a new run goes to; None where its name is new."""
    name, number = (os.environ.get(f"MLFLOW_EXPERIMENT_{what}") for what in ("NAME", "ID"))
    with said_to_server("find the experiment"):
        found: Experiment | None
        if number and not name:
            found = patiently(lambda: client.get_experiment(number))
        else:
            found = patiently(lambda: client.get_experiment_by_name(name or DEFAULT_EXPERIMENT))
    if found is not None and found.lifecycle_stage == "deleted":
        restore = f"{command('mlflow')} experiments restore -x {found.experiment_id}"
        raise UserError(
            f"the experiment {found.name!r} of MLflow at {server()} is deleted",
            f"{restore}  # or: export MLFLOW_EXPERIMENT_NAME=another",
        )
    return found


def _create_experiment(client: "MlflowClient") -> "Experiment":
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    try:
        return client.get_experiment(client.create_experiment(name))
    except MlflowException:
        if (found := client.get_experiment_by_name(name)) is None:
            raise
        return found  # another run has created it in between


def _run(active: "Found", client: "MlflowClient") -> Run:
    info = active.info
    return Run(info.run_id, info.experiment_id, info.artifact_uri or "", active.data.tags, client)


def _log_params(run: Run, given: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Log the params that a run does not have yet; what it cannot hold whole is in a tag, or in an artifact."""
    of_param, of_tag = WORKSPACE_LIMITS if is_workspace() else LIMITS
    params = {name: text[:of_param] for name, text in given.items() if name not in known}
    whole = {name: text for name, text in given.items() if {**known, **params}[name] != text}
    tags = {f"{WHOLE}{name}": text for name, text in whole.items() if len(text) <= of_tag}
    if params or tags:
        log(run, params=params, tags=tags)
    if len(tags) < len(whole):
        with said_to_server("store the parameters", any_error=True):
            run.client.log_dict(run.id, dict(given), WHOLE_FILE)


# -- how it ends -------------------------------------------------------------------------------------


@contextmanager
def _ending(begun: Session) -> Iterator[None]:
    """End the run of a session FINISHED, or FAILED with the reason where the block raises."""
    try:
        try:
            yield
        except BaseException as error:
            if begun.run is not None and not begun._kept:
                _fail(begun.run, error)
            raise
        if begun.run is not None and not begun._kept:
            _end(begun.run, "FINISHED")
    except KeyboardInterrupt as error:
        if begun.run is not None and not getattr(error, "__notes__", ()):
            error.add_note(_truth(begun.run))
        raise


def _fail(run: Run, error: BaseException) -> None:
    """End a run FAILED, and say why in a tag; that the server is away comes second."""
    with suppress(UserError, Interrupted), signals.hurried(error):
        with suppress(UserError):
            log(run, tags={ERROR: reason(error)})
        _end(run, "FAILED")


def _end(run: Run, status: str) -> None:
    """End a run; MLflow forgets it before it asks the server, which may have to be asked again, or from a thread."""
    import mlflow

    def end() -> None:
        active = mlflow.active_run()
        if active is not None and active.info.run_id == run.id:
            mlflow.end_run(status)
        else:
            run.client.set_terminated(run.id, status)

    with said_to_server("end a run"):
        patiently(end)


def reason(error: BaseException) -> str:
    """Say in one line, without secrets and without a path of this machine, why a run has failed."""
    if isinstance(error, UserError):
        return _without_paths(redact(error.cause))[:500]
    if isinstance(error, Interrupted):
        return f"stopped by {error}"
    return _without_paths(redact(f"{type(error).__name__}: {error}".partition("\n")[0]))[:500]


def _without_paths(text: str) -> str:
    return _PATH.sub(r"\g<name>", _STORE.sub("sqlite:///", text))


def _truth(run: Run) -> str:
    """Ask what has become of a run, for a person who has stopped it."""
    try:
        with signals.hurried(Interrupted(2)), said_to_server("look a run up"):
            status = run.client.get_run(run.id).info.status
            versions = run.client.search_model_versions(f"run_id='{run.id}'")
    except (UserError, Interrupted) as error:
        return f"run {run.id} may be left RUNNING, since {reason(error)}"
    kept = ", ".join(f"version {version.version} of {version.name} is registered and stays" for version in versions)
    return f"run {run.id} is {status}; {kept or 'nothing was registered'}"


def note_failure(error: BaseException) -> None:
    """Say in the run that the environment names why it fails, where no session has come to continue it."""
    if run_id := _given_run():
        import mlflow

        optional("tag a run", lambda: mlflow.MlflowClient().set_tag(run_id, ERROR, reason(error)))
