"""The recorded rows of a model folder, scored again."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.conftest import Trainer, run_id
from trainer.errors import UserError
from trainer.model_folder import RECORDED_SCORING
from trainer.verification import Agreement, score_again


@pytest.fixture
def folder(trains: Trainer, tmp_path: Path) -> Path:
    frame = pd.read_csv("data/diabetes.csv").assign(
        visits=lambda f: f.index % 7,
        gap=lambda f: np.where(f.index % 4 == 0, np.nan, f.index),
        city=lambda f: np.where(f.index % 5 == 0, None, "Rome"),
        smoker=lambda f: f.index % 2 == 0,
        maybe=lambda f: np.where(f.index % 3 == 0, None, f.index % 2 == 0),
    )
    frame.to_csv(tmp_path / "mixed.csv", index=False)
    done = trains(data=tmp_path / "mixed.csv", model_name="none")
    assert done.code == 0, done.err
    return Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id(done)}/models", dst_path=str(tmp_path)))


def test_a_model_predicts_what_it_predicted_whatever_the_types_of_its_columns(folder: Path) -> None:
    agreement = score_again(folder)
    assert agreement.exact
    assert (agreement.largest_absolute, agreement.largest_relative) == (0.0, 0.0)
    assert agreement.rows > 50
    assert agreement.versions["scikit-learn"] == "1.9.1"


def test_a_changed_recorded_scoring_is_noticed(folder: Path) -> None:
    path = folder / RECORDED_SCORING
    recorded = json.loads(path.read_text())
    recorded["predictions"][0] += 1e-9
    path.write_text(json.dumps(recorded))
    with pytest.raises(UserError, match="is not what was recorded"):
        score_again(folder)


def test_a_model_of_somebody_else_has_nothing_to_compare_with(folder: Path) -> None:
    (folder / RECORDED_SCORING).unlink()
    with pytest.raises(UserError, match=r"has no recorded_scoring\.json"):
        score_again(folder)


def test_differences_are_measured_absolutely_and_relatively() -> None:
    recorded = np.array([0.0, 0.0, 100.0, -4.0])
    same = Agreement(recorded, recorded.copy(), {})
    assert (same.largest_absolute, same.largest_relative, same.exact) == (0.0, 0.0, True)
    moved = Agreement(recorded, np.array([0.0, 0.0, 101.0, -4.0]), {})
    assert (moved.largest_absolute, moved.largest_relative, moved.exact) == (1.0, 0.01, False)
    assert Agreement(recorded, np.array([0.0, 1e-9, 100.0, -4.0]), {}).largest_relative == np.inf
    assert Agreement(recorded, np.array([0.0, np.nan, 100.0, -4.0]), {}).largest_absolute == np.inf
