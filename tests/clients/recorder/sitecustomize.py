"""Note what a client asks and how it is answered: no query, no header and no body, so no signature and no token.

Python imports this by itself where the folder is on PYTHONPATH; `tests/standin/real.py` puts it there.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

_send = requests.Session.send


def send(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
    answer = _send(session, request, **options)
    url = urlsplit(str(request.url))
    row = {
        "method": request.method,
        "path": url.path,
        "api_version": parse_qs(url.query).get("api-version", [""])[0],
        "status": answer.status_code,
    }
    with open(os.environ["STANDIN_RECORD"], "a") as file:
        file.write(json.dumps(row) + "\n")
    return answer


requests.Session.send = send  # type: ignore[method-assign]
