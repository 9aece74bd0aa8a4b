"""Deployments: traffic moves once the recorded rows came back right; whatever fails, what was made is taken away."""

import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from submit import answers, deploy, endpoints, sizes
from submit.endpoints import Deployment
from tests import standin_http as http
from tests.conftest import Submitted
from tests.standin import Fault, StandIn
from tests.submitting import Answers, Warm, command, fake_workspace, refusal, ticking
from trainer.errors import UserError, VerificationError
from trainer.model_folder import Recorded

MODEL = "models:/diabetes-progression@champion"

# ---- without a service


def recorded(rows: int = 5) -> Recorded:
    frame = pd.DataFrame({"a": np.arange(rows, dtype=float), "b": ["x"] * rows}, dtype=object)
    return Recorded(frame, np.arange(rows, dtype=float), {})


@pytest.mark.parametrize("model", ["sales", "models:/sales", "models:/sales/latest", "runs:/1/models", "models:/a/b/1"])
def test_what_is_no_registered_version_is_refused_before_anybody_is_asked(model: str) -> None:
    with pytest.raises(UserError, match="names no registered model"):
        deploy.Asked(model)


def test_where_the_trainer_is_not_nothing_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy.own, "HERE", Path("/nowhere/mlflow_aml"))
    with pytest.raises(UserError, match="by the trainer's own code"):
        deploy.deploy(deploy.Asked("models:/a/1"))


@pytest.mark.parametrize("name", ["ab", "1st", "ends-", "under_score", "a" * 33, ""])
def test_an_endpoints_name_is_checked_by_the_services_rules(name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of an endpoint"):
        deploy.Asked(MODEL, endpoint=name)
    assert deploy.Asked(MODEL, endpoint="a-2").endpoint == "a-2"


def test_a_models_endpoint_has_one_name_and_another_workspaces_has_another() -> None:
    here = fake_workspace()
    for model in ("Blood Pressure / 2", "7up", "m" * 80, "größe", "-"):
        name = deploy.default_name(here, model)
        assert deploy.Asked(MODEL, endpoint=name).endpoint == name == deploy.default_name(here, model)
    there = fake_workspace(address=SimpleNamespace(subscription_id="s", resource_group="g", workspace_name="other"))
    assert deploy.default_name(there, "m") != deploy.default_name(here, "m")


def test_a_deployment_of_a_version_that_stands_gets_another_name() -> None:
    former = [Deployment(name, "", "", 1, "Succeeded", 0) for name in ("version-2", "version-2-2", "blue")]
    assert deploy._new_name("2", former) == "version-2-3"
    assert deploy._new_name("3", former) == "version-3"


def test_wide_rows_are_sent_in_several_requests_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "REQUEST_BYTES", 40)
    bodies = [body["input_data"] for body in answers._requests(recorded(11))]
    assert len(bodies) > 2
    assert [row for body in bodies for row in body["data"]] == recorded(11).rows.to_numpy().tolist()
    assert all(body["columns"] == ["a", "b"] and body["index"] == list(range(len(body["data"]))) for body in bodies)


class Scored:
    """Stands for requests.post: answers, and keeps what was sent."""

    def __init__(self, *given: Any) -> None:
        self.answers, self.sent = Answers(*given, again=True), []  # type: ignore[var-annotated]

    def __call__(self, address: str, json: Any, headers: dict[str, str], **_: Any) -> Any:
        self.sent.append((address, json, headers))
        return self.answers()


def http_answer(status: int, body: Any, by: str = "version-1") -> Any:
    import requests

    answer = requests.Response()
    answer.status_code, answer._content = status, json.dumps(body).encode()
    answer.headers["azureml-model-deployment"] = by
    return answer


