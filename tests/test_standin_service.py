"""The stand-in answers as the service is known to, also where that is not what one would like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import standin_http as http
from tests.standin import Fault, StandIn, names, routes
from tests.standin.identity import Tokens

LOCATION = f"{http.MANAGEMENT}/subscriptions/{names.SUBSCRIPTION}/providers/{names.PROVIDER}/locations/westeurope"
VERSION = {"api-version": http.VERSIONS["locations"]}
REGION = "Total Cluster Dedicated Regional vCPUs"
DDSV4 = "Standard DDSv4 Family Cluster Dedicated vCPUs"


def subscription(standin: StandIn, what: str) -> list[dict[str, Any]]:
    answer = http.call(standin, "GET", f"{LOCATION}/{what}", params=VERSION)
    answer.raise_for_status()
    rows: list[dict[str, Any]] = answer.json()["value"]
    return rows


def own(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["name"]["value"]: row["limit"] for row in rows if "/workspaces/" not in row["id"]}


def mlflow(standin: StandIn, method: str, endpoint: str, **body: Any) -> Any:
    options = {"params": body} if method == "GET" else {"json": body}
    return http.call(standin, method, f"{http.MLFLOW}/{endpoint}", **options)


def test_the_quota_is_that_of_an_ordinary_subscription(standin: StandIn) -> None:
    rows = subscription(standin, "usages")
    limits = own(rows)
    assert limits[REGION] == 20
    assert limits[DDSV4] == 6
    assert limits["Standard DADSv5 Family Cluster Dedicated vCPUs"] == 0
    assert limits["Total Cluster Low Priority Regional vCPUs"] == 0
    assert {row["limit"] for row in rows if "Low Priority" in row["name"]["value"]} == {0, -1}
    others = {row["type"] for row in rows if row["name"]["localizedValue"] == DDSV4 and "/workspaces/" in row["id"]}
    assert others == {f"{names.PROVIDER}/workspaces/usages", f"{names.PROVIDER}/workspaces/computes/usages"}
    standin.inject(Fault("quota-keys"))
    standin.quota(regional=10, standardDDSv4Family=8)
    rows = subscription(standin, "usages")
    assert (own(rows)["standardDDSv4Family"], own(rows)[REGION]) == (8, 10)
    assert DDSV4 in {row["name"]["localizedValue"] for row in rows}
    standin.clear_faults()
    assert own(subscription(standin, "usages"))[DDSV4] == 6


def test_sizes_have_a_price_and_a_purpose(standin: StandIn) -> None:
    sizes = {row["name"]: row for row in subscription(standin, "vmSizes")}
    prices = sizes["Standard_D4ds_v4"]["estimatedVMPrices"]
    assert (prices["billingCurrency"], prices["unitOfMeasure"]) == ("USD", "OneHour")
    by_kind = {(row["osType"], row["vmTier"]): row["retailPrice"] for row in prices["values"]}
    assert by_kind["Linux", "Standard"] > by_kind["Linux", "LowPriority"] > 0
    assert sizes["Standard_NV6ads_A10_v5"]["supportedComputeTypes"] == ["MIR"]
    inner = {"vmSize": "Standard_NV6ads_A10_v5"}
    body = {"location": "westeurope", "properties": {"computeType": "AmlCompute", "properties": inner}}
    assert http.innermost(http.call(standin, "PUT", "/computes/gpu", json=body).json()) == "InvalidVmSize"


def test_the_subscription_may_not_be_read(standin: StandIn) -> None:
    standin.inject(Fault("workspace-role"))
    for what in ("vmSizes", "usages"):
        answer = http.call(standin, "GET", f"{LOCATION}/{what}", params=VERSION)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "AuthorizationFailed")
    assert http.call(standin, "GET", "/computes").status_code == 200
    standin.clear_faults()
    standin.inject(Fault("sizes-404"))
    standin.inject(Fault("sizes-empty", route="usages"))
    assert http.call(standin, "GET", f"{LOCATION}/vmSizes", params=VERSION).status_code == 404
    assert subscription(standin, "usages") == []
    standin.clear_faults()
    standin.inject(Fault("sizes-404", code=501))
    standin.inject(Fault("sizes-empty"))
    assert http.call(standin, "GET", f"{LOCATION}/vmSizes", params=VERSION).status_code == 501


def test_a_cluster_is_shown_as_the_service_shows_it(standin: StandIn) -> None:
    http.cluster(standin, "shown")
    inner = http.call(standin, "GET", "/computes/shown").json()["properties"]["properties"]
    assert inner["vmSize"] == "STANDARD_DS3_V2"
    assert len(inner["nodeStateCounts"]) == 6
    for name in ("x", "1st", "ends-", "a" * 33, "under_score"):
        body = {"properties": {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_DS3_v2"}}}
        answer = http.call(standin, "PUT", f"/computes/{name}", json=body)
        assert http.innermost(answer.json()) == "InvalidComputeName"


@pytest.mark.parametrize("ends", ["Succeeded", "Failed"])
def test_a_cluster_that_somebody_else_creates(standin: StandIn, ends: str) -> None:
    name = f"theirs-{ends}"
    standin.inject(Fault("cluster-creating", route=name, variant=ends))
    assert http.call(standin, "GET", "/computes/nobodys").status_code == 404

    def state() -> str:
        return str(http.call(standin, "GET", f"/computes/{name}").json()["properties"]["provisioningState"])

    assert [state(), state()] == ["Creating", "Creating"]
    body = {"properties": {"computeType": "AmlCompute", "properties": {"vmSize": "Standard_DS3_v2"}}}
    assert state() == ends
    standin.inject(Fault("cluster-creating", route="gated", gate="/nowhere"))
    http.call(standin, "GET", f"/computes/gated-{ends}")
    assert http.call(standin, "PUT", f"/computes/gated-{ends}", json=body).status_code == 409


def test_long_operations_are_hurried_unless_that_is_switched_off(standin: StandIn) -> None:
    deleted = http.call(standin, "DELETE", "/computes/hurried")
    assert deleted.headers["retry-after-ms"] == "100"
    assert "/computeOperationsStatus/" in deleted.headers["Azure-AsyncOperation"]
    standin.inject(Fault("no-retry-after"))
    deleted = http.call(standin, "DELETE", "/computes/hurried")
    assert "retry-after" not in {name.lower() for name in deleted.headers}
    assert "retry-after-ms" not in {name.lower() for name in deleted.headers}


def test_a_job_that_the_sdk_cannot_read_is_in_the_list(standin: StandIn) -> None:
    def last() -> str:
        page = http.call(standin, "GET", "/jobs").json()
        while "nextLink" in page:
            page = http.call(standin, "GET", page["nextLink"]).json()
        return str(page["value"][-1]["properties"]["jobType"])

    assert last() == "AutoML"
    standin.inject(Fault("labeling-job"))
    assert last() == "Labeling"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"experimentName": "my experiment (2024)/a"}, "InvalidExperimentName"),
        ({"experimentName": ""}, "InvalidExperimentName"),
        ({"experimentName": "x" * 257}, "InvalidExperimentName"),
        ({"displayName": "x" * 257}, "InvalidDisplayName"),
        ({"tags": {"k" * 101: "v"}}, "InvalidTags"),
        ({"tags": {"k": "v" * 1001}}, "InvalidTags"),
        ({"tags": {f"k{number}": "v" for number in range(51)}}, "InvalidTags"),
        ({"resources": {"instanceType": "Standard_Nonsense"}}, "InvalidInstanceType"),
        ({"queueSettings": {"jobTier": "Cheap"}}, "InvalidJobTier"),
    ],
)
def test_names_and_limits_of_jobs_hold(standin: StandIn, change: dict[str, Any], code: str) -> None:
    answer = http.submit(standin, "beyond", "true", **change)
    assert answer.status_code == 400
    assert http.innermost(answer.json()) == code


def test_limits_of_runs_hold(standin: StandIn) -> None:
    assert mlflow(standin, "POST", "experiments/create", name="an experiment").status_code == 400
    made = mlflow(standin, "POST", "experiments/create", name="limits").json()["experiment_id"]
    source = [{"key": "mlflow.source.name", "value": "train.py"}, {"key": "kept", "value": "1"}]
    run = mlflow(standin, "POST", "runs/create", experiment_id=made, tags=source).json()["run"]
    assert "mlflow.source.name" not in {tag["key"] for tag in run["data"]["tags"]}
    name = run["info"]["run_id"]

    def batch(kind: str, count: int, value: object = "v") -> int:
        rows = [{"key": f"{kind}{number}", "value": value, "timestamp": 0, "step": 0} for number in range(count)]
        return int(mlflow(standin, "POST", "runs/log-batch", run_id=name, **{kind: rows}).status_code)

    for _ in range(2):  # what is there already does not count twice
        assert batch("params", 100) == 200
    assert batch("params", 201) == 400
    assert batch("metrics", 50, 1.0) == 200
    assert batch("metrics", 51, 1.0) == 400
    assert batch("tags", 51) == 400
    long = mlflow(standin, "POST", "runs/log-parameter", run_id=name, key="long", value="x" * 501)
    assert long.status_code == 400
    assert "500 characters" in long.json()["Error"]["Message"]
    assert mlflow(standin, "POST", "runs/set-tag", run_id=name, key="long", value="x" * 1001).status_code == 400
    assert mlflow(standin, "POST", "runs/set-tag", run_id=name, key="long", value="x" * 1000).status_code == 200


def test_mlflow_refuses_in_the_shape_of_the_service(standin: StandIn) -> None:
    answer = mlflow(standin, "GET", "runs/get", run_id="nobody")
    assert answer.status_code == 404
    body = answer.json()
    assert body["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert "message" not in body
    assert "nobody" in body["Error"]["Message"]
    traces = http.call(standin, "GET", f"{http.MLFLOW}/traces")
    assert (traces.status_code, traces.text) == (403, "")
    logged = http.call(standin, "POST", f"{http.MLFLOW}/logged-models", json={})
    assert (logged.status_code, logged.text) == (404, "")
    for code, text in ((403, ""), (405, ""), (400, "The request is invalid.")):
        standin.inject(Fault("mlflow-403", route="runs/log-inputs", code=code))
        answer = mlflow(standin, "POST", "runs/log-inputs", run_id="x")
        assert answer.status_code == code
        assert (text in answer.text) if text else (answer.text == "")
        assert mlflow(standin, "GET", "runs/get", run_id="nobody").status_code == 404
        standin.clear_faults()


def test_the_registry_may_be_less_than_one_hopes_for(standin: StandIn) -> None:
    assert mlflow(standin, "POST", "registered-models/create", name="held").status_code == 200
    again = mlflow(standin, "POST", "registered-models/create", name="held")
    assert again.json()["error_code"] == "RESOURCE_ALREADY_EXISTS"
    standin.inject(Fault("already-exists"))
    assert mlflow(standin, "POST", "registered-models/create", name="held").json()["error_code"] == "ALREADY_EXISTS"
    deleted = mlflow(standin, "DELETE", "registered-models/delete", name="held")
    assert deleted.status_code == 400
    standin.inject(Fault("version-tags-400"))
    new: dict[str, Any] = {"name": "held", "source": "azureml://x/artifacts/models", "run_id": "a-run"}
    refused = mlflow(standin, "POST", "model-versions/create", tags=[{"key": "k", "value": "v"}], **new)
    assert (refused.status_code, refused.json()["Error"]["Message"]) == (400, "The request is invalid.")
    for number in (1, 2):
        made = mlflow(standin, "POST", "model-versions/create", **new).json()["model_version"]
        assert (made["version"], made["run_id"]) == (str(number), "a-run")
    standin.inject(Fault("version-without-run-id"))
    standin.inject(Fault("small-pages"))
    page = mlflow(standin, "GET", "model-versions/search", filter="name='held'", max_results="200").json()
    assert len(page["model_versions"]) == 1
    assert page["next_page_token"]
    assert "run_id" not in page["model_versions"][0]


def test_a_datastore_gives_a_signature_or_a_key_or_nothing(standin: StandIn) -> None:
    url, ask = "/datastores/workspaceartifactstore/listSecrets", {"expirableSecret": True, "expireAfterHours": 1}
    given = http.call(standin, "POST", url, json=ask).json()
    assert given["secretsType"] == "Sas"
    assert "sp=racwl" in given["sasToken"]
    assert http.call(standin, "POST", url, json={}).json()["secretsType"] == "AccountKey"
    standin.inject(Fault("account-key"))
    assert http.call(standin, "POST", url, json=ask).json()["secretsType"] == "AccountKey"
    standin.inject(Fault("no-keys"))
    assert http.call(standin, "POST", url, json=ask).status_code == 400
    store = http.call(standin, "GET", "/datastores/workspaceartifactstore").json()["properties"]
    assert store["credentials"] == {"credentialsType": "None"}
    assert http.call(standin, "GET", "").json()["properties"]["systemDatastoresAuthMode"] == "identity"


def test_without_keys_blobs_are_read_with_a_token_and_inputs_by_somebody(standin: StandIn) -> None:
    address = http.upload(standin, {"t.csv": b"x\n"})
    headers = {"x-ms-version": "2023-11-03"}
    for audience, status in (("https://storage.azure.com", 200), (http.MANAGEMENT, 401)):
        bearer = http.token(standin, audience)
        answer = http.call(standin, "GET", f"{address}/t.csv", bearer=bearer, headers=headers)
        assert answer.status_code == status
    standin.inject(Fault("no-keys"))
    inputs = {"data": {"jobInputType": "uri_file", "uri": f"{address}/t.csv"}}
    http.submit(standin, "of-nobody", "cat ${{inputs.data}}", inputs=inputs).raise_for_status()
    user = {"identityType": "UserIdentity"}
    http.submit(standin, "somebody", "cat ${{inputs.data}}", inputs=inputs, identity=user).raise_for_status()
    assert http.wait(standin, "of-nobody") == "Failed"
    assert "StreamAccess.Authentication" in http.details(standin, "of-nobody")["error"]["error"]["message"]
    assert http.wait(standin, "somebody") == "Completed"


@pytest.mark.parametrize("variant", ["AuthorizationPermissionMismatch", "AuthenticationFailed"])
def test_storage_may_refuse_the_submitting_side_alone(standin: StandIn, variant: str) -> None:
    address = http.upload(standin, {"a.txt": b"x"})
    standin.inject(Fault("storage-403", variant=variant, route="GET "))
    refused = http.call(standin, "GET", f"{address}/a.txt", bearer=None)
    assert (refused.status_code, refused.headers["x-ms-error-code"]) == (403, variant)
    http.upload(standin, {"b.txt": b"x"})
    standin.inject(Fault("storage-403", variant=variant))
    begun = http.call(standin, "POST", "/codes/c/versions/1/startPendingUpload", json={}).json()
    base, _, signature = begun["blobReferenceForConsumption"]["credential"]["sasUri"].partition("?")
    headers = {"x-ms-blob-type": "BlockBlob", "x-ms-version": "2023-11-03"}
    upload = http.call(standin, "PUT", f"{base}/c.txt?{signature}", bearer=None, data=b"x", headers=headers)
    assert upload.status_code == 403
    bearer, _ = Tokens(standin.folder.secret("token")).issue(names.AML_RESOURCE, run="a-run")
    artifacts = f"{http.HISTORY}/experimentids/0/runs/a-run-{variant}/artifacts"
    paths = {"paths": [{"path": "kept.txt"}]}
    given = http.call(standin, "POST", f"{artifacts}/batch/metadata", bearer=bearer, json=paths).json()
    mine = given["artifactContentInformation"]["kept.txt"]["contentUri"]
    assert http.call(standin, "PUT", mine, bearer=None, data=b"x", headers=headers).status_code == 201


def test_an_artifact_may_have_any_name(standin: StandIn) -> None:
    for path in ("../outside.txt", "n" * 300, "twice", "twice/inner.txt"):
        standin.plant("planted", path, path.encode())
    url = f"{http.HISTORY}/experimentids/0/runs/planted/artifacts"
    found = [item["path"] for item in http.call(standin, "GET", url).json()["value"]]
    assert sorted(found) == sorted(["../outside.txt", "n" * 300, "twice", "twice/inner.txt"])
    signed = http.call(standin, "GET", f"{url}/contentinfo", params={"path": "../outside.txt"}).json()["contentUri"]
    assert http.call(standin, "GET", signed, bearer=None).status_code in (200, 403)


@pytest.mark.parametrize("temporary", [True, False])
def test_what_does_not_start_says_why(tmp_path: Path, temporary: bool) -> None:
    workspace = StandIn(None if temporary else tmp_path)
    root = workspace.folder.root
    (root / "state.db").write_text("this is no database, and it is long enough to be read as one")
    (root / "azurite.log").write_text("what the store has said\n")
    with pytest.raises(RuntimeError, match="file is not a database") as caught:
        workspace.start()
    assert "what the store has said" in str(caught.value)
    assert root.exists() is not temporary


def test_the_readme_has_the_tables_of_routes_and_faults() -> None:
    text = (Path(routes.__file__).parent / "README.md").read_text()
    for block in (routes.table(), routes.faults_table()):
        assert block in text, "write it anew: PYTHONPATH=. cog -r tests/standin/README.md"


def test_every_route_says_where_its_answer_is_known_from() -> None:
    assert all(route.evidence for route in routes.ALL)
