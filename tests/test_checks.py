"""Each check finds the fault in a table that has it, and nothing in one that nearly has it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from trainer import checks, evaluation, search, settings
from trainer.errors import Remark
from trainer.table import Column, Kind, Rows, Table, load

ROWS = 240
Frame = pd.DataFrame
Change = Callable[[Frame], Frame]


def base(rows: int = ROWS) -> Frame:
    """A table with which nothing is wrong."""
    rng = np.random.default_rng(11)
    frame = pd.DataFrame(
        {
            "size": rng.normal(50, 10, rows),
            "rooms": rng.integers(1, 9, rows).astype(float),
            "city": rng.choice(np.array(["Rome", "Oslo", "Lima"], dtype=object), rows),
        }
    )
    frame["y"] = frame["size"] * 2 + frame["rooms"] * 8 + rng.normal(0, 10, rows)
    return frame


def table_of(frame: Frame, in_test: npt.NDArray[np.bool_] | None = None, remarks: tuple[Remark, ...] = ()) -> Table:
    """Return a table as it is read, with every fifth row as a test row; a column named `key` is the key."""
    test = np.arange(len(frame)) % 5 == 4 if in_test is None else in_test
    features = frame.drop(columns=["y", "key"], errors="ignore")
    columns = []
    for name, values in features.items():
        kind: Kind = "text" if values.dtype == object else "datetime" if values.dtype.kind == "M" else "number"
        present = values.dropna()
        if kind == "number" and (present == np.floor(present)).all():
            kind = "integer"
        columns.append(Column(str(name), kind, int(values.isna().sum())))
    groups = pd.util.hash_array(frame["key"].to_numpy()) if "key" in frame else None

    def side(rows: npt.NDArray[np.bool_]) -> Rows:
        own = None if groups is None else groups[rows]
        return Rows(features[rows].reset_index(drop=True), frame["y"].to_numpy(dtype=np.float64)[rows], own)

    source: Any = None
    return Table(source, len(frame), tuple(columns), side(~test), side(test), 0, remarks)


def examined(
    frame: Frame,
    in_test: npt.NDArray[np.bool_] | None = None,
    error: float = 10.0,
    predicted: npt.NDArray[np.float64] | None = None,
    metrics: dict[str, float] | None = None,
    remarks: tuple[Remark, ...] = (),
    **given: str,
) -> dict[str, str]:
    """Return what the checks say of a model whose errors are that large."""
    asked = settings.read(settings.defaults() | {"target": "y"} | given)
    table = table_of(frame, in_test, remarks)
    actual = table.test.target
    if predicted is None:
        predicted = actual + np.random.default_rng(3).normal(0, error, len(actual))
    measured = evaluation.metrics(actual, predicted, float(table.training.target.mean()))
    measured |= {"rows_train": len(table.training.target), "rows_test": len(actual)}
    half = measured["rmse"] * 0.2
    measured |= {"rmse_low": measured["rmse"] - half, "rmse_high": measured["rmse"] + half}
    measured |= {"cv_rmse_mean": measured["rmse"], "cv_rmse_std": measured["rmse"] * 0.08}
    found = checks.examine(asked, table, measured | (metrics or {}), predicted)
    assert len({remark.code for remark in found}) == len(found)
    return {remark.code: remark.text for remark in found}


def with_column(name: str, values: Any) -> Change:
    """Add a column: its values, or what makes them of the table."""
    return lambda frame: frame.assign(**{name: values(frame) if callable(values) else values})


def texts(values: Any) -> npt.NDArray[np.object_]:
    return np.array([str(value) for value in values], dtype=object)


def noise(size: float) -> npt.NDArray[np.float64]:
    return np.random.default_rng(5).normal(0, size, ROWS)


def integers(low: int, high: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(5).integers(low, high, ROWS)


def shuffled() -> npt.NDArray[np.int64]:
    return np.random.default_rng(5).permutation(ROWS)


def replaced(values: Any, at: Any, other: Any) -> npt.NDArray[np.object_]:
    changed = np.array(values, dtype=object)
    changed[at] = other
    return changed


def patients(size: float) -> Change:
    """Give each patient four rows, and an effect on the target."""

    def change(frame: Frame) -> Frame:
        who = np.arange(len(frame)) // 4
        effect = np.random.default_rng(5).normal(0, size, who.max() + 1)[who]
        return frame.assign(patient=texts(f"P{one:03d}" for one in who), y=frame["y"] + effect)

    return change


NUMBER = np.arange(ROWS)
SEXES = np.array(["male", "female"], dtype=object)[NUMBER % 2]

# By what is wrong: the check's code, a table that has the fault, and one that has nearly the fault.
COLUMNS: dict[str, tuple[str, Change, Change]] = {
    "leak": (
        "leak",
        with_column("grade", lambda f: f["y"] ** 3 / 1e6 + noise(0.1)),
        with_column("grade", lambda f: f["y"] + noise(12)),
    ),
    "leak of a text": (
        "leak",
        lambda f: f.assign(band=texts(f["rooms"] * 10), y=f["rooms"] * 30 + f["size"] / 10),
        lambda f: f.assign(band=texts(f["rooms"] * 10), y=f["rooms"] * 30 + f["size"] * 1.2),
    ),
    "copy of the target": (
        "copy",
        with_column("dollars", lambda f: f["y"] * 1.1 - 3),
        with_column("dollars", lambda f: f["y"] * 1.1 + noise(0.001)),
    ),
    "copy of a feature": (
        "copy",
        with_column("size again", lambda f: f["size"]),
        with_column("size again", lambda f: f["size"].where(f["size"] < f["size"].max(), 0.0)),
    ),
    "copy of a text": (
        "copy",
        with_column("town", lambda f: f["city"]),
        with_column("town", lambda f: f["city"].where(f.index != 9, "Bonn")),
    ),
    "constant": (
        "constant",
        with_column("unit", 7.0),
        with_column("unit", np.where(NUMBER == 4, 8.0, 7.0)),
    ),
    "constant text": (
        "constant",
        with_column("unit", "kg"),
        with_column("unit", replaced(["kg"] * ROWS, 4, np.nan)),
    ),
    "row number": (
        "row_number",
        with_column("record", shuffled() + 1000.0),
        with_column("record", shuffled() * 7.0),
    ),
    "years are no row numbers": (
        "row_number",
        with_column("record", NUMBER + 3000.0),
        with_column("record", NUMBER + 1780.0),
    ),
    "a trend is no row number": (
        "row_number",
        with_column("case", NUMBER + 1.0),
        with_column("trend", NUMBER + 1.0),
    ),
    "sentinel": (
        "sentinel",
        with_column("age", np.where(NUMBER % 17 == 0, -999.0, integers(20, 90))),
        with_column("age", np.where(NUMBER % 17 == 0, 20.0, integers(20, 90))),
    ),
    "sentinel that is rare": (
        "sentinel",
        with_column("months", np.where(NUMBER % 17 == 0, 100000.0, integers(0, 99))),
        with_column("months", np.where(NUMBER % 3 == 0, 100000.0, integers(0, 99))),
    ),
    "sentinel of nines": (
        "sentinel",
        with_column("code", np.where(NUMBER % 9 == 0, 9999.0, integers(0, 5000))),
        with_column("code", np.where(NUMBER == 5, 9999.0, integers(0, 5000))),
    ),
    "numbers as text": (
        "text_numbers",
        with_column("hp", replaced(texts(integers(50, 300)), 7, "?")),
        with_column("hp", texts(f"A{n}" for n in integers(50, 99))),
    ),
    "postcodes are no numbers": (
        "text_numbers",
        with_column("zip", texts(integers(10000, 10050))),
        with_column("zip", texts(f"{n:05d}" for n in integers(1000, 1050))),
    ),
    "decimal commas": (
        "decimal_comma",
        with_column("bmi", texts(f"{n:.3f}".replace(".", ",") for n in noise(1))),
        with_column("bmi", texts(f"{n},000" for n in integers(1, 40))),
    ),
    "case": (
        "case_text",
        with_column("sex", replaced(SEXES, [2, 20, 40], "Male ")),
        with_column("sex", replaced(SEXES, [2, 20, 40], "other")),
    ),
    "distinct text": (
        "distinct_text",
        with_column("note", texts(f"seen by {n}" for n in NUMBER)),
        with_column("note", texts(f"seen by {n // 2}" for n in NUMBER)),
    ),
    "groups": ("groups", patients(30), patients(0)),
    "an id that is a number": (
        "groups",
        lambda f: patients(30)(f).assign(patient=NUMBER // 4 + 0.0),
        lambda f: patients(30)(f).assign(dose=NUMBER // 4 + 0.0).drop(columns="patient"),
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_check_of_columns_finds_its_fault_and_no_other_table(name: str) -> None:
    code, faulty, sound = COLUMNS[name]
    found = examined(faulty(base()), error=6.0)
    assert code in found, found
    assert code not in examined(sound(base()), error=6.0)


def test_a_sound_table_has_no_remarks() -> None:
    assert examined(base()) == {}


def test_a_leak_is_none_where_the_model_knows_much_more() -> None:
    frame = base().assign(leaking=lambda f: f["y"] + np.random.default_rng(0).normal(0, 4, ROWS))
    assert "leak" in examined(frame, error=5.0)
    assert "leak" not in examined(frame, error=0.2)


def test_what_passes_by_itself_gives_nothing_away() -> None:
    rising = base().assign(y=NUMBER * 3 + noise(3))
    assert "leak" in examined(rising.assign(level=NUMBER + 0.5), error=9.0)
    assert "leak" not in examined(rising.assign(year=NUMBER + 0.5), error=9.0)


def test_a_table_sorted_by_its_target_leaks_nothing() -> None:
    assert "leak" not in examined(base().sort_values("y", ignore_index=True).assign(half=1.0), error=5.0)


def test_the_remedies_name_the_columns_as_the_parameters_take_them() -> None:
    frame = base().assign(**{'a, "b"': np.arange(ROWS) + 5000.0})
    text = examined(frame)["row_number"]
    spelled = text.rpartition("drop=")[2]
    assert settings.read(settings.defaults() | {"drop": spelled}).drop == ('a, "b"',)
    assert "give key=patient" in examined(patients(30)(base()))["groups"]


def test_what_the_reader_said_comes_first_and_is_not_said_twice() -> None:
    frame = COLUMNS["numbers as text"][1](base())
    remark = Remark("text_numbers", "hp is text: row 8 says '?'")
    assert examined(frame, remarks=(remark,)) == {remark.code: remark.text}


def test_a_key_settles_which_rows_belong_together() -> None:
    frame = patients(30)(base()).assign(key=np.arange(ROWS) // 2)
    assert "groups" not in examined(frame, key="key")


@pytest.mark.parametrize(("n_test", "found"), [(24, True), (38, False), (48, False), (58, False), (100, True)])
def test_the_share_of_test_rows(n_test: int, found: bool) -> None:
    in_test = np.arange(1_920) % 240 < n_test
    assert ("test_share" in examined(base(1_920), in_test)) == found


def test_a_small_table_may_be_off_by_chance() -> None:
    assert "test_share" not in examined(base(20), np.arange(20) < 7)


def test_few_distinct_rows_of_features() -> None:
    frame = base().assign(size=0.0, rooms=1.0, city=texts(np.array(["a", "b", "c"])[np.arange(ROWS) % 3]))
    in_test = (frame["city"] == "c").to_numpy()
    text = examined(frame, in_test)["few_distinct"]
    assert "80 test rows have 1 different set of features" in text
    assert "split=random" in text
    assert "few_distinct" not in examined(frame, in_test, split="random")
    assert "few_distinct" not in examined(frame.assign(key=frame.index), in_test, key="key")
    assert "few_distinct" not in examined(base(), in_test)


def test_few_test_rows_and_few_groups() -> None:
    assert "few_test_rows" in examined(base(140))
    assert "few_test_rows" not in examined(base(150))
    many_rows_few_keys = base(600).assign(key=np.arange(600) // 10)
    assert "12 keys" in examined(many_rows_few_keys, (np.arange(600) // 10) % 5 == 4, key="key")["few_test_rows"]


@pytest.mark.parametrize(
    ("folds", "spread", "found"), [(0.29, 0.01, True), (40.0, 2.0, True), (40.0, 12.0, False), (11.0, 0.1, False)]
)
def test_rmse_and_cross_validation_disagree(folds: float, spread: float, found: bool) -> None:
    metrics = {"cv_rmse_mean": folds, "cv_rmse_std": spread}
    assert ("disagree" in examined(base(), metrics=metrics)) == found


def test_test_rows_that_are_not_like_the_training_rows() -> None:
    frame = base(600)
    older = frame["size"].to_numpy() > np.quantile(frame["size"], 0.8)
    assert "'size'" in examined(frame, older)["drift"]
    assert "drift" not in examined(frame)
    outside = np.abs(frame["size"].to_numpy() - 50) > 13
    assert "'size'" in examined(frame, outside)["drift"]
    shipped = settings.read(settings.defaults())
    assert checks.examine(shipped, load(shipped), _measured(), np.arange(92.0)) == ()


def _measured() -> dict[str, float]:
    return {"rmse": 48.0, "r2": 0.58, "baseline_rmse": 75.9, "rows_train": 350, "rows_test": 92, "cv_rmse_mean": 56.7}


def test_the_time_that_the_split_goes_by_is_no_drift() -> None:
    frame = base(600).assign(day=pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(600), unit="D"))
    newest = np.arange(600) >= 480
    assert "'day'" in examined(frame, newest)["drift"]
    assert "drift" not in examined(frame, newest, split="time", time="day")


@pytest.mark.parametrize(("estimator", "hint"), [("elasticnet", "alpha"), ("hist_gradient_boosting", "40")])
def test_one_value_for_all_rows(estimator: str, hint: str) -> None:
    text = examined(base(), predicted=np.full(48, 130.0), estimator=estimator)["one_value"]
    assert "130.0000" in text
    assert hint in text
    assert "one_value" not in examined(base(), predicted=np.linspace(130, 131, 48))
    same = base().assign(size=1.0, rooms=2.0, city="Rome")
    assert "one_value" not in examined(same, predicted=np.full(48, 130.0), estimator=estimator)


def test_no_better_than_the_mean() -> None:
    assert "mean predictor" in examined(base(), error=60.0)["no_better_than_mean"]
    assert "no_better_than_mean" not in examined(base(), error=10.0)
    assert checks.is_worthless({"rmse": 2.0, "baseline_rmse": 2.0})
    assert checks.is_worthless({"rmse": 2.0 * (1 - 1e-15), "baseline_rmse": 2.0})
    assert checks.is_worthless({"rmse": 3.0, "baseline_rmse": 2.0})
    assert checks.is_worthless({"rmse": 1.99, "baseline_rmse": 2.0}) == ""


def test_a_linear_model_that_trees_beat() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(0, 1, 400), "b": rng.normal(0, 1, 400)})
    bent = frame.assign(y=np.sign(frame["a"]) * np.sign(frame["b"]) * 10 + rng.normal(0, 1, 400))
    assert "hist_gradient_boosting" in examined(bent, metrics={"cv_rmse_mean": 10.0})["worse_than_trees"]
    assert "worse_than_trees" not in examined(bent, metrics={"cv_rmse_mean": 10.0}, estimator="random_forest")
    straight = frame.assign(y=frame["a"] * 10 + rng.normal(0, 1, 400))
    assert "worse_than_trees" not in examined(straight, metrics={"cv_rmse_mean": 1.0})


def test_rows_of_a_key_are_not_in_both_halves_of_the_forest() -> None:
    rng = np.random.default_rng(0)
    who = np.arange(400) // 8
    frame = pd.DataFrame({"who": rng.permutation(50)[who] + 0.0, "key": who, "y": rng.normal(0, 10, 50)[who]})
    alone = examined(frame.drop(columns="key"), metrics={"cv_rmse_mean": 10.0})
    assert "worse_than_trees" in alone
    assert "worse_than_trees" not in examined(frame, key="key", metrics={"cv_rmse_mean": 10.0})


def test_gaps_dates_infinities_and_single_rows_are_no_faults() -> None:
    frame = base().assign(when=pd.Timestamp("2024-01-01"), none=np.nan, huge=1e300)
    frame.loc[frame.index % 3 == 0, ["size", "when", "huge"]] = np.nan
    frame.loc[frame.index % 4 == 0, "city"] = np.nan
    frame.loc[5, "huge"] = np.inf
    examined(frame)
    examined(frame.iloc[:4], np.array([False, False, True, True]), predicted=np.array([1.0, 2.0]))
    examined(frame[["city", "y"]])


def test_a_large_or_wide_table_is_sampled() -> None:
    asked = settings.read(settings.defaults() | {"target": "y"})
    wide = pd.DataFrame(np.random.default_rng(0).normal(0, 1, (60, 3_000))).rename(columns=str)
    examined(wide.assign(y=wide["0"]))
    long = table_of(base(60_000))
    chosen = checks.gather(asked, long, {}, long.test.target)
    assert len(chosen.target) == 2_000
    assert len({*map(float, chosen.numbers[:, 0])}) == 2_000


def _search(space: dict[str, Any]) -> search.Search:
    return search.Search(space, "grid", 0, 20, {})


def _stats() -> Iterator[tuple[Any, str, str]]:
    from scipy import stats

    yield stats.loguniform(1e-4, 1e4), "0.000101", "smaller"
    yield stats.loguniform(1e-4, 1e4), "9500", "larger"
    yield stats.loguniform(1e-4, 1e4), "1.5", ""
    yield stats.uniform(0, 1), "0.99", "larger"
    yield [0.1, 1, 10], "0.1", "smaller"
    yield [10, 1, 0.1], "10", "larger"
    yield [0.1, 1, 10], "1", ""
    yield [0.1, 10], "10", ""
    yield ["a", "b", "c"], "a", ""


def test_the_best_of_a_search_on_its_edge() -> None:
    for values, best, expected in _stats():
        found = checks.search_edge(_search({"alpha": values}), {"alpha": best})
        assert [remark.code for remark in found] == (["search_edge"] if expected else []), (values, best)
        assert not expected or f"try {expected} ones" in found[0].text
    assert checks.search_edge(_search({"l1_ratio": [0, 0.5, 1]}), {"l1_ratio": "1"}) == ()
    assert checks.search_edge(_search({"alpha": [0.1, 1, 10]}), {}) == ()


def test_every_check_says_what_the_readme_needs() -> None:
    assert len({check.code for check in checks.CHECKS}) == len(checks.CHECKS)
    for check in (*checks.CHECKS, checks.SEARCH_EDGE):
        assert all((check.detected, check.why, check.remedy)), check.code
        assert "|" not in check.detected + check.why + check.remedy


def test_sentences_stay_on_one_line_whatever_a_column_is_called() -> None:
    name = "a\nb\x1b[31m<script>" + "x" * 500
    frame = base().assign(**{name: 1.0, name + "2": np.arange(ROWS) + 7000.0})
    for text in examined(frame).values():
        assert text.isprintable()
        assert len(text) < 1_200
