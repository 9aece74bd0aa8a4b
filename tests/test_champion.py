"""The script that names the champion, and promotes one by hand."""

import mlflow
import pytest

import champion
from tests.conftest import Trainer, script
from tests.test_registry import add, run_in
from trainer import claims, registry


@pytest.fixture
def shows(store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]) -> Trainer:
    """Return champion.py's command line as a function."""
    return script(champion.main, capsys)


def test_the_champion_and_its_lineage_are_named(shows: Trainer, store: mlflow.MlflowClient) -> None:
    run = run_in(store, "FINISHED")
    tags = {"rmse": "48.051765445607884", "data_sha256": "abc", registry.VERDICT: "version 1 is the first champion"}
    add(store, "m", run, **tags)
    registry.promote(store, "m", "1", "none")
    done = shows(model_name="m")
    assert (done.code, done.err) == (0, "")
    since = store.get_model_version("m", "1").tags[registry.SINCE]
    first = "version 1 is the first champion"
    for fact in ("models:/m/1", run.id, "rmse          48.0518\n", "abc", since, first, "unknown"):
        assert fact in done.out


def test_no_champion_is_told_with_the_way_to_one(shows: Trainer, store: mlflow.MlflowClient) -> None:
    add(store, "m")
    done = shows(model_name="m")
    assert done.code == 1
    assert "m has no champion" in done.out
    assert "champion.py --model-name m --version 1" in done.out
    registry.promote(store, "m", "1", "none")
    store.delete_model_version("m", "1")
    done = shows(model_name="m")
    assert done.code == 1
    assert "version 1, the champion, has been deleted" in done.out
    assert "train.py --model-name m" in done.out
    assert shows(model_name="nobody").code == 2


def test_a_version_is_promoted_by_hand(shows: Trainer, store: mlflow.MlflowClient) -> None:
    for verdict in ("version 1 is the first champion", "version 2 cannot be compared"):
        add(store, "m", **{registry.VERDICT: verdict})
    registry.promote(store, "m", "1", "none")
    claims.write(store, "m", "1", "1", claims.OPEN)
    done = shows(model_name="m", version=2)
    assert done.code == 0
    told = claims.read(registry.versions(store, "m"))
    assert [told["1"][:21], told["2"][:22]] == ["for version 1, until ", "for version 2, by hand"]
    assert "champion      models:/m/2" in done.out
    assert "promoted by hand, after version 1; before that: version 2 cannot be compared" in done.out
    assert registry.find_champion(store, "m").number == "2"
    assert shows(model_name="m", version=2).code == 0  # once more changes nothing
    assert store.get_model_version("m", "2").tags[registry.AFTER] == "1"
    done = shows(model_name="m", version=7)
    assert (done.code, "m has no version 7; it has 1, 2" in done.err) == (2, True)
