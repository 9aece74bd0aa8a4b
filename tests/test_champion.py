"""The champion: earned by a proved gain on the same rows, kept in a tie, and never taken by luck."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

import champion as command
from tests.conftest import ROOT, Trainer, run_id
from trainer import champion, registry
from trainer.errors import UserError

RNG = np.random.default_rng(0)
TAGS = {"target": "y", "split": "stable", "test_fraction": "0.2", "key": "none"}


def predictions(n: int, shared: float, champion_noise: float, candidate_noise: float, rng: Any) -> list[Any]:
    """Draw a target, and two models' predictions whose errors have a part in common."""
    actual = rng.normal(size=n)
    common = shared * rng.normal(size=n)
    return [actual, *(actual + common + noise * rng.normal(size=n) for noise in (champion_noise, candidate_noise))]


def test_a_gain_is_measured_on_the_rows_given() -> None:
    actual = np.zeros(40)
    gain = champion.measure(actual, actual + 3.0, actual + 2.0, None, 0)
    assert (gain.rows, gain.units) == (40, 40)
    assert (gain.champion_rmse, gain.candidate_rmse, gain.rmse) == (3.0, 2.0, 1.0)
    assert (gain.low, gain.high) == (1.0, 1.0)
    assert gain.metrics == {"champion_rmse": 3.0, "gain_rmse": 1.0, "gain_low": 1.0, "gain_high": 1.0}


def test_the_interval_decides_as_that_of_the_squared_errors_does() -> None:
    from scipy.stats import bootstrap

    for seed in range(8):
        actual, theirs, ours = predictions(60, 0.5, 1.0, 0.8, np.random.default_rng(seed))
        gain = champion.measure(actual, theirs, ours, None, 0)
        paired = (actual - theirs) ** 2 - (actual - ours) ** 2
        squared = bootstrap((paired,), np.mean, method="percentile", rng=np.random.default_rng(0)).confidence_interval
        assert (gain.low > 0) == (squared.low > 0)
        assert (gain.high < 0) == (squared.high < 0)


def test_the_same_predictions_are_a_tie() -> None:
    actual = RNG.normal(size=50)
    gain = champion.measure(actual, actual + 1, actual + 1, None, 0)
    assert (gain.rmse, gain.low, gain.high, gain.is_proved) == (0.0, 0.0, 0.0, False)


def test_models_without_a_real_difference_are_rarely_promoted() -> None:
    rng = np.random.default_rng(1)
    promoted = sum(champion.measure(*predictions(90, 1.0, 0.5, 0.5, rng), None, seed).is_proved for seed in range(200))
    # 200 trials at 5 %: more than 18 come up in one of 100 such simulations
    assert promoted <= 18


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(2)
    found = [champion.measure(*predictions(90, 1.0, 1.0, 0.5, rng), None, 0).is_proved for _ in range(20)]
    assert sum(found) >= 15


def test_rows_of_one_entity_are_not_counted_twice() -> None:
    actual, theirs, ours = predictions(40, 0.5, 1.0, 0.9, np.random.default_rng(3))
    alone = champion.measure(actual, theirs, ours, None, 0)
    copies = champion.measure(
        np.tile(actual, 20), np.tile(theirs, 20), np.tile(ours, 20), np.tile(np.arange(40), 20), 0
    )
    naive = champion.measure(np.tile(actual, 20), np.tile(theirs, 20), np.tile(ours, 20), None, 0)
    assert copies.units == 40
    assert copies.high - copies.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert naive.high - naive.low < 0.4 * (alone.high - alone.low)


def test_very_many_rows_cost_no_more_and_say_the_same() -> None:
    actual, theirs, ours = predictions(50_000, 0.5, 1.0, 0.99, np.random.default_rng(4))
    gain = champion.measure(actual, theirs, ours, None, 0)
    assert gain.units == champion.MOST_UNITS
    squared = (actual - theirs) ** 2 - (actual - ours) ** 2
    rmse_per_mse = 1 / (gain.champion_rmse + gain.candidate_rmse)
    expected = 2 * 1.96 * squared.std() / 50_000**0.5 * rmse_per_mse
    assert gain.high - gain.low == pytest.approx(expected, rel=0.1)


def test_a_few_rows_prove_nothing() -> None:
    actual = np.zeros(5)
    gain = champion.measure(actual, actual + 3.0, actual + 2.0, None, 0)
    assert gain.low > 0
    assert not gain.is_proved
    assert "too few rows to tell (5; 30 are needed)" in champion.judge("2", "1", gain).sentence


