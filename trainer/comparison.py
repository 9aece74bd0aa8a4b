"""Is a model better than the champion, and may they be compared? Both score the same test rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer import bootstrap, model_folder, registry, report, tracking
from trainer.errors import UnusableModelError
from trainer.loading import Rows

# Below this many rows (or groups) an interval says little, however it is computed.
FEWEST_UNITS = 30

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gain:
    """How much better the challenger is than the champion, on the same rows.

    Attributes
    ----------
    rows : int
    champion_rmse, challenger_rmse : float
        In the unit of the target.
    low, high : float
        The bootstrap interval of ``champion_rmse - challenger_rmse``, at `bootstrap.CONFIDENCE`.
    units : int
        Rows, or groups, that the interval rests on.
    """

    rows: int
    champion_rmse: float
    challenger_rmse: float
    low: float
    high: float
    units: int

    @property
    def rmse(self) -> float:
        """The RMSE that the challenger saves; negative where it is worse."""
        return self.champion_rmse - self.challenger_rmse

    @property
    def is_proven(self) -> bool:
        """Whether the whole interval lies above zero, and rests on enough rows."""
        return self.low > 0 and self.units >= FEWEST_UNITS

    @property
    def metrics(self) -> dict[str, float]:
        """What a run logs of it."""
        return {
            "champion_rmse": self.champion_rmse,
            "gain_rmse": self.rmse,
            "gain_low": self.low,
            "gain_high": self.high,
        }


@dataclass(frozen=True)
class Verdict:
    """What came of the comparison.

    Attributes
    ----------
    promoted : bool
        Whether the challenger is to be the champion.
    sentence : str
    gain : Gain or None
        None where nothing was compared.
    """

    promoted: bool
    sentence: str
    gain: Gain | None = None


@dataclass(frozen=True)
class Challenger:
    """A version that has just been registered, with its test rows and its predictions for them."""

    name: str
    version: str
    tags: dict[str, str]
    test: Rows
    predicted: Floats


def against_champion(run: tracking.Run, challenger: Challenger, seed: int) -> Verdict:
    """Compare a version with the champion, and log the comparison; nothing is promoted here."""
    version, test = challenger.version, challenger.test
    late = registry.turn(run.client, challenger.name, version)
    champion = registry.champion(run.client, challenger.name)
    if late:
        return Verdict(False, f"version {version} was not compared: {late}")
    if champion is None:
        return Verdict(True, f"version {version} is the first champion")
    theirs = f"version {version} cannot be compared with the champion, version {champion.version}, which stays"
    try:
        with registry.fetched(f"models:/{challenger.name}/{champion.version}") as folder:
            model = model_folder.load(folder, name=f"version {champion.version}")
        own, its = list(test.features.columns), model_folder.feature_names(model)
        if reason := unfair(challenger.tags, champion.tags, own, its):
            return Verdict(False, f"{theirs}: {reason}")
        by_champion = model_folder.predict(model, test.features)
    except UnusableModelError as error:
        return Verdict(False, f"{theirs}: {error.cause}")
    gain = measure(test.target, by_champion, challenger.predicted, test.groups, seed)
    _draw(run, f"version {version} against the champion, version {champion.version}", test, by_champion, challenger)
    return judge(version, str(champion.version), gain)


def _draw(run: tracking.Run, title: str, test: Rows, by_champion: Floats, challenger: Challenger) -> None:
    with TemporaryDirectory() as scratch:
        picture = Path(scratch) / report.FIGURES / "against_champion.png"
        picture.parent.mkdir()
        report.draw_comparison(picture, test.target, by_champion, challenger.predicted, title)
        tracking.log_folder(run, Path(scratch))


def measure(
    actual: Floats, by_champion: Floats, by_challenger: Floats, groups: npt.NDArray[Any] | None, seed: int
) -> Gain:
    """Bootstrap the difference of two models' RMSEs over the rows that both have predicted.

    The squared errors of a row are drawn in pairs, so that what is hard for both models cancels out; the percentile
    interval of the RMSEs' difference lies above zero exactly where that of the mean difference of squared errors
    does. Rows of one group are drawn together. See `scipy.stats.bootstrap`; Efron and Tibshirani, An Introduction
    to the Bootstrap (1993), chapters 8 and 13.

    Parameters
    ----------
    actual, by_champion, by_challenger : ndarray of shape (n_rows,)
        In the unit of the target.
    groups : ndarray of shape (n_rows,) or None
        Which group a row belongs to.
    seed : int
    """
    errors = np.stack([(actual - by_champion) ** 2, (actual - by_challenger) ** 2])
    sums = bootstrap.sums(errors, groups, seed)

    def difference(champion: Floats, challenger: Floats, rows: Floats) -> Floats:
        lost: Floats = np.sqrt(champion / rows) - np.sqrt(challenger / rows)
        return lost

    low = high = 0.0
    if not np.array_equal(by_champion, by_challenger) and sums.shape[1] > 1:
        low, high = bootstrap.interval(sums, difference, seed)
    champion_rmse, challenger_rmse = (float(np.sqrt(mean)) for mean in errors.mean(axis=1))
    return Gain(len(actual), champion_rmse, challenger_rmse, low, high, sums.shape[1])


def unfair(
    challenger: Mapping[str, str], champion: Mapping[str, str], columns: Sequence[str], its_columns: Sequence[str]
) -> str:
    """Say why two versions cannot be compared fairly; empty where they can.

    With the stable split, the same share of test rows and the same key, a test row of one is a training row of
    neither. Where each row stands for itself, its features decide: then they must be the same.

    Parameters
    ----------
    challenger, champion : mapping of str to str
        The tags of the versions: ``split``, ``test_fraction``, ``key`` and ``target``.
    columns, its_columns : sequence of str
        The features of the challenger, and of the champion.
    """
    for name in ("target", "split", "key", "test_fraction"):
        its, own = champion.get(name, "unknown"), challenger[name]
        if its != own and not (name == "test_fraction" and its != "unknown" and float(its) == float(own)):
            return f"its {name} is {its}, and here it is {own}"
    if challenger["split"] != "stable":
        return "with split=random it may have trained on the test rows"
    if missing := sorted(set(its_columns) - set(columns)):
        return f"it needs the feature {missing[0]}, which is not in this table"
    extra = sorted(set(columns) - set(its_columns))
    if extra and challenger["key"] == "none":
        return (
            f"it does not know the feature {extra[0]}, and without a key the features decide which rows are test rows"
        )
    return ""


def judge(version: str, reigning: str, gain: Gain) -> Verdict:
    """Tell in one sentence what a comparison means: only a gain that is proved makes a champion.

    Parameters
    ----------
    version, reigning : str
        The version of the challenger, and of the champion.
    gain : Gain
    """
    measured = (
        f"rmse {gain.challenger_rmse:.4f} against {gain.champion_rmse:.4f} on the same {gain.rows} test rows, "
        f"a gain of {gain.rmse:.4f} ({bootstrap.CONFIDENCE:.0%} interval {gain.low:.4f} to {gain.high:.4f})"
    )
    if gain.is_proven:
        return Verdict(
            True, f"version {version} is better than version {reigning} and takes its place: {measured}", gain
        )
    if gain.high < 0:
        return Verdict(False, f"version {version} is worse than version {reigning}, which stays: {measured}", gain)
    why = "a tie" if gain.units >= FEWEST_UNITS else f"too few rows to tell ({gain.units}; {FEWEST_UNITS} are needed)"
    return Verdict(False, f"{why}: version {reigning} stays, version {version} is registered: {measured}", gain)
