"""What will be sent: job.yml with the parameters that were given, and the staged folder."""

import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from trainer.git import Git, ask_git

from submit.screen import size
from submit.workspace import HERE, Workspace
from trainer.errors import UserError, nearest

ROOT = HERE.parent
JOB_YML = HERE / "job.yml"
# MLproject's entry points that can be sent: one run, or a search.
MAIN, SWEEP = "main", "sweep"
# What a job needs of the project. Whatever else lies in the folder stays there: .env, stores, caches, outputs.
_TRAINS = ("MLproject", "conda.yml", "train.py", "trainer/*.py")
CODE = {MAIN: _TRAINS, SWEEP: (*_TRAINS, "sweep.py")}
MAX_CODE_BYTES = 5_000_000
# The parameters that are files
DATA, SEARCH = "data", "search"

_ASSET = re.compile(r"azureml:(?P<name>[\w.-]+):(?P<version>[\w.-]+)")
_URL = re.compile(r"(https?|azureml|abfss?|wasbs?|adl)://\S+")
_DURATION = re.compile(r"(?P<count>\d+)(?P<unit>[smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def read_parameters(given: Iterable[str], data: str | None, nodes: int = 1, entry: str = MAIN) -> dict[str, str]:
    """Read ``-P name=value`` as `mlflow run` does, check names against MLproject and values as train.py does.

    The values of a search are checked by `find_search`.

    Parameters
    ----------
    given : iterable of str
    data : str or None
        ``--data``, another way to say ``-P data=``.
    nodes : int
        How many nodes are to train together; not every estimator can.
    entry : {'main', 'sweep'}

    Returns
    -------
    dict
        Every parameter of MLproject's entry point.

    Raises
    ------
    UserError
        One cannot be used.
    """
    defaults = read_defaults(entry)
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
    if entry == SWEEP:
        if nodes > 1:
            raise UserError("a search runs on one node", "leave --nodes out")
        return defaults | changed
    import train  # late: it imports what trains

    settings = train.read_settings(defaults | changed)
    if nodes > 1:
        train.check_together(settings, nodes)
    return defaults | changed


def read_entry(entry: str) -> dict[str, Any]:
    """Give an entry point of MLproject."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"][entry]
    return found


def read_defaults(entry: str) -> dict[str, str]:
    """Give the defaults of the parameters of an entry point of MLproject."""
    return {name: str(spec["default"]) for name, spec in read_entry(entry)["parameters"].items()}


def in_project(given: str, default: str) -> Path:
    """Give the path of a file, where a default is meant to lie in the project."""
    path = Path(given).expanduser()
    return ROOT / given if given == default and not path.exists() else path


def changes(parameters: Mapping[str, str], entry: str = MAIN) -> str:
    """Say in one line what differs from MLproject's defaults."""
    defaults = read_defaults(entry)
    changed = [
        f"{name}={value} (not {defaults[name]})"
        for name, value in parameters.items()
        if name != DATA and value != defaults[name]
    ]
    return ", ".join(changed) or "all defaults"


def read_seconds(option: str, text: str) -> int:
    """Read a duration: seconds, or a number with s, m, h or d.

    Raises
    ------
    UserError
        It is none.
    """
    found = _DURATION.fullmatch(text)
    if not found or int(found["count"]) == 0:
        raise UserError(f"{option} {text!r} is not a duration", f"give {option} 90s, 30m, 2h or a number of seconds")
    return int(found["count"]) * _UNITS[found["unit"]]


@dataclass(frozen=True)
class Data:
    """What a job reads: its table, or its search space.

    Attributes
    ----------
    input : dict
        As job.yml writes an input.
    text : str
        What it is, in one line.
    """

    input: dict[str, str]
    text: str


def find_data(given: str) -> Data:
    """Say what is meant by ``--data``, and check what can be checked without asking anybody.

    Raises
    ------
    UserError
        There is no such file or folder, or the address holds a secret.
    """
    if found := _ASSET.fullmatch(given):
        return Data({"type": "uri_file", "path": given}, f"data asset {found['name']}, version {found['version']}")
    if _URL.fullmatch(given):
        if re.search(r"[?&]sig=|//[^/@]*:[^/@]*@", given):
            raise UserError(
                "the address of the data holds a signature or a password, which would be seen in the job",
                "register the data as an asset (`az ml data create`) and give azureml:NAME:VERSION",
            )
        return Data({"type": "uri_folder" if given.endswith("/") else "uri_file", "path": given}, given)
    if given.startswith("azureml:"):
        raise UserError(f"{given!r} is not the name of a data asset's version", "give azureml:NAME:VERSION")
    path = in_project(given, read_defaults(MAIN)[DATA])
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(
            f"there is no file or folder {given!r}{nearest(path.name, siblings)}",
            "give --data a local path, azureml:NAME:VERSION, or a URL",
        )
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    if not files:
        raise UserError(f"the folder {given!r} holds no file", "give --data a file, or a folder of Parquet parts")
    total = sum(file.stat().st_size for file in files)
    counted = "" if path.is_file() else f"{len(files)} files, "
    kind = "uri_file" if path.is_file() else "uri_folder"
    return Data({"type": kind, "path": str(path.resolve())}, f"{path.name} ({counted}{size(total)})")


def find_search(parameters: Mapping[str, str]) -> Data:
    """Check a search and all of its trials.

    Raises
    ------
    UserError
        It cannot be done.
    """
    import sweep  # late: it imports what trains

    path = in_project(parameters[SEARCH], read_defaults(SWEEP)[SEARCH])
    text = sweep.summary(*sweep.plan({**parameters, SEARCH: str(path)}))
    return Data({"type": "uri_file", "path": str(path.resolve())}, text)


def look_up(workspace: Workspace, data: Data) -> Data:
    """Ask the workspace for a data asset; leave anything else as it is.

    Raises
    ------
    UserError
        There is no such asset, or it is no file or folder.
    """
    from azure.core.exceptions import ResourceNotFoundError

    found = _ASSET.fullmatch(data.input["path"])
    if not found:
        return data
    try:
        asset = workspace.call("look at the data", lambda: workspace.client.data.get(found["name"], found["version"]))
    except ResourceNotFoundError as error:
        raise UserError(
            f"the workspace {workspace.name} has no data asset {found['name']} of version {found['version']}",
            "`az ml data list` lists them; or give --data a local path",
        ) from error
    if asset.type not in ("uri_file", "uri_folder"):
        raise UserError(
            f"the data asset {found['name']} is of type {asset.type}", "give an asset of type uri_file or uri_folder"
        )
    return Data({"type": str(asset.type), "path": data.input["path"]}, data.text)


def new_name(entry: str = MAIN) -> str:
    """Make a job's name. It is chosen here, so that a job sent again after a lost answer is the same job."""
    return f"{'train' if entry == MAIN else entry}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Order:
    """What is asked for on the command line.

    Attributes
    ----------
    parameters : mapping of str to str
        All of the entry point's.
    data : Data
    environment : str
        As ``azureml:`` references name it.
    experiment : str or None
        None for that of job.yml.
    timeout : int or None
        Seconds; None for that of job.yml.
    nodes : int
        How many nodes train together, with one process each.
    search : Data or None
        None for one training run.
    """

    parameters: Mapping[str, str]
    data: Data
    environment: str
    experiment: str | None
    timeout: int | None
    nodes: int = 1
    search: Data | None = None

    @property
    def entry(self) -> str:
        """The entry point of MLproject."""
        return MAIN if self.search is None else SWEEP


def document(
    order: Order, code: Path, cluster: str, name: str | None = None, tags: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Fill in job.yml.

    Parameters
    ----------
    order : Order
    code : Path
        The folder to send.
    cluster : str
    name : str, optional
        Left to the service by default.
    tags : mapping, optional
        In addition to those of job.yml.

    Returns
    -------
    dict
        What `load_job` and ``az ml job create -f`` take as YAML.
    """
    job: dict[str, Any] = yaml.safe_load(JOB_YML.read_text())
    # As `mlflow run` does: what the shell would take apart arrives in one piece.
    job["inputs"] = {key: shlex.quote(value) for key, value in order.parameters.items()} | {DATA: order.data.input}
    what = order.parameters["estimator"]
    if order.search is not None:
        job["inputs"][SEARCH] = order.search.input
        job["command"] = _rendered(read_entry(SWEEP)["command"], (DATA, SEARCH))
        what = f"search of {what}"
    job |= {"code": str(code), "environment": order.environment, "compute": f"azureml:{cluster}"}
    job["display_name"] = f"{what} on {Path(order.data.input['path']).name}"
    if name is not None:
        job["name"] = name
    if order.experiment is not None:
        job["experiment_name"] = order.experiment
    if order.timeout is not None:
        job["limits"] = {"timeout": order.timeout}
    if order.nodes > 1:
        job["distribution"] = {"type": "pytorch", "process_count_per_instance": 1}
        job["resources"] = {"instance_count": order.nodes}
    job["tags"] |= tags or {}
    git = read_git()
    job["environment_variables"] |= {"GIT_COMMIT": git.commit, "GIT_DIRTY": git.dirty}
    # Named here, or else the client adds git's remote address, which may hold a password.
    job["properties"] = {"mlflow.source.git.commit": git.commit, "azureml.git.dirty": git.dirty}
    return job


def _rendered(command: str, files: Sequence[str]) -> str:
    """Turn a command of MLproject into that of a job, with the paths of files in quotes."""

    def place(found: re.Match[str]) -> str:
        named = f"${{{{inputs.{found[1]}}}}}"
        return f'"{named}"' if found[1] in files else named

    return re.sub(r"\{(\w+)\}", place, command)


def read_git() -> Git:
    """Ask git for the state of the code; without its repository, the environment (GIT_COMMIT, GIT_DIRTY)."""
    told = Git(os.environ.get("GIT_COMMIT", "unknown"), os.environ.get("GIT_DIRTY", "unknown"))
    return ask_git(ROOT, "train.py") or told


def to_yaml(job: Mapping[str, Any]) -> str:
    """Write a job as YAML, in the order of job.yml."""
    return yaml.safe_dump(dict(job), sort_keys=False, allow_unicode=True, width=120)


@dataclass(frozen=True)
class Staged:
    """The folder that is sent."""

    folder: Path
    files: int
    bytes: int


def stage(folder: Path, root: Path = ROOT, limit: int = MAX_CODE_BYTES, entry: str = MAIN) -> Staged:
    """Copy what a job needs into a fresh folder: files on the list, no links, nothing else.

    Parameters
    ----------
    folder : Path
        Does not exist yet.
    root : Path
        The project.
    limit : int
        Bytes.
    entry : {'main', 'sweep'}

    Raises
    ------
    UserError
        A file is missing, or together they are larger than `limit`.
    """
    total, count = 0, 0
    for pattern in CODE[entry]:
        sources = sorted(path for path in root.glob(pattern) if path.is_file() and not path.is_symlink())
        if not sources:
            raise UserError(f"the project in {root} has no {pattern}", "work in a complete clone")
        for source in sources:
            target = folder / source.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            total, count = total + source.stat().st_size, count + 1
    if total > limit:
        raise UserError(
            f"the code is {size(total)}; at most {size(limit)} are sent",
            f"keep data and models out of {', '.join(CODE[entry])}; data are given with --data",
        )
    return Staged(folder, count, total)


def send(workspace: Workspace, job: Mapping[str, Any], scratch: Path) -> Any:
    """Upload what the workspace does not have yet, and send the job.

    Parameters
    ----------
    workspace : Workspace
    job : mapping
        From `document`; it has a name.
    scratch : Path
        A folder that the YAML is written into.

    Returns
    -------
    azure.ai.ml.entities.Job
    """
    from azure.ai.ml import load_job

    path = scratch / f"{job['name']}.yml"
    path.write_text(to_yaml(job))

    def create() -> Any:
        with redirect_stderr(StringIO()):  # its progress bars
            return workspace.client.jobs.create_or_update(load_job(path))

    with workspace.screen.status("sending"):
        return workspace.call("send the job", create)
