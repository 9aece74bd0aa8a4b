"""Is all well for a submission? What is missing is named with the way to get it."""

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from . import compute, sizes
from .artifacts import open_store
from .console import Screen, can_ask, dollars
from .environment import has_environment
from .errors import UserError
from .own import Trainer, is_here
from .workspace import Workspace, connect, find_address

ROOT = Path(__file__).resolve().parent.parent
# What both sides of a submission depend on; together with the versions that pyproject.toml gives them.
PACKAGES = (
    *("azure-ai-ml", "azure-identity", "azureml-mlflow", "mlflow"),
    *("scikit-learn", "skops", "pandas", "marshmallow"),
)
# How many of the sizes that fit the quota are listed.
FITTING = 5


def examine(screen: Screen, asked: compute.Asked, named: str | None = None) -> bool:
    """Check what a submission needs, one line each, with a remedy, and return whether all is well."""
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
    try:
        address = find_address(Path.cwd(), named)
        screen.say(
            f"ok    {'config':<12} {address.workspace_name} in {address.resource_group}, named by {address.source}"
        )
        workspace = connect(address, screen, interactive=screen.terminal and can_ask())
    except UserError as error:
        screen.say(f"NOT   {'workspace':<12} {error.cause}", "red")
        screen.say(f"      {'fix':<12} {error.remedy}")
        return False
    how = "by identity" if workspace.by_identity else "with keys"
    screen.say(f"ok    {'workspace':<12} signed in; {workspace.name} is in {workspace.location}, its datastores {how}")
    check("storage", lambda: _storage(workspace))
    known, limits = sizes.sizes(workspace), sizes.usages(workspace)
    check(
        "serverless" if asked.serverless else "cluster", lambda: _compute(compute.plan(workspace, asked, known, limits))
    )
    if known and limits:
        _list_fitting(screen, sizes.fitting(known, limits, asked.tier, asked.nodes), asked.tier)
    if is_here():
        check("environment", lambda: _environment(workspace))
    return well


def _storage(workspace: Workspace) -> str:
    """Ask the workspace's own store for one blob: that takes a role which no role on the workspace brings."""
    from azure.storage.blob import ContainerClient

    with open_store(workspace, "workspaceblobstore", ContainerClient, retry_total=1) as container:
        workspace.call("list the workspace's blobs", lambda: next(iter(container.list_blobs(results_per_page=1)), None))
        return f"{container.account_name} lets you in"


def _compute(target: compute.Target) -> str:
    if target.remarks:
        raise UserError(
            f"{target.text}; {target.remarks[0]}",
            "give --size, --low-priority, --cluster or --serverless, or ask for quota under Quotas in the portal",
        )
    price = "" if target.price is None else f"; {dollars(target.price)} an hour and node"
    return "; ".join((f"{target.text}{price}", f"quota {target.quota.text or 'unknown'}", *target.hints))


def _list_fitting(screen: Screen, fits: list[tuple[sizes.Size, float | None]], tier: str) -> None:
    head = f"      {'sizes':<12} "
    screen.say(f"{head}that the quota allows, {tier}, cheapest first:" if fits else f"{head}the quota allows none")
    for one, price in fits[:FITTING]:
        cost = "" if price is None else f", {dollars(price)} an hour"
        screen.say(f"{' ' * len(head)}{one.name}: {one.cores} cores, {one.memory_gb:g} GB{cost}")


def _environment(workspace: Workspace) -> str:
    wanted = Trainer().environment()
    known = has_environment(workspace, wanted)
    return f"{wanted.name}:{wanted.version}{'' if known else ', to be created by the first submission'}"


def _python() -> str:
    from packaging.specifiers import SpecifierSet

    actual = sys.version.split()[0]
    allowed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")) if is_here() else None
    if allowed and not SpecifierSet(wanted := allowed["project"]["requires-python"]).contains(actual, prereleases=True):
        pinned = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
        raise UserError(f"Python {actual}, where the project takes {wanted}", f"uv sync --python {pinned}")
    return actual


def _declared() -> list[str]:
    """Return both sides of a submission from pyproject.toml, each package once."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {}
    for line in (*document["project"]["dependencies"], *_group(document["dependency-groups"], "train")):
        found[re.split(r"[^\w.-]", line)[0]] = line  # the training side pins what both take
    return list(found.values())


def _group(groups: dict[str, list[str | dict[str, str]]], name: str) -> Iterator[str]:
    for one in groups[name]:
        if isinstance(one, str):
            yield one
        else:
            yield from _group(groups, one["include-group"])


def _packages() -> str:
    """Hold what is installed against what is declared: these versions were found to work together."""
    from packaging.requirements import Requirement

    lines = requires("mlflow-aml") or [] if not is_here() else _declared()
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
        raise UserError("; ".join(wrong), "uv sync" if is_here() else "pip install --upgrade mlflow-aml")
    return ", ".join(shown)
