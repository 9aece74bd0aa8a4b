"""The environment of a project, as its MLproject declares it, for Azure Machine Learning.

A job speaks to the workspace's MLflow with azureml-mlflow, which the project's own environment has no reason to have:
it is added, and the user is told. Where mlflow is left open, it is held below 3: `log_model` of mlflow 3 asks
for logged models, which a workspace does not have, and the run fails (Azure/azure-sdk-for-python#44896).
"""

import os
import platform
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .environment import Environment
from .errors import UserError, first_line
from .secrets import redact

if TYPE_CHECKING:
    from mlflow.projects._project_spec import Project as Spec

# Of Microsoft's, CPU only, with a fixed tag; what environment.yml takes for this project.
IMAGE = "mcr.microsoft.com/azureml/openmpi5.0-ubuntu24.04:20260901.v1"
PLUGIN = "azureml-mlflow"
MLFLOW = ("mlflow", "mlflow-skinny")
BELOW = "<3"
_CONDA_NAME = re.compile(r"(?:[\w.-]+::)?(?P<name>[\w.-]+)\s*(?P<version>.*)", re.DOTALL)
_LOCAL = re.compile(r"(-e\b|--editable\b|\.{0,2}/|file:|\.$|.*\.(whl|tar\.gz|zip)$|[\w.-]+\s*@\s*file:)")


def read(project: "Spec", root: Path, name: str, image: str | None) -> Environment:
    """Return what jobs of a project run in.

    Parameters
    ----------
    name : str
        Of the environment in the workspace.
    image : str or None
        In the place of the project's, or of the one below its conda file.
    """
    if project.docker_env:
        return _docker(project.docker_env, root, name, image)
    if project.env_config_path is None:
        conda = _conda_file([f"python={_python()}", "pip"], [f"mlflow{BELOW}"])
        return _environment(name, image, conda, "the project declares none: Python and mlflow")
    path = Path(project.env_config_path)
    document = _read_yaml(path)
    if project.env_type == "conda_env":
        conda = {key: value for key, value in document.items() if key not in ("name", "prefix")}
        conda["dependencies"] = [_pip_section(one, path) for one in document.get("dependencies") or []]
    else:
        build = [str(one) for one in document.get("build_dependencies") or []]
        pins = _requirements(document.get("dependencies") or [], path)
        conda = _conda_file([f"python={document.get('python') or _python()}", *(build or ["pip"])], pins)
    return _environment(name, image, conda, path.name)


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path.name} of the project: {first_line(error)}", "correct it") from error
    if not isinstance(document, dict) or not isinstance(document.get("dependencies") or [], list):
        raise UserError(f"{path.name} of the project is no list of dependencies", "write dependencies: [...]")
    return document


def _conda_file(dependencies: list[Any], pins: list[str]) -> dict[str, Any]:
    if not any(isinstance(one, str) and _name(one) == "pip" for one in dependencies):
        dependencies = [*dependencies, "pip"]
    return {"channels": ["conda-forge"], "dependencies": [*dependencies, {"pip": pins}]}


def _pip_section(dependency: Any, path: Path) -> Any:
    """Return a dependency as it can be sent; of a pip section, what its files name in their place."""
    if isinstance(dependency, dict) and "pip" in dependency:
        return {"pip": _requirements(dependency["pip"] or [], path)}
    return str(dependency)


def _requirements(lines: Iterable[Any], path: Path, depth: int = 0) -> list[str]:
    """Return requirements with those of ``-r`` files in their place: only the list goes to the service."""
    found: list[str] = []
    for line in (re.sub(r"(^|\s)#.*", "", str(line)).strip() for line in lines):
        named = re.match(r"(?:-r|--requirement|-c|--constraint)[\s=]*(.+)", line)
        if named and line.startswith(("-c", "--constraint")):
            raise UserError(
                f"{path.name} takes constraints from {named[1]}, which a workspace cannot",
                f"write the versions into {path.name} itself",
            )
        if named:
            file = path.parent / named[1].strip("'\"")
            if depth > 5 or not file.is_file():
                raise UserError(f"{path.name} names {named[1]}, and there is no such file", f"correct {path.name}")
            text = file.read_text(encoding="utf-8").replace("\\\n", " ")
            found += _requirements(text.splitlines(), file, depth + 1)
        elif _LOCAL.match(line):
            raise UserError(
                f"{path.name} installs {line!r} of this machine, and the image is built in the workspace",
                "name a package that pip can get; code beside the MLproject is sent, and imported, as it is",
            )
        elif line:
            found.append(line)
    return found


def _name(dependency: str) -> str:
    found = _CONDA_NAME.match(dependency.strip())
    return found["name"].casefold().replace("_", "-") if found else ""


