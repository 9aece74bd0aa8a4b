"""What a run leaves to look at: figures of any names, a card that no name can spoil, strict JSON, lines on a screen."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml

from tests import models
from trainer import card, figures, report, settings
from trainer.card import Standing
from trainer.errors import Remark
from trainer.evaluation import Folds
from trainer.lineage import Git, Lineage
from trainer.markup import cut, extent
from trainer.plot import MINUS, TEXT, WIDTH, Axis, around
from trainer.table import Column, Rows, Table
from trainer.training import Outcome

NASTY = (
    "price_$_%_$",
    "a_{b}^2\\frac{",
    "<script>alert(1)</script>",
    "x" * 300,
    "new\nline\ttab\x1b[31m",
    "進行度 (とても長い名前の列です本当に長い)",
    "\U0001f600 \U0001fae8 \u202egnp.exe",
    "`tick`|pipe",
    "# *b* [l](http://x) ![i](y) &lt;",
    "",
    " ",
)
LINEAGE = Lineage("0" * 32, "d|a_$.csv", "f" * 64, 4711, Git("abc", "true"), {"python": "3.11"})
MARKS = {"svg", "g", "style", "rect", "line", "circle", "path", "text", "title"}
REMARKS = (Remark("constant", "'<b>' has one value\nin all rows"), Remark("leak", "`y` | $x$"))


def texts(path: Path) -> list[str]:
    """Return what is written in a figure, which is well-formed XML."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert (int(root.attrib["width"]), int(root.attrib["height"])) > (800, 100)
    assert {one.tag.rpartition("}")[2] for one in root.iter()} <= MARKS
    written = root.iter("{http://www.w3.org/2000/svg}text")
    return ["".join([one.text or "", *(hint.tail or "" for hint in one)]) for one in written]


