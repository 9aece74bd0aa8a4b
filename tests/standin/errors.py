"""The shapes in which the service reports errors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from tests.standin import names

NGINX_502 = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    "<center><h1>502 Bad Gateway</h1></center>"
    "\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass
class ServiceError(Exception):
    """An answer that is an error.

    Parameters
    ----------
    status : int
        HTTP status.
    code : str
        The innermost code, the useful one: `JobNotFound`, `TooManyRequests`.
    message : str
        What the service says.
    plane : str
        Whose shape it takes: `control`, `gateway` (Azure Resource Manager itself), `data`, or `mlflow`.
    headers : dict
        Further headers of the answer.
    details : list of dict
        Of the control plane: what stood behind it.
    top : str
        The outermost code of the control plane, where it is not the usual one.
    """

    status: int
    code: str
    message: str
    plane: str = "control"
    headers: dict[str, str] = field(default_factory=dict)
    details: list[dict[str, object]] = field(default_factory=list)
    top: str = ""

    def response(self) -> web.Response:
        """Return the answer in the shape of its plane."""
        body = {"control": _control, "gateway": _gateway, "data": _data, "mlflow": _mlflow}[self.plane](self)
        return web.json_response(body, status=self.status, headers=self.headers)


def not_found(kind: str, what: str) -> ServiceError:
    """Return the 404 of a missing resource; `kind` is the service's word for it, such as `Job`."""
    return ServiceError(404, f"{kind}NotFound", f"Requested {kind.lower()} does not exist: {what}.")


def workspace_not_found(path: str, name: str, group: str, subscription: str) -> ServiceError:
    """Return the gateway's 404 for a workspace that is not here, or its group, or its subscription."""
    code, text = (
        "ResourceNotFound",
        f"The Resource '{names.PROVIDER}/workspaces/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )
    if group.lower() != names.RESOURCE_GROUP:
        code, text = "ResourceGroupNotFound", f"Resource group '{group}' could not be found."
    if subscription != names.SUBSCRIPTION:
        code, text = "SubscriptionNotFound", f"The subscription '{subscription}' could not be found."
    plane = "data" if path.startswith(("/history", "/artifact", "/mlflow", "/data")) else "gateway"
    return ServiceError(404, code, text, plane=plane)


def forbidden(method: str, path: str, plane: str, variant: str = "") -> ServiceError:
    """Return the 403 of a caller without permission, from outside of a closed network, or against a policy."""
    scope = path.split("?")[0]
    if variant == "PrivateLink":
        text = (
            "User is not authorized to access provided resources due to none of the workspaces/registries are "
            "accessible from outside of the designated private link.."
        )
        return ServiceError(403, "Forbidden", text, plane=plane)
    if variant == "Policy":
        text = f"Resource '{scope.rpartition('/')[2]}' was disallowed by policy. Reasons: 'sizes of this department.'"
        return ServiceError(403, "RequestDisallowedByPolicy", text, plane="gateway" if plane == "control" else plane)
    return ServiceError(
        403,
        "AuthorizationFailed" if plane in ("control", "gateway") else "Forbidden",
        f"The client 'stand-in@azureml.test' with object id '{names.TENANT}' does not have authorization to "
        f"perform action '{names.PROVIDER}/workspaces/{method.lower()}' over scope '{scope}' or the scope is "
        "invalid. "
        "If access was recently granted, please refresh your credentials.",
        plane="gateway" if plane == "control" else plane,
    )


def _top_code(error: ServiceError) -> str:
    if error.status >= 500:
        return "TransientError" if error.status in (502, 503, 504) else "ServiceError"
    return "UserError"


def _control(error: ServiceError) -> object:
    inner = {"code": _family(error.status), "innerError": {"code": error.code, "innerError": None}}
    info = [
        {"type": "ComponentName", "info": {"value": "managementfrontend"}},
        {"type": "Correlation", "info": {"value": {"operation": "0" * 32, "request": "0" * 16}}},
        {"type": "Environment", "info": {"value": names.LOCATION}},
        {"type": "Location", "info": {"value": names.LOCATION}},
        {"type": "InnerError", "info": {"value": inner}},
    ]
    return {
        "error": {
            "code": error.top or _top_code(error),
            "message": error.message,
            "details": error.details,
            "additionalInfo": info,
        },
    }


def _gateway(error: ServiceError) -> object:
    return {"error": {"code": error.code, "message": error.message}}


def _data(error: ServiceError) -> object:
    return {
        "error": {
            "code": _top_code(error),
            "severity": None,
            "message": error.message,
            "messageFormat": None,
            "messageParameters": {},
            "innerError": {"code": error.code, "innerError": None},
        },
        "correlation": {"operation": "0" * 32, "request": "0" * 16},
        "environment": names.LOCATION,
        "location": names.LOCATION,
    }


def _mlflow(error: ServiceError) -> object:
    """Return the workspace's own shape: it has no `message`, so that mlflow shows all of it."""
    empty = ("MessageFormat", "MessageParameters", "ReferenceCode", "DetailsUri", "Target", "InnerError", "DebugInfo")
    return {
        "Error": {
            "Code": "UserError" if error.status < 500 else "ServiceError",
            "Severity": None,
            "Message": error.message,
            **dict.fromkeys(empty),
            "Details": [],
        },
        "Correlation": {"operation": "0" * 32, "request": "0" * 16},
        "Environment": names.LOCATION,
        "Location": names.LOCATION,
        "Time": datetime.now(UTC).isoformat(),
        "ComponentName": "mlflow",
        "statusCode": error.status,
        "error_code": error.code,
    }


def _family(status: int) -> str:
    return {
        400: "BadArgument",
        403: "Forbidden",
        404: "NotFound",
        409: "Conflict",
        429: "TooManyRequests",
    }.get(status, "InternalServerError")


def run_error(code: str, message: str) -> dict[str, object]:
    """Return the error of a run, as the run's history shows it."""
    return {
        "error": {"code": code, "message": message, "messageParameters": {}, "details": []},
        "time": "0001-01-01T00:00:00+00:00",
        "componentName": "executor",
    }


def dumps(body: object) -> str:
    """Return `body` as JSON, keys in the order given."""
    return json.dumps(body, separators=(",", ":"))
