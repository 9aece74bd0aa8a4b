"""One door to the service: every call is tried again where that helps, and explained where it does not."""

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from submit.screen import Screen, redact
from trainer.errors import UserError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

T = TypeVar("T")

# How long a call is tried again: while a person waits for an answer, and while a job runs anyway.
PATIENCE = 120.0
LONG_PATIENCE = 1800.0
LONGEST_PAUSE = 15.0

_TRANSIENT = frozenset((408, 409, 429, 500, 502, 503, 504))
# Another client may be doing the same thing at this moment; but what still conflicts then will do so for ever.
_CONFLICT, _CONFLICTS = 409, 4
_RENEWALS = 1


class UnreachableError(UserError):
    """The service did not answer for longer than it was waited for; what it does goes on."""


def quiet() -> None:
    """Keep the libraries from telling their own story on the user's screen, and from calling home."""
    import logging
    import warnings

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    warnings.simplefilter("ignore")
    import azure.ai.ml  # noqa: F401  # first: it sets the level of its own logger

    # A call is tried again here, with a line that says so.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    for name in ("azure", "azure.ai.ml", "azureml", "mlflow", "msal", "msrest", "urllib3", "requests", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def credential(interactive: bool) -> "TokenCredential":
    """Give the one credential of a submission.

    An identity that the environment names (a service principal, a workload, a managed identity) comes before the
    login of the Azure CLI, which it was set to replace; a browser comes last, and only where somebody can see it.

    Parameters
    ----------
    interactive : bool
        Whether a browser may be opened.
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


def call(what: str, function: Callable[[], T], screen: Screen, patience: float = PATIENCE) -> T:
    """Call the service, again and again with longer pauses where the failure may pass.

    Parameters
    ----------
    what : str
        As in "could not `what`".
    function : callable
        Called without arguments; calling it twice must do no harm.
    screen : Screen
    patience : float
        Seconds from the first failure after which it is given up.

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

    began: float | None = None
    pause, conflicts, renewals = 1.0, 0, 0
    while True:
        try:
            return function()
        except ResourceNotFoundError:
            raise
        except Exception as error:
            status = _status(error)
            renewals += status == 401  # the client has dropped its token, and asks for another
            conflicts += status == _CONFLICT
            if status == 401 and renewals <= _RENEWALS:
                continue
            if not _passes(error, status) or conflicts > _CONFLICTS:
                raise _explained(what, error, status) from error
            now = time.monotonic()
            if began is None:
                began = now
            if now - began + pause > patience:
                raise UnreachableError(
                    f"could not {what}: {_reason(status)} for {patience:.0f} s",
                    "check the network and https://status.azure.com, then try again",
                ) from error
            if now - began > 2 or pause > 2:
                screen.say(f"{_reason(status)}; trying again in {pause:.0f} s ({what})", "dim")
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Go from an error to what caused it: libraries wrap."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "inner_exception", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
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
    """Say whether a failure may be over at the next attempt."""
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
    if status is None:
        return "no answer from the service"
    return f"the service answered {status}"


def message(error: BaseException) -> str:
    """Give what the service says of an error in one line, without secrets and without its surroundings."""
    inner = getattr(error, "error", None)
    text = str(getattr(inner, "message", None) or getattr(error, "message", None) or error)
    lines = [line.strip() for line in redact(text).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return first.removeprefix("(UserError) ").removeprefix("(BadArgument) ")


def _explained(what: str, error: Exception, status: int | None) -> Exception:
    """Turn a failure that stays into the line that helps; a bug of this project stays what it is."""
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError, ClientAuthenticationError
    from mlflow.exceptions import MlflowException

    if isinstance(error, UserError):
        return error
    known: tuple[Any, ...] = (AzureError, MlException, MlflowException)
    if not any(isinstance(link, known) for link in _chain(error)):
        return error
    if status == 403:
        return UserError(
            f"you are not permitted to {what} (403): {message(error)}",
            "ask an owner of the workspace for the role 'AzureML Data Scientist' (creating a cluster takes "
            "'AzureML Compute Operator' as well)",
        )
    if status == 401 or any(isinstance(link, ClientAuthenticationError) for link in _chain(error)):
        return UserError(
            f"could not {what}: nobody is signed in to Azure, or the sign-in has expired",
            "run `az login` (--debug shows what each way to sign in says)",
        )
    return UserError(f"could not {what}: {message(error)}", "mend what it names; --debug shows all that was said")
