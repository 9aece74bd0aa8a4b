"""A table between reading and splitting: each column is understood by all its rows, and checked."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import columns, gather, split
from trainer.columns import Kind, Text
from trainer.errors import Remark, UserError
from trainer.gather import Gathered, pasted
from trainer.roles import Roles, and_, left_out, listed
from trainer.split import MINIMUM_ROWS, take_out

# Squares of larger values, and their sums, are infinite.
LARGEST = 1e150
# A double tells all integers apart up to here.
EXACT = 2.0**53

# A column that numbers the rows, or names them, and is no feature: if no value comes twice (written for the rows'
# names), or if it counts 0, 1, 2 ... or 1, 2, 3 ... in order.
_ROW_NAMES = re.compile(r"Unnamed: 0(\.\d+)*|row[._ ]?names?", re.IGNORECASE)
_COUNTERS = re.compile(r"index|level_0|X(\.\d+)?|(row[._ ]?)?(id|no|nr|num|number)|row|obs|#|\.\.\.1", re.IGNORECASE)


@dataclass
class Draft:
    """A table between reading and splitting.

    Attributes
    ----------
    names : list of str
        The features, in the table's order.
    kinds : dict of str to Kind
    numeric, matrix, tally
        As in `gather.Gathered`; features alone.
    others : dict of str to (Text, or ndarray of float64 or datetime64[us])
        The features that are not in the matrix, and the time of the split.
    decimal : str
        What the text that was read as numbers has.
    kept : ndarray of shape (n_rows,), int64, or None
        The numbers of the rows that are left; None where all are.
    """

    names: list[str]
    kinds: dict[str, Kind]
    numeric: list[str]
    matrix: columns.Floats
    tally: gather.Tally
    others: dict[str, Any]
    target: columns.Floats
    keys: dict[str, Any]
    remarks: list[Remark]
    decimal: str = "."
    kept: npt.NDArray[np.int64] | None = None

    def values(self, name: str) -> Any:
        """Return a feature's values."""
        return self.matrix[:, self.numeric.index(name)] if name in self.numeric else self.others[name]

    def forget(self, names: Sequence[str]) -> None:
        """Leave features out."""
        dropped = [number for number, name in enumerate(self.numeric) if name in names]
        self.matrix, self.tally = split.drop_columns(self.matrix, dropped), self.tally.without(dropped)
        self.numeric = [name for name in self.numeric if name not in names]
        self.names = [name for name in self.names if name not in names]
        self.others = {name: values for name, values in self.others.items() if name not in names}


def understood(gathered: Gathered, roles: Roles, typed: bool, decimal: str) -> Draft:
    """Decide by all rows what each column of text is, and look at the keys."""
    remarks: list[Remark] = []
    kinds: dict[str, Kind] = {}
    others: dict[str, Any] = {}
    decimals = {decimal}
    for name in [*roles.features, *([roles.extra] if roles.extra else [])]:
        kind = roles.kinds[name]
        if kind == "text":
            read = columns.read(gathered.others[name], name, typed, decimal)
            kinds[name], others[name] = read.kind, read.values
            decimals.add(read.decimal if read.kind in ("number", "integer") and read.remark else decimal)
            remarks += [read.remark] if read.remark else []
        elif kind == "empty":
            kinds[name], others[name] = "number", np.full(len(gathered.matrix), np.nan)
        elif kind == "datetime":
            kinds[name], others[name] = "datetime", gathered.others[name]
        else:
            kinds[name] = "number" if kind == "seconds" else kind  # type: ignore[assignment]
    seconds = [name for name in roles.features if roles.kinds[name] == "seconds"]
    if seconds:
        remarks.append(Remark("seconds", f"{', '.join(seconds)}: times and durations are read as seconds"))
    target = _target(gathered, roles, typed, decimal, decimals, remarks)
    keys = {name: split.key_values(gathered.raw[name], name, roles.data) for name in roles.key}
    found = "," if decimals == {".", ","} else decimal
    numeric, matrix, tally = gathered.numeric, gathered.matrix, gathered.tally
    return Draft(list(roles.features), kinds, numeric, matrix, tally, others, target, keys, remarks, found)


