"""Is a model better than the champion, and may they be compared? Both score the same test rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainer import bootstrap, claims, model_folder, registry
from trainer.errors import UnreachableError, UserError
from trainer.readers import NONE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from trainer.table import Rows

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
    """A version that has just been registered, with its test rows and its predictions for them.

    `kinds` says by feature what it was in training: a row hashes by its values, and ``1`` is another than ``"1"``.
    """

    name: str
    version: str
    tags: Mapping[str, str]
    kinds: Mapping[str, str]
    test: "Rows"
    predicted: Floats
    seed: int


@dataclass(frozen=True)
class Comparison:
    """A verdict, the champion that it is about, and what the champion predicted for the test rows.

    `settled` are the claims of other runs, by version, when the comparison began: before the champion was looked up.
    """

    verdict: Verdict
    champion: str
    by_champion: Floats | None = None
    settled: Mapping[str, str] = field(default_factory=dict)


def against_champion(client: "MlflowClient", challenger: Challenger) -> Comparison:
    """Compare a version with the champion; nothing is promoted here."""
    settled = claims.read(registry.versions(client, challenger.name))
    champion = registry.find_champion(client, challenger.name)
    if champion.version is None:
        why = f": {champion.remark}" if champion.remark else ""
        first = "the first champion" if not why else "the champion now"
        verdict = Verdict(True, f"version {challenger.version} is {first}{why}")
        return Comparison(verdict, champion.number, settled=settled)
    return replace(against(challenger, champion.version), settled=settled)


def against(challenger: Challenger, champion: "ModelVersion") -> Comparison:
    """Compare a version with another one, which stays where they cannot be compared."""
    number, test = str(champion.version), challenger.test
    theirs = f"version {challenger.version} cannot be compared with the champion, version {number}, which stays"
    uri = f"models:/{challenger.name}/{number}"
    try:
        with registry.fetched(uri) as folder:
            model = model_folder.load(folder, name=uri)
        if reason := incomparable(challenger.tags, champion.tags, challenger.kinds, model.kinds):
            return Comparison(Verdict(False, f"{theirs}: {reason}{_replace(challenger)}"), number)
        by_champion = model_folder.predict(model, test.features)
    except UnreachableError:
        raise
    except UserError as error:
        return Comparison(Verdict(False, f"{theirs}: {error.cause}{_replace(challenger)}"), number)
    gain = measure(test.target, by_champion, challenger.predicted, test.groups, challenger.seed)
    return Comparison(judge(challenger.version, number, gain), number, by_champion)


def _replace(challenger: Challenger) -> str:
    return f"; to replace it: {registry.replace_command(challenger.name, challenger.version)}"


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


def incomparable(
    challenger: Mapping[str, str],
    champion: Mapping[str, str],
    kinds: Mapping[str, str],
    its_kinds: Mapping[str, str],
) -> str:
    """Say why two versions cannot be compared fairly; empty where they can.

    With the stable split, the same share of test rows and the same key, a test row of one is a training row of
    neither. Where each row stands for itself, its features decide: then they must be the same, and of the same kinds.
    With a split by time, the challenger's test rows must be later than all that the champion has trained on.

    Parameters
    ----------
    challenger, champion : mapping of str to str
        The tags of the versions: ``split``, ``test_fraction``, ``key``, ``target``, and ``time_cut``.
    kinds, its_kinds : mapping of str to str
        By feature, of the challenger and of the champion.
    """
    if champion.get("split", "unknown") == challenger["split"] == "time":
        compared: tuple[str, ...] = ("target", "time")
    else:
        compared = ("target", "split", "key", "test_fraction")
    for name in compared:
        its, own = champion.get(name, "unknown"), challenger.get(name, "unknown")
        if not _is_same(name, its, own):
            return f"its {name} is {its}, and here it is {own}"
    if challenger["split"] == "random":
        return "with split=random it may have trained on the test rows"
    if missing := sorted(its_kinds.keys() - kinds.keys()):
        return f"it needs the feature {missing[0]}, which is not in this table"
    if changed := sorted(name for name, kind in its_kinds.items() if _family(kind) != _family(kinds[name])):
        return f"its feature {changed[0]} is {its_kinds[changed[0]]}, and here it is {kinds[changed[0]]}"
    if challenger["split"] == "time":
        its, own = champion.get("time_cut", ""), challenger.get("time_cut", "")
        return (
            "" if its and _is_before(its, own) else f"it has trained on rows up to {its or 'a time that is not known'}"
        )
    extra = sorted(kinds.keys() - its_kinds.keys())
    if extra and challenger["key"] == NONE:
        return (
            f"it does not know the feature {extra[0]}, and without a key the features decide which rows are test rows"
        )
    return ""


def _is_same(name: str, its: str, own: str) -> bool:
    if name == "key":
        return sorted(its.split(",")) == sorted(own.split(","))
    if name == "test_fraction" and its != "unknown":
        return float(its) == float(own)
    return its == own


def _is_before(its: str, own: str) -> bool:
    """Whether one cut is not later than another: dates in ISO's form, or numbers."""
    try:
        return float(its) <= float(own)
    except ValueError:
        return its <= own


def _family(kind: str) -> str:
    """Return what a row's hash goes by: numbers of any type are alike, and differ from text."""
    return "number" if kind in ("number", "integer", "boolean") else kind


def judge(version: str, champion: str, gain: Gain) -> Verdict:
    """Tell in one sentence what a comparison means: only a gain beyond chance makes a champion."""
    if gain.rmse == gain.low == gain.high == 0:
        return Verdict(False, f"version {version} predicts the same as version {champion}, which stays", gain)
    side = f"{abs(gain.rmse):.4f} {'better' if gain.rmse >= 0 else 'worse'}"
    measured = (
        f"rmse {gain.challenger_rmse:.4f} against {gain.champion_rmse:.4f} on the same {gain.rows} test rows, "
        f"{side} ({bootstrap.CONFIDENCE:.0%} interval of the gain {gain.low:.4f} to {gain.high:.4f})"
    )
    if gain.is_proven:
        return Verdict(True, f"version {version} is better than version {champion}: {measured}", gain)
    if gain.high < 0:
        return Verdict(False, f"version {version} is worse than version {champion}, which stays: {measured}", gain)
    why = "a tie" if gain.units >= FEWEST_UNITS else f"too few rows to tell ({gain.units}; {FEWEST_UNITS} are needed)"
    return Verdict(False, f"{why}: version {champion} stays, version {version} is registered: {measured}", gain)
