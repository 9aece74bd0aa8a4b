"""Ask an MLflow server, or the database behind it, whether it is there; say why not."""

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trainer import causes
from trainer.causes import DEFAULT_STORE, SIGN_IN, unreachable
from trainer.secrets import redact, without_secrets

if TYPE_CHECKING:
    import requests
    from sqlalchemy import URL, Connection

# To open a connection; how long an answer may take is MLflow's setting, MLFLOW_HTTP_REQUEST_TIMEOUT.
CONNECT_SECONDS = 10
# After which it is said what is waited for.
SILENT_SECONDS = 5.0
# A server that answers 429 or 5xx is asked again, after these pauses.
PAUSES = (1.0, 3.0)


# -- a server --------------------------------------------------------------------------------------


def ask(uri: str) -> None:
    """Ask a server for an experiment, by MLflow's own client with all its settings.

    Raises
    ------
    UnreachableError
        It does not answer, or not as MLflow does.
    """
    response = _get(uri)
    for pause in PAUSES:
        if response.status_code != 429 and response.status_code < 500:
            break
        time.sleep(pause)
        response = _get(uri)
    if (fault := _refusal(uri, response)) is not None:
        raise unreachable(uri, *fault)


def _get(uri: str) -> "requests.Response":
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    patience = MLFLOW_HTTP_REQUEST_TIMEOUT.get()  # type: ignore[no-untyped-call]
    told = f"waiting for the answer of MLflow at {causes.shown(uri)} (MLFLOW_HTTP_REQUEST_TIMEOUT: {patience} s)"
    try:
        with _saying(told):
            return http_request(  # type: ignore[no-any-return,no-untyped-call]
                get_default_host_creds(uri),  # type: ignore[no-untyped-call]
                "/api/2.0/mlflow/experiments/get-by-name",
                "GET",
                params={"experiment_name": "Default"},
                max_retries=0,
                raise_on_status=False,
                timeout=(CONNECT_SECONDS, patience),
            )
    except (MlflowException, OSError, ValueError) as error:
        raise unreachable(uri, *_why(uri, error)) from error


