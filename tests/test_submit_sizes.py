"""Sizes, prices and quota: what the subscription says, in all its spellings, and that none of it is needed."""

from types import SimpleNamespace
from typing import Any

import pytest

from submit import compute, sizes
from submit.sizes import Quota, Size, Usage
from tests.submitting import Answers, fake_workspace, refusal, ticking
from trainer.errors import UserError

# of the SDK's own use of marshmallow
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

D4 = Size("Standard_D4ds_v4", "standardDDSv4Family", 4, 16.0, 0, {"Standard": 0.25, "LowPriority": 0.05, "Spot": 0.04})
LOCATION = "/subscriptions/s/providers/Microsoft.MachineLearningServices/locations/westeurope"


def row(value: str, label: str, limit: int, used: int = 0, spelled: str = "localizedValue", where: str = "") -> Any:
    """A usage as the SDK gives it: an object whose name is a dict."""
    return SimpleNamespace(
        id=f"{LOCATION}{where}/usages/x", name={"value": value, spelled: label}, limit=limit, current_value=used
    )


REGION = row("cores", "Total Cluster Dedicated Regional vCPUs", 20)
LOW = row("lowPriorityCores", "Total Cluster Low Priority Regional vCPUs", 10)
LONG = "Standard DDSv4 Family Cluster Dedicated vCPUs"


def verdict(rows: list[Any], nodes: int = 1, low: bool = False, size: Size = D4) -> Quota:
    client = SimpleNamespace(compute=SimpleNamespace(list_usage=Answers(rows)))
    return sizes.quota(sizes.usages(fake_workspace(client)), size, nodes, low)


@pytest.mark.parametrize(
    ("rows", "nodes", "low", "expected"),
    [
        # both spellings of the family, in either name, and both spellings of the name itself
        ([row("standardDDSv4Family", LONG, 6), REGION], 1, False, "enough"),
        ([row(LONG, LONG, 6), REGION], 1, False, "enough"),
        ([row("x", LONG, 0, spelled="localized_value"), REGION], 1, False, "short"),
        ([row("x", LONG, 0), REGION], 1, False, "short"),
        # nodes x cores, in the family and in the region
        ([row(LONG, LONG, 6), REGION], 2, False, "short"),
        ([row(LONG, LONG, 100), REGION], 5, False, "enough"),
        ([row(LONG, LONG, 100), REGION], 6, False, "short"),
        # -1: no dedicated cores of the family; no limit of the region
        ([row(LONG, LONG, -1), REGION], 1, False, "short"),
        ([row(LONG, LONG, 6), row("x", "Total Cluster Dedicated Regional vCPUs", -1)], 1, False, "enough"),
        # rows of other workspaces and of clusters
        ([row(LONG, LONG, 0, where="/workspaces/other"), row(LONG, LONG, 6), REGION], 1, False, "enough"),
        ([row(LONG, LONG, 6, where="/workspaces/other"), REGION], 1, False, "unknown"),
        # another family, whose name begins alike
        ([row("x", "Standard DDSv4Plus Family Cluster Dedicated vCPUs", 6), REGION], 1, False, "unknown"),
        # nothing that matches
        ([row(LONG, LONG, 6)], 1, False, "unknown"),
        ([REGION], 1, False, "unknown"),
        # low priority: the region alone
        ([LOW, row(LONG, LONG, 0), REGION], 2, True, "enough"),
        ([LOW], 3, True, "short"),
        ([row("x", "Standard DDSv4 Family Cluster Low Priority vCPUs", -1), LOW], 1, True, "enough"),
        ([REGION], 1, True, "unknown"),
    ],
)
def test_quota(rows: list[Any], nodes: int, low: bool, expected: str) -> None:
    assert verdict(rows, nodes, low).verdict == expected


def test_what_is_said_of_the_quota() -> None:
    assert verdict([row(LONG, LONG, 6), REGION]).text == f"4 of 6 cores ({LONG})"
    assert (
        verdict([row(LONG, LONG, 6, used=4), REGION]).text
        == f"4 of 6 cores, of which 4 are in use: it may wait ({LONG})"
    )
    assert verdict([row(LONG, LONG, 6), REGION], 2).text == f"{LONG} is 6 cores, and 2 nodes take 8"
    assert verdict([REGION]).text == "unknown: the service lists none for standardDDSv4Family"


def vm(name: str, **facts: Any) -> Any:
    return SimpleNamespace(**{"name": name, "family": "standardDDSv4Family", "vCPUs": 4, "memoryGB": 16.0, **facts})


