"""From a measured model to a registered one: the order of things, and what is left where it is stopped."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from tests.conftest import ROOT, Trainer, run_id
from trainer import card, comparison, figures, learning_curve, registry, report, results, settings, tracking, training
from trainer.errors import Interrupted, UserError
from trainer.results import Result
from trainer.table import load

Store = Callable[[Result], card.Standing]
STOPPED = "stopped by SIGTERM"


@pytest.fixture(scope="module")
def learnt() -> Callable[[str], Result]:
    """Train models on the shipped table, each once: a good one, and one that is no better than the mean."""
    known: dict[str, Result] = {}

    def learn(alpha: str) -> Result:
        if alpha not in known:
            data = str(ROOT / "data" / "diabetes.csv")
            given = settings.defaults() | {"alpha": alpha, "cv": "0", "data": data, "model_name": "m"}
            asked = settings.read(given)
            table = load(asked)
            known[alpha] = Result(asked, table, training.learn(asked, table), ())
        return copy.copy(known[alpha])

    return learn


@pytest.fixture
def stores(store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Do what train.py does once a model has been measured; without pictures, which take longest."""
    monkeypatch.setattr(figures, "draw", lambda *_: None)
    monkeypatch.setattr(figures, "draw_comparison", lambda *_: None)

    def call(result: Result) -> card.Standing:
        with tracking.session(result.settings.given, "train.py") as session:
            return results.store(session, session.open("a run"), result)

    return call


def champion(client: mlflow.MlflowClient) -> str:
    return registry.find_champion(client, "m").number


def statuses(client: mlflow.MlflowClient) -> dict[str, str]:
    return {str(v.version): client.get_run(v.run_id).info.status for v in registry.versions(client, "m")}


def written(client: mlflow.MlflowClient, standing: card.Standing) -> Any:
    """Read the metric.json of a run."""
    return json.loads(Path(client.download_artifacts(standing.run_id, report.METRICS)).read_text(encoding="utf-8"))


def test_the_better_one_becomes_champion_and_a_worse_one_does_not(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result]
) -> None:
    assert stores(learnt("1000")).promoted
    never = learnt("1")
    never = replace(never, settings=replace(never.settings, promote="never"))
    standing = stores(never)
    assert (standing.promoted, champion(store)) == (False, "1")
    assert "version 2 is better than version 1" in str(standing.verdict)
    assert "(not promoted: promote=never)" in str(standing.verdict)
    assert stores(learnt("1")).promoted
    assert champion(store) == "3"
    worse = stores(learnt("1000"))
    assert "version 4 is worse than version 3, which stays" in str(worse.verdict)
    assert "predicts the same as version 3" in str(stores(learnt("1")).verdict)
    assert champion(store) == "3"
    version = store.get_model_version("m", "3")
    run = store.get_run(version.run_id)
    assert version.tags[registry.VERDICT] == run.data.tags[registry.VERDICT]
    assert version.tags[registry.AFTER] == "1"
    assert "rmse" in version.description
    assert "rmse" in run.data.tags["mlflow.note.content"]
    assert store.get_registered_model("m").description
    assert run.data.metrics["gain_low"] > 0
    assert set(statuses(store).values()) == {"FINISHED"}


def test_a_model_no_better_than_the_mean_is_registered_and_never_champion(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result]
) -> None:
    useless = learnt("1")
    metrics = useless.outcome.metrics | {"rmse": useless.outcome.metrics["baseline_rmse"] + 1}
    standing = stores(replace(useless, outcome=replace(useless.outcome, metrics=metrics)))
    assert (standing.version, standing.promoted) == ("1", False)
    assert "no better than the mean predictor" in str(standing.verdict)
    assert champion(store) == "none"


def test_no_version_waits_while_the_curve_of_rows_is_measured(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, registered = learning_curve.measure, []

    def measured(*given: Any) -> Any:
        registered.append(len(store.search_registered_models()))
        return measure(*given)

    monkeypatch.setattr(learning_curve, "measure", measured)
    stores(learnt("1"))
    assert registered == [0]


def test_a_server_with_logged_models_has_one(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result]
) -> None:
    standing = stores(learnt("1"))
    version = store.get_model_version("m", "1")
    (model,) = store.search_logged_models(["0"])
    assert version.source == f"models:/{model.model_id}"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "m", "version": "1"}]
    assert (str(model.status), model.source_run_id) == ("READY", standing.run_id)
    outputs = store.get_run(standing.run_id).outputs
    assert outputs is not None
    assert [one.model_id for one in outputs.model_outputs] == [model.model_id]
    assert {metric.key for metric in model.metrics or ()} >= {"rmse", "r2"}
    for uri in (f"models:/{model.model_id}", f"runs:/{standing.run_id}/models", "models:/m/1", "models:/m@champion"):
        assert (Path(mlflow.artifacts.download_artifacts(uri)) / "recorded_scoring.json").is_file(), uri


