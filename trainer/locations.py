"""Where the files of a table are: a path, a folder of parts, or a URL of any file system that fsspec knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import fsspec

from trainer.errors import UserError, first_line
from trainer.secrets import redact, without_secrets

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
# Folders whose logs say which of the files still count, and what reads them.
_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
# What reads protocols that fsspec learns of only when that package is there.
_DRIVERS = {"abfs": "adlfs", "abfss": "adlfs", "az": "adlfs", "adl": "adlfs", "gs": "gcsfs", "gcs": "gcsfs"}
# Of names of exceptions, whoever raises them: a host that does not answer.
_NO_ANSWER = ("Connect", "Timeout", "Resol", "gaierror", "ServiceRequest", "Endpoint", "DNS", "Disconnected")


@dataclass(frozen=True)
class Part:
    """One file of a table; `values` are what the folders above it (``key=value``) say of its rows."""

    path: str
    name: str
    relative: str
    values: dict[str, str | None]


@dataclass(frozen=True)
class Location:
    """Where the files of a table are; `data` is what a person calls it, and no part has another set of `values`."""

    data: str
    filesystem: Any
    path: str
    parts: tuple[Part, ...]

    @property
    def is_local(self) -> bool:
        """Whether its files can be opened where they are."""
        return "file" in _protocols(self.filesystem)


def locate(data: str, endings: tuple[str, ...]) -> Location:
    """Find a table: a file, or the files of one format below a folder.

    Parameters
    ----------
    data : str
        A local path, or a URL of any file system for which an fsspec driver is installed.
    endings : tuple of str
        Of the files that a folder may hold.

    Raises
    ------
    UserError
        There is no such file, or a folder holds something else.
    """
    shown = without_secrets(data)
    with reaching(data, shown):
        filesystem, path = fsspec.core.url_to_fs(data)
        path = str(path)
        location = Location(shown, filesystem, path, ())
        if _is_file(filesystem, path):
            return Location(shown, filesystem, path, (Part(path, shown, PurePosixPath(path).name, {}),))
        if not filesystem.exists(path):
            raise FileNotFoundError(path)
        found = sorted(str(name) for name in filesystem.find(path))
    inside = [PurePosixPath(name).relative_to(path) for name in found]
    if log := next((part for one in inside for part in one.parts[:-1] if part in _LOGS), None):
        raise UserError(
            f"the folder {shown} is a {_LOGS[log]} table: not all of its files are part of it, and its log says which",
            "write what is in it now as Parquet, and give that folder",
        )
    kept = [one for one in inside if not any(part.startswith(("_", ".")) for part in one.parts)]
    strays = [one for one in kept if not one.name.lower().endswith(endings)]
    if strays or not kept:
        what = f"also holds {strays[0].name}" if strays else "is empty"
        raise UserError(
            f"the folder {shown} should hold the parts of one table, and {what}",
            "give the file itself, or a folder of .parquet files alone (or .arrow, or .csv)",
        )
    parts = tuple(
        Part(f"{path.rstrip('/')}/{one}", f"{shown.rstrip('/')}/{one}", one.as_posix(), _values(one)) for one in kept
    )
    for part in parts:
        if part.values.keys() != parts[0].values.keys():
            raise UserError(
                f"the folders of {shown} do not name the same columns: {parts[0].relative} and {part.relative}",
                "give each part of the table the same folders, KEY=VALUE",
            )
    return Location(location.data, filesystem, path, parts)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _is_file(filesystem: Any, path: str) -> bool:
    if "http" in _protocols(filesystem):  # which calls whatever it cannot reach "not a file"
        filesystem.info(path)
        return True
    return bool(filesystem.isfile(path))


def _values(relative: PurePosixPath) -> dict[str, str | None]:
    pairs = [unquote(folder).split("=", 1) for folder in relative.parts[:-1] if "=" in folder]
    return {key: None if value == HIVE_NULL else value for key, value in pairs}


@contextmanager
def reaching(data: str, shown: str) -> Iterator[None]:
    """Say in two lines why a file cannot be had."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise _unreachable(data, shown, error) from error


def _unreachable(data: str, shown: str, error: BaseException) -> UserError:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    kinds = " ".join(type(one).__name__ for one in chain)
    said = redact(first_line(error)).replace(data, shown)
    statuses = (getattr(one, name, None) for one in chain for name in ("status", "status_code"))
    status = next((one for one in statuses if isinstance(one, int)), None)
    if missing := next((one for one in chain if isinstance(one, ModuleNotFoundError)), None):
        return UserError(
            f"{shown} needs the package {missing.name}, which is not installed",
            f"pip install {(missing.name or '').split('.')[0]}; or copy the file here and give its path",
        )
    if isinstance(error, ValueError) and (driver := _DRIVERS.get(data.partition("://")[0])) and "rotocol" in said:
        return UserError(
            f"{shown} needs the package {driver}, which is not installed",
            f"pip install {driver}; or copy the file here and give its path",
        )
    if isinstance(error, ImportError):
        return UserError(f"{shown} needs a driver that is not installed: {said}", "pip install that package")
    if status in (401, 403) or isinstance(error, PermissionError) or "Credential" in kinds or "Authentic" in kinds:
        return UserError(
            f"{shown} may not be read: {said}", "check who you are signed in as, and what that user may read"
        )
    if (status or 0) >= 500 or any(word in kinds for word in _NO_ANSWER):
        return UserError(f"{shown} cannot be reached: {said}", "check the host in the address, and the network")
    if isinstance(error, FileNotFoundError):
        if "://" in data:
            return UserError(f"there is no file {shown}", "check the path in the address")
        return UserError(
            f"there is no file {Path(data).absolute()}",
            "give data=PATH with the whole path; a relative one begins at the folder where train.py runs, which is the "
            "project's own under `mlflow run` of a Git address",
        )
    if isinstance(error, ValueError) and "://" in data and len(chain) == 1 and "protocol" in said.lower():
        return UserError(
            f"{shown} is not a path or URL that can be read: {said}",
            "give a local path, or a URL such as abfss://..., s3://... or https://...",
        )
    return UserError(f"{shown} cannot be read: {said}", "check the path and its permissions")
