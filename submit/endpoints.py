"""Everything that is said to the workspace about managed online endpoints and their deployments."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import follow, refusals, service, sizes
from .console import can_ask, command, dollars
from .errors import UserError, VerificationError
from .workspace import Workspace

BUSY = ("Creating", "Updating", "Deleting", "Scaling")
# A new container takes a quarter of an hour, most of it for the image; the service itself gives up sooner than this.
LONGEST_SECONDS = 3600.0
# How long the service's words are waited for, when something has failed.
_REASON_SECONDS = 60.0
_LOG_LINES = 60
STUDIO = "look at it in the studio (Endpoints)"
REHEARSE = (
    "rehearse it: `make rehearse-deploy` serves such a model on this machine; the log above, and the studio, tell more"
)
_MODEL = re.compile(r".*/models/(?P<name>[^/]+)/versions/(?P<version>[^/]+)")
# A refusal by what stands behind the control plane: JSON within the message of a detail.
_INNER = re.compile(r'"errors"\s*:\s*\{+\s*"[^"]*"\s*:\s*\[\s*"(?P<text>[^"]+)"')


@dataclass(frozen=True)
class Deployment:
    """A deployment, as the service describes it.

    Attributes
    ----------
    model : str
        ``models:/NAME/VERSION``; the service's own id where it is no registered model.
    traffic : int
        Its share in percent of the endpoint's requests.
    """

    name: str
    model: str
    size: str
    instances: int
    state: str
    traffic: int


def find(workspace: Workspace, name: str) -> Any:
    """Return an endpoint, None where there is none."""
    return _found(workspace, f"look at the endpoint {name}", lambda: workspace.client.online_endpoints.get(name))


def exists(workspace: Workspace, endpoint: str, whole: bool, deployment: str) -> bool:
    """Return whether there is an endpoint (`whole`), or a deployment of it."""
    client = workspace.client
    look: Callable[[], Any] = lambda: client.online_deployments.get(deployment, endpoint)  # noqa: E731
    return (find(workspace, endpoint) if whole else _found(workspace, f"look at {deployment}", look)) is not None


def _found(workspace: Workspace, what: str, ask: Callable[[], Any], patience: float = service.PATIENCE) -> Any:
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return workspace.call(what, ask, patience)
    except ResourceNotFoundError:
        return None


def state_of(found: Any) -> str:
    """Return in which state an endpoint or a deployment is, as the service spells it."""
    return str(getattr(found.provisioning_state, "value", found.provisioning_state) or "")


def deployments(workspace: Workspace, endpoint: Any) -> list[Deployment]:
    """List the deployments of an endpoint, those with traffic first."""
    name = str(endpoint.name)
    listed = workspace.call(
        f"list the deployments of {name}", lambda: list(workspace.client.online_deployments.list(name))
    )
    found = [_read(one, endpoint.traffic or {}) for one in listed]
    return sorted(found, key=lambda one: (-one.traffic, one.name))


def _read(one: Any, traffic: Mapping[str, int]) -> Deployment:
    model = str(getattr(one.model, "id", None) or one.model or "")
    registered = _MODEL.fullmatch(model)
    return Deployment(
        name=str(one.name),
        model=f"models:/{registered['name']}/{registered['version']}" if registered else model,
        size=str(one.instance_type or ""),
        instances=int(one.instance_count or 0),
        state=state_of(one),
        traffic=int(traffic.get(one.name, 0)),
    )


# -- changing ----------------------------------------------------------------------------------------


def create(workspace: Workspace, name: str) -> None:
    """Create an endpoint, and wait until it is there.

    Raises
    ------
    UserError
        The name is taken, or the service refuses.
    VerificationError
        The service has tried, and failed.
    """
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    _put(workspace, f"create the endpoint {name}", ManagedOnlineEndpoint(name=name, auth_mode="key"))


def deploy(workspace: Workspace, deployment: Any) -> None:
    """Create a deployment, and wait until its container answers; where it does not, show its log.

    Raises
    ------
    UserError
        There is no quota, or the service refuses.
    VerificationError
        The container does not come up.
    """
    client, name, endpoint = workspace.client.online_deployments, deployment.name, deployment.endpoint_name
    poller = _send(workspace, f"create the deployment {name}", lambda: client.begin_create_or_update(deployment))
    try:
        _settle(workspace, f"the deployment {name}", poller, lambda: client.get(name, endpoint))
    except VerificationError as error:
        show_log(workspace, endpoint, name)
        raise VerificationError(error.cause, REHEARSE) from error


def move_traffic(workspace: Workspace, name: str, traffic: Mapping[str, int]) -> None:
    """Give the requests of an endpoint to its deployments, in percent, and wait until it is so."""
    endpoint = workspace.call("look at the endpoint", lambda: workspace.client.online_endpoints.get(name))
    endpoint.traffic = dict(traffic)
    _put(workspace, f"move the traffic of {name}", endpoint)


def _put(workspace: Workspace, what: str, endpoint: Any) -> None:
    """Have an endpoint be as it is described, and wait until it is."""
    client, name = workspace.client.online_endpoints, str(endpoint.name)
    poller = _send(workspace, what, lambda: client.begin_create_or_update(endpoint))
    _settle(workspace, f"the endpoint {name}", poller, lambda: client.get(name))


def delete(workspace: Workspace, endpoint: str, deployment: str = "", wait: bool = True) -> None:
    """Delete a deployment, or an endpoint with all that it has; what is not there need not be deleted."""
    client = workspace.client
    if deployment:
        what = f"delete the deployment {deployment}"
        begin = lambda: client.online_deployments.begin_delete(deployment, endpoint)  # noqa: E731
        look = lambda: client.online_deployments.get(deployment, endpoint)  # noqa: E731
    else:
        what = f"delete the endpoint {endpoint}"
        begin = lambda: client.online_endpoints.begin_delete(endpoint)  # noqa: E731
        look = lambda: client.online_endpoints.get(endpoint)  # noqa: E731
    poller = _found(workspace, what, begin)
    if wait and poller is not None:
        _settle(workspace, what.removeprefix("delete "), poller, look)


def _send(workspace: Workspace, what: str, begin: Callable[[], Any]) -> Any:
    """Ask for a change; where it is refused, with the words of what stands behind the control plane."""
    try:
        return workspace.call(what, begin)
    except UserError as error:
        if (refusal := _refusal(error.__cause__)) is None:
            raise
        raise UserError(f"could not {what}: {refusal}", _remedy(refusal)) from error


def _refusal(error: BaseException | None) -> str | None:
    """Find the sentence that a refusal is about: it lies in JSON, in a message, in the details of an error."""
    details = getattr(getattr(error, "error", None), "details", None) or ()
    texts = [str(getattr(one, "message", "")) for one in details]
    found = next((match for text in texts if (match := _INNER.search(text))), None)
    return found["text"].replace("\\n", " ").strip() if found else None


def _remedy(refusal: str) -> str:
    if "quota" in refusal.casefold():
        return "give --instance-type NAME of another family, or ask for quota under Quotas in the studio"
    if "with this name" in refusal or "already exists" in refusal:
        return "give --endpoint with another name: it has to be the only one in its region"
    if "instance type" in refusal.casefold() or "vmsize" in refusal.casefold():
        return (
            "give --instance-type NAME that is listed for online endpoints: https://aka.ms/azureml-online-endpoints-sku"
        )
    return "correct what it names; --debug shows all that was said"


def _settle(workspace: Workspace, what: str, poller: Any, look: Callable[[], Any]) -> None:
    """Look at a resource until nothing more happens to it.

    Raises
    ------
    VerificationError
        It has failed, or takes too long.
    """
    until = time.monotonic() + LONGEST_SECONDS
    pause, longest = follow.poll_seconds()
    while True:
        found = _found(workspace, f"look at {what}", look, service.LONG_PATIENCE)
        state = "" if found is None else state_of(found)
        if state not in BUSY:
            break
        workspace.screen.update(f"{what} is {state.casefold()}")
        if time.monotonic() > until:
            raise VerificationError(
                f"{what} is still {state.casefold()} after {LONGEST_SECONDS / 60:.0f} minutes",
                STUDIO,
            )
        time.sleep(pause)
        pause = min(pause * 1.3, longest)
    if state not in ("Succeeded", ""):
        raise VerificationError(f"{what} has failed: {_reason(poller)}", STUDIO)


def _reason(poller: Any) -> str:
    """Return the service's words about an operation that has failed."""
    from azure.core.exceptions import AzureError

    try:
        poller.result(timeout=_REASON_SECONDS)
    except AzureError as error:
        return _refusal(error) or refusals.message(error)
    return "the service gives no reason"


