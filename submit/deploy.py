"""A registered model behind an address: an endpoint that gives requests to a deployment that has shown it is right.

Traffic moves to the new deployment only after the rows that were recorded with the model came back right from it, over
HTTP; the former one serves until then, and is deleted afterwards. Whatever fails, what was made is taken away.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from . import answers, endpoints, own, registered, signals, sizes
from .console import can_ask, command, dollars
from .endpoints import Deployment
from .errors import UserError, nearest
from .rules import check_endpoint_name
from .submission import DONE, FAILED, open_workspace
from .workspace import Workspace

if TYPE_CHECKING:
    from trainer.model_folder import Recorded

DEPLOYMENT_YML = Path(__file__).resolve().parent / "deployment.yml"
# The documentation requires them of a model that names its packages; without them the container does not start.
REQUIRED = ("azureml-inference-server-http", "azureml-ai-monitoring")
# The service reserves a fifth of the instances for its own upgrades: quota is needed for them, money is not.
RESERVE = 1.2


@dataclass(frozen=True)
class Asked:
    """What the command line says; None for what deployment.yml says.

    Attributes
    ----------
    model : str
        ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
    endpoint : str or None
        None for a name made of the model's and the workspace's.
    ask : bool
        Whether somebody is to agree before anything is made.
    workspace : str or None
        As `open_workspace` takes it.
    """

    model: str
    endpoint: str | None = None
    instance_type: str | None = None
    instances: int | None = None
    ask: bool = True
    workspace: str | None = None

    def __post_init__(self) -> None:
        registered.check(self.model)
        if self.endpoint is not None:
            check_endpoint_name(self.endpoint)


@dataclass(frozen=True)
class Plan:
    """What will be made, as the workspace knows it.

    Attributes
    ----------
    former : list of Deployment
        Of the endpoint; none where it is to be created.
    deployment : ManagedOnlineDeployment
        To be created.
    price : float or None
        USD an hour.
    """

    model: str
    recorded: "Recorded"
    endpoint: str
    is_new: bool
    former: list[Deployment]
    deployment: Any
    size: str
    quota: sizes.Quota
    price: float | None
    remarks: tuple[str, ...]


@dataclass
class Made:
    """What has been made so far, and would have to be taken away."""

    endpoint: bool = False
    deployment: bool = False
    traffic: bool = False


def deploy(asked: Asked) -> int:
    """Do the whole of it, and return the exit code."""
    if not own.is_here():
        raise UserError(
            "a deployment is checked with the rows that were recorded with its model, by the trainer's own code",
            "run it in the trainer's folder: python submit/remote.py deploy MODEL",
        )
    import click
    import skops.io  # noqa: F401  # first, for it searches every module that is loaded by then

    workspace = open_workspace(asked.workspace)
    screen = workspace.screen
    with screen.status("looking at the model"):
        name, version = registered.find_version(workspace, asked.model)
        recorded, remarks = _fetch(workspace, name, version)
        screen.update("looking at the endpoint")
        made_of = _plan(workspace, asked, name, version, recorded, remarks)
    screen.pairs(_rows(workspace, made_of))
    if asked.ask and screen.terminal and can_ask() and not click.confirm("Deploy it?", default=True):
        screen.say("nothing was made")
        return FAILED
    made = Made()
    try:
        with screen.status("deploying, a quarter of an hour or more"):
            _make(workspace, made_of, made)
            largest, address = answers.verify(workspace, made_of.endpoint, made_of.deployment.name, recorded)
            _switch(workspace, made_of, made)
    except BaseException as error:
        with signals.hurried(error):
            _take_back(workspace, made_of, made)
        raise
    _retire(workspace, made_of)
    _conclude(workspace, made_of, largest, address)
    return DONE


# -- what is there -----------------------------------------------------------------------------------


def _fetch(workspace: Workspace, name: str, version: str) -> tuple["Recorded", tuple[str, ...]]:
    """Fetch the rows that were recorded with a model, and say what its container will miss.

    Raises
    ------
    UserError
        It is no model of this project's: there is nothing to compare a deployment with.
    """
    import mlflow

    from trainer import model_folder, registry

    mlflow.set_tracking_uri(workspace.tracking_uri)
    uri = f"models:/{name}/{version}"
    with registry.fetched(uri) as folder:
        recorded = model_folder.read_recorded(folder, name=uri)
        environment = folder / "conda.yaml"
        listed = environment.read_text(encoding="utf-8") if environment.is_file() else ""
    missing = [package for package in REQUIRED if package not in listed]
    remark = f"its conda.yaml lacks {' and '.join(missing)}: the container will not start; train it again"
    return recorded, (remark,) if missing else ()


def default_name(workspace: Workspace, model: str) -> str:
    """Return the name of a model's endpoint: the same each time, and one that nobody else in the region has."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.casefold()).strip("-")
    slug = slug if slug[:1].isalpha() else f"m-{slug}"
    address = workspace.address
    of = "/".join((address.subscription_id, address.resource_group, address.workspace_name, model))
    return f"{slug[:25].rstrip('-')}-{hashlib.sha256(of.encode()).hexdigest()[:6]}"