def _target(
    gathered: Gathered, roles: Roles, typed: bool, decimal: str, decimals: set[str], remarks: list[Remark]
) -> columns.Floats:
    values = gathered.others.get(roles.target)
    if values is None:  # a column without any value
        raise _all_missing_target(roles)
    if not isinstance(values, Text):
        return np.asarray(values)
    if not len(values.values):
        raise _all_missing_target(roles)
    read = columns.read(values, roles.target, typed, decimal)
    if read.kind not in ("number", "integer"):
        raise UserError(
            f"the target {roles.target!r} of {roles.data} is not numeric, but string{_first_word(values)}",
            "give a target column of numbers",
        )
    if read.remark:
        remarks.append(read.remark)
        decimals.add(read.decimal)
    return np.asarray(read.values)


def _first_word(text: Text) -> str:
    words = [value for value in text.values if not re.fullmatch(r"\s*[-+]?[0-9.]+([eE][-+]?[0-9]+)?\s*", value)]
    if not words:
        return ""
    numbers = {value: number for number, value in enumerate(text.values)}
    first = min(words, key=lambda word: text.first(numbers[word]))
    return f" (row {text.first(numbers[first])} says {first!r})"


def leave_out(draft: Draft, roles: Roles) -> None:
    """Leave out columns that number or name the rows, unless the user has asked for them, or nothing else is there."""
    if roles.chosen:
        return
    rows = len(draft.target)
    out = [
        name
        for name in draft.names
        if (_ROW_NAMES.fullmatch(name) and draft.kinds[name] != "datetime" and _is_distinct(draft.values(name), rows))
        or (_COUNTERS.fullmatch(name) and name != "x" and _counts(draft.values(name)))
    ]
    empty = [name for name in draft.names if _is_empty(draft, name)]
    if out and len(out) + len(empty) < len(draft.names):
        draft.forget(out)
        draft.remarks.append(left_out("row_number", out, "the numbers or names of the rows"))


def _is_distinct(values: Any, rows: int) -> bool:
    if isinstance(values, Text):
        return len(values.values) == rows
    return bool(len(np.unique(values)) == rows) and not np.isnan(values).any()


def _counts(values: Any) -> bool:
    if isinstance(values, Text) or values.dtype.kind != "f" or values[0] not in (0, 1):
        return False
    return bool(np.array_equal(values, np.arange(values[0], values[0] + len(values))))


def _is_empty(draft: Draft, name: str) -> bool:
    if name in draft.numeric:
        return bool(draft.tally.missing[draft.numeric.index(name)] == draft.tally.rows)
    values = draft.others[name]
    return bool((values.codes < 0).all() if isinstance(values, Text) else pd.isna(values).all())


def drop_rows(draft: Draft, roles: Roles) -> int:
    """Leave out the rows without a target, then the columns without a value; return the number of these rows."""
    missing = np.isnan(draft.target)
    count = int(missing.sum())
    if count == len(missing):
        raise _all_missing_target(roles)
    if count:
        first = split.rows_told(np.flatnonzero(missing))
        draft.remarks.append(
            Remark("rows_without_target", f"the target {roles.target} is missing in {first}: left out")
        )
        draft.kept = np.flatnonzero(~missing)
        draft.target = take_out(draft.target, missing)[0]
        draft.matrix = take_out(draft.matrix, missing)[0]
        draft.tally = gather.tally(draft.matrix)
        draft.others = {name: take_out(values, missing)[0] for name, values in draft.others.items()}
        draft.keys = {name: take_out(values, missing)[0] for name, values in draft.keys.items()}
    if len(draft.target) < MINIMUM_ROWS:
        raise UserError(
            f"{roles.data} has {len(draft.target)} rows{' with a target' if count else ''}; "
            f"at least {MINIMUM_ROWS} are needed",
            "give a larger table",
        )
    empty = [name for name in draft.names if _is_empty(draft, name)]
    if empty and (roles.chosen or len(empty) == len(draft.names)):
        raise UserError(
            f"all values of {_columns_told(empty)} of {roles.data} are missing",
            f"leave {'it' if len(empty) == 1 else 'them'} out: drop={pasted(empty)}"
            if roles.chosen
            else "give a table with at least one feature besides the target and the keys",
        )
    if empty:
        draft.forget(empty)
        draft.remarks.append(Remark("empty", f"left out: {listed(empty)} (without any value)"))
    return count


