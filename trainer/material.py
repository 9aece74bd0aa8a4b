"""What the checks look at: the training rows, or some of them where there are many, one array a kind of column."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.profile import floats
from trainer.settings import Settings

if TYPE_CHECKING:
    from trainer.table import Table

# Rows, and values, that are looked at: a check costs the same on a table of any size.
MOST_ROWS, FEWEST_ROWS, MOST_VALUES = 2_000, 200, 400_000
# Names in a sentence.
MOST_NAMES, MOST_LETTERS = 3, 40

# In microseconds; pandas' own differences are wrong beyond the nanoseconds that 64 bits hold, the years 1677 to 2262.
DAY = 86_400e6

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Material:
    """A run that is examined.

    Attributes
    ----------
    names : tuple of str
        Of the numeric features: numbers, integers, booleans and, in days, dates.
    numbers : ndarray of shape (n_sampled, n_numbers)
        Of training rows in a random order; a missing value is nan.
    texts : dict of str to ndarray of shape (n_sampled,)
        Of the same rows, by the text features; a missing value is nan or None.
    target : ndarray of shape (n_sampled,)
    groups : ndarray of shape (n_sampled,) or None
    """

    settings: Settings
    table: "Table"
    metrics: Mapping[str, float]
    predicted: Floats
    names: tuple[str, ...]
    numbers: Floats
    texts: dict[str, npt.NDArray[np.object_]]
    target: Floats
    groups: npt.NDArray[np.uint64] | None

    @property
    def n_rows(self) -> int:
        """How many rows were sampled."""
        return len(self.target)

    def whole(self, name: str) -> Iterator[pd.Series]:
        """Give a feature of all training rows, and of all test rows."""
        for rows in (self.table.training, self.table.test):
            yield rows.features[name]


def gather(settings: Settings, table: "Table", metrics: Mapping[str, float], predicted: Floats) -> Material:
    """Sample the training rows."""
    rows = table.training
    numeric = tuple(column.name for column in table.columns if column.kind != "text")
    texts = [column.name for column in table.columns if column.kind == "text"]
    chosen = sample(len(rows.target), len(table.columns), settings.seed)
    features = rows.features.iloc[chosen]
    return Material(
        settings,
        table,
        metrics,
        predicted,
        numeric,
        matrix(features, numeric),
        {name: features[name].to_numpy(dtype=object) for name in texts},
        rows.target[chosen],
        None if rows.groups is None else rows.groups[chosen],
    )


def sample(n_rows: int, n_columns: int, seed: int) -> npt.NDArray[np.intp]:
    """Choose rows in a random order: all of them, unless they are many."""
    most = min(MOST_ROWS, max(FEWEST_ROWS, MOST_VALUES // max(1, n_columns)))
    rng = np.random.default_rng(seed)
    return rng.permutation(n_rows)[:most] if n_rows <= 10 * most else rng.choice(n_rows, most, replace=False)


def matrix(features: pd.DataFrame, names: tuple[str, ...]) -> Floats:
    """Return numeric features as floats, dates in days; what is not finite is missing."""
    chosen = features[list(names)]
    dates = [str(name) for name, kind in chosen.dtypes.items() if kind.kind == "M"]
    if dates:
        days: dict[str, Any] = {name: floats(chosen[name]) / DAY for name in dates}
        chosen = chosen.assign(**days)
    found = chosen.to_numpy(dtype=np.float64, copy=True) if names else np.empty((len(features), 0))
    found[~np.isfinite(found)] = np.nan
    return found


def known(values: npt.NDArray[Any]) -> list[str]:
    """Return the texts that are not missing."""
    return [str(value) for value in values[~pd.isna(values)]]


def listed(names: list[str]) -> str:
    """Name columns in a sentence, the first few of them."""
    shown = [quoted(name) for name in names[:MOST_NAMES]]
    if len(names) > MOST_NAMES:
        return f"{', '.join(shown)} and {len(names) - MOST_NAMES} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def spelled(names: list[str]) -> str:
    """Spell names as the parameter `drop` takes them; what cannot be typed is a question mark."""
    typed = ["".join(letter if letter.isprintable() else "?" for letter in name) for name in names]
    return ",".join('"' + name.replace('"', '""') + '"' if set(name) & set(',"') else name for name in typed)


def quoted(text: object) -> str:
    """Return a name, or a value, between quotes and on one line, cut where it is long."""
    shown = str(text)
    return repr(shown if len(shown) <= MOST_LETTERS else f"{shown[: MOST_LETTERS - 3]}...")
