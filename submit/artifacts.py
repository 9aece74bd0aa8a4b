"""Where a job stores its artifacts, and what lies there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from .console import command
from .errors import UserError
from .rules import check_job_name
from .workspace import Workspace

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

# A training run stores a few megabytes: more is not what it should be.
MAX_FILES = 10_000
_DATASTORE = re.compile(r"azureml://(?:.*/)?datastores/(?P<store>[^/]+)/(?:paths/)?(?P<path>.+?)/?")


@dataclass(frozen=True)
class Artifacts:
    """Where the artifacts and logs of a job lie: a datastore, a folder in its container."""

    workspace: Workspace
    store: str
    prefix: str
    container: "ContainerClient"

    def listing(self, path: str = "") -> list[tuple[str, int]]:
        """List what begins with a path, with its size in bytes."""
        begin = f"{self.prefix}/{path}"

        def ask() -> list[tuple[str, int]]:
            blobs = islice(self.container.list_blobs(name_starts_with=begin), MAX_FILES + 1)
            return [(blob.name.removeprefix(f"{self.prefix}/"), int(blob.size or 0)) for blob in blobs]

        return self.workspace.call("list the artifacts", ask)

    def address(self, path: str) -> str:
        """Return the address at which another job can read what lies there."""
        return f"azureml://datastores/{self.store}/paths/{self.prefix}/{path}"


@contextmanager
def artifacts(workspace: Workspace, name: str, job: Any = None) -> Iterator[Artifacts]:
    """Open the place where a job stores its artifacts; `job` is what `look` has returned, if it was asked."""
    default = getattr(((job or look(workspace, name)).outputs or {}).get("default"), "path", None)
    with stored_at(workspace, str(default), ("workspaceartifactstore", f"ExperimentRun/dcid.{name}")) as stored:
        yield stored


@contextmanager
def stored_at(workspace: Workspace, address: str, otherwise: tuple[str, str] | None = None) -> Iterator[Artifacts]:
    """Open the place that an address of a datastore names; `otherwise`, where it names none."""
    from azure.storage.blob import ContainerClient, LinearRetry

    found = _DATASTORE.fullmatch(address)
    if found is None and otherwise is None:
        raise UserError(f"{address[:80]!r} is no place in a datastore", "look at the job in the studio")
    store, prefix = (found["store"], found["path"]) if found else otherwise or ("", "")
    with open_store(workspace, store, ContainerClient, retry_policy=LinearRetry(backoff=1, retry_total=1)) as container:
        yield Artifacts(workspace, store, prefix, container)


def open_store(workspace: Workspace, store: str, client: Any, **options: Any) -> Any:
    """Return a client of a datastore's container: with its key, its signature, or the user's own identity.

    Raises
    ------
    UserError
        There is no such datastore, or it holds no blobs.
    """
    from azure.core.exceptions import ResourceNotFoundError

    try:
        datastore: Any = workspace.call(
            "look at the datastore", lambda: workspace.client.datastores.get(store, include_secrets=True)
        )
    except ResourceNotFoundError as error:
        raise UserError(
            f"the workspace {workspace.name} has no datastore {store} any more",
            "`az ml datastore list` lists what it has; the workspace's own ones can be created again by an owner",
        ) from error
    # of a Data Lake it is a file system, and its blobs are read all the same
    container = getattr(datastore, "container_name", None) or getattr(datastore, "filesystem", None)
    if container is None:
        raise UserError(
            f"the datastore {store} is of type {datastore.type}, which holds no blobs",
            "look at it in the studio (Data)",
        )
    kept = datastore.credentials
    return client(
        f"{datastore.protocol}://{datastore.account_name}.blob.{datastore.endpoint}",
        container,
        credential=getattr(kept, "account_key", None) or getattr(kept, "sas_token", None) or workspace.credential,
        **options,
    )


def look(workspace: Workspace, name: str) -> Any:
    """Return a job as the client has it."""
    from azure.core.exceptions import ResourceNotFoundError

    check_job_name(name)
    try:
        return workspace.call(f"look at the job {name}", lambda: workspace.client.jobs.get(name))
    except ResourceNotFoundError as error:
        raise no_such_job(workspace, name) from error


def no_such_job(workspace: Workspace, name: str) -> UserError:
    """Say that a workspace has no such job."""
    return UserError(
        f"the workspace {workspace.name} has no job {name!r}", f"`{command('jobs')}` lists the recent ones"
    )