def check(draft: Draft, roles: Roles) -> None:
    """Refuse what cannot be computed with, and tell what a double cannot hold."""
    target = draft.target
    if target.min() == target.max():
        raise UserError(
            f"the target {roles.target!r} of {roles.data} has one value only, {target[0]:g}",
            "give a target that varies from row to row",
        )
    numbers = [name for name in draft.names if draft.kinds[name] in ("number", "integer")]
    ranges = {name: range_of(draft, name) for name in numbers} | {roles.target: (target.min(), target.max())}
    values: Callable[[str], Any] = lambda name: target if name == roles.target else draft.values(name)  # noqa: E731
    rows = np.arange(len(target)) if draft.kept is None else draft.kept
    infinite = [name for name, (low, high) in ranges.items() if low == -np.inf or high == np.inf]
    if infinite:
        told = [f"{name!r} in {split.rows_told(rows[np.isinf(values(name))])}" for name in infinite]
        raise UserError(
            f"column {told[0].replace(' in ', f' of {roles.data} is infinite in ', 1)}"
            if len(told) == 1
            else f"columns of {roles.data} are infinite: {and_(told)}",
            f"drop those rows, or leave the value out{_or_drop(infinite, roles.target)}",
        )
    vast = [name for name, (low, high) in ranges.items() if low < -LARGEST or high > LARGEST]
    if vast:
        told = [f"{name!r} in {split.rows_told(rows[np.abs(values(name)) > LARGEST])}" for name in vast]
        raise UserError(
            f"values beyond {LARGEST:g}, whose squares are infinite, are in {_columns_word(vast)} {and_(told)} "
            f"of {roles.data}",
            f"write them in another unit, or leave the value out{_or_drop(vast, roles.target)}",
        )
    lost = [
        name
        for name, (low, high) in ranges.items()
        if max(abs(low), abs(high)) > EXACT and (draft.kinds.get(name) == "integer" or min(abs(low), abs(high)) > EXACT)
    ]
    if lost:
        draft.remarks.append(
            Remark("digits", f"{', '.join(lost)}: integers beyond 2^53 are rounded; an identifier is better text")
        )


def range_of(draft: Draft, name: str) -> tuple[float, float]:
    """Return the least and the largest value of a number."""
    if name in draft.numeric:
        number = draft.numeric.index(name)
        return float(draft.tally.low[number]), float(draft.tally.high[number])
    return float(np.fmin.reduce(draft.others[name])), float(np.fmax.reduce(draft.others[name]))


# -- sentences ------------------------------------------------------------------------------------


def _all_missing_target(roles: Roles) -> UserError:
    return UserError(
        f"the target {roles.target!r} of {roles.data} is missing in all rows", "give a target column of numbers"
    )


def _or_drop(names: Sequence[str], target: str) -> str:
    features = [name for name in names if name != target]
    return f", or leave the columns out: drop={pasted(features)}" if features else ""


def _columns_word(names: Sequence[str]) -> str:
    return "column" if len(names) == 1 else "columns"


def _columns_told(names: Sequence[str]) -> str:
    return f"{_columns_word(names)} {and_([repr(name) for name in names])}"
