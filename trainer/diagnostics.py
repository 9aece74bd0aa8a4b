"""What a report tells beyond a run's metrics: where the errors are, how honest the intervals, what the columns hold."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import intervals, pipeline, profile

if TYPE_CHECKING:
    from trainer.table import Column, Rows, Table
    from trainer.training import Outcome

# Rows, evenly chosen, that are looked at; of the training rows, that are predicted.
MOST_ROWS, MOST_PREDICTED = 100_000, 2_000
# A value, or a group, of fewer rows is not told apart: it would say something of a row.
FEWEST_ROWS = 5
# For quantiles.
FEWEST_NUMBERS = 20
# Bins of a distribution; values of a column that are its categories; features whose categories are shown.
BINS, MOST_CATEGORIES, MOST_FEATURES = 16, 8, 4
# The most important features, among which those with few values are looked for.
MOST_LOOKED_AT = 50
# Frequent values of a column that are shown, and the columns.
MOST_FREQUENT, MOST_COLUMNS = 3, 100
LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
# Of the normal distribution, for an interval of 95 %.
Z = 1.959964

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """How far off the predictions of some test rows are; `bias` is the mean of predicted minus actual."""

    label: str
    rows: int
    rmse: float
    bias: float


@dataclass(frozen=True)
class Coverage:
    """Which share of rows lies in an interval, and the 95 % interval of that share by Wilson (1927)."""

    label: str
    rows: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """What a column of the training rows holds.

    Attributes
    ----------
    missing : float
        The share of rows without a value.
    distinct : int
    facts : str
        Of numbers and dates, where most of them are.
    shares : ndarray
        Of the rows, in `BINS` bins of the range, or of each of the `BINS` most frequent values.
    frequent : list of (str, float)
        Values of `FEWEST_ROWS` rows or more with their shares.
    """

    name: str
    kind: str
    missing: float
    distinct: int
    facts: str
    shares: Floats
    frequent: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Diagnosis:
    """All that is looked at of a model.

    Attributes
    ----------
    training_rows : int
        How many training rows were predicted for `training_rmse` and `training_mae`.
    held_out_rmse, held_out_mae : float or None
        Of the training rows, each predicted by the fold that held it out.
    levels : list of Coverage
        By the share that an interval is to hold; nothing where there are too few rows.
    coverage : list of Coverage
        Of the interval of predictions, in fifths of the test rows by prediction.
    """

    training_rows: int
    training_rmse: float
    training_mae: float
    held_out_rmse: float | None
    held_out_mae: float | None
    deciles: list[Errors]
    categories: dict[str, list[Errors]]
    levels: list[Coverage]
    coverage: list[Coverage]
    columns: list[Summary]


def look(target: str, table: "Table", outcome: "Outcome") -> Diagnosis:
    """Look at a model and its table; of large ones, at some rows."""
    test = table.test
    step = -(-len(test.target) // MOST_ROWS)
    actual, predicted = test.target[::step], outcome.predicted[::step]
    residuals = outcome.folds.residuals
    trained = _trained(table.training, outcome.model)
    important = [str(name) for name in outcome.importance["feature"]]
    return Diagnosis(
        len(trained),
        _rmse(trained),
        float(np.abs(trained).mean()),
        _rmse(residuals) if len(residuals) else None,
        float(np.abs(residuals).mean()) if len(residuals) else None,
        by_decile(actual, predicted),
        by_category(test.features.iloc[::step], important, actual, predicted, _booleans(table.columns)),
        by_level(residuals, actual - predicted),
        by_prediction(outcome.interval, actual, predicted) if outcome.interval else [],
        summaries(target, table.columns, table.training),
    )


def _trained(rows: "Rows", model: Any) -> Floats:
    step = -(-len(rows.target) // MOST_PREDICTED)
    return rows.target[::step] - pipeline.predict(model, rows.features.iloc[::step])


def _rmse(errors: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def _errors(label: str, actual: Floats, predicted: Floats) -> Errors:
    return Errors(label, len(actual), _rmse(predicted - actual), float(np.mean(predicted - actual)))


def by_decile(actual: Floats, predicted: Floats) -> list[Errors]:
    """Return the errors in tenths of the test rows by target; in fewer parts where there are few rows."""
    parts = min(10, len(actual) // FEWEST_ROWS)
    if parts < 2:
        return []
    edges = np.unique(np.quantile(actual, np.arange(1, parts) / parts))
    places = np.searchsorted(edges, actual, side="right")
    found = []
    for place in np.unique(places):
        own = places == place
        label = f"{short(actual[own].min())} to {short(actual[own].max())}"
        found.append(_errors(label, actual[own], predicted[own]))
    return found if len(found) > 1 else []


def by_category(
    features: pd.DataFrame,
    important: Sequence[str],
    actual: Floats,
    predicted: Floats,
    booleans: Collection[str] = (),
) -> dict[str, list[Errors]]:
    """Return the errors by the values of features that have few, the most important features first."""
    found: dict[str, list[Errors]] = {}
    for name in important[:MOST_LOOKED_AT]:
        codes, values = pd.factorize(features[name])
        if len(values) > MOST_CATEGORIES and features[name].dtype != object:
            continue
        counts = np.bincount(codes + 1, minlength=len(values) + 1)
        order = [place for place in np.argsort(-counts, kind="stable") if counts[place] >= FEWEST_ROWS]
        shown = order[:MOST_CATEGORIES]
        rest = ~np.isin(codes + 1, shown)
        parts = [
            _errors(
                "(missing)" if place == 0 else _value(values[place - 1], name in booleans), actual[own], predicted[own]
            )
            for place in shown
            for own in [codes + 1 == place]
        ]
        if rest.sum() >= FEWEST_ROWS:
            parts.append(_errors("(all others)", actual[rest], predicted[rest]))
        if len(parts) > 1:
            found[name] = parts
        if len(found) == MOST_FEATURES:
            break
    return found


def by_level(residuals: Floats, test_residuals: Floats) -> list[Coverage]:
    """Return how intervals of several widths do; each is made as `intervals.measure` makes that of the model."""
    found = []
    for level in LEVELS.tolist():
        measured = intervals.measure(residuals, test_residuals, level)
        if measured is not None:
            found.append(_coverage(f"{level:.0%}", round(measured.coverage * measured.rows), measured.rows))
        elif found:
            break
    return found if len(found) == len(LEVELS) else []


def by_prediction(interval: intervals.Interval, actual: Floats, predicted: Floats) -> list[Coverage]:
    """Return how the interval of predictions does where they are small, and where they are large."""
    parts = min(5, len(actual) // (2 * FEWEST_ROWS))
    if parts < 2:
        return []
    within = np.abs(actual - predicted) <= interval.half_width
    places = np.array_split(np.argsort(predicted, kind="stable"), parts)
    return [
        _coverage(f"{short(predicted[own[0]])} to {short(predicted[own[-1]])}", int(within[own].sum()), len(own))
        for own in places
    ]


def _coverage(label: str, within: int, rows: int) -> Coverage:
    share, square = within / rows, Z**2 / rows
    middle = (share + square / 2) / (1 + square)
    half = np.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return Coverage(label, rows, share, max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def summaries(target: str, columns: "Sequence[Column]", rows: "Rows") -> list[Summary]:
    """Return what the target and the first `MOST_COLUMNS` features of the training rows hold."""
    step = -(-len(rows.target) // MOST_ROWS)
    features = rows.features.iloc[::step]
    found = [_summary(target, "target", pd.Series(rows.target[::step]))]
    return found + [_summary(column.name, column.kind, features[column.name]) for column in columns[:MOST_COLUMNS]]


def _summary(name: str, kind: str, values: "pd.Series[Any]") -> Summary:
    known = values.dropna()
    missing = 1 - len(known) / max(len(values), 1)
    if kind in ("text", "boolean"):
        counts = known.value_counts()
        shown = counts[counts >= FEWEST_ROWS]
        frequent = [
            (_value(value, kind == "boolean"), count / len(values))
            for value, count in shown.head(MOST_FREQUENT).items()
        ]
        first = counts.to_numpy(dtype=np.float64)[:BINS] / max(len(values), 1)
        return Summary(name, kind, missing, len(counts), "", first, frequent)
    numbers = profile.floats(known)
    if not len(numbers):
        return Summary(name, kind, missing, 0, "", np.zeros(0))
    distinct, times = np.unique(numbers, return_counts=True)
    facts = _middle(numbers, kind) if len(numbers) >= FEWEST_NUMBERS and len(distinct) > 1 else ""
    return Summary(name, kind, missing, len(distinct), facts, _shares(numbers), _repeated(distinct, times, kind))


def _middle(numbers: Floats, kind: str) -> str:
    """Say where most numbers are; the smallest and the largest would each say something of a row."""
    low, middle, high = (_at(one, kind) for one in np.quantile(numbers, [0.05, 0.5, 0.95]).tolist())
    return f"90 % from {low} to {high}, median {middle}"


def _shares(numbers: Floats) -> Floats:
    low, high = float(numbers.min()), float(numbers.max())
    if not high / 2 - low / 2 > 1e-12 * max(abs(low), abs(high)):
        return np.ones(1)
    places = ((numbers / (high - low) - low / (high - low)) * BINS).astype(np.int64)
    return np.bincount(np.clip(places, 0, BINS - 1), minlength=BINS) / len(numbers)


def _repeated(distinct: Floats, counts: npt.NDArray[np.intp], kind: str) -> list[tuple[str, float]]:
    """Return the values that a tenth of the rows or more have."""
    total = counts.sum()
    order = np.argsort(-counts, kind="stable")[:MOST_FREQUENT]
    chosen = [place for place in order if counts[place] >= max(FEWEST_ROWS, total / 10)]
    return [(_at(distinct[place], kind), counts[place] / total) for place in chosen]


def _at(number: float, kind: str) -> str:
    return str(np.datetime64(int(number), "us"))[:10] if kind == "datetime" else short(number)


def _booleans(columns: "Sequence[Column]") -> set[str]:
    return {column.name for column in columns if column.kind == "boolean"}


def _value(value: Any, is_boolean: bool) -> str:
    if is_boolean and value in (0, 1):
        return "true" if value else "false"
    return short(value) if isinstance(value, float) else str(value)


def short(value: float) -> str:
    """Return a number with four digits, or all those of an integer, or before the point."""
    if abs(value) < 1e9 and (abs(value) >= 1e4 or float(value).is_integer()):
        return f"{value:.0f}"
    return f"{value:.4g}"
