"""The story of a submission, told without a service: what is sent how often, what is said in the end, exit codes."""

import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from submit import compute, follow, job, outputs, submission
from submit.data import JobInput
from submit.follow import Ending
from submit.outputs import Metric, Verified
from submit.own import Trainer
from submit.submission import Sent, Submission, conclude
from submit.workspace import Workspace
from tests.submitting import Answers, fake_workspace, refusal
from trainer.errors import Interrupted, UserError

# of the SDK's own use of marshmallow
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OURS = Trainer()
WORK = OURS.work("main", OURS.defaults("main"), {"data": JobInput("uri_file", "/t.csv", "t.csv")})
ASKED = Submission(WORK, compute.Asked())
COMPLETED = Ending("Completed", seconds=360.0)
PREEMPTED = Ending("Failed", preempted=True)
METRIC = Metric("train-1", 48.0, 442, "m", {})
FOUND = Verified(Path("out/train-1"), 3, 2_000, METRIC, SimpleNamespace(exact=True, rows=92))  # type: ignore[arg-type]
VERSION = SimpleNamespace(name="m", version="7", tags={"rows": "442", "champion_verdict": "a tie"})


def sent(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    endings: list[Any],
    create: Any = None,
    by_identity: bool = False,
    **changed: Any,
) -> tuple[Ending | None, list[dict[str, Any]]]:
    """Send a job to a service whose jobs end as they are told, and return the last ending and the jobs."""
    jobs: list[dict[str, Any]] = []
    original = job.document

    def written(*arguments: Any, **options: Any) -> dict[str, Any]:
        jobs.append(original(*arguments, **options))
        return jobs[-1]

    monkeypatch.setattr(job, "document", written)
    monkeypatch.setattr(follow, "follow", Answers(*endings))
    studio = SimpleNamespace(studio_url="https://ml.azure.com/runs/x")
    client = SimpleNamespace(
        jobs=SimpleNamespace(create_or_update=create or Answers(studio, again=True), get=Answers(1))
    )
    (tmp_path / "code").mkdir()
    workspace = fake_workspace(client, by_identity=by_identity)
    order = Sent(
        workspace, replace(ASKED, **changed), tmp_path / "code", tempfile.TemporaryDirectory(dir=tmp_path), None
    )
    with order.scratch:
        submission._send(order, {})
        ending = None if order.submission.detach else submission._follow_until_done(order)
    assert order.name == jobs[-1]["name"]
    return ending, jobs