def test_sizes_are_those_that_clusters_can_have_with_prices_for_linux() -> None:
    prices = {
        "values": [
            {"retailPrice": 0.3, "osType": "Windows", "vmTier": "Standard"},
            {"retailPrice": 0.2, "osType": "Linux", "vmTier": "Standard"},
            {"retailPrice": 0.04, "osType": "Linux", "vmTier": "LowPriority"},
        ]
    }
    listed = [
        vm("Standard_D4ds_v4", estimatedVMPrices=prices, supportedComputeTypes=["AmlCompute", "MIR"]),
        vm("Standard_NV6", supportedComputeTypes=["MIR"]),
        vm("Standard_Old"),
    ]
    client = SimpleNamespace(compute=SimpleNamespace(list_sizes=Answers(listed)))
    known = sizes.sizes(fake_workspace(client))
    assert known is not None
    assert list(known) == ["standard_d4ds_v4", "standard_old"]
    found = known["standard_d4ds_v4"]
    assert (found.price("dedicated"), found.price("low priority"), found.price("spot")) == (0.2, 0.04, 0.04)
    assert known["standard_old"].price("dedicated") is None


def test_what_fits_the_quota_is_listed_cheapest_first() -> None:
    known = {
        one.name: one
        for one in (
            D4,
            Size("big", "standardDDSv4Family", 16, prices={"Standard": 0.1}),
            Size("cheap", "standardDDSv4Family", 2, prices={"Standard": 0.1}),
            Size("unpriced", "standardDDSv4Family", 2),
            Size("gpu", "standardDDSv4Family", 2, gpus=1, prices={"Standard": 0.01}),
        )
    }
    limits = [Usage(("standardddsv4family",), "f", 6, 0), Usage(("totalclusterdedicatedregionalvcpus",), "r", 20, 0)]
    assert [(one.name, price) for one, price in sizes.fitting(known, limits, "dedicated")] == [
        ("cheap", 0.1), ("Standard_D4ds_v4", 0.25), ("unpriced", None),
    ]  # fmt: skip
    assert [one.name for one, _ in sizes.fitting(known, limits, "dedicated", nodes=2)] == ["cheap", "unpriced"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(403), "not readable with your role"),
        (refusal(404), "the service does not tell (404)"),
        (refusal(501), "the service does not tell (501)"),
        (TypeError("'NoneType' object is not iterable"), "the service's answer cannot be read"),
        ([], "the service lists none"),
    ],
)
def test_advice_that_is_not_given_is_one_line_and_no_more(
    answer: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = Answers(answer, again=True)
    client = SimpleNamespace(compute=SimpleNamespace(list_sizes=ask, list_usage=ask, get=Answers(refusal(404))))
    workspace = fake_workspace(client)
    known, limits = sizes.sizes(workspace), sizes.usages(workspace)
    assert (known, limits) == (None, None)
    assert capsys.readouterr().out.splitlines() == [f"sizes: {said}", f"quota: {said}"]
    target = compute.plan(workspace, compute.Asked(), known, limits)
    assert (target.quota.verdict, target.price, target.remarks) == ("unknown", None, ())
    assert target.text == "cpu-cluster, 0 to 4 nodes of Standard_D4ds_v4, dedicated, to be created"


def cluster(**changed: Any) -> Any:
    facts = {"name": "cpu-cluster", "type": "amlcompute", "size": "STANDARD_D4DS_V4", "tier": "dedicated",
             "min_instances": 0, "max_instances": 4, "provisioning_state": "Succeeded", "provisioning_errors": None,
             "identity": None}  # fmt: skip
    return SimpleNamespace(**facts | changed)


def plan(found: Any, asked: compute.Asked | None = None, **workspace: Any) -> compute.Target:
    client = SimpleNamespace(compute=SimpleNamespace(get=Answers(found)))
    return compute.plan(fake_workspace(client, **workspace), asked or compute.Asked(), {D4.name.casefold(): D4}, None)


def test_a_cluster_is_taken_as_it_is_and_what_differs_is_said() -> None:
    same = plan(cluster())
    assert same.text == "cpu-cluster, 0 to 4 nodes of Standard_D4ds_v4 (4 cores, 16 GB), dedicated"
    assert (same.remarks, same.cluster, same.price) == ((), None, 0.25)
    other = plan(cluster(tier="LowPriority", max_instances=1))
    assert [remark.partition(":")[0] for remark in other.remarks] == [
        "its largest number of nodes is 1, not 4", "its priority is low priority, not dedicated",
    ]  # fmt: skip
    assert other.price == 0.05
    assert plan(cluster(name="mine", max_instances=1), compute.Asked(cluster="mine")).remarks == ()
    by_hand = plan(cluster(name="mine", max_instances=None), compute.Asked(cluster="mine", nodes=3))
    assert by_hand.text.startswith("mine, nodes of Standard_D4ds_v4")


@pytest.mark.parametrize(
    ("found", "asked", "cause"),
    [
        (cluster(type="computeinstance"), {}, "cpu-cluster is not a cluster, but a compute of type computeinstance"),
        (cluster(provisioning_state="Failed", provisioning_errors="no quota"), {}, r"\(state Failed\): no quota"),
        (cluster(), {"nodes": 5}, "asks for 5 nodes, and the cluster cpu-cluster has at most 4"),
        (cluster(max_instances=0), {}, "asks for 1 node, and the cluster cpu-cluster has at most 0"),
        (refusal(404), {"size": "Standard_D4d_v4"}, "not a size of .* did you mean 'Standard_D4ds_v4'"),
        (cluster(), {"size": "Standard_D4d_v4"}, "not a size of"),
        (None, {"size": "Standard_D4d_v4", "serverless": True}, "not a size of"),
    ],
)
def test_where_a_job_cannot_run_is_told(found: Any, asked: dict[str, Any], cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        plan(found, compute.Asked(**asked))


def test_serverless_asks_for_no_cluster() -> None:
    target = plan(AssertionError("nobody asks for a cluster"), compute.Asked(serverless=True, low_priority=True))
    assert target.text == "serverless, 1 node of Standard_D4ds_v4 (4 cores, 16 GB), spot"
    assert target.price == 0.04
    fields = compute.Asked(serverless=True, low_priority=True, nodes=2, size="Standard_F4s_v2").job_fields()
    assert "compute" not in {key for key, value in fields.items() if value is not None}
    assert fields["resources"] == {"instance_type": "Standard_F4s_v2", "instance_count": 2}
    assert fields["queue_settings"] == {"job_tier": "spot"}
    with pytest.raises(UserError, match="--serverless needs no cluster"):
        compute.Asked(serverless=True, cluster="mine")


def test_a_workspace_by_identity_takes_clusters_with_an_identity() -> None:
    made = plan(refusal(404), by_identity=True)
    assert made.cluster.identity.type == "system_assigned"
    assert "Storage Blob Data Contributor" in made.hints[0]
    assert "has none" in plan(cluster(), by_identity=True).remarks[0]
    assert compute.Asked().job_fields(by_identity=True)["identity"] == {"type": "managed"}
    assert "identity" not in compute.Asked().job_fields()


def test_a_cluster_that_may_not_be_created_names_the_way_without_one() -> None:
    client = SimpleNamespace(compute=SimpleNamespace(begin_create_or_update=Answers(refusal(403))))
    target = compute.Target(compute.Asked(), "s", "dedicated", "", cluster=cluster())
    with pytest.raises(UserError, match="not permitted to create the cluster cpu-cluster") as caught:
        compute.create(fake_workspace(client), target)
    assert caught.value.remedy.startswith("send it with --serverless")


def test_a_quota_that_is_too_small_names_the_sizes_of_its_own_kind() -> None:
    client = SimpleNamespace(compute=SimpleNamespace())
    asked = compute.Asked(serverless=True, low_priority=True, nodes=3)
    target = compute.plan(
        fake_workspace(client), asked, {D4.name.casefold(): D4}, [Usage(("lowprioritycores",), "r", 10, 0)]
    )
    assert "`python submit/remote.py doctor --serverless --low-priority --nodes 3` lists sizes" in target.remarks[-1]


def test_a_cluster_that_is_there_is_not_said_to_be_created(capsys: pytest.CaptureFixture[str]) -> None:
    compute.create(fake_workspace(SimpleNamespace(compute=None)), plan(cluster()))
    assert capsys.readouterr().out == ""


def test_a_cluster_that_is_being_created_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ticking(monkeypatch)
    states = Answers(*(cluster(provisioning_state=state) for state in ("Creating", "Creating", "Succeeded")))
    target = compute.Target(compute.Asked(), "s", "dedicated", "")
    compute.create(fake_workspace(SimpleNamespace(compute=SimpleNamespace(get=states))), target)
    assert clock.slept == [2.0, 2.0]
    stuck = Answers(cluster(provisioning_state="Creating"), again=True)
    with pytest.raises(UserError, match="the cluster cpu-cluster is in state Creating"):
        compute.create(fake_workspace(SimpleNamespace(compute=SimpleNamespace(get=stuck))), target)


def test_what_a_job_costs_is_known_by_its_cluster_or_its_own_size() -> None:
    listed = [SimpleNamespace(name="spot", size="standard_d4ds_v4", tier="low_priority")]
    d4 = vm(D4.name, estimatedVMPrices={
        "values": [{"retailPrice": price, "osType": "Linux", "vmTier": tier} for tier, price in D4.prices.items()]
    })  # fmt: skip
    client = SimpleNamespace(compute=SimpleNamespace(list=lambda: listed, list_sizes=Answers([d4])))
    prices = compute.Prices(fake_workspace(client))
    two = SimpleNamespace(instance_count=2, instance_type=None)
    own = SimpleNamespace(instance_count=1, instance_type="Standard_D4ds_v4")
    assert prices.of(SimpleNamespace(compute="azureml:/x/computes/spot", resources=two)) == pytest.approx(0.1)
    spot = SimpleNamespace(job_tier="Spot")
    assert prices.of(SimpleNamespace(compute=None, resources=own, queue_settings=spot)) == 0.04
    assert prices.of(SimpleNamespace(compute=None, resources=own)) == 0.25
    assert prices.of(SimpleNamespace(compute="gone", resources=None)) is None
