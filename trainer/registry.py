"""Everything that is said to an MLflow model registry: versions, and which of them is the champion.

A version is registered whole or not at all, and the alias moves last: an alias always points to a version that exists.
Where somebody has deleted that version by hand, there is no champion, and whoever asks is told so.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from trainer import causes, signals
from trainer.causes import command
from trainer.errors import UserError
from trainer.processes import ERROR
from trainer.recording import tag_version
from trainer.tracking import Run, check_reachable, optional, patiently, said_to_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Found
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
# Tags of a version: what came of its comparison; since when it is champion, and of whom it took the place.
VERDICT = "champion_verdict"
SINCE = "champion_since"
AFTER = "champion_after"
NOBODY = "none"
# The verdict of a version that is still being compared.
PENDING = "pending"

PAGE = 200
# How often a version is dated again, where the registry has no aliases and other runs do the same.
ATTEMPTS = 8
# A kill between the verdict and the end of the run concerns one of the newest versions; their runs are looked at.
NEWEST = 3
LOOK = "check the name, the version and MLFLOW_TRACKING_URI; the UI shows the models that there are"
_logger = logging.getLogger(__name__)
# A run's id in the address of its artifacts: MLflow's own, and that of a workspace (`.../runs/JOB/artifacts/...`).
_RUN = re.compile(r"([0-9a-f]{32})/artifacts(?:/|$)|(?<=/runs/)([^/]+)/artifacts(?:/|$)")
# A registry that has a version of this name already, in MLflow's words and a workspace's.
_EXISTS = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")


@dataclass(frozen=True)
class Champion:
    """The champion of a registered model; `remark` says why there is none where one should be."""

    version: "ModelVersion | None" = None
    remark: str = ""

    @property
    def number(self) -> str:
        """Its version; ``none`` where there is none."""
        return NOBODY if self.version is None else str(self.version.version)


def version_tags(rmse: float, rows: int, lineage: Mapping[str, Any], params: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a version: how good it is, where it comes from, and what another must share to be compared.

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


def client() -> "MlflowClient":
    """Return a client of the registry, or say within seconds that it is away."""
    import mlflow

    check_reachable(mlflow.get_tracking_uri())
    with said_to_server("open the model registry"):
        return mlflow.MlflowClient()


def versions(client: "MlflowClient", name: str) -> "list[ModelVersion]":
    """List all versions of a registered model, oldest first."""
    found: list[ModelVersion] = []
    token: str | None = None
    with said_to_server(f"list the versions of {name}"):
        while True:
            page = client.search_model_versions(f"name='{name}'", max_results=PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda version: int(version.version))


# -- registering -------------------------------------------------------------------------------------


@contextmanager
def registered(run: Run, name: str, source: str, tags: Mapping[str, str], model_id: str | None) -> Iterator[str]:
    """Register a model folder as a new version, whole or not at all: where the block raises, it is deleted again.

    ``mlflow.register_model("runs:/...")`` fails on an Azure Machine Learning workspace and
    ``register_model(artifact_uri)`` loses the run there; the client's own call does neither.

    Parameters
    ----------
    run : Run
        It becomes the version's ``run_id``.
    name : str
        The registered model; it is created where it does not exist.
    source : str
        Where the model's folder is.
    tags : mapping of str to str
    model_id : str or None
        Of the logged model, where the server has one.

    Yields
    ------
    str
        The version.
    """
    client, version = run.client, None
    with said_to_server(f"register a version of {name}"):
        is_new = _create_model(client, name)
    try:
        with said_to_server(f"register a version of {name}"):
            version = _create_version(client, name, source, run.id, {**tags, VERDICT: PENDING}, model_id)
        yield version
    except BaseException as error:
        with signals.hurried(error):
            try:
                _take_back(client, name, version or _of_run(client, name, run.id), is_new)
            except UserError as second:
                _logger.warning("! %s; the next run of %s tries again", second.cause, name)
        raise


def _create_model(client: "MlflowClient", name: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code not in _EXISTS:
            raise
        return False
    return True


def _create_version(
    client: "MlflowClient", name: str, source: str, run_id: str, tags: Mapping[str, str], model_id: str | None
) -> str:
    from mlflow.exceptions import MlflowException

    def create(given: dict[str, str] | None) -> str:
        return str(client.create_model_version(name, source, run_id=run_id, tags=given, model_id=model_id).version)

    try:
        return patiently(lambda: create(dict(tags)))
    except MlflowException as error:
        if error.get_http_status_code() != 400:  # type: ignore[no-untyped-call]
            raise
    # a workspace may refuse tags at the creation, and takes them one by one
    version = create(None)
    for key, text in sorted(tags.items(), key=lambda item: item[0] != VERDICT):
        client.set_model_version_tag(name, version, key, text)
    return version


def _of_run(client: "MlflowClient", name: str, run_id: str) -> str | None:
    """Find the version of a run whose registration was interrupted before its number was known."""
    return next((str(one.version) for one in versions(client, name) if run_of(one) == run_id), None)


def run_of(version: "ModelVersion") -> str:
    """Return the run of a version; where a registry has lost it, the one in whose artifacts the model is."""
    if version.run_id:
        return str(version.run_id)
    found = _RUN.search(version.source or "")
    return (found[1] or found[2]) if found else ""


def _take_back(client: "MlflowClient", name: str, version: str | None, is_new: bool) -> None:
    if version is not None:
        with said_to_server(f"take back version {version} of {name}"):
            client.delete_model_version(name, version)
    if is_new and not versions(client, name):
        with suppress(UserError), said_to_server(f"take back the registered model {name}"):
            client.delete_registered_model(name)  # a workspace refuses: an empty model does no harm


def close_abandoned(run: Run, name: str) -> list[str]:
    """Delete the versions that killed runs have left half made, and say so; return their numbers.

    They carry this project's verdict, and their run has failed: a version that is whole belongs to a finished run.
    `mlflow run` marks a run FAILED that has finished, where the script is stopped after that: no reason is noted on
    such a run, and it is FINISHED again.
    """
    from mlflow.exceptions import MlflowException

    closed = []
    try:
        own = [one for one in versions(run.client, name) if VERDICT in one.tags and run_of(one) != run.id]
        suspects = [one for one in own[:-NEWEST] if one.tags[VERDICT] == PENDING] + own[-NEWEST:]
        champion_number = find_champion(run.client, name).number if suspects else NOBODY
    except UserError as error:
        if isinstance(error.__cause__, MlflowException) and causes.is_refusal(error.__cause__):
            return []  # there is no such model yet
        raise
    for one in suspects:
        number, run_id = str(one.version), run_of(one)
        if not run_id:
            continue
        with said_to_server("look for versions that were left half made"):
            try:
                found = run.client.get_run(run_id)
            except MlflowException:
                continue  # its run was deleted: somebody has tidied up, and kept the version
        if one.tags[VERDICT] != PENDING and _is_marked_failed(found):
            with said_to_server(f"end run {run_id}"):
                run.client.set_terminated(run_id, "FINISHED", found.info.end_time)
            print(f"restored    run {run_id}: it had finished with version {number} of {name}, and was marked FAILED")
        elif found.info.status in ("FAILED", "KILLED") and number != champion_number:
            with said_to_server(f"take back version {number} of {name}"):
                run.client.delete_model_version(name, number)
            closed.append(number)
            print(f"closed      version {number} of {name}: its run {run_id} failed before it was whole")
    return closed


def _is_marked_failed(run: "Found") -> bool:
    """Whether `mlflow run` has marked a run FAILED, and not the run itself, which says why."""
    tags = run.data.tags
    return run.info.status == "FAILED" and tags.get("mlflow.project.backend") == "local" and ERROR not in tags


def conclude(client: "MlflowClient", name: str, version: str, sentence: str) -> None:
    """Write on a version what came of its comparison: from here on it is whole."""
    tag_version(client, name, version, VERDICT, sentence)


def describe(client: "MlflowClient", name: str, version: str, of_model: str, of_version: str) -> None:
    """Describe a registered model and a version, where the registry takes descriptions."""
    optional("describe the model", lambda: client.update_registered_model(name, description=of_model))
    optional("describe the version", lambda: client.update_model_version(name, version, description=of_version))


# -- the champion ------------------------------------------------------------------------------------


def find_champion(client: "MlflowClient", name: str) -> Champion:
    """Find the champion of a registered model: the version with the alias, or the last one that was given the tag.

    MLflow's own registry has aliases. Whether an Azure Machine Learning workspace has them is not documented: where
    there are none, a tag ``champion`` says the same. It is ``false`` where another version has followed; what decides
    is which of them has it since when, so that two runs at the same moment cannot take it from each other.
    """
    from mlflow.exceptions import MlflowException

    with said_to_server(f"find the champion of {name}", LOOK):
        aliases = client.get_registered_model(name).aliases
        if CHAMPION in aliases:
            number = str(aliases[CHAMPION])
            try:
                return Champion(client.get_model_version(name, number))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
            return Champion(None, f"version {number}, the champion, has been deleted")
    return Champion(_last(versions(client, name)))


def promote(client: "MlflowClient", name: str, version: str, after: str) -> None:
    """Make a version the champion, by the alias, or by the tag where the registry has no aliases.

    Parameters
    ----------
    after : str
        The version whose place it takes, or ``none``. That and the time are noted on the version before the alias
        moves.
    """
    what = f"make version {version} of {name} the champion"
    tag_version(client, name, version, AFTER, after)
    _date(client, name, version, versions(client, name))
    if optional(what, lambda: client.set_registered_model_alias(name, CHAMPION, version)):
        return
    tag_version(client, name, version, CHAMPION, "true")
    for _ in range(ATTEMPTS):
        last = _last(known := versions(client, name))
        if last is None or str(last.version) == version:
            break
        _date(client, name, version, known)  # another run has dated a version, or this one anew, at the same moment
    for other in known:
        if other.tags.get(CHAMPION) == "true" and str(other.version) != version:
            tag_version(client, name, str(other.version), CHAMPION, "false")


def _last(known: "Sequence[ModelVersion]") -> "ModelVersion | None":
    """Return the version that was made champion last, where a tag says so."""
    tagged = [one for one in known if CHAMPION in one.tags]
    return max(tagged, key=lambda one: (one.tags.get(SINCE, ""), int(one.version)), default=None)


def _date(client: "MlflowClient", name: str, version: str, known: "Sequence[ModelVersion]") -> None:
    """Note since when a version is champion: later than all others, since the clocks of two machines may differ."""
    since = datetime.now(UTC).isoformat(timespec="milliseconds")
    last = max((one.tags.get(SINCE, "") for one in known), default="")
    with suppress(ValueError):  # somebody else's tag
        since = max(
            since, (datetime.fromisoformat(last) + timedelta(milliseconds=1)).isoformat(timespec="milliseconds")
        )
    tag_version(client, name, version, SINCE, since)


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
        champion = find_champion(registry, name)
        if champion.version is None:
            raise no_champion(registry, name, champion)
        uri = f"models:/{name}/{champion.number}"
    with TemporaryDirectory() as scratch:
        with said_to_server(f"fetch {uri}", LOOK, any_error=True):
            folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=scratch))
        yield folder


def no_champion(client: "MlflowClient", name: str, champion: Champion) -> UserError:
    """Say that a registered model has no champion, and how it gets one."""
    known: Sequence[ModelVersion] = versions(client, name)
    remedy = (
        f"{replace_command(name, str(known[-1].version))}  # or another of its {len(known)} versions"
        if known
        else f"{command('python')} train.py --model-name {name}"
    )
    return UserError(f"{name} has no champion{f': {champion.remark}' if champion.remark else ''}", remedy)


def replace_command(name: str, version: str) -> str:
    """Return the command that makes a version the champion by hand."""
    return f"{command('python')} champion.py --model-name {name} --version {version}"
