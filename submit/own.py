"""What is particular to this project: its parameters are checked by train.py's own rules, its code is on a list.

Any other project is read by `project`. Nothing else here knows which project it is.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from . import data, registered, rules
from .console import size
from .data import JobInput
from .environment import Environment
from .errors import UserError, nearest
from .git import Git, ask_git
from .job import Staged, Work
from .workspace import Workspace

HERE = Path(__file__).resolve().parent
# MLproject's entry points that can be sent: one run, a search, a comparison of estimators, a new table to score.
MAIN, SWEEP, COMPARE, PREDICT = "main", "sweep", "compare", "predict"
# What a job needs of the project. Whatever else lies in the folder stays there: .env, stores, caches, outputs.
_TRAINS = ("MLproject", "conda.yml", "serving.yml", "train.py", "trainer/*.py")
# All that .amlignore lets through: what `az` sends by hand has the same code then.
_TRIES = (*_TRAINS, "sweep.py", "compare.py", "verify.py")
_SCORES = ("MLproject", "conda.yml", "predict.py", "trainer/*.py")
CODE = {MAIN: _TRAINS, SWEEP: _TRIES, COMPARE: _TRIES, PREDICT: _SCORES}
MAX_CODE_BYTES = 5_000_000
# The parameters that are files
DATA, SEARCH, OUTPUT = "data", "search", "output"
# The output of a job that holds OUTPUT on the node. It is uploaded when the job is done: what is written beside it and
# renamed need not be possible on a mount.
PREDICTIONS = "predictions"
_OUTPUTS = {PREDICTIONS: {"type": "uri_folder", "mode": "upload"}}
# What a job can do on one node alone
_ALONE = {SWEEP: "a search", COMPARE: "a comparison", PREDICT: "a prediction"}


@dataclass(frozen=True)
class Trainer:
    """A folder with this project: an MLproject, a conda file and submit/'s YAML files."""

    root: Path = HERE.parent

    @property
    def recorded(self) -> bool:
        """train.py logs its parameters itself."""
        return False

    def template(self) -> dict[str, Any]:
        """Return job.yml."""
        document: dict[str, Any] = _read_yaml(self.root / "submit" / "job.yml")
        return document

    @cached_property
    def _mlproject(self) -> dict[str, Any]:
        document: dict[str, Any] = _read_yaml(self.root / "MLproject")
        return document

    def entry(self, name: str) -> dict[str, Any]:
        """Return an entry point of MLproject, one that can be sent."""
        if name not in CODE:
            raise UserError(
                f"the entry point {name!r} is not one that is sent{nearest(name, CODE)}",
                f"give -e {' or -e '.join(CODE)}; `mlflow run . -e {name}` runs the others here",
            )
        found: dict[str, Any] = self._mlproject["entry_points"][name]
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

    def label(self, entry: str) -> str:
        """Return what the names of its jobs begin with."""
        return "train" if entry == MAIN else entry

    def title(self, work: Work) -> str:
        """Return the estimator, or the model, and the name of the data."""
        if work.entry == PREDICT:
            return f"{work.parameters['model'].removeprefix('models:/')} on {work.files[DATA].name}"
        what = work.parameters.get("estimator") or f"comparison of {work.parameters['estimators']}"
        return f"{'search of ' if work.entry == SWEEP else ''}{what} on {work.files[DATA].name}"

    def environment(self, image: str | None = None) -> Environment:
        """Return environment.yml with its conda file."""
        path = self.root / "submit" / "environment.yml"
        found = _read_yaml(path)
        return Environment(str(found["name"]), image or found["image"], _read_yaml(path.parent / found["conda_file"]))

    def read_work(self, entry: str, given: Sequence[str], table: str | None, nodes: int) -> Work:
        """Check what a job is to do: its parameters, its data, its search."""
        parameters = read_parameters(self, entry, given, table, nodes)
        named = parameters[DATA]
        files = {DATA: data.find(named, self.path(named, self.defaults(entry)[DATA]))}
        if entry == SWEEP:
            files[SEARCH] = find_search(self, parameters)
        return self.work(entry, parameters, files)

    def work(self, entry: str, parameters: Mapping[str, str], files: Mapping[str, JobInput]) -> Work:
        """Return what a job is to do with parameters that are checked."""
        command = rendered(self.entry(entry)["command"], tuple(files))
        made = Work(entry, parameters, files, command, changes(self, entry, parameters))
        if entry != PREDICT:
            return made
        home = Path(parameters[OUTPUT])
        return replace(
            made, parameters={**parameters, OUTPUT: home.name}, command=_in_output(command), outputs=_OUTPUTS, home=home
        )  # fmt: skip

    def settle(self, workspace: Workspace, work: Work) -> Work:
        """Name the version of the model that a table is scored with: an alias may move until the job begins."""
        if work.entry != PREDICT:
            return work
        given = work.parameters["model"]
        version = "models:/{}/{}".format(*registered.find_version(workspace, given))
        of = "" if given == version else f", now {given}"
        return replace(work, parameters={**work.parameters, "model": version}, told=(("model", f"{version}{of}"),))

    def stage(self, entry: str, folder: Path) -> Staged:
        """Copy what is on the list."""
        return stage(self.root, CODE[entry], folder)

    def tags(self, entry: str) -> dict[str, str]:
        """Return the entry point; train.py tags the rest."""
        return {"mlflow.project.entryPoint": entry}


