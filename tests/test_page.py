"""report.html: whole, without anything from elsewhere, and with every name and value shown as what it is."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests import tables
from trainer import comparison, diagnostics, learning_curve, report, training
from trainer.card import Standing
from trainer.errors import Remark
from trainer.lineage import Git, Lineage
from trainer.markup import Markup, element
from trainer.table import Column, Rows
from trainer.training import Outcome

SCRIPT, LONG, TARGET = "<script>alert('x')</script>", "x" * 120, "費用 (千円)"
LINEAGE = Lineage("0" * 32, "table & <b>.csv", "f" * 64, 4711, Git("abc", "true"), {"python": "3.11"})
VOID = {"meta", "br"}


class Read(HTMLParser):
    """What a browser would read: elements that are closed, their attributes, the text, and the text of the headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str]] = {}
        self.said, self.headings = "", [""]
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value or "")
        if tag not in VOID:
            self.open.append(tag)
        if tag == "h2":
            self.headings.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and self.open[-2:-1] != ["text"]:
            self.said += data
        if "h2" in self.open:
            self.headings[-1] += data


def table(rows: int = 700) -> pd.DataFrame:
    """Return a table with all that a report has to show, and with names and values that it could stumble over."""
    rng = np.random.default_rng(1)
    cities = np.array(["Rome", "東京都", "القاهرة", SCRIPT, "a long name of a city " * 4], dtype=object)
    frame = pd.DataFrame(
        {
            "patient": [f"p{number % 350} <b>" for number in range(rows)],
            "入院日": pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 700, rows), "D"),
            "city\u202e": rng.choice(cities, rows),
            SCRIPT: rng.normal(0, 1, rows),
            LONG: rng.gamma(2, 3, rows),
            "visits": rng.integers(0, 7, rows),
        }
    )
    frame.loc[rng.random(rows) < 0.1, ["visits", "city\u202e"]] = np.nan
    noise = rng.normal(0, 1, rows)
    return frame.assign(**{TARGET: 20 + 3 * frame["visits"].fillna(4) + frame[LONG] + noise})


def written(
    folder: Path, frame: pd.DataFrame, target: str, standing: Standing, against: float = 0.0, **given: object
) -> tuple[str, Outcome]:
    """Train on a table, and return the report, with a champion that is so far off, and the outcome."""
    frame.to_parquet(folder / "table.parquet")
    asked = tables.read_settings(folder / "table.parquet", target, **given)
    read = tables.load(folder / "table.parquet", target, **given)
    outcome = training.learn(asked, read)
    compared = None
    if against:
        by_champion = outcome.predicted + np.random.default_rng(0).normal(0, against, len(outcome.predicted))
        gain = comparison.measure(read.test.target, by_champion, outcome.predicted, read.test.groups, 0)
        compared = comparison.Comparison(comparison.judge("2", "1", gain), "1", by_champion)
        standing = replace(standing, verdict=compared.verdict.sentence)
    curve = report.curves(outcome.model, read.test).get(report.BY_ROUND, ())
    remarks = (Remark("leak", f"{SCRIPT} alone predicts"),) if against else ()
    learning = learning_curve.measure(asked, read, outcome.folds)
    report.conclude(folder, asked, read, outcome, LINEAGE, remarks, standing, curve, compared, learning=learning)
    return (folder / report.PAGE).read_text(encoding="utf-8"), outcome


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Outcome]:
    """Return the report of a table that has everything."""
    standing = Standing("0" * 32, "m<i>", "2", promoted=True)
    given = {"key": "patient", "estimator": "hist_gradient_boosting", "n_estimators": 10, "cv": 2}
    return written(tmp_path_factory.mktemp("full"), table(), TARGET, standing, 12.0, **given)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the report of a table that has next to nothing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": rng.normal(0, 1, 24), "y": rng.normal(0, 1, 24), "name": [f"n{one}" for one in range(24)]}
    )
    return written(tmp_path_factory.mktemp("small"), frame, "y", Standing("0" * 32), cv=0)[0]


def test_a_report_shows_what_more_rows_bring_or_why_it_does_not(full: tuple[str, Outcome], small: str) -> None:
    assert re.search(r"From \d+ to \d+ training rows, the rmse falls by", Read(full[0]).said)
    assert "There is no curve of the rmse by training rows: there were no folds." in Read(small).said


def test_a_report_is_one_file_that_asks_for_nothing(full: tuple[str, Outcome], small: str) -> None:
    for text in (full[0], small):
        assert len(text.encode()) < 200_000
        read = Read(text)
        assert not read.tags & {
            "script",
            "link",
            "img",
            "iframe",
            "object",
            "embed",
            "base",
            "form",
            "a",
            "use",
            "image",
        }
        assert not read.attributes.keys() & {
            "href",
            "src",
            "srcset",
            "style",
            "action",
            "background",
            "data",
            "xlink:href",
        }
        assert not any(name.startswith("on") for name in read.attributes)
        assert "default-src 'none'; style-src 'unsafe-inline'" in read.attributes["content"]
        for outside in ("url(", "@import", "http:", "https:", "//"):
            assert outside not in text.replace("models:/", "").replace("runs:/", ""), outside


