"""What a job has stored: downloaded complete or not at all, verified, and found among the registered models."""

import errno
import json
import math
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from . import own
from .artifacts import MAX_FILES, Artifacts, artifacts, look
from .console import command, size
from .errors import UserError, VerificationError
from .workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from trainer.model_folder import Agreement

MODELS, METRIC = "models", "metric.json"
# A training run stores a few megabytes: more is not what it should be.
MAX_BYTES, MAX_METRIC_BYTES = 5_000_000_000, 5_000_000
# A machine with other processor features may differ in the last digits of a prediction.
TOLERANCE = 1e-9
_PARALLEL, _ATTEMPTS = 8, 3
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@dataclass(frozen=True)
class Metric:
    """What ``metric.json`` says of a run; `model` is None where nothing was to be registered."""

    run_id: str
    rmse: float
    rows: int
    model: str | None
    document: dict[str, Any]


@dataclass(frozen=True)
class Verified:
    """What was downloaded and found to be right."""

    folder: Path
    files: int
    bytes: int
    metric: Metric
    agreement: "Agreement"


@dataclass(frozen=True)
class Fetched:
    """What was downloaded, and why nothing of it was scored again."""

    folder: Path
    files: int
    bytes: int
    why: str


def fetch(workspace: Workspace, name: str, output_dir: Path) -> Verified | Fetched:
    """Download all that a job has stored into ``output_dir/name``, complete or not at all; of this project, verified.

    Raises
    ------
    VerificationError
        A file is missing or cut short, the run is another's, or the model does not predict what it predicted.
    """
    final = output_dir / name
    job = look(workspace, name)
    why = unverified(job)
    if final.exists():
        return verify(final, name) if why is None else _counted(final, why)
    with beside(final) as partial, workspace.screen.status("downloading"):
        with artifacts(workspace, name, job) as stored:
            download(stored, name, partial)
        if why is None:
            workspace.screen.update("verifying")
        found = verify(partial, name) if why is None else _counted(partial, why)
        partial.rename(final)
    return replace(found, folder=final)


def unverified(job: Any) -> str | None:
    """Say why what a job has stored cannot be verified; None where it can."""
    if (job.tags or {}).get("project") != own.project_tag():
        return "its project records nothing to score again"
    if own.PREDICTIONS in (job.outputs or {}):
        return "it has trained no model"
    return None if own.is_here() else "its model is scored again in the trainer's own folder and environment"


def _counted(folder: Path, why: str) -> Fetched:
    return Fetched(folder, *_count(folder), why)


def _count(folder: Path) -> tuple[int, int]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


@contextmanager
def beside(final: Path) -> Iterator[Path]:
    """Yield a folder beside `final` that is gone afterwards, unless it was moved there."""
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


def download(stored: Artifacts, name: str, folder: Path) -> None:
    """Download the artifacts and logs of a job, each in the size that the store says it has.

    Raises
    ------
    VerificationError
        There is nothing, or not what a training run stores, or a file keeps coming short.
    """
    blobs = stored.listing()
    if not blobs:
        raise VerificationError(f"the job {name} has stored nothing", "look at its log in the studio")
    total = sum(length for _, length in blobs)
    if len(blobs) > MAX_FILES or total > MAX_BYTES:
        raise VerificationError(
            f"the job {name} has stored {size(total)} in {len(blobs)} files: more than a training run does",
            f"look at it in the studio; `az ml job download -n {name}` downloads it all the same",
        )
    targets = {path: folder / inside(path) for path, _ in blobs}
    stop = threading.Event()
    pool = ThreadPoolExecutor(_PARALLEL)
    try:
        pending = [pool.submit(_fetch, stored, path, length, targets[path], stop) for path, length in blobs]
        for done in as_completed(pending):
            done.result()
    finally:  # after an error, or Ctrl-C, what has not begun does not begin, and what has begun ends
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _fetch(stored: Artifacts, path: str, length: int, target: Path, stop: threading.Event) -> None:
    from azure.core.exceptions import HttpResponseError, ServiceResponseError

    def get() -> None:
        with _on_disk(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"")
        try:
            for chunk in stored.container.download_blob(f"{stored.prefix}/{path}").chunks():
                if stop.is_set():
                    return
                with _on_disk(path), target.open("ab") as file:
                    file.write(chunk)
        except (ServiceResponseError, HttpResponseError) as error:
            if getattr(error, "status_code", None) is not None:
                raise
            # it broke off in the middle: the size will tell

    for _ in range(_ATTEMPTS):
        if stop.is_set():
            return
        stored.workspace.call(f"download {target.name}", get)
        if target.stat().st_size == length:
            return
    raise VerificationError(
        f"{target.name} came down with {size(target.stat().st_size)} of {size(length)}, {_ATTEMPTS} times",
        f"try again: {command('attach', PurePosixPath(stored.prefix).name.removeprefix('dcid.'))}",
    )


