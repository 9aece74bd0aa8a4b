"""Figures of a model, of its comparison with the champion, and of several trials, as SVG."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import plot
from trainer.learning_curve import LearningCurve
from trainer.markup import Markup
from trainer.plot import Plot, Row

# An Azure Machine Learning workspace lists artifacts by prefix: no name may begin with another.
FOLDER = "figures"
# A scatter of more points than this is a blot.
POINTS = 1_000
# The bars that a reader can tell apart.
BARS = 20

Floats = npt.NDArray[np.float64]


def draw(folder: Path, target: str, actual: Floats, predicted: Floats, importance: pd.DataFrame, title: str) -> None:
    """Write ``predicted_vs_actual.svg``, ``residuals.svg`` and ``feature_importance.svg``.

    Parameters
    ----------
    folder : Path
        It exists.
    target : str
        The target's name, for the axes.
    actual, predicted : ndarray of shape (n_test,)
        At most `POINTS` of them are drawn, evenly chosen.
    importance : DataFrame
        From `evaluation.importance`; at most `BARS` of it are drawn.
    title : str
    """
    plot.write(folder / "predicted_vs_actual.svg", predicted_vs_actual(target, actual, predicted), title)
    plot.write(folder / "residuals.svg", residuals(target, actual, predicted), title)
    plot.write(folder / "feature_importance.svg", feature_importance(target, importance), title)


def draw_comparison(path: Path, actual: Floats, by_champion: Floats, by_challenger: Floats, title: str) -> None:
    """Write how far off two models are on the same rows; see `comparison`."""
    plot.write(path, comparison(actual, by_champion, by_challenger), title)


def predicted_vs_actual(target: str, actual: Floats, predicted: Floats) -> Markup:
    """Draw predictions against what came true; a perfect model's points lie on the dashed line."""
    shown, of = _chosen(actual, predicted)
    ends = plot.around(shown, of)
    drawn = Plot(ends, ends, f"actual {target}", f"predicted {target}")
    diagonal = np.array(ends)
    return drawn.curve(diagonal, diagonal, "dash").points(shown, of).markup("predicted against actual, a point a row")


def residuals(target: str, actual: Floats, predicted: Floats) -> Markup:
    """Draw how far off each prediction is against what was predicted."""
    shown, of = _chosen(actual, predicted)
    ends = plot.around(of)
    drawn = Plot(ends, plot.around(shown - of, 0.0), f"predicted {target}", f"actual {plot.MINUS} predicted")
    flat = drawn.curve(np.array(ends), np.zeros(2), "dash")
    return flat.points(of, shown - of).markup("residuals against predictions, a point a row")


def feature_importance(target: str, importance: pd.DataFrame) -> Markup:
    """Draw how much the RMSE grows when a feature is shuffled, with the spread over the repeats."""
    bars = importance.head(BARS)
    rows = [
        Row(str(name), mean, mean - std, mean + std)
        for name, mean, std in zip(bars["feature"], bars["mean"].tolist(), bars["std"].tolist(), strict=True)
    ]
    return plot.rows(rows, f"rmse added when shuffled, in units of {target}", "importance of the features")


def comparison(actual: Floats, by_champion: Floats, by_challenger: Floats) -> Markup:
    """Draw the errors of two models on the same rows against each other; below the diagonal the challenger is better.

    Parameters
    ----------
    actual, by_champion, by_challenger : ndarray of shape (n_rows,)
        At most `POINTS` of them are drawn, evenly chosen.
    """
    theirs, ours = _chosen(np.abs(actual - by_champion), np.abs(actual - by_challenger))
    ends = plot.around(theirs, ours, floor_at_zero=True)
    drawn = Plot(ends, ends, "absolute error of the champion", "absolute error of the challenger")
    diagonal = np.array(ends)
    return drawn.curve(diagonal, diagonal, "dash").points(theirs, ours).markup("errors of two models, a point a row")


def rounds(target: str, curve: Sequence[tuple[int, float]]) -> Markup:
    """Draw how the RMSE falls with the rounds of boosting."""
    across, up = (np.array(values, dtype=np.float64) for values in zip(*curve, strict=True))
    drawn = Plot(
        plot.around(across, 0.0, floor_at_zero=True),
        plot.around(up),
        "rounds",
        f"rmse of the test rows, in units of {target}",
    )
    return drawn.curve(across, up).points(across, up, "dot", 3).markup("rmse by rounds of boosting")