def test_a_job_whose_node_was_taken_away_is_sent_again_under_another_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ending, jobs = sent(monkeypatch, tmp_path, [PREEMPTED, PREEMPTED, COMPLETED])
    assert ending == COMPLETED
    assert [job["tags"].get("resubmission_of") for job in jobs] == [None, jobs[0]["name"], jobs[1]["name"]]
    assert len({job["name"] for job in jobs}) == 3
    assert "sent again, 2 of 2 times" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("endings", "resubmit", "times"),
    [([PREEMPTED] * 3, 2, 3), ([PREEMPTED], 0, 1), ([Ending("Failed")], 2, 1), ([Ending("Canceled")], 2, 1),
     ([Ending("Running", detached=True)], 2, 1)],
)  # fmt: skip
def test_nothing_else_is_sent_again(
    endings: list[Ending], resubmit: int, times: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ending, jobs = sent(monkeypatch, tmp_path, endings, resubmit=resubmit)
    assert (ending, len(jobs)) == (endings[-1], times)


def test_a_job_in_a_workspace_by_identity_has_an_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert sent(monkeypatch, tmp_path, [COMPLETED], by_identity=True)[1][0]["identity"] == {"type": "managed"}


def test_nobody_waits_for_a_job_that_is_detached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert sent(monkeypatch, tmp_path, [], detach=True)[0] is None


def test_an_interruption_while_a_job_is_sent_leaves_it_or_finds_that_it_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Answers(Interrupted(signal.SIGTERM), again=True)
    monkeypatch.setattr(follow, "exists", lambda *_: True)
    assert sent(monkeypatch, tmp_path, [], create=stopped)[0] == Ending("Running", detached=True)
    monkeypatch.setattr(follow, "exists", lambda *_: False)
    (tmp_path / "b").mkdir()
    with pytest.raises(Interrupted):
        sent(monkeypatch, tmp_path / "b", [], create=stopped)
    assert capsys.readouterr().out.endswith("nothing was sent\n")


def concluded(
    monkeypatch: pytest.MonkeyPatch, ending: Ending, version: Any = VERSION, register: bool = False, price: Any = 0.5
) -> int:
    monkeypatch.setattr(outputs, "fetch", Answers(FOUND))
    monkeypatch.setattr(outputs, "find_version", Answers(version))
    monkeypatch.setattr(outputs, "register", Answers(VERSION))
    workspace = fake_workspace(SimpleNamespace(jobs=SimpleNamespace(get=Answers(None, again=True))))
    return conclude(workspace, "train-1", ending, Path("out"), price, register)


def test_what_has_come_of_a_job_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert concluded(monkeypatch, COMPLETED) == 0
    assert capsys.readouterr().out.splitlines() == [
        "it ran for 6:00, about 0.05 USD at 0.50 USD an hour",
        "outputs   out/train-1 (3 files, 2.0 kB)",
        "verified  its model predicts its 92 recorded rows again, exactly",
        "rmse      48.0000",
        "model     models:/m/7, from run train-1 (rows 442)",
        "champion  a tie",
    ]


def test_a_job_that_has_not_completed_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for status in ("Failed", "Canceled"):
        assert concluded(monkeypatch, Ending(status)) == 1
        assert capsys.readouterr().out == f"job train-1 is {status.lower()}\n"
    assert concluded(monkeypatch, Ending("Failed", log_tail="error: could not register a version of m")) == 1
    assert "to register it: python submit/remote.py attach train-1 --register" in capsys.readouterr().out
    assert concluded(monkeypatch, Ending("Failed"), version=None, register=True) == 0
    assert "models:/m/7" in capsys.readouterr().out
    assert concluded(monkeypatch, Ending("Running", detached=True)) == 130
    assert capsys.readouterr().out.startswith("job train-1 goes on. To follow it again: python submit/remote.py attach")


@pytest.mark.parametrize(
    ("version", "register", "said"),
    [
        (None, False, "not registered (python submit/remote.py attach train-1 --register)"),
        (None, True, "models:/m/7"),
        (UserError("not permitted", "ask"), False, "the registry does not tell: not permitted"),
    ],
)
def test_a_model_that_is_not_found_in_the_registry_is_verified_all_the_same(
    version: Any, register: bool, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert concluded(monkeypatch, COMPLETED, version, register) == 0
    assert f"model     {said}" in capsys.readouterr().out
    refused = UserError("not permitted", "ask")
    with pytest.raises(UserError):
        concluded(monkeypatch, COMPLETED, refused, register=True)


def test_where_no_price_is_known_nothing_is_said_of_the_cost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compute, "sizes", lambda _: None)
    assert concluded(monkeypatch, COMPLETED, price=None) == 0
    assert "USD" not in capsys.readouterr().out
    assert concluded(monkeypatch, Ending("Completed")) == 0
    assert "USD" not in capsys.readouterr().out


def test_a_late_registration_is_the_one_that_train_py_would_have_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from trainer import registry

    params = {"estimator": "ridge", "target": "y", "split": "stable", "test_fraction": "0.2", "key": "none"}
    document = {"data_sha256": "d", "git_commit": "g", "params": params}
    seen: list[Any] = []

    @contextmanager
    def registered(run: Any, name: str, path: str, tags: Any, model_id: Any) -> Any:
        seen.append((run.id, name, path, tags))
        yield "3"

    info = SimpleNamespace(experiment_id="1", artifact_uri="azureml://x/runs/train-1/artifacts")
    client = SimpleNamespace(get_run=Answers(SimpleNamespace(info=info)), get_model_version=Answers("the version"))
    monkeypatch.setattr(Workspace, "mlflow", lambda _: client)
    monkeypatch.setattr(registry, "registered", registered)
    monkeypatch.setattr(registry, "conclude", lambda *given: seen.append(given[1:]))
    monkeypatch.setattr("mlflow.set_tracking_uri", lambda _: None)
    assert outputs.register(fake_workspace(), replace(METRIC, document=document)) == "the version"
    (run, name, path, tags), (model, version, sentence) = seen
    assert (run, name, path, model, version) == ("train-1", "m", f"{info.artifact_uri}/models", "m", "3")
    assert {
        "rmse": "48.0",
        "rows": "442",
        "data_sha256": "d",
        "git_commit": "g",
        "estimator": "ridge",
    }.items() <= tags.items()
    assert "not compared with the champion" in sentence


def test_refusals_reach_the_screen_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blob = "https://acct.blob.core.windows.net/c/b?sig=TOPSECRET"
    create = Answers(refusal(403, blob, "AuthorizationPermissionMismatch"))
    with pytest.raises(UserError, match="the storage account acct refuses to send the job") as caught:
        sent(monkeypatch, tmp_path, [], create=create)
    assert "TOPSECRET" not in str(caught.value)
