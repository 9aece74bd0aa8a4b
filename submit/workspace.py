"""The workspace, and what a job needs to be there: the cluster, the environment."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from submit import service
from submit.screen import Screen
from trainer.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import AmlCompute
    from azure.core.credentials import TokenCredential
    from mlflow import MlflowClient

T = TypeVar("T")

HERE = Path(__file__).resolve().parent
COMPUTE_YML = HERE / "compute.yml"
ENVIRONMENT_YML = HERE / "environment.yml"
CONFIG = ("config.json", ".azureml/config.json")
VARIABLES = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME")
_KEYS = ("subscription_id", "resource_group", "workspace_name")
# A cluster that somebody else is creating at this moment
_CREATION_SECONDS = 600.0


@dataclass(frozen=True)
class Address:
    """Which workspace is meant, and who says so."""

    subscription_id: str
    resource_group: str
    workspace_name: str
    source: str


def find_address(start: Path) -> Address:
    """Find the workspace: the three environment variables, or the nearest ``config.json`` above a folder.

    The variables go first: they are set for one command, the file lies around.

    Raises
    ------
    UserError
        There is neither, or they are incomplete.
    """
    values = [os.environ.get(name, "") for name in VARIABLES]
    if all(values):
        return Address(values[0], values[1], values[2], "the environment variables")
    for folder in (start, *start.parents):
        for name in CONFIG:
            if (folder / name).is_file():
                return _read_config(folder / name)
    given = [name for name, value in zip(VARIABLES, values, strict=True) if value]
    missing = [name for name in VARIABLES if name not in given]
    raise UserError(
        f"no workspace is named: {start} and the folders above it have no config.json"
        + (f", and of the environment variables only {' and '.join(given)} is set" if given else ""),
        "download config.json from the workspace's page in the Azure portal into this folder, or set "
        + ", ".join(missing),
    )


def _read_config(path: Path) -> Address:
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
        subscription, group, name = (str(config[key]) for key in _KEYS)
        return Address(subscription, group, name, str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not the configuration of a workspace: {type(error).__name__} {error}",
            f"it holds one JSON object with {', '.join(_KEYS)}; download it again from the Azure portal",
        ) from error


@dataclass(frozen=True)
class Workspace:
    """A workspace that has answered.

    Attributes
    ----------
    address : Address
    location : str
        Its region.
    tracking_uri : str
        Of its MLflow.
    """

    address: Address
    location: str
    tracking_uri: str
    client: "MLClient"
    credential: "TokenCredential"
    screen: Screen

    @property
    def name(self) -> str:
        """Its name."""
        return self.address.workspace_name

    def call(self, what: str, function: "Callable[[], T]", patience: float = service.PATIENCE) -> T:
        """Call the service: `submit.service.call`."""
        return service.call(what, function, self.screen, patience)

    def mlflow(self) -> "MlflowClient":
        """Give a client of the workspace's MLflow, signed in with the same credential.

        Left alone, azureml-mlflow would go through a chain of credentials of its own, which ends in a browser.
        """
        import mlflow
        from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader as Loader
        from azureml.mlflow._internal.utils import ServiceContext

        if not Loader.has_service_context(self.tracking_uri):
            context = ServiceContext(
                host_url=f"https://{self.tracking_uri.split('/')[2]}",
                subscription_id=self.address.subscription_id,
                resource_group_name=self.address.resource_group,
                workspace_name=self.name,
                auth=self.credential,
            )
            Loader.add_service_context(self.tracking_uri, context)
        return mlflow.MlflowClient(self.tracking_uri, self.tracking_uri)


def connect(address: Address, screen: Screen, interactive: bool) -> Workspace:
    """Sign in, once, and ask the workspace who it is: that is the probe of both.

    Raises
    ------
    UserError
        Nobody is signed in, there is no such workspace, or it is not permitted to look at it.
    """
    service.quiet()
    from azure.ai.ml import MLClient
    from azure.core.exceptions import ResourceNotFoundError

    credential = service.credential(interactive)

    def ask() -> Workspace:
        client = MLClient(
            credential,
            address.subscription_id,
            address.resource_group,
            address.workspace_name,
            enable_telemetry=False,
            show_progress=False,
            retry_total=1,
        )
        found = client.workspaces.get(address.workspace_name)
        return Workspace(address, str(found.location), str(found.mlflow_tracking_uri), client, credential, screen)

    try:
        return service.call(f"reach the workspace {address.workspace_name}", ask, screen)
    except ResourceNotFoundError as error:
        raise UserError(
            f"there is no workspace {address.workspace_name!r} in resource group {address.resource_group!r} of "
            f"subscription {address.subscription_id}",
            f"correct {address.source}, or create the workspace; `az account show` names the subscription you are in",
        ) from error


@dataclass(frozen=True)
class Cluster:
    """The cluster that a job is to run on.

    Attributes
    ----------
    wanted : AmlCompute
        As compute.yml and the command line say.
    exists : bool
        Where it does, it is used as it is.
    max_nodes : int
    text : str
        What it is, in one line.
    remarks : tuple of str
        In what it differs from what was wanted; what will keep a job waiting.
    """

    wanted: "AmlCompute"
    exists: bool
    max_nodes: int
    text: str
    remarks: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.wanted.name)


def plan_cluster(
    workspace: Workspace, name: str | None, size: str | None, max_nodes: int | None, low_priority: bool
) -> Cluster:
    """Look at the cluster that the command line asks for, without changing anything.

    Raises
    ------
    UserError
        There is no such size of virtual machines, or what has that name is no cluster.
    """
    from azure.ai.ml import load_compute
    from azure.core.exceptions import ResourceNotFoundError

    wanted: Any = load_compute(COMPUTE_YML)
    wanted.name = name or wanted.name
    wanted.size = size or wanted.size
    wanted.max_instances = max_nodes or wanted.max_instances
    wanted.tier = "low_priority" if low_priority else wanted.tier
    sizes = workspace.call(
        "ask for sizes", lambda: list(workspace.client.compute.list_sizes(location=workspace.location))
    )
    by_name = {str(one.name).casefold(): one for one in sizes}
    if wanted.size.casefold() not in by_name:
        raise UserError(
            f"{wanted.size!r} is not a size of virtual machines in {workspace.location}"
            f"{nearest(wanted.size, [str(one.name) for one in sizes])}",
            "give --size NAME; `az ml compute list-sizes` lists them",
        )
    try:
        found: Any = workspace.call("look at the cluster", lambda: workspace.client.compute.get(wanted.name))
    except ResourceNotFoundError:
        found = None
    if found is not None and found.type != "amlcompute":
        raise UserError(
            f"{wanted.name} is not a cluster, but a compute of type {found.type}", "give --cluster with another name"
        )
    if found is not None and _state(found) == "Failed":
        raise UserError(
            f"the cluster {wanted.name} could not be created when somebody tried (state Failed)",
            f"delete it (`az ml compute delete -n {wanted.name}`), or give --cluster with another name",
        )
    actual = wanted if found is None else found
    vm = by_name.get(str(actual.size).casefold())
    text = (
        f"{wanted.name}, {actual.min_instances} to {actual.max_instances} nodes of {actual.size}, {_tier(actual)}"
        f"{'' if found is not None else ', to be created'}"
    )
    # compute.yml says what its own cluster is like; of another, only what the command line asks for is wanted
    own = name is None or name == default_cluster()
    asked = {
        "size": wanted.size if own or size else None,
        "largest number of nodes": wanted.max_instances if own or max_nodes else None,
        "priority": _tier(wanted) if own or low_priority else None,
    }
    remarks = [] if found is None else _differences(asked, found)
    quota = _quota(workspace, vm, _tier(actual)) if vm is not None else None
    if quota is not None:
        remarks.append(quota)
    return Cluster(wanted, found is not None, int(actual.max_instances), text, tuple(remarks))


def check_nodes(cluster: Cluster, nodes: int) -> None:
    """Check that a cluster can have as many nodes as a job asks for.

    Raises
    ------
    UserError
        It cannot: the job would wait for ever.
    """
    if nodes > cluster.max_nodes:
        raise UserError(
            f"the job asks for {nodes} nodes, and the cluster {cluster.name} has at most {cluster.max_nodes}",
            "give fewer --nodes, or --cluster NAME and --max-nodes for a larger one",
        )


def _state(compute: Any) -> str:
    return str(getattr(compute.provisioning_state, "value", compute.provisioning_state))


def _tier(compute: Any) -> str:
    return "low priority" if "low" in str(compute.tier or "dedicated").lower() else "dedicated"


def _differences(asked: dict[str, Any], found: Any) -> list[str]:
    actual = dict(zip(asked, (found.size, found.max_instances, _tier(found)), strict=True))
    return [
        f"its {what} is {actual[what]}, not {value}: left as it is (--cluster NAME takes or makes another)"
        for what, value in asked.items()
        if value is not None and str(value).casefold() != str(actual[what]).casefold()
    ]


def _quota(workspace: Workspace, vm: Any, tier: str) -> str | None:
    """Say so where the subscription's quota does not allow one node of a size; a job would wait for ever."""
    facts = vars(vm)
    cores = int(facts.get("vCPUs") or facts.get("v_cp_us") or 0)
    family = "low-priority" if tier == "low priority" else str(facts.get("family") or "").casefold()
    usages = workspace.call(
        "ask for quota", lambda: list(workspace.client.compute.list_usage(location=workspace.location))
    )
    for usage in usages:
        name = usage.name if isinstance(usage.name, dict) else vars(usage.name)
        matches = family in (str(name.get("value")).casefold(), str(name.get("localized_value")).casefold())
        if tier == "low priority":
            matches = "low" in str(name.get("value")).casefold()
        # -1 stands for no limit of its own
        if matches and usage.limit is not None and 0 <= usage.limit < cores:
            return (
                f"the quota of {name.get('value')} in {workspace.location} is {usage.limit} cores, one node takes "
                f"{cores}: a job will wait in the queue (ask for more under Quotas in the portal, or take another size)"
            )
    return None


