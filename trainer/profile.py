"""What the training table was like, column by column: recorded with a model, and held against a new table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from trainer.columns import Kind
    from trainer.table import Column

# Rows, evenly chosen, that quantiles and shares are taken from.
SAMPLED_ROWS = 100_000
# Equally full intervals of a number, and the most frequent values of a text, that shares are recorded of.
BINS, FREQUENT = 10, 20
# Values of a text column that are recorded; of a column with more, nobody can say which are new.
CATEGORIES = 10_000
# Beyond a quarter, the rule of thumb says, two distributions are of different populations ...
UNLIKE = 0.25
# ... if it is not by chance: the probability that one of all columns is told where nothing is the matter.
BY_CHANCE = 0.01
# Stands for no share at all, which has no logarithm.
NO_SHARE = 1e-4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """What one feature was like in training.

    Attributes
    ----------
    low, high : float or None
        The range of a number, or of a date in microseconds since 1970.
    edges : list of float
        Between the intervals of a number or date that `shares` are of.
    categories : list of str
        The values of a text, the most frequent first.
    complete : bool
        Whether `categories` are all; else they are the `FREQUENT` first ones.
    shares : list of float
        Of the rows: in each interval, or of each of the `FREQUENT` first categories, and of all others; the last is
        the share of the missing.
    order : str
        Of day and month, in dates that were text and could have had another: see `dates.Dates`.
    """

    name: str
    kind: "Kind"
    low: float | None = None
    high: float | None = None
    edges: list[float] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    complete: bool = True
    shares: list[float] = field(default_factory=list)
    order: str = ""


def take(
    columns: "Sequence[Column]",
    features: pd.DataFrame,
    target: str,
    key: Sequence[str] = (),
    interval: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what is recorded of a training table; JSON types only.

    Parameters
    ----------
    columns : sequence of Column
    features : DataFrame of shape (n_train, n_features)
    target : str
    key : sequence of str
        The columns that name the group of a row; no features.
    interval : mapping, optional
        Of predictions; from `intervals.Interval.recorded`.
    """
    step = max(-(-len(features) // SAMPLED_ROWS), 1)
    return {
        "target": target,
        "key": list(key),
        "rows": len(features),
        "interval": dict(interval or {}),
        "columns": [vars(_take(column, features[column.name], step)) for column in columns],
    }


def read(training: Mapping[str, Any]) -> dict[str, Profile]:
    """Return what was recorded of each feature; nothing for a model that has no such record."""
    return {column["name"]: Profile(**column) for column in training.get("columns", [])}


def _take(column: "Column", values: "pd.Series[Any]", step: int) -> Profile:
    if column.kind == "text":
        categories = [str(value) for value in values.value_counts().index]
        complete = len(categories) <= CATEGORIES
        own = Profile(
            column.name, column.kind, categories=categories[: None if complete else FREQUENT], complete=complete
        )
        seen = Seen(own)
        seen.add(values.iloc[::step])
        shares = seen.counts
    else:
        own, shares = _take_numbers(column, values, step)
    return replace(own, shares=(shares / max(shares.sum(), 1)).tolist(), order=column.order)


def _take_numbers(column: "Column", values: "pd.Series[Any]", step: int) -> tuple[Profile, npt.NDArray[np.int64]]:
    """Return what a number or date is like, and the rows in each of its intervals."""
    low, high = column.low, column.high
    sampled = floats(values.iloc[::step])
    if low is None or high is None:  # not noted when the table was read
        known = floats(values)
        low, high = np.fmin.reduce(known), np.fmax.reduce(known)
    ordered = np.sort(sampled[np.isfinite(sampled)])
    if not len(ordered):
        return Profile(column.name, column.kind), np.array([0, len(sampled)])
    at = np.floor((len(ordered) - 1) * (np.arange(1, BINS) / BINS)).astype(np.intp)
    edges = np.unique(ordered[at])
    below = [0, *np.searchsorted(ordered, edges), len(ordered), len(sampled)]
    return Profile(column.name, column.kind, float(low), float(high), edges.tolist()), np.diff(below)


def floats(values: "pd.Series[Any]") -> Floats:
    """Return numbers, or dates in microseconds since 1970; nan where one is missing."""
    if values.dtype.kind == "M":
        micros = values.to_numpy(dtype="datetime64[us]")
        return np.where(np.isnat(micros), np.nan, micros.astype(np.int64).astype(np.float64))
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


class Seen:
    """What a feature is like in a new table, as its batches come.

    Attributes
    ----------
    rows, missing, outside, unseen : int
        Rows; those without a value; with a number or date beyond the range of training; with a text that training has
        not seen.
    counts : ndarray
        The rows that `Profile.shares` are of.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.rows = self.missing = self.outside = self.unseen = 0
        bins = len(profile.categories[:FREQUENT]) + 1 if profile.kind == "text" else len(profile.edges) + 1
        self.counts = np.zeros(bins + 1, dtype=np.int64)
        self._categories = pd.Index(profile.categories, dtype=object)

    def add(self, values: "pd.Series[Any]") -> npt.NDArray[np.bool_]:
        """Count a batch, cast as the model takes it; return for each row whether it lies outside of training."""
        gaps = values.isna().to_numpy()
        if self.profile.kind == "text":
            places = self._categories.get_indexer(pd.Index(values, dtype=object))
            strange = (places < 0) & ~gaps & self.profile.complete
            self.unseen += int(strange.sum())
            others = len(self.counts) - 2
            bins = np.where((places < 0) | (places >= others), others, places)
        else:
            numbers = floats(values)
            low, high = self.profile.low, self.profile.high
            strange = (
                np.zeros(len(numbers), dtype=bool)
                if low is None or high is None
                else (numbers < low) | (numbers > high)
            )
            self.outside += int(strange.sum())
            bins = np.searchsorted(self.profile.edges, numbers, side="right")
        bins = np.where(gaps, len(self.counts) - 1, bins)
        self.counts += np.bincount(bins, minlength=len(self.counts))
        self.rows += len(values)
        self.missing += int(gaps.sum())
        return strange

    @property
    def stability_index(self) -> float:
        """The population stability index against training; 0 where the shares are the same."""
        if not self.rows:
            return 0.0
        then = np.maximum(self.profile.shares, NO_SHARE)
        now = np.maximum(self.counts / self.rows, NO_SHARE)
        return float(np.sum((now - then) * np.log(now / then)))


def unlike(seen: Sequence[Seen], rows_in_training: int) -> dict[str, float]:
    """Return the features that are distributed unlike training, the most unlike first, with their stability index.

    Notes
    -----
    Siddiqi, Credit Risk Scorecards (2006). Where both tables are of one population, the index times n m / (n + m) is
    distributed as chi-squared, with one degree of freedom less than there are shares: Yurdakul, Statistical properties
    of population stability index (2018). So a feature is told where its index is large, and too large for chance.
    """
    from scipy.special import chdtri

    found = {}
    for one in seen:
        if one.rows and one.profile.shares and rows_in_training:
            sampled = min(rows_in_training, SAMPLED_ROWS)
            chance = chdtri(len(one.counts) - 1, BY_CHANCE / len(seen)) * (1 / one.rows + 1 / sampled)
            if (index := one.stability_index) > max(UNLIKE, chance):
                found[one.profile.name] = index
    return dict(sorted(found.items(), key=lambda item: -item[1]))
