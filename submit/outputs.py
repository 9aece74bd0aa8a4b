"""Bring home what a job has made, prove that it works, and name the model that was registered."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from trainer.verification import Agreement, UnusableError, score_again

from submit.follow import no_such_job
from submit.screen import size
from submit.workspace import Workspace
from trainer.errors import UserError

MODELS = "models"
METRIC = "metric.json"
# A machine with other processor features may differ in the last digits of a prediction.
TOLERANCE = 1e-9
_PARALLEL = 8
_ATTEMPTS = 3
_DATASTORE = re.compile(r"azureml://(?:.*/)?datastores/(?P<store>[^/]+)/(?:paths/)?(?P<path>.+?)/?")


class ProofError(UserError):
    """What came down is not what the job has made, or does not work."""

    exit_code = 3


@dataclass(frozen=True)
class Proof:
    """What was downloaded and found to be right.

    Attributes
    ----------
    folder : Path
    files, bytes : int
    metric : dict
        The contents of ``metric.json``.
    agreement : Agreement
    """

    folder: Path
    files: int
    bytes: int
    metric: dict[str, Any]
    agreement: Agreement


def bring_home(workspace: Workspace, name: str, output_dir: Path) -> Proof:
    """Download all that a job has stored into ``output_dir/name``, complete and proved or not at all.

    Parameters
    ----------
    workspace : Workspace
    name : str
        Of a job that has ended.
    output_dir : Path

    Returns
    -------
    Proof

    Raises
    ------
    ProofError
        A file is missing or cut short, the run is another's, or the model does not predict what it predicted.
    """
    final = output_dir / name
    if final.exists():
        return prove(final, name)
    with _beside(final) as partial, workspace.screen.status("downloading"):
        download(workspace, name, partial)
        workspace.screen.update("proving")
        proof = prove(partial, name)
        partial.rename(final)
    return Proof(final, proof.files, proof.bytes, proof.metric, proof.agreement)


@contextmanager
def _beside(final: Path) -> Iterator[Path]:
    """Give a folder beside `final` that is gone afterwards, unless it was moved there."""
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        partial.chmod(0o755)
    except OSError as error:
        raise UserError(f"cannot write to {final.parent}: {error}", "give --output-dir another folder") from error
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def download(workspace: Workspace, name: str, folder: Path) -> None:
    """Download the artifacts and logs of a job, each in the size that the store says it has.

    Raises
    ------
    ProofError
        There is nothing, or a file keeps coming short.
    """
    from azure.core.exceptions import HttpResponseError, ServiceResponseError
    from azure.storage.blob import ContainerClient, LinearRetry

    store, prefix = _place(workspace, name)
    datastore: Any = workspace.call(
        "look at the datastore", lambda: workspace.client.datastores.get(store, include_secrets=True)
    )
    kept = datastore.credentials
    secret = getattr(kept, "account_key", None) or getattr(kept, "sas_token", None) or workspace.credential
    container = ContainerClient(
        f"{datastore.protocol}://{datastore.account_name}.blob.{datastore.endpoint}",
        datastore.container_name,
        credential=secret,
        retry_policy=LinearRetry(backoff=1, retry_total=1),
    )
    with container:
        blobs = workspace.call(
            "list the artifacts",
            lambda: [(blob.name, int(blob.size or 0)) for blob in container.list_blobs(name_starts_with=f"{prefix}/")],
        )
        if not blobs:
            raise ProofError(f"the job {name} has stored nothing", "look at its log in the studio")

        def fetch(blob: tuple[str, int]) -> None:
            target = folder / _inside(blob[0].removeprefix(f"{prefix}/"))
            target.parent.mkdir(parents=True, exist_ok=True)

            def get() -> None:
                with target.open("wb") as file:
                    try:
                        container.download_blob(blob[0]).readinto(file)
                    except (ServiceResponseError, HttpResponseError) as error:
                        if getattr(error, "status_code", None) is not None:
                            raise
                        # it broke off in the middle: the size will tell

            for _ in range(_ATTEMPTS):
                workspace.call(f"download {target.name}", get)
                if target.stat().st_size == blob[1]:
                    return
            raise ProofError(
                f"{target.name} came down with {size(target.stat().st_size)} of {size(blob[1])}, {_ATTEMPTS} times",
                f"try again: python submit/remote.py attach {name}",
            )

        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(fetch, blobs))


def _place(workspace: Workspace, name: str) -> tuple[str, str]:
    """Say in which datastore, and under which path, the artifacts of a job lie."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        job: Any = workspace.call(f"look at the job {name}", lambda: workspace.client.jobs.get(name))
    except ResourceNotFoundError as error:
        raise no_such_job(workspace, name) from error
    default = (job.outputs or {}).get("default")
    found = _DATASTORE.fullmatch(str(getattr(default, "path", "")))
    return (found["store"], found["path"]) if found else ("workspaceartifactstore", f"ExperimentRun/dcid.{name}")


