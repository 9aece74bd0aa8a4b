"""Blobs: what the stand-in itself reads and writes in Azurite, and the signatures that it gives to others."""

from __future__ import annotations

import base64
import functools
import http.client
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, quote

from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import (
    AccountSasPermissions,
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)

from tests.standin import names


@dataclass(frozen=True)
class Storage:
    """The storage account.

    Parameters
    ----------
    port : int
        Where Azurite listens, on loopback, without TLS.
    key : bytes
        The account's key.
    signed_for_jobs : set of str
        The signatures that jobs were given, as against those of whoever submits them.
    """

    port: int
    key: bytes
    signed_for_jobs: set[str] = field(default_factory=set)
    _shipped: dict[str, int] = field(default_factory=dict)

    @property
    def account_key(self) -> str:
        """The key as clients know it."""
        return base64.b64encode(self.key).decode()

    @functools.cached_property
    def client(self) -> BlobServiceClient:
        """A client that goes to Azurite directly."""
        return BlobServiceClient(
            f"http://127.0.0.1:{self.port}/{names.ACCOUNT}",
            credential={"account_name": names.ACCOUNT, "account_key": self.account_key},
            # It is on this machine: if it does not answer, it has been stopped.
            retry_total=0,
            # A connection that is kept may be closed by the other side just when it is used again.
            headers={"Connection": "close"},
        )

    def container(self, datastore: str) -> ContainerClient:
        """Return the container of a datastore."""
        return self.client.get_container_client(names.CONTAINERS.get(datastore, datastore))

    def prepare(self) -> None:
        """Make the containers of the workspace's datastores."""
        for container in names.CONTAINERS.values():
            self.create(container)

    def create(self, container: str) -> None:
        """Make a container that may be there already."""
        try:
            self.client.create_container(container)
        except ResourceExistsError:
            return

    def container_sas(self, container: str) -> str:
        """Return the address of a container, signed for reading, writing and listing."""
        token = generate_container_sas(
            names.ACCOUNT,
            container,
            account_key=self.account_key,
            permission=ContainerSasPermissions(read=True, write=True, create=True, add=True, list=True),
            expiry=datetime.now(UTC) + timedelta(hours=8),
        )
        return f"https://{names.BLOB}/{container}?{token}"

    def account_sas(self) -> str:
        """Return a signature for everything, with which a good token is exchanged."""
        return generate_account_sas(
            names.ACCOUNT,
            self.account_key,
            ResourceTypes(service=True, container=True, object=True),
            AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )

    def plant(self, prefix: str, path: str, data: bytes) -> None:
        """Write an artifact of any name below a folder of the artifacts.

        A client that asks for a name with `..` in it asks for what that comes to, so the bytes lie there, too.
        """
        container = names.CONTAINERS[names.ARTIFACTSTORE]
        for name in dict.fromkeys((f"{prefix}/{path}", posixpath.normpath(f"{prefix}/{path}"))):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            address = f"/{names.ACCOUNT}/{container}/{quote(name, safe='')}?{self.account_sas()}"
            headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2023-11-03"}
            connection.request("PUT", address, body=data, headers=headers)
            answer = connection.getresponse()
            if answer.status != 201:
                raise OSError(f"{name!r} is not stored: {answer.status} {answer.read()[:500]!r}")
            connection.close()

    def blob_sas(self, datastore: str, path: str, write: bool = False, job: bool = False) -> str:
        """Return the address of a blob, signed for reading or for reading and writing, for a job or for a user."""
        container = names.CONTAINERS[datastore]
        token = generate_blob_sas(
            names.ACCOUNT,
            container,
            path,
            account_key=self.account_key,
            permission=BlobSasPermissions(read=True, write=write, create=write, add=write),
            expiry=datetime.now(UTC) + timedelta(hours=8),
        )
        if job:
            self.signed_for_jobs.add(parse_qs(token)["sig"][0])
        return f"https://{names.BLOB}/{container}/{quote(path)}?{token}"

    def names(self, datastore: str, prefix: str) -> list[str]:
        """Return the names of the blobs that begin with `prefix`."""
        return list(self.container(datastore).list_blob_names(name_starts_with=prefix))

    def exists(self, datastore: str, path: str) -> bool:
        """Say whether there is a blob with exactly this name."""
        return path in self.names(datastore, path)  # by the list: an address with `..` in it leads elsewhere

    def download(self, datastore: str, prefix: str, target: Path) -> list[Path]:
        """Download the blob `prefix`, or all blobs below it, into the folder `target`.

        Returns
        -------
        list of Path
            The files written. A single blob lies in `target` under its own name.
        """
        container = self.container(datastore)
        prefix = prefix.rstrip("/")
        written = []
        for name, relative in _below(container, prefix):
            path = target / relative
            if not path.resolve().is_relative_to(target.resolve()):
                raise ValueError(f"blob {name!r} would be written outside of {target}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                container.download_blob(name).readinto(file)
            written.append(path)
        return written

    def upload(self, datastore: str, path: str, data: bytes | Path) -> None:
        """Write a blob, over an older one if there is one."""
        blob = self.container(datastore).get_blob_client(path)
        if isinstance(data, bytes):
            blob.upload_blob(data, overwrite=True)
            return
        with data.open("rb") as file:
            blob.upload_blob(file, overwrite=True)

    def upload_folder(self, datastore: str, prefix: str, folder: Path) -> int:
        """Write the files of a folder and return how many there were."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in files:
            self.upload(datastore, f"{prefix}/{path.relative_to(folder).as_posix()}", path)
        return len(files)

    def append(self, datastore: str, path: str, file: Path) -> None:
        """Add to an append blob what `file` has more than it, as a log is shipped."""
        size = file.stat().st_size if file.exists() else 0  # what is written meanwhile is for the next time
        if self._shipped.get(path) == size:
            return
        blob = self.container(datastore).get_blob_client(path)
        try:
            offset = blob.get_blob_properties().size
        except ResourceNotFoundError:
            blob.create_append_blob()
            offset = 0
        if size <= offset:
            self._shipped[path] = offset
            return
        with file.open("rb") as log:
            log.seek(offset)
            while chunk := log.read(min(1 << 20, size - offset)):
                try:
                    blob.append_block(chunk, appendpos_condition=offset)
                except ResourceModifiedError:  # it has arrived already: an answer was lost, or two ship the same log
                    self.append(datastore, path, file)
                    return
                offset += len(chunk)
        self._shipped[path] = offset


def _below(container: ContainerClient, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each blob and its path in the target folder."""
    blob = container.get_blob_client(prefix)
    if prefix and blob.exists():
        yield prefix, prefix.rsplit("/", 1)[-1]
        return
    folder = f"{prefix}/" if prefix else ""
    for name in container.list_blob_names(name_starts_with=folder):
        yield name, name[len(folder) :]
