"""What a run leaves to look at, whatever the names in it hold."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainer import card, figures, report, settings, training
from trainer.card import Standing
from trainer.errors import Remark
from trainer.lineage import Git, Lineage
from trainer.table import Rows, Table, load

ODD = ["$_%_$", "体重 (kg)", "a^b_c\\d", "<script>alert(1)</script>"]


def odd_table(folder: Path) -> tuple[settings.Settings, Table]:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.normal(size=(80, 4)), columns=ODD)
    frame["進行度 $x$"] = frame[ODD[0]] * 3 + generator.normal(size=80)
    frame.to_csv(folder / "$a_$.csv", index=False)
    given = {"data": str(folder / "$a_$.csv"), "target": "進行度 $x$", "cv": "0", "model_name": "m"}
    asked = settings.read(settings.defaults() | given)
    return asked, load(asked)


def lineage() -> Lineage:
    return Lineage("run1", "$a_$.csv", "ab" * 32, 123, Git("c" * 40, "true"), {"python": "3.11"})


def test_figures_are_drawn_whatever_a_column_is_called(tmp_path: Path) -> None:
    asked, table = odd_table(tmp_path)
    outcome = training.learn(asked, table)
    figures.draw(tmp_path, asked.target, table.test.target, outcome.predicted, outcome.importance, "a $_$ title")
    figures.draw_comparison(tmp_path / "c.png", table.test.target, outcome.predicted, outcome.predicted + 1, "$")
    trials = [({"alpha": text, "odd": "$"}, 1.0 + number, 0.1) for number, text in enumerate(("0.1", "1", "10"))]
    figures.draw_search(tmp_path / "s.png", trials, "s")
    for name in ("predicted_vs_actual", "residuals", "feature_importance", "c", "s"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name


def test_metric_json_is_json_and_says_what_became_of_the_model(tmp_path: Path) -> None:
    asked, table = odd_table(tmp_path)
    outcome = training.learn(asked, table)
    metrics = outcome.metrics | {"r2": float("nan"), "rmse_high": float("inf")}
    standing = Standing("run1", "m", "7", "version 7 is better", True)
    found = report.metric_json(asked, metrics, lineage(), (Remark("leak", "a leaks"),), standing)
    text = json.dumps(report.strict(found), allow_nan=False)
    read = json.loads(text)
    assert (read["R2"], read["RMSE_high"], read["RMSE"]) == (None, None, metrics["rmse"])
    assert (read["run_id"], read["model_name"], read["version"], read["promoted"]) == ("run1", "m", "7", True)
    assert (read["data_bytes"], read["git_dirty"], read["remarks"]) == (123, True, ["leak"])
    assert read["champion_verdict"] == "version 7 is better"


def test_predictions_have_the_largest_errors_first_beside_their_keys() -> None:
    rows = Rows(
        pd.DataFrame({"x": [0.0, 1.0, 2.0]}),
        np.array([1.0, 2.0, 3.0]),
        None,
        pd.DataFrame({"patient": ["a", "b", "c"]}),
        np.array([4, 9, 11]),
    )
    frame = report.predictions(rows, np.array([1.5, 0.0, 3.25]))
    assert frame.to_dict("list") == {
        "row": [9, 4, 11],
        "patient": ["b", "a", "c"],
        "actual": [2.0, 1.0, 3.0],
        "predicted": [0.0, 1.5, 3.25],
        "error": [-2.0, 0.5, 0.25],
    }


def test_only_the_largest_errors_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_PREDICTIONS", 2)
    rows = Rows(pd.DataFrame({"x": [0.0] * 4}), np.zeros(4), None)
    assert list(report.predictions(rows, np.array([1.0, -3.0, 2.0, 0.5]))["error"]) == [-3.0, 2.0]


def test_names_are_never_read_as_markdown_or_html(tmp_path: Path) -> None:
    asked, table = odd_table(tmp_path)
    outcome = training.learn(asked, table)
    remarks = (Remark("constant", "<b>bold</b> | [link](http://x) is constant"),)
    standing = Standing("run1", "m", "2", "a tie: <i>", False)
    text = card.run_description(asked, table, outcome.metrics, remarks, standing)
    assert "<b>" not in text
    assert "<i>" not in text
    assert "champion.py --model-name m --version 2" in text
    whole = card.write(asked, table, outcome, lineage(), remarks, standing)
    assert "<script>" not in whole.replace("`<script>alert(1)</script>`", "")
    assert "ab" * 32 in whole


def test_runs_are_named_after_what_they_are() -> None:
    def named(search: bool = False, **given: str) -> str:
        return card.run_name(settings.read(settings.defaults() | given), "sales.csv", search)

    assert named(alpha="0.1") == "ridge alpha=0.1 sales.csv"
    assert named(estimator="xgboost") == "xgboost sales.csv"
    assert named(search=True) == "sweep ridge sales.csv"
    assert len(card.run_name(settings.read(settings.defaults()), "x" * 500)) <= 100


def test_what_a_model_must_reach_and_does_not() -> None:
    must = settings.read(settings.defaults() | {"must": "rmse<60,r2>0.3,mae<50"}).must
    assert report.unmet(must, {"rmse": 59.0, "r2": 0.4, "mae": 40.0}) == []
    failed = report.unmet(must, {"rmse": 61.0, "r2": 0.3, "mae": 40.0})
    assert failed == ["rmse is 61.0000, and must be below 60", "r2 is 0.3000, and must be above 0.3"]


def test_the_rmse_is_told_beside_the_mean_predictor() -> None:
    metrics = {"rmse": 48.0518, "rmse_low": 42.174, "rmse_high": 53.671, "baseline_rmse": 75.8778}
    assert card.sentence_on_rmse(metrics) == "48.0518  (95 % 42.17 to 53.67; mean predictor 75.8778)"
    worse = card.sentence_on_rmse({"rmse": 80.0, "baseline_rmse": 75.8778})
    assert worse == "80.0000  (worse than the mean predictor's 75.8778)"


def test_boosting_has_a_curve_and_other_models_have_none(tmp_path: Path) -> None:
    asked, table = odd_table(tmp_path)
    assert report.curves(training.learn(asked, table).model, table.test) == {}
    for estimator in ("xgboost", "hist_gradient_boosting"):
        given = asked.given | {"estimator": estimator, "n_estimators": "12"}
        outcome = training.learn(settings.read(given), table)
        (curve,) = report.curves(outcome.model, table.test).values()
        assert curve[-1][0] == 12
        assert curve[-1][1] == pytest.approx(outcome.metrics["rmse"], rel=1e-5)
        assert curve[0][1] > curve[-1][1]