def importance(names: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame({"feature": names, "mean": np.arange(len(names), 0.0, -1), "std": 0.1})


def metrics(**changed: float) -> dict[str, float]:
    told = {"rmse": 48.0518, "mae": 39.6489, "mse": 2309.0, "r2": 0.5796, "baseline_rmse": 75.8778}
    return told | {"rows_train": 350, "rows_test": 92, "rmse_low": 42.172, "rmse_high": 53.667} | changed


def table(names: tuple[str, ...] = ("a", "b"), target: int = 5, **changed: Any) -> Table:
    rng = np.random.default_rng(0)
    features = pd.DataFrame({name: rng.normal(0, 1, target) for name in names})
    columns = tuple(Column(name, "number", number % 2, -1.0, 1.0) for number, name in enumerate(names))
    test = Rows(features, np.arange(target, dtype=np.float64), None, numbers=np.arange(target) * 7)
    source: Any = models_source()
    return Table(source, 442, columns, test, test, **changed)


class models_source:  # noqa: N801
    """All that the report reads of a source."""

    name = LINEAGE.data_name


def asked(**given: str) -> settings.Settings:
    return settings.read(settings.defaults() | given)


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_a_figure_takes_any_name(name: str, tmp_path: Path) -> None:
    actual = np.linspace(0, 1e7, 40)
    figures.draw(tmp_path, name, actual, actual[::-1], importance((name, "b")), f"{name} on {name}")
    drawn = {path.stem: texts(path) for path in tmp_path.iterdir()}
    assert set(drawn) == {"predicted_vs_actual", "residuals", "feature_importance"}
    assert {"0", "2.5M", "10M"} <= set(drawn["residuals"])
    assert "b" in drawn["feature_importance"]
    for written in drawn.values():
        assert all(extent(text, TEXT) <= WIDTH for text in written)
        assert not any(mark in "".join(written) for mark in ("\x1b", "\u202e"))


def test_a_name_is_drawn_as_it_is_and_cut_where_it_is_long(tmp_path: Path) -> None:
    figures.draw_comparison(tmp_path / "f.svg", np.arange(9.0) * 1e9, np.zeros(9), np.ones(9), "進行度 <b> & price_$_%")
    assert texts(tmp_path / "f.svg")[0] == "進行度 <b> & price_$_%"
    assert cut("i" * 30, 200, 13) == "i" * 30
    assert cut("進" * 300, 200, 13).endswith("進…")
    assert extent(cut("進" * 300, 200, 13), 13) <= 200


@pytest.mark.parametrize(
    ("ends", "written"),
    [
        ((0, 1), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((-3, 8), [f"{MINUS}2.5", "0", "2.5", "5.0", "7.5"]),
        ((0, 230_000), ["0", "50k", "100k", "150k", "200k"]),
        ((5, 5.0001), ["5.00000", "5.00002", "5.00004", "5.00006", "5.00008", "5.00010"]),
        ((-1e38, 1e38), ["-1e+38", "-5e+37", "0", "5e+37", "1e+38"]),
        ((0, 2e-6), ["0", "5e-07", "1e-06", "1.5e-06", "2e-06"]),
    ],
)
def test_an_axis_has_round_numbers_that_tell_each_from_the_next(ends: tuple[float, float], written: list[str]) -> None:
    ticks = Axis(*ends, 0, 100).ticks()
    assert [text for _, text in ticks] == written
    assert all(ends[0] <= at <= ends[1] * (1 + 1e-9) for at, _ in ticks)


def test_an_axis_places_values_between_its_ends_and_has_room_around_them() -> None:
    assert Axis(10, 20, 100, 0)(np.array([10, 15, 20])).tolist() == [100, 50, 0]
    assert Axis(1, 100, 0, 10, is_log=True)(np.array([1, 10, 100])).tolist() == [0, 5, 10]
    assert around(np.array([0.0, 10.0])) == (-0.4, 10.4)
    assert around(np.array([2.0, np.nan, 10.0]), floor_at_zero=True) == (0.0, 10.4)
    for values in ([5.0], [0.0], [], [1e38, -1e38]):
        low, high = around(np.array(values))
        assert low < high


@pytest.mark.parametrize(
    "trials",
    [
        [({"alpha": f"{alpha:g}", "l1_ratio": "0.5"}, 50 + alpha, 2.0) for alpha in (0.001, 0.1, 100)],
        [({"max_depth": str(depth)}, 50.0 + depth, 2.0) for depth in (3, 4, 5)],
        [({"max_depth": "3"}, float("nan"), float("nan")), ({"max_depth": "4"}, 3.0, 0.1)],
        [({"scaling": "none"}, 50.0, 2.0), ({"scaling": "standard"}, 40.0, 2.0)],
    ],
    ids=["logarithmic", "one", "diverged", "words"],
)
def test_a_search_is_drawn(trials: Any, tmp_path: Path) -> None:
    figures.draw_search(tmp_path / "search.svg", trials, "sweep $_$")
    written = texts(tmp_path / "search.svg")
    assert written[0] == "sweep $_$"
    for name in {name for spelled, mean, _ in trials if mean == mean for name in spelled}:
        assert any(name in text for text in written[1:])


def test_an_axis_is_logarithmic_where_values_span_orders() -> None:
    def place(*spelled: str) -> tuple[list[float], bool] | None:
        found = figures._places(spelled)
        return found and (found[0].tolist(), found[1])

    assert place("0.01", "1") == ([0.01, 1.0], True)
    assert place("1", "10") == ([1.0, 10.0], False)
    assert place("0", "100") == ([0.0, 100.0], False)
    assert place("a", "1") is None


def outcome(names: tuple[str, ...]) -> Outcome:
    model = models.fitted("ridge")[0]
    return Outcome(model, np.arange(5.0) + 1, metrics(), importance(names), Folds({}, np.zeros(0)))


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_no_name_spoils_the_card(name: str) -> None:
    standing = Standing("0" * 32, "m", "3", f"version 3 is better: {name}", True)
    text = card.write(
        asked(target=name.strip() or "y"), table((name, "b")), outcome((name, "b")), LINEAGE, REMARKS, standing
    )
    front, text = text.removeprefix("---\n").split("\n---\n", 1)
    (model,) = yaml.safe_load(front)["model-index"]
    assert model["results"][0]["metrics"][0] == {"type": "rmse", "name": "rmse, test rows", "value": 48.0518}
    assert "<" not in front
    assert "<script>" not in text
    assert "<b>" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    cells = [line for line in text.splitlines() if line.startswith("|")]
    bars = {line.replace("\\|", "").count("|") for line in cells}
    assert bars == {3, 6}  # two columns, and the table of columns with five
    assert "version 3 is better" in text
    assert "has one value in all rows" in text


def test_the_card_says_how_good_what_was_remarked_on_and_what_to_do_next() -> None:
    standing = Standing("0" * 32, "m", "3", "a tie: version 1 stays")
    text = card.write(asked(), table(), outcome(("a", "b")), LINEAGE, REMARKS, standing)
    assert "95 % 42.17 to 53.67" in text
    assert "uv run python predict.py --model models:/m/3" in text
    assert "python champion.py --model-name m --version 3" in text
    assert "values were missing in `b`" in text
    assert all("champion.py" not in line for line in card.next_commands(Standing("0" * 32, "m", "3", "first", True)))
    assert "runs:/" + "0" * 32 in "\n".join(card.next_commands(Standing("0" * 32)))


def test_a_description_is_short_and_whole() -> None:
    many = tuple(Remark(f"c{number}", "x" * 200) for number in range(60))
    text = card.run_description(asked(), table(), metrics(), many, Standing("0" * 32))
    assert len(text) <= card.MOST_CHARACTERS
    assert text.startswith("**rmse 48.0518")
    assert card.model_description(asked(target="a`b"), "d.csv").startswith("Predicts ``a`b`` from `d.csv`")


def test_code_and_text_are_shown_as_they_are() -> None:
    assert card.code("a`b``c`") == "``` a`b``c` ```"
    assert card.code("<b>") == "&lt;b\\>"
    assert card.escaped("<i>a_b _c_ *d* | `e`\n#") == "&lt;i\\>a_b \\_c\\_ \\*d\\* \\| \\`e\\` \\#"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "48.0518  (95 % 42.17 to 53.67; mean predictor 75.8778)"),
        ({"rmse": 80.0}, "80.0000  (95 % 42.17 to 53.67; worse than the mean predictor's 75.8778)"),
        ({"rmse": 75.8778}, "75.8778  (95 % 42.17 to 53.67; as good as the mean predictor's 75.8778)"),
        (
            {"rmse": 1.2e-5, "rmse_low": 1e-5, "rmse_high": 2e-5},
            "1.2e-05  (95 % 1e-05 to 2e-05; mean predictor 75.8778)",
        ),
        (
            {"rmse": 3.5e9, "rmse_low": 1e9, "rmse_high": 2e9, "baseline_rmse": 4e9},
            "3.5e+09  (95 % 1e+09 to 2e+09; mean predictor 4e+09)",
        ),
    ],
)
def test_the_rmse_and_its_interval(changed: dict[str, float], expected: str) -> None:
    assert card.sentence_on_rmse(metrics(**changed)) == expected


