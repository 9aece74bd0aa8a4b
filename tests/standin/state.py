"""What the stand-in remembers: one folder, so that it can be stopped and started again.

Documents (computes, assets, jobs) are rows of one sqlite file; everything else is a file with a plain name.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import socket
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Document = dict[str, Any]
# Below those that kernels give to outgoing connections: one of these could take a port that is not listened on yet.
PORTS = range(10_000, 32_000)
# Two processes that look for ports at the same time begin at different ones.
_numbers = itertools.count(os.getpid() * 16)


@dataclass(frozen=True)
class Folder:
    """The state folder and the names in it."""

    root: Path

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("jobs", "azurite", "environments"):
            (self.root / name).mkdir(exist_ok=True)

    @property
    def requests(self) -> Path:
        """One line of JSON for each request."""
        return self.root / "requests.jsonl"

    @property
    def ca(self) -> Path:
        """The certificate that clients must trust."""
        return self.root / "ca.pem"

    @property
    def ready(self) -> Path:
        """Exists while the stand-in serves: where it listens."""
        return self.root / "serving.json"

    def job(self, name: str) -> Path:
        """Return the folder of a job, made if it is missing."""
        folder = self.root / "jobs" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def secret(self, name: str, size: int = 64) -> bytes:
        """Return a secret of this stand-in, drawn once."""
        path = self.root / f"{name}.key"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(secrets.token_bytes(size))
        return path.read_bytes()

    def serving(self, ports: dict[str, int]) -> None:
        """Say that the stand-in serves; who waits for the file finds it complete."""
        _write(self.ready, ports)

    @property
    def _ports(self) -> Path:
        return self.root / "ports.json"

    def ports(self) -> dict[str, int]:
        """Return the ports of the last time, empty at first."""
        return json.loads(self._ports.read_text()) if self._ports.exists() else {}

    def keep_ports(self, ports: dict[str, int]) -> None:
        """Remember the ports, so that a waiting client finds the stand-in again."""
        _write(self._ports, ports)


def _write(path: Path, ports: dict[str, int]) -> None:
    """Write a file that is complete or absent."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(ports))
    partial.replace(path)


@dataclass
class Documents:
    """Documents by kind, name and version.

    Parameters
    ----------
    path : Path
        The sqlite file.
    """

    path: Path
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")  # it outlives a crash of this process, not one of the machine
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS document (seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT, "
            "name TEXT, version TEXT, body TEXT, UNIQUE (kind, name, version))"
        )

    def put(self, kind: str, name: str, body: Document, version: str = "") -> None:
        """Write a document; one of the same kind, name and version is replaced and keeps its place."""
        with self._lock:
            self._db.execute(
                "INSERT INTO document (kind, name, version, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (kind, name, version) DO UPDATE SET body = excluded.body",
                (kind, name, version, json.dumps(body)),
            )

    def change(self, kind: str, name: str, changes: Document) -> Document | None:
        """Change some of a document, and return it; two threads may change one at a time."""
        with self._lock:
            body = self.get(kind, name)
            if body is not None:
                body |= changes
                self.put(kind, name, body)
            return body

    def get(self, kind: str, name: str, version: str = "") -> Document | None:
        """Return a document, or None."""
        with self._lock:
            row = self._db.execute(
                "SELECT body FROM document WHERE kind = ? AND name = ? AND version = ?", (kind, name, version)
            ).fetchone()
        return None if row is None else json.loads(row[0])

    def versions(self, kind: str, name: str) -> list[tuple[str, Document]]:
        """Return the versions of an asset, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT version, body FROM document WHERE kind = ? AND name = ? ORDER BY seq DESC",
                (kind, name),
            ).fetchall()
        return [(version, json.loads(body)) for version, body in rows]

    def all(self, kind: str) -> Iterator[tuple[str, str, Document]]:
        """Yield name, version and document of one kind, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT name, version, body FROM document WHERE kind = ? ORDER BY seq DESC", (kind,)
            ).fetchall()
        for name, version, body in rows:
            yield name, version, json.loads(body)

    def drop(self, kind: str, name: str, version: str = "") -> None:
        """Forget a document."""
        with self._lock:
            self._db.execute("DELETE FROM document WHERE kind = ? AND name = ? AND version = ?", (kind, name, version))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def holder(lock: Path) -> int | None:
    """Return the process id of the keeper that holds a lock file, None if nobody holds it.

    The kernel drops the lock with its holder, so an old number is never taken for a new process.
    """
    import fcntl  # not on Windows

    try:
        with lock.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except FileNotFoundError:
        return None
    return None


def listen(port: int = 0) -> socket.socket:
    """Return a socket that listens on loopback, on `port` if that is free and else on another."""
    for candidate in [*([port] if port else []), *(PORTS[next(_numbers) % len(PORTS)] for _ in range(50))]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", candidate))
        except OSError:
            sock.close()
            continue
        sock.listen(128)
        return sock
    raise OSError("no free port on 127.0.0.1")


def free_port(port: int = 0) -> int:
    """Return `port` if nothing listens on it, else a free one."""
    with listen(port) as sock:
        return int(sock.getsockname()[1])
