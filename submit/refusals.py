"""What the service refuses, in one line of cause, and one of the remedy that belongs to who has refused."""

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from .errors import UserError
from .secrets import redact

# On the workspace's storage account; no role on the workspace brings it.
BLOB_ROLE = "Storage Blob Data Contributor"
_ROLE = (
    "ask an owner of the workspace for the role 'AzureML Data Scientist' (creating a cluster takes "
    "'AzureML Compute Operator' as well; --serverless needs no cluster)"
)
# A 403 that no role opens: what it says, and what does.
_OTHER_DOORS = (
    (
        re.compile(r"private ?(?:link|endpoint)|public (?:network )?access|network security perimeter", re.IGNORECASE),
        "the workspace is closed to public networks: work in its own (VPN, or a machine in it), or have an owner let "
        "this address in (the workspace's page, Networking)",
    ),
    (
        re.compile(r"disallowed by policy", re.IGNORECASE),
        "a policy of the subscription forbids it: ask whoever manages it what is allowed (--size, --cluster of "
        "somebody's, --serverless)",
    ),
)
_TENANT = re.compile(r"must match the tenant '?https://[^/']+/(?P<tenant>[0-9a-f-]{36})", re.IGNORECASE)
_ENTRA = re.compile(r"AADSTS\d+")
# A secret that has expired, and one that never was
_SECRET = ("AADSTS7000222", "AADSTS7000215")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Go from an error to what caused it: libraries wrap."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        inner = getattr(error, "inner_exception", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__


def status_of(error: BaseException | None) -> int | None:
    """Find the HTTP status that an error is about, None if there was no answer."""
    for link in chain(error):
        for value in (
            getattr(link, "status_code", None),
            getattr(getattr(link, "response", None), "status_code", None),
        ):
            if isinstance(value, int):
                return value
        # MLflow's client says 500 of what has never reached a server, too
        if hasattr(link, "get_http_status_code") and (hasattr(link, "json") or link.error_code != "INTERNAL_ERROR"):  # type: ignore[attr-defined]
            return int(link.get_http_status_code())
    return None


def code_of(error: BaseException | None) -> str:
    """Return the service's code of an error, as Azure Resource Manager names it; empty where it has none."""
    return next(
        (str(code) for link in chain(error) if (code := getattr(getattr(link, "error", None), "code", None))), ""
    )


def asked_to_wait(error: BaseException | None) -> float:
    """Return the seconds that the service wants to be left alone: Retry-After, a number or a date; 0 by default."""
    for link in chain(error):
        told = (getattr(getattr(link, "response", None), "headers", None) or {}).get("Retry-After")
        if not told:
            continue
        try:
            return max(0.0, float(told))
        except ValueError:
            pass
        try:
            moment = parsedate_to_datetime(str(told))
        except ValueError:
            continue
        return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    return 0.0


def distrusted(error: BaseException) -> str | None:
    """Return the host whose certificate is not trusted; None where that is not what failed."""
    said = " ".join(str(link) for link in chain(error))
    if "CERTIFICATE_VERIFY_FAILED" not in said:
        return None
    found = re.search(r"host='([^']+)'", said)
    return found[1] if found else "the service"


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


def explained(what: str, error: Exception, storage: str) -> Exception:
    """Turn a failure that stays into the line that helps; a bug of this project stays what it is.

    Parameters
    ----------
    what : str
        As in "could not `what`".
    storage : str
        ARM id of the workspace's storage account.
    """
    import requests
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import AzureError, ClientAuthenticationError
    from mlflow.exceptions import MlflowException

    if isinstance(error, UserError):
        return error
    known: tuple[Any, ...] = (AzureError, MlException, MlflowException, requests.RequestException)
    links = list(chain(error))
    if not any(isinstance(link, known) for link in links):
        return error
    if (host := distrusted(error)) is not None:
        return UserError(
            f"could not {what}: the certificate of {host} is signed by nobody whom this Python trusts",
            "export REQUESTS_CA_BUNDLE=FILE.pem, with the certificates of your organisation's proxy added to the usual "
            "ones (`python -m certifi` names their file)",
        )
    status = status_of(error)
    account, code = _storage(links)
    if status in (401, 403, 409) and account:
        refused = storage_refuses(what, account, code, status, storage)
        if refused is not None:
            return refused
    if status == 403:
        said = message(error)
        remedy = next((remedy for words, remedy in _OTHER_DOORS if words.search(said)), _ROLE)
        return UserError(f"you are not permitted to {what} (403): {said}", remedy)
    if status == 401 or any(isinstance(link, ClientAuthenticationError) for link in links):
        return _nobody(what, links)
    return UserError(f"could not {what}: {message(error)}", "correct what it names; --debug shows all that was said")


