"""A new table scored on a node: the version that is meant, what is sent, and the predictions that come home."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from submit import job, outputs, own, predictions, registered
from submit.compute import Asked
from submit.errors import UserError, VerificationError
from tests import standin_http as http
from tests.conftest import ROOT, Submitted
from tests.standin import StandIn
from tests.submitting import Answers, Warm, fake_workspace, job_name
from trainer import model_folder, registry

OURS = own.Trainer()
NAME = "diabetes-progression"


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (["model=sales"], "'sales' names no registered model"),
        (["model=runs:/1/models"], "'runs:/1/models' names no registered model"),
        (["output=scored.xlsx"], "output=scored.xlsx should end with .csv or .parquet"),
        (["output=nowhere/a.csv"], "the folder nowhere of output=nowhere/a.csv does not exist"),
        (["trust=maybe"], "there is no trust 'maybe'; did you mean 'yes'?"),
        (["estimator=ridge"], "MLproject's predict has no parameter 'estimator'; did you mean 'separator'?"),
    ],
)
def test_what_cannot_be_scored_is_told_before_anybody_is_asked(
    given: list[str], cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        OURS.read_work("predict", given, None, 1)
    assert caught.value.cause == cause
    with pytest.raises(UserError, match="a prediction runs on one node"):
        OURS.read_work("predict", [], None, 2)


def registry_of(monkeypatch: pytest.MonkeyPatch, known: list[str], champion: str = "none", **aliases: str) -> Any:
    client = SimpleNamespace(get_registered_model=lambda _: SimpleNamespace(aliases=aliases))
    monkeypatch.setattr(registry, "versions", lambda *_: [SimpleNamespace(version=one) for one in known])
    monkeypatch.setattr(registry, "find_champion", lambda *_: SimpleNamespace(number=champion, remark="it is gone"))
    workspace = fake_workspace()
    monkeypatch.setattr(type(workspace), "mlflow", lambda _: client)
    return workspace


def test_the_version_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    work = OURS.read_work("predict", [f"model=models:/{NAME}@staging", "output=my table.csv"], None, 1)
    settled = OURS.settle(registry_of(monkeypatch, ["1", "2"], staging="2"), work)
    assert settled.told == (("model", f"models:/{NAME}/2, now models:/{NAME}@staging"),)
    made = job.document(OURS, settled, ROOT, Asked().job_fields(), name="predict-1")
    assert made["inputs"]["model"] == f"models:/{NAME}/2"
    assert made["display_name"] == f"{NAME}/2 on diabetes.csv"
    assert made["outputs"]["predictions"]["path"].endswith("/paths/azureml/predict-1/predictions/")
    text = made["command"].replace("${{outputs.predictions}}", "/mnt/o")
    for name, value in made["inputs"].items():
        text = text.replace(f"${{{{inputs.{name}}}}}", value if isinstance(value, str) else "/mnt/t.csv")
    words = shlex.split(text)
    assert words[words.index("--output") + 1] == "/mnt/o/my table.csv"


@pytest.mark.parametrize(
    ("uri", "known", "cause"),
    [
        ("models:/m/1", [], "the workspace ws has no model 'm'"),
        ("models:/m/3", ["1", "2"], "m has no version 3"),
        ("models:/m@champion", ["1"], "m has no champion: it is gone"),
        ("models:/m@stagin", ["1"], "m has no alias 'stagin'; did you mean 'staging'?"),
    ],
)
def test_a_model_that_is_not_there_is_told(
    uri: str, known: list[str], cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as caught:
        registered.find_version(registry_of(monkeypatch, known, staging="1"), uri)
    assert caught.value.cause == cause


def home(monkeypatch: pytest.MonkeyPatch, files: list[str], folder: Path, target: Path | None) -> Any:
    """Bring home what a job has stored."""

    @contextmanager
    def stored(*_: Any) -> Iterator[None]:
        yield None

    def download(_: Any, __: str, partial: Path) -> None:
        for file in files:
            (partial / file).parent.mkdir(exist_ok=True)
            (partial / file).write_text("new")

    place = SimpleNamespace(path="azureml://datastores/workspaceblobstore/paths/azureml/predict-1/predictions/")
    monkeypatch.setattr(predictions, "look", lambda *_: SimpleNamespace(outputs={"predictions": place}))
    monkeypatch.setattr(predictions, "stored_at", stored)
    monkeypatch.setattr(outputs, "download", download)
    metrics = {"rows": 9.0, "rmse": 2.0, "rmse_low": 1.0, "rmse_high": 3.0, "coverage_90": 0.9}
    run = SimpleNamespace(data=SimpleNamespace(metrics=metrics))
    workspace = fake_workspace()
    monkeypatch.setattr(type(workspace), "mlflow", lambda _: SimpleNamespace(get_run=Answers(run)))
    return predictions.bring_home(workspace, "predict-1", folder, target)


def test_predictions_take_the_place_of_the_former_ones_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target, folder = tmp_path / "p.csv", tmp_path / "outputs"
    target.write_text("former")
    for wrong in ([], ["a.csv", "b.csv"], ["a/b.csv"]):
        with pytest.raises(VerificationError):
            home(monkeypatch, wrong, folder, target)
        assert target.read_text() == "former"
    said = home(monkeypatch, ["p.csv"], folder, target)
    assert target.read_text() == "new"
    assert said == [
        ("predictions", f"{target} (3 bytes)"), ("rows", "9"), ("rmse", "2.0000  (95 % 1 to 3)"),
        ("coverage", "90.0% of the targets lie between lower and upper"),
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]
    folder.mkdir()
    home(monkeypatch, ["theirs.csv"], folder, None)
    assert [path.name for path in folder.iterdir()] == ["theirs.csv"]


def test_a_table_is_scored_on_a_node_and_comes_home(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    frame = pd.read_csv(ROOT / "data" / "diabetes.csv").iloc[::-2]
    frame.to_csv(tmp_path / "new.csv", index=False)
    target = tmp_path / "scored" / "out.parquet"
    target.parent.mkdir()
    target.write_text("former")
    known = http.call(
        standin, "GET", f"{http.MLFLOW}/model-versions/search", params={"filter": f"name='{NAME}'"}
    ).json()
    number = next(one["version"] for one in known["model_versions"] if one["run_id"] == submitted.job)
    alias = {"name": NAME, "alias": "first", "version": number}
    http.call(standin, "POST", f"{http.MLFLOW}/registered-models/alias", json=alias).raise_for_status()
    asked = ("-e", "predict", "--data", "new.csv", "-P", f"model=models:/{NAME}@first")
    done = remote("--yes", *asked, "-P", "output=scored/out.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    name = job_name(done.stdout, "predict")
    assert http.job(standin, name)["inputs"]["model"]["value"] == f"models:/{NAME}/{number}"
    assert f"model        models:/{NAME}/{number}, now models:/{NAME}@first" in done.stdout
    out = pd.read_parquet(target)
    assert list(out.columns) == ["prediction", "lower", "upper"]
    expected = model_folder.load(submitted.outputs / "models").predict(frame)
    np.testing.assert_allclose(out["prediction"], expected, rtol=1e-12)
    measured = {one["key"]: one["value"] for one in http.run(standin, name)["data"]["metrics"]}
    between = f"95 % {measured['rmse_low']:.4g} to {measured['rmse_high']:.4g}"
    assert f"rmse         {measured['rmse']:.4f}  ({between})" in done.stdout
    again = remote("attach", name, "--output-dir", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (tmp_path / "again" / name / "out.parquet").read_bytes() == target.read_bytes()
    missing = remote("--yes", *asked[:-1], "model=models:/nothing/1", cwd=tmp_path)
    assert missing.returncode == 2
    assert "has no model 'nothing'\n  fix: train one" in missing.stderr