def test_a_server_without_logged_models_or_inputs_has_all_the_rest(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    def refuse(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("", PERMISSION_DENIED)

    for name in ("create_logged_model", "log_inputs", "update_registered_model", "update_model_version"):
        monkeypatch.setattr(mlflow.MlflowClient, name, refuse)
    standing = stores(learnt("1"))
    assert standing.promoted
    version = store.get_model_version("m", "1")
    assert version.source == f"{store.get_run(standing.run_id).info.artifact_uri}/models"
    assert store.get_run(standing.run_id).info.status == "FINISHED"


def test_a_champion_that_is_gone_is_followed_by_the_next_run(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result]
) -> None:
    stores(learnt("1000"))
    stores(learnt("1"))
    assert champion(store) == "2"
    store.delete_model_version("m", "2")
    standing = stores(learnt("1"))
    assert standing.promoted
    assert "version 3 is the champion now: version 2, the champion, has been deleted" in str(standing.verdict)
    assert champion(store) == "3"


def test_a_champion_that_cannot_be_compared_is_told_with_the_way_to_replace_it(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result], tracking_uri: str
) -> None:
    stores(learnt("1000"))
    for file in Path(tracking_uri.removeprefix("sqlite:///")).parent.rglob("model.skops"):
        file.unlink()
    standing = stores(learnt("1"))
    assert not standing.promoted
    assert "version 2 cannot be compared with the champion, version 1, which stays" in str(standing.verdict)
    assert "champion.py --model-name m --version 2" in str(standing.verdict)
    assert champion(store) == "1"


def test_a_champion_that_changes_while_it_is_compared_is_compared_again(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores(learnt("1000"))
    find, meanwhile = registry.find_champion, []

    def found(client: mlflow.MlflowClient, name: str) -> registry.Champion:
        if not meanwhile and len(registry.versions(client, name)) == 2:
            meanwhile.append(find(client, name))
            return meanwhile[0]
        if len(meanwhile) == 1:  # between the comparison and the move, another run has promoted a better one
            meanwhile.append(registry.Champion())
            monkeypatch.setattr(registry, "find_champion", find)
            other = learnt("1")
            stores(replace(other, settings=replace(other.settings, seed=1)))
            monkeypatch.setattr(registry, "find_champion", found)
        return find(client, name)

    monkeypatch.setattr(registry, "find_champion", found)
    standing = stores(learnt("300"))
    assert champion(store) == "3"
    assert not standing.promoted
    assert "version 3" in str(standing.verdict)
    assert "version 2 is better than version 1" in str(standing.verdict)
    assert "since version 3 came at the same moment and is champion" in str(standing.verdict)
    assert store.get_model_version("m", "2").tags[registry.VERDICT] == standing.verdict
    assert "came at the same moment" in store.get_model_version("m", "2").description
    facts = written(store, standing)
    assert (facts["promoted"], facts["champion_verdict"]) == (False, standing.verdict)


@pytest.mark.parametrize(("earlier", "later", "winner"), [("1", "300", "2"), ("300", "1", "3")])
def test_of_two_that_take_one_place_at_the_same_moment_the_better_one_stays(
    earlier: str, later: str, winner: str, stores: Store, store: mlflow.MlflowClient,
    learnt: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    stores(learnt("5000"))
    promote, others = registry.promote, []

    def promoted(client: mlflow.MlflowClient, name: str, version: str, after: str) -> None:
        if version == "2" and not others:  # it has read that nobody came before; now the third one is faster
            others.append(version)
            stores(learnt(later))
        promote(client, name, version, after)

    monkeypatch.setattr(registry, "promote", promoted)
    stores(learnt(earlier))
    assert store.get_model_version("m", winner).tags[registry.SINCE]
    by_rmse = {v.version: float(v.tags["rmse"]) for v in registry.versions(store, "m")}
    assert by_rmse[int(champion(store))] == min(by_rmse.values())


def test_a_model_that_must_not_be_registered_is_not(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result]
) -> None:
    result = learnt("1")
    bounds = (settings.Bound("rmse", 1.0), settings.Bound("r2", 0.99), settings.Bound("mae", 1e9))
    standing = stores(replace(result, settings=replace(result.settings, must=bounds)))
    assert len(standing.unmet) == 2
    assert store.get_run(standing.run_id).info.status == "FINISHED"
    assert not store.search_registered_models()


# -- stopped on the way


def stopped_at(number: int, error: Callable[[], BaseException]) -> Callable[[], None]:
    """Raise at the statement of this number; return how to stop listening."""
    sent = [0]

    def before(*_: Any) -> None:
        sent[0] += 1
        if sent[0] == number:
            raise error()

    event.listen(Engine, "before_cursor_execute", before)
    return lambda: event.remove(Engine, "before_cursor_execute", before)


def count(stores: Store, result: Result) -> int:
    sent: list[int] = []

    def before(*_: Any) -> None:
        sent.append(1)

    event.listen(Engine, "before_cursor_execute", before)
    try:
        stores(result)
    finally:
        event.remove(Engine, "before_cursor_execute", before)
    return len(sent)


def test_wherever_a_store_refuses_nothing_is_half_done_and_the_next_run_works(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result]
) -> None:
    stores(learnt("5000"))
    stores(learnt("1000"))
    total = count(stores, learnt("300"))
    tried = 0
    for number in np.linspace(2, total, 4).astype(int):  # tools/kill_walk.py goes through all of them
        for version in ("3", *(v for v in statuses(store) if int(v) > 3)):
            if version in statuses(store):
                store.delete_model_version("m", version)
        registry.promote(store, "m", "2", "1")
        undo = stopped_at(int(number), lambda: OperationalError("a statement", {}, Exception("refused")))
        try:
            stores(learnt("1"))
        except UserError:
            tried += 1
        finally:
            undo()
        while mlflow.active_run():
            mlflow.end_run("FAILED")
        assert champion(store) in statuses(store), number
        stores(learnt("1"))
        assert statuses(store)[champion(store)] == "FINISHED", number
        assert set(statuses(store).values()) == {"FINISHED"}, (number, statuses(store))
    assert tried >= 2


