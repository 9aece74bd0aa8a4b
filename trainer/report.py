"""What a run leaves to look at: report.html, figures, predictions, the model card, metric.json, lines on the screen.

`write` before the model is registered, `conclude` when the registry has spoken: an Azure Machine Learning workspace
refuses a second artifact of one name, so that each is logged once.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import card, diagnostics, figures, learning_curve, model_folder, page, pipeline, profile
from trainer.card import Standing
from trainer.errors import Remark
from trainer.learning_curve import LearningCurve
from trainer.lineage import Lineage
from trainer.markup import Markup
from trainer.pieces import NOTHING
from trainer.settings import BOUNDED, Bound, Settings

if TYPE_CHECKING:
    from trainer.comparison import Comparison
    from trainer.table import Rows, Table
    from trainer.training import Outcome

MODELS, FIGURES = "models", figures.FOLDER
PREDICTIONS, METRICS, CARD, PAGE = "predictions.csv", "metric.json", "model_card.md", "report.html"
# Of predictions.csv: those with the largest errors.
MOST_PREDICTIONS = 10_000
# Of report.html.
WORST = 20
# The rows, and the stages, that the curve of a boosted model is measured on.
CURVE_ROWS, CURVE_STAGES = 500, 20
BY_ROUND = "rmse_by_round"

Floats = npt.NDArray[np.float64]


def write(folder: Path, settings: Settings, table: "Table", outcome: "Outcome", lineage: Lineage) -> None:
    """Write the artifacts that are known before the model is registered: models/, figures/, predictions.csv."""
    (folder / FIGURES).mkdir()
    title = f"{settings.estimator} on {lineage.data_name}, {len(outcome.predicted)} test rows"
    figures.draw(folder / FIGURES, settings.target, table.test.target, outcome.predicted, outcome.importance, title)
    facts = {"run_id": lineage.run_id, "estimator": settings.estimator, "target": settings.target}
    interval = outcome.interval.recorded if outcome.interval else None
    training = profile.take(table.columns, table.training.features, settings.target, settings.key, interval)
    facts |= lineage.source
    model_folder.save(
        folder / MODELS, outcome.model, table.test.features, table.columns, lineage.versions, facts, training
    )
    predictions(table.test, outcome.predicted).to_csv(folder / PREDICTIONS, index=False)


def conclude(
    folder: Path,
    settings: Settings,
    table: "Table",
    outcome: "Outcome",
    lineage: Lineage,
    remarks: Sequence[Remark],
    standing: Standing,
    curve: Sequence[tuple[int, float]] = (),
    compared: "Comparison | None" = None,
    board: Markup = NOTHING,
    learning: LearningCurve = learning_curve.NOTHING,
) -> None:
    """Write what says how it ended: metric.json, model_card.md and report.html.

    Parameters
    ----------
    curve : sequence of (int, float)
        The RMSE by rounds of boosting.
    compared : Comparison or None
        With the champion.
    board : Markup
        What was tried before: `trials.board`.
    learning : LearningCurve
        What the model does with fewer rows.
    """
    text = card.write(settings, table, outcome, lineage, remarks, standing)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")
    facts = strict(metric_json(settings, outcome.metrics, lineage, remarks, standing))
    (folder / METRICS).write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    told = page.Told(
        settings, table, outcome, lineage, remarks, standing, diagnostics.look(settings.target, table, outcome),
        worst(settings, table.test, outcome.predicted), curve, compared, board, learning,
    )  # fmt: skip
    (folder / PAGE).write_text(page.write(told), encoding="utf-8")


def metric_json(
    settings: Settings,
    metrics: Mapping[str, float],
    lineage: Lineage,
    remarks: Sequence[Remark],
    standing: Standing,
) -> dict[str, Any]:
    """Say in one file what the later steps of a team's pipeline read: `run_id`, `RMSE`, `R2` and more."""
    return {
        "run_id": lineage.run_id,
        "RMSE": metrics["rmse"],
        "R2": metrics["r2"],
        "MAE": metrics["mae"],
        "MSE": metrics["mse"],
        "RMSE_low": metrics.get("rmse_low"),
        "RMSE_high": metrics.get("rmse_high"),
        "baseline_RMSE": metrics["baseline_rmse"],
        "cv_RMSE_mean": metrics.get("cv_rmse_mean"),
        "cv_RMSE_std": metrics.get("cv_rmse_std"),
        **({"coverage": metrics["coverage_90"]} if "coverage_90" in metrics else {}),
        "rows_train": metrics["rows_train"],
        "rows_test": metrics["rows_test"],
        "model_name": standing.model_name,
        "version": standing.version,
        "champion_verdict": standing.verdict,
        "promoted": standing.promoted,
        "remarks": [remark.code for remark in remarks],
        "data_name": lineage.data_name,
        "data_sha256": lineage.data_sha256,
        "data_bytes": lineage.data_bytes,
        "git_commit": lineage.git.commit,
        "git_dirty": {"true": True, "false": False}.get(lineage.git.dirty),
        "params": settings.given,
        "versions": lineage.versions,
    }


