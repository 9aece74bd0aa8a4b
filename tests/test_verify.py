"""verify.py: the same answers, other answers, no answers, and nothing to compare with."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.models import Model

import verify
from tests.conftest import ROOT, Done, Trainer, run_id


@pytest.fixture
def model(trains: Trainer) -> tuple[str, Path]:
    """A registered model, and its folder in the store."""
    done = trains(model_name="verified", cv=0)
    assert done.code == 0, done.err
    version = next(line.split("/")[-1] for line in done.out.splitlines() if line.startswith("model "))
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id(done)}/models"))
    return f"models:/verified/{version}", folder


@pytest.fixture
def verifies(store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(**parameters: object) -> Done:
        capsys.readouterr()
        code = verify.main([f"--{name}={value}" for name, value in parameters.items()])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


def test_all_is_well_in_one_line_by_every_name(model: tuple[str, Path], verifies: Any) -> None:
    uri, folder = model
    run = Model.load(str(folder)).metadata["run_id"]
    for name in (uri, "models:/verified@champion", f"runs:/{run}/models", folder):
        done = verifies(model=name)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"{name}: the same predictions for 92 recorded rows (largest difference 0, ")
        assert done.out.count("\n") == 1
        assert "the same environment" in done.out


def forge(folder: Path, change: Any) -> None:
    """Change a recorded scoring as somebody would who also knows of the digest."""
    import hashlib

    path = folder / "recorded_scoring.json"
    recorded = json.loads(path.read_text())
    change(recorded)
    text = json.dumps(recorded).encode()
    path.write_bytes(text)
    saved = Model.load(str(folder))
    saved.metadata = saved.metadata | {"recorded_scoring_sha256": hashlib.sha256(text).hexdigest()}
    saved.save(str(folder / "MLmodel"))


def test_other_answers_are_shown_with_what_may_be_the_reason(model: tuple[str, Path], verifies: Any) -> None:
    _, folder = model

    def other_answers(recorded: dict[str, Any]) -> None:
        recorded["predictions"][3] *= 1 + 1e-6
        recorded["versions"]["scikit-learn"] = "1.5.0"

    forge(folder, other_answers)
    done = verifies(model=folder)
    assert done.code == 1
    assert "DIFFERENT predictions for 92 recorded rows" in done.out
    assert "1 package differs" in done.out
    lines = done.out.splitlines()
    assert lines[2].split()[0] == "3"  # the worst row
    assert "scikit-learn     1.5.0        1.9.1" in done.out
    assert "mlflow models predict --env-manager uv -m" in done.out
    done = verifies(model=folder, tolerance=1e-5)
    assert (done.code, "differing, without effect: scikit-learn 1.5.0 -> 1.9.1" in done.out) == (0, True)


def test_trees_have_to_be_exact(trains: Trainer, verifies: Any) -> None:
    done = trains(model_name="none", cv=0, estimator="random_forest", n_estimators=5)
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id(done)}/models"))
    assert verifies(model=folder).code == 0

    def last_bit(recorded: dict[str, Any]) -> None:
        recorded["predictions"][0] *= 1 + 2.3e-16

    forge(folder, last_bit)
    assert verifies(model=folder).code == 1


def test_a_tampered_model_or_recorded_scoring_is_noticed(model: tuple[str, Path], verifies: Any) -> None:
    _, folder = model
    original = (folder / "model.skops").read_bytes()
    (folder / "model.skops").write_bytes(original + b" ")
    done = verifies(model=folder)
    assert (done.code, "model.skops is not the model that was recorded" in done.err) == (2, True)
    (folder / "model.skops").write_bytes(original)
    text = (folder / "recorded_scoring.json").read_text()
    (folder / "recorded_scoring.json").write_text(text + " ")
    done = verifies(model=folder)
    assert (done.code, "is not what was recorded" in done.err) == (2, True)


def in_another_environment(overlay: Path, folder: Path, code: str = "") -> Done:
    """Run verify.py where other packages come first on the path."""
    program = f"{code}\nimport sys, verify; sys.exit(verify.main(['--model', {str(folder)!r}]))"
    environ = os.environ | {"PYTHONPATH": str(overlay)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_another_version_with_the_same_answers(model: tuple[str, Path], tmp_path: Path) -> None:
    info = tmp_path / "overlay" / "scikit_learn-1.8.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 1.8.0\n")
    done = in_another_environment(tmp_path / "overlay", model[1])
    assert done.code == 0, done.err
    assert "1 package differs" in done.out
    assert "differing, without effect: scikit-learn 1.9.1 -> 1.8.0" in done.out


def test_a_package_that_is_missing_is_named(model: tuple[str, Path], tmp_path: Path) -> None:
    done = in_another_environment(tmp_path, model[1], "import sys; sys.modules['skops'] = None")
    assert done.code == 1
    assert "it cannot be loaded here: ModuleNotFoundError" in done.err
    assert "skops" in done.err
    assert "Traceback" not in done.err


def test_another_version_that_cannot_read_the_model_is_named(model: tuple[str, Path], tmp_path: Path) -> None:
    info = tmp_path / "scikit_learn-0.24.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 0.24.0\n")
    broken = "import sklearn.compose._column_transformer as module; del module.ColumnTransformer"
    done = in_another_environment(tmp_path, model[1], broken)
    assert done.code == 1
    assert "it cannot be loaded here" in done.err
    assert "scikit-learn     1.9.1        0.24.0" in done.out


def test_the_result_is_recorded_only_when_asked_for(
    model: tuple[str, Path], verifies: Any, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "verify.py")])
    before = len(store.search_runs(["0"]))
    verifies(model=model[0])
    assert len(store.search_runs(["0"])) == before
    done = verifies(model=model[0], record="yes")
    run = store.get_run(done.out.split()[-1])
    assert run.data.metrics == {
        "verified_rows": 92,
        "largest_absolute_difference": 0,
        "largest_relative_difference": 0,
        "agrees": 1,
    }
    assert run.data.params["model"] == model[0]
    assert run.data.tags["mlflow.source.name"] == "verify.py"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "models:/verified/999"}, "Model Version (name=verified, version=999) not found"),
        ({"model": "models:/nobody/1"}, "Registered Model with name=nobody not found"),
        ({"model": "models:/nobody@champion"}, "Registered Model with name=nobody not found"),
        ({"model": "models:/verified@best"}, "Registered model alias best not found"),
        ({"model": "runs:/0123/models"}, "Run with id=0123 not found"),
        ({"model": "no/such/folder"}, "no/such/folder is not the folder of an MLflow model"),
        ({"model": "data", "tolerance": "-1"}, "tolerance should be a number at least 0"),
        ({"model": "data", "record": "maybe"}, "there is no record 'maybe'"),
    ],
)
def test_one_line_where_there_is_nothing_to_verify(
    given: dict[str, str], expected: str, model: tuple[str, Path], verifies: Any
) -> None:
    done = verifies(**given)
    assert (done.code, expected in done.err) == (2, True), done.err
    assert len(done.err.splitlines()) == 2


def test_a_model_of_somebody_else_has_nothing_to_compare_with(verifies: Any, tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    mlflow.sklearn.save_model(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]), str(tmp_path / "m"), pip_requirements=[])
    done = verifies(model=tmp_path / "m")
    assert (done.code, "has no recorded_scoring.json" in done.err) == (2, True)


def test_a_registry_that_is_away_is_named(verifies: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = verifies(model="models:/verified/1")
    assert (done.code, "http://127.0.0.1:9 cannot be reached" in done.err) == (2, True)
