"""What a run leaves to look at: figures, the model card, metric.json, and lines on the screen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import model_folder, pipeline
from trainer.lineage import Lineage
from trainer.loading import Table
from trainer.settings import Settings
from trainer.training import Outcome

# An Azure Machine Learning workspace lists artifacts by prefix: no name may begin with another.
MODELS = "models"
FIGURES = "figures"
# A scatter of more points than this is a blot that takes seconds to draw.
POINTS = 2_000
# The bars that a reader can tell apart.
BARS = 20

Floats = npt.NDArray[np.float64]


def write(folder: Path, settings: Settings, table: Table, outcome: Outcome, lineage: Lineage) -> None:
    """Write all artifacts of a run: metric.json, models/, figures/, model_card.md."""
    (folder / FIGURES).mkdir()
    rows = f"{len(outcome.predicted)} test rows"
    title = f"{settings.estimator} on {lineage.data_name}, {rows}"
    draw(folder / FIGURES, settings.target, table.test.target, outcome.predicted, outcome.importance, title)
    facts = {"run_id": lineage.run_id, "estimator": settings.estimator, "target": settings.target}
    model_folder.save(
        folder / MODELS, outcome.model, table.test.features, table.columns, lineage.versions, lineage.source | facts
    )
    write_card(
        folder / "model_card.md",
        outcome.model,
        {
            "What it does": f"Predicts `{settings.target}` with the estimator `{settings.estimator}`.",
            "Data": f"`{lineage.data_name}`, {table.n_rows} rows and {table.n_features} features, "
            f"sha256 `{lineage.data_sha256}`. The {settings.split} split held {rows} back.",
            "Use": f'`mlflow.pyfunc.load_model("runs:/{lineage.run_id}/{MODELS}").predict(frame)`, with the '
            "columns of the signature in any order; a missing or wrong-typed column is refused.",
            "Lineage": f"MLflow run `{lineage.run_id}`, git commit `{lineage.git.commit}`.",
        },
        outcome.metrics,
        outcome.importance.head(BARS),
        lineage.versions,
    )
    text = json.dumps(metric_json(settings, outcome.metrics, lineage), indent=2)
    (folder / "metric.json").write_text(text + "\n")


def metric_json(settings: Settings, measured: Mapping[str, float], lineage: Lineage) -> dict[str, Any]:
    """Say in one file what the later steps of a team's pipeline read: `run_id`, `RMSE`, `R2` and more."""
    return {
        "run_id": lineage.run_id,
        "RMSE": measured["rmse"],
        "R2": measured["r2"],
        "MAE": measured["mae"],
        "MSE": measured["mse"],
        "baseline_RMSE": measured["baseline_rmse"],
        "cv_RMSE_mean": measured.get("cv_rmse_mean"),
        "cv_RMSE_std": measured.get("cv_rmse_std"),
        "rows_train": measured["rows_train"],
        "rows_test": measured["rows_test"],
        **lineage.source,
        "params": settings.given,
        "versions": lineage.versions,
    }


def show(settings: Settings, table: Table, measured: Mapping[str, float]) -> None:
    """Print how good the model is."""
    rows = f"{measured['rows_train']} training + {measured['rows_test']} test rows"
    print(f"data        {table.source.name}: {rows}, {table.n_features} features, {settings.split} split")
    print(f"rmse        {measured['rmse']:.4f}  (mean predictor {measured['baseline_rmse']:.4f})")
    if "cv_rmse_mean" in measured:
        print(f"cv rmse     {measured['cv_rmse_mean']:.4f} +- {measured['cv_rmse_std']:.4f}")
    print(f"r2          {measured['r2']:.4f}")
    print(f"mae         {measured['mae']:.4f}")


