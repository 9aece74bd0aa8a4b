"""How the predictions of a table that was scored on a node come home, and what they are like."""

from collections.abc import Mapping
from pathlib import Path

from . import outputs
from .artifacts import look, stored_at
from .console import command, size
from .errors import UserError, VerificationError
from .own import PREDICTIONS
from .workspace import Workspace


def bring_home(workspace: Workspace, name: str, folder: Path, home: Path | None) -> list[tuple[str, str]] | None:
    """Download the predictions of a job, whole or not at all, and say what they are; None where it has none.

    Parameters
    ----------
    folder : Path
        Of the job's results, where the file goes if `home` is None: a job of somebody else's says no path here.
    home : Path or None
        The file to write.
    """
    address = getattr((look(workspace, name).outputs or {}).get(PREDICTIONS), "path", None)
    if address is None:
        return None
    with (
        outputs.beside(home or folder / PREDICTIONS) as partial,
        workspace.screen.status("downloading the predictions"),
    ):
        with stored_at(workspace, str(address)) as stored:
            outputs.download(stored, name, partial)
        found = [path for path in partial.rglob("*") if path.is_file()]
        if len(found) != 1 or found[0].parent != partial:
            raise VerificationError(
                f"the job {name} has stored {len(found)} files of predictions, and not one", "look at it in the studio"
            )
        target, length = home or folder / found[0].name, found[0].stat().st_size
        try:
            found[0].replace(target)
        except OSError as error:
            raise UserError(
                f"cannot write {target}: {error.strerror}", f"{command('attach', name)}  # brings them into {folder}"
            ) from error
    run = workspace.advice("metrics", lambda: workspace.mlflow().get_run(name))
    return [("predictions", f"{target} ({size(length)})"), *_measured(run.data.metrics if run else {})]


def _measured(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Say how many rows there are, and how good they are where the target was there."""
    rows = [("rows", f"{metrics['rows']:.0f}")] if "rows" in metrics else []
    if "rmse" in metrics:
        low, high = metrics.get("rmse_low"), metrics.get("rmse_high")
        between = "" if low is None or high is None else f"  (95 % {low:.4g} to {high:.4g})"
        rows.append(("rmse", f"{metrics['rmse']:.4f}{between}"))
    if "coverage_90" in metrics:
        rows.append(("coverage", f"{metrics['coverage_90']:.1%} of the targets lie between lower and upper"))
    return rows
