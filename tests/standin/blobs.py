"""The blobs' door: every request goes on to Azurite as it came, and may meet a fault on the way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.standin import identity, names
from tests.standin.errors import NGINX_502, ServiceError
from tests.standin.faults import BLOB_KINDS, HTTP_KINDS, Fault
from tests.standin.wire import reset

if TYPE_CHECKING:
    from tests.standin.service import Service

XML = '<?xml version="1.0" encoding="utf-8"?>'
# RFC 9110, 7.6.1: these belong to one connection.
HOP = {"connection", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}

REFUSALS = {
    "AuthorizationPermissionMismatch": "This request is not authorized to perform this operation using this "
    "permission.",
    "KeyBasedAuthenticationNotPermitted": "Key based authentication is not permitted on this storage account.",
    "AuthorizationFailure": "This request is not authorized to perform this operation.",
    "AuthenticationFailed": "Server failed to authenticate the request. Signature not valid in the specified time "
    "frame.",
}


async def answer(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer one request for a blob."""
    path = request.rel_url.raw_path
    record = {"time": time.time(), "plane": "blob", "method": request.method, "path": path}
    record["api_version"] = request.headers.get("x-ms-version", "")
    record["operation"] = request.query.get("comp", "")
    kinds = HTTP_KINDS | _kinds(request)
    if request.query.get("sig") not in service.storage.signed_for_jobs:
        kinds |= {"storage-403": BLOB_KINDS["storage-403"]}
    fault = service.faults.take(kinds, f"{request.method} {path}")
    if fault:
        record["fault"] = fault.kind
    status = 0
    try:
        response = await _refuse(fault) or await _forward(service, request, fault)
        status = response.status
        return response
    except ServiceError as error:  # of a token
        status = error.status
        return error.response()
    except ConnectionError:
        status = -1
        raise
    finally:
        service.record({**record, "status": status})


def _kinds(request: web.Request) -> dict[str, str]:
    """Return the faults of blobs that this request may meet."""
    if request.method == "PUT":
        return {"slow-upload": BLOB_KINDS["slow-upload"]}
    if request.method == "GET" and "comp" not in request.query:
        return {kind: BLOB_KINDS[kind] for kind in ("truncated-download", "short-download")}
    return {}


async def _refuse(fault: Fault | None) -> web.Response | None:
    """Return the answer of a fault that keeps a request from Azurite, or None."""
    if fault is None:
        return None
    if fault.kind in ("slow", "slow-upload"):
        await fault.wait()
    codes = {
        "429": (429, "TooManyRequests", "Too many requests."),
        "503": (
            503,
            "ServerBusy",
            "The server is currently unable to receive requests. Please retry your request.",
        ),
        "forbidden": (
            403,
            "AuthorizationFailure",
            "This request is not authorized to perform this operation.",
        ),
        "expired-token": (403, "AuthenticationFailed", REFUSALS["AuthenticationFailed"]),
    }
    if fault.kind == "storage-403":
        codes["storage-403"] = (403, fault.variant, REFUSALS[fault.variant])
    if fault.kind == "html502":
        return web.Response(status=502, text=NGINX_502, content_type="text/html")
    if fault.kind in codes:
        status, code, message = codes[fault.kind]
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        headers = {"x-ms-error-code": code}
        return web.Response(status=status, text=XML + text, content_type="application/xml", headers=headers)
    return None


async def _forward(service: Service, request: web.Request, fault: Fault | None) -> web.StreamResponse:
    target = request.rel_url.raw_path_qs
    headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in HOP)
    if headers.get("Authorization", "").startswith("Bearer "):
        service.tokens.check(headers.pop("Authorization"), identity.STORAGE_AUDIENCE, "data")
        target += ("&" if "?" in target else "?") + service.storage.account_sas()
    url = URL(f"http://127.0.0.1:{service.storage.port}{target}", encoded=True)
    headers["Host"] = names.BLOB
    body = _chunks(request) if request.body_exists else None
    session: aiohttp.ClientSession = service.blob_session
    async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as upstream:
        answer = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            if name.lower() not in HOP:
                answer.headers.add(name, value)
        size = upstream.content_length or 0
        limit = size
        if fault and fault.kind in ("reset", "truncated-download", "short-download") and upstream.status < 300:
            limit = size // 2
        if fault and fault.kind == "short-download":
            answer.content_length = limit
            first = answer.headers.get("Content-Range", "")
            if first:
                answer.headers["Content-Range"] = f"bytes 0-{limit - 1}/{limit}"
        await answer.prepare(request)
        left = limit
        async for chunk in upstream.content.iter_chunked(1 << 18):
            if limit != size:
                chunk = chunk[:left]
                left -= len(chunk)
            if chunk:
                await answer.write(chunk)
            if limit != size and left <= 0:
                break
        if fault and fault.kind == "reset":
            reset(request)
        if fault and fault.kind == "truncated-download" and request.transport is not None:
            request.transport.close()
            raise ConnectionResetError("closed on request")
        await answer.write_eof()
        return answer


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_chunked(1 << 18):
        yield chunk
