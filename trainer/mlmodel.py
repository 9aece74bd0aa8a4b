"""The ``MLmodel`` file of a model folder, read as data, and the files that it names."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from trainer.errors import UnusableModelError, first_line

MLMODEL = "MLmodel"
# 7,000 columns are 1 MB of MLmodel.
LARGEST_MLMODEL = 16 * 2**20
LARGEST_JSON = 256 * 2**20

ANOTHER = "load it in the environment that is recorded with it, or train another"
TRUST = (
    "if you trust whoever has made it, give trust=yes (verify and predict): MLflow loads it, and runs what it brings"
)
AGAIN = "fetch the model folder again from where it was logged"

# What may load a model here, and what its flavor calls the file.
FLAVORS = {"mlflow.sklearn": ("sklearn", "pickled_model"), "mlflow.xgboost": ("xgboost", "data")}
XGBOOST_CLASS = "xgboost.sklearn.XGBRegressor"
# What MLflow runs, or imports, where a flavor has it.
CODE = ("code", "code_path", "code_paths", "model_code_path", "python_model", "artifacts", "config", "loader")


@dataclass(frozen=True)
class Description:
    """What the ``MLmodel`` file of a folder says, read as data.

    Attributes
    ----------
    name : str
        The model as the user has named it.
    flavor : {'sklearn', 'xgboost'}
    file : Path
        The model itself.
    inputs : mapping of str to str
        MLflow's type of each feature, in the signature's order; ``any`` where the signature takes whatever comes.
    metadata : mapping
    """

    folder: Path
    name: str
    flavor: str
    file: Path
    inputs: Mapping[str, str]
    metadata: Mapping[str, Any]


def describe(folder: Path, name: str = "", trust: bool = False) -> Description:
    """Read the ``MLmodel`` file of a folder, and refuse what is not as this project writes it.

    Raises
    ------
    UnusableModelError
        It names what it wants to run, or cannot be read; with `trust`, only the latter.
    """
    name = name or str(folder)
    text = _read(folder, MLMODEL, LARGEST_MLMODEL, name)
    try:
        said_by_model = yaml.load(text, Loader=_PlainLoader)
        flavors = said_by_model["flavors"]
        function = flavors["python_function"]
        loader = function["loader_module"]
        inputs = _inputs(said_by_model.get("signature"))
        metadata = dict(said_by_model.get("metadata") or {})
        if not trust:
            _check_flavors(flavors, name)
        flavor, file_key = FLAVORS.get(loader, ("", ""))
        file = flavors[flavor][file_key] if flavor else function.get("model_path") or function.get("data") or MLMODEL
        if trust and not (folder / str(file)).is_file():
            file = MLMODEL  # a folder of files, which MLflow knows
        if not trust and file != function.get("model_path", function.get("data")):
            raise refused(name, f"two files, {file} and {function.get('model_path', function.get('data'))}")
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnusableModelError(f"{name}: its {MLMODEL} cannot be read: {said(error)}", AGAIN) from error
    if not inputs:
        raise UnusableModelError(f"{name} has no signature that says which columns it needs", ANOTHER)
    return Description(folder, name, flavor, _inside(folder, file, name), inputs, metadata)


def _check_flavors(flavors: Mapping[str, Any], name: str) -> None:
    """Refuse what this project does not write, by the name of what it wants to run."""
    function = flavors["python_function"]
    loader = function["loader_module"]
    if loader not in FLAVORS:
        raise refused(name, f"the module {loader} (its loader_module)")
    flavor, _ = FLAVORS[loader]
    for one, content in flavors.items():
        if one not in ("python_function", flavor):
            raise refused(name, f"the flavor {one}")
        if brought := [key for key in CODE if content.get(key)]:
            raise refused(name, f"code that came with it ({brought[0]}: {content[brought[0]]})")
    own = flavors[flavor]
    if flavor == "sklearn" and own.get("serialization_format") != "skops":
        raise refused(name, f"a pickle ({own.get('pickled_model')}, {own.get('serialization_format', 'pickle')})")
    if flavor == "xgboost" and own.get("model_class") != XGBOOST_CLASS:
        raise refused(name, f"the class {own.get('model_class')} (its model_class)")


def _inputs(signature: Any) -> dict[str, str]:
    """Return MLflow's type of each column of a signature; an object, array or map is called as it is there."""
    columns = json.loads((signature or {}).get("inputs") or "[]")
    return {column["name"]: str(column["type"]) for column in columns if "name" in column}


def read_checked(described: Description, file: str, recorded: str) -> bytes:
    """Read a file of a model folder, and check it against the digest that the ``MLmodel`` file records.

    Raises
    ------
    UnusableModelError
        It is not what was recorded on the day of training.
    """
    content = _read(described.folder, file, LARGEST_JSON, described.name)
    if hashlib.sha256(content).hexdigest() != described.metadata.get(recorded):
        raise UnusableModelError(f"{described.name}: {file} is not what was recorded on the day of training", AGAIN)
    return content


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_digest(described: Description) -> None:
    """Check the model's own file against the digest in the ``MLmodel`` file.

    Raises
    ------
    UnusableModelError
        It is not the file of the day of training.
    """
    if digest(described.file) != described.metadata.get("model_sha256"):
        raise UnusableModelError(
            f"{described.name}: {described.file.name} is not the model that was recorded on the day of training", AGAIN
        )


def _read(folder: Path, file: str, largest: int, name: str) -> bytes:
    path = _inside(folder, file, name)
    with path.open("rb") as opened:
        content = opened.read(largest + 1)
    if len(content) > largest:
        raise refused(name, f"its {file} has more than {largest / 2**20:.0f} MB")
    return content


def _inside(folder: Path, file: Any, name: str) -> Path:
    """Return the path of a file of a folder; refuse what leads out of it, or is more than this machine can hold."""
    pure = PurePosixPath(str(file))
    if not isinstance(file, str) or pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in file:
        raise refused(name, f"the file {file!r}, which is not in it")
    path = folder / pure
    if any(part.is_symlink() for part in (path, *path.parents) if part != folder and part.is_relative_to(folder)):
        raise refused(name, f"the file {file!r}, which is a link")
    if not path.is_file():
        raise UnusableModelError(f"{name} has no {file}", AGAIN)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    if path.stat().st_size > memory:
        raise refused(name, f"its {file}, of {path.stat().st_size / 2**30:,.0f} GB: more than this machine's memory")
    return path


def refused(name: str, wanted: str) -> UnusableModelError:
    """Return the error for a model that this project has not made."""
    return UnusableModelError(f"{name} was not made by this project: it wants {wanted}", TRUST)


def said(error: BaseException) -> str:
    """Return what an exception says in its first line, after its type."""
    return f"{type(error).__name__}: {first_line(error)}"


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: an ``MLmodel`` has none, and a few of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)
