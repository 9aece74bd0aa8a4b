"""What the service takes at most, as its documentation says, and its rules for names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.standin.errors import ServiceError
from tests.standin.state import Document

EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}")
PARAMS, PARAM_VALUE = 200, 500
TAGS, TAG_KEY, TAG_VALUE = 50, 100, 1000
METRICS = 50
DISPLAY_NAME = 256


def check_job(properties: Document) -> None:
    """Check the names and tags of a job.

    Raises
    ------
    ServiceError
        400, in the shape of the control plane.
    """
    experiment = properties.get("experimentName")
    if experiment is not None and not EXPERIMENT.fullmatch(experiment):
        text = (
            f"The experiment name {experiment!r} is invalid. It must be 1 to 256 letters, digits, underscores or "
            "dashes, and begin with a letter or a digit."
        )
        raise ServiceError(400, "InvalidExperimentName", text)
    if len(properties.get("displayName") or "") > DISPLAY_NAME:
        raise ServiceError(400, "InvalidDisplayName", f"A display name has at most {DISPLAY_NAME} characters.")
    wrong = _tags((properties.get("tags") or {}).items(), len(properties.get("tags") or {}))
    if wrong:
        raise ServiceError(400, "InvalidTags", wrong)


def check_run(endpoint: str, body: Document, known: dict[str, set[str]]) -> None:
    """Check what is logged to a run, and keep what it has then.

    Parameters
    ----------
    endpoint : str
        `runs/log-batch`, ...
    body : dict
    known : dict
        The names of the params, tags and metrics that the run has.

    Raises
    ------
    ServiceError
        400, in the shape of the workspace's MLflow.
    """
    single = {"runs/log-parameter": "params", "runs/set-tag": "tags", "runs/log-metric": "metrics"}.get(endpoint)
    given: dict[str, list[Document]] = {single: [body]} if single else body
    after = {kind: known[kind] | {str(row.get("key")) for row in given.get(kind) or []} for kind in known}
    params = [(str(row.get("key")), str(row.get("value"))) for row in given.get("params") or []]
    tags = [(str(row.get("key")), str(row.get("value"))) for row in given.get("tags") or []]
    wrong = next((f"The value of param {key!r} exceeds {PARAM_VALUE} characters." for key, value in params
                  if len(value) > PARAM_VALUE), "")  # fmt: skip
    wrong = wrong or _tags(tags, len(after["tags"]))
    for kind, most in (("params", PARAMS), ("metrics", METRICS)):
        if not wrong and len(after[kind]) > most:
            wrong = f"A run has at most {most} {kind}."
    if wrong:
        raise ServiceError(400, "INVALID_PARAMETER_VALUE", wrong, "mlflow")
    known.update(after)


def check_experiment(name: str) -> None:
    """Check the name of an experiment that MLflow is to create.

    Raises
    ------
    ServiceError
        400, in the shape of the workspace's MLflow.
    """
    if not EXPERIMENT.fullmatch(name):
        text = f"The experiment name {name!r} is invalid."
        raise ServiceError(400, "INVALID_PARAMETER_VALUE", text, "mlflow")


def _tags(tags: Iterable[tuple[str, object]], count: int) -> str:
    if count > TAGS:
        return f"There are at most {TAGS} tags."
    for key, value in tags:
        if len(key) > TAG_KEY:
            return f"The key of a tag has at most {TAG_KEY} characters: {key[:TAG_KEY]}..."
        if len(str(value)) > TAG_VALUE:
            return f"The value of tag {key!r} exceeds {TAG_VALUE} characters."
    return ""
