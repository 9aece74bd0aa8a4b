"""Where a project comes from: a folder, an archive, or a Git address, of which a version may be asked for."""

import os
import shutil
import subprocess
from pathlib import Path

from .errors import UserError, first_line
from .secrets import without_secrets


def fetch(address: str, version: str | None, scratch: Path) -> Path:
    """Return the folder of a project, cloned where it is not one, or where a version of it is asked for."""
    from mlflow.exceptions import MlflowException
    from mlflow.projects import utils

    shown = without_secrets(address)
    try:
        plain, subdirectory = utils._parse_subdirectory(address)  # type: ignore[no-untyped-call]
        local = utils._is_local_uri(plain) and not utils._is_zip_uri(plain)  # type: ignore[no-untyped-call]
        if local and version is None:
            return _inside(Path(utils._parse_file_uri(plain)).resolve(), subdirectory, shown)
        if local and not (Path(utils._parse_file_uri(plain)) / ".git").exists():
            raise UserError(f"{shown} is no Git repository, and version {version} is asked for", "leave --version out")
        os.environ.setdefault("GIT_TERMINAL_PROMPT", "0")  # nobody is asked for a password in the middle of it
        if local:  # MLflow would check the version out in the user's own folder
            source = str(Path(utils._parse_file_uri(plain)).resolve())
            _git("clone", "--quiet", "--no-checkout", source, str(scratch))
            _git("-C", str(scratch), "checkout", "--quiet", str(version))
        elif utils._is_zip_uri(plain):  # type: ignore[no-untyped-call]
            fetched = utils._fetch_project(plain, version)  # type: ignore[no-untyped-call]
            shutil.copytree(fetched, scratch, dirs_exist_ok=True)
            shutil.rmtree(fetched, ignore_errors=True)
        else:
            utils._fetch_git_repo(plain, version, str(scratch))  # type: ignore[no-untyped-call]
    except UserError:
        raise
    except (MlflowException, OSError, subprocess.CalledProcessError, ValueError) as error:
        raise _unreachable(shown, version, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("git", "gitdb", "requests", "zipfile"):
            raise
        raise _unreachable(shown, version, error) from error
    return _inside(scratch, subdirectory, shown)


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)


def _unreachable(shown: str, version: str | None, error: Exception) -> UserError:
    """Say why a project cannot be had: the line of git's that tells."""
    said = str(getattr(error, "stderr", None) or error).replace("stderr:", "\n")
    lines = [line.strip(" '\"") for line in said.splitlines()]
    telling = next((line for line in lines if line.startswith(("fatal:", "error:"))), first_line(error))
    which = f" at {version}" if version else ""
    return UserError(
        f"cannot fetch the project {shown}{which}: {telling[:200]}",
        f"give a folder that is there, or an address for which `git ls-remote {shown.partition('#')[0]}` works"
        + (f" and lists {version}" if version else ""),
    )


def _inside(root: Path, subdirectory: str, shown: str) -> Path:
    found = (root / subdirectory).resolve()
    if not found.is_dir() or root.resolve() not in (found, *found.parents):
        raise UserError(f"there is no folder {subdirectory or root.name!r} in {shown}", "correct what follows the '#'")
    return found
