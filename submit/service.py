"""Every call to the service: tried again where that helps, and explained where it does not."""

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .console import Screen
from .errors import UnreachableError
from .refusals import asked_to_wait, chain, distrusted, explained, status_of

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

# How long a call is tried again: for advice, while a person waits for an answer, and while a job runs anyway.
ADVICE_PATIENCE, PATIENCE, LONG_PATIENCE = 5.0, 120.0, 1800.0
LONGEST_PAUSE = 15.0
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_TRANSIENT = frozenset((408, 409, 429, 500, 502, 503, 504))
# Another client may be doing the same thing at this moment; but what still conflicts then will do so for ever. A 401
# makes the client drop its token and ask for another, once.
_ATTEMPTS = {409: 5, 401: 2}


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
        if status_of(error := _error(state)) == 401:
            return 0.0
        return max(min(2.0 ** (state.attempt_number - 1), LONGEST_PAUSE), asked_to_wait(error))

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
        raise _given_up(what, error, patience) from error
    except ResourceNotFoundError:
        raise
    except Exception as error:
        raise explained(what, error, storage) from error


def _error(state: "RetryCallState") -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


def _passes(error: BaseException, status: int | None) -> bool:
    """Return whether a failure may be over at the next attempt."""
    import requests
    from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError

    if status is not None:
        return status in _TRANSIENT
    if distrusted(error):
        return False
    broken = (ServiceRequestError, ServiceResponseError, requests.RequestException, ConnectionError, TimeoutError)
    links = list(chain(error))
    return not any(isinstance(link, ClientAuthenticationError) for link in links) and any(
        isinstance(link, broken) for link in links
    )


def _given_up(what: str, error: BaseException | None, patience: float) -> UnreachableError:
    """Say what was waited for in vain."""
    status = status_of(error)
    if (longer := asked_to_wait(error)) > patience:
        return UnreachableError(
            f"could not {what}: {_reason(status)}, and asks to be left alone for {longer:.0f} s",
            "try again then: it has had too many requests, of this machine or of others in the subscription",
        )
    proxies = [name for name in _PROXIES if os.environ.get(name)] if status is None else []
    through = f", the proxy that {proxies[0]} names" if proxies else ""
    return UnreachableError(
        f"could not {what}: {_reason(status)} for {patience:.0f} s",
        f"check the network{through} and https://status.azure.com, then try again",
    )


def _reason(status: int | None) -> str:
    return "no answer from the service" if status is None else f"the service answered {status}"
