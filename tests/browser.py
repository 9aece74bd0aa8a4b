"""Debian's chromium, without a window: what it finds wrong with a page, and where it puts what is in it.

It is spoken to in its DevTools protocol (https://chromedevtools.github.io/devtools-protocol) over two pipes: no port,
no library. Nothing it starts with leads outside of this machine.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--no-default-browser-check", "--hide-scrollbars", "--no-proxy-server", "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


def find() -> str | None:
    """Return the path of a browser that can be spoken to over pipes, or None where there is none."""
    if find_spec("fcntl") is None:  # on Windows
        return None
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class EndedError(Exception):
    """The browser has ended, or did not start."""


class Browser:
    """A page of a browser, and the events that it has told."""

    def __init__(self, to: BinaryIO, back: BinaryIO) -> None:
        self._to, self._back = to, back
        self._said = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask for something, and return the answer."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        asked |= {"sessionId": self._session} if self._session else {}
        try:
            self._to.write(json.dumps(asked).encode() + b"\0")
        except BrokenPipeError as error:
            raise EndedError from error
        while (told := self._next()).get("id") != self._number:
            self.events.append(told)
        assert "error" not in told, (method, told["error"])
        result: dict[str, Any] = told["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._said:
            if not (got := os.read(self._back.fileno(), 2**16)):
                raise EndedError
            self._said += got
        told, _, self._said = self._said.partition(b"\0")
        found: dict[str, Any] = json.loads(told)
        return found

    def show(self, path: Path, width: int, dark: bool = False, media: str = "screen") -> None:
        """Open a file in a window of this width, and wait until it is drawn."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def ask(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, by way of JSON."""
        answer = self.call("Runtime.evaluate", expression=f"JSON.stringify({expression})", awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return json.loads(answer["result"]["value"])

    def picture(self, path: Path) -> None:
        """Write the whole page as a PNG file."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    @property
    def refused(self) -> list[str]:
        """Why requests were not sent."""
        failed = [event["params"] for event in self.events if event.get("method") == "Network.loadingFailed"]
        return [one["blockedReason"] for one in failed if "blockedReason" in one]

    @property
    def complaints(self) -> list[str]:
        """What is in the console: errors, warnings, refusals by the page's own policy."""
        found = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in found]


@contextmanager
def opened(profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    import fcntl  # not on Windows

    (low_in, to), (back, low_out) = os.pipe(), os.pipe()
    its_in, its_out = (fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (low_in, low_out))
    os.close(low_in)
    os.close(low_out)
    # it reads from 3 and writes to 4, whatever the numbers are here
    wired = f'exec 3<&{its_in} 4>&{its_out}; exec "$0" "$@"'
    command = ["bash", "-c", wired, str(find()), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    environment = os.environ | {"HOME": str(profile), "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    process = subprocess.Popen(
        command, pass_fds=(its_in, its_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(its_in)
    os.close(its_out)
    try:
        with os.fdopen(to, "wb", buffering=0) as sink, os.fdopen(back, "rb", buffering=0) as source:
            yield Browser(sink, source)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
