"""verify.py: the same answers, other answers, no answers, and nothing to compare with."""

import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from shutil import copytree
from typing import Any

import mlflow
import numpy as np
import pytest

import verify
from tests import models
from tests.conftest import ROOT, Done
from trainer.model_folder import Agreement


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, which nobody changes."""
    return models.saved(
        tmp_path_factory.mktemp("original") / "models", "ridge", "size", "city", versions={"scikit-learn": _present()}
    )


def _present() -> str:
    return metadata.version("scikit-learn")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(copytree(original, tmp_path / "models"))


@pytest.fixture
def registered(store: mlflow.MlflowClient, original: Path) -> tuple[str, str]:
    """A model in the registry, with a name of its own; and its run."""
    return models.register(store, original)


Verifies = Callable[..., Done]


@pytest.fixture
def verifies(store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]) -> Verifies:
    def call(**parameters: object) -> Done:
        capsys.readouterr()
        code = verify.main([f"--{name}={value}" for name, value in parameters.items()])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


def test_all_is_well_in_one_line_by_every_name(registered: tuple[str, str], folder: Path, verifies: Verifies) -> None:
    name, run = registered
    for given in (f"models:/{name}/1", f"models:/{name}@champion", f"runs:/{run}/models", folder):
        done = verifies(model=given)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(
            f"{given}: the same predictions for {models.ROWS} recorded rows (largest difference "
        )
        assert done.out.endswith("; tolerance 1e-09; the same environment)\n")
        assert done.out.count("\n") == 1


def forge(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a recorded scoring as somebody would who also knows of the digest."""
    path = folder / "recorded_scoring.json"
    recorded = json.loads(path.read_text())
    change(recorded)
    path.write_text(json.dumps(recorded))
    models.write_mlmodel(folder, models.read_mlmodel(folder))


def test_other_answers_are_shown_with_what_may_be_the_reason(folder: Path, verifies: Verifies) -> None:
    def other_answers(recorded: dict[str, Any]) -> None:
        recorded["predictions"][3] *= 1 + 1e-6
        recorded["versions"]["scikit-learn"] = "1.5.0"

    forge(folder, other_answers)
    done = verifies(model=folder)
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{folder}: DIFFERENT predictions for {models.ROWS} recorded rows (largest difference ")
    assert lines[0].endswith("tolerance 1e-09; 1 package differs)")
    assert lines[2].split()[0] == "3"  # the worst row
    assert f"scikit-learn     1.5.0        {_present()}" in lines
    assert "mlflow models predict --env-manager uv -m" in done.out
    done = verifies(model=folder, tolerance=1e-5)
    assert (done.code, f"differing, without effect: scikit-learn 1.5.0 -> {_present()}\n" in done.out) == (0, True)


def test_where_no_package_differs_it_is_the_machine(folder: Path, verifies: Verifies) -> None:
    forge(folder, lambda recorded: recorded["predictions"].__setitem__(0, 0.0))
    done = verifies(model=folder)
    assert (done.code, "no package differs from the day of training" in done.out) == (1, True)


def test_trees_have_to_be_exact(tmp_path: Path, verifies: Verifies) -> None:
    folder = models.saved(tmp_path / "models", "random_forest", "size", n_estimators="5")
    assert verifies(model=folder).code == 0
    forge(folder, lambda recorded: recorded["predictions"].__setitem__(0, recorded["predictions"][0] * (1 + 2.3e-16)))
    done = verifies(model=folder)
    assert (done.code, "tolerance 0;" in done.out) == (1, True)


@pytest.mark.parametrize("file", ["model.skops", "recorded_scoring.json", "training_table.json"])
def test_a_changed_file_is_noticed(file: str, folder: Path, verifies: Verifies) -> None:
    with (folder / file).open("ab") as opened:
        opened.write(b" ")
    done = verifies(model=folder)
    assert (done.code, "recorded on the day of training" in done.err) == (1, True)
    assert file in done.err
    assert done.err.splitlines()[1] == "  fix: fetch the model folder again from where it was logged"


ONE_ROW = '{"rows": {"data": [[1]], "columns": ["a"]}, "predictions": '


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        "[" * 9999,
        '{"rows": 1, "predictions": [], "versions": {}}',
        '{"rows": {"data": [], "columns": []}}',
        ONE_ROW + '[1, 2], "versions": {}}',
        ONE_ROW + '["x"], "versions": {}}',
        ONE_ROW + '[1], "versions": []}',
    ],
)
def test_a_recording_that_is_none_is_told_in_two_lines(content: str, folder: Path, verifies: Verifies) -> None:
    (folder / "recorded_scoring.json").write_text(content)
    models.write_mlmodel(folder, models.read_mlmodel(folder))
    done = verifies(model=folder)
    assert done.code == 1
    assert done.err.startswith(f"error: {folder}: its recorded_scoring.json cannot be read: ")
    assert len(done.err.splitlines()) == 2


