"""Where a model comes from: the commit, whether the tree differs, the versions of what computed it."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from trainer import lineage
from trainer.formats import Source
from trainer.lineage import Git


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_and_whether_the_tree_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_COMMIT", "GIT_DIRTY", "GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    package = tmp_path / "trainer"
    package.mkdir()
    (package / "lineage.py").write_text("")
    tags = {"mlflow.source.git.commit": "told by mlflow"}
    monkeypatch.setattr(lineage, "__file__", str(package / "lineage.py"))
    assert lineage.git_state(tags) == Git("told by mlflow", "unknown")
    assert lineage.git_state({}) == Git("unknown", "unknown")
    monkeypatch.setenv("GIT_COMMIT", "told by the submitting side")
    monkeypatch.setenv("GIT_DIRTY", "true")
    assert lineage.git_state(tags) == Git("told by the submitting side", "true")

    git(tmp_path, "init")  # somebody else's repository around an untracked copy of the code
    git(tmp_path, "commit", "--allow-empty", "-m", "theirs")
    assert lineage.git_state(tags).commit == "told by the submitting side"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    assert lineage.git_state(tags) == Git(git(tmp_path, "rev-parse", "HEAD"), "false")
    (tmp_path / "mlflow.db").write_text("what a run has left, and git does not know")
    assert lineage.git_state(tags).dirty == "false"
    (package / "lineage.py").write_text("changed")
    assert lineage.git_state(tags) == Git(git(tmp_path, "rev-parse", "HEAD"), "true")


def test_a_machine_without_git_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lineage.ask_git(tmp_path, "train.py") is None


def test_what_the_tags_say() -> None:
    traced = lineage.trace("run", {}, Source("data/sales.csv", "ab" * 32, 7), "ridge")
    assert (traced.source["data_name"], traced.source["data_bytes"]) == ("sales.csv", "7")
    assert traced.tags["version.python"] == platform.python_version()
    assert traced.tags["version.scikit-learn"] == metadata.version("scikit-learn")
    assert traced.source.items() <= traced.tags.items()