def _nobody(what: str, links: Sequence[BaseException]) -> UserError:
    """Say who could not sign in, and how that is done."""
    said = " ".join(map(str, links))
    if found := _TENANT.search(said):
        return UserError(
            f"could not {what}: you are signed in to another tenant than that of its subscription",
            f"az login --tenant {found['tenant']}",
        )
    codes = _ENTRA.findall(said)
    client = os.environ.get("AZURE_CLIENT_ID")
    if client and any(code in _SECRET for code in codes):
        return UserError(
            f"could not {what}: the secret of the application {client}, which AZURE_CLIENT_ID names, has expired or is "
            f"wrong ({codes[0]})",
            "set AZURE_CLIENT_SECRET to a new one (`az ad app credential reset --id $AZURE_CLIENT_ID`), or unset "
            "AZURE_CLIENT_ID and run `az login`",
        )
    shown = f" ({codes[0]})" if codes else ""
    return UserError(
        f"could not {what}: nobody is signed in to Azure, or the sign-in has expired{shown}",
        "run `az login` (--debug shows what each way to sign in says)",
    )


def _storage(links: Sequence[BaseException]) -> tuple[str, str]:
    """Return the storage account that answered, and its error code; empty where it was another service."""
    for link in links:
        answer: Any = getattr(link, "response", None)
        request = getattr(answer, "request", None)
        host = urlsplit(str(getattr(request, "url", ""))).hostname or ""
        account, dot, rest = host.partition(".")
        if dot and rest.split(".")[0] in ("blob", "dfs"):
            return account, str(getattr(answer, "headers", {}).get("x-ms-error-code") or "")
    return "", ""


def is_expired(error: BaseException) -> bool:
    """Whether a storage account refuses a signature that it may have taken before."""
    return _storage(list(chain(error)))[1] == "AuthenticationFailed"


def storage_refuses(what: str, account: str, code: str, status: int, storage: str = "") -> UserError | None:
    """Say who or what keeps the door of a storage account shut, and how to have it opened; None where it is open.

    A conflict (409) is one of blobs, but for an account that lets nobody in without a signature.
    """
    if status == 409 and code not in ("", "PublicAccessNotPermitted", "KeyBasedAuthenticationNotPermitted"):
        return None
    scope = (
        storage
        if storage.rpartition("/")[2] == account
        else f"$(az storage account show -n {account} --query id -o tsv)"
    )
    grant = f"az role assignment create --assignee YOUR_SIGN_IN_NAME --role '{BLOB_ROLE}' --scope {scope}"
    cause = f"the storage account {account} refuses to {what} ({status}{' ' + code if code else ''})"
    if code == "AuthenticationFailed":
        return UserError(
            f"{cause}: the signature that the workspace gives has expired, or is not valid yet",
            "compare this machine's clock (`date -u`) with the time, and try again; where the account's keys were "
            "changed, an owner runs `az ml workspace sync-keys`",
        )
    if code == "KeyBasedAuthenticationNotPermitted":
        return UserError(
            f"{cause}: its keys are forbidden, and the workspace's datastores use them",
            f"have an owner run `az ml workspace update --system-datastores-auth-mode identity`, and `{grant}`",
        )
    if code in ("AuthorizationFailure", "AuthorizationSourceIPMismatch"):
        return UserError(
            f"{cause}: its firewall does not let this machine in",
            f"have its address added under Networking of {account}, or work in its network; or is it the role "
            f"'{BLOB_ROLE}' that is missing: `{grant}`",
        )
    if code == "AccountIsDisabled":
        return UserError(f"{cause}: it is disabled", "look at the account, and its subscription, in the portal")
    return UserError(
        f"{cause}: a role on the workspace does not reach it", f"ask an owner for '{BLOB_ROLE}' on it: `{grant}`"
    )
