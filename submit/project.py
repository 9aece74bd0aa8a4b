"""Any project with an MLproject, as MLflow itself reads it, and what a job of it is to do."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from . import data as inputs
from . import project_environment, rules, sources, staging
from .data import JobInput
from .environment import Environment
from .errors import UserError, first_line, nearest
from .git import Git, ask_git
from .job import Staged, Work
from .own import Trainer
from .secrets import holds_secret, without_secrets
from .workspace import Workspace

if TYPE_CHECKING:
    from mlflow.projects._project_spec import EntryPoint
    from mlflow.projects._project_spec import Project as Spec

# What is not said by an MLproject.
TIME_LIMIT = 7200
_FILE = re.compile(r"mlproject", re.IGNORECASE)
_TOKEN = re.compile(r"mlflow_aml_input_(\d+)_")


@dataclass(frozen=True)
class Project:
    """A project that is there, and that MLflow can read."""

    root: Path
    address: str
    spec: "Spec"

    @property
    def recorded(self) -> bool:
        """As `mlflow run` does: the code of a project leaves that to it."""
        return True

    @property
    def name(self) -> str:
        """Its name, for those of experiments and jobs."""
        return rules.slug(str(self.spec.name or "")) or rules.slug(self.root.name) or "project"

    def template(self) -> dict[str, Any]:
        """Return what is the same in all of its jobs; in the order of job.yml."""
        return {
            "$schema": "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
            "type": "command",
            "code": "",
            "command": "",
            "inputs": {},
            "environment": "",
            "compute": None,
            "environment_variables": {
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
            },
            "experiment_name": self.name[:200],
            "display_name": "",
            "tags": {"project": self.name[:200]},
            "limits": {"timeout": TIME_LIMIT},
        }

    def label(self, entry: str) -> str:
        """Return what the names of its jobs begin with."""
        return (self.name if entry == "main" else rules.slug(Path(entry).stem) or self.name)[:60]

    def title(self, work: Work) -> str:
        """Return entry point and project."""
        return f"{work.entry} of {self.spec.name or self.name}"

    def environment(self, image: str | None = None) -> Environment:
        """Return what its jobs run in, as its conda_env, python_env or docker_env says."""
        return project_environment.read(self.spec, self.root, f"mlproject-{self.name[:200]}", image)

    def git(self) -> Git:
        """Ask git for the state of the code."""
        return ask_git(self.root, next(name for name in os.listdir(self.root) if _FILE.fullmatch(name))) or Git()

    def stage(self, _: str, folder: Path) -> Staged:
        """Copy the folder without what its ignore file names, and without stores, caches and secrets."""
        return Staged(folder, *staging.copy(self.root, folder))

    def tags(self, entry: str) -> dict[str, str]:
        """Return the tags that `mlflow run` gives a run."""
        return {
            "mlflow.project.entryPoint": entry,
            "mlflow.source.name": without_secrets(self.address),
            "mlflow.source.type": "PROJECT",
        }

    def read_work(self, entry: str, given: Sequence[str], data: str | None, _: int) -> Work:
        """Check what a job is to do: entry point, parameters and their types, and the paths among them.

        Parameters
        ----------
        given : sequence of str
            ``name=value``.
        data : str or None
            ``--data``, where the entry point has a parameter of that name.
        """
        point = self._entry(entry)
        changed = rules.pairs(given, data)
        if data is not None and "data" not in point.parameters:
            raise UserError(f"{entry} has no parameter 'data'", "give the table by its own name: -P name=value")
        parameters = _parameters(point, changed)
        rules.check_parameters(parameters)
        files = {
            name: self._file(name, parameters[name]) for name, one in point.parameters.items() if one.type == "path"
        }
        names = _input_names(parameters)
        command = _command(point, parameters, files, names)
        shown = [f"{name}={value}" for name, value in changed.items()]
        extra = [name for name in parameters if name not in point.parameters]
        remarks = tuple(
            f"{entry} has no parameter {name!r}{nearest(name, point.parameters)}: passed on as --{name}, as MLflow does"
            for name in extra
        ) + tuple(
            f"{name} is text, and {value} is a file of this machine, which is not sent: of type path it is uploaded"
            for name, value in parameters.items()
            if name not in files and self._is_outside(value)
        )
        return Work(entry, parameters, files, command, ", ".join(shown) or "all defaults", names, remarks)

    def _is_outside(self, value: str) -> bool:
        """Whether a text names a file of this machine which the code would find here, and not on a node."""
        try:
            path = (self.root / value).resolve()
            return path.is_file() and self.root.resolve() not in path.parents
        except (OSError, ValueError):  # no name of a file
            return False

    def settle(self, _: Workspace, work: Work) -> Work:
        """Nothing is open: what is said in MLproject and on the command line is all."""
        return work

    def _entry(self, name: str) -> "EntryPoint":
        """Return an entry point: one of MLproject, or a script of the folder."""
        from mlflow.exceptions import MlflowException

        known = list(self.spec._entry_points or {})
        script = self.root / name
        try:
            found = self.spec.get_entry_point(name)  # type: ignore[no-untyped-call]
        except MlflowException:
            found = None
        if found is None or (name not in known and not script.is_file()):
            raise UserError(
                f"{without_secrets(self.address)} has no entry point {name!r}{nearest(name, known)}",
                f"give -e {' or -e '.join(known)}" if known else "give -e with a .py or .sh file of it",
            )
        if not isinstance(found.command, str) or not found.command.strip():
            raise UserError(f"the entry point {name} has no command", "write one into its MLproject")
        if name not in known and name.endswith(".sh"):
            found.command = f"bash {name!r}"  # MLflow takes this machine's shell
        return found  # type: ignore[no-any-return]

    def _file(self, name: str, given: str) -> JobInput:
        """Return a parameter of type path as an input: what lies here, or in the project."""
        path = Path(urlsplit(given).path if given.startswith("file://") else given).expanduser()
        if not path.exists() and not path.is_absolute():
            path = self.root / path
        try:
            return inputs.find(given.removeprefix("file://"), path)
        except UserError as error:
            raise UserError(f"{name}: {error.cause}", f"give -P {name}= {inputs.FORMS}") from error


def _parameters(point: "EntryPoint", changed: Mapping[str, str]) -> dict[str, str]:
    """Return every parameter with its value, checked by its type."""
    missing = [name for name, one in point.parameters.items() if one.default is None and name not in changed]
    if missing:
        raise UserError(
            f"{point.name} has no value for {', '.join(missing)}", f"give -P {' -P '.join(f'{n}=...' for n in missing)}"
        )
    found = {name: changed.get(name, str(one.default)) for name, one in point.parameters.items()}
    found |= {name: value for name, value in changed.items() if name not in found}
    for name, value in found.items():
        kind = point.parameters[name].type if name in point.parameters else "string"
        if not value.isprintable() or "${{" in value:
            raise UserError(f"the value of {name} is {value!r}", "give one line without ${{")
        if kind == "float" and not _is_number(value):
            raise UserError(f"{name} is of type float, and is {value!r}", f"give -P {name}=NUMBER")
        if kind == "uri" and not urlsplit(value).scheme:
            raise UserError(
                f"{name} is of type uri, and {value!r} is none",
                f"give -P {name}=https://..., or make it a path in MLproject: that is uploaded",
            )
        if kind == "uri" and urlsplit(value).scheme == "file":
            raise UserError(
                f"{name} is {value!r}, a file of this machine, and a node has no such file",
                f"make {name} a path in MLproject: that is uploaded",
            )
        if kind != "path" and holds_secret(value):
            raise UserError(
                f"the value of {name} holds a signature, a token or a password, which would be seen in the job",
                "register the data as an asset (`az ml data create`), and make the parameter a path in MLproject",
            )
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _input_names(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return names of inputs by the parameters': the service takes letters, digits and underscores."""
    found: dict[str, str] = {}
    for name in parameters:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = plain if re.match(r"[A-Za-z_]", plain) else f"p_{plain}"
        while plain.casefold() in (one.casefold() for one in found.values()):
            plain += "_"
        found[name] = plain
    return found