def test_names_and_values_are_shown_as_what_they_are(full: tuple[str, Outcome]) -> None:
    read = Read(full[0])
    for shown in (SCRIPT, TARGET, "東京都", "القاهرة", "table & <b>.csv", "m<i>", f"{SCRIPT} alone predicts"):
        assert shown in read.said, shown
    assert LONG not in read.said
    assert LONG in read.attributes["title"]
    assert LONG[:40] in read.said
    assert "\u202e" not in full[0]
    assert full[0].count("<script") == 0
    assert len(re.findall(r"p\d+ <b>", read.said)) == 20


def test_what_a_table_has_is_in_its_report_and_nothing_else(full: tuple[str, Outcome], small: str) -> None:
    always = ["How good it is", "What matters", "The worst rows", "The data", "Use it", "Where it comes from"]
    found, of_small = Read(full[0]), Read(small)
    assert set(found.headings) == {
        "", *always, "Champion and challenger", "Remarks", "Where the errors are", "Calibration of the intervals"
    }  # fmt: skip
    assert set(of_small.headings) == {"", *always}
    metrics = full[1].metrics
    for told in (
        f"{metrics['rmse']:.4f}", f"{metrics['cv_rmse_mean']:.4f}", "version 2 is better than version 1", "rounds",
        "absolute error of the champion", f"rmse by {TARGET}, in tenths of the rows", "rmse by visits", "(missing)",
        "rmse saved (95 % interval)", "cross-validation", "training rows", "holds ", "share of test rows within it",
        "uv run python predict.py --model models:/m<i>/2", "f" * 64, "0" * 32, "abc, with changes",
    ):  # fmt: skip
        assert told in found.said, told
    assert "rounds" not in of_small.said
    assert "cross-validation" not in of_small.said
    assert f"python predict.py --model runs:/{'0' * 32}/models" in of_small.said


def test_no_feature_of_a_row_is_told_unless_it_is_asked_for(small: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"private-{number}" for number in range(60)]
    frame = pd.DataFrame({"pay": 1e5 + rng.normal(0, 1, 60).round(7), "who": names, "y": rng.normal(0, 1, 60)})
    frame.loc[0, "pay"] = 987654.0
    text, _ = written(tmp_path, frame, "y", Standing("0" * 32))
    assert "private-" not in text
    assert "987654" not in text
    assert not any(
        diagnostics.short(pay) in text and pay % 1 for pay in frame["pay"] if len(diagnostics.short(pay)) > 6
    )
    asked, _ = written(tmp_path, frame, "y", Standing("0" * 32), show="who")
    assert (
        asked.count("private-")
        == asked.count("<bdi>private-")
        == len(re.findall(r"<tr><td><span class=.number.>", asked))
        > 5
    )
    rows, every = Rows(frame[["pay", "who"]], np.zeros(60), None), tables.read_settings("t.csv", show="all")
    assert list(report.worst(every, rows, np.ones(60))) == ["actual", "predicted", "error", "pay", "who"]


def test_what_is_to_be_shown_must_be_a_feature(tmp_path: Path) -> None:
    from trainer.errors import UserError

    path = tables.csv(tmp_path / "t.csv", {"a": range(20), "y": range(20)})
    with pytest.raises(UserError, match="the show 'b' is not a column"):
        tables.load(path, show="b")
    with pytest.raises(UserError, match="show names 'y', which is no feature"):
        tables.load(path, show="y")


# -- what is looked at ------------------------------------------------------------------------------


def test_an_element_escapes_what_is_no_element() -> None:
    nested = element("p", "a < b & ", element("b", '"c"'), class_="x\"'>", text_anchor="end", title=None)
    assert nested == '<p class="x&quot;&#x27;&gt;" text-anchor="end">a &lt; b &amp; <b>&quot;c&quot;</b></p>'
    assert element("p", "a\x00\u202eb\ud800") == "<p>a b?</p>"
    assert element("p", Markup("<br>")) == "<p><br></p>"


def test_errors_by_decile_are_those_of_its_rows() -> None:
    actual = np.repeat(np.arange(20.0), 5)
    predicted = actual + np.where(actual >= 18, 3.0, 1.0)
    found = diagnostics.by_decile(actual, predicted)
    assert [(one.label, one.rows, one.rmse, one.bias) for one in found[-2:]] == [
        ("16 to 17", 10, 1.0, 1.0),
        ("18 to 19", 10, 3.0, 3.0),
    ]
    assert sum(one.rows for one in found) == 100
    assert diagnostics.by_decile(np.zeros(50), np.ones(50)) == []
    assert diagnostics.by_decile(np.arange(9.0), np.ones(9)) == []


def test_a_boolean_is_true_or_false() -> None:
    features = pd.DataFrame({"smoker": [1.0, 0.0] * 12})
    found = diagnostics.by_category(features, ["smoker"], np.zeros(24), np.ones(24), {"smoker"})
    assert {one.label for one in found["smoker"]} == {"true", "false"}