def online(**more: Any) -> Any:
    one = SimpleNamespace(
        name="sales", scoring_uri="https://sales.test/score", provisioning_state="Succeeded", traffic={}
    )
    client = SimpleNamespace(
        online_endpoints=SimpleNamespace(
            get=lambda name: one, get_keys=lambda name: SimpleNamespace(primary_key="TOPSECRET"), list=lambda: [one]
        ),
        online_deployments=SimpleNamespace(get_logs=lambda *_, **__: "", list=lambda name: []),
    )
    return fake_workspace(client, **more)


def test_rows_go_to_the_one_deployment_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = Scored(http_answer(200, recorded().predictions.tolist()))
    monkeypatch.setattr("requests.post", scored)
    assert answers.verify(online(), "sales", "version-1", recorded()) == (0.0, "https://sales.test/score")
    address, _, headers = scored.sent[0]
    assert address == "https://sales.test/score"
    assert headers == {"Authorization": "Bearer TOPSECRET", "azureml-model-deployment": "version-1"}


WRONG = {
    "other numbers": (http_answer(200, [0, 1, 2, 3, 4.00001]), "otherwise than on the day of training, by up to 1e-05"),
    "too few": (http_answer(200, [0, 1]), "something else than a number for each row"),
    "no numbers": (http_answer(200, ["a"] * 5), "something else than a number for each row"),
    "nan": (http_answer(200, [0, 1, 2, 3, None]), "otherwise than on the day of training"),
    "an object": (http_answer(200, {"message": "no"}), "answers 200"),
    "another deployment": (http_answer(200, [0, 1, 2, 3, 4], by="blue"), "answers 200, by blue"),
    "a failure of the script": (http_answer(424, {"message": "boom"}), "answers 424: .*boom"),
    "a wrong key": (http_answer(401, {"message": "key_auth_bad_header"}), "answers 401"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_the_recorded_predictions_is_told_without_the_key(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer, said = WRONG[what]
    monkeypatch.setattr("requests.post", Scored(answer))
    with pytest.raises(VerificationError, match=said) as caught:
        answers.verify(online(), "sales", "version-1", recorded())
    assert "TOPSECRET" not in str(caught.value) + capsys.readouterr().out


def test_a_server_that_is_not_there_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch)
    busy = [http_answer(status, "busy") for status in (503, 429, 502)]
    monkeypatch.setattr("requests.post", Scored(*busy, http_answer(200, recorded().predictions.tolist())))
    assert answers.verify(online(), "sales", "version-1", recorded())[0] == 0.0


def inner_refusal(text: str, doubled: bool) -> Exception:
    """A refusal as recorded in public issues: JSON, sometimes with doubled braces, in the message of a detail."""
    inner = json.dumps({"errors": {"VmSize": [text]}, "title": "One or more validation errors occurred."})
    error: Any = refusal(400, text="(BadRequest) The request is invalid.")
    message = "InferencingClient HttpRequest error, error detail: " + (
        inner.replace("{", "{{").replace("}", "}}") if doubled else inner
    )
    error.error = SimpleNamespace(message="The request is invalid.", details=[SimpleNamespace(message=message)])
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize("doubled", [True, False])
@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (
            "Not enough quota available for Standard_F4s_v2. Current usage/limit: 0/6. Additional needed: 8",
            "ask for quota",
        ),
        (
            "There is already an endpoint with this name, Endpoint name needs to be unique within a region.",
            "--endpoint",
        ),
        ("The instance type Standard_X is not supported.", "--instance-type"),
        ("Something new", "correct what it names"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_what_refused(text: str, remedy: str, doubled: bool) -> None:
    with pytest.raises(UserError) as caught:
        endpoints._send(fake_workspace(), "create it", Answers(inner_refusal(text, doubled)))
    assert caught.value.cause == f"could not create it: {text}"
    assert remedy in caught.value.remedy


def test_a_resource_is_looked_at_until_it_is_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ticking(monkeypatch)
    monkeypatch.setattr(endpoints, "time", clock)
    states = [SimpleNamespace(provisioning_state=state) for state in ("Creating", "Updating", "Succeeded")]
    endpoints._settle(fake_workspace(), "it", None, Answers(*states))
    assert len(clock.slept) == 2
    with pytest.raises(VerificationError, match="still creating after 60 minutes"):
        endpoints._settle(fake_workspace(), "it", None, Answers(states[0], again=True))
    failed = SimpleNamespace(result=Answers(refusal(400, text="(BadArgument) Liveness probe failed")))
    with pytest.raises(VerificationError, match="it has failed: Liveness probe failed"):
        endpoints._settle(fake_workspace(), "it", failed, Answers(SimpleNamespace(provisioning_state="Failed")))


def test_sizes_for_endpoints_are_others_than_those_for_clusters() -> None:
    def vm(name: str, *purposes: str) -> Any:
        return SimpleNamespace(name=name, family="f", vCPUs=2, supportedComputeTypes=list(purposes))

    listed = [vm("Cluster", "AmlCompute"), vm("Endpoint", "MIR"), vm("Both", "AmlCompute", "MIR"), vm("Untold")]
    workspace = fake_workspace(SimpleNamespace(compute=SimpleNamespace(list_sizes=lambda location: listed)))
    assert set(sizes.sizes(workspace) or ()) == {"cluster", "both", "untold"}
    assert set(sizes.sizes(workspace, sizes.ENDPOINTS) or ()) == {"endpoint", "both", "untold"}


def test_undeploy_deletes_nothing_where_nobody_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    workspace = online()
    with pytest.raises(UserError, match="nobody can be asked whether to delete sales") as caught:
        endpoints.undeploy(workspace, "sales", ask=True)
    assert caught.value.remedy.endswith("undeploy sales --yes")


# ---- on the stand-in


def shown(workspace: StandIn, path: str) -> Any:
    """Look at an endpoint's resource; None where there is none."""
    version = "2023-04-01-preview" if "/deployments/" in path else "2022-02-01-preview"
    answer = http.call(workspace, "GET", f"/onlineEndpoints/{path}", params={"api-version": version})
    return answer.json() if answer.status_code == 200 else None


def deleted(workspace: StandIn, since: int) -> list[str]:
    """Name what was deleted of endpoints."""
    sent = [
        one.path for one in workspace.requests[since:] if one.method == "DELETE" and "/onlineEndpoints/" in one.path
    ]
    return [path.partition("/onlineEndpoints/")[2] for path in sent]


@pytest.fixture(scope="module")
def deployed(remote: Warm, submitted: Submitted, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what the first deployment of the registered model said."""
    folder = tmp_path_factory.mktemp("deployed")
    done = remote("deploy", MODEL, "--endpoint", "standing", "--yes", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_registered_model_is_deployed_and_its_successor_takes_its_place(
    deployed: str, remote: Warm, standin: StandIn, tmp_path: Path
) -> None:
    assert re.search(r"^price +0\.12 USD an hour, 2\.76 USD a day, as long as it stands$", deployed, re.MULTILINE)
    assert re.search(r"^verified +it answers its 92 recorded rows as on the day of training", deployed, re.MULTILINE)
    assert "!" not in deployed
    assert shown(standin, "standing")["properties"]["traffic"] == {"version-1": 100}
    before = len(standin.requests)
    done = remote("deploy", "models:/diabetes-progression/1", "--endpoint", "standing", "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "version-1: models:/diabetes-progression/1, 100 % of the traffic" in done.stdout
    assert shown(standin, "standing")["properties"]["traffic"] == {"version-1-2": 100}
    assert deleted(standin, before) == ["standing/deployments/version-1"]
    keys = http.call(
        standin, "POST", "/onlineEndpoints/standing/listKeys", params={"api-version": "2022-02-01-preview"}
    )
    assert not any(key in deployed + done.stdout + done.stderr for key in keys.json().values())
    listed = remote("endpoints", cwd=tmp_path)
    row = next(line for line in listed.stdout.splitlines() if line.startswith("standing"))
    assert row.split() == [
        *("standing", "version-1-2", "100", "%", "models:/diabetes-progression/1"),
        *("1", "x", "Standard_D2as_v4", "Succeeded", "0.12", "USD"),
    ]
    # one that answers otherwise changes nothing
    before, traffic = len(standin.requests), shown(standin, "standing")["properties"]["traffic"]
    standin.inject(Fault("wrong-answer", route="standing"))
    done = remote("deploy", MODEL, "--endpoint", "standing", "--yes", cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert re.match(r"error: the deployment version-1 answers the recorded rows otherwise", done.stderr), done.stderr
    assert "| Listening at: " in done.stdout
    assert deleted(standin, before) == ["standing/deployments/version-1"]
    assert shown(standin, "standing")["properties"]["traffic"] == traffic
    done = remote("undeploy", "standing", "--yes", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown(standin, "standing") is None
    done = remote("undeploy", "standing", "--yes", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 2)
    assert "has no endpoint 'standing'" in done.stderr


FAILURES = {
    "container-crashes": (Fault("container-crashes"), 3, "User container has crashed or terminated", ["f"]),
    "probe-fails": (Fault("probe-fails"), 3, "Liveness probe failed: HTTP probe failed with statuscode: 502", ["f"]),
    "name-taken": (Fault("name-taken"), 2, "There is already an endpoint with this name", []),
    "no-quota": (Fault("no-quota"), 2, "Not enough quota available for Standard_D2as_v4", ["f"]),
    "forbidden": (Fault("forbidden", route="PUT */onlineEndpoints/*"), 2, "you are not permitted to create", []),
}


@pytest.mark.parametrize("what", FAILURES)
def test_what_fails_is_told_in_two_lines_and_nothing_is_left(
    what: str, deployed: str, remote: Warm, standin: StandIn, tmp_path: Path
) -> None:
    fault, code, said, gone = FAILURES[what]
    name, before = f"fails-{what}", len(standin.requests)
    standin.inject(fault)
    done = remote("deploy", MODEL, "--endpoint", name, "--yes", cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    cause, remedy = done.stderr.splitlines()
    assert said in cause
    assert (cause[:7], remedy[:7]) == ("error: ", "  fix: ")
    assert ("ModuleNotFoundError: No module named 'azureml.ai'" in done.stdout) == (what == "container-crashes")
    assert ("the service will refuse it" in done.stdout) == (what == "no-quota")
    assert deleted(standin, before) == [name for _ in gone]


def test_what_is_not_there_is_refused_before_anything_is_made(
    deployed: str, remote: Warm, standin: StandIn, tmp_path: Path
) -> None:
    before = len(standin.requests)
    done = remote("deploy", "models:/nobody@champion", "--yes", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 2), done.stderr
    assert "has no model 'nobody'" in done.stderr
    done = remote("deploy", MODEL, "--instance-type", "Standard_D4ds_v4", "--yes", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 2), done.stderr
    assert "'Standard_D4ds_v4' is not a size for online endpoints in westeurope" in done.stderr
    assert not [one for one in standin.requests[before:] if one.method == "PUT"]


def test_an_interruption_takes_away_what_was_made(
    deployed: str, remote: Warm, standin: StandIn, tmp_path: Path
) -> None:
    before, gate = len(standin.requests), tmp_path / "gate"
    standin.inject(Fault("slow-start", gate=str(gate)))
    client = remote.start(command("deploy", MODEL, "--endpoint", "interrupted", "--yes")[1:], tmp_path)
    client.until("the deployment version-1 is creating")
    os.kill(client.pid, signal.SIGINT)
    done = client.wait()
    gate.touch()
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted"), done.stdout
    assert "taking the endpoint interrupted away again" in done.stdout
    assert deleted(standin, before) == ["interrupted"]
