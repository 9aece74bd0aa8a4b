"""Every route that the stand-in answers, and where its answer is known from: `python -m tests.standin.routes`."""

from __future__ import annotations

from tests.standin import assets, computes, containers, control, dataplane, endpoints, faults, real, tracking
from tests.standin.wire import Route

ALL: list[Route] = [
    *(*control.ROUTES, *computes.ROUTES, *assets.ROUTES, *endpoints.ROUTES, *containers.ROUTES),
    *(*dataplane.ROUTES, *tracking.ROUTES),
]


def table() -> str:
    """Return the table of routes for README.md."""
    lines = ["| plane | route | api-version | evidence |", "|---|---|---|---|"]
    lines += [
        f"| {route.plane} | `{route.methods.replace(' ', ' or ')} {_short(route.template)}` | "
        f"{route.versions.replace(' ', ', ') or '-'} | {real.verified(route) or route.evidence} |"
        for route in ALL
    ]
    lines += [
        f"| mlflow | `{methods.replace(' ', ' or ')} api/2.0/mlflow/{name}` | - | {evidence} |"
        for name, (methods, evidence) in tracking.EVIDENCE.items()
    ]
    return "\n".join(lines)


def faults_table() -> str:
    """Return the table of faults for README.md."""
    lines = ["| kind | lasts | what happens |", "|---|---|---|"]
    lines += [
        f"| `{kind}` | {'until cleared' if kind in faults.LASTING else 'once'} | {text} |"
        for kind, text in faults.KINDS.items()
    ]
    return "\n".join(lines)


def _short(template: str) -> str:
    return template.replace("Microsoft.MachineLearningServices", "M")


if __name__ == "__main__":
    print(table())
