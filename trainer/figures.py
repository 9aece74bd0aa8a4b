"""The figures of a run, as PNG files; no display is needed."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

# Among a run's artifacts.
FOLDER = "figures"
# A scatter of more points than this is a blot that takes seconds to draw.
POINTS = 2_000
# The bars that a reader can tell apart.
BARS = 20

Floats = npt.NDArray[np.float64]


def save(folder: Path, target: str, actual: Floats, predicted: Floats, importance: pd.DataFrame, title: str) -> None:
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


def save_comparison(path: Path, actual: Floats, by_champion: Floats, by_candidate: Floats, title: str) -> None:
    """Draw the errors of two models on the same rows against each other; below the diagonal the candidate is better.

    Parameters
    ----------
    path : Path
        The ``.png`` file.
    actual, by_champion, by_candidate : ndarray of shape (n_rows,)
        At most `POINTS` of them are drawn, evenly chosen.
    title : str
    """
    step = -(-len(actual) // POINTS)
    theirs, ours = np.abs(actual - by_champion)[::step], np.abs(actual - by_candidate)[::step]
    figure, axes = _axes(title)
    end = max(theirs.max(), ours.max())
    axes.plot([0, end], [0, end], color="0.5", linewidth=1)
    axes.scatter(theirs, ours, s=14, alpha=0.6)
    axes.set(xlabel="absolute error of the champion", ylabel="absolute error of the candidate")
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
