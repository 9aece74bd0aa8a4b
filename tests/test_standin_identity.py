"""Who may do what: tokens, signatures, and the workspace that is meant."""

from __future__ import annotations

import jwt
import pytest

from tests import standin_http as http
from tests.standin import Fault, StandIn, names

ROUTES = {
    "control": f"{http.MANAGEMENT}{names.SCOPE}/computes?api-version={http.VERSIONS['computes']}",
    "history": f"{http.HISTORY}/runs/nothing?api-version=v1.0",
    "mlflow": f"{http.MLFLOW}/experiments/get-by-name?experiment_name=Default",
}


@pytest.mark.parametrize("plane", ROUTES)
def test_a_token_is_needed(standin: StandIn, plane: str) -> None:
    good = http.token(standin)
    claims = jwt.decode(good, options={"verify_signature": False})
    expired = jwt.encode(claims | {"exp": 1}, "of another stand-in that is long enough", algorithm="HS256")
    secret = standin.folder.secret("token")
    old = jwt.encode(claims | {"exp": 1}, secret, algorithm="HS256")
    for bearer, code in (
        (None, "AuthenticationFailed"),
        ("nonsense", "InvalidAuthenticationToken"),
        (expired, "InvalidAuthenticationToken"),
        (old, "ExpiredAuthenticationToken"),
        (http.token(standin, "https://graph.azureml.test"), "InvalidAuthenticationTokenAudience"),
    ):
        answer = http.call(standin, "GET", ROUTES[plane], bearer=bearer)
        assert answer.status_code == 401, answer.text
        assert code in answer.text
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert http.call(standin, "GET", ROUTES[plane], bearer=good).status_code in (200, 404)


def test_the_token_of_a_job_does_not_open_the_control_plane(standin: StandIn) -> None:
    bearer = http.token(standin, names.AML_RESOURCE)
    assert http.call(standin, "GET", ROUTES["mlflow"], bearer=bearer).status_code == 200
    assert http.call(standin, "GET", ROUTES["control"], bearer=bearer).status_code == 401


def test_identity_wants_its_header(standin: StandIn) -> None:
    import requests

    endpoint = standin.environ["IDENTITY_ENDPOINT"]
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(endpoint, params={"resource": "x"}, timeout=30).status_code == 401
        assert session.post(endpoint.replace("/msi/token", "/standin/faults"), timeout=30).status_code == 401


def test_tokens_may_be_short_or_refused(standin: StandIn) -> None:
    standin.inject(Fault("short-token", seconds=20))
    claims = jwt.decode(http.token(standin), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 20
    claims = jwt.decode(http.token(standin), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] > 3600
    standin.inject(Fault("no-identity"))
    with pytest.raises(Exception, match="400"):
        http.token(standin)


def test_blobs_are_signed(standin: StandIn) -> None:
    address = http.upload(standin, {"a.txt": b"hello"})
    assert http.call(standin, "GET", f"{address}/a.txt", bearer=None).status_code in (403, 404)
    begun = http.call(standin, "POST", "/codes/c/versions/1/startPendingUpload", json={}).json()
    signed = begun["blobReferenceForConsumption"]["credential"]["sasUri"]
    other = f"{address}/a.txt?{signed.split('?')[1]}"
    answer = http.call(standin, "GET", other, bearer=None)
    assert answer.status_code == 403
    assert "AuthorizationFailure" in answer.text or "AuthenticationFailed" in answer.text


@pytest.mark.parametrize(
    ("sub", "group", "workspace", "code"),
    [
        (names.SUBSCRIPTION, names.RESOURCE_GROUP, "another", "ResourceNotFound"),
        (names.SUBSCRIPTION, "another", names.WORKSPACE, "ResourceGroupNotFound"),
        ("33333333-0000-4000-8000-000000000000", names.RESOURCE_GROUP, names.WORKSPACE, "SubscriptionNotFound"),
    ],
)
def test_another_workspace_is_not_here(standin: StandIn, sub: str, group: str, workspace: str, code: str) -> None:
    scope = f"/subscriptions/{sub}/resourceGroups/{group}/providers/{names.PROVIDER}/workspaces/{workspace}"
    params = {"api-version": "2024-10-01-preview"}
    answer = http.call(standin, "GET", f"{http.MANAGEMENT}{scope}", params=params)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    ("url", "shape"),
    [
        ("/computes", "AuthorizationFailed"),
        (f"{http.HISTORY}/runs/x", "Forbidden"),
        (f"{http.MLFLOW}/registered-models/create", "Forbidden"),
    ],
)
def test_permission_may_be_missing(standin: StandIn, url: str, shape: str) -> None:
    standin.inject(Fault("forbidden", times=0))
    method = "POST" if url.endswith("create") else "GET"
    params = {"api-version": "v1.0"} if "/history/" in url else {}
    answer = http.call(standin, method, url, params=params)
    assert answer.status_code == 403
    assert shape in answer.text
    assert "does not have authorization to perform action" in answer.text
    standin.clear_faults()
    assert http.call(standin, "GET", "/computes").status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (Fault("forbidden", variant="PrivateLink"), 403, "outside of the designated private link"),
        (Fault("forbidden", variant="Policy"), 403, "was disallowed by policy"),
        (
            Fault("expired-token", variant="Tenant"),
            401,
            f"must match the tenant 'https://sts.windows.net/{names.TENANT}/'",
        ),
    ],
)
def test_a_refusal_may_be_somebody_elses(standin: StandIn, fault: Fault, status: int, said: str) -> None:
    standin.inject(fault)
    answer = http.call(standin, "GET", "/computes")
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
