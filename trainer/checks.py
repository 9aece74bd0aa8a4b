"""What a senior colleague would remark on: what works, and is probably not what was meant.

Each check is an entry of `CHECKS`, from which the README's table is written. A check that cries wolf is not read the
third time: their thresholds are those at which few of several hundred published tables have a remark that is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainer import column_checks, row_checks
from trainer.card import figure, plain
from trainer.errors import Remark
from trainer.material import Material, gather
from trainer.settings import Settings

if TYPE_CHECKING:
    from trainer.search import Search
    from trainer.table import Table

# How near to the end of a distribution, in shares of its probability, a best value counts as lying on its edge.
EDGE = 0.05


@dataclass(frozen=True)
class Described:
    """One thing to remark on: how it is found, why it matters, what to do."""

    code: str
    detected: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Check(Described):
    """What a run is examined for; `find` says it, or nothing."""

    find: Callable[[Material], str]


def is_worthless(metrics: Mapping[str, float]) -> str:
    """Say that a model is no better than the mean, and is to be no champion; empty where it is better."""
    rmse, baseline = metrics["rmse"], metrics["baseline_rmse"]
    if rmse < baseline * (1 - 1e-9):
        return ""
    return f"its rmse of {figure(rmse)} is no better than the mean predictor's {figure(baseline)}"


def examine(
    settings: Settings, table: "Table", metrics: Mapping[str, float], predicted: npt.NDArray[np.float64]
) -> tuple[Remark, ...]:
    """Return what is to be remarked on: what reading the table has, then what the checks find, one a code.

    Parameters
    ----------
    settings : Settings
    table : Table
    metrics : mapping
        Of the test rows, of cross-validation where there was one, ``rows_train`` and ``rows_test``.
    predicted : ndarray of shape (n_test,)
    """
    material = gather(settings, table, metrics, predicted)
    with np.errstate(all="ignore"):  # of sizes near the largest float: the check then finds nothing
        found = [Remark(check.code, plain(text)) for check in CHECKS if (text := check.find(material))]
    return (*table.remarks, *found)


def search_edge(search: "Search", best: Mapping[str, str]) -> tuple[Remark, ...]:
    """Remark on a best trial whose hyperparameters lie on the edge of what was searched."""
    found = []
    for name, values in search.space.items():
        if name not in best:
            continue
        side = _side(values, best[name])
        if side and not (name == "l1_ratio" and float(best[name]) in (0.0, 1.0)):
            words = ("smallest", "smaller") if side < 0 else ("largest", "larger")
            told = f"the best {name}, {best[name]}, is the {words[0]} searched: try {words[1]} ones"
            found.append(Remark(SEARCH_EDGE.code, told))
    return tuple(found)


def _side(values: Any, best: str) -> int:
    """Return -1 for the lower edge, 1 for the upper one, 0 for neither, or where there is no order."""
    try:
        value = float(best)
        if not isinstance(values, Sequence):
            share = float(values.cdf(value))
            return -1 if share < EDGE else 1 if share > 1 - EDGE else 0
        numbers = sorted({float(one) for one in values})
    except (TypeError, ValueError):
        return 0
    if len(numbers) < 3:
        return 0
    return -1 if value == numbers[0] else 1 if value == numbers[-1] else 0


def _no_better_than_mean(material: Material) -> str:
    said = is_worthless(material.metrics)
    return f"the model is not worth using: {said}" if said else ""


CHECKS: tuple[Check, ...] = (
    Check(
        "no_better_than_mean",
        "rmse is at least that of predicting the training rows' mean",
        "the model knows nothing of the target; such a version is registered, and never champion",
        "other features, another estimator, more rows",
        _no_better_than_mean,
    ),
    Check(
        "one_value",
        "all predictions of the test rows are one number",
        "the model has learnt nothing but the mean",
        "a smaller `alpha`; for hist_gradient_boosting at least 40 rows",
        row_checks.one_value,
    ),
    Check(
        "leak",
        "one feature alone predicts 95 % of the target's variance (a text: 99 %), and the model hardly more",
        "it may be known only after the target is, or be computed from it: the model then fails in use",
        "ask where the column comes from; `drop=COLUMN`",
        column_checks.leak,
    ),
    Check(
        "copy",
        "a feature equals another in every row, or is the target times a constant plus another",
        "a copy of the target gives the answer away; one of a feature shares its weight and its importance",
        "`drop=COLUMN`",
        column_checks.copy,
    ),
    Check(
        "constant",
        "a feature has one value in all rows",
        "it cannot tell rows apart",
        "`drop=COLUMN`, or ask why it does not vary",
        column_checks.constant,
    ),
    Check(
        "row_number",
        "an integer column, different in every row, without gaps to speak of, that is no year",
        "it says where a row stands, not what it is; with the stable split it also moves rows between the sides",
        "`drop=COLUMN`",
        column_checks.row_number,
    ),
    Check(
        "sentinel",
        "the smallest or largest value of a number is repeated and far away from all others: -999, 9999",
        "it stands for a missing value, and a linear model takes it for a quantity",
        "write it as an empty cell",
        column_checks.sentinel,
    ),
    Check(
        "text_numbers",
        "a text column holds numbers in nine of ten rows",
        "each number is taken for a category of its own",
        "make the others numbers or empty cells",
        column_checks.text_numbers,
    ),
    Check(
        "decimal_comma",
        "a text column holds numbers with a decimal comma in nine of ten rows",
        "each number is taken for a category of its own",
        "write 0.062 for 0,062; a CSV file of them all: `decimal=comma`",
        column_checks.decimal_comma,
    ),
    Check(
        "case_text",
        "values of a text column differ in upper and lower case, or in blanks, alone",
        "they are categories of their own, though probably meant to be one",
        "write them alike",
        column_checks.case_text,
    ),
    Check(
        "distinct_text",
        "a text column is different in 19 of 20 rows",
        "as a category it says nothing of a new row",
        "`drop=COLUMN`, or make features of what it says",
        column_checks.distinct_text,
    ),
    Check(
        "groups",
        "a text column, or one named as an id, of many values in several rows each, whose rows have similar targets",
        "rows of one entity on both sides of the split make the model look better than it is on new entities",
        "`key=COLUMN`, if it names an entity",
        column_checks.groups,
    ),
    Check(
        "test_share",
        "the share of test rows is off by more than a quarter of `test_fraction`, and by more than chance allows",
        "many rows have the same features, or one key has many rows; they fall on one side together",
        "`split=random`, or a `key` with more values",
        row_checks.test_share,
    ),
    Check(
        "few_distinct",
        "with the stable split and no key, the test rows have fewer than 10 different sets of features",
        "each set is in training or in test, never in both: the test measures what happens to be there",
        "`split=random`, or `key=` a column that names the rows",
        row_checks.few_distinct,
    ),
    Check(
        "few_test_rows",
        "fewer than 30 test rows, or groups",
        "the rmse may be far off, as its interval says, and no champion is replaced",
        "more rows, or a larger `test_fraction`",
        row_checks.few_test_rows,
    ),
    Check(
        "disagree",
        "rmse and cv rmse differ by a third and by more than their own uncertainty explains",
        "the test rows are not like the training rows, or a few rows decide the rmse",
        "look at predictions.csv; `split=random` tells whether it is the split",
        row_checks.disagree,
    ),
    Check(
        "drift",
        "a classifier tells the test rows from the training rows: cross-fitted AUC of 0.65 and more",
        "what is measured on the test rows is not what was trained for",
        "with `split=time` that is life; else look at the feature that is named",
        row_checks.drift,
    ),
    Check(
        "worse_than_trees",
        "on at most 600 training rows a small forest's cross-validated rmse is a fifth below the linear model's",
        "the features act together, or not in straight lines",
        "`estimator=hist_gradient_boosting`",
        row_checks.worse_than_trees,
    ),
)

# What `search_edge` finds.
SEARCH_EDGE = Described(
    "search_edge",
    "the best value of a search is the first or last of a list, or within 5 % of an end of its distribution",
    "better ones may lie beyond it",
    "widen that side of `search_space` in the search's file",
)