def test_an_interruption_after_the_end_of_a_run_takes_nothing_back(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise Interrupted(15)

    monkeypatch.setattr(registry, "promote", interrupted)
    with pytest.raises(Interrupted):
        stores(learnt("1"))
    assert statuses(store) == {"1": "FINISHED"}
    assert store.get_model_version("m", "1").tags[registry.VERDICT] == f"version 1 has not become champion: {STOPPED}"


def test_an_alias_that_cannot_move_leaves_the_version(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("the database is away")

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", fail)
    with pytest.raises(UserError) as caught:
        stores(learnt("1"))
    assert "version 1 of m is registered, and has not become champion" in caught.value.cause
    assert caught.value.remedy.endswith("champion.py --model-name m --version 1")
    assert statuses(store) == {"1": "FINISHED"}
    facts = written(store, card.Standing(str(store.get_model_version("m", "1").run_id)))
    assert not facts["promoted"]
    assert "version 1 has not become champion: MLflow at " in facts["champion_verdict"]


def test_more_data_is_a_tie_and_the_champion_stays(trains: Trainer, store: mlflow.MlflowClient) -> None:
    first = trains(data="data/diabetes_350.csv", model_name="grown", cv=0)
    assert "version 1 is the first champion" in first.out
    second = trains(model_name="grown", cv=0)
    assert "a tie: version 1 stays" in second.out
    measured = store.get_run(run_id(second)).data.metrics
    assert measured["gain_low"] < 0 < measured["gain_high"]
    assert measured["gain_rmse"] == measured["champion_rmse"] - measured["rmse"]
    pictures = [item.path for item in store.list_artifacts(run_id(second), "figures")]
    assert "figures/against_version_1.svg" in pictures


def test_a_champion_of_another_tool_is_told(
    stores: Store, store: mlflow.MlflowClient, learnt: Callable[[str], Result], tmp_path: Path
) -> None:
    from sklearn.linear_model import Ridge

    frame = pd.DataFrame({"x": [0.0, 1.0]})
    mlflow.sklearn.save_model(Ridge().fit(frame, [0.0, 1.0]), str(tmp_path / "m"), pip_requirements=[])
    store.create_registered_model("m")
    store.create_model_version("m", str(tmp_path / "m"))
    store.set_registered_model_alias("m", "champion", "1")
    standing = stores(learnt("1"))
    assert not standing.promoted
    assert "cannot be compared with the champion, version 1, which stays" in str(standing.verdict)
    assert isinstance(comparison.FEWEST_UNITS, int)
