"""The state of the code, as git knows it. Standard library only: both sides of a submission ask."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Git:
    """The commit, and whether the tree differs from it (``true``, ``false``); ``unknown`` outside a repository."""

    commit: str = "unknown"
    dirty: str = "unknown"


def ask_git(root: Path, file: str) -> Git | None:
    """Ask git for the state of a folder, in which `file` must be tracked: a repository around it may be another's.

    None where there is no git, or no repository of this code.
    """

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", file)
        changes = ask("status", "--porcelain", "--untracked-files=no", "--", ".")
        return Git(ask("rev-parse", "HEAD"), "true" if changes else "false")
    except (OSError, subprocess.SubprocessError):
        return None