def test_code_that_came_with_a_model_is_run_only_where_it_is_trusted(folder: Path, verifies: Verifies) -> None:
    canary = folder.parent / "canary"
    (folder / "code").mkdir()
    program = f"from pathlib import Path\nfrom mlflow.sklearn import _load_pyfunc\nPath({str(canary)!r}).touch()\n"
    (folder / "code" / "brought_along.py").write_text(program)
    content = models.read_mlmodel(folder)
    content["flavors"]["python_function"] |= {"loader_module": "brought_along", "code": "code"}
    models.write_mlmodel(folder, content)
    done = verifies(model=folder)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[0] == (
        f"error: {folder} was not made by this project: it wants the module brought_along (its loader_module)"
    )
    assert "trust=yes" in done.err
    assert not canary.exists()
    done = verifies(model=folder, trust="yes")
    assert (done.code, canary.exists()) == (0, True), done.err
    assert "the same predictions" in done.out


def test_another_version_with_the_same_answers(
    folder: Path, verifies: Verifies, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = _present()
    monkeypatch.setattr(verify.metadata, "version", lambda _: "0.24.0")
    done = verifies(model=folder)
    assert done.code == 0, done.err
    assert "1 package differs" in done.out
    assert f"differing, without effect: scikit-learn {then} -> 0.24.0\n" in done.out


def test_a_package_that_is_missing_is_named(folder: Path, verifies: Verifies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skops.io", None)
    monkeypatch.setattr(verify, "changed_versions", lambda _: {"skops": ("0.16.0", "not installed")})
    done = verifies(model=folder)
    assert done.code == 1
    assert done.err.startswith(f"error: {folder} cannot be loaded here: ModuleNotFoundError: import of skops.io")
    assert "skops            0.16.0       not installed" in done.out


def test_a_package_that_is_not_installed_differs() -> None:
    assert verify.changed_versions({"no-such-package": "1.0"}) == {"no-such-package": ("1.0", "not installed")}


def test_another_version_that_cannot_read_the_model_is_named(
    folder: Path, verifies: Verifies, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise AttributeError("module has no attribute 'ColumnTransformer'")

    monkeypatch.setattr("skops.io.load", gone)
    done = verifies(model=folder)
    assert done.code == 1
    assert "cannot be loaded here: AttributeError: module has no attribute 'ColumnTransformer'" in done.err


def test_the_result_is_recorded_only_when_asked_for(
    folder: Path, verifies: Verifies, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "verify.py")])
    before = len(store.search_runs(["0"]))
    verifies(model=folder)
    assert len(store.search_runs(["0"])) == before
    around = store.create_run("0").info.run_id  # as `mlflow run` makes one
    monkeypatch.setenv("MLFLOW_RUN_ID", around)
    verifies(model=folder)
    assert store.get_run(around).info.run_name == f"verify {folder}"[:100]
    assert not store.get_run(around).data.metrics
    monkeypatch.delenv("MLFLOW_RUN_ID")
    done = verifies(model=folder, record="yes")
    run = store.get_run(done.out.split()[-1])
    assert run.data.metrics == {
        "verified_rows": models.ROWS,
        "largest_absolute_difference": 0,
        "largest_relative_difference": 0,
        "agrees": 1,
    }
    assert run.data.params["model"] == str(folder)
    assert run.info.run_name == f"verify {folder}"[:100]
    assert run.data.tags["mlflow.source.name"] == "verify.py"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "models:/nobody/1"}, "Registered Model with name=nobody not found"),
        ({"model": "models:/nobody@champion"}, "Registered Model with name=nobody not found"),
        ({"model": "runs:/0123/models"}, "there is no run 0123"),
        ({"model": "no/such/folder"}, "no/such/folder is not the folder of an MLflow model"),
        ({"model": "data", "tolerance": "-1"}, "tolerance should be a number at least 0"),
        ({"model": "data", "record": "maybe"}, "there is no record 'maybe'"),
        ({"model": "data", "trust": "maybe"}, "there is no trust 'maybe'"),
    ],
)
def test_two_lines_where_there_is_nothing_to_verify(given: dict[str, str], expected: str, verifies: Verifies) -> None:
    done = verifies(**given)
    assert (done.code, expected in done.err) == (2, True), done.err
    assert len(done.err.splitlines()) == 2


