"""The run that `mlflow run`, Azure Machine Learning or a person has opened: may it be continued, and what is in it?"""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import UserError
from trainer.secrets import redact

if TYPE_CHECKING:
    from mlflow.entities import Run as Found

# Characters of a param and of a tag: MLflow's own, and a workspace's.
LIMITS, WORKSPACE_LIMITS = (6000, 8000), (500, 1000)


def refuse_used(found: "Found", given: Mapping[str, str], raw: Mapping[str, str]) -> None:
    """Refuse a run that another training has used.

    `mlflow run` logs a value as it quoted it for the shell, and cuts it off at the limit of a param: both are the same
    value.
    """
    tags, params = found.data.tags, found.data.params
    if os.environ.get("AZUREML_RUN_ID"):
        remedy = "send it as a new job: a job's run is used once"
    elif "mlflow.project.entryPoint" in tags:
        remedy = "leave out --run-id: mlflow run opens a run of its own"
    else:
        remedy = "unset MLFLOW_RUN_ID  # to train in a run of its own"
    if found.info.lifecycle_stage == "deleted":
        raise UserError(f"run {found.info.run_id} is deleted", remedy)
    if found.info.status == "FINISHED" and found.data.metrics:
        raise UserError(f"run {found.info.run_id} has ended, with its metrics", remedy)
    for name in given.keys() & params.keys():
        if not any(is_same(params[name], text) for text in (given[name], raw[name])):
            logged, text = _short(redact(params[name])), _short(given[name])
            raise UserError(f"run {found.info.run_id} already has {name}={logged}, and is given {name}={text}", remedy)


def is_same(logged: str, text: str) -> bool:
    """Whether a logged value is this one: as it is, quoted, or cut off where a param may not be longer."""
    cut_off = len(logged) >= min(LIMITS[0], WORKSPACE_LIMITS[0])
    return any(logged == one or (cut_off and one.startswith(logged)) for one in spellings(text))


def spellings(text: str) -> tuple[str, ...]:
    """Return how a value may have been logged: as it is, or quoted for a shell, as `mlflow run` does it."""
    return (text, shlex.quote(text), '"' + text.replace('"', '\\"') + '"')


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def is_local(tags: Mapping[str, str]) -> bool:
    """Whether the source that mlflow noted is a path of this machine, which says nothing on another."""
    source = tags.get("mlflow.source.name", "")
    return source.startswith("file:") or Path(source.partition("#")[0]).is_absolute()


def is_random(name: str) -> bool:
    """Whether a run's name is one that MLflow draws, such as secretive-stork-941."""
    from mlflow.utils import name_utils

    words = re.fullmatch(r"([a-z]+)-([a-z]+)-\d+", name)
    return not name or (
        words is not None and words[1] in name_utils._GENERATOR_PREDICATES and words[2] in name_utils._GENERATOR_NOUNS
    )
