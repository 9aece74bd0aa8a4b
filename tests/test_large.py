"""Large tables: streamed into float32, checked and split as small ones are, and linear models from their moments."""

import gzip
import io
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.conftest import ROOT, Trainer, run_id
from trainer import estimators, evaluation, files, moments, stream, table
from trainer.errors import UserError

RNG = np.random.default_rng(0)
N = 5_000


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream every table that can be streamed, in many batches."""
    monkeypatch.setattr(stream, "LARGE_VALUES", 1)
    monkeypatch.setattr(stream, "BATCH_ROWS", 700)
    monkeypatch.setattr(stream, "CSV_BLOCK_BYTES", 20_000)
    monkeypatch.setattr(table, "BLOCK_ROWS", 900)
    monkeypatch.setattr(moments, "BLOCK_ROWS", 800)


def numbers(rows: int = N) -> pd.DataFrame:
    frame = pd.DataFrame(RNG.normal(size=(rows, 3)), columns=list("abc"))
    frame["visits"] = RNG.integers(0, 30, rows)
    frame["smoker"] = RNG.random(rows) < 0.3
    frame["y"] = frame["a"] * 3 + frame["visits"] * 0.5 + frame["smoker"] + RNG.normal(size=rows)
    return frame


def written(frame: pd.DataFrame, name: str, folder: Path) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        frame.to_parquet(path, index=False, row_group_size=1_000)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.csv.gz"])
def test_a_large_table_is_the_same_table(
    name: str, tmp_path: Path, all_are_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(written(numbers(), name, tmp_path))
    large = table.read(path, "y")
    with monkeypatch.context() as small_again:
        small_again.setattr(stream, "LARGE_VALUES", 10**9)
        small = table.read(path, "y")
    assert large.large is not None
    assert small.large is None
    assert set(large.features.dtypes) == {np.dtype("float32")}
    assert np.array_equal(large.features, small.features.astype("float32"))
    assert np.array_equal(large.target, small.target)
    assert large.source == small.source
    sent = table.as_sent(large.features.head(), large.about)
    assert dict(sent.dtypes) == dict(small.features.dtypes)

    expected = table.divide(small, table.split(small, "stable", 0.2, 0))
    divided = table.divide(large, table.split(large, "stable", 0.2, 0))
    for ours, theirs in zip(divided, expected, strict=True):
        assert np.array_equal(ours.features, theirs.features.astype("float32"))
        assert np.array_equal(ours.target, theirs.target)
    assert np.shares_memory(divided[0].features.to_numpy(), large.features.to_numpy())  # no second copy


def test_sides_do_not_depend_on_how_a_number_is_stored(tmp_path: Path, all_are_large: None) -> None:
    frame = numbers().astype(dict.fromkeys("abc", "float32"))
    wide, narrow = tmp_path / "wide.parquet", tmp_path / "narrow.parquet"
    frame.to_parquet(narrow, index=False)
    frame.astype(dict.fromkeys("abc", "float64")).to_parquet(wide, index=False)
    sides = [table.split(table.read(str(path), "y"), "stable", 0.2, 0).in_test for path in (wide, narrow)]
    assert np.array_equal(*sides)


def test_keys_of_a_large_table(tmp_path: Path, all_are_large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = numbers().assign(patient=lambda f: "p" + (f.index % 400).astype(str))
    path = str(written(frame, "t.parquet", tmp_path))
    large = table.read(path, "y", ("patient",))
    sides = table.split(large, "stable", 0.3, 0)
    monkeypatch.setattr(stream, "LARGE_VALUES", 10**9)
    assert large.large is not None
    assert np.array_equal(sides.in_test, table.split(table.read(path, "y", ("patient",)), "stable", 0.3, 0).in_test)
    training, test = table.divide(large, sides)
    assert training.entities is not None
    assert test.entities is not None
    assert set(training.entities).isdisjoint(test.entities)


def test_random_split_of_a_large_table_is_that_of_a_small_one(
    tmp_path: Path, all_are_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(written(numbers(), "t.parquet", tmp_path))
    large = table.read(path, "y")
    ours = table.split(large, "random", 0.2, 7).in_test
    monkeypatch.setattr(stream, "LARGE_VALUES", 10**9)
    assert np.array_equal(ours, table.split(table.read(path, "y"), "random", 0.2, 7).in_test)


BROKEN = {
    "missing target": ({"y": {4_321: np.nan}}, "the target 'y' of .* is missing in row 4322"),
    "infinite": (
        {"b": {3_000: -np.inf, 3_001: np.inf}},
        "column 'b' .* infinite in 2 rows, the first of them row 3001",
    ),
    "infinite target": ({"y": {2: np.inf}}, "column 'y' of .* is infinite in row 3"),
    "all missing": ({"c": dict.fromkeys(range(N), np.nan)}, "all values of column 'c' of .* are missing"),
    "constant target": ({"y": dict.fromkeys(range(N), 4.5)}, "the target 'y' of .* has one value only, 4.5"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_a_large_table_is_refused_with_the_words_of_a_small_one(
    what: str, name: str, tmp_path: Path, all_are_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, expected = BROKEN[what]
    frame = numbers()
    for column, values in changes.items():
        frame.loc[list(values), column] = list(values.values())
    path = str(written(frame, name, tmp_path))
    with pytest.raises(UserError, match=expected) as streamed:
        table.read(path, "y")
    monkeypatch.setattr(stream, "LARGE_VALUES", 10**9)
    with pytest.raises(UserError) as ordinary:
        table.read(path, "y")
    assert str(streamed.value) == str(ordinary.value)


def test_a_broken_line_far_down_is_told_by_its_number(tmp_path: Path, all_are_large: None) -> None:
    path = written(numbers(), "t.csv", tmp_path)
    lines = path.read_text().splitlines()
    lines[4_000] = "1,2"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"line 4001 of .* has 2 fields, and the header has 6"):
        table.read(str(path), "y")


def test_what_cannot_be_streamed_is_read_the_ordinary_way(tmp_path: Path, all_are_large: None) -> None:
    late = numbers()
    late["visits"] = late["visits"].astype(object)
    late.loc[4_900, "visits"] = "many"  # the first block of the CSV file has whole numbers only
    gapped = numbers().astype({"smoker": object})
    gapped.loc[7, "smoker"] = None
    for name, frame in {"late.csv": late, "gapped.parquet": gapped, "vast.parquet": numbers().assign(a=1e300)}.items():
        read = table.read(str(written(frame, name, tmp_path)), "y")
        assert read.large is None, name
        assert len(read.target) == N


def test_whole_numbers_that_go_on_as_decimals(tmp_path: Path, all_are_large: None) -> None:
    frame = numbers().astype({"visits": object})
    frame.loc[4_900, "visits"] = 2.5
    read = table.read(str(written(frame, "t.csv", tmp_path)), "y")
    assert read.large is not None
    assert read.large.types["visits"] == "float64"
    assert read.features["visits"][4_900] == 2.5


def test_float64_where_float32_would_lose_what_varies(tmp_path: Path, all_are_large: None) -> None:
    frame = numbers().assign(seconds=1.7e9 + np.arange(N))
    read = table.read(str(written(frame, "t.parquet", tmp_path)), "y")
    assert read.large is not None
    assert read.features["seconds"].tolist() == frame["seconds"].tolist()


def test_parts_of_a_large_folder(tmp_path: Path, all_are_large: None) -> None:
    frame = numbers()
    for number, rows in enumerate(np.array_split(np.arange(N), 3)):
        frame.iloc[rows].to_parquet(tmp_path / f"{number}.parquet", index=False)
    read = table.read(str(tmp_path), "y")
    assert read.large is not None
    assert read.target.tolist() == frame["y"].tolist()
    frame.head(20).astype({"a": "float32"}).to_parquet(tmp_path / "3.parquet", index=False)
    with pytest.raises(UserError, match=r"in 3\.parquet the column 'a' is float, and double in the first"):
        table.read(str(tmp_path), "y")


@pytest.mark.parametrize("large", [True, False])
def test_columns_chooses_the_features(large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LARGE_VALUES", 1 if large else 10**9)
    path = str(written(numbers().assign(city="Oslo"), "t.parquet", tmp_path))
    read = table.read(path, "y", columns=("visits", "a"))
    assert (read.large is not None) == large
    assert list(read.features.columns) == ["visits", "a"]
    with pytest.raises(UserError, match=r"the feature 'vists' is not a column of .*; did you mean 'visits'"):
        table.read(path, "y", columns=("vists",))
    with pytest.raises(UserError, match="'y' is given as target and among the columns"):
        table.read(path, "y", columns=("a", "y"))
    with pytest.raises(UserError, match="'a' is given as key and among the columns"):
        table.read(path, "y", ("a",), columns=("a", "b"))


def linear() -> tuple[pd.DataFrame, np.ndarray]:
    values = RNG.normal(size=(12_000, 5)) * [1, 1e-3, 1e3, 2, 1] + [0, 5, 1e4, -3, 1]
    values[:, 4] += values[:, 3]
    frame = pd.DataFrame(values, columns=list("abcde")).assign(constant=7.0)
    return frame, frame.to_numpy() @ [1, 200, 1e-3, 2, -1, 0] + RNG.normal(size=len(frame))


@pytest.mark.parametrize("scaling", estimators.SCALINGS)
@pytest.mark.parametrize(("name", "given"), [("ridge", {}), ("ridge", {"alpha": 1e4}), ("elasticnet", {"alpha": 0.1})])
def test_moments_give_the_model_of_all_rows(name: str, given: dict[str, float], scaling: str) -> None:
    frame, target = linear()
    make = lambda: estimators.make(estimators.Choice(name, given, scaling, 0), frame)  # noqa: E731
    rows = make().fit(frame, target).predict(frame)
    ours = moments.fit(make(), list(frame.columns), moments.take(frame, target)[0]).predict(frame)
    assert np.abs(ours - rows).max() < 1e-7 * rows.std()


@pytest.mark.parametrize("name", ["ridge", "elasticnet"])
def test_cross_validation_from_moments_is_that_of_scikit_learn(name: str) -> None:
    from sklearn.model_selection import KFold, cross_val_score

    frame, target = linear()
    assert len(frame) >= evaluation.MOMENTS_ROWS
    model = estimators.make(estimators.Choice(name, {}, "standard", 0), frame)
    folds = KFold(5, shuffle=True, random_state=3)
    scores = -cross_val_score(model, frame, target, cv=folds, scoring="neg_root_mean_squared_error")
    measured = evaluation.cross_validate(model, frame, target, None, 5, 3)
    assert measured["cv_rmse_mean"] == pytest.approx(scores.mean(), rel=1e-6)
    assert measured["cv_rmse_std"] == pytest.approx(scores.std(), rel=1e-6)


@pytest.mark.parametrize("estimator", ["ridge", "xgboost"])
def test_float32_and_float64_measure_the_same(
    estimator: str, tmp_path: Path, trains: Trainer, store: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(numbers(), "t.parquet", tmp_path)
    measured = []
    few = {} if estimator == "ridge" else {"n_estimators": 10}
    for name, threshold in (("small", 10**9), ("large", 1)):
        monkeypatch.setattr(stream, "LARGE_VALUES", threshold)
        done = trains(estimator=estimator, data=path, target="y", model_name=f"{name}-{estimator}", cv=2, **few)
        assert done.code == 0, done.err
        measured.append(store.get_run(run_id(done)).data.metrics)
    precise = 1e-6 if estimator == "ridge" else 0.02  # a cut point may move to the neighbouring value
    for metric in ("rmse", "mae", "r2", "baseline_rmse", "cv_rmse_mean"):
        assert measured[1][metric] == pytest.approx(measured[0][metric], rel=precise)
    # the model takes the types of the table, and says again what it said
    frame = pd.read_parquet(path).drop(columns="y")
    predicted = mlflow.pyfunc.load_model(f"models:/large-{estimator}/1").predict(frame)
    assert np.isfinite(predicted).all()
    verify = [sys.executable, "verify.py", "--model", f"models:/large-{estimator}/1"]
    told = subprocess.run(verify, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    # and a second run is compared with it
    done = trains(estimator=estimator, data=path, target="y", model_name=f"large-{estimator}", cv=0, **few)
    assert "a tie: version 1 stays" in done.out


class Terminal(io.StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("screen", "seconds", "told"), [(Terminal, 0, True), (Terminal, 60, False), (io.StringIO, 0, False)]
)
def test_progress_is_told_on_a_terminal_when_it_takes_long(
    screen: type[io.StringIO],
    seconds: float,
    told: bool,
    tmp_path: Path,
    all_are_large: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = screen()
    monkeypatch.setattr(stream, "PROGRESS_SECONDS", seconds)
    monkeypatch.setattr(sys, "stderr", said)
    table.read(str(written(numbers(), "t.parquet", tmp_path)), "y")
    assert ("100%" in said.getvalue()) == told


def test_reading_keeps_to_the_row_groups_it_is_given(tmp_path: Path) -> None:
    frame = numbers()
    location = files.locate(str(written(frame, "t.parquet", tmp_path)))
    layout = stream.look(location)
    assert [(piece.first_row, piece.rows) for piece in layout.pieces] == [(i * 1_000, 1_000) for i in range(5)]
    some = stream.Layout(layout.schema, layout.pieces[1::2], 0)
    streamed = stream.read(location, some, ["a"], "y")
    assert streamed.target.tolist() == [*frame["y"][1_000:2_000], *frame["y"][3_000:4_000]]


def test_an_empty_row_group_does_no_harm(tmp_path: Path, all_are_large: None) -> None:
    whole = pa.Table.from_pandas(numbers(), preserve_index=False)
    with pa.parquet.ParquetWriter(tmp_path / "t.parquet", whole.schema) as writer:
        writer.write_table(whole)
        writer.write_table(whole.slice(0, 0))
    assert len(table.read(str(tmp_path / "t.parquet"), "y").target) == N
