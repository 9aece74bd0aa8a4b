"""Where a job runs: a cluster or serverless, of which size, with which quota, at which price.

What the subscription says of sizes, quota and prices is advice: where it says nothing, a submission goes on.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from submit import service
from submit.console import command
from submit.rules import check_cluster_name
from submit.workspace import Workspace
from trainer.errors import UserError, nearest

COMPUTE_YML = Path(__file__).resolve().parent / "compute.yml"
# A cluster that somebody is creating at this moment; a new one takes 30 s and more.
_CREATION_SECONDS, _LOOK_SECONDS = 600.0, 2.0
# How prices are spelled, by what is asked for; where the service has none of the first kind, the second.
_TIERS = {"dedicated": ("Standard",), "low priority": ("LowPriority", "Spot"), "spot": ("Spot", "LowPriority")}


@dataclass(frozen=True)
class Asked:
    """What the command line says of where to run; None for what compute.yml says."""

    cluster: str | None = None
    size: str | None = None
    max_nodes: int | None = None
    low_priority: bool = False
    nodes: int = 1
    serverless: bool = False

    def __post_init__(self) -> None:
        if self.serverless and (self.cluster or self.max_nodes):
            raise UserError("--serverless needs no cluster, and one is described", "leave --cluster and --max-nodes out")
        if not self.serverless:
            check_cluster_name(self.name)

    @property
    def name(self) -> str:
        """Of the cluster."""
        return self.cluster or str(compute_yml()["name"])

    @property
    def tier(self) -> Literal["dedicated", "low priority", "spot"]:
        """In the words of this module."""
        if self.low_priority:
            return "spot" if self.serverless else "low priority"
        return _tier(compute_yml().get("tier"))

    def job_fields(self, by_identity: bool = False) -> dict[str, Any]:
        """Return what a job says of where it runs, and as whom it reads and writes."""
        fields: dict[str, Any] = {}
        if self.serverless:
            fields["compute"] = None
            fields["resources"] = {"instance_type": self.size or compute_yml()["size"], "instance_count": self.nodes}
            fields["queue_settings"] = {"job_tier": "spot" if self.low_priority else "standard"}
        else:
            fields["compute"] = f"azureml:{self.name}"
            if self.nodes > 1:
                fields["resources"] = {"instance_count": self.nodes}
        if self.nodes > 1:
            fields["distribution"] = {"type": "pytorch", "process_count_per_instance": 1}
        if by_identity:
            fields["identity"] = {"type": "user_identity" if self.serverless else "managed"}
        return fields


def compute_yml() -> dict[str, Any]:
    """Return the cluster of compute.yml."""
    document: dict[str, Any] = yaml.safe_load(COMPUTE_YML.read_text(encoding="utf-8"))
    return document


@dataclass(frozen=True)
class Size:
    """A size of virtual machines, as the service describes it; `prices` are USD an hour, by tier."""

    name: str
    family: str
    cores: int
    memory_gb: float = 0.0
    gpus: int = 0
    prices: Mapping[str, float] = field(default_factory=dict)

    def price(self, tier: str) -> float | None:
        """Return USD an hour and node; None where the service says nothing."""
        return next((self.prices[one] for one in _TIERS[tier] if one in self.prices), None)


@dataclass(frozen=True)
class Usage:
    """One line of the subscription's quota, in cores; its names in lower case, letters and digits alone."""

    names: tuple[str, ...]
    label: str
    limit: int
    used: int

    def is_of(self, low_priority: bool) -> bool:
        """Return whether it is about nodes of this kind."""
        return any("lowpriority" in name for name in self.names) == low_priority

    @property
    def is_regional(self) -> bool:
        """Whether it counts the cores of all families."""
        return any(name.startswith("totalcluster") or name in ("lowprioritycores", "lowpriority") for name in self.names)

    def is_family(self, family: str) -> bool:
        """Return whether it counts the cores of a family: ``standardDDSv4Family``, or the sentence that begins so."""
        wanted = _letters(family)
        return bool(wanted) and any(name == wanted or name.startswith(f"{wanted}cluster") for name in self.names)


