"""Models: every estimator on every kind of column, however it is typed, and answers that do not change."""

import tracemalloc
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io

from tests.tables import load
from trainer import evaluation, pipeline, settings
from trainer.estimators import ESTIMATORS
from trainer.table import Column

ROWS = 60
TREES = {"n_estimators": "5"}


def fitted(name: str, columns: list[Column], features: pd.DataFrame, target: Any, **given: str) -> Any:
    """Fit an estimator of this name on features of these kinds."""
    model = made(name, columns, features, **given)
    return pipeline.fit(ESTIMATORS[name], model, features, target)


def made(name: str, columns: list[Column], features: pd.DataFrame, **given: str) -> Any:
    few = TREES if "n_estimators" in ESTIMATORS[name].hyperparameters else {}
    asked = settings.read(settings.defaults() | {"estimator": name} | few | given)
    return pipeline.make(asked, ESTIMATORS[name], columns, features)


def texts(values: Any) -> "pd.Series[Any]":
    return pd.Series(np.asarray(values, dtype=object))


def mixed() -> tuple[list[Column], pd.DataFrame, Any]:
    """A table with every kind of column, as it is in training, and a target that depends on each of them."""
    rng = np.random.default_rng(0)
    rows = 200
    gaps = rng.random(rows) < 0.2
    frame = pd.DataFrame(
        {
            "weight [kg]": rng.normal(size=rows),
            "$_$ %": np.where(gaps, np.nan, rng.integers(1, 6, rows)),
            "市 <1>": texts(
                np.where(rng.random(rows) < 0.2, np.nan, rng.choice(["Oslo", "Rome"], rows).astype(object))
            ),
            "lift": np.where(rng.random(rows) < 0.2, np.nan, rng.random(rows) < 0.5),
            "built": pd.Series(pd.date_range("2020-01-01", periods=rows, freq="37h")).astype("datetime64[us]"),
        }
    )
    frame.loc[3, "built"] = pd.NaT
    target = (
        frame["weight [kg]"] * 30
        + frame["$_$ %"].fillna(9) * 10
        + (frame["市 <1>"] == "Oslo") * 50
        + (frame["lift"] == 1) * 40
        + np.arange(rows)
    )
    kinds = ("number", "integer", "text", "boolean", "datetime")
    columns = [Column(str(n), k, int(frame[n].isna().sum())) for n, k in zip(frame, kinds, strict=True)]  # type: ignore[arg-type]
    return columns, frame, target.to_numpy()


