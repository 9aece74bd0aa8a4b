"""Whether the processes that train together are alive: each tells process 0 so every second, and is told.

A socket that closes says at once that a process has ended; one that is stopped, or whose machine is gone, falls silent.
"""

import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep

from trainer.errors import UserError

BEAT_SECONDS = 1.0
# Longer than any library keeps all threads of Python waiting.
SILENCE_SECONDS = 20.0
# What the main thread may take to notice a loss by itself.
GRACE_SECONDS = 5.0

_ALIVE, _DONE = b".", b"!"


class LostError(UserError):
    """A process has ended, or is silent."""

    def __init__(self, rank: int) -> None:
        super().__init__(f"process {rank} is lost", "run all of them again")
        self.rank = rank


class Heartbeat:
    """The connections between process 0 and the others, and the thread that watches over them."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size
        self.port = 0
        self._server: socket.socket | None = None
        self._peers: dict[int, socket.socket] = {}
        self._heard: dict[int, float] = {}
        self._done: set[int] = set()
        self._lost: int | None = None
        self._mine_done = threading.Event()
        self._all_done = threading.Event()
        self._stopped = threading.Event()
        self._on_loss: Callable[[int], None] = lambda _: None

    def listen(self, address: str) -> None:
        """Open a port, in process 0."""
        if self.rank == 0:
            self._server = socket.create_server(("" if not address.startswith("127.") else address, 0))
            self.port = self._server.getsockname()[1]

    def start(self, address: str, port: int, on_loss: Callable[[int], None]) -> None:
        """Connect, and watch from now on; `on_loss` is called with a rank when nobody has noticed its loss in time."""
        self._on_loss = on_loss
        if self._server is not None:
            self._server.settimeout(SILENCE_SECONDS)
            for _ in range(self.world_size - 1):
                try:
                    peer, _address = self._server.accept()
                    peer.settimeout(SILENCE_SECONDS)
                    self._add(int(peer.recv(8)), peer)
                except (OSError, ValueError) as error:
                    missing = next(rank for rank in range(1, self.world_size) if rank not in self._peers)
                    raise LostError(missing) from error
        else:
            try:
                peer = socket.create_connection((address, port), SILENCE_SECONDS)
                peer.sendall(f"{self.rank:08d}".encode())
            except OSError as error:
                raise LostError(0) from error
            self._add(0, peer)
        threading.Thread(target=self._watch, name="heartbeat", daemon=True).start()

    def _add(self, rank: int, peer: socket.socket) -> None:
        peer.setblocking(False)
        self._peers[rank], self._heard[rank] = peer, monotonic()

    def check(self) -> None:
        """Raise if another process is lost."""
        if self._lost is not None:
            raise LostError(self._lost)

    def finish(self) -> None:
        """Wait until all processes have come to their end; from then on none is missed."""
        self._mine_done.set()
        while not self._all_done.wait(BEAT_SECONDS / 10):
            self.check()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()
        for peer in [*self._peers.values(), *([self._server] if self._server else [])]:
            peer.close()

    def _watch(self) -> None:
        told = 0.0
        with selectors.DefaultSelector() as selector:
            for rank, peer in self._peers.items():
                selector.register(peer, selectors.EVENT_READ, rank)
            while not self._stopped.is_set():
                with suppress(OSError, ValueError):  # closed by `stop`
                    for key, _ in selector.select(BEAT_SECONDS / 4):
                        self._hear(key.data, selector)
                if monotonic() - told >= BEAT_SECONDS or self._mine_done.is_set():
                    self._tell()
                    told = monotonic()
                silent = [rank for rank, last in self._heard.items() if monotonic() - last > SILENCE_SECONDS]
                if silent and self._lost is None and not self._all_done.is_set():
                    self._lost = silent[0]
                if self._lost is not None:
                    break
        if self._lost is not None:
            self._stopped.wait(GRACE_SECONDS)
            if not self._stopped.is_set():
                self._on_loss(self._lost)

    def _hear(self, rank: int, selector: selectors.BaseSelector) -> None:
        try:
            heard = self._peers[rank].recv(4096)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if not heard:
            selector.unregister(self._peers[rank])
            self._heard.pop(rank, None)
            if not self._all_done.is_set() and rank not in self._done:
                self._lost = rank
            return
        self._heard[rank] = monotonic()
        if _DONE in heard:
            self._done.add(rank)

    def _tell(self) -> None:
        """Process 0 is done once all are; the others say that they are, and wait to hear it from process 0."""
        others_done = len(self._done) == self.world_size - 1
        if self.rank == 0:
            say = _DONE if self._mine_done.is_set() and others_done else _ALIVE
        else:
            say = _DONE if self._mine_done.is_set() else _ALIVE
        for peer in self._peers.values():
            with suppress(OSError):
                peer.send(say)
        if self._mine_done.is_set() and ((self.rank == 0 and say == _DONE) or (self.rank > 0 and 0 in self._done)):
            self._all_done.set()
            return
        if self._mine_done.is_set():
            sleep(BEAT_SECONDS / 20)
