"""From an MLproject to a job: entry point, parameters, the code that is sent, the environment it runs in.

Of this project, `trainer.settings` also checks the values. Nothing else here knows which project it is.
"""

import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from submit import rules
from submit.console import size
from submit.data import JobInput
from submit.workspace import Workspace
from trainer import settings
from trainer.errors import UserError, nearest
from trainer.lineage import Git, ask_git

HERE = Path(__file__).resolve().parent
# MLproject's entry points that can be sent: one run, a search, or a comparison of estimators.
MAIN, SWEEP, COMPARE = "main", "sweep", "compare"
# What a job needs of the project. Whatever else lies in the folder stays there: .env, stores, caches, outputs.
_TRAINS = ("MLproject", "conda.yml", "serving.yml", "train.py", "trainer/*.py")
_TRIES = (*_TRAINS, "sweep.py", "compare.py")
CODE = {MAIN: _TRAINS, SWEEP: _TRIES, COMPARE: _TRIES}
MAX_CODE_BYTES = 5_000_000
# The parameters that are files
DATA, SEARCH = "data", "search"


@dataclass(frozen=True)
class Project:
    """A folder with an MLproject, a conda file and submit/'s YAML files."""

    root: Path = HERE.parent

    @property
    def job_yml(self) -> Path:
        """What a job of it is like, apart from what is given on the command line."""
        return self.root / "submit" / "job.yml"

    @property
    def environment_yml(self) -> Path:
        """What its jobs run in."""
        return self.root / "submit" / "environment.yml"

    def entry(self, name: str) -> dict[str, Any]:
        """Return an entry point of MLproject."""
        document: dict[str, Any] = _read_yaml(self.root / "MLproject")
        found: dict[str, Any] = document["entry_points"][name]
        return found

    def defaults(self, entry: str) -> dict[str, str]:
        """Return the defaults of an entry point's parameters."""
        return {name: str(spec["default"]) for name, spec in self.entry(entry)["parameters"].items()}

    def path(self, given: str, default: str) -> Path:
        """Return the path of a file, where a default is meant to lie in the project."""
        path = Path(given).expanduser()
        return self.root / given if given == default and not path.exists() else path

    def git(self) -> Git:
        """Ask git for the state of the code; without its repository, the environment (GIT_COMMIT, GIT_DIRTY)."""
        told = Git(os.environ.get("GIT_COMMIT", "unknown"), os.environ.get("GIT_DIRTY", "unknown"))
        return ask_git(self.root, "MLproject") or told


def _read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def read_parameters(
    project: Project, entry: str, given: Iterable[str], data: str | None = None, nodes: int = 1
) -> dict[str, str]:
    """Read ``-P name=value`` as `mlflow run` does, check names against MLproject and values as train.py does.

    The values of a search are checked by `find_search`.

    Parameters
    ----------
    given : iterable of str
    data : str or None
        ``--data``, another way to say ``-P data=``.
    nodes : int
        How many nodes are to train together; not every estimator can.

    Returns
    -------
    dict
        Every parameter of MLproject's entry point.
    """
    defaults = project.defaults(entry)
    changed: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"-P {text!r} is not of the form name=value", "give -P name=value")
        if name not in defaults:
            whose = "MLproject" if entry == MAIN else f"MLproject's {entry}"
            raise UserError(
                f"{whose} has no parameter {name!r}{nearest(name, defaults)}", f"it has {', '.join(defaults)}"
            )
        if name in changed:
            raise UserError(f"the parameter {name} is given twice", "give it once")
        changed[name] = value
    if data is not None:
        if DATA in changed:
            raise UserError("the data are given twice, as --data and as -P data=", "give them once")
        changed[DATA] = data
    for name, value in changed.items():
        if not value or not value.isprintable() or "${{" in value:
            raise UserError(
                f"the value of {name} is {'empty' if not value else repr(value)}",
                "give a word: `auto` stands for not given, `none` for no",
            )
    parameters = defaults | changed
    rules.check_parameters(parameters)
    if entry != MAIN and nodes > 1:
        raise UserError(f"a {'search' if entry == SWEEP else 'comparison'} runs on one node", "leave --nodes out")
    if entry == COMPARE:
        from trainer import board  # late: it imports pandas

        board.plan(settings.defaults(COMPARE) | parameters)
    if entry == MAIN:
        read = settings.read(settings.defaults() | parameters)
        if nodes > 1:
            settings.check_distributed(read, nodes)
    return parameters


def changes(project: Project, entry: str, parameters: Mapping[str, str]) -> str:
    """Say in one line what differs from MLproject's defaults."""
    defaults = project.defaults(entry)
    changed = [
        f"{name}={value} (not {defaults[name]})"
        for name, value in parameters.items()
        if name != DATA and value != defaults[name]
    ]
    return ", ".join(changed) or "all defaults"


def find_search(project: Project, parameters: Mapping[str, str]) -> JobInput:
    """Check a search and all of its trials."""
    from trainer import search  # late: it may import scipy and scikit-learn

    path = project.path(parameters[SEARCH], project.defaults(SWEEP)[SEARCH])
    plan = search.plan({**settings.defaults(SWEEP), **parameters, SEARCH: str(path)})
    return JobInput("uri_file", str(path.resolve()), str(plan))