def _inside(path: str) -> PurePosixPath:
    """Refuse a name that would lead out of the folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ProofError(f"the artifact {path!r} would be written outside of its folder", "look at it in the studio")
    return pure


def prove(folder: Path, name: str) -> Proof:
    """Prove that a downloaded folder is the job's and that its model works: it scores its recorded rows again.

    Raises
    ------
    ProofError
        It does not.
    """
    again = f"remove {folder} if it is there, then: python submit/remote.py attach {name}"
    try:
        metric = json.loads((folder / METRIC).read_text())
        run_id = metric["run_id"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProofError(f"the job's {METRIC} is missing or cannot be read: {type(error).__name__}", again) from error
    if run_id != name:
        raise ProofError(f"{METRIC} is of the run {run_id}, not of the job {name}", again)
    try:
        agreement = score_again(folder / MODELS)
    except UserError as error:
        raise ProofError(error.cause, again) from error
    except UnusableError as error:
        raise ProofError(f"the downloaded model does not work: {error}", again) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise ProofError(f"the downloaded model folder cannot be read: {cause}", again) from error
    if agreement.largest_relative > TOLERANCE:
        raise ProofError(
            f"the downloaded model predicts otherwise than on the node, by up to {agreement.largest_absolute:g}",
            "compare the versions in metric.json with `uv pip list`; `uv sync` gives the locked ones",
        )
    files = [path for path in folder.rglob("*") if path.is_file()]
    return Proof(folder, len(files), sum(path.stat().st_size for path in files), metric, agreement)


@dataclass(frozen=True)
class Version:
    """A version of a registered model, and where it comes from."""

    model: str
    version: str
    run_id: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """As MLflow names it."""
        return f"models:/{self.model}/{self.version}"


def find_version(workspace: Workspace, proof: Proof) -> Version | None:
    """Find the version that the job has registered, None if it has not."""
    model, run_id = proof.metric["params"]["model_name"], proof.metric["run_id"]
    client = workspace.mlflow()
    found = workspace.call(
        "look at the registered model", lambda: client.search_model_versions(f"name='{model}'", max_results=200)
    )
    for one in found:
        if one.run_id == run_id:
            return Version(model, str(one.version), run_id, dict(one.tags))
    return None


def register(workspace: Workspace, proof: Proof) -> Version:
    """Register the model of a job that could not do so itself, as train.py would have.

    Raises
    ------
    UserError
        The job was told not to, or the registry refuses.
    """
    import mlflow

    from trainer import registry, tracking

    model, run_id = proof.metric["params"]["model_name"], proof.metric["run_id"]
    if model == "none":
        raise UserError(f"the job {run_id} was sent with model_name=none", "send it with -P model_name=NAME")
    client = workspace.mlflow()
    mlflow.set_tracking_uri(workspace.tracking_uri)  # what an error names
    info = workspace.call("look at the run", lambda: client.get_run(run_id)).info
    run = tracking.Run(run_id, info.experiment_id, info.artifact_uri, {}, client)
    rows = int(proof.metric["rows_train"] + proof.metric["rows_test"])
    tags = registry.version_tags(proof.metric["RMSE"], rows, proof.metric, proof.metric["params"])
    with registry.registered(run, model, MODELS, tags) as version:
        # The rows to compare it on are not here; a later version will meet the same champion.
        sentence = f"version {version} was registered after its run and not compared with the champion"
        registry.conclude(client, model, version, sentence)
    return Version(model, version, run_id, tags | {registry.VERDICT: sentence})
