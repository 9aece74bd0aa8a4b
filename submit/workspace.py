"""The workspace: which one is meant, signing in, and asking it.

What is not public in the SDKs stands here and nowhere else: `Workspace.run_details`, `.jobs` and `.mlflow`, `quiet`.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import refusals, service
from .console import Screen
from .errors import UserError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.core.credentials import TokenCredential
    from mlflow import MlflowClient

T = TypeVar("T")

# In each folder from here up, in the order in which the SDK reads them
CONFIG = tuple(
    f"{folder}{name}" for folder in (".azureml/", "aml_config/", "") for name in ("config.json", "project.json")
)
VARIABLES = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME")
KEYS = ("subscription_id", "resource_group", "workspace_name")
_SCOPE = re.compile(r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/[^/]+/workspaces/([^/]+)", re.IGNORECASE)
_TRIPLE = re.compile(r"([^/\s:]+)/([^/\s]+)/([^/\s]+)")
_DOWNLOAD = "download config.json from the workspace's page in the Azure portal into this folder"


@dataclass(frozen=True)
class Address:
    """Which workspace is meant, and who says so."""

    subscription_id: str
    resource_group: str
    workspace_name: str
    source: str
    given: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """What another command has to be given to mean the same workspace."""
        return ("--workspace", self.given) if self.given else ()


def find_address(start: Path, named: str | None = None) -> Address:
    """Find the workspace: the three environment variables, or the nearest ``config.json`` above a folder.

    The variables go first: they are set for one command, the file lies around. A file of that name which is another
    tool's is passed over. Before both goes what is `named`: a file, SUBSCRIPTION/GROUP/NAME, or an address that has
    these, as the tracking URI of a workspace.
    """
    if named is not None:
        return _named(named)
    values = [os.environ.get(name, "").strip() for name in VARIABLES]
    if all(values):
        return _address(values, "the environment variables")
    passed = []
    for path in (folder / name for folder in (start, *start.parents) for name in CONFIG):
        if path.is_file():
            found = _read_config(path)
            if found is not None:
                return _address(found, str(path))
            passed.append(str(path))
    given = [name for name, value in zip(VARIABLES, values, strict=True) if value]
    missing = [name for name in VARIABLES if name not in given]
    raise UserError(
        f"no workspace is named: {start} and the folders above it have no config.json"
        + (f" of a workspace ({', '.join(passed)} is another tool's, or cut off)" if passed else "")
        + (f", and of the environment variables only {' and '.join(given)} is set" if given else ""),
        f"{_DOWNLOAD}, or set {', '.join(missing)}",
    )


def _named(given: str) -> Address:
    path = Path(given).expanduser()
    is_file = path.is_file()
    found = None if is_file else _SCOPE.search(given) or _TRIPLE.fullmatch(given)
    values = _read_config(path) if is_file else list(found.groups()) if found else None
    if values is None:
        raise UserError(
            f"{given!r} names no workspace",
            "give --workspace with a config.json of one, or SUBSCRIPTION/RESOURCE-GROUP/NAME",
        )
    return replace(_address(values, given if is_file else "--workspace"), given=given)


def _read_config(path: Path) -> list[Any] | None:
    """Read what a file says of a workspace; None where it is about something else."""
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    scope = config.get("Scope")
    if isinstance(scope, str) and (found := _SCOPE.search(scope)):
        return list(found.groups())
    if "workspace_name" not in config and "name" in config:
        config = config | {"workspace_name": config["name"]}
    return [config[key] for key in KEYS] if all(key in config for key in KEYS) else None


def _address(values: list[Any], source: str) -> Address:
    for key, value in zip(KEYS, values, strict=True):
        if not isinstance(value, str) or not value.strip() or re.search(r"[<>{}\s]", value.strip()):
            shown = "null" if value is None else repr(value)
            raise UserError(f"in {source} the {key} is {shown}, which stands for one that is to be put in", _DOWNLOAD)
    subscription, group, name = (value.strip() for value in values)
    return Address(subscription, group, name, source)


@dataclass(frozen=True)
class Workspace:
    """A workspace that has answered.

    Attributes
    ----------
    location : str
        Its region.
    storage : str
        ARM id of its storage account; empty where it does not say.
    by_identity : bool
        Its datastores have no keys: who reads or writes needs a role on the storage account.
    """

    address: Address
    location: str
    tracking_uri: str
    storage: str
    by_identity: bool
    client: "MLClient"
    credential: "TokenCredential"
    screen: Screen

    @property
    def name(self) -> str:
        """Its name."""
        return self.address.workspace_name

    def call(self, what: str, function: Callable[[], T], patience: float = service.PATIENCE) -> T:
        """Call the service: `service.call`."""
        return service.call(what, function, self.screen, patience, self.storage)

    def advice(self, what: str, function: Callable[[], T]) -> T | None:
        """Ask for what would be good to know. Where it is refused: None, and one dim line that says so.

        Sizes, quota and prices belong to the subscription, of which a role on the workspace may see nothing.
        """
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return self.call(f"look up the {what}", function, service.ADVICE_PATIENCE)
        except (UserError, ResourceNotFoundError) as error:
            status = refusals.status_of(error)
            if status == 401:
                raise
            why = {403: "not readable with your role", None: "the service does not answer"}.get(
                status, f"the service does not tell ({status})"
            )
        except (TypeError, AttributeError, KeyError, ValueError):  # an answer in which the SDK misses something
            why = "the service's answer cannot be read"
        self.screen.say(f"{what}: {why}", "dim")
        return None

    def run_details(self, name: str) -> Any:
        """Return status, error, times, tags and the signed addresses of a job's logs.

        The public interface has no call that gives these without printing; `jobs.stream` itself asks here.
        """
        return self.client.jobs._runs_operations.get_run_details(name)

    def jobs(self) -> Iterator[Any]:
        """List the jobs, newest first; None for one that the client cannot read.

        Left alone, the client ends its list at a job of a kind that it does not know, such as labeling.
        """
        from azure.ai.ml.exceptions import MlException

        operations: Any = self.client.jobs
        read = getattr(operations, "_handle_rest_errors", None)

        def tolerant(job: Any) -> Any:
            try:
                return read(job) if read else None
            except MlException:
                return None

        operations._handle_rest_errors = tolerant
        return iter(operations.list())

    def mlflow(self) -> "MlflowClient":
        """Return a client of the workspace's MLflow, signed in with the same credential.

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
    quiet()
    from azure.ai.ml import MLClient
    from azure.core.exceptions import ResourceNotFoundError

    credential = sign_in(interactive)
    scope = (address.subscription_id, address.resource_group, address.workspace_name)

    def ask() -> Workspace:
        client = MLClient(credential, *scope, enable_telemetry=False, show_progress=False, retry_total=0)
        found = client.workspaces.get(address.workspace_name)
        return Workspace(
            address=address,
            location=re.sub(r"\s", "", str(found.location)).lower(),  # "West Europe" in older ones
            tracking_uri=str(found.mlflow_tracking_uri),
            storage=str(found.storage_account or ""),
            by_identity=str(found.system_datastores_auth_mode).casefold() in ("identity", "userdelegationsas"),
            client=client,
            credential=credential,
            screen=screen,
        )

    try:
        return service.call(f"reach the workspace {address.workspace_name}", ask, screen)
    except ResourceNotFoundError as error:
        if (code := refusals.code_of(error)) in ("SubscriptionNotFound", "InvalidSubscriptionId"):
            raise UserError(
                f"there is no subscription {address.subscription_id}, or your sign-in does not see it",
                f"correct {address.source}; `az account list --refresh` lists those that you see",
            ) from error
        if code == "ResourceGroupNotFound":
            raise UserError(
                f"there is no resource group {address.resource_group!r} in subscription {address.subscription_id}",
                f"correct {address.source}; `az group list --subscription {address.subscription_id}` lists them",
            ) from error
        raise UserError(
            f"there is no workspace {address.workspace_name!r} in resource group {address.resource_group!r} of "
            f"subscription {address.subscription_id}",
            f"correct {address.source}, or create the workspace; `az account show` names the subscription you are in",
        ) from error