@contextmanager
def _on_disk(path: str) -> Iterator[None]:
    """Tell a disk that is full from a name that no file can have here."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"cannot write the results: {error.strerror}", "give --output-dir another folder"
            ) from error
        raise VerificationError(
            f"the artifact {_short(path)} cannot be a file here: {error.strerror}", "look at it in the studio"
        ) from error


def inside(path: str) -> PurePosixPath:
    """Refuse a name that would lead out of the folder, or play with the terminal that shows it."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or not pure.parts or {".."} & set(pure.parts) or not path.isprintable() or "\\" in path:
        raise VerificationError(
            f"the artifact {_short(path)} would be written outside of its folder", "look at it in the studio"
        )
    return pure


def _short(path: str) -> str:
    return repr(path if len(path) <= 80 else f"{path[:77]}...")


def verify(folder: Path, name: str) -> Verified:
    """Check that a downloaded folder is the job's and that its model works: it scores its recorded rows again.

    Raises
    ------
    VerificationError
        It is not, or does not.
    """
    again = f"remove {folder} if it is there, then: {command('attach', name)}"
    metric = read_metric(folder / METRIC, name, again)
    from trainer.model_folder import score_again

    try:
        agreement = score_again(folder / MODELS, name=f"the model of the job {name}")
    except UserError as error:
        raise VerificationError(f"the downloaded model does not work: {error.cause}", again) from error
    except Exception as error:  # a folder that anybody may have written fails in ways that cannot be foreseen
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise VerificationError(f"the downloaded model folder cannot be read: {cause}", again) from error
    if not agreement.largest_relative <= TOLERANCE:
        raise VerificationError(
            f"the downloaded model predicts otherwise than on the node, by up to {agreement.largest_absolute:g}",
            "compare the versions in metric.json with `uv pip list`; `uv sync` gives the locked ones",
        )
    return Verified(folder, *_count(folder), metric, agreement)


def read_metric(path: Path, name: str, again: str) -> Metric:
    """Read ``metric.json``, which must be of the job's own run."""
    from trainer.readers import NONE

    try:
        if path.stat().st_size > MAX_METRIC_BYTES:
            raise ValueError(f"it is {size(path.stat().st_size)}")
        document = json.loads(path.read_text(encoding="utf-8"))
        params = document["params"]
        metric = Metric(
            run_id=str(document["run_id"]),
            rmse=float(document["RMSE"]),
            rows=int(document["rows_train"]) + int(document["rows_test"]),
            model=None if params["model_name"].casefold() == NONE else params["model_name"],
            document=document,
        )
        if not math.isfinite(metric.rmse) or not all(isinstance(one, str) for one in params.values()):
            raise ValueError("it holds what no run writes")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise VerificationError(
            f"the job's {METRIC} is missing, or not what train.py writes: {type(error).__name__}", again
        ) from error
    if metric.run_id != name:
        raise VerificationError(f"{METRIC} is of the run {_short(metric.run_id)}, not of the job {name}", again)
    return metric


def find_version(workspace: Workspace, metric: Metric) -> "ModelVersion | None":
    """Find the version that a run has registered: by its run, or where that is missing by its source."""
    if metric.model is None:
        return None
    from trainer import registry

    client, model = workspace.mlflow(), metric.model
    own = re.compile(rf"(^|[/.]){re.escape(metric.run_id)}(/|$)")
    for version in workspace.call("look at the registered model", lambda: registry.versions(client, model)):
        if version.run_id == metric.run_id or (not version.run_id and own.search(str(version.source or ""))):
            return version
    return None


def register(workspace: Workspace, metric: Metric) -> "ModelVersion":
    """Register the model of a job that could not do so itself, as train.py would have."""
    import mlflow

    from trainer import registry, tracking

    if metric.model is None:
        raise UserError(f"the job {metric.run_id} was sent with model_name=none", "send it with -P model_name=NAME")
    client, params = workspace.mlflow(), metric.document["params"]
    mlflow.set_tracking_uri(workspace.tracking_uri)  # what an error names
    info = workspace.call("look at the run", lambda: client.get_run(metric.run_id)).info
    run = tracking.Run(metric.run_id, info.experiment_id, info.artifact_uri, {}, client)
    try:
        tags = registry.version_tags(metric.rmse, metric.rows, metric.document, params)
    except KeyError as error:
        raise VerificationError(f"{METRIC} does not say {error}", "register it in the studio") from error
    with registry.registered(run, metric.model, f"{info.artifact_uri}/{MODELS}", tags, None) as version:
        # The rows to compare it on are not here; a later version will meet the same champion.
        sentence = f"version {version} was registered after its run and not compared with the champion"
        registry.conclude(client, metric.model, version, sentence)
    return client.get_model_version(metric.model, version)