def create_cluster(workspace: Workspace, cluster: Cluster) -> None:
    """Create the cluster where it is missing, and wait until it is there.

    Another client may be doing the same: then that one's is taken.

    Raises
    ------
    UserError
        It is not permitted, or the service refuses.
    """
    import time

    if not cluster.exists:
        with workspace.screen.status(f"creating cluster {cluster.name}"):
            workspace.call(
                f"create the cluster {cluster.name}",
                lambda: workspace.client.compute.begin_create_or_update(cluster.wanted).result(),
            )
    until = time.monotonic() + _CREATION_SECONDS
    while True:
        found: Any = workspace.call("look at the cluster", lambda: workspace.client.compute.get(cluster.name))
        state = _state(found)
        if state not in ("Creating", "Updating") or time.monotonic() > until:
            break
        time.sleep(2)
    if state != "Succeeded":
        raise UserError(
            f"the cluster {cluster.name} is in state {state}: {found.provisioning_errors or 'no reason is given'}",
            "look at it in the studio (Compute), or give --cluster with another name",
        )


@dataclass(frozen=True)
class Environment:
    """A version of the environment.

    Attributes
    ----------
    name : str
    version : str
        Made from the contents of environment.yml and conda.yml.
    """

    name: str
    version: str

    @property
    def reference(self) -> str:
        """As job.yml names it."""
        return f"azureml:{self.name}:{self.version}"


def read_environment() -> Environment:
    """Work out the environment's version: a hash of what is in the image's name and the conda file, not of comments."""
    document = yaml.safe_load(ENVIRONMENT_YML.read_text())
    conda = yaml.safe_load((HERE / document["conda_file"]).read_text())
    text = json.dumps([document["image"], conda], sort_keys=True)
    return Environment(str(document["name"]), hashlib.sha256(text.encode()).hexdigest()[:16])


def has_environment(workspace: Workspace, environment: Environment) -> bool:
    """Say whether the workspace knows this version."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        workspace.call(
            "look at the environment", lambda: workspace.client.environments.get(environment.name, environment.version)
        )
    except ResourceNotFoundError:
        return False
    return True


def create_environment(workspace: Workspace, environment: Environment) -> None:
    """Create this version; where another client has just done so, nothing changes."""
    from azure.ai.ml import load_environment

    entity = load_environment(ENVIRONMENT_YML, params_override=[{"version": environment.version}])
    workspace.call(
        f"create the environment {environment.name}:{environment.version}",
        lambda: workspace.client.environments.create_or_update(entity),
    )


def default_cluster() -> str:
    """Give the name of the cluster in compute.yml."""
    return str(yaml.safe_load(COMPUTE_YML.read_text())["name"])
