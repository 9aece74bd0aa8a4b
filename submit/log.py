"""The log of a job: read on from where it was left, cut into lines, shown as they come."""

from dataclasses import dataclass, field

from . import refusals, service
from .errors import UnreachableError, UserError
from .workspace import Workspace

TAIL_LINES = 20
# What is read of a log at a time, and at most between two looks at the job; a line that goes on beyond it is cut.
CHUNK_BYTES, CHUNKS, MAX_LINE_BYTES = 1 << 20, 16, 1 << 16


@dataclass
class Log:
    """One log of a job, of which lines are shown as they come.

    Attributes
    ----------
    offset : int
        Bytes that have been read.
    rest : bytes
        The beginning of a line whose end has not come yet.
    """

    offset: int = 0
    rest: bytes = b""
    tail: list[str] = field(default_factory=list)

    def take(self, data: bytes, last: bool = False) -> list[str]:
        """Add what was read, and return the lines that are complete."""
        self.offset += len(data)
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        if self.rest and (last or len(self.rest) > MAX_LINE_BYTES):
            lines.append(self.rest)
            self.rest = b""
        texts = [line.decode(errors="replace").rpartition("\r")[2] for line in (one.rstrip(b"\r") for one in lines)]
        self.tail = (self.tail + texts)[-TAIL_LINES:]
        return texts


def read_log(workspace: Workspace, address: str, offset: int, patience: float = service.PATIENCE) -> bytes | None:
    """Read a log from a byte on; nothing where there is no more, None where it is shorter than that."""
    import requests

    def get() -> bytes | None:
        ours = {"Range": f"bytes={offset}-{offset + CHUNK_BYTES - 1}"}
        with requests.get(address, headers=ours, timeout=(10, 60), stream=True) as answer:
            if answer.status_code == 416:
                length = answer.headers.get("Content-Range", "").rpartition("/")[2]
                return None if length.isdecimal() and int(length) < offset else b""
            if answer.status_code == 404:  # it is not there yet
                return b""
            answer.raise_for_status()
            skipped = 0 if answer.status_code == 206 else offset  # a server that knows no ranges
            content = b""
            for part in answer.iter_content(1 << 16):  # what breaks off here is an error of requests
                content += part
                if len(content) >= skipped + CHUNK_BYTES:
                    break
            return content[skipped : skipped + CHUNK_BYTES]

    return workspace.call("read the log", get, patience)


@dataclass
class Shown:
    """The log that is shown; `name` is empty before there is one, `refused` where the storage keeps it.

    `expired` is set where the address was too old once: the next look at the job brings another one.
    """

    workspace: Workspace
    log: Log = field(default_factory=Log)
    name: str = ""
    refused: bool = False
    expired: bool = False

    def read_on(self, address: str, last: bool) -> bool:
        """Show what has been added, and return whether there was anything."""
        screen, any_data = self.workspace.screen, False
        for _ in range(CHUNKS):
            if self.refused:
                return False
            try:
                data = read_log(self.workspace, address, self.log.offset, service.LONG_PATIENCE)
            except UnreachableError:
                raise
            except UserError as error:
                if not self.expired and refusals.is_expired(error):
                    self.expired = True
                    return False
                self.refused = True
                screen.say(f"{error.cause}: its log is not shown, and the job is followed all the same", "yellow")
                screen.say(f"  fix: {error.remedy}", "dim")
                return False
            if data is None:
                screen.say("the log begins again", "yellow")
                self.log = Log()
                continue
            any_data |= bool(data)
            for line in self.log.take(data, last=last and len(data) < CHUNK_BYTES):
                screen.say(f"| {line}")
            if len(data) < CHUNK_BYTES:
                return any_data
        if last:
            screen.say("the log goes on; the studio shows all of it", "yellow")
        return any_data


def end_of(workspace: Workspace, address: str) -> Log:
    """Read a log to its end; what is refused has none."""
    log = Log()
    try:
        for _ in range(CHUNKS):
            data = read_log(workspace, address, log.offset) or b""
            log.take(data, last=len(data) < CHUNK_BYTES)
            if len(data) < CHUNK_BYTES:
                break
    except UserError as error:
        workspace.screen.say(error.cause, "yellow")
    return log
