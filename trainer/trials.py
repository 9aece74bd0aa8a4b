"""Several settings on the same folds: one child run each, and the best of them by cross-validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

from trainer import figures, tracking, training
from trainer.errors import UserError, disk_errors
from trainer.evaluation import Folds
from trainer.settings import CV_FOLDS, Settings
from trainer.table import Table


@dataclass(frozen=True)
class Trial:
    """Settings, the name of their child run, and in what they differ from the others."""

    name: str
    settings: Settings
    params: dict[str, str]

    def __str__(self) -> str:
        return " ".join(f"{name}={text}" for name, text in self.params.items())


@dataclass(frozen=True)
class Score:
    """What cross-validation says of a trial, and how many CPU seconds it took."""

    trial: Trial
    folds: Folds
    seconds: float

    @property
    def rmse(self) -> float:
        """The mean over the folds; infinite where a fold has diverged."""
        mean = self.folds.metrics["cv_rmse_mean"]
        return mean if isfinite(mean) else inf


def check(trials: Sequence[Trial]) -> None:
    """Refuse trials that nothing could compare."""
    if trials[0].settings.cv == 0:
        raise _no_folds("cv=0")


def score(
    run: tracking.Run,
    trial: Trial,
    table: Table,
    source: str,
    more: Callable[["Score"], Mapping[str, float]] = lambda _: {},
) -> Score:
    """Cross-validate the model of a trial, and log it as a child run, with `more` metrics."""
    with tracking.child_run(run, trial.name, trial.params, source) as child:
        started = process_time()
        folds = training.cross_validate(trial.settings, table)
        seconds = process_time() - started
        if not folds.metrics:
            raise _no_folds(f"cv=auto makes none of {len(table.training.target)} rows")
        found = Score(trial, folds, seconds)
        tracking.log(child, metrics={**folds.metrics, **more(found)})
    return found


def best(scores: Sequence[Score], where: str) -> Score:
    """Return the best score, the first of equal ones; `where` says what to change if every trial has diverged."""
    found = min(scores, key=lambda one: one.rmse)
    if not isfinite(found.rmse):
        raise UserError("every trial has diverged", f"search smaller values than those of {where}")
    return found


def log_picture(run: tracking.Run, scores: Sequence[Score], title: str) -> None:
    """Log figures/search.svg: what cross-validation says of each trial against each hyperparameter."""
    drawn = [(s.trial.params, s.folds.metrics["cv_rmse_mean"], s.folds.metrics["cv_rmse_std"]) for s in scores]
    with (
        disk_errors("write a figure to the temporary folder", "free some space there, or set TMPDIR to another disk"),
        TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
    ):
        picture = Path(scratch) / figures.FOLDER / "search.svg"
        picture.parent.mkdir()
        figures.draw_search(picture, drawn, title)
        tracking.log_folder(run, Path(scratch))


def _no_folds(why: str) -> UserError:
    return UserError(f"models are compared by cross-validation, and {why}", f"give cv={CV_FOLDS}, say")