def test_errors_by_category_pool_what_few_rows_have() -> None:
    values = ["a"] * 20 + ["b"] * 10 + ["c"] * 4 + ["d"] * 4 + [None] * 6
    features = pd.DataFrame({"text": pd.Series(values, dtype=object), "many": np.arange(44.0), "two": [0.0, 1.0] * 22})
    predicted = np.array([1.0] * 20 + [2.0] * 24)
    found = diagnostics.by_category(features, ["many", "two", "text"], np.zeros(44), predicted)
    assert list(found) == ["two", "text"]
    assert [(one.label, one.rows, one.rmse) for one in found["text"]] == [
        ("a", 20, 1.0), ("b", 10, 2.0), ("(missing)", 6, 2.0), ("(all others)", 8, 2.0)
    ]  # fmt: skip
    assert [one.label for one in found["two"]] == ["0", "1"]


def test_a_share_has_the_interval_of_wilson() -> None:
    for within, rows in ((0, 9), (45, 50), (50, 50)):
        found = diagnostics._coverage("x", within, rows)
        expected = stats.binomtest(within, rows).proportion_ci(method="wilson")
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_intervals_of_a_model_that_knows_its_errors_hold_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    found = diagnostics.by_level(rng.normal(0, 1, 5000), rng.normal(0, 1, 5000))
    assert [one.label for one in found] == ["10%", "20%", "30%", "40%", "50%", "60%", "70%", "80%", "90%", "95%"]
    for one in found:
        assert one.share == pytest.approx(float(one.label.rstrip("%")) / 100, abs=0.03)
    assert diagnostics.by_level(rng.normal(0, 1, 8), rng.normal(0, 1, 8)) == []


def test_a_summary_of_each_kind_of_column() -> None:
    days = pd.Series(pd.date_range("2024-01-01", periods=40, freq="D").astype("datetime64[us]"))
    features = pd.DataFrame(
        {
            "number": np.arange(40.0),
            "flag": [1.0] * 30 + [0.0] * 6 + [np.nan] * 4,
            "text": pd.Series(["a"] * 20 + ["b"] * 10 + ["rare"] * 2 + [None] * 8, dtype=object),
            "day": days,
            "empty": np.full(40, np.nan),
            "one": np.ones(40),
        }
    )
    kinds = {
        "number": "number",
        "flag": "boolean",
        "text": "text",
        "day": "datetime",
        "empty": "number",
        "one": "integer",
    }
    columns: Any = tuple(Column(name, kind, 0) for name, kind in kinds.items())  # type: ignore[arg-type]
    target, *found = diagnostics.summaries("y", columns, Rows(features, np.zeros(40), None))
    assert (target.name, target.kind) == ("y", "target")
    by_name = {one.name: one for one in found}
    assert by_name["number"].facts == "90 % from 1.95 to 37.05, median 19.5"
    assert by_name["number"].shares.sum() == pytest.approx(1)
    assert by_name["number"].frequent == []
    assert by_name["flag"].frequent == [("true", 0.75), ("false", 0.15)]
    assert by_name["text"].frequent == [("a", 0.5), ("b", 0.25)]
    assert (by_name["text"].distinct, by_name["text"].missing) == (3, pytest.approx(0.2))
    assert by_name["day"].facts == "90 % from 2024-01-02 to 2024-02-07, median 2024-01-20"
    assert (by_name["empty"].missing, len(by_name["empty"].shares)) == (1.0, 0)
    assert by_name["one"].frequent == [("1", 1.0)]


def odd(**columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame({"a": rng.normal(0, 1, 120), "y": rng.normal(0, 1, 120)} | columns)


NUMBERS = np.arange(120)
ODD: dict[str, pd.DataFrame] = {
    "a target of any size": odd(y=np.where(NUMBERS % 3, 9e37, -9e37)),
    "a target next to nothing": odd(y=1e-300 * NUMBERS),
    "a target far from zero": odd(y=1e12 + NUMBERS),
    "one value": odd(b=np.where(NUMBERS, np.nan, 1.0)),
    "the ends of floats": odd(b=np.where(NUMBERS % 2, 1e38, -1e38), c=np.where(NUMBERS, 5e-324, 1.0)),
    "blanks and signs": odd(b=[" ", "", "\x00", "\u202e", "\U0001f600" * 40, "\n"] * 20, c=[None, "a"] * 60),
    "dates": odd(b=pd.to_datetime(NUMBERS, unit="D").where(NUMBERS % 2 == 0), c=pd.Timestamp("1700-01-01")),
    "names of the report's own": odd(row=NUMBERS % 7, actual=1.0, error=2.5, predicted="x"),
}


@pytest.mark.parametrize("frame", ODD.values(), ids=ODD)
def test_no_table_is_too_odd_for_a_report(frame: pd.DataFrame, tmp_path: Path) -> None:
    given = {"split": "random", "show": "all", "cv": 2}
    text, _ = written(tmp_path, frame, "y", Standing("0" * 32, "m", "2"), float(frame["y"].std() / 3), **given)
    assert "nan" not in Read(text).said
    assert len(text) < 100_000
