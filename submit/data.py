"""What a job reads: a local table or folder, a data asset, an address, or what another job has stored."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from .artifacts import artifacts
from .console import size
from .errors import UserError, nearest
from .secrets import holds_secret, without_secrets
from .workspace import Workspace

FORMS = "a local path, azureml:NAME:VERSION, azureml:NAME@latest, job:NAME/PATH, or an address"

_ASSET = re.compile(r"azureml:(?P<name>[\w.-]+)(?::(?P<version>[\w.-]+)|@(?P<label>[\w-]+))")
_OUTPUT = re.compile(r"job:(?P<job>[\w-]+)/(?P<path>.*[^/])/?")
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
# What a node can read, as the service documents it
_READABLE = ("https", "http", "azureml", "abfss", "abfs", "wasbs", "wasb", "adl")


@dataclass(frozen=True)
class JobInput:
    """An input of a job.

    Attributes
    ----------
    kind : {'uri_file', 'uri_folder'}
    path : str
        As a job's YAML names it.
    text : str
        What it is, in one line, without what a query may hold.
    files : tuple of Path
        Of a local folder, those that are sent.
    given : str
        How it was spelled, where the workspace has to be asked what it stands for.
    """

    kind: str
    path: str
    text: str
    files: tuple[Path, ...] = ()
    given: str = ""

    @property
    def document(self) -> dict[str, str]:
        """As a job's YAML writes it."""
        return {"type": self.kind, "path": self.path}

    @property
    def name(self) -> str:
        """Its last part, for display names: without query."""
        return PurePosixPath(unquote(without_secrets(self.path))).name or self.path


def find(given: str, path: Path) -> JobInput:
    """Say what is meant, and check what can be checked without asking anybody.

    Parameters
    ----------
    given : str
        As it was spelled.
    path : Path
        What it is if it is local.
    """
    if holds_secret(given):
        raise UserError(
            "the address of the data holds a signature, a token or a password, which would be seen in the job",
            "register the data as an asset (`az ml data create`) and give azureml:NAME:VERSION",
        )
    if found := _ASSET.fullmatch(given):
        which = f"version {found['version']}" if found["version"] else str(found["label"])
        return JobInput("uri_file", given, f"data asset {found['name']}, {which}", given=given)
    if found := _OUTPUT.fullmatch(given):
        address = f"azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{found['job']}/{found['path']}"
        return JobInput("uri_file", address, f"{found['path']} of the job {found['job']}", given=given)
    if found := _SCHEME.fullmatch(given):
        return _address(given, found["scheme"].casefold(), found["rest"])
    if given.startswith(("azureml:", "job:")):
        raise UserError(f"{given!r} names neither a data asset nor what a job has stored", f"give {FORMS}")
    return _local(given, path)


def _address(given: str, scheme: str, rest: str) -> JobInput:
    if scheme not in _READABLE:
        raise UserError(f"a node cannot read {scheme}:// addresses, as {without_secrets(given)}", f"give {FORMS}")
    if "*" in rest:
        raise UserError(f"{without_secrets(given)!r} is a pattern", "give the folder: an address that ends with '/'")
    address = f"{scheme}://{rest.replace(' ', '%20')}"
    folder = rest.endswith("/")
    unclear = not folder and scheme != "https" and "." not in rest.rpartition("/")[2]
    text = without_secrets(address) + (" (read as a file: a folder's address ends with '/')" if unclear else "")
    return JobInput("uri_folder" if folder else "uri_file", address, text)


def _local(given: str, path: Path) -> JobInput:
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"there is no file or folder {given!r}{nearest(path.name, siblings)}", f"give --data {FORMS}")
    if path.is_file():
        return JobInput("uri_file", str(path.resolve()), f"{path.name} ({size(path.stat().st_size)})")
    files = tuple(visible(path))
    if not files:
        raise UserError(f"the folder {given!r} holds no file", "give --data a file, or a folder of Parquet parts")
    total = sum(file.stat().st_size for file in files)
    text = f"{path.resolve().name} ({len(files)} files, {size(total)})"
    return JobInput("uri_folder", str(path.resolve()), text, files)


def visible(folder: Path) -> Iterator[Path]:
    """List the files of a folder that train.py would read, in order: what begins with ``.`` or ``_`` is another's."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            yield from visible(entry)
        elif entry.is_file():
            yield entry


def stage(given: JobInput, scratch: Path) -> JobInput:
    """Return an input of which the client sends what was counted, whatever an ignore file in its folder says.

    The files of a folder are linked into another; where there are no links, copied.
    """
    if not given.files:
        return given
    source = Path(given.path)
    target = scratch / "data" / source.name
    for file in given.files:
        link = target / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink(file.resolve(), link)
        except OSError:  # Windows asks for a privilege
            shutil.copyfile(file, link)
    return replace(given, path=str(target))


def look_up(workspace: Workspace, given: JobInput) -> JobInput:
    """Ask the workspace for what only it can know; leave anything else as it is."""
    if found := _ASSET.fullmatch(given.given):
        return _asset(workspace, found["name"], found["version"], found["label"])
    if found := _OUTPUT.fullmatch(given.given):
        return _output(workspace, found["job"], found["path"])
    return given


def _asset(workspace: Workspace, name: str, version: str | None, label: str | None) -> JobInput:
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import ResourceNotFoundError

    which = f"of version {version}" if version else f"with the label {label}"
    missing = UserError(
        f"the workspace {workspace.name} has no data asset {name} {which}",
        f"`az ml data list --name {name}` lists its versions; or give --data a local path",
    )
    data = workspace.client.data
    try:
        asset = workspace.call("look at the data", lambda: data.get(name, version=version, label=label))
    except ResourceNotFoundError as error:
        raise missing from error
    except UserError as error:
        if isinstance(error.__cause__, MlException):  # of a label that is not there
            raise missing from error
        raise
    if asset.type not in ("uri_file", "uri_folder"):
        raise UserError(
            f"the data asset {name} is of type {asset.type}", "give an asset of type uri_file or uri_folder"
        )
    text = f"data asset {name}, version {asset.version}" + (f" ({label})" if label else "")
    return JobInput(str(asset.type), f"azureml:{name}:{asset.version}", text)


def _output(workspace: Workspace, job: str, path: str) -> JobInput:
    with artifacts(workspace, job) as stored:
        names = [name for name, _ in stored.listing(path)]
    if path in names:
        kind = "uri_file"
    elif any(name.startswith(f"{path}/") for name in names):
        kind = "uri_folder"
    else:
        raise UserError(f"the job {job} has stored no {path!r}", "its page in the studio (Outputs + logs) lists them")
    return JobInput(kind, stored.address(path), f"{path} of the job {job}")