def new_name(entry: str = MAIN) -> str:
    """Make a job's name. It is chosen here, so that a job sent again after a lost answer is the same job."""
    return f"{'train' if entry == MAIN else entry}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Work:
    """What a job is to do: an entry point with its parameters, and what of them are files."""

    entry: str
    parameters: Mapping[str, str]
    data: JobInput
    search: JobInput | None = None

    @property
    def files(self) -> dict[str, JobInput]:
        """The inputs that are mounted, by parameter."""
        return {DATA: self.data} | ({SEARCH: self.search} if self.search else {})

    @property
    def display_name(self) -> str:
        """What the studio calls it: the name of the data, and nothing of their address."""
        what = self.parameters.get("estimator") or f"comparison of {self.parameters['estimators']}"
        return f"{'search of ' if self.search else ''}{what} on {self.data.name}"


def document(
    project: Project,
    work: Work,
    code: Path,
    where: Mapping[str, Any],
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    experiment: str | None = None,
    timeout: int | None = None,
) -> dict[str, Any]:
    """Fill in job.yml.

    Parameters
    ----------
    code : Path
        The folder to send.
    where : mapping
        The fields that say where it runs: `compute.Asked.job_fields`.
    name : str, optional
        Left to the service by default.
    tags : mapping, optional
        In addition to those of job.yml.
    timeout : int, optional
        Seconds.

    Returns
    -------
    dict
        What `load_job` and ``az ml job create -f`` take as YAML.
    """
    job: dict[str, Any] = _read_yaml(project.job_yml)
    job["command"] = rendered(project.entry(work.entry)["command"], tuple(work.files))
    # As `mlflow run` does: what the shell would take apart arrives in one piece.
    job["inputs"] = {key: shlex.quote(value) for key, value in work.parameters.items()}
    job["inputs"] |= {key: file.document for key, file in work.files.items()}
    job |= {"code": str(code), "environment": read_environment(project).reference, **where}
    job["display_name"] = work.display_name
    job |= {"name": name} if name is not None else {}
    job |= {"experiment_name": experiment} if experiment is not None else {}
    job |= {"limits": {"timeout": timeout}} if timeout is not None else {}
    job["tags"] |= tags or {}
    git = project.git()
    job["environment_variables"] |= {"GIT_COMMIT": git.commit, "GIT_DIRTY": git.dirty}
    # Named here, or else the client adds git's remote address, which may hold a password.
    job["properties"] = {"mlflow.source.git.commit": git.commit, "azureml.git.dirty": git.dirty}
    rules.check_tags(job["tags"])
    rules.check_experiment_name(str(job["experiment_name"]))
    return {key: value for key, value in job.items() if value is not None}


def time_limit(project: Project) -> int | None:
    """Return the seconds after which the service ends a job, as job.yml says."""
    limit = (_read_yaml(project.job_yml).get("limits") or {}).get("timeout")
    return int(limit) if limit else None


def rendered(command: str, files: Sequence[str]) -> str:
    """Turn a command of MLproject into that of a job, with the paths of files in quotes."""

    def place(found: re.Match[str]) -> str:
        named = f"${{{{inputs.{found[1]}}}}}"
        return f'"{named}"' if found[1] in files else named

    return re.sub(r"\{(\w+)\}", place, command)


def to_yaml(job: Mapping[str, Any]) -> str:
    """Write a job as YAML, in the order of job.yml."""
    return yaml.safe_dump(dict(job), sort_keys=False, allow_unicode=True, width=120)


@dataclass(frozen=True)
class Staged:
    """The folder that is sent."""

    folder: Path
    files: int
    bytes: int


def stage(project: Project, entry: str, folder: Path, limit: int = MAX_CODE_BYTES) -> Staged:
    """Copy what a job needs into a fresh folder: files on the list, no links, nothing else.

    Raises
    ------
    UserError
        A file is missing, or together they are larger than `limit` bytes.
    """
    total, count = 0, 0
    for pattern in CODE[entry]:
        sources = sorted(path for path in project.root.glob(pattern) if path.is_file() and not path.is_symlink())
        if not sources:
            raise UserError(f"the project in {project.root} has no {pattern}", "work in a complete clone")
        for source in sources:
            target = folder / source.relative_to(project.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            total, count = total + source.stat().st_size, count + 1
    if total > limit:
        raise UserError(
            f"the code is {size(total)}; at most {size(limit)} are sent",
            f"keep data and models out of {', '.join(CODE[entry])}; data are given with --data",
        )
    return Staged(folder, count, total)


@dataclass(frozen=True)
class Environment:
    """A version of the environment, made from the contents of environment.yml and its conda file."""

    name: str
    version: str

    @property
    def reference(self) -> str:
        """As job.yml names it."""
        return f"azureml:{self.name}:{self.version}"


def read_environment(project: Project) -> Environment:
    """Work out the environment's version: a hash of what is in the image's name and the conda file, not of comments."""
    found = _read_yaml(project.environment_yml)
    conda = _read_yaml(project.environment_yml.parent / found["conda_file"])
    text = json.dumps([found["image"], conda], sort_keys=True)
    return Environment(str(found["name"]), hashlib.sha256(text.encode()).hexdigest()[:16])


def has_environment(workspace: Workspace, environment: Environment) -> bool:
    """Return whether the workspace knows this version."""
    from azure.core.exceptions import ResourceNotFoundError

    get = workspace.client.environments.get
    try:
        workspace.call("look at the environment", lambda: get(environment.name, environment.version))
    except ResourceNotFoundError:
        return False
    return True


def create_environment(workspace: Workspace, project: Project, environment: Environment) -> None:
    """Create this version; where another client has just done so, nothing changes."""
    from azure.ai.ml import load_environment

    entity = load_environment(project.environment_yml, params_override=[{"version": environment.version}])
    workspace.call(
        f"create the environment {environment.name}:{environment.version}",
        lambda: workspace.client.environments.create_or_update(entity),
    )
