"""Where a model comes from: the run, the data, the code, the versions of what computed it."""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.estimators import ESTIMATORS
from trainer.git import Git, ask_git
from trainer.secrets import redact

if TYPE_CHECKING:
    from trainer.formats import Source


@dataclass(frozen=True)
class Lineage:
    """What the tags, the model, its card and metric.json say alike; `versions` are packages by name, and python."""

    run_id: str
    data_name: str
    data_sha256: str
    data_bytes: int
    git: Git
    versions: dict[str, str]

    @property
    def source(self) -> dict[str, str]:
        """The data and the code, by the names of the tags."""
        return {
            "data_name": self.data_name,
            "data_sha256": self.data_sha256,
            "data_bytes": str(self.data_bytes),
            **{f"git_{name}": text for name, text in asdict(self.git).items()},
        }

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the run."""
        return self.source | {f"version.{name}": text for name, text in self.versions.items()}


def trace(run_id: str, run_tags: Mapping[str, str], source: "Source", estimator: str) -> Lineage:
    """Collect where a model comes from."""
    return Lineage(run_id, redact(source.name), source.sha256, source.size, git_state(run_tags), versions(estimator))


def versions(estimator: str) -> dict[str, str]:
    """Return the versions of what an estimator's predictions depend on."""
    packages = (ESTIMATORS[estimator].package, "numpy", "pandas", "scipy", "skops", "mlflow")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def git_state(run_tags: Mapping[str, str]) -> Git:
    """Ask git for the state of the code; where the code came without its repository, the submitting side.

    That one says so in the environment (GIT_COMMIT, GIT_DIRTY) or, where it is `mlflow run` or Azure Machine
    Learning, in the run's tag ``mlflow.source.git.commit``.
    """
    here = Path(__file__).resolve()
    if found := ask_git(here.parent.parent, f"{here.parent.name}/{here.name}"):
        return found
    commit = os.environ.get("GIT_COMMIT") or run_tags.get("mlflow.source.git.commit", "unknown")
    return Git(commit, os.environ.get("GIT_DIRTY", "unknown"))