@dataclass(frozen=True)
class Quota:
    """Whether the quota allows what is asked for."""

    verdict: Literal["enough", "short", "unknown"]
    text: str


def sizes(workspace: Workspace) -> dict[str, Size] | None:
    """Return what clusters can be made of in the workspace's region, by name in lower case; None where it is not told."""
    found = workspace.advice(
        "sizes", lambda: list(workspace.client.compute.list_sizes(location=workspace.location) or ())
    )
    read = [_size(vars(one)) for one in found or ()]
    return {one.name.casefold(): one for one in read if one is not None} or None


def _size(facts: Mapping[str, Any]) -> Size | None:
    kinds = [str(kind).casefold() for kind in _first(facts, "supportedComputeTypes", "supported_compute_types") or ()]
    if kinds and "amlcompute" not in kinds:
        return None
    prices = _first(facts, "estimatedVMPrices", "estimated_vm_prices") or {}
    listed = _first(prices, "values", "values_property") or () if isinstance(prices, Mapping) else ()
    return Size(
        name=str(facts.get("name")),
        family=str(facts.get("family") or ""),
        cores=int(_first(facts, "vCPUs", "v_cp_us") or 0),
        memory_gb=float(_first(facts, "memoryGB", "memory_gb") or 0),
        gpus=int(facts.get("gpus") or 0),
        prices={
            str(_first(one, "vmTier", "vm_tier")): float(price)
            for one in listed
            if str(_first(one, "osType", "os_type")) == "Linux"
            and (price := _first(one, "retailPrice", "retail_price")) is not None
        },
    )


def _first(facts: Mapping[str, Any], *names: str) -> Any:
    """Return a value by the first of its spellings: the wire's, or the SDK's."""
    return next((facts[name] for name in names if facts.get(name) is not None), None)


def usages(workspace: Workspace) -> list[Usage] | None:
    """Return the subscription's quota in the workspace's region; None where it is not told."""
    found = workspace.advice(
        "quota", lambda: list(workspace.client.compute.list_usage(location=workspace.location) or ())
    )
    return [usage for one in found or () if (usage := _usage(vars(one))) is not None] or None


def _usage(facts: Mapping[str, Any]) -> Usage | None:
    if "/workspaces/" in str(facts.get("id") or "").casefold() or facts.get("limit") is None:
        return None  # what one workspace, or one cluster, may take
    name = facts.get("name") or {}
    spelled = name if isinstance(name, Mapping) else vars(name)
    texts = [str(text) for text in (spelled.get("value"), _first(spelled, "localizedValue", "localized_value")) if text]
    used = int(_first(facts, "currentValue", "current_value") or 0)
    return Usage(tuple(map(_letters, texts)), texts[-1] if texts else "", int(facts["limit"]), used)


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold())


def quota(known: Iterable[Usage] | None, size: Size | None, nodes: int, low_priority: bool) -> Quota:
    """Hold what nodes take against the quota: that of the size's family, and that of the region.

    Low-priority nodes have no family's quota, only the region's. A family whose limit is -1 has been given no dedicated
    cores; of a region, -1 says that it has no limit of its own.
    """
    if known is None or size is None or not size.cores:
        return Quota("unknown", "unknown")
    needed = nodes * size.cores
    ours = [usage for usage in known if usage.is_of(low_priority)]
    regional = [usage for usage in ours if usage.is_regional]
    family = [] if low_priority else [usage for usage in ours if usage.is_family(size.family)]
    limits = [(usage, max(usage.limit, 0)) for usage in family]
    limits += [(usage, usage.limit) for usage in regional if usage.limit >= 0]
    for usage, limit in limits:
        if limit < needed:
            took = f"{nodes} nodes take" if nodes > 1 else "a node takes"
            return Quota("short", f"{usage.label} is {limit} cores, and {took} {needed}")
    if not regional or not (family or low_priority):
        return Quota("unknown", f"unknown: the service lists none for {size.family or size.name}")
    tightest = min(limits, key=lambda one: one[1] - one[0].used, default=None)
    if tightest is None:
        return Quota("enough", f"{needed} cores, without a limit")
    usage, limit = tightest
    busy = f", of which {usage.used} are in use: it may wait" if limit - usage.used < needed else ""
    return Quota("enough", f"{needed} of {limit} cores{busy} ({usage.label})")