def _environment(name: str, image: str | None, conda: dict[str, Any], source: str) -> Environment:
    """Add what a job needs to a conda file, where it is missing."""
    dependencies, capped = _capped(conda["dependencies"], source)
    section = next((one for one in dependencies if isinstance(one, dict) and "pip" in one), None)
    pins: list[str] = list(section["pip"]) if section else []
    plain = [one for one in dependencies if isinstance(one, str)]
    names = {_name(re.split(r"[\[;]", one)[0]): one for one in (*plain, *pins)}
    added = []
    if not names.keys() & set(MLFLOW):
        added.append("mlflow-skinny")
    if PLUGIN not in names:
        # No newer than the one that is here; an older one where the project's Python or mlflow is older.
        pins.append(f"{PLUGIN}<={metadata.version(PLUGIN)}")
        added.append(PLUGIN)
    if added:
        pins += [f"mlflow-skinny{BELOW}"] if "mlflow-skinny" in added else []
        rest = [one for one in dependencies if one is not section]
        rest += [] if any(_name(one) == "pip" for one in plain) else ["pip"]
        dependencies = [*rest, {"pip": pins}]
    told = [source]
    told += [f"added: {' and '.join(added)}, with which the job speaks to the workspace"] if added else []
    told += [capped] if capped else []
    return Environment(name, image or IMAGE, {**conda, "dependencies": dependencies}, "; ".join(told))


def _capped(dependencies: Iterable[Any], source: str) -> tuple[list[Any], str]:
    """Hold mlflow below 3 where the project leaves that open; say what was done, or what will fail."""
    told = ""

    def cap(line: str) -> str:
        nonlocal told
        package = _name(re.split(r"[\[;]", line)[0])
        if package not in MLFLOW:
            return line
        held = _below_3(package, line, source)
        if held is None:
            told = (
                f"{line}: its log_model fails, for a workspace has no logged models; save_model and log_artifacts work"
            )
            return line
        told = told if held == line else f"{held}, for log_model of mlflow 3 fails in a workspace"
        return held

    found = [
        {**one, "pip": [cap(line) for line in one["pip"]]} if isinstance(one, dict) and "pip" in one
        else cap(one) if isinstance(one, str) else one
        for one in dependencies
    ]  # fmt: skip
    return found, told


def _below_3(package: str, wanted: str, source: str) -> str | None:
    """Return a dependency on mlflow that leaves mlflow 3 out; None where it asks for mlflow 3.

    Raises
    ------
    UserError
        It asks for a newer one than azureml-mlflow takes.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    takes = next(
        one.specifier for one in map(Requirement, metadata.requires(PLUGIN) or []) if one.name == "mlflow-skinny"
    )
    newest = max(Version(one.version) for one in takes if one.operator in ("<=", "<", "=="))
    found = _CONDA_NAME.match(wanted)
    text = re.sub(r"^=(?!=)", "==", found["version"] if found else "")
    try:
        asked = Requirement(f"{package}{text}")
    except InvalidRequirement:
        return wanted  # pip or conda will say what is wrong with it
    given = asked.specifier
    least = [Version(one.version.removesuffix(".*")) for one in given if one.operator in ("==", "~=", ">=", ">", "===")]
    if least and max(least) > newest:
        raise UserError(
            f"{source} asks for {wanted}, and {PLUGIN}, through which a job logs, takes mlflow up to {newest}",
            f"write {package}<={newest} into {source}",
        )
    if least and max(least).major >= 3:
        return None
    if not any(given.contains(version) for version in ("3.0.0", newest)):
        return wanted
    if asked.marker is None and not asked.extras:
        return f"{wanted},{BELOW}" if given else f"{wanted.strip()}{BELOW}"
    asked.specifier = given & SpecifierSet(BELOW)
    return str(asked)


def _docker(docker: Mapping[str, Any], root: Path, name: str, image: str | None) -> Environment:
    """Take the image as it is: what is in it, nobody here knows."""
    own = str(docker["image"])
    if docker.get("volumes"):
        raise UserError(
            f"docker_env mounts {', '.join(map(str, docker['volumes']))} of this machine; a node has no such folder",
            "make what is needed there a parameter of type path: that is uploaded",
        )
    if image is None and "/" not in own and any(root.glob("[Dd]ockerfile*")):
        raise UserError(
            f"the image {own!r} is one of this machine, made from the Dockerfile beside MLproject: no node can have it",
            f"put it into a registry (az acr build -r REGISTRY -t {own} .), and give --image REGISTRY.azurecr.io/{own}",
        )
    setup = f"{{ python -c 'import azureml.mlflow' 2>/dev/null || python -m pip install --quiet '{_newest()}'; }}"
    return Environment(
        name, image or own, None, f"the image; {PLUGIN} is added on the node where the image lacks it", setup,
        _variables(docker.get("environment") or []),
    )  # fmt: skip


def _newest() -> str:
    return f"{PLUGIN}<={metadata.version(PLUGIN)}"


def _variables(wanted: Iterable[Any]) -> dict[str, str]:
    """Return the environment variables of docker_env: with a value, or copied from here."""
    found: dict[str, str] = {}
    for one in wanted:
        name, value = (str(one[0]), str(one[1])) if isinstance(one, list) else (str(one), os.environ.get(str(one)))
        if value is None:
            raise UserError(f"docker_env takes {name} from the environment, and it is not set", f"export {name}=...")
        if redact(f"{name}={value}") != f"{name}={value}":
            raise UserError(
                f"docker_env passes {name} on, which looks like a secret, and would be seen in the job",
                "keep it in the workspace's key vault, and have the code read it there",
            )
        found[name] = value
    return found