def learning_curve(target: str, learning: LearningCurve) -> Markup:
    """Draw how the RMSE of cross-validation falls with the rows that are learnt from, and the folds' spread."""
    across, low, high = np.array(learning.rows, float), learning.errors.min(axis=0), learning.errors.max(axis=0)
    ends = plot.around(across, 0.0, floor_at_zero=True)
    drawn = Plot(ends, plot.around(low, high), "training rows", f"cv rmse, in units of {target}")
    middle = learning.errors.mean(axis=0)
    drawn.curve(across, middle).whiskers(across, low, high).points(across, middle, "dot", 4)
    return drawn.markup("rmse by training rows")


def calibration(promised: Floats, held: Floats, low: Floats, high: Floats) -> Markup:
    """Draw which share of the test rows lies in intervals against the share that they are to hold."""
    drawn = Plot(
        (0.0, 1.0),
        (0.0, 1.0),
        "share that an interval is to hold",
        "share of test rows within it",
        percent=(True, True),
    )
    drawn.curve(np.array([0.0, 1.0]), np.array([0.0, 1.0]), "dash").whiskers(promised, low, high)
    return drawn.points(promised, held, "dot", 4).markup("calibration of the intervals")


def draw_search(path: Path, trials: Sequence[tuple[Mapping[str, str], float, float]], title: str) -> None:
    """Write what cross-validation says of each trial; see `search`."""
    charts = search(trials)
    plot.write(path, plot.beside(charts, [plot.WIDTH] * len(charts), plot.HEIGHT, "a chart a hyperparameter"), title)


def search(trials: Sequence[tuple[Mapping[str, str], float, float]]) -> list[Markup]:
    """Draw what cross-validation says of each trial of a search, a chart for each hyperparameter that was searched.

    Parameters
    ----------
    trials : sequence of (hyperparameters as they were spelled, mean, standard deviation)
        Of the RMSE over the folds; a trial that has diverged is not drawn.
    """
    drawn = [trial for trial in trials if isfinite(trial[1])]
    best = min(drawn, key=lambda trial: trial[1])
    names = list(dict.fromkeys(name for spelled, _, _ in drawn for name in spelled))
    return [_searched(name, [one for one in drawn if name in one[0]], best) for name in names]


def _searched(name: str, own: list[tuple[Mapping[str, str], float, float]], best: Any) -> Markup:
    above, named = "cv rmse ± standard deviation of the folds", f"trials by {name}"
    spelled = [one[0][name] for one in own]
    places = _places(spelled)
    if places is None:
        rows = [Row(text, mean, mean - std, mean + std, is_best=(own_spelled, mean, std) == best)
                for text, (own_spelled, mean, std) in zip(spelled, own, strict=True)]  # fmt: skip
        return plot.rows(rows[: 2 * BARS], f"{above}, by {name}", named, bars=False)
    across, is_log = places
    mean, std = (np.array([one[at] for one in own]) for at in (1, 2))
    ends = (across.min() / 1.5, across.max() * 1.5) if is_log else plot.around(across)
    chart = Plot(ends, plot.around(mean - std, mean + std), name, above, is_log)
    chart.whiskers(across, mean - std, mean + std).points(across, mean, "dot", 4)
    if name in best[0]:
        at = spelled.index(best[0][name])
        chart.points(across[[at]], np.array([best[1]]), "best", 6)
    return chart.markup(named)


def _places(spelled: Sequence[str]) -> tuple[Floats, bool] | None:
    """Return where values belong on an axis, and whether it is a logarithmic one; None where they are words."""
    try:
        numbers = np.array([float(text) for text in spelled])
    except ValueError:
        return None
    return numbers, bool(numbers.min() > 0 and numbers.max() > 30 * numbers.min())


def _chosen(*values: Floats) -> tuple[Floats, ...]:
    step = -(-len(values[0]) // POINTS)
    return tuple(one[::step] for one in values)
