"""The recent jobs of a workspace: name, status, rmse, cost, age."""

from datetime import UTC, datetime
from typing import Any

from .compute import Prices
from .console import dollars
from .workspace import Workspace

# How many more than were asked for are looked at, where some cannot be read.
_MOST = 1_000


def show(workspace: Workspace, count: int) -> None:
    """Show the newest jobs. What MLflow or the subscription do not tell of them is left out."""
    screen = workspace.screen
    with screen.status("looking at the jobs"):
        found, unread = workspace.call("list the jobs", lambda: _list(workspace, count))
        names = {str(job.experiment_name) for job in found if getattr(job, "experiment_name", None)}
        runs = workspace.advice("runs", lambda: _runs(workspace, names)) or {}
        prices = Prices(workspace) if any(run.info.end_time for run in runs.values()) else None
    if found:
        rows = [_row(job, runs.get(str(job.name)), prices) for job in found]
        screen.table(("job", "status", "rmse", "cost", "age", "experiment"), rows)
    else:
        screen.say("no jobs yet")
    if unread:
        screen.say(f"and {unread} of kinds that this client cannot read", "dim")


def _list(workspace: Workspace, count: int) -> tuple[list[Any], int]:
    """List jobs, newest first; the client gives None for one that it cannot read."""
    found: list[Any] = []
    unread = 0
    for job in workspace.jobs():
        if job is None:
            unread += 1
        else:
            found.append(job)
        if len(found) == count or unread == _MOST:
            break
    return found, unread


def _runs(workspace: Workspace, experiments: set[str]) -> dict[str, Any]:
    client = workspace.mlflow()
    found: dict[str, Any] = {}
    for name in sorted(experiments):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            newest = client.search_runs(
                [experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=200
            )
            found |= {run.info.run_id: run for run in newest}
    return found


def _row(job: Any, run: Any, prices: Prices | None) -> tuple[str, ...]:
    created = getattr(getattr(job, "creation_context", None), "created_at", None)
    rmse = run.data.metrics.get("rmse") if run is not None else None
    price = prices.of(job) if prices is not None and run is not None and run.info.end_time else None
    cost = None if price is None else price * (run.info.end_time - run.info.start_time) / 3_600_000
    return (
        str(job.name),
        str(getattr(job.status, "value", job.status)),
        "" if rmse is None else f"{rmse:.4f}",
        "" if cost is None else dollars(cost),
        "" if created is None else _age(_when(created)),
        str(getattr(job, "experiment_name", None) or ""),
    )


def _when(created: Any) -> datetime:
    moment = created if isinstance(created, datetime) else datetime.fromisoformat(str(created))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _age(moment: datetime) -> str:
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
