"""Does a deployment answer the rows that were recorded with its model as on the day of training? Asked over HTTP."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import endpoints
from .errors import VerificationError
from .outputs import TOLERANCE
from .workspace import Workspace

if TYPE_CHECKING:
    from trainer.model_folder import Recorded

# A request may be much larger; a small one is answered well within its time limit.
REQUEST_BYTES, REQUEST_SECONDS = 500_000, 120.0


def verify(workspace: Workspace, name: str, deployment: str, recorded: "Recorded") -> tuple[float, str]:
    """Send the recorded rows to the new deployment; return by how much an answer differs at most, and the address.

    Raises
    ------
    VerificationError
        It answers otherwise than on the day of training, or not at all.
    """
    import numpy as np

    from trainer.model_folder import Agreement

    workspace.screen.update(f"sending {len(recorded.rows)} recorded rows to {deployment}")
    client = workspace.client.online_endpoints
    address = str(workspace.call("look at the endpoint", lambda: client.get(name)).scoring_uri)
    keys: Any = workspace.call("ask for the endpoint's key", lambda: client.get_keys(name))
    secret = str(getattr(keys, "primary_key", None) or keys.access_token)
    answers: list[Any] = []
    for body in _requests(recorded):
        answers += _post(workspace, name, deployment, address, secret, body)
    try:
        predicted = np.asarray(answers, dtype=np.float64)
        agreement = Agreement(recorded.predictions, predicted, {}) if len(predicted) == len(recorded.rows) else None
    except (ValueError, TypeError):
        agreement = None
    if agreement is None or not agreement.largest_relative <= TOLERANCE:
        endpoints.show_log(workspace, name, deployment)
        how = "with something else than a number for each row" if agreement is None else (
            f"otherwise than on the day of training, by up to {agreement.largest_absolute:g}"
        )  # fmt: skip
        raise VerificationError(
            f"the deployment {deployment} answers the recorded rows {how}",
            endpoints.REHEARSE,
        )
    return agreement.largest_relative, address


def _requests(recorded: "Recorded") -> Iterator[dict[str, Any]]:
    """Divide the recorded rows into requests of a moderate size, in the shape that the service's script takes."""
    columns, rows = list(recorded.rows.columns), recorded.rows.to_numpy(dtype=object).tolist()
    each = max(1, REQUEST_BYTES * len(rows) // max(1, len(json.dumps(rows))))
    for start in range(0, len(rows), each):
        block = rows[start : start + each]
        yield {"input_data": {"columns": columns, "index": list(range(len(block))), "data": block}}


def _post(
    workspace: Workspace, name: str, deployment: str, address: str, secret: str, body: dict[str, Any]
) -> list[Any]:
    import requests

    headers = {"Authorization": f"Bearer {secret}", "azureml-model-deployment": deployment}

    def post() -> requests.Response:
        answer = requests.post(address, json=body, headers=headers, timeout=REQUEST_SECONDS)
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            answer.raise_for_status()
        return answer

    answer = workspace.call(f"score at {address}", post)
    served = answer.headers.get("azureml-model-deployment", deployment)
    try:
        found = answer.json() if answer.status_code == 200 and served == deployment else None
    except ValueError:
        found = None
    if not isinstance(found, list):
        endpoints.show_log(workspace, name, deployment)
        by = "" if served == deployment else f", by {served}"
        raise VerificationError(
            f"the deployment {deployment} answers {answer.status_code}{by}: {answer.text[:200]}",
            endpoints.REHEARSE,
        )
    return found
