"""The way in: a CONNECT proxy that knows the names of the stand-in and refuses every other."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.standin import names


@dataclass
class Proxy:
    """A CONNECT proxy.

    Parameters
    ----------
    target : int
        The port that every known name leads to.
    record : callable
        Takes the note of a refused host.
    """

    target: int
    record: Callable[[dict[str, Any]], None]
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, address, _ = head.split("\r\n", 1)[0].split(" ", 2)
        host = _host(address)
        if method != "CONNECT" or not (host in names.HOSTS or host.endswith(f".{names.INFERENCE}")):
            self.record(
                {
                    "time": time.time(),
                    "plane": "refused",
                    "method": method,
                    "path": host,
                    "api_version": "",
                    "status": 403,
                }
            )
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.target)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        try:
            one = asyncio.create_task(_pump(reader, inner_writer))
            two = asyncio.create_task(_pump(inner_reader, writer))
            done, _ = await asyncio.wait([one, two], return_when=asyncio.FIRST_COMPLETED)
            if two in done and two.result():
                break_off(writer)
            for pump in (one, two):
                pump.cancel()
            await asyncio.gather(one, two, return_exceptions=True)
        finally:
            inner_writer.close()

    def abort(self) -> None:
        """Drop every connection."""
        for task in list(self._open):
            task.cancel()


def _host(address: str) -> str:
    """Return the host of `host:port` or of an absolute address."""
    address = address.split("://", 1)[-1].split("/", 1)[0]
    return address.rsplit(":", 1)[0].lower() if ":" in address else address.lower()


def break_off(writer: asyncio.StreamWriter | asyncio.WriteTransport) -> None:
    """Reset a connection: RST instead of FIN, so that the other side cannot take it for an orderly end."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport = writer.transport if isinstance(writer, asyncio.StreamWriter) else writer
    transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Copy until the end and say whether that was a reset."""
    try:
        while chunk := await reader.read(1 << 17):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        return True
    return False