def draw(folder: Path, target: str, actual: Floats, predicted: Floats, importance: pd.DataFrame, title: str) -> None:
    """Write ``predicted_vs_actual.png``, ``residuals.png`` and ``feature_importance.png``.

    Parameters
    ----------
    folder : Path
        It exists.
    target : str
        The target's name, for the axes.
    actual, predicted : ndarray of shape (n_test,)
        At most `POINTS` of them are drawn, evenly chosen.
    importance : DataFrame
        From `evaluation.importance`.
    title : str
    """
    step = -(-len(actual) // POINTS)
    drawn = {
        "predicted_vs_actual": _predicted_vs_actual(actual[::step], predicted[::step], target, title),
        "residuals": _residuals(actual[::step], predicted[::step], target, title),
        "feature_importance": _importance(importance.head(BARS), title),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png")


def draw_comparison(path: Path, actual: Floats, by_champion: Floats, by_challenger: Floats, title: str) -> None:
    """Draw the errors of two models on the same rows against each other; below the diagonal the challenger is better.

    Parameters
    ----------
    path : Path
        The ``.png`` file.
    actual, by_champion, by_challenger : ndarray of shape (n_rows,)
        At most `POINTS` of them are drawn, evenly chosen.
    title : str
    """
    step = -(-len(actual) // POINTS)
    theirs, ours = np.abs(actual - by_champion)[::step], np.abs(actual - by_challenger)[::step]
    figure, axes = _axes(title)
    end = max(theirs.max(), ours.max())
    axes.plot([0, end], [0, end], color="0.5", linewidth=1)
    axes.scatter(theirs, ours, s=14, alpha=0.6)
    axes.set(xlabel="absolute error of the champion", ylabel="absolute error of the challenger")
    figure.savefig(path)


def _axes(title: str, left: float = 0.12) -> tuple[Any, Any]:
    # Figure without pyplot: no global state, no window, and half of the import time
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8))
    axes = figure.add_axes((left, 0.12, 0.96 - left, 0.8))
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    return figure, axes


def _predicted_vs_actual(actual: Floats, predicted: Floats, target: str, title: str) -> Any:
    figure, axes = _axes(title)
    ends = [min(actual.min(), predicted.min()), max(actual.max(), predicted.max())]
    axes.plot(ends, ends, color="0.5", linewidth=1, label="perfect")
    axes.scatter(actual, predicted, s=14, alpha=0.6, label="test rows")
    axes.set(xlabel=f"actual {target}", ylabel=f"predicted {target}")
    axes.legend()
    return figure


def _residuals(actual: Floats, predicted: Floats, target: str, title: str) -> Any:
    figure, axes = _axes(title)
    axes.axhline(0, color="0.5", linewidth=1)
    axes.scatter(predicted, actual - predicted, s=14, alpha=0.6)
    axes.set(xlabel=f"predicted {target}", ylabel="actual - predicted")
    return figure


def _importance(importance: pd.DataFrame, title: str) -> Any:
    figure, axes = _axes(title, left=0.3)
    bars = importance.iloc[::-1]
    axes.barh([str(name)[:30] for name in bars["feature"]], bars["mean"], xerr=bars["std"])
    axes.set(xlabel="RMSE added when the feature's test values are shuffled")
    return figure


def write_card(
    path: Path,
    model: Any,
    sentences: Mapping[str, str],
    metrics: Mapping[str, float],
    importance: pd.DataFrame,
    versions: Mapping[str, str],
) -> None:
    """Write the model card as Markdown, with `skops.card`.

    Parameters
    ----------
    path : Path
        The ``.md`` file.
    model : fitted Pipeline or XGBRegressor
    sentences : mapping of str to str
        What to say, by the title of the section.
    metrics : mapping of str to float
    importance : DataFrame
        From `evaluation.importance`.
    versions : mapping of str to str
        Packages by name.
    """
    from skops.card import Card

    card = Card(model, template=None)
    for title, text in sentences.items():
        card.add(**{title: text})
    hyperparameters = pipeline.final(model).get_params()
    card.add_table(
        **{
            "Metrics": {"metric": list(metrics), "value": [f"{value:.6g}" for value in metrics.values()]},
            "What matters": {
                "feature": importance["feature"].tolist(),
                "RMSE added when shuffled": [
                    f"{mean:.4g} ± {std:.2g}" for mean, std in zip(importance["mean"], importance["std"], strict=True)
                ],
            },
            "Hyperparameters": {
                "name": list(hyperparameters),
                "value": [str(value) for value in hyperparameters.values()],
            },
            "Versions": {"package": list(versions), "version": list(versions.values())},
        }
    )
    card.save(path)