def test_the_rmse_of_one_test_row_has_no_interval() -> None:
    told = {name: value for name, value in metrics().items() if not name.startswith("rmse_")}
    assert card.sentence_on_rmse(told) == "48.0518  (mean predictor 75.8778)"


def test_names_of_runs() -> None:
    assert card.run_name(asked(alpha="0.1"), "diabetes.csv") == "ridge alpha=0.1 diabetes.csv"
    assert card.run_name(asked(alpha="0.1"), "diabetes.csv", search=True) == "sweep ridge diabetes.csv"
    assert len(card.run_name(asked(), "x\n" * 400)) <= card.MOST_NAME


def test_metric_json_is_strict_and_says_whether_the_model_was_promoted(tmp_path: Path) -> None:
    odd = metrics(r2=float("nan"), mse=float("inf"), coverage_90=0.9)
    model = models.fitted("ridge", "size")[0]
    told = Outcome(model, np.arange(5.0), odd, importance(("size",)), Folds({}, np.zeros(0)))
    standing = Standing("0" * 32, "m", "3", "a tie", False)
    report.conclude(tmp_path, asked(), table(("size",)), told, LINEAGE, REMARKS, standing)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    facts = json.loads((tmp_path / "metric.json").read_text(), parse_constant=refuse)
    assert facts["run_id"] == "0" * 32
    assert (facts["RMSE"], facts["R2"], facts["MSE"], facts["coverage"]) == (48.0518, None, None, 0.9)
    assert (facts["RMSE_low"], facts["RMSE_high"]) == (42.172, 53.667)
    assert (facts["model_name"], facts["version"], facts["champion_verdict"]) == ("m", "3", "a tie")
    assert facts["promoted"] is False
    assert facts["remarks"] == ["constant", "leak"]
    assert facts["data_bytes"] == 4711
    assert facts["git_dirty"] is True
    assert {path.name for path in tmp_path.iterdir()} == {"metric.json", "model_card.md", "report.html"}


