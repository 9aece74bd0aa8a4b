"""A job on its way: states, logs, nodes, preemption, cancellation, interruption; with a service that is told."""

import signal
from datetime import UTC, datetime, timedelta
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest

from submit import follow, jobs, log
from submit.follow import Ending, JobState
from submit.log import Log
from submit.workspace import Workspace
from tests.submitting import Answers, fake_workspace, refusal, ticking
from trainer.errors import Interrupted, UnreachableError, UserError

LOG = "user_logs/std_log.txt"
BLOB = "https://acct.blob.core.windows.net/c/log?sig=SECRET"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def details(status: str, error: str = "", logs: tuple[str, ...] = (LOG,), tags: dict[str, str] | None = None) -> Any:
    """A run's details as the SDK gives them."""
    root = SimpleNamespace(error=SimpleNamespace(message=error)) if error else None
    return SimpleNamespace(
        status=status, error=root, log_files=dict.fromkeys(logs, BLOB), tags=tags, start_time_utc=BEGAN,
        end_time_utc=BEGAN + timedelta(minutes=6),
    )  # fmt: skip


class Job:
    """A service with one job, which is in one state after another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *states: Any, says: Any = b"", cancel: Any = None) -> None:
        self.clock = ticking(monkeypatch)
        self.cancelled = Answers(cancel, again=True)
        self.states = Answers(*states, again=True)
        self.says = says if callable(says) else lambda offset: says[offset:]
        self.workspace = fake_workspace(SimpleNamespace(jobs=SimpleNamespace(begin_cancel=self.cancelled)))
        monkeypatch.setattr(Workspace, "run_details", lambda _, name: self.states(name))
        monkeypatch.setattr(log, "read_log", self._read)

    def _read(self, workspace: Workspace, _: str, offset: int, patience: float) -> bytes | None:
        answer = workspace.call("read the log", lambda: self.says(offset), patience)
        return None if answer is None else bytes(answer[: log.CHUNK_BYTES])

    def follow(self, queue_timeout: int | None = None) -> Ending:
        return follow.follow(self.workspace, "train-1", queue_timeout, "detach")


def test_a_job_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    states = [details(status) for status in ("Preparing", "Queued", "Running", "Finalizing", "Completed")]
    ending = Job(monkeypatch, *states, says=b"one\ntwo").follow()
    assert ending == Ending("Completed", log_tail="one\ntwo", seconds=360.0)
    assert [line.partition(" (")[0] for line in capsys.readouterr().out.splitlines()] == [
        "waiting for the job", "Preparing", "| one", "Queued", "Running", "Finalizing", "| two", "Completed",
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["NotResponding", "Paused", "Unapproved", "SomethingNew"])
def test_only_three_states_are_the_end(
    status: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(
        monkeypatch, details("Running"), details(status), details(status), details("Running"), details("Completed")
    )
    assert job.follow(queue_timeout=1).status == "Completed"
    assert f"\n{status} (" in capsys.readouterr().out
    for ended in ("Completed", "Failed", "Canceled"):
        assert Job(monkeypatch, details(ended)).follow().status == ended


def test_a_job_in_the_queue_says_what_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def queued(status: str) -> Any:
        return details("Queued", tags={"_aml_system_ComputeTargetStatus": status})

    told = '{"AllocationState":"resizing","PreparingNodeCount":1,"RunningNodeCount":0,"CurrentNodeCount":1}'
    Job(monkeypatch, queued(told), queued("[1]"), queued("not JSON"), queued("{}"), details("Completed")).follow()
    out = capsys.readouterr().out
    assert "Queued (nodes: 1 preparing and 1 current, cluster resizing) (" in out
    assert out.count("Queued") == 2 + out.count("Queued (nodes: none yet)")


def test_a_job_without_a_node_is_cancelled_after_the_queue_timeout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(monkeypatch, *[details("Queued")] * 8, details("Canceled"))
    assert job.follow(queue_timeout=10).status == "Canceled"
    assert job.cancelled.calls == 1
    assert "no node in 0:1" in capsys.readouterr().out
    patient = Job(
        monkeypatch, *[details("Queued")] * 8, details("Running"), *[details("Queued")] * 2, details("Completed")
    )
    assert patient.follow(queue_timeout=60).status == "Completed"
    assert patient.cancelled.calls == 0


def test_a_job_that_the_service_starts_again_is_the_same_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = [details(status) for status in ("Running", "Running", "Queued", "Running", "Completed")]
    job = Job(monkeypatch, *states)
    shrunk = Answers(b"first\n", b"", None, b"again\n", b"", b"", again=True)
    monkeypatch.setattr(log, "read_log", shrunk)
    assert job.follow().status == "Completed"
    out = capsys.readouterr().out
    assert out.count("the service has taken its node away, and starts the same job again") == 1
    assert "the log begins again" in out
    assert (out.count("| first"), out.count("| again")) == (1, 1)


@pytest.mark.parametrize(
    "error", [refusal(403, BLOB, "AuthorizationPermissionMismatch"), refusal(409, BLOB), refusal(400, BLOB)]
)
def test_a_log_that_is_refused_is_told_once_and_the_job_followed(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = Answers(error, again=True)
    states = [details("Running")] * 3 + [details("Failed", "User process 'python' exited with status code 2.")]
    ending = Job(monkeypatch, *states, says=lambda _: ask()).follow()
    assert (ending.status, ending.preempted) == ("Failed", False)
    out = capsys.readouterr().out
    assert out.count("its log is not shown, and the job is followed all the same") == 1
    assert "SECRET" not in out
    assert "failed: User process 'python' exited with status code 2." in out


def test_a_log_whose_address_has_expired_is_read_at_its_next_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expired = refusal(403, BLOB, "AuthenticationFailed")
    states = [details("Running")] * 3 + [details("Completed")]
    ask = Answers(expired, b"one\n", b"", again=True)
    assert Job(monkeypatch, *states, says=lambda _: ask()).follow().status == "Completed"
    assert "| one" in capsys.readouterr().out
    always = Answers(expired, again=True)
    assert Job(monkeypatch, *states, says=lambda _: always()).follow().status == "Completed"
    out = capsys.readouterr().out
    assert out.count("its log is not shown, and the job is followed all the same") == 1
    assert "this machine's clock" in out


def test_a_service_that_is_away_leaves_the_job_running(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(monkeypatch, details("Running"), refusal(503))
    assert job.follow() == Ending("unknown", detached=True)
    assert job.clock.now > 1_700


@pytest.mark.parametrize(
    ("status", "reason", "preempted"),
    [
        ("Failed", "PreemptionError: Nodes of this job got pre-empted.", True),
        ("Failed", "The node was preempted by the service", True),
        # what a job's own code prints may say the same: sent again it would fail again, and cost again
        ("Failed", "User process 'python' exited with status code 1. Error: PreemptionError: preempt", False),
        ("Failed", "Execution failed. User process 'python' exited with status code 2. Error: pre-empted", False),
        ("Failed", "The image could not be built", False),
        ("Canceled", "PreemptionError", False),
        ("Completed", "preempt", False),
    ],
)
def test_only_a_node_that_was_taken_away_is_a_preemption(status: str, reason: str, preempted: bool) -> None:
    ending = follow._ended(fake_workspace(), JobState(status, reason), "", Log())
    assert (ending.status, ending.preempted) == (status, preempted)


@pytest.mark.parametrize(
    ("logs", "shown", "reason", "told"),
    [
        ((LOG, "azureml-logs/20_image_build_log.txt"), "", "Image build failed.",
         "azureml-logs/20_image_build_log.txt"),
        (("user_logs/std_log_process_0.txt", "user_logs/std_log_process_1.txt"), "user_logs/std_log_process_0.txt",
         "process 1 failed, see 'user_logs/std_log_process_1.txt'", "user_logs/std_log_process_1.txt"),
    ],
)  # fmt: skip
def test_the_log_that_tells_why_is_shown(
    logs: tuple[str, ...], shown: str, reason: str, told: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(log, "read_log", lambda _, address, offset: address.encode()[offset:])
    state = JobState("Failed", reason, {name: f"the end of {name}" for name in logs})
    ending = follow._ended(fake_workspace(), state, shown, Log())
    assert ending.log_tail == f"the end of {told}"
    assert f"the last lines of {told}:\n| the end of {told}" in capsys.readouterr().out


def test_a_log_is_cut_into_lines_wherever_it_was_cut() -> None:
    text = "eins\nzwei äöü\r\n10%\r50%\r100%\nno end".encode()
    for step in (1, 2, 3, 7, 100):
        read = Log()
        lines: list[str] = []
        for start in range(0, len(text), step):
            lines += read.take(text[start : start + step])
        lines += read.take(b"", last=True)
        assert lines == ["eins", "zwei äöü", "100%", "no end"]
        assert read.offset == len(text)
    assert read.tail == lines


def test_a_log_without_end_does_not_keep_the_job_from_being_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "CHUNK_BYTES", 8)
    job = Job(monkeypatch, details("Running"), details("Running"), details("Completed"), says=lambda _: b"1234567\n")
    assert job.follow().status == "Completed"
    out = capsys.readouterr().out
    assert out.count("| 1234567") == 3 * log.CHUNKS
    assert "the log goes on; the studio shows all of it" in out
    line = Log()
    assert line.take(b"x" * (log.MAX_LINE_BYTES + 1)) == ["x" * (log.MAX_LINE_BYTES + 1)]
    assert line.rest == b""


@pytest.mark.parametrize(
    ("before", "answer", "had_ended"),
    [
        ("Running", None, False),
        ("NotResponding", None, False),
        ("Paused", None, False),
        ("Completed", None, True),
        ("Canceled", refusal(400), True),
        ("Failed", refusal(409), True),
    ],
)
def test_cancel_always_asks_the_service(
    before: str, answer: Any, had_ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = details(before) if had_ended else details("Canceled")
    job = Job(monkeypatch, details(before), after, cancel=answer)
    ending, ended = follow.cancel(job.workspace, "train-1")
    assert job.cancelled.calls == 1
    assert (ending.status, ended) == (after.status, had_ended)


def test_what_cannot_be_cancelled_is_told_and_what_takes_too_long_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="could not cancel the job train-1"):
        follow.cancel(Job(monkeypatch, details("Running"), cancel=refusal(400)).workspace, "train-1")
    with pytest.raises(UserError, match="not permitted to cancel the job train-1"):
        follow.cancel(Job(monkeypatch, details("Running"), cancel=refusal(403)).workspace, "train-1")
    with pytest.raises(UserError, match="has no job 'train-1'"):
        follow.cancel(Job(monkeypatch, refusal(404)).workspace, "train-1")
    with pytest.raises(UserError, match="cannot be the name of a job"):
        follow.cancel(fake_workspace(), "../jobs")
    slow = Job(monkeypatch, details("CancelRequested"))
    ending, _ = follow.cancel(slow.workspace, "train-1")
    assert (ending.status, ending.detached) == ("CancelRequested", True)


@pytest.mark.parametrize(
    ("asked", "number", "detached"),
    [("ask", signal.SIGTERM, True), ("ask", signal.SIGINT, True), ("detach", signal.SIGINT, True),
     ("cancel", signal.SIGTERM, False)],
)  # fmt: skip
def test_an_interruption_detaches_or_cancels_as_it_was_told(
    asked: str, number: int, detached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(monkeypatch, details("Running"), Interrupted(number), details("Running"), details("Canceled"))
    ending = follow.follow(job.workspace, "train-1", None, asked)
    assert (ending.detached, job.cancelled.calls) == (detached, 0 if detached else 1)


def test_a_second_interruption_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [details("Running"), Interrupted(signal.SIGINT), details("Running"), Interrupted(signal.SIGINT)]
    ending = follow.follow(Job(monkeypatch, *states).workspace, "train-1", None, "cancel")
    assert ending.detached


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [("3", "5", (3, 5)), ("x", "", (2, 10)), ("-1", "nan", (2, 10)), ("inf", "1e999", (2, 10)), ("20", "5", (20, 20))],
)
def test_variables_that_are_no_seconds_are_passed_over(
    least: str, most: str, expected: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZUREML_RUN_POLLING_INTERVAL_MIN", least)
    monkeypatch.setenv("AZUREML_RUN_POLLING_INTERVAL_MAX", most)
    assert follow.poll_seconds() == expected


def answer(status: int, body: bytes = b"", **headers: str) -> Any:
    """An answer of requests, as a context."""
    from requests import Response

    found = Response()
    found.status_code, found.url = status, BLOB
    found.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    found.raw = BytesIO(body)
    return found


@pytest.mark.parametrize(
    ("offset", "given", "expected"),
    [
        (2, answer(206, b"cd"), b"cd"),
        (2, answer(200, b"abcd"), b"cd"),  # a server that knows no ranges
        (0, answer(404), b""),
        (4, answer(416, Content_Range="bytes */4"), b""),
        (4, answer(416), b""),
        (4, answer(416, Content_Range="bytes */2"), None),
    ],
)
def test_a_log_is_read_from_where_it_was_left(
    offset: int, given: Any, expected: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    asked: list[str] = []
    monkeypatch.setattr(requests, "get", lambda _, headers, **__: asked.append(headers["Range"]) or given)
    assert log.read_log(fake_workspace(), BLOB, offset) == expected
    assert asked == [f"bytes={offset}-{offset + log.CHUNK_BYTES - 1}"]


def test_a_log_that_breaks_off_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests
    from urllib3.exceptions import ProtocolError

    ticking(monkeypatch)
    broken = answer(206)
    broken.raw = SimpleNamespace(
        stream=Answers(ProtocolError("Connection broken"), again=True), close=lambda: None, release_conn=lambda: None
    )
    monkeypatch.setattr(requests, "get", Answers(broken, answer(206, b"abc")))
    assert log.read_log(fake_workspace(), BLOB, 0) == b"abc"


# ---- the list of jobs


def test_a_job_that_the_client_cannot_read_is_counted_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    made = SimpleNamespace(created_at=datetime.now(UTC) - timedelta(hours=3))
    listed = [
        None,
        SimpleNamespace(name="a", status="Completed", experiment_name="e", creation_context=made),
        None,
        SimpleNamespace(name="b", status="Failed", creation_context=None),  # of a kind without an experiment
        SimpleNamespace(name="c", status="Failed", creation_context=None),
    ]
    jobs.show(fake_workspace(SimpleNamespace(jobs=SimpleNamespace(list=Answers(listed)))), 2)
    out = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert out[-4:-1] == [
        ["job", "status", "rmse", "cost", "age", "experiment"], ["a", "Completed", "3", "h", "e"], ["b", "Failed"],
    ]  # fmt: skip
    assert out[-1][:4] == ["and", "2", "of", "kinds"]


def test_a_kind_of_jobs_that_the_client_does_not_know_does_not_end_the_list() -> None:
    from azure.ai.ml.exceptions import JobException

    class Operations:
        def _handle_rest_errors(self, job: str) -> str:
            if job == "labeling":
                raise JobException("Unsupported job type Labeling", no_personal_data_message="")
            return job.upper()

        def list(self) -> Any:
            return (self._handle_rest_errors(job) for job in ("a", "labeling", "b"))

    workspace = fake_workspace(SimpleNamespace(jobs=Operations()))
    assert list(workspace.jobs()) == ["A", None, "B"]


def test_rmse_and_cost_are_of_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = SimpleNamespace(
        info=SimpleNamespace(run_id="a", start_time=0, end_time=1_800_000),
        data=SimpleNamespace(metrics={"rmse": 48.05}),
    )
    mlflow = SimpleNamespace(
        get_experiment_by_name=Answers(SimpleNamespace(experiment_id="7")), search_runs=Answers([run])
    )
    monkeypatch.setattr(Workspace, "mlflow", lambda _: mlflow)
    prices = {"values": [{"retailPrice": 0.5, "osType": "Linux", "vmTier": "Standard"}]}
    d4 = SimpleNamespace(name="Standard_D4ds_v4", family="f", vCPUs=4, estimatedVMPrices=prices)
    client = SimpleNamespace(
        jobs=SimpleNamespace(list=Answers([SimpleNamespace(
            name="a", status="Completed", experiment_name="e", compute="x/cpu", resources=None, creation_context=None,
        )])),
        compute=SimpleNamespace(
            list=Answers([SimpleNamespace(name="cpu", size="STANDARD_D4DS_V4", tier="dedicated")]),
            list_sizes=Answers([d4]),
        ),
    )  # fmt: skip
    jobs.show(fake_workspace(client), 5)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["a", "Completed", "48.0500", "0.25", "USD", "e"]


def test_jobs_are_listed_where_mlflow_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Workspace, "mlflow", Answers(refusal(403), again=True))
    job = SimpleNamespace(name="a", status="Running", experiment_name="e", creation_context=None)
    jobs.show(fake_workspace(SimpleNamespace(jobs=SimpleNamespace(list=Answers([job])))), 5)
    out = capsys.readouterr().out
    assert "runs: not readable with your role" in out
    assert out.splitlines()[-1].split() == ["a", "Running", "e"]
    ticking(monkeypatch)
    away = fake_workspace(SimpleNamespace(jobs=SimpleNamespace(list=Answers(refusal(503), again=True))))
    with pytest.raises(UnreachableError):
        jobs.show(away, 5)