def strict(value: Any) -> Any:
    """Return a value as JSON knows it: a number that is not finite is null."""
    if isinstance(value, Mapping):
        return {str(name): strict(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [strict(one) for one in value]
    if isinstance(value, np.generic):
        return strict(value.item())
    return None if isinstance(value, float) and not isfinite(value) else value


def predictions(rows: "Rows", predicted: Floats, most: int | None = None) -> pd.DataFrame:
    """Put predictions beside the test rows' numbers and keys: at most `MOST_PREDICTIONS`, largest error first."""
    error = predicted - rows.target
    size = np.abs(error)
    chosen = np.argsort(-size, kind="stable")[: most or MOST_PREDICTIONS]
    shown: dict[str, Any] = {} if rows.numbers is None else {"row": rows.numbers[chosen]}
    shown |= {"actual": rows.target[chosen], "predicted": predicted[chosen], "error": error[chosen]}
    frame = pd.DataFrame(shown)
    if rows.keys is None:
        return frame
    keys = rows.keys.iloc[chosen].reset_index(drop=True)
    keys.columns = [f"key {name}" if name in shown else str(name) for name in keys.columns]
    at = int("row" in shown)
    return pd.concat([frame.iloc[:, :at], keys, frame.iloc[:, at:]], axis=1)


def worst(settings: Settings, rows: "Rows", predicted: Floats) -> pd.DataFrame:
    """Return the test rows with the largest errors, with the features that the settings ask for."""
    chosen = np.argsort(-np.abs(predicted - rows.target), kind="stable")[:WORST]
    found = predictions(rows, predicted, WORST)
    asked = rows.features.columns if settings.show is None else list(settings.show)
    features = rows.features.iloc[chosen][asked].reset_index(drop=True)
    return pd.concat([found, features], axis=1)


def curves(model: Any, rows: "Rows") -> dict[str, list[tuple[int, float]]]:
    """Return how the RMSE of a boosted model falls with its rounds, on at most `CURVE_ROWS` test rows.

    Returns
    -------
    dict
        By the name of a metric: (rounds, value); empty where a model has no rounds.
    """
    final = pipeline.final(model)
    features, target = rows.features.iloc[:CURVE_ROWS], rows.target[:CURVE_ROWS]
    if hasattr(final, "get_booster"):
        total = final.get_booster().num_boosted_rounds()
    elif hasattr(final, "staged_predict") and hasattr(final, "n_iter_"):
        total = final.n_iter_
    else:
        return {}
    if pipeline.is_pipeline(model):
        features = model[:-1].transform(features)
    rounds = sorted({int(count) for count in np.geomspace(1, total, CURVE_STAGES)} | {total})
    if hasattr(final, "get_booster"):
        staged = {count: final.predict(features, iteration_range=(0, count)) for count in rounds}
    else:
        wanted = set(rounds)
        staged = {n: said for n, said in enumerate(final.staged_predict(features), 1) if n in wanted}
    return {BY_ROUND: [(n, float(np.sqrt(np.mean((target - said) ** 2)))) for n, said in staged.items()]}


def unmet(must: Sequence[Bound], metrics: Mapping[str, float]) -> list[str]:
    """Say what a model does not reach of what it must."""
    words = {"<": "below", ">": "above"}
    failed = [bound for bound in must if not bound.holds(metrics[bound.metric])]
    return [
        f"{one.metric} is {card.figure(metrics[one.metric])}, and must be {words[BOUNDED[one.metric]]} {one.value:g}"
        for one in failed
    ]


def show(settings: Settings, table: "Table", metrics: Mapping[str, float], remarks: Sequence[Remark] = ()) -> None:
    """Print how good the model is, and what was remarked on."""
    rows = f"{metrics['rows_train']:.0f} training + {metrics['rows_test']:.0f} test rows"
    features = f"{table.n_features} feature{'' if table.n_features == 1 else 's'} ({card.kinds(table.columns)})"
    print(wrapped(f"data        {card.plain(table.source.name)}: {rows}, {features}, {settings.split} split", 12))
    if table.rows_without_target:
        print(f"left out    {table.rows_without_target} rows without a target")
    print(f"rmse        {card.sentence_on_rmse(metrics)}")
    if "cv_rmse_mean" in metrics:
        print(f"cv rmse     {card.figure(metrics['cv_rmse_mean'])} +- {card.figure(metrics['cv_rmse_std'])}")
    print(f"r2          {metrics['r2']:.4f}")
    print(f"mae         {card.figure(metrics['mae'])}")
    show_remarks(remarks)


def show_remarks(remarks: Sequence[Remark]) -> None:
    """Print what works and is probably not what was meant."""
    for remark in remarks:
        print(wrapped(f"! {card.plain(remark.text)}", 2))


def wrapped(line: str, indent: int) -> str:
    """Break a line between words where it is wider than the terminal; elsewhere it stays one line."""
    if not sys.stdout.isatty():
        return line
    width = max(40, get_terminal_size().columns)
    return fill(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