def test_a_version_or_alias_that_is_not_there_is_named(registered: tuple[str, str], verifies: Verifies) -> None:
    name, _ = registered
    done = verifies(model=f"models:/{name}/999")
    assert (done.code, f"Model Version (name={name}, version=999) not found" in done.err) == (2, True)
    done = verifies(model=f"models:/{name}@best")
    assert (done.code, "Registered model alias best not found" in done.err) == (2, True)


def test_a_model_without_a_recording_is_named_as_it_was_given(
    store: mlflow.MlflowClient, folder: Path, verifies: Verifies
) -> None:
    (folder / "recorded_scoring.json").unlink()
    run = store.create_run("0").info
    store.log_artifacts(run.run_id, str(folder), "models")
    done = verifies(model=f"runs:/{run.run_id}/models")
    assert done.code == 2
    expected = f"error: runs:/{run.run_id}/models has no recorded_scoring.json, so there is nothing to compare with"
    assert done.err.splitlines()[0] == expected


def test_a_model_of_somebody_else_is_refused_by_name(verifies: Verifies, tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    theirs = Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    mlflow.sklearn.save_model(theirs, str(tmp_path / "m"), pip_requirements=[], serialization_format="cloudpickle")
    done = verifies(model=tmp_path / "m")
    assert (done.code, "it wants a pickle (model.pkl, cloudpickle)" in done.err) == (1, True)
    done = verifies(model=tmp_path / "m", trust="yes")
    assert (done.code, "has no signature" in done.err) == (1, True)


def test_a_registry_that_is_away_is_named(verifies: Verifies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = verifies(model="models:/verified/1")
    assert (done.code, "http://127.0.0.1:9 cannot be reached" in done.err) == (2, True)


def test_differences_are_measured_absolutely_and_relatively() -> None:
    recorded = np.array([0.0, 0.0, 100.0, -4.0])
    same = Agreement(recorded, recorded.copy(), {})
    assert (same.largest_absolute, same.largest_relative, same.exact) == (0.0, 0.0, True)
    moved = Agreement(recorded, np.array([0.0, 0.0, 101.0, -4.0]), {})
    assert (moved.largest_absolute, moved.largest_relative, moved.exact) == (1.0, 0.01, False)
    assert Agreement(recorded, np.array([0.0, 1e-9, 100.0, -4.0]), {}).largest_relative == np.inf
    assert Agreement(recorded, np.array([0.0, np.nan, 100.0, -4.0]), {}).largest_absolute == np.inf
