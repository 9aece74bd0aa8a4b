"""What the subscription offers in a region: sizes of virtual machines, their prices, and how much quota there is.

All of it is advice: a role on the workspace alone may see none of it, and then a submission goes on.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .workspace import Workspace

Tier = Literal["dedicated", "low priority", "spot"]
# How prices are spelled, by what is asked for; where the service has none of the first kind, the second.
_TIERS = {"dedicated": ("Standard",), "low priority": ("LowPriority", "Spot"), "spot": ("Spot", "LowPriority")}


@dataclass(frozen=True)
class Size:
    """A size of virtual machines, as the service describes it; `prices` are USD an hour, by tier."""

    name: str
    family: str
    cores: int
    memory_gb: float = 0.0
    gpus: int = 0
    prices: Mapping[str, float] = field(default_factory=dict)

    def price(self, tier: Tier) -> float | None:
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
        return any(
            name.startswith("totalcluster") or name in ("lowprioritycores", "lowpriority") for name in self.names
        )

    def is_family(self, family: str) -> bool:
        """Return whether it counts the cores of a family: ``standardDDSv4Family``, or the sentence that begins so."""
        wanted = _letters(family)
        return bool(wanted) and any(name == wanted or name.startswith(f"{wanted}cluster") for name in self.names)


@dataclass(frozen=True)
class Quota:
    """Whether the quota allows what is asked for."""

    verdict: Literal["enough", "short", "unknown"]
    text: str


UNKNOWN = Quota("unknown", "")
# What a size may be for, in the service's words: nodes of clusters, or instances of online endpoints.
CLUSTERS, ENDPOINTS = "AmlCompute", "MIR"


def _ask(workspace: Workspace, what: str, function: Callable[..., Iterable[Any]]) -> list[Any]:
    """Ask for a list, which may be empty or refused: both are said in one line."""
    found = workspace.advice(what, lambda: list(function(location=workspace.location) or ()))
    if found == []:
        workspace.screen.say(f"{what}: the service lists none", "dim")
    return found or []


def sizes(workspace: Workspace, purpose: str = CLUSTERS) -> dict[str, Size] | None:
    """Return what can be had in the region for a purpose, by name in lower case; None where it is not told."""
    found = _ask(workspace, "sizes", workspace.client.compute.list_sizes)
    fit = [vars(one) for one in found if _is_for(vars(one), purpose)]
    known = {one.name.casefold(): one for one in map(_size, fit)}
    return known or None


def _is_for(facts: Mapping[str, Any], purpose: str) -> bool:
    kinds = [str(kind).casefold() for kind in _first(facts, "supportedComputeTypes", "supported_compute_types") or ()]
    return not kinds or purpose.casefold() in kinds


def _size(facts: Mapping[str, Any]) -> Size:
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
    found = _ask(workspace, "quota", workspace.client.compute.list_usage)
    read = [_usage(vars(one)) for one in found]
    return [usage for usage in read if usage is not None] or None


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
        return UNKNOWN
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


def fitting(
    known: Mapping[str, Size], limits: Sequence[Usage], tier: Tier, nodes: int = 1
) -> list[tuple[Size, float | None]]:
    """List the sizes without GPUs of which the quota allows as many nodes, cheapest first, with their prices."""
    fits = [
        (one, one.price(tier))
        for one in known.values()
        if not one.gpus and quota(limits, one, nodes, tier != "dedicated").verdict == "enough"
    ]
    return sorted(fits, key=lambda fit: (fit[1] is None, fit[1] or 0.0, fit[0].cores, fit[0].name))
