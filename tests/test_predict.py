"""predict.py: what is written, what is told, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

import predict
from tests import models
from tests.conftest import Done
from trainer import model_folder, scoring


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of features of every kind."""
    return models.saved(tmp_path_factory.mktemp("model") / "models")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two numbers."""
    return models.saved(tmp_path_factory.mktemp("few") / "models", "ridge", "size", "visits")


Predicts = Callable[..., Done]

# A row of 43 bytes: some 24,000 of them are a block of the reader.
LONG_ROW = "50." + "0" * 37 + ",1\n"


@pytest.fixture
def predicts(
    store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Predicts:
    def call(frame: pd.DataFrame | str | None = None, **parameters: object) -> Done:
        work = tmp_path / "work"  # the store is beside it
        work.mkdir(exist_ok=True)
        data = work / "new.csv"
        if isinstance(frame, pd.DataFrame):
            frame.to_csv(data, index=False)
        elif frame is not None:
            data.write_text(frame)
        given = {"data": data, "output": work / "out.csv"} | parameters
        capsys.readouterr()
        code = predict.main([f"--{name}={value}" for name, value in given.items()])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


def run_of(done: Done) -> str:
    return done.out.split()[-1]


def test_a_table_is_scored_in_its_order_with_its_keys_and_interval(
    folder: Path, predicts: Predicts, tmp_path: Path
) -> None:
    frame, _ = models.table()
    frame["patient"] = [f"{n:03d}" for n in range(len(frame))]
    shuffled = frame.iloc[::-1].assign(more=1)
    done = predicts(shuffled, model=folder)
    assert done.code == 0, done.err
    out = pd.read_csv(tmp_path / "work" / "out.csv", dtype={"patient": str})
    assert list(out.columns) == ["patient", "prediction", "lower", "upper"]
    assert out["patient"].tolist() == shuffled["patient"].tolist()
    expected = model_folder.load(folder).predict(shuffled)
    np.testing.assert_allclose(out["prediction"], expected, rtol=1e-12)
    np.testing.assert_allclose(out["upper"] - out["prediction"], 2.5)
    np.testing.assert_allclose(out["prediction"] - out["lower"], 2.5)
    assert f"data        new.csv: {len(frame)} rows\n" in done.out
    assert "prediction, lower and upper (2.5 on either side)" in done.out
    assert "rmse" not in done.out
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["new.csv", "out.csv"]


@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow"])
def test_formats_and_dtypes_do_not_matter(ending: str, folder: Path, predicts: Predicts, tmp_path: Path) -> None:
    frame, _ = models.table()
    typed = frame.convert_dtypes().astype({"city": "category"}) if ending != "csv" else frame
    data = tmp_path / f"typed.{ending}"
    {"csv": typed.to_csv, "parquet": typed.to_parquet, "arrow": typed.to_feather}[ending](
        data, **({} if ending == "arrow" else {"index": False})
    )
    done = predicts(model=folder, data=data, output=tmp_path / "out.parquet")
    assert done.code == 0, done.err
    out = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pandas()
    np.testing.assert_allclose(out["prediction"], model_folder.load(folder).predict(frame), rtol=1e-12)


def test_what_is_unlike_training_is_told_and_logged_with_where_the_model_comes_from(
    folder: Path, predicts: Predicts, store: mlflow.MlflowClient
) -> None:
    name, run_id = models.register(store, folder)
    frame, _ = models.table()
    frame.loc[:59, "size"] = 900.0
    frame.loc[[1, 2, 5], "visits"] = np.nan
    frame.loc[4, "city"] = "Bonn"
    done = predicts(frame.assign(y=frame["size"] * 2 + 3.0), model=f"models:/{name}@champion")
    assert done.code == 0, done.err
    assert f"model       models:/{name}@champion (models:/{name}/1): ridge for y\n" in done.out
    gaps = int(models.table()[0]["city"].isna().sum())
    assert f"missing     city {gaps}, since {gaps}, smoker {gaps}, visits 3\n" in done.out
    assert "unseen      city 1\n" in done.out
    assert "outside     size 60\n" in done.out
    assert "! unlike the training data, by their stability index: size (" in done.out
    assert "! 60 of 120 rows hold what training has not seen the like of\n" in done.out
    run = store.get_run(run_of(done))
    assert run.info.status == "FINISHED"
    assert run.data.tags["model_uri"] == f"models:/{name}@champion"
    assert run.data.tags["model_version"] == f"models:/{name}/1"
    assert run.data.tags["training_run_id"] == "0" * 32 != run_id
    assert {"unlike", "outside"} <= set(run.data.tags["remarks"].split(", "))
    metrics = run.data.metrics
    assert (metrics["rows"], metrics["unseen_values"], metrics["columns_unlike_training"]) == (120, 1, 1)
    assert metrics["missing_values"] == 3 * gaps + 3
    assert metrics["rmse"] > 0
    assert metrics["rmse_low"] <= metrics["rmse"] <= metrics["rmse_high"]
    assert 0 <= metrics["coverage_90"] <= 1
    artifacts = {artifact.path for artifact in store.list_artifacts(run.info.run_id)}
    assert artifacts == {"new_table.json", "out.csv"}
    path = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/new_table.json")
    assert json.loads(Path(path).read_text())["size"]["outside_training"] == 60


def test_with_the_target_the_rmse_is_that_of_the_rows_that_have_one(few: Path, predicts: Predicts) -> None:
    frame, _ = models.table("size", "visits")
    target = model_folder.load(few).predict(frame) + np.where(np.arange(len(frame)) % 2, 2.0, -4.0)
    known = frame.assign(y=np.where(np.arange(len(frame)) < 100, target, np.nan))
    done = predicts(known, model=few)
    assert "rmse        3.1623  (95 % " in done.out
    assert "; 100 rows)" in done.out
    assert "coverage    50.0% of the targets lie between lower and upper; 90 % should\n" in done.out


def test_a_model_of_version_010_scores_without_interval_and_says_what_it_cannot_tell(
    few: Path, predicts: Predicts, tmp_path: Path
) -> None:
    old = models.as_version_010(Path(copytree(few, tmp_path / "old")), size="double", visits="long")
    frame, _ = models.table("size", "visits")
    done = predicts(frame, model=old)
    assert done.code == 0, done.err
    assert list(pd.read_csv(tmp_path / "work" / "out.csv")) == ["prediction"]
    assert "has no record of its training table" in done.out
    assert "output      " in done.out
    assert "lower" not in done.out
    refused = predicts(frame.assign(visits=0.5), model=old)
    assert (refused.code, "takes integers in the column 'visits', and it holds 0.5" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("visits\n1\n", "has no column 'size', which"),
        ("size,visits\n1,x\n2,3\n", "holds 'x' in row 1, and "),
        ("size,visits\n" + "1,1\n" * 9 + "2,many\n", "holds 'many' in row 10, and "),
        ("size,visits\n", "has a header and no rows"),
        ("size,visits,size\n1,2,3\n", "has two columns 'size'"),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused_in_two_lines_and_nothing_is_written(
    text: str, expected: str, few: Path, predicts: Predicts, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "out.csv").write_text("what was there before")
    done = predicts(text, model=few)
    assert (done.code, expected in done.err) == (2, True), done.err
    assert len(done.err.splitlines()) == 2
    assert (tmp_path / "work" / "out.csv").read_text() == "what was there before"
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["new.csv", "out.csv"]


def test_a_column_of_another_kind_is_refused_by_name(folder: Path, predicts: Predicts, tmp_path: Path) -> None:
    frame, _ = models.table()
    frame.assign(city=1.5).to_parquet(tmp_path / "numbers.parquet")
    done = predicts(model=folder, data=tmp_path / "numbers.parquet")
    assert done.code == 2
    assert "the column 'city' of " in done.err
    assert f"holds numbers, and {folder} was trained on text there" in done.err
    frame.assign(since=True).to_parquet(tmp_path / "booleans.parquet")
    done = predicts(model=folder, data=tmp_path / "booleans.parquet")
    assert "holds booleans, and " in done.err
    assert "was trained on dates there" in done.err


def test_text_stays_the_text_that_it_is_and_marks_are_read_as_in_training(tmp_path: Path, predicts: Predicts) -> None:
    codes = models.saved(tmp_path / "codes", "ridge", "size", "street")
    frame, _ = models.table("size", "street")
    marked = frame.assign(street="007", size=frame["size"].map("${:,.2f}".format))
    done = predicts(marked, model=codes)
    assert done.code == 0, done.err
    assert "unseen      street 120\n" in done.out
    expected = model_folder.load(codes).predict(frame.assign(street="007", size=frame["size"].round(2)))
    np.testing.assert_allclose(pd.read_csv(tmp_path / "work" / "out.csv")["prediction"], expected, rtol=1e-9)


def test_dates_in_another_spelling_are_read_and_how_is_told(tmp_path: Path, predicts: Predicts) -> None:
    dated = models.saved(tmp_path / "dated", "ridge", "size", "since")
    frame, _ = models.table("size", "since")
    days = frame.assign(since=frame["since"].dt.normalize())
    done = predicts(days.assign(since=days["since"].dt.strftime("%d.%m.%Y")), model=dated)
    assert done.code == 0, done.err
    assert "! since: its dates are read day first\n" in done.out
    expected = model_folder.load(dated).predict(days)
    np.testing.assert_allclose(pd.read_csv(tmp_path / "work" / "out.csv")["prediction"], expected, rtol=1e-9)
    done = predicts(days.assign(since="soon"), model=dated)
    assert (done.code, "holds 'soon' in row 1, and " in done.err) == (2, True), done.err


def with_order(folder: Path, order: str) -> Path:
    """Let the record of a training table say in which order day and month were."""
    path = folder / "training_table.json"
    training = json.loads(path.read_text())
    next(column for column in training["columns"] if column["name"] == "since")["order"] = order
    path.write_text(json.dumps(training))
    models.write_mlmodel(folder, models.read_mlmodel(folder))
    return folder


def dated_parts(folder: Path, *spelled: list[str]) -> Path:
    """Write a table of dates as text, in parts that are read one after the other."""
    words = [word for part in spelled for word in part]
    frame = pd.DataFrame({"size": 50.0, "since": words})
    frame.to_parquet(folder / "dated.parquet", row_group_size=len(spelled[0]))
    return folder / "dated.parquet"


@pytest.mark.parametrize(
    ("order", "expected", "told"),
    [
        ("", ["2024-02-01", "2024-03-02", "2024-03-25", "2024-05-04"], "day first"),  # the third row leaves no choice
        ("%d/%m/%Y", ["2024-02-01", "2024-03-02", "2024-03-25", "2024-05-04"], "day first, as in training"),
    ],
)
def test_the_order_of_day_and_month_is_one_for_the_table_and_that_of_training(
    tmp_path: Path, predicts: Predicts, order: str, expected: list[str], told: str
) -> None:
    dated = with_order(models.saved(tmp_path / "dated", "ridge", "size", "since"), order)
    data = dated_parts(tmp_path, ["1/2/2024", "2/3/2024"], ["25/3/2024", "4/5/2024"])
    done = predicts(model=dated, data=data)
    assert done.code == 0, done.err
    assert f"! since: its dates are read {told}\n" in done.out
    frame = pd.DataFrame({"size": 50.0, "since": pd.to_datetime(expected)})
    written = pd.read_csv(tmp_path / "work" / "out.csv")["prediction"]
    np.testing.assert_allclose(written, model_folder.load(dated).predict(frame), rtol=1e-12)


def test_dates_in_another_order_than_in_training_are_refused_by_the_first_that_shows_it(
    tmp_path: Path, predicts: Predicts
) -> None:
    dated = with_order(models.saved(tmp_path / "dated", "ridge", "size", "since"), "%m/%d/%Y")
    ambiguous, clear = ["1/2/2024", "2/3/2024"], ["4/5/2024", "25/3/2024"]
    done = predicts(model=dated, data=dated_parts(tmp_path, ambiguous, ambiguous))
    assert "! since: its dates are read month first, as in training\n" in done.out
    done = predicts(model=dated, data=dated_parts(tmp_path, ambiguous, clear))
    assert done.code == 2
    assert "holds '25/3/2024' in row 4, and " in done.err, done.err
    assert done.err.splitlines()[0].endswith("was trained on dates there, month first")
    assert done.err.splitlines()[1] == "  fix: write its dates so, or as 2024-12-31"


def test_a_column_that_goes_on_otherwise_than_it_begins_is_read_again(
    few: Path, predicts: Predicts, tmp_path: Path
) -> None:
    done = predicts("size,visits\n" + LONG_ROW * 30_000 + "2.5,?\n", model=few)
    assert done.code == 0, done.err
    assert "data        new.csv: 30001 rows\n" in done.out
    assert "missing     visits 1\n" in done.out
    assert len(pd.read_csv(tmp_path / "work" / "out.csv")) == 30_001


def test_keys_of_any_type_are_copied_and_asked_ones_must_be_there(
    few: Path, predicts: Predicts, tmp_path: Path
) -> None:
    frame, _ = models.table("size", "visits")
    frame["day"] = pd.date_range("2024-01-01", periods=len(frame))
    frame["kind"] = pd.Categorical(["a", "b"] * 60)
    frame.to_parquet(tmp_path / "keys.parquet")
    done = predicts(model=few, data=tmp_path / "keys.parquet", key="kind,day", output=tmp_path / "out.parquet")
    assert done.code == 0, done.err
    out = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert out.column_names == ["kind", "day", "prediction", "lower", "upper"]
    assert out["kind"].to_pylist() == ["a", "b"] * 60
    assert pa.types.is_timestamp(out.schema.field("day").type)
    done = predicts(model=few, data=tmp_path / "keys.parquet", key="nobody")
    assert (done.code, "has no column 'nobody'" in done.err) == (2, True)


def test_a_full_disk_leaves_no_half_written_file(
    few: Path, predicts: Predicts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scoring, "_publish", full)
    frame, _ = models.table("size", "visits")
    done = predicts(frame, model=few)
    assert (done.code, "could not write" in done.err) == (2, True)
    assert "No space left on device" in done.err
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["new.csv"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"output": "out.xlsx"}, "should end with .csv or .parquet"),
        ({"output": "no/such/folder/out.csv"}, "the folder no/such/folder of output="),
        ({"model": "no/such/model"}, "no/such/model is not the folder of an MLflow model"),
        ({"data": "no/such/table.csv"}, "no/such/table.csv"),
    ],
)
def test_two_lines_for_what_is_not_there(given: dict[str, str], expected: str, few: Path, predicts: Predicts) -> None:
    done = predicts("size,visits\n1,2\n", **({"model": few} | given))
    assert (done.code, expected in done.err) == (2, True), done.err
    assert len(done.err.splitlines()) == 2


def test_a_model_that_brings_code_is_refused_unless_it_is_trusted(
    few: Path, predicts: Predicts, tmp_path: Path
) -> None:
    theirs = Path(copytree(few, tmp_path / "theirs"))
    content = models.read_mlmodel(theirs)
    content["flavors"]["other"] = {"code": "code"}
    models.write_mlmodel(theirs, content)
    frame, _ = models.table("size", "visits")
    done = predicts(frame, model=theirs)
    assert (done.code, "it wants the flavor other" in done.err) == (2, True)
    assert predicts(frame, model=theirs, trust="yes").code == 0


def test_the_rows_are_never_all_in_memory(few: Path, predicts: Predicts, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    scores: Any = model_folder.Model.predict

    def noted(self: Any, rows: pd.DataFrame) -> Any:
        sizes.append(len(rows))
        return scores(self, rows)

    monkeypatch.setattr(model_folder.Model, "predict", noted)
    done = predicts("size,visits\n" + LONG_ROW * 60_000, model=few)
    assert done.code == 0, done.err
    assert sum(sizes) == 60_000
    assert max(sizes) < 30_000