@pytest.mark.parametrize("scaling", settings.SCALINGS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_learns_from_every_kind_of_column(name: str, scaling: str) -> None:
    columns, frame, target = mixed()
    given = {"alpha": "0.01"} if name == "elasticnet" else {}
    trees = {"n_estimators": "40"} if "n_estimators" in ESTIMATORS[name].hyperparameters else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Objective did not converge")  # unscaled, as asked
        model = fitted(name, columns, frame, target, scaling=scaling, **given, **trees)
    assert model.score(frame, target) > 0.9
    assert evaluation.importance(model, frame, target, 0)["mean"].min() > 0.1  # each column has a part in it
    again = skops.io.loads(skops.io.dumps(model), trusted=pipeline.TRUSTED_TYPES)
    assert again.predict(frame).tobytes() == model.predict(frame).tobytes()


KINDS: dict[str, tuple[Any, Any]] = {
    "number": ("number", np.random.default_rng(1).normal(size=ROWS)),
    "a number missing in all rows but one": ("number", np.where(np.arange(ROWS) == 7, 5.0, np.nan)),
    "a number missing in one row": ("number", np.where(np.arange(ROWS) == 7, np.nan, np.arange(ROWS))),
    "a constant": ("number", np.ones(ROWS)),
    "large numbers": ("number", 1e37 * np.random.default_rng(2).random(ROWS)),
    "integers beyond 2^60": ("integer", 2.0**60 + np.arange(ROWS) * 2.0**12),
    "boolean": ("boolean", np.arange(ROWS) % 3 == 0),
    "true or missing": ("boolean", np.where(np.arange(ROWS) % 3, np.nan, 1.0)),
    "text": ("text", texts(list("abc") * (ROWS // 3))),
    "one text": ("text", texts(["a"] * ROWS)),
    "a text in one row": ("text", texts([*["a"] * (ROWS - 1), "b"])),
    "text missing in all rows but one": ("text", texts([*[np.nan] * (ROWS - 1), "b"])),
    "as many texts as rows": ("text", texts([f"v{row}" for row in range(ROWS)])),
    "dates": ("datetime", pd.date_range("2020-01-01", periods=ROWS, freq="11h").astype("datetime64[us]")),
    "one date": ("datetime", np.full(ROWS, "2020-01-01", dtype="datetime64[us]")),
    "a date missing in all rows but one": (
        "datetime",
        pd.Series(pd.date_range("2020-01-01", periods=ROWS)).astype("datetime64[us]").where(np.arange(ROWS) == 7),
    ),
    "dates from 1 to 9999": ("datetime", np.array(["0001-01-01", "9999-12-31"] * 30, dtype="datetime64[us]")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_column_is_too_odd(name: str, kind: str) -> None:
    frame = pd.DataFrame({"x [<$": KINDS[kind][1]})
    if frame["x [<$"].dtype == bool:
        frame = frame.astype(float)
    columns = [Column("x [<$", KINDS[kind][0], int(frame["x [<$"].isna().sum()))]
    target = np.random.default_rng(0).normal(size=ROWS)
    model = made(name, columns, frame)
    groups = np.arange(ROWS, dtype=np.uint64) // 10
    folds = evaluation.cross_validate(ESTIMATORS[name], model, frame, target, groups, 3, 0)
    assert np.isfinite(folds.residuals).all()
    pipeline.fit(ESTIMATORS[name], model, frame, target)
    assert evaluation.importance(model, frame, target, 0)["feature"].tolist() == ["x [<$"]
    for missing in (None, np.nan, pd.NaT if KINDS[kind][0] == "datetime" else None):
        one = pd.DataFrame({"x [<$": [missing]})
        assert np.isfinite(model.predict(one)).all()
        assert model.predict(one) == model.predict(one.astype(object))


def ways() -> dict[str, Any]:
    """The ways in which a table comes back, by what to do with the one of `mixed`."""
    names = ["weight [kg]", "$_$ %", "市 <1>", "lift", "built"]
    weight, integer, text, boolean, day = names
    as_true = {1.0: True, 0.0: False}
    iso = "%Y-%m-%dT%H:%M:%S"
    return {
        "None": lambda f: f.astype(object).where(f.notna(), None),
        "a CSV file": lambda f: f.assign(
            **{boolean: f[boolean].map(as_true), day: f[day].dt.strftime("%Y-%m-%d %H:%M:%S")}
        ),
        "JSON": lambda f: pd.DataFrame(
            f.assign(**{day: f[day].dt.strftime(iso)}).astype(object).where(f.notna(), None).to_dict("split")["data"],
            columns=names,
        ),
        "nullable types": lambda f: f.assign(**{boolean: f[boolean].map(as_true)}).convert_dtypes(),
        "types of arrow": lambda f: pa.Table.from_pandas(
            f.assign(**{boolean: f[boolean].map(as_true)}), preserve_index=False
        ).to_pandas(types_mapper=pd.ArrowDtype),
        "categories": lambda f: f.assign(
            **{
                text: f[text].astype("category"),
                integer: f[integer].astype("category"),
                boolean: f[boolean].astype("category"),
            }
        ),
        "nanoseconds": lambda f: f.assign(**{day: f[day].astype("datetime64[ns]")}),
        "a time zone": lambda f: f.assign(**{day: f[day].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")}),
        "dates as categories": lambda f: f.assign(**{day: f[day].dt.strftime(iso).astype("category")}),
        "dates as objects": lambda f: f.assign(**{day: f[day].astype(object)}),
        "numbers as text": lambda f: f.assign(**{weight: f[weight].map(repr).astype(object)}),
        "columns shuffled, and more of them": lambda f: f[names[::-1]].assign(more=1),
    }


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_very_table_is_scored_however_it_is_typed(name: str) -> None:
    columns, frame, target = mixed()
    model = fitted(name, columns, frame, target)
    expected = model.predict(frame)
    for way, change in ways().items():
        changed = change(frame)
        np.testing.assert_array_equal(model.predict(changed), expected, way)
        row = 3  # with a missing date
        assert model.predict(changed.iloc[[row]])[0] == pytest.approx(expected[row], rel=1e-9), way


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_training_has_not_seen_never_fails(name: str) -> None:
    columns, frame, target = mixed()
    whole = frame.dropna()
    columns = [replace(column, missing=0) for column in columns]
    model = fitted(name, columns, whole, target[whole.index])
    rows = whole.head(1)
    for column in frame:
        assert np.isfinite(model.predict(rows.assign(**{str(column): None}))).all(), column
    assert np.isfinite(model.predict(rows.assign(**{"市 <1>": "Atlantis", "built": "yesterday"}))).all()
    assert model.predict(rows.assign(built=date(2020, 5, 1)))[0] == model.predict(rows.assign(built="2020-05-01"))[0]
    # a text that looks like a number comes as one from a CSV file of a few rows
    coded = whole.assign(**{"市 <1>": texts(["7", "8"] * 200)[: len(whole)].to_numpy()})
    model = fitted(name, columns, coded, (coded["市 <1>"] == "7").to_numpy() * 9.0)
    assert model.predict(coded.head(1).assign(**{"市 <1>": 7})) == model.predict(
        coded.head(1).assign(**{"市 <1>": "7"})
    )


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_table_of_integers_alone_is_scored_in_every_type_of_integer(name: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 9, 80), "b": rng.integers(0, 2, 80)})
    columns = [Column("a", "integer", 0), Column("b", "boolean", 0)]
    model = fitted(name, columns, frame.astype(float), frame["a"].to_numpy() * 3.0)
    expected = model.predict(frame.astype(float))
    for kind in ("int64", "int8", "uint16", "float32", "Int64", "object", "int64[pyarrow]", "category"):
        np.testing.assert_array_equal(model.predict(frame.astype(kind)), expected, kind)
    np.testing.assert_array_equal(model.predict(frame.astype({"b": bool})), expected)
    np.testing.assert_array_equal(model.predict(frame.assign(a=0, b=False)), model.predict(frame.assign(a=0, b=0.0)))
    assert np.isfinite(model.predict(pd.DataFrame({"a": [pd.NA], "b": [True]}, dtype=object))).all()


MARKS: dict[str, list[Any]] = {
    "dollars": ["$1,234", "$5.50", "($7)", "$0"],
    "euros": ["5 EUR", "1 234,5 EUR", "-7 EUR", "0,25 EUR"],
    "per cent": ["12.5%", "3 %", "1e-05 %", "\N{MINUS SIGN}4%"],
    "gaps": ["3", "?", "8", "7.5"],
    "points": ["1.234,5", "-2.000,25", "1.234", "7"],
    "meters": ["12.5 meters", "1e-05 meters", "-3meters"],
    "weights": ["1.234,5 kg", "7 kg", "2.000kg"],
    "clock": ["10:30", "23:59", "00:00"],
    "seconds": ["9:30:00", "23:59:01", " 00:00:00.5"],
    "half": ["10:30 PM", "9:05 AM", "12:00 AM", "?"],
    "laps": ["1:23:45", "26:00:00.5", "100:00:00"],
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_numbers_with_marks_are_scored_as_their_file_has_them(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({kind: rng.choice(values, 120) for kind, values in MARKS.items()}).assign(x=np.arange(120.0))
    frame["y"] = rng.normal(size=120) + frame["x"]
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = load(tmp_path / "t.csv")
    assert {column.name for column in table.columns if column.spelling} == {*MARKS}
    few = TREES if "n_estimators" in ESTIMATORS[name].hyperparameters else {}
    asked = settings.read(settings.defaults() | {"estimator": name} | few)
    rows = table.training
    model = pipeline.make(asked, ESTIMATORS[name], table.columns, rows.features)
    pipeline.fit(ESTIMATORS[name], model, rows.features, rows.target)
    again = skops.io.loads(skops.io.dumps(model), trusted=pipeline.TRUSTED_TYPES)
    as_read = pd.read_csv(tmp_path / "t.csv").iloc[table.test.numbers]
    assert as_read["gaps"].dtype != float
    np.testing.assert_allclose(again.predict(as_read), model.predict(table.test.features), rtol=1e-9)
    importance = evaluation.importance(model, table.test.features, table.test.target, 0)
    assert {*importance["feature"]} == {*MARKS, "x"}
    bare = {"dollars": 1234.0, "gaps": 3, "points": -1234.5, "meters": 1e-05, "clock": 37800.0, "laps": 93_600.5}
    same = {
        "dollars": "$1,234.00",
        "gaps": "3",
        "points": "-1.234,5",
        "meters": "0.00001 meters",
        "clock": "10:30",
        "laps": "26:00:00.5",
    }
    one = as_read.head(1)
    expected = model.predict(one.assign(**same))
    for way in (lambda frame: frame, lambda frame: frame.astype(object), lambda frame: frame.convert_dtypes()):
        np.testing.assert_allclose(model.predict(way(one.assign(**bare))), expected, rtol=1e-9)
        np.testing.assert_allclose(model.predict(way(one.assign(**same))), expected, rtol=1e-9)
    for odd in ("unknown", None, np.nan, pd.NA, ""):
        assert np.isfinite(model.predict(one.assign(**dict.fromkeys(MARKS, odd)))).all()


@pytest.mark.parametrize("pattern", ["%d/%m/%Y", "%m/%d/%Y %H:%M", "%d.%m.%Y", "%d.%m.%y", "%m/%d/%y", "%d-%b-%y"])
def test_dates_are_scored_in_the_order_in_which_their_file_was_read(pattern: str, tmp_path: Path) -> None:
    days = pd.Series(pd.date_range("1969-01-01", periods=150, freq="11d"))
    frame = pd.DataFrame({"day": days.dt.strftime(pattern), "y": np.arange(150.0) + days.dt.month * 50})
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = load(tmp_path / "t.csv")
    rows = table.training
    np.testing.assert_array_equal(table.test.features["day"], days.iloc[table.test.numbers])
    model = pipeline.make(settings.read(settings.defaults()), ESTIMATORS["ridge"], table.columns, rows.features)
    pipeline.fit(ESTIMATORS["ridge"], model, rows.features, rows.target)
    again = skops.io.loads(skops.io.dumps(model), trusted=pipeline.TRUSTED_TYPES)
    expected = model.predict(table.test.features)
    for given in (frame["day"], days, days.astype(str), days.dt.date, frame["day"].astype("category")):
        as_read = given.iloc[table.test.numbers].to_frame("day")
        np.testing.assert_allclose(again.predict(as_read), expected, rtol=1e-9)


def test_numbers_are_passed_through_untouched_without_scaling() -> None:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    frame, target = pd.DataFrame(rng.normal(size=(50, 3)), columns=list("abc")), rng.normal(size=50)
    columns = [Column(name, "number", 0) for name in frame]
    model = fitted("ridge", columns, frame, target, alpha="0.03", scaling="none")
    assert (model.predict(frame) == Ridge(alpha=0.03).fit(frame, target).predict(frame)).all()


@pytest.mark.parametrize("name", ["random_forest", "hist_gradient_boosting", "xgboost"])
def test_trees_give_the_same_digits_every_time(name: str) -> None:
    columns, frame, target = mixed()
    model, again = (fitted(name, columns, frame, target, n_estimators="30") for _ in range(2))
    assert model.named_steps["estimator"].get_params().get("n_jobs") is None  # several threads add up in any order
    assert model.predict(frame).tobytes() == again.predict(frame).tobytes()


def test_xgboost_on_numbers_is_xgboost() -> None:
    from xgboost import XGBRegressor

    rng = np.random.default_rng(0)
    frame, target = pd.DataFrame(rng.normal(size=(80, 3)), columns=list("abc")), rng.normal(size=80)
    frame.loc[::7, "b"] = np.nan
    model = fitted("xgboost", [Column(name, "number", 0) for name in frame], frame, target)
    bare = XGBRegressor(n_estimators=5, random_state=0).fit(frame, target)
    assert (model.predict(frame) == bare.predict(frame)).all()


@pytest.mark.parametrize("name", ["ridge", "elasticnet", "random_forest"])
def test_a_gap_is_told_apart_where_enough_rows_have_one_and_enough_have_none(name: str) -> None:
    rows = 2 * pipeline.FEWEST_GAPS + 20
    values = np.random.default_rng(0).normal(size=(rows, 4))
    for place, missing in enumerate((0, 19, 20, rows - 19)):
        values[:missing, place] = np.nan
    frame = pd.DataFrame(values, columns=["none", "few", "enough", "nearly all"])
    target = np.where(np.arange(rows) < 20, 100.0, 0.0)
    columns = [Column(column, "number", int(frame[column].isna().sum())) for column in frame]
    model = fitted(name, columns, frame, target)
    _, parts, _ = pipeline.prepared(model, frame)
    assert [len(own) for own in parts] == [1, 1, 2, 1]
    assert np.isfinite(model.predict(frame.assign(none=np.nan))).all()


@pytest.mark.parametrize(("name", "known", "parts"), [("ridge", 99, 1), ("ridge", 100, 9), ("random_forest", 99, 6)])
def test_few_dates_have_no_parts_in_a_linear_model(name: str, known: int, parts: int) -> None:
    days = pd.Series(pd.date_range("2024-01-01", periods=120, freq="9D")).astype("datetime64[us]")
    frame = pd.DataFrame({"day": days.where(np.arange(120) < known)})
    model = fitted(name, [Column("day", "datetime", 120 - known)], frame, np.arange(120.0))
    assert [len(own) for own in pipeline.prepared(model, frame)[1]] == [parts]
    assert abs(model.predict(frame.head(60)) - np.arange(60)).max() < 30


@pytest.mark.parametrize(
    ("name", "values", "rows_each", "way"),
    [
        *(("ridge", 900, 2, "categories"), ("ridge", 1_100, 2, "means"), ("ridge", 1_100, 6, "categories")),
        *(("ridge", 2_600, 6, "means"), ("elasticnet", 1_100, 6, "means"), ("random_forest", 30, 9, "means")),
    ],
)
def test_how_many_texts_are_encoded_each_for_itself(name: str, values: int, rows_each: int, way: str) -> None:
    frame = pd.DataFrame({"who": texts(np.repeat(np.arange(values).astype(str), rows_each))})
    model = made(name, [Column("who", "text", 0)], frame)
    assert [kind for kind, _, _ in model.named_steps["columns"].transformers] == [way]


def countries(count: int, rows_each: int) -> tuple[pd.DataFrame, Any]:
    """A table whose target depends on a country and a year, most of all on the country."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(count), rows_each)
    year = np.tile(1950.0 + 5 * np.arange(rows_each), count)
    effect = rng.normal(size=count) * 400
    frame = pd.DataFrame({"country": texts([f"c{one:03d}" for one in code]), "year": year})
    return frame, effect[code] + (year - 1950) + rng.normal(size=len(code)) * 10


@pytest.mark.parametrize("name", ESTIMATORS)
def test_each_of_142_countries_keeps_its_own_meaning(name: str) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame, target = countries(142, 12)
    test = np.random.default_rng(1).random(len(target)) < 0.2
    columns = [Column("country", "text", 0), Column("year", "number", 0)]
    given = {"alpha": "0.0005"} if name == "elasticnet" else {}
    trees = {"n_estimators": "100"} if "n_estimators" in ESTIMATORS[name].hyperparameters else {}
    model = fitted(name, columns, frame[~test], target[~test], **given, **trees)
    plain = make_pipeline(
        make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["country"]), (StandardScaler(), ["year"])),
        Ridge(tol=1e-12),
    ).fit(frame[~test], target[~test])

    def rmse(model: Any) -> float:
        return float(np.sqrt(np.mean((target[test] - model.predict(frame[test])) ** 2)))

    assert rmse(plain) < 0.15 * target.std()
    assert rmse(model) < (1.001 if name == "ridge" else 1.6) * rmse(plain)


def test_ridge_beside_sparse_text_is_exact() -> None:
    from sklearn.linear_model import Ridge

    frame, target = countries(200, 5)
    columns = [Column("country", "text", 0), Column("year", "number", 0)]
    for alpha in ("0.001", "1", "1000"):
        model = fitted("ridge", columns, frame, target, alpha=alpha)
        matrix = model.named_steps["columns"].transform(frame)
        assert matrix.shape == (1000, 201)
        assert not isinstance(matrix, np.ndarray)  # sparse
        exact = Ridge(alpha=float(alpha)).fit(matrix.toarray(), target).predict(matrix.toarray())
        np.testing.assert_allclose(model.predict(frame), exact, rtol=0, atol=1e-6 * target.std())


@pytest.mark.parametrize("name", ESTIMATORS)
def test_many_values_cost_no_memory(name: str) -> None:
    rows = 20_000
    frame = pd.DataFrame({"name": texts([f"name {row % 15_000}" for row in range(rows)])})
    target = np.arange(rows) % 7.0
    tracemalloc.start()
    model = fitted(name, [Column("name", "text", 0)], frame, target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.named_steps["columns"].transform(frame.head(9)).shape == (9, 1)
    assert peak < 2_000 * rows  # one-hot in a dense matrix: 120,000 bytes a row


def test_a_mean_target_does_not_leak_into_the_rows_it_comes_from() -> None:
    # the target is noise: a model that has seen its own rows' means would seem to know it
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"name": texts([f"n{one}" for one in rng.integers(0, 1500, 3000)])})
    target = rng.normal(size=3000)
    model = made("ridge", [Column("name", "text", 0)], frame)
    ridge = ESTIMATORS["ridge"]
    measured = evaluation.cross_validate(ridge, model, frame, target, None, 5, 0).metrics
    assert 0.97 < measured["cv_rmse_mean"] / target.std() < 1.03
    assert abs(pipeline.fit(ridge, model, frame, target).named_steps["estimator"].coef_[0]) < 0.1


def test_a_mean_target_comes_from_other_groups() -> None:
    # a patient's rows have one street and one target; of a new patient the street is unknown, and the dose helps
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(1200, dtype=np.uint64), 2)
    dose = rng.normal(size=2400)
    target = rng.normal(size=1200)[patient] + dose
    frame = pd.DataFrame({"street": texts([f"s{one}" for one in patient]), "dose": dose})
    columns = [Column("street", "text", 0), Column("dose", "number", 0)]
    ridge = ESTIMATORS["ridge"]
    by_row, by_group = (
        pipeline.fit(ridge, made("ridge", columns, frame), frame, target, groups).named_steps["estimator"].coef_[0]
        for groups in (None, patient)
    )
    assert abs(by_group) < 0.05 < 0.3 < by_row
    encoder = made("ridge", columns, frame).named_steps["columns"].get_params()["means__encoder"]
    assert encoder.cv == pipeline.CROSS_FITTING


def test_dates_are_read_as_the_seasons_they_are() -> None:
    rng = np.random.default_rng(0)
    days = pd.Series(pd.date_range("2018-01-01", periods=900)).astype("datetime64[us]")
    target = 10 * np.sin(2 * np.pi * days.dt.dayofyear / 365.25) + 3 * (days.dt.weekday >= 5) + rng.normal(size=900)
    test = rng.random(900) < 0.3
    frame, columns = pd.DataFrame({"day": days}), [Column("day", "datetime", 0)]
    for name, enough in {"ridge": 2.5, "hist_gradient_boosting": 2.0}.items():
        model = fitted(
            name,
            columns,
            frame[~test],
            target[~test].to_numpy(),
            **({} if name == "ridge" else {"n_estimators": "100"}),
        )
        assert np.std(target[test] - model.predict(frame[test])) < enough, name


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_name_of_each_row_is_not_learned_by_heart(name: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"name": texts([f"n{row}" for row in range(120)]), "x": rng.normal(size=120)})
    target = 10 * frame["x"].to_numpy() + rng.normal(size=120)
    columns = [Column("name", "text", 0), Column("x", "number", 0)]
    given = {"n_estimators": "50"} if "n_estimators" in ESTIMATORS[name].hyperparameters else {}

    def rmse(own: list[Column]) -> float:
        features = frame[[column.name for column in own]]
        model = fitted(name, own, features.head(90), target[:90], **given)
        return float(np.sqrt(np.mean((target[90:] - model.predict(features.tail(30))) ** 2)))

    assert rmse(columns) < 1.3 * rmse(columns[1:])
