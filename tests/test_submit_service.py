"""Which workspace is meant, who signs in, and what is said when the service does not do what it was asked."""

import inspect
import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import requests
from azure.core.exceptions import ServiceRequestError

from submit import refusals, service, workspace
from submit.console import Screen, clock, command, dollars, size
from submit.workspace import Address, find_address, sign_in
from tests.submitting import Answers, fake_workspace, refusal, ticking
from trainer.errors import UnreachableError, UserError

KEYS = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
BLOB = "https://acct.blob.core.windows.net/c/b?sv=1&sig=SECRET"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*workspace.VARIABLES, "UV", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_workspace_is_that_of_the_variables_or_of_the_nearest_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    with pytest.raises(UserError, match=r"no workspace is named: .* have no config\.json\n"):
        find_address(below)
    far = write(tmp_path / ".azureml" / "config.json", KEYS)
    assert find_address(below) == Address("s", "g", "w", str(far))
    write(tmp_path / "a" / "config.json", KEYS | {"workspace_name": "nearer"})
    assert find_address(below).workspace_name == "nearer"
    monkeypatch.setenv(workspace.VARIABLES[0], "s")
    assert find_address(below).workspace_name == "nearer"
    for name, value in zip(workspace.VARIABLES, "sgw", strict=True):
        monkeypatch.setenv(name, value)
    assert find_address(below) == Address("s", "g", "w", "the environment variables")


def test_a_folder_is_read_in_the_order_of_the_sdk(tmp_path: Path) -> None:
    from itertools import product

    from azure.ai.ml import MLClient

    names = [f"{folder}{name}" for folder, name in product((".azureml/", "aml_config/", ""), ("config", "project"))]
    for name in reversed(names):
        path = write(tmp_path / f"{name}.json", KEYS | {"workspace_name": f"{name}"})
        assert find_address(tmp_path).source == str(path)
        theirs = MLClient.from_config(SimpleNamespace(get_token=None), path=tmp_path)  # type: ignore[arg-type]
        assert theirs.workspace_name == find_address(tmp_path).workspace_name