def _read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def project_tag() -> str:
    """Return the tag by which a job of this project is known."""
    return str(_read_yaml(HERE / "job.yml")["tags"]["project"])


def is_here() -> bool:
    """Whether the code of this project lies beside these modules: what is installed alone has none."""
    return (HERE.parent / "trainer" / "model_folder.py").is_file()


def read_parameters(
    project: Trainer, entry: str, given: Iterable[str], table: str | None = None, nodes: int = 1
) -> dict[str, str]:
    """Read ``-P name=value`` as `mlflow run` does, check names against MLproject and values as train.py does.

    The values of a search are checked by `find_search`.

    Parameters
    ----------
    given : iterable of str
    table : str or None
        ``--data``, another way to say ``-P data=``.
    nodes : int
        How many nodes are to train together; not every estimator can.

    Returns
    -------
    dict
        Every parameter of MLproject's entry point.
    """
    from trainer import settings

    defaults = project.defaults(entry)
    changed = rules.pairs(given, table)
    for name, value in changed.items():
        if name not in defaults:
            whose = "MLproject" if entry == MAIN else f"MLproject's {entry}"
            raise UserError(
                f"{whose} has no parameter {name!r}{nearest(name, defaults)}", f"it has {', '.join(defaults)}"
            )
        if not value or not value.isprintable() or "${{" in value:
            raise UserError(
                f"the value of {name} is {'empty' if not value else repr(value)}",
                "give a word: `auto` stands for not given, `none` for no",
            )
    parameters = defaults | changed
    rules.check_parameters(parameters)
    if entry in _ALONE and nodes > 1:
        raise UserError(f"{_ALONE[entry]} runs on one node", "leave --nodes out")
    if entry == COMPARE:
        from trainer import board  # late: it imports pandas

        board.plan(settings.defaults(COMPARE) | parameters)
    if entry == PREDICT:
        from trainer import scoring

        settings.values(settings.PREDICT, parameters)
        registered.check(parameters["model"])
        scoring.check_output(parameters[OUTPUT])
    if entry == MAIN:
        read = settings.read(settings.defaults() | parameters)
        if nodes > 1:
            settings.check_distributed(read, nodes)
    return parameters


def changes(project: Trainer, entry: str, parameters: Mapping[str, str]) -> str:
    """Say in one line what differs from MLproject's defaults."""
    defaults = project.defaults(entry)
    changed = [
        f"{name}={value} (not {defaults[name]})"
        for name, value in parameters.items()
        if name != DATA and value != defaults[name]
    ]
    return ", ".join(changed) or "all defaults"


def find_search(project: Trainer, parameters: Mapping[str, str]) -> JobInput:
    """Check a search and all of its trials."""
    from trainer import search, settings  # late: it may import scipy and scikit-learn

    path = project.path(parameters[SEARCH], project.defaults(SWEEP)[SEARCH])
    plan = search.plan({**settings.defaults(SWEEP), **parameters, SEARCH: str(path)})
    return JobInput("uri_file", str(path.resolve()), str(plan))


def rendered(command: str, files: Sequence[str]) -> str:
    """Turn a command of MLproject into that of a job, with the paths of files in quotes."""

    def place(found: re.Match[str]) -> str:
        named = f"${{{{inputs.{found[1]}}}}}"
        return f'"{named}"' if found[1] in files else named

    return re.sub(r"\{(\w+)\}", place, command)


def _in_output(command: str) -> str:
    """Have a command write its file into the job's output, under the name that it was given."""
    named = f"${{{{inputs.{OUTPUT}}}}}"
    return command.replace(named, f'"${{{{outputs.{PREDICTIONS}}}}}"/{named}')


def stage(root: Path, patterns: Sequence[str], folder: Path, limit: int = MAX_CODE_BYTES) -> Staged:
    """Copy what a job needs into a fresh folder: files on the list, no links, nothing else.

    Raises
    ------
    UserError
        A file is missing, or together they are larger than `limit` bytes.
    """
    total, count = 0, 0
    for pattern in patterns:
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
            f"keep data and models out of {', '.join(patterns)}; data are given with --data",
        )
    return Staged(folder, count, total)
