"""Versions and the champion among them, whatever a registry refuses or somebody deletes."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST

from trainer import claims, registry, tracking
from trainer.errors import UserError


def run_in(client: mlflow.MlflowClient, status: str = "RUNNING") -> tracking.Run:
    info = client.create_run("0").info
    if status != "RUNNING":
        client.set_terminated(info.run_id, status)
    return tracking.Run(info.run_id, "0", info.artifact_uri, {}, client)


def add(client: mlflow.MlflowClient, name: str, run: tracking.Run | None = None, **tags: str) -> str:
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    run = run or run_in(client, "FINISHED")
    return str(client.create_model_version(name, f"{run.artifact_uri}/models", run.id, tags=tags).version)


def numbers(client: mlflow.MlflowClient, name: str) -> list[str]:
    return [str(version.version) for version in registry.versions(client, name)]


def test_a_version_is_registered_whole_or_not_at_all(store: mlflow.MlflowClient) -> None:
    run = run_in(store)
    with registry.registered(run, "m", f"{run.artifact_uri}/models", {"rmse": "1"}, None) as version:
        assert store.get_model_version("m", version).tags == {"rmse": "1", registry.VERDICT: registry.PENDING}
    assert store.get_model_version("m", "1").run_id == run.id
    with pytest.raises(ZeroDivisionError), registry.registered(run_in(store), "m", "file:///x", {}, None):
        raise ZeroDivisionError
    assert numbers(store, "m") == ["1"]
    with pytest.raises(ZeroDivisionError), registry.registered(run_in(store), "new", "file:///x", {}, None):
        raise ZeroDivisionError
    assert not store.search_registered_models("name='new'")


def test_a_clean_up_that_fails_does_not_hide_what_failed(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("the entire model container cannot be deleted", PERMISSION_DENIED)

    monkeypatch.setattr(mlflow.MlflowClient, "delete_registered_model", refuse)
    with pytest.raises(ZeroDivisionError), registry.registered(run_in(store), "kept", "file:///x", {}, None):
        raise ZeroDivisionError
    assert numbers(store, "kept") == []
    monkeypatch.setattr(mlflow.MlflowClient, "delete_model_version", refuse)
    with pytest.raises(ZeroDivisionError), registry.registered(run_in(store), "kept", "file:///x", {}, None):
        raise ZeroDivisionError
    assert "could not take back version 2 of kept" in caplog.text
    assert "the next run of kept tries again" in caplog.text


@pytest.mark.parametrize("code", ["RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"])
def test_a_model_that_exists_gets_another_version(
    code: str, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "m")

    def refuse(*_: Any, **__: Any) -> None:
        raise mlflow.exceptions.RestException({"error_code": code, "message": "it exists"})

    monkeypatch.setattr(mlflow.MlflowClient, "create_registered_model", refuse)
    with registry.registered(run_in(store), "m", "file:///x", {}, None) as version:
        assert version == "2"


def test_tags_are_set_one_by_one_where_a_creation_with_tags_is_refused(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = mlflow.MlflowClient.create_model_version

    def refuse(self: Any, *given: Any, tags: Any = None, **more: Any) -> Any:
        if tags:
            raise mlflow.MlflowException("The request is invalid", INVALID_PARAMETER_VALUE)
        return create(self, *given, **more)

    monkeypatch.setattr(mlflow.MlflowClient, "create_model_version", refuse)
    with registry.registered(run_in(store), "m", "file:///x", {"rmse": "1"}, None) as version:
        assert store.get_model_version("m", version).tags == {"rmse": "1", registry.VERDICT: registry.PENDING}


def test_an_alias_on_a_version_that_is_gone_is_no_champion(store: mlflow.MlflowClient) -> None:
    for _ in range(2):
        add(store, "m")
    registry.promote(store, "m", "2", "none")
    assert registry.find_champion(store, "m").number == "2"
    store.delete_model_version("m", "2")  # as the UI does it: the alias stays
    found = registry.find_champion(store, "m")
    assert (found.version, found.number) == (None, "none")
    assert found.remark == "version 2, the champion, has been deleted"
    with pytest.raises(UserError) as caught, registry.fetched("models:/m@champion"):
        pass
    assert "m has no champion: version 2, the champion, has been deleted" in caught.value.cause
    assert "champion.py --model-name m --version 1" in caught.value.remedy


@pytest.mark.parametrize("refusal", [RESOURCE_DOES_NOT_EXIST, PERMISSION_DENIED, INVALID_PARAMETER_VALUE])
def test_a_registry_without_aliases_has_a_tag(
    refusal: int, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("", refusal)

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", refuse)
    for number in ("1", "2"):
        add(store, "m")
        registry.promote(store, "m", number, "none")
        assert registry.find_champion(store, "m").number == number
    tagged = [version.tags.get(registry.CHAMPION) for version in registry.versions(store, "m")]
    assert tagged == ["false", "true"]


def test_a_server_that_fails_is_not_taken_for_one_without_aliases(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("the database is away")

    add(store, "m")
    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", fail)
    with pytest.raises(UserError, match="the database is away"):
        registry.promote(store, "m", "1", "none")
    assert registry.CHAMPION not in store.get_model_version("m", "1").tags


def test_what_killed_runs_have_left_half_made_is_taken_back(
    store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    add(store, "m", verdict="by hand, from somewhere")  # no verdict of ours: another tool's
    add(store, "m", run_in(store, "FAILED"), rmse="another tool's, of a failed run")
    add(store, "m", run_in(store, "FAILED"), **{registry.VERDICT: registry.PENDING})
    add(store, "m", run_in(store), **{registry.VERDICT: registry.PENDING})  # goes on
    add(store, "m", **{registry.VERDICT: "a tie"})
    failed = run_in(store, "FAILED")
    for key, text in {"mlflow.project.backend": "local", "error": "its process was killed"}.items():
        store.set_tag(failed.id, key, text)
    add(store, "m", failed, **{registry.VERDICT: "version 6 is better"})
    assert registry.close_abandoned(run_in(store), "m") == ["3", "6"]
    assert numbers(store, "m") == ["1", "2", "4", "5"]
    assert "closed      version 3 of m" in capsys.readouterr().out
    assert registry.close_abandoned(run_in(store), "no such model") == []


def test_a_champion_is_never_taken_back(store: mlflow.MlflowClient) -> None:
    add(store, "m", run_in(store, "FAILED"), **{registry.VERDICT: "promoted by hand"})
    registry.promote(store, "m", "1", "none")
    assert registry.close_abandoned(run_in(store), "m") == []


def test_a_finished_run_that_mlflow_run_marks_failed_is_restored(
    store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    marked = [run_in(store, "FAILED") for _ in range(2)]  # stopped after it had finished: no reason is noted
    for run in marked:
        store.set_tag(run.id, "mlflow.project.backend", "local")
        add(store, "m", run, **{registry.VERDICT: "a tie"})
    registry.promote(store, "m", "1", "none")
    assert registry.close_abandoned(run_in(store), "m") == []
    assert [store.get_run(run.id).info.status for run in marked] == ["FINISHED", "FINISHED"]
    assert f"restored    run {marked[1].id}" in capsys.readouterr().out


def test_all_versions_are_listed_however_many_pages(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        add(store, "m")
    monkeypatch.setattr(registry, "PAGE", 2)
    assert numbers(store, "m") == ["1", "2", "3", "4", "5"]


def test_what_has_come_into_question_since_others_were_settled(store: mlflow.MlflowClient) -> None:
    for _ in range(6):
        add(store, "m")
    claims.write(store, "m", "1", "1")
    claims.write(store, "m", "2", "2", claims.OPEN)  # killed, or slow
    settled = claims.read(registry.versions(store, "m"))
    claims.write(store, "m", "3", "3", claims.OPEN)
    claims.write(store, "m", "6", "6", ", by hand")
    claims.write(store, "m", "4", "5")  # it has found another one better than its own
    store.delete_model_version("m", "5")
    assert claims.open_ones(registry.versions(store, "m")) == ["2", "3"]

    def entrants(champion: str) -> list[str]:
        found = claims.entrants(registry.versions(store, "m"), settled, champion)
        return [str(one.version) for one in found]

    assert entrants("1") == ["1", "6", "2", "3"]
    assert entrants("6") == ["6", "2", "3"]
    assert entrants("none") == ["6", "2", "3"]


def test_a_clock_that_is_slow_makes_no_champion_of_the_past(
    store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        add(store, "m")
    store.set_model_version_tag("m", "1", registry.SINCE, "2999-01-01T00:00:00.000+00:00")
    registry.promote(store, "m", "2", "1")
    assert store.get_model_version("m", "2").tags[registry.SINCE] == "2999-01-01T00:00:00.001+00:00"


def test_a_version_whose_run_the_registry_has_lost_is_known_by_its_source() -> None:
    from mlflow.entities.model_registry import ModelVersion

    run = "0123456789abcdef0123456789abcdef"
    sources = {
        f"/somewhere/0/{run}/artifacts/models": run,
        f"mlflow-artifacts:/0/{run}/artifacts": run,
        "azureml://westeurope.api/mlflow/v2.0/workspaces/w/experiments/e/runs/my_job_1/artifacts/models": "my_job_1",
        "models:/m-0123": "",
        "file:///elsewhere": "",
    }
    for source, expected in sources.items():
        assert registry.run_of(ModelVersion("m", "1", 0, source=source)) == expected
    assert registry.run_of(ModelVersion("m", "1", 0, source=f"/0/{run}/artifacts/models", run_id="own")) == "own"


def test_a_model_that_is_nowhere(store: mlflow.MlflowClient, tmp_path: Path) -> None:
    for uri, told in {str(tmp_path): "is not the folder of an MLflow model", "models:/nobody/1": "nobody"}.items():
        with pytest.raises(UserError, match=told), registry.fetched(uri):
            pass