@pytest.mark.parametrize(
    "content",
    [
        {
            "Id": "1",
            "Scope": "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w",
        },
        {"subscription_id": "s", "resource_group": "g", "name": "w"},
        "\ufeff" + json.dumps(KEYS),
    ],
)
def test_older_spellings_of_a_config_are_read(content: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", content)
    assert find_address(tmp_path) == Address("s", "g", "w", str(path))


@pytest.mark.parametrize("content", [{"model_type": "bert"}, [1], "{", '"text"', {"Scope": "somewhere"}])
def test_the_config_of_another_tool_is_passed_over(content: Any, tmp_path: Path) -> None:
    other = write(tmp_path / "a" / "config.json", content)
    with pytest.raises(UserError, match="no workspace is named") as caught:
        find_address(tmp_path / "a")
    assert str(other) in caught.value.cause
    write(tmp_path / "config.json", KEYS)
    assert find_address(tmp_path / "a").workspace_name == "w"


@pytest.mark.parametrize("value", [None, "", "  ", "<SUBSCRIPTION_ID>", "{{ subscription }}", 7])
def test_a_placeholder_is_told(value: Any, tmp_path: Path) -> None:
    write(tmp_path / "config.json", KEYS | {"subscription_id": value})
    with pytest.raises(UserError, match=r"config\.json the subscription_id is .*, which stands for one"):
        find_address(tmp_path)


@pytest.mark.parametrize("variable", ["AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT", None])
def test_an_identity_of_the_environment_goes_before_the_login_of_the_cli(
    variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(variable, "x")
    order = [type(one).__name__ for one in sign_in(interactive=False).credentials]  # type: ignore[attr-defined]
    first, last = ("DefaultAzureCredential", "AzureCliCredential") if variable else order
    assert order == [first, last]
    assert (first == "AzureCliCredential") == (variable is None)


def test_a_call_is_tried_again_where_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = ticking(monkeypatch)
    for passing in (
        [ServiceRequestError("no route"), refusal(503), refusal(429), refusal(502), "done"],
        [refusal(409)] * 4 + ["done"],
        [refusal(401), "done"],
        [requests.ConnectionError("broken"), "done"],
    ):
        assert service.call("try", Answers(*passing), Screen(terminal=False)) == "done"
    assert ticks.slept == [1, 2, 4, 8, 1, 2, 4, 8, 0, 1]


@pytest.mark.parametrize(
    ("answers", "kind", "cause"),
    [
        ([ServiceRequestError(f"{BLOB} does not answer")], UnreachableError, "could not try: no answer .* for 100 s"),
        ([refusal(503)], UnreachableError, "could not try: the service answered 503 for 100 s"),
        ([refusal(409, text="taken")], UserError, "could not try: taken"),
        ([refusal(401)], UserError, "could not try: nobody is signed in to Azure"),
        (
            [refusal(400, text="(UserError) The name is taken\nand more")],
            UserError,
            "could not try: The name is taken\n",
        ),
        ([refusal(403)], UserError, r"not permitted to try \(403\)"),
    ],
)
def test_a_failure_that_stays_is_told_in_two_lines_without_secrets(
    answers: list[Any], kind: type[UserError], cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = ticking(monkeypatch)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:SECRET@proxy.test:8080")
    with pytest.raises(kind, match=cause) as caught:
        service.call("try", ask := Answers(*answers, again=True), Screen(terminal=False), patience=100)
    assert type(caught.value) is kind
    assert "SECRET" not in str(caught.value)
    assert ticks.now <= 100
    assert ("that HTTPS_PROXY names" in caught.value.remedy) == ("no answer" in cause)
    assert ask.calls <= (2 if "nobody is signed in" in cause else 20)  # a token is asked for again once


def test_the_service_is_left_alone_as_long_as_it_asks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = ticking(monkeypatch)
    busy, in_a_while, long_ago = (refusal(429) for _ in range(3))
    busy.response.headers["Retry-After"] = "30"
    in_a_while.response.headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=90))
    long_ago.response.headers["Retry-After"] = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert service.call("try", Answers(busy, long_ago, "done"), Screen(terminal=False)) == "done"
    assert ticks.slept == [30, 2]
    assert "the service answered 429; trying again in 30 s (try)" in capsys.readouterr().out
    assert service.call("try", Answers(in_a_while, "done"), Screen(terminal=False)) == "done"
    assert 60 < ticks.slept[-1] <= 90
    for told, pause in (("soon", 1), ("nan", 1), ("-5", 1)):
        busy.response.headers["Retry-After"] = told
        service.call("try", Answers(busy, "done"), Screen(terminal=False))
        assert ticks.slept[-1] == pause
    busy.response.headers["Retry-After"] = "372"
    count = len(ticks.slept)
    with pytest.raises(UnreachableError, match="answered 429, and asks to be left alone for 372 s"):
        service.call("try", Answers(busy, again=True), Screen(terminal=False))
    assert len(ticks.slept) == count


def test_a_certificate_that_is_not_trusted_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = ticking(monkeypatch)
    said = "HTTPSConnectionPool(host='management.azure.com', port=443): [SSL: CERTIFICATE_VERIFY_FAILED] self-signed"
    ask = Answers(ServiceRequestError(said, error=requests.exceptions.SSLError(said)), again=True)
    with pytest.raises(UserError, match=r"the certificate of management\.azure\.com is signed by nobody") as caught:
        service.call("reach it", ask, Screen(terminal=False))
    assert "REQUESTS_CA_BUNDLE" in caught.value.remedy
    assert (ask.calls, ticks.slept) == (1, [])


TENANT = "22222222-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("status", "text", "cause", "remedy"),
    [
        (403, "none of the workspaces are accessible from outside of the designated private link..", "not permitted",
         "closed to public networks"),
        (403, "Access to workspace was denied based on workspace private link configuration.", "not permitted",
         "closed to public networks"),
        (403, "Resource 'x' was disallowed by policy.", "not permitted", "a policy of the subscription"),
        (403, "The client does not have authorization", "not permitted", "role 'AzureML Data Scientist'"),
        (401, f"wrong issuer 'https://sts.windows.net/1/'. It must match the tenant 'https://sts.windows.net/{TENANT}/'",
         "signed in to another tenant", f"az login --tenant {TENANT}"),
        (401, "AADSTS7000222: The provided client secret keys for app 'a' are expired.",
         "the secret of the application an-app", "AZURE_CLIENT_SECRET"),
        (401, "AADSTS50076: you must use multi-factor authentication", r"nobody is signed in .*\(AADSTS50076\)",
         "az login"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_remedy_of_who_has_refused(
    status: int, text: str, cause: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_ID", "an-app")
    with pytest.raises(UserError, match=cause) as caught:
        service.call("try", Answers(refusal(status, text=text), again=True), Screen(terminal=False))
    assert remedy in caught.value.remedy


def test_what_is_not_there_and_what_is_a_bug_are_the_callers() -> None:
    for error in (refusal(404), ZeroDivisionError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            service.call("try", Answers(error), Screen(terminal=False))


def test_an_interruption_is_never_taken_for_a_broken_connection() -> None:
    def interrupted_while_it_breaks() -> None:
        try:
            raise ServiceRequestError("broken")
        except ServiceRequestError:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        service.call("try", interrupted_while_it_breaks, Screen(terminal=False))


@pytest.mark.parametrize(
    ("code", "cause", "remedy"),
    [
        (
            "AuthorizationPermissionMismatch",
            "a role on the workspace does not reach it",
            "Storage Blob Data Contributor",
        ),
        ("KeyBasedAuthenticationNotPermitted", "its keys are forbidden", "system-datastores-auth-mode identity"),
        ("AuthorizationFailure", "its firewall", "Networking of acct"),
        ("AuthenticationFailed", "has expired, or is not valid yet", "this machine's clock"),
        ("AccountIsDisabled", "it is disabled", "in the portal"),
    ],
)
def test_a_storage_account_that_refuses_is_named_with_its_own_remedy(code: str, cause: str, remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        fake_workspace().call("send the job", Answers(refusal(403, BLOB, code)))
    assert caught.value.cause.startswith(f"the storage account acct refuses to send the job (403 {code}): ")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert "AzureML Data Scientist" not in caught.value.remedy
    assert ("storageAccounts/acct" in caught.value.remedy) == ("role" in caught.value.remedy)
    assert "sig=" not in str(caught.value)


def test_a_conflict_of_blobs_is_no_refusal_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch)
    for code, cause in {
        "LeaseAlreadyPresent": "could not send: taken",
        "PublicAccessNotPermitted": r"\(409 Public",
    }.items():
        with pytest.raises(UserError, match=cause):
            fake_workspace().call("send", Answers(refusal(409, BLOB, code, "taken"), again=True))


def test_errors_of_requests_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch)
    answer = requests.Response()
    answer.status_code, answer.url = 400, BLOB
    with pytest.raises(UserError, match="could not read the log: 400 Client Error") as caught:
        service.call("read the log", Answers(requests.HTTPError(f"400 Client Error: for url: {BLOB}", response=answer)),
                     Screen(terminal=False))  # fmt: skip
    assert "SECRET" not in str(caught.value)


def test_an_error_of_the_workspaces_mlflow_is_what_it_says_and_not_its_whole_document() -> None:
    document = {
        "error_code": "BAD_REQUEST", "Error": {"Code": "UserError", "Message": "The request is invalid."},
        "Correlation": {"operation": "x"}, "Environment": "westeurope",
    }  # fmt: skip
    assert refusals.message(mlflow.exceptions.RestException(document)) == "The request is invalid."


def test_what_never_reached_mlflow_is_no_answer_of_it() -> None:
    lost = mlflow.MlflowException("API request to https://h failed with exception broken")
    lost.__cause__ = requests.ConnectionError("broken")
    assert refusals.status_of(lost) is None
    assert refusals.status_of(mlflow.exceptions.RestException({"error_code": "INTERNAL_ERROR"})) == 500
    assert refusals.status_of(mlflow.MlflowException("no", mlflow.protos.databricks_pb2.PERMISSION_DENIED)) == 403


def test_nothing_that_is_said_holds_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(terminal=False)
    screen.say(BLOB)
    screen.pairs([("studio", BLOB)])
    screen.table(("a", "b"), [(BLOB, "x [red]y[/red]")])
    with screen.status(f"reading {BLOB}"):
        screen.update(f"still reading {BLOB}")
    said = capsys.readouterr().out
    assert said.count("sig=***") == 5
    assert "SECRET" not in said
    assert "x [red]y[/red]" in said


def test_a_table_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(terminal=False).table(("job", "status"), [("a" * 300, "x"), ("b", "y")])
    head, first, second = capsys.readouterr().out.splitlines()
    assert first == "a" * 300 + "  x"
    assert head.rstrip() == "job" + " " * 299 + "status"
    assert second == "b" + " " * 301 + "y"


def test_in_a_pipe_the_status_is_said_again_each_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from submit import console

    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0.0)
    said = threading.Event()
    screen = Screen(terminal=False)
    say = screen.say
    lines: list[str] = []

    def heard(text: str, style: str | None = None) -> None:
        lines.append(text)
        say(text, style)
        if len(lines) == 2:
            said.set()

    monkeypatch.setattr(screen, "say", heard)
    with screen.status("creating"):
        assert said.wait(60)
    assert lines[0] == "creating"
    assert lines[1].startswith("creating (0:0")


def test_commands_run_in_the_shell_that_ran_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("attach", "x") == "python submit/remote.py attach x"
    monkeypatch.setenv("UV", "/usr/bin/uv")
    assert command("jobs") == "uv run python submit/remote.py jobs"


def test_numbers_for_people() -> None:
    assert [clock(seconds) for seconds in (0, 7.9, 754, 3723)] == ["0:00", "0:07", "12:34", "1:02:03"]
    assert [size(count) for count in (0, 999, 95_100, 5_000_000)] == ["0 bytes", "999 bytes", "95.1 kB", "5.0 MB"]
    assert [dollars(amount) for amount in (0.002, 0.25, 12)] == ["0.0020 USD", "0.25 USD", "12.00 USD"]


def test_what_is_private_in_the_sdks_is_there() -> None:
    """The places that `Workspace.run_details` and `Workspace.mlflow` reach into; an update may move them."""
    from azure.ai.ml.operations import JobOperations
    from azure.ai.ml.operations._run_operations import RunOperations
    from azureml.mlflow._internal.service_context_loader import _AzureMLServiceContextLoader as Loader
    from azureml.mlflow._internal.utils import ServiceContext

    assert isinstance(JobOperations._runs_operations, property)
    assert callable(RunOperations.get_run_details)
    assert "self._handle_rest_errors(obj)" in inspect.getsource(JobOperations.list)
    assert callable(Loader.has_service_context)
    assert callable(Loader.add_service_context)
    context = ServiceContext(
        host_url="https://h", subscription_id="s", resource_group_name="g", workspace_name="w", auth=None
    )
    assert context.host_url == "https://h"
    private = {
        path.name
        for path in Path(workspace.__file__).parent.glob("*.py")
        if any(name in path.read_text(encoding="utf-8") for name in ("_internal", "_runs_operations", "_handle_rest"))
    }
    assert private == {"workspace.py"}