def _why(uri: str, error: BaseException) -> tuple[str, str]:
    """Say why a request got no answer, and what to do about it; an empty remedy: the general one."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ReadTimeoutError

    links = list(causes.chain(error))
    for one in list(links):
        links += [part for part in getattr(one, "args", ()) if isinstance(part, BaseException)]
        reason = getattr(one.args[0], "reason", None) if one.args else None
        links += [reason] if isinstance(reason, BaseException) else []
    host = urlsplit(uri).hostname or uri

    def met(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in links)

    text = " ".join(str(one) for one in links)
    if met(requests.exceptions.ProxyError):
        name = next((n for n in _proxies(uri) if os.environ.get(n)), "HTTP_PROXY")
        proxy = causes.shown(os.environ.get(name, "the proxy"))
        return f"the proxy {proxy} ({name}) did not let it through", f"unset {name}, or: export NO_PROXY={host}"
    if met(requests.exceptions.SSLError):
        if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
            detail = text.partition("verify failed: ")[2].partition(" (_ssl")[0] or "unknown issuer"
            return (
                f"its certificate cannot be verified ({redact(detail)})",
                "set MLFLOW_TRACKING_SERVER_CERT_PATH to the certificate of its authority (a .pem file)",
            )
        return "no TLS connection could be made with it", "is it http:// and not https://? else look at its TLS"
    if met(requests.exceptions.ConnectTimeout, ConnectTimeoutError) and not met(NewConnectionError):
        return f"no connection within {CONNECT_SECONDS} s", "check host, port and firewall (a VPN?)"
    if met(requests.exceptions.Timeout, ReadTimeoutError):
        return "it did not answer in time", "look at the server, or raise MLFLOW_HTTP_REQUEST_TIMEOUT"
    if met(NameResolutionError) or "Name or service not known" in text:
        return f"the name {host} is not known", "check the name, and the network"
    if met(requests.exceptions.TooManyRedirects):
        return "it redirects in a circle", "check the address, and sign in where it asks for it"
    if met(requests.exceptions.InvalidURL) or met(UnicodeError):
        return "this is not an address", "set MLFLOW_TRACKING_URI to http://HOST:PORT"
    for one in links:
        if getattr(one, "errno", None) == errno.ECONNREFUSED:
            return "connection refused: nothing listens there", ""
        if isinstance(one, FileNotFoundError) or "Could not find a suitable TLS CA certificate" in str(one):
            return f"{redact(str(one))}", "check MLFLOW_TRACKING_SERVER_CERT_PATH and MLFLOW_TRACKING_CLIENT_CERT_PATH"
    if "Connection aborted" in text or "Connection reset" in text or "RemoteDisconnected" in text:
        return "it broke the connection off", "is it https:// and not http://? else look at the server's log"
    return causes.said(links[-1]), ""


def _proxies(uri: str) -> tuple[str, ...]:
    scheme = urlsplit(uri).scheme
    return (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")


def _refusal(uri: str, response: "requests.Response") -> tuple[str, str] | None:
    """Say what is wrong with an answer; None where it is MLflow's."""
    status = response.status_code
    document = _document(response)
    if document is not None and status < 400 and "experiment" in document:
        return None
    if status == 404 and document is not None and "error_code" in document:
        return None  # MLflow answers; it only has no experiment of that name
    if status == 401:
        return "it asks who you are (401)", SIGN_IN
    if status == 403:
        return f"it refuses you (403){_told(document)}", f"ask its owner for access; as somebody else: {SIGN_IN}"
    if status == 407:
        return "a proxy asks who you are (407)", f"give user and password in {_proxies(uri)[1]}"
    if response.history or 300 <= status < 400:
        target = response.headers.get("Location", response.url) if 300 <= status < 400 else response.url
        return (
            f"it sends on to {without_secrets(target)}, a page to sign in perhaps",
            "set MLFLOW_TRACKING_TOKEN (or MLFLOW_TRACKING_USERNAME and _PASSWORD), or correct MLFLOW_TRACKING_URI",
        )
    if status == 404:
        return "there is a server, and no MLflow at this address (404)", (
            "give the address at which a browser shows MLflow, with the path before #/"
        )
    if status < 400:
        return "something else than MLflow answers there", "check host, port and path of MLFLOW_TRACKING_URI"
    if status == 429:
        return "it has too much to do (429)", "start again in a while"
    return f"it answers with error {status}{_told(document)}", "look at the server's log, and at what is before it"


def _document(response: "requests.Response") -> dict[str, Any] | None:
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _told(document: dict[str, Any] | None) -> str:
    message = (document or {}).get("message")
    return f": {redact(message)}" if isinstance(message, str) and message else ""


@contextmanager
def _saying(sentence: str) -> Iterator[None]:
    """Say what is waited for, once that has taken a while."""
    timer = threading.Timer(SILENT_SECONDS, print, [sentence], {"file": sys.stderr})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# -- a database ------------------------------------------------------------------------------------


@contextmanager
def database(uri: str) -> "Iterator[Connection]":
    """Open a connection to a database, once, where MLflow would try ten times; for as long as the block lasts.

    Raises
    ------
    UnreachableError
        It does not answer, or its driver is not installed.
    """
    import sqlalchemy

    url = parsed(uri)
    options = {} if url.get_backend_name() == "mssql" else {"connect_args": {"connect_timeout": CONNECT_SECONDS}}
    try:
        engine = sqlalchemy.create_engine(url, **options)
        try:
            with _saying(f"waiting for the database at {causes.shown(uri)}"):
                connection = engine.connect()
            with connection:
                yield connection
        finally:
            engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, OSError) as error:
        found = causes.known(error, uri)
        if found is not None:
            raise unreachable(uri, found.cause, found.remedy) from error
        raise unreachable(uri, causes.said(error)) from error


def parsed(uri: str) -> "URL":
    """Read the address of a database as SQLAlchemy does."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri)
    except (ArgumentError, ValueError) as error:
        raise unreachable(
            uri, "this is not the address of a database", f"set MLFLOW_TRACKING_URI={DEFAULT_STORE}"
        ) from error
