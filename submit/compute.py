"""Where a job runs: on a cluster, which is created where it is missing, or serverless; and what that costs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from . import refusals
from .console import command
from .errors import UserError, nearest
from .rules import check_cluster_name
from .sizes import UNKNOWN, Quota, Size, Tier, Usage, quota, sizes
from .workspace import Workspace

COMPUTE_YML = Path(__file__).resolve().parent / "compute.yml"
# A cluster that somebody is creating at this moment; a new one takes 30 s and more.
_CREATION_SECONDS, _LOOK_SECONDS = 600.0, 2.0


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
            raise UserError(
                "--serverless needs no cluster, and one is described", "leave --cluster and --max-nodes out"
            )
        if not self.serverless:
            check_cluster_name(self.name)

    @property
    def name(self) -> str:
        """Of the cluster."""
        return self.cluster or str(compute_yml()["name"])

    @property
    def tier(self) -> Tier:
        """In the words of this module."""
        if self.low_priority:
            return "spot" if self.serverless else "low priority"
        return tier_of(compute_yml().get("tier"))

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
class Target:
    """Where a job is to run, as the workspace knows it.

    Attributes
    ----------
    cluster : AmlCompute or None
        To be created; None where it is there, or where there is none.
    is_ready : bool
        Whether it is there, and nothing happens to it.
    price : float or None
        USD an hour of one node.
    remarks : tuple of str
        In what it differs from what was asked for; what will keep a job waiting.
    hints : tuple of str
        What has to be done once.
    """

    asked: Asked
    size: str
    tier: Tier
    text: str
    cluster: Any = None
    is_ready: bool = False
    quota: Quota = UNKNOWN
    price: float | None = None
    remarks: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


def plan(
    workspace: Workspace, asked: Asked, known: Mapping[str, Size] | None, limits: Sequence[Usage] | None
) -> Target:
    """Look at where the command line wants a job to run, without changing anything.

    Parameters
    ----------
    known, limits
        From `sizes.sizes` and `sizes.usages`.

    Raises
    ------
    UserError
        There is no such size of virtual machines, what has the cluster's name is no cluster, or it is too small.
    """
    target = _serverless(workspace, asked, known) if asked.serverless else _cluster(workspace, asked, known)
    size = (known or {}).get(target.size.casefold())
    allowed = quota(limits, size, asked.nodes, target.tier != "dedicated")
    remarks = target.remarks
    if allowed.verdict == "short":
        words = (*(("--serverless",) if asked.serverless else ()), *(("--low-priority",) if asked.low_priority else ()))
        doctor = command("doctor", *words, *(("--nodes", str(asked.nodes)) if asked.nodes > 1 else ()))
        remarks += (f"{allowed.text}: the job will wait in the queue (`{doctor}` lists sizes that fit)",)
    return replace(target, quota=allowed, price=size.price(target.tier) if size else None, remarks=remarks)


def _serverless(workspace: Workspace, asked: Asked, known: Mapping[str, Size] | None) -> Target:
    name = _offered(workspace, asked, known)
    nodes = f"{asked.nodes} node{'s' if asked.nodes > 1 else ''}"
    return Target(asked, name, asked.tier, f"serverless, {nodes} of {_described(known, name)}, {asked.tier}")


def _cluster(workspace: Workspace, asked: Asked, known: Mapping[str, Size] | None) -> Target:
    found = look(workspace, asked.name)
    size = _offered(workspace, asked, known) if found is None or asked.size else ""
    actual = _wanted(workspace, asked, size) if found is None else found
    most = actual.max_instances  # None where it is scaled by hand
    if most is not None and asked.nodes > int(most):
        raise UserError(
            f"the job asks for {asked.nodes} node{'s' if asked.nodes > 1 else ''}, and the cluster {asked.name} has at "
            f"most {most}",
            "give fewer --nodes, or --cluster NAME and --max-nodes for a larger one, or "
            f"`az ml compute update -n {asked.name} --max-instances {asked.nodes}`",
        )
    remarks = () if found is None else _differences(asked, found)
    hints: tuple[str, ...] = ()
    if workspace.by_identity and getattr(actual, "identity", None) is None:
        remarks += (f"the workspace's storage takes identities only, and {asked.name} has none: give --cluster NAME",)
    elif workspace.by_identity:
        who = f"$(az ml compute show -n {asked.name} --query identity.principal_id -o tsv)"
        role = f"az role assignment create --assignee {who} --role '{refusals.BLOB_ROLE}' --scope {workspace.storage}"
        hints += (f"once, for the cluster's own identity: {role}",)
    nodes = "nodes" if most is None else f"{actual.min_instances} to {most} nodes"
    made = ", to be created" if found is None else ""
    return Target(
        asked=asked,
        size=str(actual.size),
        tier=tier_of(actual.tier),
        text=f"{asked.name}, {nodes} of {_described(known, str(actual.size))}, {tier_of(actual.tier)}{made}",
        cluster=actual if found is None else None,
        is_ready=found is not None and _state(found) == "Succeeded",
        remarks=remarks,
        hints=hints,
    )


def _offered(workspace: Workspace, asked: Asked, known: Mapping[str, Size] | None) -> str:
    """Return the size that new nodes are to have, which the region must offer, if it says what it does."""
    wanted = str(asked.size or compute_yml()["size"])
    if known is not None and wanted.casefold() not in known:
        raise UserError(
            f"{wanted!r} is not a size of virtual machines for clusters in {workspace.location}"
            f"{nearest(wanted, [one.name for one in known.values()])}",
            f"give --size NAME; `{command('doctor')}` lists those that the quota allows",
        )
    return known[wanted.casefold()].name if known else wanted


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


def _wanted(workspace: Workspace, asked: Asked, size: str) -> Any:
    from azure.ai.ml import load_compute
    from azure.ai.ml.entities import IdentityConfiguration

    wanted: Any = load_compute(COMPUTE_YML)
    wanted.name, wanted.size = asked.name, size
    wanted.max_instances = asked.max_nodes or wanted.max_instances
    wanted.tier = "low_priority" if asked.low_priority else wanted.tier
    if workspace.by_identity:
        wanted.identity = IdentityConfiguration(type="system_assigned")
    return wanted


def _described(known: Mapping[str, Size] | None, name: str) -> str:
    """Return a size as it is spelled in documents (a cluster has it in capitals), with what a node of it is."""
    size = (known or {}).get(name.casefold())
    return f"{size.name} ({size.cores} cores, {size.memory_gb:g} GB)" if size else name


def _state(compute: Any) -> str:
    return str(getattr(compute.provisioning_state, "value", compute.provisioning_state))


def _errors(compute: Any) -> str:
    return refusals.message(Exception(str(compute.provisioning_errors or "no reason is given")))


def tier_of(tier: Any) -> Tier:
    """Return a cluster's priority in the words of this project."""
    return "low priority" if "low" in str(tier or "dedicated").lower() else "dedicated"


