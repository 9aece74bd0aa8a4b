"""Is a model better than the champion? Both are measured on the same rows, which neither has trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
RESAMPLES = 9_999
# Below this many rows (or entities) an interval says little, however it is computed.
FEWEST_UNITS = 30
# Above this many, rows are summed in as many blocks: the interval stays, its cost does not grow.
MOST_UNITS = 2_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gain:
    """How much better the candidate is than the champion, on the same rows.

    Attributes
    ----------
    rows : int
    champion_rmse, candidate_rmse : float
        In the unit of the target.
    low, high : float
        The bootstrap interval of ``champion_rmse - candidate_rmse``, at `CONFIDENCE`.
    units : int
        Rows, or entities, that the interval rests on.
    """

    rows: int
    champion_rmse: float
    candidate_rmse: float
    low: float
    high: float
    units: int

    @property
    def rmse(self) -> float:
        """The RMSE that the candidate saves; negative where it is worse."""
        return self.champion_rmse - self.candidate_rmse

    @property
    def is_proved(self) -> bool:
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
        Whether the candidate is to be the champion.
    sentence : str
    gain : Gain or None
        None where nothing was compared.
    """

    promoted: bool
    sentence: str
    gain: Gain | None = None


def measure(
    actual: Floats, by_champion: Floats, by_candidate: Floats, entities: npt.NDArray[Any] | None, seed: int
) -> Gain:
    """Bootstrap the difference of two models' RMSEs over the rows that both have predicted.

    The squared errors of a row are drawn in pairs, so that what is hard for both models cancels out; the percentile
    interval of the RMSEs' difference lies above zero exactly where that of the mean difference of squared errors
    does. Rows of one entity are drawn together. See `scipy.stats.bootstrap`; Efron and Tibshirani, An Introduction
    to the Bootstrap (1993), chapters 8 and 13.

    Parameters
    ----------
    actual, by_champion, by_candidate : ndarray of shape (n_rows,)
        In the unit of the target.
    entities : ndarray of shape (n_rows,) or None
        Which entity a row belongs to.
    seed : int
    """
    from scipy.stats import bootstrap

    errors = np.stack([(actual - by_champion) ** 2, (actual - by_candidate) ** 2, np.ones_like(actual)])
    sums = _sum_by(errors, _units(len(actual), entities, seed))

    def rmse_difference(champion: Floats, candidate: Floats, rows: Floats, axis: int = -1) -> Floats:
        count = rows.sum(axis=axis)
        difference: Floats = np.sqrt(champion.sum(axis=axis) / count) - np.sqrt(candidate.sum(axis=axis) / count)
        return difference

    low = high = 0.0
    if not np.array_equal(by_champion, by_candidate) and sums.shape[1] > 1:
        interval = bootstrap(
            tuple(sums),
            rmse_difference,
            n_resamples=RESAMPLES,
            batch=max(1, 2_000_000 // sums.shape[1]),
            paired=True,
            vectorized=True,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    champion_rmse, candidate_rmse = (float(np.sqrt(mean)) for mean in errors[:2].mean(axis=1))
    return Gain(len(actual), champion_rmse, candidate_rmse, low, high, sums.shape[1])


def unfair(
    candidate: Mapping[str, str], champion: Mapping[str, str], columns: Sequence[str], its_columns: Sequence[str]
) -> str:
    """Say why two versions cannot be compared fairly; empty where they can.

    With the stable split, the same share of test rows and the same key, a test row of one is a training row of
    neither. Where each row stands for itself, its features decide: then they must be the same.

    Parameters
    ----------
    candidate, champion : mapping of str to str
        The tags of the versions: ``split``, ``test_fraction``, ``key`` and ``target``.
    columns, its_columns : sequence of str
        The features of the candidate, and of the champion.
    """
    for name in ("target", "split", "key", "test_fraction"):
        its, own = champion.get(name, "unknown"), candidate[name]
        if its != own and not (name == "test_fraction" and its != "unknown" and float(its) == float(own)):
            return f"its {name} is {its}, and here it is {own}"
    if candidate["split"] != "stable":
        return "with split=random it may have trained on the test rows"
    if missing := sorted(set(its_columns) - set(columns)):
        return f"it needs the feature {missing[0]}, which is not in this table"
    extra = sorted(set(columns) - set(its_columns))
    if extra and candidate["key"] == "none":
        return (
            f"it does not know the feature {extra[0]}, and without a key the features decide which rows are test rows"
        )
    return ""


def judge(version: str, reigning: str, gain: Gain) -> Verdict:
    """Tell in one sentence what a comparison means: only a gain that is proved makes a champion.

    Parameters
    ----------
    version, reigning : str
        The version of the candidate, and of the champion.
    gain : Gain
    """
    measured = (
        f"rmse {gain.candidate_rmse:.4f} against {gain.champion_rmse:.4f} on the same {gain.rows} test rows, "
        f"a gain of {gain.rmse:.4f} ({CONFIDENCE:.0%} interval {gain.low:.4f} to {gain.high:.4f})"
    )
    if gain.is_proved:
        return Verdict(
            True, f"version {version} is better than version {reigning} and takes its place: {measured}", gain
        )
    if gain.high < 0:
        return Verdict(False, f"version {version} is worse than version {reigning}, which stays: {measured}", gain)
    why = "a tie" if gain.units >= FEWEST_UNITS else f"too few rows to tell ({gain.units}; {FEWEST_UNITS} are needed)"
    return Verdict(False, f"{why}: version {reigning} stays, version {version} is registered: {measured}", gain)


def _units(n_rows: int, entities: npt.NDArray[Any] | None, seed: int) -> npt.NDArray[np.intp]:
    """Number what is drawn as one: rows, entities, or blocks of either where there are very many."""
    codes = np.arange(n_rows) if entities is None else np.unique(entities, return_inverse=True)[1]
    count = int(codes.max()) + 1
    if count > MOST_UNITS:
        block = np.random.default_rng(seed).permutation(count) % MOST_UNITS
        codes = block[codes]
    return np.asarray(codes, dtype=np.intp)


def _sum_by(values: Floats, codes: npt.NDArray[np.intp]) -> Floats:
    return np.stack([np.bincount(codes, weights=row) for row in values])