def show_log(workspace: Workspace, endpoint: str, deployment: str) -> None:
    """Show the last lines of a container's log, if there are any."""
    client = workspace.client.online_deployments
    text = workspace.advice("log", lambda: client.get_logs(deployment, endpoint, _LOG_LINES)) or ""
    if lines := [line.rstrip() for line in text.splitlines() if line.strip()]:
        workspace.screen.say("the last lines of the container's log:", "bold")
        for line in lines:
            workspace.screen.say(f"| {line}")


# -- listing, and taking away ------------------------------------------------------------------------


def show(workspace: Workspace) -> None:
    """List endpoints and deployments, with what they cost as long as they stand."""
    screen = workspace.screen
    rows, total = [], 0.0
    with screen.status("looking at the endpoints"):
        listed = workspace.call("list the endpoints", lambda: list(workspace.client.online_endpoints.list()))
        known = sizes.sizes(workspace, sizes.ENDPOINTS) if listed else None
        for endpoint in sorted(listed, key=lambda one: str(one.name)):
            found = workspace.advice(f"deployments of {endpoint.name}", partial(deployments, workspace, endpoint))
            for one in found or ():
                price = hourly(known, one.size, one.instances)
                total += price or 0.0
                rows.append((
                    str(endpoint.name), one.name, f"{one.traffic} %", one.model, f"{one.instances} x {one.size}",
                    one.state, "" if price is None else dollars(price),
                ))  # fmt: skip
            if not found:
                rows.append((str(endpoint.name), "none", "", "", "", state_of(endpoint), ""))
    if not rows:
        screen.say("no endpoints")
        return
    screen.table(("endpoint", "deployment", "traffic", "model", "instances", "state", "an hour"), rows)
    if total:
        screen.say(f"together {dollars(total)} an hour, {dollars(24 * total)} a day, as long as they stand")


