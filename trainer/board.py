"""A board of estimators: each as it comes, on the same folds, with what it costs; and the best of them."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from trainer import bootstrap, comparison, figures, pieces, pipeline, plot, settings, tracking, training, trials
from trainer.card import figure
from trainer.comparison import Gain
from trainer.errors import UserError, disk_errors
from trainer.markup import Markup, element, together
from trainer.plot import Row
from trainer.settings import Settings
from trainer.table import Table
from trainer.training import Fitted
from trainer.trials import Score, Trial

# Training rows that are predicted to see how long it takes; the board tells the time of a thousand.
MOST_TIMED, TOLD_ROWS = 2_000, 1_000


@dataclass(frozen=True)
class Entry:
    """An estimator on the board.

    Attributes
    ----------
    interval : (float, float) or None
        Of the RMSE of all rows that the folds have held out, at `bootstrap.CONFIDENCE`.
    fit_seconds : float
        On all training rows.
    predict_seconds : float
        For `TOLD_ROWS` rows.
    size : int
        Bytes of the fitted model, pickled.
    fitted : Fitted or None
        None once a better one has been found.
    """

    score: Score
    interval: tuple[float, float] | None
    fit_seconds: float
    predict_seconds: float
    size: int
    fitted: Fitted | None = None

    @property
    def name(self) -> str:
        """The estimator."""
        return self.score.trial.settings.estimator

    @property
    def metrics(self) -> dict[str, float]:
        """What its child run logs."""
        bounds = dict(zip(("cv_rmse_low", "cv_rmse_high"), self.interval, strict=True)) if self.interval else {}
        costs = {"fit_seconds": self.fit_seconds, "predict_seconds": self.predict_seconds, "model_bytes": self.size}
        return self.score.folds.metrics | bounds | costs


def plan(given: Mapping[str, str]) -> list[Trial]:
    """Check the parameters, and return a trial for each estimator."""
    named = settings.values(settings.COMPARE, given)["estimators"]
    common = settings.defaults()
    common |= {name: text for name, text in given.items() if name in common}
    drawn = [
        Trial(name, settings.read(common | {"estimator": name}), {"estimator": name, "scaling": common["scaling"]})
        for name in named
    ]
    trials.check(drawn)
    return drawn


def measure(run: tracking.Run, trial: Trial, table: Table, source: str) -> Entry:
    """Cross-validate an estimator, fit it on all training rows, and log it as a child run."""
    found: list[Entry] = []

    def cost(score: Score) -> dict[str, float]:
        found.append(_entry(score, table))
        return found[0].metrics

    trials.score(run, trial, table, source, cost)
    return found[0]


def _entry(score: Score, table: Table) -> Entry:
    asked, rows = score.trial.settings, table.training
    fitted = training.fit(asked, table, score.folds)
    step = -(-len(rows.target) // MOST_TIMED)
    timed = rows.features.iloc[::step]
    pipeline.predict(fitted.model, timed.iloc[:1])  # what is done but once
    started = perf_counter()
    pipeline.predict(fitted.model, timed)
    seconds = (perf_counter() - started) * TOLD_ROWS / len(timed)
    interval = None
    if isfinite(score.rmse):
        residuals, groups = score.folds.residuals, _groups(score, table)
        interval = bootstrap.rmse_interval(residuals, np.zeros(len(residuals)), groups, asked.seed)
    size = len(pickle.dumps(fitted.model, protocol=pickle.HIGHEST_PROTOCOL))
    return Entry(score, interval, fitted.metrics["fit_seconds"], seconds, size, fitted)


def _groups(score: Score, table: Table) -> "np.ndarray[tuple[int], np.dtype[np.uint64]] | None":
    groups = table.training.groups
    return None if groups is None else groups[:: score.folds.step]


@dataclass(frozen=True)
class Board:
    """Entries, the best first, and how far the others are behind on the same rows."""

    entries: tuple[Entry, ...]
    behind: tuple[Gain | None, ...]

    @property
    def best(self) -> Entry:
        """The first one."""
        return self.entries[0]

    def lines(self) -> list[str]:
        """Return the board for a screen."""
        wide = max(len(entry.name) for entry in self.entries)
        return [
            f"{place}  {entry.name:<{wide}}  cv rmse {_rmse(entry)}  fit {_seconds(entry.fit_seconds)}  "
            f"predict {_seconds(entry.predict_seconds)}  {_size(entry.size)}  {_behind(gain)}".rstrip()
            for place, (entry, gain) in enumerate(zip(self.entries, self.behind, strict=True), 1)
        ]

    def markup(self, target: str) -> Markup:
        """Return the board for the report."""
        head = ["estimator", "cv rmse", "behind the best", "fit", f"predict {TOLD_ROWS} rows", "size"]
        rows = [
            [
                element("b", entry.name) if gain is None else together(entry.name),
                together(figure(entry.score.rmse), _bounds(entry))
                if isfinite(entry.score.rmse)
                else together("diverged"),
                together(_behind(gain).removeprefix("behind by ")),
                *(element("span", one) for one in (_seconds(entry.fit_seconds), _seconds(entry.predict_seconds))),
                element("span", _size(entry.size)),
            ]
            for entry, gain in zip(self.entries, self.behind, strict=True)
        ]
        said = (
            "Each estimator with its own defaults, on the same folds of the training rows. Whiskers and brackets are "
            "95 % intervals; where that of the distance to the best reaches zero, it may be chance."
        )
        return pieces.section(
            "The estimators", pieces.charts(pieces.chart(self.picture(target), said)), pieces.table(head, rows)
        )

    def picture(self, target: str) -> Markup:
        """Draw what cross-validation says of each estimator."""
        rows = []
        for place, entry in enumerate(self.entries):
            low, high = entry.interval or (None, None)
            if isfinite(entry.score.rmse):
                rows.append(Row(entry.name, entry.score.rmse, low, high, figure(entry.score.rmse), place == 0))
        return plot.rows(rows, f"cv rmse (95 % interval), in units of {target}", "the estimators", bars=False)


def rank(entries: Sequence[Entry], table: Table) -> Board:
    """Sort entries by cross-validation, the first of equal ones first, and compare the others with the best."""
    ranked = sorted(entries, key=lambda entry: entry.score.rmse)
    best = ranked[0].score
    if not isfinite(best.rmse):
        raise UserError(
            "every estimator has diverged", "look at the table's largest numbers, or leave columns out: drop=A,B"
        )
    nothing, groups = np.zeros(len(best.folds.residuals)), _groups(best, table)
    behind = [
        comparison.measure(nothing, entry.score.folds.residuals, best.folds.residuals, groups, best.trial.settings.seed)
        if isfinite(entry.score.rmse)
        else None
        for entry in ranked[1:]
    ]
    return Board(tuple(ranked), (None, *behind))


def add(entries: Sequence[Entry], entry: Entry) -> list[Entry]:
    """Return entries with one more; the best so far alone keeps its model, which takes memory."""
    best = min([*entries, entry], key=lambda one: one.score.rmse)
    return [one if one is best else replace(one, fitted=None) for one in (*entries, entry)]


def log_picture(run: tracking.Run, board: Board, asked: Settings, title: str) -> None:
    """Log figures/estimators.svg."""
    with (
        disk_errors("write a figure to the temporary folder", "free some space there, or set TMPDIR to another disk"),
        TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
    ):
        picture = Path(scratch) / figures.FOLDER / "estimators.svg"
        picture.parent.mkdir()
        plot.write(picture, board.picture(asked.target), title)
        tracking.log_folder(run, Path(scratch))


def of_search(scores: Sequence[Score], best: Score) -> Markup:
    """Return what a search has shown, for the report."""
    drawn = [(s.trial.params, s.folds.metrics["cv_rmse_mean"], s.folds.metrics["cv_rmse_std"]) for s in scores]
    said = f"{len(scores)} trials of {best.trial.settings.estimator} on the same folds; the best is {best.trial.name}."
    charts = [pieces.chart(one, said) for one in figures.search(drawn)]
    return pieces.section("The search", pieces.charts(*charts))


def _rmse(entry: Entry) -> str:
    if not isfinite(entry.score.rmse):
        return "nan (diverged)"
    return f"{figure(entry.score.rmse)} {_bounds(entry, '95 % ')}".rstrip()


def _bounds(entry: Entry, level: str = "") -> str:
    return f" ({level}{entry.interval[0]:.4g} to {entry.interval[1]:.4g})" if entry.interval else ""


def _behind(gain: Gain | None) -> str:
    if gain is None:
        return ""
    chance = "" if gain.is_proven else ", may be chance"
    return f"behind by {gain.rmse:.3g} ({gain.low:.3g} to {gain.high:.3g}{chance})"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.0f} s"


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