def quiet() -> None:
    """Keep the libraries from telling their own story on the user's screen, and from calling home."""
    import logging
    import warnings

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    warnings.simplefilter("ignore")
    import azure.ai.ml  # noqa: F401  # first: it sets the level of its own logger
    from azure.ai.ml._utils import _azureml_polling

    _azureml_polling.print = lambda *_, **__: None  # type: ignore[attr-defined]  # a dot at each look at an operation

    # A call is tried again here, with a line that says so; nobody waits for minutes without a word.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")
    for name in ("azure", "azure.ai.ml", "azureml", "mlflow", "msal", "msrest", "urllib3", "requests", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def sign_in(interactive: bool) -> "TokenCredential":
    """Return the one credential of a submission.

    An identity that the environment names (a service principal, a workload, a managed identity) comes before the
    login of the Azure CLI, which it was set to replace; a browser comes last, and only where somebody can see it.
    """
    from azure.identity import AzureCliCredential, ChainedTokenCredential, DefaultAzureCredential

    named = any(os.environ.get(name) for name in ("AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT"))
    default = DefaultAzureCredential(
        exclude_cli_credential=True,
        exclude_powershell_credential=True,
        exclude_interactive_browser_credential=not interactive,
        process_timeout=20,
    )
    cli = AzureCliCredential(process_timeout=20)
    return ChainedTokenCredential(*((default, cli) if named else (cli, default)))
