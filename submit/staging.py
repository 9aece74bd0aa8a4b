"""What of a project's folder is sent: all but what its ignore file names, and what is nobody else's business."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .console import size
from .errors import UserError

# The first that is there, as Azure's own tools do.
IGNORE_FILES = (".amlignore", ".gitignore")
# Stores, caches, environments, secrets: in the syntax of ignore files.
NEVER = (
    *(".git", ".hg", ".svn", ".venv", "venv", "__pycache__", "*.py[cod]", ".ipynb_checkpoints", "node_modules"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", "*.egg-info", ".DS_Store"),
    *("mlruns", "mlartifacts", "mlflow.db*", "outputs"),
    *(".env", ".env.*", ".envrc", ".netrc", ".pypirc", ".aws", ".azure", ".azureml", ".ssh", "id_rsa*", "id_ed25519*"),
    *IGNORE_FILES,
)
MAX_FILES, MAX_BYTES = 5_000, 300_000_000


def copy(root: Path, folder: Path, max_bytes: int = MAX_BYTES) -> tuple[int, int]:
    """Copy a project into a fresh folder, and return how many files, and how many bytes, it has.

    Raises
    ------
    UserError
        It is larger than code is.
    """
    count, total, largest = 0, 0, (0, "")
    for source in chosen(root):
        name = source.relative_to(root)
        count, total = count + 1, total + source.stat().st_size
        largest = max(largest, (source.stat().st_size, name.as_posix()))
        if count > MAX_FILES or total > max_bytes:
            raise UserError(
                f"the project is more than {size(max_bytes)} or {MAX_FILES} files; {largest[1]} is {size(largest[0])}",
                "name in its .amlignore what a job does not need; data are parameters of type path",
            )
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
    return count, total


def chosen(root: Path) -> Iterator[Path]:
    """List the files of a folder that are sent. A link is followed where it stays inside of the folder."""
    from pathspec import GitIgnoreSpec

    own = next((root / name for name in IGNORE_FILES if (root / name).is_file()), None)
    lines = own.read_text(encoding="utf-8", errors="replace").splitlines() if own else []
    ignored, never = GitIgnoreSpec.from_lines(lines), GitIgnoreSpec.from_lines(NEVER)
    inside = root.resolve()
    for folder, folders, files in os.walk(root):
        here = Path(folder)

        def is_sent(name: str, slash: str = "", here: Path = here) -> bool:
            path = here / name
            shown = path.relative_to(root).as_posix() + slash
            if never.match_file(shown) or ignored.match_file(shown):
                return False
            return not path.is_symlink() or inside in path.resolve().parents

        folders[:] = sorted(
            name for name in folders
            if is_sent(name, "/") and not (here / name).is_symlink() and not (here / name / "pyvenv.cfg").exists()
        )  # fmt: skip
        yield from (here / name for name in sorted(files) if is_sent(name) and (here / name).is_file())