@pytest.mark.parametrize(
    ("changed", "columns", "reason"),
    [
        ({}, ["a", "b"], ""),
        ({"target": "z"}, ["a", "b"], "its target is z, and here it is y"),
        ({"split": "random"}, ["a", "b"], "its split is random"),
        ({"test_fraction": "0.3"}, ["a", "b"], "its test_fraction is 0.3"),
        ({"test_fraction": "0.20"}, ["a", "b"], ""),
        ({"key": "patient"}, ["a", "b"], "its key is patient"),
        ({"test_fraction": "unknown"}, ["a", "b"], "its test_fraction is unknown"),
        ({}, ["a", "b", "c"], "it needs the feature c"),
        ({}, ["a"], "it does not know the feature b"),
    ],
)
def test_what_cannot_be_compared_fairly(changed: dict[str, str], columns: list[str], reason: str) -> None:
    told = champion.unfair(TAGS, TAGS | changed, ["a", "b"], columns)
    assert told.startswith(reason)
    assert bool(told) == bool(reason)


def test_with_a_key_a_new_feature_changes_no_side() -> None:
    keyed = TAGS | {"key": "patient"}
    assert champion.unfair(keyed, keyed, ["a", "b"], ["a"]) == ""
    random = TAGS | {"split": "random"}
    assert "it may have trained on the test rows" in champion.unfair(random, random, ["a"], ["a"])


# -- whole runs


def holder(client: mlflow.MlflowClient, name: str) -> int:
    return int(client.get_model_version_by_alias(name, "champion").version)


@pytest.fixture
def shuffled(tmp_path: Path) -> Path:
    """The shipped table with its target in another order, so that nothing can be learnt from it."""
    frame = pd.read_csv("data/diabetes.csv")
    frame["progression"] = frame["progression"].sample(frac=1, random_state=0).to_numpy()
    frame.to_csv(tmp_path / "shuffled.csv", index=False)
    return tmp_path / "shuffled.csv"


def test_more_data_is_a_tie_and_the_champion_stays(trains: Trainer, store: mlflow.MlflowClient) -> None:
    first = trains(data="data/diabetes_350.csv", model_name="grown")
    assert "version 1 is the first champion" in first.out
    second = trains(model_name="grown")
    assert "a tie: version 1 stays" in second.out
    assert holder(store, "grown") == 1
    run = store.get_run(run_id(second))
    measured = run.data.metrics
    assert measured["gain_low"] < 0 < measured["gain_high"]
    assert measured["gain_rmse"] == measured["champion_rmse"] - measured["rmse"]
    assert run.data.tags[registry.VERDICT] in second.out
    assert store.get_model_version("grown", "2").tags[registry.VERDICT] == run.data.tags[registry.VERDICT]
    pictures = [item.path for item in store.list_artifacts(run.info.run_id, "figures")]
    assert "figures/against_champion.png" in pictures


def test_a_better_model_takes_the_place_and_a_worse_one_does_not(
    trains: Trainer, store: mlflow.MlflowClient, shuffled: Path
) -> None:
    trains(data=shuffled, model_name="better")
    done = trains(model_name="better", promote="never")
    assert "version 2 is better than version 1" in done.out
    assert "(not done: promote=never)" in done.out
    assert holder(store, "better") == 1
    done = trains(model_name="better")
    assert "version 3 is better than version 1 and takes its place" in done.out
    assert holder(store, "better") == 3
    done = trains(model_name="better", alpha=1e6)
    assert "version 4 is worse than version 3, which stays" in done.out
    assert holder(store, "better") == 3


def test_a_pair_that_cannot_be_compared_is_refused_with_the_reason(
    trains: Trainer, store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    trains(model_name="unfair")
    done = trains(model_name="unfair", split="random")
    assert "cannot be compared with the champion, version 1, which stays: its split is stable" in done.out
    pd.read_csv("data/diabetes.csv").drop(columns="bmi").to_csv(tmp_path / "narrow.csv", index=False)
    done = trains(model_name="unfair", data=tmp_path / "narrow.csv")
    assert "it needs the feature bmi" in done.out
    assert done.code == 0
    assert holder(store, "unfair") == 1


def test_a_champion_that_cannot_be_loaded_stays(trains: Trainer, store: mlflow.MlflowClient, tracking_uri: str) -> None:
    done = trains(model_name="broken")
    (Path(store.get_run(run_id(done)).info.artifact_uri) / "models" / "model.skops").write_bytes(b"broken")
    done = trains(model_name="broken")
    assert done.code == 0, done.err
    assert "it cannot be loaded here: " in done.out
    assert holder(store, "broken") == 1


def test_a_champion_of_somebody_else_is_refused_with_the_reason(
    trains: Trainer, store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    from sklearn.linear_model import Ridge

    mlflow.sklearn.save_model(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]), str(tmp_path / "m"), pip_requirements=[])
    store.create_registered_model("foreign")
    store.create_model_version("foreign", str(tmp_path / "m"))
    store.set_registered_model_alias("foreign", "champion", "1")
    done = trains(model_name="foreign")
    assert (done.code, "which stays: it has no signature" in done.out) == (0, True), done.err
    assert holder(store, "foreign") == 1