def fitting(known: Mapping[str, Size], limits: Sequence[Usage], asked: Asked) -> list[tuple[Size, float | None]]:
    """List the sizes without GPUs of which the quota allows as many nodes as are asked for, cheapest first."""
    fits = [
        (one, one.price(asked.tier))
        for one in known.values()
        if not one.gpus and quota(limits, one, asked.nodes, asked.low_priority).verdict == "enough"
    ]
    return sorted(fits, key=lambda fit: (fit[1] is None, fit[1] or 0.0, fit[0].cores, fit[0].name))


@dataclass(frozen=True)
class Target:
    """Where a job is to run, as the workspace knows it.

    Attributes
    ----------
    cluster : AmlCompute or None
        To be created; None where it is there, or where there is none.
    price : float or None
        USD an hour of one node.
    remarks : tuple of str
        In what it differs from what was asked for; what will keep a job waiting.
    """

    asked: Asked
    text: str
    quota: Quota
    price: float | None = None
    cluster: Any = None
    remarks: tuple[str, ...] = ()


def plan(workspace: Workspace, asked: Asked) -> Target:
    """Look at where the command line wants a job to run, without changing anything.

    Raises
    ------
    UserError
        There is no such size of virtual machines, what has the cluster's name is no cluster, or it is too small.
    """
    known, limits = sizes(workspace), usages(workspace)
    wanted_size = str(asked.size or compute_yml()["size"])
    if known is not None and wanted_size.casefold() not in known:
        raise UserError(
            f"{wanted_size!r} is not a size of virtual machines for clusters in {workspace.location}"
            f"{nearest(wanted_size, [one.name for one in known.values()])}",
            f"give --size NAME; `{command('doctor')}` lists those that the quota allows",
        )
    found = None if asked.serverless else look(workspace, asked.name)
    actual_size, low_priority = wanted_size, asked.tier != "dedicated"
    cluster, remarks = None, []
    if asked.serverless:
        how = f"serverless, {asked.nodes} node{'s' if asked.nodes > 1 else ''} of"
        text = f"{how} {_described(known, wanted_size)}, {asked.tier}"
    else:
        if found is None:
            cluster = _wanted(workspace, asked)
        else:
            remarks += _differences(asked, found)
        actual = cluster if found is None else found
        actual_size, low_priority = str(actual.size), _tier(actual.tier) == "low priority"
        text = (
            f"{asked.name}, {actual.min_instances} to {actual.max_instances} nodes of {_described(known, actual_size)}, "
            f"{_tier(actual.tier)}{'' if found is not None else ', to be created'}"
        )
        if asked.nodes > int(actual.max_instances):
            raise UserError(
                f"the job asks for {asked.nodes} nodes, and the cluster {asked.name} has at most {actual.max_instances}",
                "give fewer --nodes, or --cluster NAME and --max-nodes for a larger one",
            )
        if workspace.by_identity:
            remarks += _identity(workspace, actual)
    size = (known or {}).get(actual_size.casefold())
    allowed = quota(limits, size, asked.nodes, low_priority)
    if allowed.verdict == "short":
        remarks.append(f"{allowed.text}: the job will wait in the queue (`{command('doctor')}` lists sizes that fit)")
    tier = "spot" if asked.serverless and low_priority else "low priority" if low_priority else "dedicated"
    return Target(asked, text, allowed, size.price(tier) if size else None, cluster, tuple(remarks))


