"""Everything that is said to an MLflow model registry."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainer.errors import UserError
from trainer.tracking import Run, said_to_server

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What both MLflow and Azure Machine Learning take for the name of a registered model.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")


def check_name(name: str) -> str:
    """Check the name of a registered model before anything is trained.

    Raises
    ------
    UserError
        MLflow or an Azure Machine Learning workspace would refuse it.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be the name of a registered model",
            "give model_name=NAME of letters, digits, '-', '_' and '.', at most 255 of them",
        )
    return name


def register(run: Run, name: str, artifact_path: str, tags: Mapping[str, str]) -> str:
    """Register a model folder of a run as a new version, whole or not at all.

    ``mlflow.register_model("runs:/...")`` fails on an Azure Machine Learning workspace and
    ``register_model(artifact_uri)`` loses the run there; the client's own call does neither.

    Parameters
    ----------
    run : Run
        It becomes the version's ``run_id``.
    name : str
        The registered model; it is created where it does not exist.
    artifact_path : str
        The model's folder among the run's artifacts.
    tags : mapping of str to str

    Returns
    -------
    str
        The version.

    Raises
    ------
    UserError
        The registry refused.
    """
    with said_to_server(f"register a version of {name}"):
        is_new = _create_model(run.client, name)
        version = None
        try:
            version = run.client.create_model_version(
                name, f"{run.artifact_uri}/{artifact_path}", run_id=run.id, tags=dict(tags)
            ).version
        finally:
            if is_new and version is None:
                run.client.delete_registered_model(name)
    return str(version)


def _create_model(client: "MlflowClient", name: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True
