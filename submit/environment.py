"""What jobs run in: an image, with or without a conda file on top, of which a version is made from its contents."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .workspace import Workspace


@dataclass(frozen=True)
class Environment:
    """A version of an environment.

    Attributes
    ----------
    conda : mapping or None
        The conda file, as it is read; None where the image has all.
    source : str
        What it is made from, with what was added, in one line; empty where there is nothing to say.
    setup : str
        A command for the node that adds what the image may lack.
    variables : mapping
        Environment variables that belong to it.
    """

    name: str
    image: str
    conda: Mapping[str, Any] | None = None
    source: str = ""
    setup: str = ""
    variables: Mapping[str, str] | None = None

    @property
    def version(self) -> str:
        """A hash of what is in the image's name and the conda file, not of comments."""
        text = json.dumps([self.image, self.conda], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def reference(self) -> str:
        """As a job names it."""
        return f"azureml:{self.name}:{self.version}"


def has_environment(workspace: Workspace, environment: Environment) -> bool:
    """Return whether the workspace knows this version."""
    from azure.core.exceptions import ResourceNotFoundError

    get = workspace.client.environments.get
    try:
        workspace.call("look at the environment", lambda: get(environment.name, environment.version))
    except ResourceNotFoundError:
        return False
    return True


def create_environment(workspace: Workspace, environment: Environment) -> None:
    """Create this version; where another client has just done so, nothing changes."""
    from azure.ai.ml import load_environment

    document = {"name": environment.name, "version": environment.version, "image": environment.image}
    with tempfile.TemporaryDirectory(prefix="submit-") as folder:
        if environment.conda is not None:
            conda = Path(folder) / "conda.yml"
            conda.write_text(yaml.safe_dump(dict(environment.conda), sort_keys=False), encoding="utf-8")
            document["conda_file"] = conda.name
        path = Path(folder) / "environment.yml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        entity = load_environment(path)
        workspace.call(
            f"create the environment {environment.name}:{environment.version}",
            lambda: workspace.client.environments.create_or_update(entity),
        )