def look(workspace: Workspace, name: str) -> Any:
    """Return the cluster of a name, None where there is none."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        found: Any = workspace.call("look at the cluster", lambda: workspace.client.compute.get(name))
    except ResourceNotFoundError:
        return None
    if found.type != "amlcompute":
        raise UserError(
            f"{name} is not a cluster, but a compute of type {found.type}", "give --cluster with another name"
        )
    if _state(found) == "Failed":
        raise UserError(
            f"the cluster {name} could not be created (state Failed): {_errors(found)}",
            f"`az ml compute delete -n {name}`, or give --cluster with another name, or --serverless",
        )
    return found


def _wanted(workspace: Workspace, asked: Asked) -> Any:
    from azure.ai.ml import load_compute
    from azure.ai.ml.entities import IdentityConfiguration

    wanted: Any = load_compute(COMPUTE_YML)
    wanted.name = asked.name
    wanted.size = asked.size or wanted.size
    wanted.max_instances = asked.max_nodes or wanted.max_instances
    wanted.tier = "low_priority" if asked.low_priority else wanted.tier
    if workspace.by_identity:
        wanted.identity = IdentityConfiguration(type="system_assigned")
    return wanted


def _described(known: Mapping[str, Size] | None, name: str) -> str:
    """Return a size as it is spelled in documents (a cluster has it in capitals), with what a node of it is."""
    size = (known or {}).get(name.casefold())
    return f"{size.name} ({size.cores} cores, {size.memory_gb:g} GB)" if size else name


def _identity(workspace: Workspace, cluster: Any) -> list[str]:
    if getattr(cluster, "identity", None) is None:
        return [f"the workspace's storage takes identities only, and {cluster.name} has none: give --cluster NAME"]
    who = f"$(az ml compute show -n {cluster.name} --query identity.principal_id -o tsv)"
    role = f"az role assignment create --assignee {who} --role 'Storage Blob Data Contributor' --scope"
    return [f"the workspace's storage takes identities only; once, for the cluster's own: `{role} {workspace.storage}`"]


def _state(compute: Any) -> str:
    return str(getattr(compute.provisioning_state, "value", compute.provisioning_state))


def _errors(compute: Any) -> str:
    return service.message(Exception(str(compute.provisioning_errors or "no reason is given")))


def _tier(tier: Any) -> Literal["dedicated", "low priority"]:
    return "low priority" if "low" in str(tier or "dedicated").lower() else "dedicated"


def _differences(asked: Asked, found: Any) -> list[str]:
    # compute.yml says what its own cluster is like; of another, only what the command line asks for is wanted
    own = compute_yml() if asked.name == compute_yml()["name"] else {}
    pairs = {
        "size": (asked.size or own.get("size"), found.size),
        "largest number of nodes": (asked.max_nodes or own.get("max_instances"), found.max_instances),
        "priority": (asked.tier if own or asked.low_priority else None, _tier(found.tier)),
    }
    return [
        f"its {what} is {actual}, not {wanted}: left as it is (--cluster NAME takes or makes another)"
        for what, (wanted, actual) in pairs.items()
        if wanted is not None and str(wanted).casefold() != str(actual).casefold()
    ]


def create(workspace: Workspace, target: Target) -> None:
    """Create the cluster where it is missing, and wait until it is there; another client's is as good.

    Raises
    ------
    UserError
        It is not permitted, or the service refuses.
    """
    if target.asked.serverless:
        return
    name = target.asked.name
    with workspace.screen.status(f"creating cluster {name}, half a minute or more"):
        if target.cluster is not None:
            try:
                workspace.call(
                    f"create the cluster {name}", lambda: workspace.client.compute.begin_create_or_update(target.cluster)
                )
            except UserError as error:
                if service.status_of(error) != 403:
                    raise
                raise UserError(
                    error.cause, "send it with --serverless, which needs no cluster; or ask an owner to create it"
                ) from error
        until = time.monotonic() + _CREATION_SECONDS
        while (found := look(workspace, name)) is None or _state(found) in ("Creating", "Updating", "Resizing"):
            if time.monotonic() > until:
                break
            time.sleep(_LOOK_SECONDS)
    state = "missing" if found is None else _state(found)
    if state != "Succeeded":
        raise UserError(
            f"the cluster {name} is in state {state}: {'' if found is None else _errors(found)}",
            "look at it in the studio (Compute), or give --cluster with another name, or --serverless",
        )
