"""Every call to the service: tried again where that helps, and explained where it does not."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from .console import Screen
from .errors import UnreachableError, UserError
from .secrets import redact

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

# How long a call is tried again: for advice, while a person waits for an answer, and while a job runs anyway.
ADVICE_PATIENCE, PATIENCE, LONG_PATIENCE = 5.0, 120.0, 1800.0
LONGEST_PAUSE = 15.0
_TRANSIENT = frozenset((408, 409, 429, 500, 502, 503, 504))
# Another client may be doing the same thing at this moment; but what still conflicts then will do so for ever. A 401
# makes the client drop its token and ask for another, once.
_ATTEMPTS = {409: 5, 401: 2}
# On the workspace's storage account; no role on the workspace brings it.
BLOB_ROLE = "Storage Blob Data Contributor"


def call(what: str, function: Callable[[], T], screen: Screen, patience: float = PATIENCE, storage: str = "") -> T:
    """Call the service, again and again with longer pauses where the failure may pass.

    Parameters
    ----------
    what : str
        As in "could not `what`".
    function : callable
        Calling it twice must do no harm.
    patience : float
        Seconds from the first failure after which it is given up.
    storage : str
        ARM id of the workspace's storage account, for the remedy where that one refuses.

    Raises
    ------
    UserError
        Nobody is signed in, or it is not permitted, or the service refuses.
    UnreachableError
        The service did not answer in time.
    ResourceNotFoundError
        What was asked for does not exist; what that means is known to the caller alone.
    """
    from azure.core.exceptions import ResourceNotFoundError
    from tenacity import RetryError, Retrying, retry_if_exception

    began: list[float] = []
    seen: Counter[int | None] = Counter()

    def passes(error: BaseException) -> bool:
        if not isinstance(error, Exception) or isinstance(error, ResourceNotFoundError):
            return False
        began.append(time.monotonic())
        status = status_of(error)
        seen[status] += 1
        return seen[status] < _ATTEMPTS.get(status or 0, 1000) and (status == 401 or _passes(error, status))

    def pause(state: "RetryCallState") -> float:
        return 0.0 if status_of(_error(state)) == 401 else min(2.0 ** (state.attempt_number - 1), LONGEST_PAUSE)

    def over(state: "RetryCallState") -> bool:
        return began[-1] - began[0] + state.upcoming_sleep > patience

    def tell(state: "RetryCallState") -> None:
        if began[-1] - began[0] > 2 or state.upcoming_sleep > 2:
            reason = _reason(status_of(_error(state)))
            screen.say(f"{reason}; trying again in {state.upcoming_sleep:.0f} s ({what})", "dim")

    retrying = Retrying(
        retry=retry_if_exception(passes), wait=pause, stop=over, before_sleep=tell, sleep=lambda s: time.sleep(s)
    )
    try:
        return retrying(function)
    except RetryError as lost:
        error = lost.last_attempt.exception()
        raise UnreachableError(
            f"could not {what}: {_reason(status_of(error))} for {patience:.0f} s",
            "check the network and https://status.azure.com, then try again",
        ) from error
    except ResourceNotFoundError:
        raise
    except Exception as error:
        raise _explained(what, error, storage) from error


def _error(state: "RetryCallState") -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Go from an error to what caused it: libraries wrap."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "inner_exception", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__


def status_of(error: BaseException | None) -> int | None:
    """Find the HTTP status that an error is about, None if there was no answer."""
    for link in _chain(error):
        for value in (
            getattr(link, "status_code", None),
            getattr(getattr(link, "response", None), "status_code", None),
        ):
            if isinstance(value, int):
                return value
        if hasattr(link, "get_http_status_code"):
            return int(link.get_http_status_code())
    return None


def _passes(error: BaseException, status: int | None) -> bool:
    """Return whether a failure may be over at the next attempt."""
    import requests
    from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError

    if status is not None:
        return status in _TRANSIENT
    broken = (ServiceRequestError, ServiceResponseError, requests.RequestException, ConnectionError, TimeoutError)
    links = list(_chain(error))
    return not any(isinstance(link, ClientAuthenticationError) for link in links) and any(
        isinstance(link, broken) for link in links
    )


def _reason(status: int | None) -> str:
    return "no answer from the service" if status is None else f"the service answered {status}"


def message(error: BaseException) -> str:
    """Return what the service says of an error in one line, without secrets and without its surroundings."""
    body = getattr(error, "json", None)  # of the workspace's MLflow, which has a shape of its own
    told = body.get("Error") if isinstance(body, dict) else None
    inner = getattr(error, "error", None)
    text = str(
        (told.get("Message") if isinstance(told, dict) else None)
        or getattr(inner, "message", None)
        or getattr(error, "message", None)
        or error
    )
    lines = [line.strip() for line in redact(text).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return first.removeprefix("(UserError) ").removeprefix("(BadArgument) ")


def _explained(what: str, error: Exception, storage: str) -> Exception:
    """Turn a failure that stays into the line that helps; a bug of this project stays what it is."""
    import requests
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError, ClientAuthenticationError
    from mlflow.exceptions import MlflowException

    if isinstance(error, UserError):
        return error
    known: tuple[Any, ...] = (AzureError, MlException, MlflowException, requests.RequestException)
    links = list(_chain(error))
    if not any(isinstance(link, known) for link in links):
        return error
    status = status_of(error)
    account, code = _storage(links)
    if status in (401, 403, 409) and account:
        return storage_refuses(what, account, code, storage)
    if status == 403:
        return UserError(
            f"you are not permitted to {what} (403): {message(error)}",
            "ask an owner of the workspace for the role 'AzureML Data Scientist' (creating a cluster takes "
            "'AzureML Compute Operator' as well; --serverless needs no cluster)",
        )
    if status == 401 or any(isinstance(link, ClientAuthenticationError) for link in links):
        return UserError(
            f"could not {what}: nobody is signed in to Azure, or the sign-in has expired",
            "run `az login` (--debug shows what each way to sign in says)",
        )
    return UserError(f"could not {what}: {message(error)}", "correct what it names; --debug shows all that was said")


def _storage(links: list[BaseException]) -> tuple[str, str]:
    """Return the storage account that answered, and its error code; empty where it was another service."""
    for link in links:
        answer: Any = getattr(link, "response", None)
        request = getattr(answer, "request", None)
        host = urlsplit(str(getattr(request, "url", ""))).hostname or ""
        account, dot, rest = host.partition(".")
        if dot and rest.split(".")[0] in ("blob", "dfs"):
            return account, str(getattr(answer, "headers", {}).get("x-ms-error-code") or "")
    return "", ""


def storage_refuses(what: str, account: str, code: str, storage: str = "") -> UserError:
    """Say who or what keeps the door of a storage account shut, and how to have it opened."""
    scope = storage if storage.rpartition("/")[2] == account else f"(the id of {account})"
    grant = f"az role assignment create --assignee (you) --role '{BLOB_ROLE}' --scope {scope}"
    cause = f"the storage account {account} refuses to {what} (403{' ' + code if code else ''})"
    if code == "KeyBasedAuthenticationNotPermitted":
        return UserError(
            f"{cause}: its keys are forbidden, and the workspace's datastores use them",
            f"have an owner run `az ml workspace update --system-datastores-auth-mode identity`, and `{grant}`",
        )
    if code == "AuthorizationFailure":
        return UserError(
            f"{cause}: its firewall does not let this machine in",
            f"have its address added under Networking of {account}, or work in its network; or is it the role "
            f"'{BLOB_ROLE}' that is missing: `{grant}`",
        )
    return UserError(
        f"{cause}: a role on the workspace does not reach it", f"ask an owner for '{BLOB_ROLE}' on it: `{grant}`"
    )