def hourly(known: Mapping[str, sizes.Size] | None, size: str, instances: int) -> float | None:
    """Return USD an hour of some instances; None where the service does not tell."""
    found = (known or {}).get(size.casefold())
    price = found.price("dedicated") if found else None
    return None if price is None else price * instances


def undeploy(workspace: Workspace, name: str, ask: bool) -> bool:
    """Delete an endpoint with its deployments, if somebody agrees; return whether it was done."""
    import click

    screen = workspace.screen
    with screen.status(f"looking at {name}"):
        endpoint = find(workspace, name)
        if endpoint is None:
            raise UserError(
                f"the workspace {workspace.name} has no endpoint {name!r}", f"`{command('endpoints')}` lists them"
            )
        found = deployments(workspace, endpoint)
    screen.say(f"{name} in {workspace.name}, with {len(found)} deployment{'' if len(found) == 1 else 's'}")
    for one in found:
        screen.say(f"  {one.name}: {one.model}, {one.instances} x {one.size}, {one.traffic} % of the traffic")
    if ask:
        if not (screen.terminal and can_ask()):
            raise UserError(f"nobody can be asked whether to delete {name}", command("undeploy", name, "--yes"))
        if not click.confirm("Delete it?", default=False):
            screen.say("nothing was deleted")
            return False
    with screen.status(f"deleting {name}"):
        delete(workspace, name)
    screen.say(f"deleted {name}")
    return True
