"""Everything that is said to an MLflow model registry: versions, and which of them is the champion."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from trainer.errors import UserError
from trainer.tracking import Run, check_reachable, said_to_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
# A version's tag: what came of its comparison with the champion. `PENDING` until that is known.
VERDICT = "champion_verdict"
SINCE = "champion_since"
PENDING = "pending"

LOOK = "check the name, the version and MLFLOW_TRACKING_URI; `mlflow ui` shows the models that there are"

# Versions are compared one after the other, in the order of their numbers.
TURN_SECONDS = 60
# A version that has been pending for this long belongs to a run that was killed.
ABANDONED_SECONDS = 600


def version_tags(rmse: float, rows: int, lineage: Mapping[str, Any], params: Mapping[str, str]) -> dict[str, str]:
    """Give the tags of a version: how good it is, where it comes from, and what a later one must share to be compared.

    Parameters
    ----------
    rmse : float
        On the test rows, in the target's unit.
    rows : int
        Of the whole table.
    lineage : mapping
        With ``data_sha256`` and ``git_commit``.
    params : mapping of str to str
        Of the run.
    """
    return {
        "rmse": repr(rmse),
        "rows": str(rows),
        **{name: str(lineage[name]) for name in ("data_sha256", "git_commit")},
        **{name: params[name] for name in ("estimator", "target", "split", "test_fraction", "key")},
    }


@contextmanager
def registered(run: Run, name: str, artifact_path: str, tags: Mapping[str, str]) -> Iterator[str]:
    """Register a model folder of a run as a new version, whole or not at all.

    Where the block raises, the version is deleted again. It is born with the tag ``champion_verdict=pending``.

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

    Yields
    ------
    str
        The version.

    Raises
    ------
    UserError
        The registry refused.
    """
    client, version = run.client, None
    with said_to_server(f"register a version of {name}"):
        is_new = _create_model(client, name)
    try:
        with said_to_server(f"register a version of {name}"):
            version = client.create_model_version(
                name, f"{run.artifact_uri}/{artifact_path}", run_id=run.id, tags={**tags, VERDICT: PENDING}
            ).version
        yield str(version)
    except BaseException:
        with said_to_server(f"take back what was registered of {name}"):
            if version is not None:
                client.delete_model_version(name, str(version))
            if is_new and not client.search_model_versions(f"name='{name}'"):
                client.delete_registered_model(name)
        raise


def client() -> "MlflowClient":
    """Give a client of the registry, or say within seconds that it is away.

    Raises
    ------
    UserError
        It cannot be reached.
    """
    import mlflow

    check_reachable(mlflow.get_tracking_uri())
    with said_to_server("open the model registry"):
        return mlflow.MlflowClient()


def champion(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """Find the champion of a registered model: the version with the alias, or with the tag ``champion=true``.

    MLflow's own registry has aliases. Whether an Azure Machine Learning workspace has them is not documented: where
    there are none, the tag says the same.

    Raises
    ------
    UserError
        There is no such registered model, or the registry refused.
    """
    with said_to_server(f"find the champion of {name}", LOOK):
        aliases = client.get_registered_model(name).aliases
        if CHAMPION in aliases:
            return client.get_model_version(name, str(aliases[CHAMPION]))
        promoted = [version for version in versions(client, name) if version.tags.get(CHAMPION) == "true"]
    return promoted[-1] if promoted else None  # for the moment in which two have the tag, the newer one is it


@contextmanager
def fetched(uri: str) -> Iterator[Path]:
    """Download a model's folder, for as long as the block lasts.

    Parameters
    ----------
    uri : str
        ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``, ``runs:/RUN/models``, another artifact URI, or a local folder.
        ``models:/NAME@champion`` also works where the registry has no aliases.

    Yields
    ------
    Path

    Raises
    ------
    UserError
        There is no such model, or the registry refused.
    """
    import mlflow

    if "://" not in uri and not uri.startswith(("models:", "runs:")):
        if not (Path(uri) / "MLmodel").is_file():
            raise UserError(f"{uri} is not the folder of an MLflow model", "give a folder that holds a file MLmodel")
        yield Path(uri)
        return
    registry = client()
    if uri.startswith("models:/") and uri.endswith(f"@{CHAMPION}"):
        name = uri.removeprefix("models:/").removesuffix(f"@{CHAMPION}")
        champion_version = champion(registry, name)
        if champion_version is None:
            raise UserError(f"{name} has no champion", f"give a version: models:/{name}/1")
        uri = f"models:/{name}/{champion_version.version}"
    with TemporaryDirectory() as scratch:
        with said_to_server(f"fetch {uri}", LOOK, any_error=True):
            folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=scratch))
        yield folder


def promote(client: "MlflowClient", name: str, version: str) -> None:
    """Make a version the champion, by the alias, or by the tag where the registry has no aliases.

    Raises
    ------
    UserError
        The registry refused.
    """
    from mlflow.exceptions import MlflowException

    with said_to_server(f"make version {version} of {name} the champion"):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        client.set_model_version_tag(name, version, SINCE, now)
        try:
            client.set_registered_model_alias(name, CHAMPION, version)
        except MlflowException as error:
            if error.get_http_status_code() != 404:  # type: ignore[no-untyped-call]
                raise
            client.set_model_version_tag(name, version, CHAMPION, "true")
            for other in versions(client, name):
                if other.tags.get(CHAMPION) == "true" and str(other.version) != version:
                    client.delete_model_version_tag(name, str(other.version), CHAMPION)


def turn(client: "MlflowClient", name: str, version: str) -> str:
    """Wait until all versions before this one have been compared with the champion.

    A registry cannot say "make this the champion if that one still is". But it numbers versions, and so they take
    turns: of two runs that finish at the same moment, the second meets the champion that the first has made.

    Returns
    -------
    str
        Why the turn has not come within `TURN_SECONDS`; empty where it has.

    Raises
    ------
    UserError
        The registry refused.
    """
    deadline = time.monotonic() + TURN_SECONDS
    while True:
        with said_to_server(f"list the versions of {name}"):
            known = {int(other.version): other for other in versions(client, name)}
        own = known[int(version)]
        before = [
            number
            for number, other in known.items()
            if number < int(version)
            and other.tags.get(VERDICT) == PENDING
            and own.creation_timestamp - other.creation_timestamp < ABANDONED_SECONDS * 1000
        ]
        if not before:
            return ""
        if time.monotonic() > deadline:
            return f"version {before[0]} is still being compared with the champion"
        time.sleep(0.5)


def conclude(client: "MlflowClient", name: str, version: str, sentence: str) -> None:
    """Write on a version what came of its comparison; the next one may begin.

    Raises
    ------
    UserError
        The registry refused.
    """
    with said_to_server(f"tag version {version} of {name}"):
        client.set_model_version_tag(name, version, VERDICT, sentence)


def versions(client: "MlflowClient", name: str) -> "list[ModelVersion]":
    """List the versions of a registered model, oldest first."""
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name='{name}'", page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def _create_model(client: "MlflowClient", name: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True