def _plan(
    workspace: Workspace, asked: Asked, model: str, version: str, recorded: "Recorded", remarks: tuple[str, ...]
) -> Plan:
    """Look at what is there, and say what is to be made."""
    from azure.ai.ml import load_online_deployment

    name = asked.endpoint or default_name(workspace, model)
    endpoint = endpoints.find(workspace, name)
    former = [] if endpoint is None else endpoints.deployments(workspace, endpoint)
    if endpoint is not None and (state := endpoints.state_of(endpoint)) != "Succeeded":
        remedy = "wait until that is done" if state in endpoints.BUSY else command("undeploy", name)
        raise UserError(f"the endpoint {name} is in state {state}", remedy)
    size, instances = _wanted(asked)
    known, limits = sizes.sizes(workspace, sizes.ENDPOINTS), sizes.usages(workspace)
    if known is not None and size.casefold() not in known:
        raise UserError(
            f"{size!r} is not a size for online endpoints in {workspace.location}"
            f"{nearest(size, [one.name for one in known.values()])}",
            "give --instance-type NAME that is listed for them: https://aka.ms/azureml-online-endpoints-sku",
        )
    offered = (known or {}).get(size.casefold())
    allowed = sizes.quota(limits, offered, math.ceil(RESERVE * instances), low_priority=False)
    if allowed.verdict == "short":
        fits = sizes.fitting(known or {}, limits or (), "dedicated", math.ceil(RESERVE * instances))
        cheapest = f"; --instance-type {fits[0][0].name} fits" if fits else ""
        remarks += (f"{allowed.text}: the service will refuse it{cheapest}",)
    given = {
        "name": _new_name(version, former), "endpoint_name": name, "model": f"azureml:{model}:{version}",
        "instance_type": offered.name if offered else size, "instance_count": instances,
    }  # fmt: skip
    return Plan(
        model=f"models:/{model}/{version}", recorded=recorded, endpoint=name, is_new=endpoint is None, former=former,
        deployment=load_online_deployment(DEPLOYMENT_YML, params_override=[{key: one} for key, one in given.items()]),
        size=f"{offered.name} ({offered.cores} cores, {offered.memory_gb:g} GB)" if offered else size,
        quota=allowed, price=endpoints.hourly(known, size, instances), remarks=remarks,
    )  # fmt: skip


def _wanted(asked: Asked) -> tuple[str, int]:
    document = yaml.safe_load(DEPLOYMENT_YML.read_text(encoding="utf-8"))
    return str(asked.instance_type or document["instance_type"]), int(asked.instances or document["instance_count"])


def _new_name(version: str, former: Sequence[Deployment]) -> str:
    """Name a deployment by its version; another of the same version gets a number."""
    taken, name = {one.name.casefold() for one in former}, f"version-{version}"
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(one for one in numbered if one not in taken)