def test_git_that_nobody_knows_is_null() -> None:
    unknown = Lineage("r", "d", "s", 1, Git(), {})
    assert report.metric_json(asked(), metrics(), unknown, (), Standing("r"))["git_dirty"] is None


def test_strict_json_of_numbers_of_numpy() -> None:
    value = {"a": np.float64("nan"), "b": [np.int64(3), (np.bool_(True), -np.inf)], 4: "x"}
    assert report.strict(value) == {"a": None, "b": [3, [True, None]], "4": "x"}


def test_predictions_largest_error_first_with_row_numbers_and_keys() -> None:
    keys = pd.DataFrame({"patient": ["p", "q", "r"], "row": [1, 2, 3]})
    rows = Rows(pd.DataFrame({"a": [1.0, 2.0, 3.0]}), np.array([1.0, 2.0, 3.0]), None, keys, np.array([4, 9, 11]))
    found = report.predictions(rows, np.array([1.5, 12.0, 3.0]))
    assert list(found.columns) == ["row", "patient", "key row", "actual", "predicted", "error"]
    assert found["row"].tolist() == [9, 4, 11]
    assert found["patient"].tolist() == ["q", "p", "r"]
    assert found["error"].tolist() == [10.0, 0.5, 0.0]


def test_predictions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_PREDICTIONS", 3)
    assert report.predictions(table().test, np.array([0.0, 9.0, 2.0, 8.0, 7.0]))["row"].tolist() == [7, 21, 28]


@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "xgboost"])
def test_the_curve_of_a_boosted_model_ends_where_the_model_does(estimator: str) -> None:
    model, frame, _ = models.fitted(estimator, n_estimators="30")
    target = frame["size"].to_numpy() * 2 + frame["visits"].to_numpy()
    curve = report.curves(model, Rows(frame, target, None))["rmse_by_round"]
    assert (curve[0][0], curve[-1][0]) == (1, 30)
    last = float(np.sqrt(np.mean((target - model.predict(frame)) ** 2)))
    assert curve[-1][1] == pytest.approx(last, rel=1e-5)
    assert curve[0][1] > 1.2 * last


def test_other_models_have_no_curve() -> None:
    for estimator in ("ridge", "random_forest"):
        model, frame, _ = models.fitted(estimator)
        assert report.curves(model, Rows(frame, frame["size"].to_numpy(), None)) == {}


def test_what_a_model_must_reach() -> None:
    must = settings.read(settings.defaults() | {"must": "rmse<60, r2>0.7, mae<10"}).must
    assert report.unmet(must, metrics()) == [
        "r2 is 0.5796, and must be above 0.7",
        "mae is 39.6489, and must be below 10",
    ]
    assert report.unmet(must[:1], metrics()) == []
    assert len(report.unmet(must[:1], metrics(rmse=float("nan")))) == 1


def test_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    read = Table(
        models_source(),  # type: ignore[arg-type]
        442,
        (Column("a", "number", 0), Column("b", "integer", 0), Column("c", "text", 0), Column("d", "datetime", 0)),
        table().training,
        table().test,
        3,
    )
    report.show(asked(), read, metrics(cv_rmse_mean=56.7292, cv_rmse_std=3.6952), REMARKS)
    assert capsys.readouterr().out.splitlines() == [
        "data        d|a_$.csv: 350 training + 92 test rows, 4 features (2 numbers, 1 text, 1 date), stable split",
        "left out    3 rows without a target",
        "rmse        48.0518  (95 % 42.17 to 53.67; mean predictor 75.8778)",
        "cv rmse     56.7292 +- 3.6952",
        "r2          0.5796",
        "mae         39.6489",
        "! '<b>' has one value in all rows",
        "! `y` | $x$",
    ]


def test_a_long_line_is_broken_between_words_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    long = [Remark("marks", "price: '$1,234' (row 1) is read as 1234; the model takes numbers")]
    report.show_remarks(long)
    assert capsys.readouterr().out.splitlines() == [f"! {long[0].text}"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    report.show_remarks(long)
    assert capsys.readouterr().out.splitlines() == [
        "! price: '$1,234' (row 1) is read as 1234; the",
        "  model takes numbers",
    ]