def test_a_registry_without_aliases_has_a_tag(
    trains: Trainer, store: mlflow.MlflowClient, shuffled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

    def absent(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("", error_code=RESOURCE_DOES_NOT_EXIST)

    monkeypatch.setattr(mlflow.MlflowClient, "set_registered_model_alias", absent)
    trains(data=shuffled, model_name="tagged")
    trains(model_name="tagged")
    tags = {version.version: version.tags.get("champion") for version in store.search_model_versions("name='tagged'")}
    assert tags == {1: None, 2: "true"}
    reigning = registry.champion(store, "tagged")
    assert reigning is not None
    assert reigning.version == 2
    with registry.fetched("models:/tagged@champion") as folder:
        assert (folder / "MLmodel").is_file()


def test_of_two_runs_at_the_same_moment_the_better_one_stays(
    trains: Trainer, store: mlflow.MlflowClient, shuffled: Path
) -> None:
    trains(data=shuffled, model_name="race")
    commands = [
        [sys.executable, "train.py", "--model-name=race", f"--alpha={alpha}", "--cv=0"] for alpha in (1, 300, 1, 300)
    ]
    running = [subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) for line in commands]
    said = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    versions = store.search_model_versions("name='race'")
    assert len(versions) == 5
    assert all(version.tags[registry.VERDICT] != registry.PENDING for version in versions), said
    winner = store.get_model_version("race", str(holder(store, "race")))
    assert store.get_run(winner.run_id).data.params["alpha"] == "1", said


def test_versions_take_turns(store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create_registered_model("turns")
    for verdict in (registry.PENDING, registry.PENDING):
        store.create_model_version("turns", "file:///nowhere", tags={registry.VERDICT: verdict})
    monkeypatch.setattr(registry, "TURN_SECONDS", 0)
    assert registry.turn(store, "turns", "1") == ""
    assert registry.turn(store, "turns", "2") == "version 1 is still being compared with the champion"
    registry.conclude(store, "turns", "1", "a tie")
    assert registry.turn(store, "turns", "2") == ""
    store.set_model_version_tag("turns", "1", registry.VERDICT, registry.PENDING)
    monkeypatch.setattr(registry, "ABANDONED_SECONDS", -1)  # whoever left it pending is long dead
    assert registry.turn(store, "turns", "2") == ""


def test_a_run_whose_comparison_fails_takes_its_version_back(
    trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains(model_name="taken-back")

    def refuse(*_: Any, **__: Any) -> None:
        raise mlflow.MlflowException("no permission")

    monkeypatch.setattr(mlflow.MlflowClient, "set_model_version_tag", refuse)
    done = trains(model_name="taken-back")
    assert (done.code, "could not tag version 2 of taken-back: no permission" in done.err) == (2, True)
    assert [version.version for version in store.search_model_versions("name='taken-back'")] == [1]
    assert store.search_runs(["0"], max_results=1)[0].info.status == "FAILED"


def test_the_command_names_the_champion_and_its_lineage(
    trains: Trainer, store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    done = trains(model_name="shown")
    assert command.main(["--model-name=shown"]) == 0
    told = capsys.readouterr().out
    version = store.get_model_version("shown", "1")
    for fact in ("models:/shown/1", run_id(done), version.tags["data_sha256"], version.tags[registry.SINCE], "first"):
        assert fact in told
    store.delete_registered_model_alias("shown", "champion")
    assert command.main(["--model-name=shown"]) == 1
    assert command.main(["--model-name=nobody"]) == 2
    assert "Registered Model with name=nobody not found" in capsys.readouterr().err


def test_no_such_champion(store: mlflow.MlflowClient) -> None:
    store.create_registered_model("empty")
    with pytest.raises(UserError, match="empty has no champion"), registry.fetched("models:/empty@champion"):
        pass