def _rows(workspace: Workspace, plan: Plan) -> list[tuple[str, str]]:
    """Say what will be made, and what it will cost."""
    wanted = plan.deployment
    plural = "" if wanted.instance_count == 1 else "s"
    rows = [
        ("workspace", f"{workspace.name} in {workspace.location}, named by {workspace.address.source}"),
        ("model", f"{plan.model}, with {len(plan.recorded.rows)} recorded rows"),
        ("endpoint", f"{plan.endpoint}{', to be created' if plan.is_new else ''}"),
        *(("", f"{one.name}: {one.model}, {one.traffic} % of the traffic") for one in plan.former),
        ("deployment", f"{wanted.name}, {wanted.instance_count} instance{plural} of {plan.size}"),
        *(("", f"! {remark}") for remark in plan.remarks),
    ]
    if plan.quota.verdict == "enough" or (plan.quota.verdict == "unknown" and plan.quota.text):
        rows.append(("quota", f"{plan.quota.text}; what the service keeps for upgrades is among them"))
    if plan.price is not None:
        both = "; the former one costs as well until the traffic has moved" if plan.former else ""
        day = dollars(24 * plan.price)
        rows.append(("price", f"{dollars(plan.price)} an hour, {day} a day, as long as it stands{both}"))
    return rows


# -- making it ---------------------------------------------------------------------------------------


def _make(workspace: Workspace, plan: Plan, made: Made) -> None:
    """Create the endpoint where it is missing, and the deployment; note each before it is asked for."""
    if plan.is_new:
        made.endpoint = True
        workspace.screen.update(f"creating the endpoint {plan.endpoint}")
        endpoints.create(workspace, plan.endpoint)
    made.deployment = True
    workspace.screen.update(f"creating the deployment {plan.deployment.name}")
    endpoints.deploy(workspace, plan.deployment)


def _switch(workspace: Workspace, plan: Plan, made: Made) -> None:
    made.traffic = True
    workspace.screen.update(f"moving the traffic to {plan.deployment.name}")
    endpoints.move_traffic(workspace, plan.endpoint, {plan.deployment.name: 100})


def _take_back(workspace: Workspace, plan: Plan, made: Made) -> None:
    """Take away what was made, without hiding why; what cannot be taken away is named."""
    screen, name, deployment = workspace.screen, plan.endpoint, plan.deployment.name
    what = f"the endpoint {name}" if made.endpoint else f"the deployment {deployment}"
    try:
        if not (made.endpoint or made.deployment) or not endpoints.exists(workspace, name, made.endpoint, deployment):
            return  # it was refused
        screen.say(f"taking {what} away again", "yellow")
        if not made.endpoint and made.traffic:
            endpoints.move_traffic(workspace, name, {one.name: one.traffic for one in plan.former if one.traffic})
        endpoints.delete(workspace, name, "" if made.endpoint else deployment, wait=False)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not hide what has failed before
        cause = error.cause if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        screen.say(f"{what} may still be there, and cost: {cause}", "red")
        screen.say(f"  fix: {command('undeploy', name) if made.endpoint else f'delete it in the studio: {name}'}")


def _retire(workspace: Workspace, plan: Plan) -> None:
    """Delete the deployments that had the traffic before; those that had none are somebody's, and stay."""
    for one in plan.former:
        if one.traffic:
            with workspace.screen.status(f"deleting the former deployment {one.name}"):
                endpoints.delete(workspace, plan.endpoint, one.name)
        else:
            workspace.screen.say(f"! {one.name} gets no traffic, and costs as long as it stands")


def _conclude(workspace: Workspace, plan: Plan, largest: float, address: str) -> None:
    how = "exactly" if not largest else f"to {largest:.0e}"
    workspace.screen.pairs(
        [
            ("verified", f"it answers its {len(plan.recorded.rows)} recorded rows as on the day of training, {how}"),
            ("traffic", f"100 % to {plan.deployment.name} ({plan.model})"),
            ("address", address),
            ("key", f"az ml online-endpoint get-credentials -n {plan.endpoint}"),
            ("look", command("endpoints")),
            ("end", f"{command('undeploy', plan.endpoint)}   # it costs until then"),
        ]
    )