def _command(
    point: "EntryPoint", parameters: Mapping[str, str], files: Mapping[str, JobInput], names: Mapping[str, str]
) -> str:
    """Have MLflow render a command with words that stand for the inputs, and put the inputs in their places.

    What is given in addition to MLproject's parameters is passed on as ``--name value``.
    """
    words = {name: f"mlflow_aml_input_{number}_" for number, name in enumerate(parameters)}
    by_number = list(parameters)
    # The words are neither paths nor addresses, and the values have been checked.
    plain = type(point)(point.name, dict.fromkeys(point.parameters, "string"), point.command)
    try:
        rendered = plain.compute_command(words, None)  # type: ignore[no-untyped-call]
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"the command of {point.name} cannot be filled in: {type(error).__name__} {error}",
            "declare what stands in {} among its parameters, and write {{ and }} for braces of the shell",
        ) from error

    def place(found: re.Match[str]) -> str:
        name = by_number[int(found[1])]
        named = f"${{{{inputs.{names[name]}}}}}"
        return f'"{named}"' if name in files else named

    return _TOKEN.sub(place, rendered)


@contextmanager
def opened(address: str | None, version: str | None = None) -> Iterator[Trainer | Project]:
    """Find a project; one that is fetched is gone afterwards.

    Parameters
    ----------
    address : str or None
        A folder or a Git address, with ``#subdirectory``; None for this project.
    version : str, optional
        A commit, a branch or a tag.

    Raises
    ------
    UserError
        It cannot be had, or MLflow could not run it.
    """
    ours = Trainer()
    here = address is None or (Path(address).is_dir() and Path(address).resolve() == ours.root)
    if here and version is None and (ours.root / "submit" / "job.yml").is_file():
        yield ours
        return
    if address is None:
        raise UserError("no project is named", "give --project with a folder or a Git address")
    with tempfile.TemporaryDirectory(prefix="submit-", ignore_cleanup_errors=True) as scratch:
        root = sources.fetch(address, version, Path(scratch))
        yield Project(root, address, _read(root, without_secrets(address)))


def _read(root: Path, shown: str) -> "Spec":
    """Read an MLproject as MLflow does, after a look at whether it can."""
    from mlflow.exceptions import MlflowException
    from mlflow.projects._project_spec import load_project

    file = next((root / name for name in sorted(os.listdir(root)) if _FILE.fullmatch(name)), None)
    if file is None:
        raise UserError(f"{shown} has no MLproject", "name a folder that has one; for a part of it, add #subdirectory")
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise UserError(f"the MLproject of {shown} is not YAML{where}: {first_line(error)}", "correct it") from error
    points = document.get("entry_points") or {} if isinstance(document, dict) else None
    sound = isinstance(points, dict) and all(
        isinstance(point, dict) and isinstance(point.get("parameters") or {}, dict) for point in points.values()
    )
    if not sound:
        raise UserError(
            f"the MLproject of {shown} is not as MLflow has it",
            "write entry_points: {NAME: {parameters: {...}, command: ...}}; https://mlflow.org/docs/latest/ml/projects",
        )
    try:
        project: Spec = load_project(str(root))  # type: ignore[no-untyped-call]
    except (MlflowException, AttributeError, TypeError) as error:
        raise UserError(f"MLflow refuses the MLproject of {shown}: {first_line(error)}", "correct it") from error
    return project
