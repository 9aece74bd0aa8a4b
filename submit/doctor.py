"""What is asked for without sending anything: the recent jobs, and whether all is well for a submission."""

import re
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from submit import workspace as places
from submit.job import ROOT
from submit.screen import Screen
from submit.workspace import Workspace
from trainer.errors import UserError

# What both sides of a submission depend on; together with the versions that pyproject.toml gives them.
PACKAGES = (
    "azure-ai-ml",
    "azure-identity",
    "azureml-mlflow",
    "mlflow",
    "scikit-learn",
    "skops",
    "pandas",
    "marshmallow",
)


def list_jobs(workspace: Workspace, count: int) -> None:
    """Show the newest jobs of the workspace: name, status, rmse, age."""
    with workspace.screen.status("looking at the jobs"):
        client = workspace.client.jobs
        found = workspace.call("list the jobs", lambda: list(islice(client.list(), count)))
        rmse = _rmse(workspace, {str(job.experiment_name) for job in found})
    if not found:
        workspace.screen.say("no jobs yet")
        return
    rows = [("job", "status", "rmse", "age", "experiment")]
    for job in found:
        value = rmse.get(str(job.name))
        created = getattr(job.creation_context, "created_at", None)
        rows.append(
            (
                str(job.name),
                str(getattr(job.status, "value", job.status)),
                "" if value is None else f"{value:.4f}",
                "" if created is None else _age(_when(created)),
                str(job.experiment_name),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        workspace.screen.say("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _rmse(workspace: Workspace, experiments: set[str]) -> dict[str, float]:
    client = workspace.mlflow()

    def search(name: str) -> Any:
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return []
        return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"], max_results=200)

    runs: list[Any] = []
    for name in sorted(experiments):
        runs += workspace.call("look at the runs", lambda name=name: search(name))  # type: ignore[misc]
    return {run.info.run_id: run.data.metrics["rmse"] for run in runs if "rmse" in run.data.metrics}


def _when(created: Any) -> datetime:
    moment = created if isinstance(created, datetime) else datetime.fromisoformat(str(created))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _age(moment: datetime) -> str:
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def examine(screen: Screen, cluster: str | None, vm_size: str | None, low_priority: bool) -> bool:
    """Check what a submission needs, one line each, with a remedy where something is not well.

    Returns
    -------
    bool
        Whether all is well.
    """
    well = True

    def check(name: str, ask: Callable[[], str]) -> bool:
        nonlocal well
        try:
            screen.say(f"ok    {name:<12} {ask()}")
            return True
        except UserError as error:
            well = False
            screen.say(f"NOT   {name:<12} {error.cause}", "red")
            screen.say(f"      {'fix':<12} {error.remedy}")
            return False

    check("python", _python)
    check("packages", _packages)
    address: list[places.Address] = []
    found: list[Workspace] = []

    def config() -> str:
        address.append(places.find_address(Path.cwd()))
        return f"{address[0].workspace_name} in {address[0].resource_group}, named by {address[0].source}"

    def connect() -> str:
        found.append(places.connect(address[0], screen, interactive=screen.terminal and sys.stdin.isatty()))
        return f"signed in; {found[0].name} is in {found[0].location}"

    def compute() -> str:
        plan = places.plan_cluster(found[0], cluster, vm_size, None, low_priority)
        if plan.remarks:
            raise UserError(
                f"{plan.text}; {plan.remarks[0]}", "give --size, --low-priority or --cluster, or ask for quota"
            )
        return f"{plan.text}; there is quota for it"

    def environment() -> str:
        wanted = places.read_environment()
        known = places.has_environment(found[0], wanted)
        return f"{wanted.name}:{wanted.version}{'' if known else ', to be created by the first submission'}"

    if check("config", config) and check("workspace", connect):
        check("cluster", compute)
        check("environment", environment)
    return well


def _python() -> str:
    wanted = (ROOT / ".python-version").read_text().strip()
    actual = ".".join(map(str, sys.version_info[:2]))
    if actual != wanted:
        raise UserError(f"Python {actual}, where the project has {wanted}", f"uv sync --python {wanted}")
    return sys.version.split()[0]


def _packages() -> str:
    """Hold what is installed against pyproject.toml: these versions were found to work together."""
    from packaging.requirements import Requirement

    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [*document["project"]["dependencies"], *document["dependency-groups"]["submit"]]
    wrong, shown = [], []
    for requirement in map(Requirement, lines):
        if requirement.name not in PACKAGES:
            continue
        try:
            actual = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        shown.append(f"{requirement.name} {re.sub(r'[.]post[0-9]+$', '', actual)}")
        if not requirement.specifier.contains(actual, prereleases=True):
            wrong.append(f"{requirement.name} is {actual}, not {requirement.specifier}")
    if wrong:
        raise UserError("; ".join(wrong), "uv sync")
    return ", ".join(shown)
