"""A job as it is sent: what it is to do, filled into the YAML of its project."""

import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import yaml

from . import rules
from .data import JobInput
from .environment import Environment
from .git import Git
from .workspace import Workspace


@dataclass(frozen=True)
class Work:
    """What a job is to do.

    Attributes
    ----------
    parameters : mapping
        Every parameter of the entry point, by MLproject's name, as it is spelled.
    files : mapping
        Those that the node mounts.
    command : str
        What the node runs, with the names of inputs in the places of values.
    inputs : mapping
        The inputs' names by the parameters', where the service does not take MLproject's.
    changes : str
        What differs from the defaults, in one line.
    outputs : mapping
        What it stores by itself, beside its run, as a job's YAML writes it.
    home : Path or None
        Where a file of these goes on this machine.
    told : tuple of (str, str)
        What else is shown before it is sent: names and values.
    remarks : tuple of str
        What works and is probably not what was meant.
    """

    entry: str
    parameters: Mapping[str, str]
    files: Mapping[str, JobInput]
    command: str
    changes: str = ""
    inputs: Mapping[str, str] | None = None
    remarks: tuple[str, ...] = ()
    outputs: Mapping[str, Mapping[str, str]] | None = None
    home: Path | None = None
    told: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Staged:
    """The folder that is sent."""

    folder: Path
    files: int
    bytes: int


class Project(Protocol):
    """What can be sent: this project, or any other with an MLproject."""

    @property
    def root(self) -> Path:
        """Its folder."""

    @property
    def recorded(self) -> bool:
        """Whether MLflow is to be told the parameters here, because the code does not do so itself."""

    def template(self) -> dict[str, Any]:
        """Return what a job of it is like, apart from what is given on the command line."""

    def label(self, entry: str) -> str:
        """Return what the names of its jobs begin with."""

    def title(self, work: Work) -> str:
        """Return what the studio calls a job: nothing of an address."""

    def environment(self, image: str | None) -> Environment:
        """Return what its jobs run in."""

    def read_work(self, entry: str, given: Sequence[str], data: str | None, nodes: int, /) -> Work:
        """Check what a job is to do."""

    def settle(self, workspace: Workspace, work: Work, /) -> Work:
        """Ask the workspace what a job is to do, where only it can know."""

    def stage(self, entry: str, folder: Path, /) -> Staged:
        """Copy what a job needs into a fresh folder."""

    def git(self) -> Git:
        """Return the state of its code."""

    def tags(self, entry: str) -> dict[str, str]:
        """Return the tags that `mlflow run` would give the run."""


def new_name(label: str) -> str:
    """Make a job's name. It is chosen here, so that a job sent again after a lost answer is the same job."""
    return f"{label}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def document(
    project: Project,
    work: Work,
    code: Path,
    where: Mapping[str, Any],
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    experiment: str | None = None,
    timeout: int | None = None,
    image: str | None = None,
) -> dict[str, Any]:
    """Fill in the template of a project's jobs.

    Parameters
    ----------
    code : Path
        The folder to send.
    where : mapping
        The fields that say where it runs: `compute.Asked.job_fields`.
    name : str, optional
        Left to the service by default.
    tags : mapping, optional
        In addition to those of the template.
    timeout : int, optional
        Seconds.
    image : str, optional
        Another image than the project's.

    Returns
    -------
    dict
        What `load_job` and ``az ml job create -f`` take as YAML.
    """
    job = project.template()
    names = work.inputs or {}
    environment = project.environment(image)
    job["command"] = f"{environment.setup} && {work.command}" if environment.setup else work.command
    # As `mlflow run` does: what the shell would take apart arrives in one piece.
    job["inputs"] = {names.get(key, key): shlex.quote(value) for key, value in work.parameters.items()}
    job["inputs"] |= {names.get(key, key): file.document for key, file in work.files.items()}
    job |= {"code": str(code), "environment": environment.reference, **where}
    job["display_name"] = rules.shortened(project.title(work))
    job |= {"name": name} if name is not None else {}
    if work.outputs:
        job["outputs"] = {key: {**one, **_place(name, key)} for key, one in work.outputs.items()}
    job |= {"experiment_name": experiment} if experiment is not None else {}
    job |= {"limits": {"timeout": timeout}} if timeout is not None else {}
    job["tags"] |= tags or {}
    git = project.git()
    job["environment_variables"] |= {"GIT_COMMIT": git.commit, "GIT_DIRTY": git.dirty}
    job["environment_variables"] |= environment.variables or {}
    # Named here, or else the client adds git's remote address, which may hold a password.
    job["properties"] = {"mlflow.source.git.commit": git.commit, "azureml.git.dirty": git.dirty}
    rules.check_tags(job["tags"])
    rules.check_experiment_name(str(job["experiment_name"]))
    return {key: value for key, value in job.items() if value is not None}


def _place(name: str | None, output: str) -> dict[str, str]:
    """Return where the service keeps an output by itself: written out, it can be found again."""
    return {"path": f"azureml://datastores/workspaceblobstore/paths/azureml/{name}/{output}/"} if name else {}


def time_limit(project: Project) -> int | None:
    """Return the seconds after which the service ends a job, as its template says."""
    limit = (project.template().get("limits") or {}).get("timeout")
    return int(limit) if limit else None


def to_yaml(job: Mapping[str, Any]) -> str:
    """Write a job as YAML, in the order of the template."""
    return yaml.safe_dump(dict(job), sort_keys=False, allow_unicode=True, width=120)
