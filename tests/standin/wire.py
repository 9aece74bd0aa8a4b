"""The door: every request but those for blobs is matched, checked, recorded and answered here."""

from __future__ import annotations

import asyncio
import json
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import aiohttp
from aiohttp import web

from tests.standin import identity, names
from tests.standin.errors import NGINX_502, ServiceError, forbidden, workspace_not_found
from tests.standin.faults import HTTP_KINDS, Fault
from tests.standin.proxy import break_off

if TYPE_CHECKING:
    from tests.standin.service import Service

SCOPE = "/subscriptions/{sub}/resourceGroups/{rg}/providers/Microsoft.MachineLearningServices/workspaces/{ws}"

# Where it is known from how the real service answers.
RECORDED = "recorded 2022-08 to 2023-08"
DESCRIBED = "described"
ACCOUNT = "account of a real job, 2026"
ASSUMED = "assumed"


@dataclass(frozen=True)
class Call:
    """A request that has been matched to a route."""

    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    claims: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Return the body.

        Raises
        ------
        ServiceError
            400 if it is not a JSON object.
        """
        try:
            body = json.loads(self.body or b"{}")
        except ValueError as error:
            raise ServiceError(400, "BadArgument", "The request body is not valid JSON.") from error
        if not isinstance(body, dict):
            raise ServiceError(400, "BadArgument", "The request body is not a JSON object.")
        return body


Handler = Callable[["Service", Call], Awaitable[web.Response]]


@dataclass(frozen=True)
class Route:
    """A row of the table of routes.

    Parameters
    ----------
    methods : str
        `GET`, or several: `GET PUT`.
    template : str
        Path; `{S}` is the workspace, `{name}` one part, `{name*}` any number of parts.
    versions : str
        The api-versions that today's clients send, separated by spaces. Empty: none is sent.
    handler : Handler
    plane : str
        `control`, `data`, `mlflow`, `open` for a route that asks for no token, or `score`, which has keys of its own.
    evidence : str
        Where the real answer is known from: one of `RECORDED`, `DESCRIBED`, `ACCOUNT`, `ASSUMED`, and a source.
    """

    methods: str
    template: str
    versions: str
    handler: Handler
    plane: str = "control"
    evidence: str = ASSUMED

    @property
    def pattern(self) -> re.Pattern[str]:
        """The template as a regular expression over an undecoded path."""
        text = re.escape(self.template.replace("{S}", SCOPE))
        text = re.sub(r"\\{(\w+)\\\*\\}", r"(?P<\1>.+)", text)
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", text) + "/?")


@dataclass
class Router:
    """The table of routes, compiled."""

    routes: list[Route]

    def __post_init__(self) -> None:
        self._compiled = [(route.methods.split(), route.pattern, route) for route in self.routes]

    def match(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route of a request and the parts of its path, or None."""
        for methods, pattern, route in self._compiled:
            found = pattern.fullmatch(path) if method in methods else None
            if found:
                return route, {name: unquote(value) for name, value in found.groupdict().items()}
        return None


async def answer(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer one request of any plane but that of the blobs."""
    path = request.rel_url.raw_path
    record = {
        "time": time.time(),
        "plane": "unknown",
        "method": request.method,
        "path": path,
        "api_version": request.query.get("api-version", ""),
    }
    try:
        response = await _answer(service, request, record)
    except ServiceError as error:
        response = error.response()
    except (ConnectionError, asyncio.CancelledError):
        raise
    except aiohttp.ClientConnectionError:  # to the MLflow server, which is being stopped
        response = ServiceError(503, "ServiceUnavailable", "The service is temporarily unavailable.").response()
    except Exception as error:  # noqa: BLE001 - whatever it is, the client gets a 500 and the record a note
        service.log(traceback.format_exc())
        record["note"] = f"bug: {type(error).__name__}: {error}"
        response = ServiceError(500, "InternalServerError", "An internal error occurred.").response()
    service.record({**record, "status": response.status})
    return response


async def _answer(service: Service, request: web.Request, record: dict[str, Any]) -> web.StreamResponse:
    method, path = request.method, str(record["path"])
    found = service.router.match(method, path)
    if found is None:
        record["note"] = "unknown route"
        raise ServiceError(501, "NotImplemented", f"The stand-in does not know {method} {path}")
    route, params = found
    record["plane"] = route.plane
    if route.plane == "open":
        call = Call(method, path, params, request.query, await request.read())
        return await route.handler(service, call)

    fault = service.faults.take(HTTP_KINDS, f"{method} {path}")
    if fault:
        record["fault"] = fault.kind
        await _misbehave(fault, method, path, route.plane)
    claims: dict[str, Any] = {}
    if route.plane != "score":
        audiences = identity.MANAGEMENT_AUDIENCE if route.plane == "control" else identity.DATA_AUDIENCE
        claims = service.tokens.check(request.headers.get("Authorization"), audiences, route.plane)
    if "ws" in params and (params["sub"], params["rg"].lower(), params["ws"].lower()) != (
        names.SUBSCRIPTION,
        names.RESOURCE_GROUP,
        names.WORKSPACE,
    ):
        raise workspace_not_found(path, params["ws"], params["rg"], params["sub"])
    if record["api_version"] not in (route.versions.split() or [""]):
        record["note"] = f"api-version {record['api_version']!r} is not one of {route.versions!r}"
    call = Call(method, path, params, request.query, await request.read(), claims, request.headers)
    response = await route.handler(service, call)
    if fault and fault.kind == "reset":
        await cut(request, response)
    return response


async def _misbehave(fault: Fault, method: str, path: str, plane: str) -> None:
    """Answer as the fault says; `reset` is done later, when there is an answer to cut."""
    if fault.kind == "429":
        text = "Received too many requests in a short amount of time. Retry again after 20 seconds."
        asked = {} if fault.seconds is None else {"Retry-After": f"{fault.seconds:.0f}"}
        raise ServiceError(429, "TooManyRequests", text, plane, asked)
    if fault.kind == "503":
        raise ServiceError(503, "ServiceUnavailable", "The service is temporarily unavailable.", plane)
    if fault.kind == "forbidden":
        raise forbidden(method, path, plane, fault.variant)
    if fault.kind == "expired-token":
        raise identity.expired(plane, fault.variant)
    if fault.kind == "html502":
        raise HtmlError(502, "BadGateway", NGINX_502)
    if fault.kind == "slow":
        await fault.wait()


class HtmlError(ServiceError):
    """An answer of a gateway in front of the service: a page, not JSON."""

    def response(self) -> web.Response:
        """Return the page."""
        return web.Response(status=self.status, text=self.message, content_type="text/html")


async def cut(request: web.Request, response: web.Response) -> None:
    """Send half of an answer and reset the connection."""
    body = response.body if isinstance(response.body, bytes) else b""
    half = web.StreamResponse(status=response.status, headers={"Content-Type": "application/octet-stream"})
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    reset(request)


def reset(request: web.Request) -> None:
    """Break a connection, so that the client sees a reset."""
    if request.transport is not None:
        break_off(request.transport)
    raise ConnectionResetError("reset on request")