def _differences(asked: Asked, found: Any) -> tuple[str, ...]:
    # compute.yml says what its own cluster is like; of another, only what the command line asks for is wanted
    own = compute_yml() if asked.name == compute_yml()["name"] else {}
    pairs = {
        "size": (asked.size or own.get("size"), found.size),
        "largest number of nodes": (asked.max_nodes or own.get("max_instances"), found.max_instances),
        "priority": (asked.tier if own or asked.low_priority else None, tier_of(found.tier)),
    }
    return tuple(
        f"its {what} is {actual}, not {wanted}: left as it is (--cluster NAME takes or makes another)"
        for what, (wanted, actual) in pairs.items()
        if wanted is not None and str(wanted).casefold() != str(actual).casefold()
    )


class Prices:
    """What an hour of a job's nodes costs: by its cluster's size, or by its own where it is serverless."""

    def __init__(self, workspace: Workspace) -> None:
        self._sizes = sizes(workspace) or {}
        listed = workspace.advice("clusters", lambda: list(workspace.client.compute.list())) if self._sizes else ()
        self._clusters: Mapping[str, Any] = {str(one.name): one for one in listed or ()}

    def of(self, job: Any) -> float | None:
        """Return USD an hour; None where something is not known."""
        resources = getattr(job, "resources", None)
        cluster = self._clusters.get(str(getattr(job, "compute", None) or "").rpartition("/")[2])
        if cluster is not None:
            name, tier = cluster.size, tier_of(cluster.tier)
        else:
            name = getattr(resources, "instance_type", None)
            spot = str(getattr(getattr(job, "queue_settings", None), "job_tier", "")).casefold() == "spot"
            tier = "spot" if spot else "dedicated"
        size = self._sizes.get(str(name).casefold())
        price = size.price(tier) if size else None
        return None if price is None else price * int(getattr(resources, "instance_count", None) or 1)


def create(workspace: Workspace, target: Target) -> None:
    """Create the cluster where it is missing, and wait until it is there; another client's is as good.

    Raises
    ------
    UserError
        It is not permitted, or the service refuses.
    """
    if target.asked.serverless or target.is_ready:
        return
    name = target.asked.name
    what = (
        f"waiting for cluster {name}" if target.cluster is None else f"creating cluster {name}, half a minute or more"
    )
    with workspace.screen.status(what):
        if target.cluster is not None:
            try:
                workspace.call(
                    f"create the cluster {name}",
                    lambda: workspace.client.compute.begin_create_or_update(target.cluster),
                )
            except UserError as error:
                if refusals.status_of(error) != 403:
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
