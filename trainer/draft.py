"""A table between reading and splitting: each column is understood by all its rows, and checked."""

import re
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import columns, dates, gather, split
from trainer.columns import Kind, Text
from trainer.errors import Remark, UserError
from trainer.gather import Gathered, pasted
from trainer.group import ALONE, Group
from trainer.roles import Roles, and_, left_out, listed
from trainer.spelling import Clock, Spelling
from trainer.split import MINIMUM_ROWS, Mask, take_out

# Squares of larger values, and their sums, are infinite.
LARGEST = 1e150
# A double tells all integers apart up to here.
EXACT = 2.0**53

# A column that numbers the rows, or names them, and is no feature: if no value comes twice (written for the rows'
# names), or if it counts 0, 1, 2 ... or 1, 2, 3 ... in order.
_ROW_NAMES = re.compile(r"Unnamed: 0(\.\d+)*|row[._ ]?names?", re.IGNORECASE)
_COUNTERS = re.compile(
    r"index|level_0|(?-i:X(\.\d+)?)|(row[._ ]?)?(id|no|nr|num|number)|row|obs|#|\.\.\.1", re.IGNORECASE
)


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
        The numbers of the rows in the table; None where they are 0, 1, 2 ...
    group : Group
        The processes that share the rows.
    spellings : dict of str to Spelling or Clock
        Of features that are text of numbers with marks, or times.
    orders : dict of str to str
        Of day and month, in dates that were text.
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
    group: Group = ALONE
    spellings: dict[str, Spelling | Clock] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._places = {name: number for number, name in enumerate(self.numeric)}

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The numbers of the rows in the table."""
        return np.arange(len(self.target)) if self.kept is None else self.kept

    def values(self, name: str) -> Any:
        """Return a feature's values."""
        place = self._places.get(name)
        return self.others[name] if place is None else self.matrix[:, place]

    def forget(self, names: Sequence[str]) -> None:
        """Leave features out."""
        out = set(names)
        dropped = [number for number, name in enumerate(self.numeric) if name in out]
        self.matrix, self.tally = split.drop_columns(self.matrix, dropped), self.tally.without(dropped)
        self.numeric = [name for name in self.numeric if name not in out]
        self.names = [name for name in self.names if name not in out]
        self.others = {name: values for name, values in self.others.items() if name not in out}
        self.__post_init__()

    def missing(self, names: Sequence[str]) -> dict[str, int]:
        """Count the missing values of features, over all processes."""
        own = [self._missing(name) for name in names]
        return dict(zip(names, map(int, self.group.sum(own)), strict=True))

    def _missing(self, name: str) -> int:
        if (place := self._places.get(name)) is not None:
            return int(self.tally.missing[place])
        values = self.others[name]
        return int((values.codes < 0).sum() if isinstance(values, Text) else pd.isna(values).sum())

    def ranges(self, names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Return the least and the largest value of features that are numbers, over all processes."""
        lows, highs = zip(*map(self._range, names), strict=True) if names else ((), ())
        least, most = self.group.least(lows), -self.group.least(-np.asarray(highs, dtype=np.float64))
        return dict(zip(names, zip(map(float, least), map(float, most), strict=True), strict=True))

    def _range(self, name: str) -> tuple[float, float]:
        if (place := self._places.get(name)) is not None:
            return float(self.tally.low[place]), float(self.tally.high[place])
        values = self.others[name]
        return float(np.fmin.reduce(values, initial=np.inf)), float(np.fmax.reduce(values, initial=-np.inf))

    def told(self, found: Mask) -> str:
        """Name the rows that something was found in, over all processes."""
        rows = self.rows[found]
        count = int(self.group.sum([len(rows)])[0])
        return split.rows_told(count, int(self.group.least([rows[0] if len(rows) else 2.0**62])[0]))


def understood(
    gathered: Gathered,
    roles: Roles,
    typed: Set[str],
    decimal: str,
    kept: npt.NDArray[np.int64] | None,
    group: Group,
) -> Draft:
    """Decide by all rows what each column of text is, and look at the keys.

    Parameters
    ----------
    gathered : Gathered
    roles : Roles
    typed : set of str
        Columns whose file says what they are.
    decimal : str
        What the numbers of the file have.
    kept : ndarray of int64, or None
        The numbers of the rows in the table; None where they are 0, 1, 2 ...
    group : Group
    """
    remarks: list[Remark] = []
    kinds: dict[str, Kind] = {}
    others: dict[str, Any] = {}
    orders: dict[str, str] = {}
    decimals = {decimal}
    spellings: dict[str, Spelling | Clock] = dict(roles.times)
    for name in [*roles.features, *([roles.extra] if roles.extra else [])]:
        kind = roles.kinds[name]
        if kind == "text":
            read = columns.read(gathered.others[name], name, name in typed, decimal)
            kinds[name], others[name], orders[name] = read.kind, read.values, read.order
            decimals.add(read.decimal if read.kind in ("number", "integer") and read.remark else decimal)
            remarks += [read.remark] if read.remark else []
            spellings |= {name: read.spelling} if read.spelling else {}
        elif kind == "empty":
            kinds[name], others[name] = "number", np.full(len(gathered.matrix), np.nan)
        elif kind == "datetime":
            kinds[name], others[name] = "datetime", gathered.others[name]
        else:
            kinds[name] = "number" if kind == "seconds" else kind  # type: ignore[assignment]
    remarks += [remark for name in roles.features if kinds[name] == "datetime" for remark in _near(name, others, roles)]
    target, is_time = _target(gathered, roles, typed, decimal, decimals, remarks)
    seconds = [name for name in roles.features if isinstance(spellings.get(name), Clock)]
    seconds += [roles.target] if is_time or roles.kinds[roles.target] == "seconds" else []
    if seconds:
        remarks.append(Remark("seconds", f"{', '.join(seconds)}: times and durations are read as seconds"))
    keys = {name: split.key_values(gathered.raw[name], name, roles.data) for name in roles.key}
    found = "," if decimals == {".", ","} else decimal
    numeric, matrix, tally = gathered.numeric, gathered.matrix, gathered.tally
    names = list(roles.features)
    return Draft(
        names, kinds, numeric, matrix, tally, others, target, keys, remarks, found, kept, group, spellings, orders
    )


def _near(name: str, others: dict[str, Any], roles: Roles) -> Iterator[Remark]:
    """Let dates that are too far away count as missing, and tell them; not in what the split goes by."""
    moments, beyond = dates.computable(others[name])
    if beyond.any() and name != roles.time:
        first = int(np.argmax(beyond))
        said = f"{str(others[name][first])[:10]} in row {first + 1}"
        many = "1 date" if beyond.sum() == 1 else f"{beyond.sum()} dates"
        told = f"{name}: {many} ({said}) before 1678 or after 2261 cannot be computed with: taken as missing"
        others[name] = moments
        yield Remark("dates", told)


def _target(
    gathered: Gathered, roles: Roles, typed: Set[str], decimal: str, decimals: set[str], remarks: list[Remark]
) -> tuple[columns.Floats, bool]:
    """Return the target, and whether it was text of times."""
    values = gathered.others.get(roles.target)
    if values is None:  # a column without any value
        raise _all_missing_target(roles)
    if not isinstance(values, Text):
        return np.asarray(values), False
    if not len(values.values):
        raise _all_missing_target(roles)
    read = columns.read(values, roles.target, roles.target in typed, decimal)
    if read.kind not in ("number", "integer"):
        raise UserError(
            f"the target {roles.target!r} of {roles.data} is not numeric, but string{_first_word(values)}",
            "give a target column of numbers",
        )
    if read.remark:
        remarks.append(read.remark)
        decimals.add(read.decimal)
    return np.asarray(read.values), isinstance(read.spelling, Clock)


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
    named = [name for name in draft.names if _ROW_NAMES.fullmatch(name) and draft.kinds[name] != "datetime"]
    counting = [name for name in draft.names if _COUNTERS.fullmatch(name) and draft.kinds[name] == "integer"]
    alone = draft.group.world_size == 1
    out = [name for name in named if alone and _is_distinct(draft.values(name))]
    for name in dict.fromkeys([*(() if alone else named), *counting]):
        apart = [] if isinstance(draft.values(name), Text) else [_apart(draft, name, first) for first in (0, 1)]
        if apart and 0 in draft.group.sum(apart):
            out.append(name)
    if time := {roles.time} & set(out):
        out = [name for name in out if name not in time]
    gaps, rows = draft.missing(draft.names), draft.group.sum([len(draft.target)])[0]
    empty = [name for name in draft.names if gaps[name] == rows]
    if out and len(out) + len(empty) < len(draft.names):
        draft.forget(out)
        draft.remarks.append(left_out("row_number", out, "the numbers or names of the rows"))


def _is_distinct(values: Any) -> bool:
    if isinstance(values, Text):
        return len(values.values) == len(values.codes)
    return bool(len(np.unique(values)) == len(values)) and not np.isnan(values).any()


def _apart(draft: Draft, name: str, first: int) -> int:
    """Count the rows that do not hold their own number, counted from `first`."""
    return int((draft.values(name) != draft.rows + first).sum())


def drop_rows(draft: Draft, roles: Roles) -> tuple[int, int]:
    """Leave out the rows without a target, then the columns without a value; return how many rows stay, and went."""
    missing = np.isnan(draft.target)
    total, without = map(int, draft.group.sum([len(missing), missing.sum()]))
    if without == total:
        raise _all_missing_target(roles)
    if without:
        told = f"the target {roles.target} is missing in {draft.told(missing)}: left out"
        draft.remarks.append(Remark("rows_without_target", told))
        draft.kept = draft.rows[~missing]
        draft.target = take_out(draft.target, missing)[0]
        draft.matrix = take_out(draft.matrix, missing)[0]
        draft.tally = gather.tally(draft.matrix)
        draft.others = {name: take_out(values, missing)[0] for name, values in draft.others.items()}
        draft.keys = {name: values[~missing] for name, values in draft.keys.items()}
    rows = total - without
    if rows < MINIMUM_ROWS:
        raise UserError(
            f"{roles.data} has {rows} rows{' with a target' if without else ''}; at least {MINIMUM_ROWS} are needed",
            "give a larger table",
        )
    gaps = draft.missing(draft.names)
    empty = [name for name in draft.names if gaps[name] == rows and name != roles.time]
    if empty and (roles.chosen or len(empty) == len(draft.names)):
        raise UserError(
            f"all values of {_columns_told(empty)} of {roles.data} are missing",
            f"leave {'it' if len(empty) == 1 else 'them'} out: drop={pasted(empty)}"
            if len(empty) < len(draft.names)
            else "give a table with at least one feature besides the target and the keys",
        )
    if empty:
        draft.forget(empty)
        draft.remarks.append(Remark("empty", f"left out: {listed(empty)} (without any value)"))
    return rows, without


def check(draft: Draft, roles: Roles) -> None:
    """Refuse what cannot be computed with, and tell what a double cannot hold."""
    low, high = draft.group.least([draft.target.min(initial=np.inf), -draft.target.max(initial=-np.inf)]) * [1, -1]
    if low == high:
        raise UserError(
            f"the target {roles.target!r} of {roles.data} has one value only, {low:g}",
            "give a target that varies from row to row",
        )
    numbers = [name for name in draft.names if draft.kinds[name] in ("number", "integer")]
    ranges = draft.ranges(numbers) | {roles.target: (low, high)}
    values: Callable[[str], Any] = lambda name: draft.target if name == roles.target else draft.values(name)  # noqa: E731
    if infinite := [name for name, (low, high) in ranges.items() if low == -np.inf or high == np.inf]:
        told = [(name, draft.told(np.isinf(values(name)))) for name in infinite]
        raise UserError(
            f"column {infinite[0]!r} of {roles.data} is infinite in {told[0][1]}"
            if len(told) == 1
            else f"columns of {roles.data} are infinite: {and_([f'{name!r} in {where}' for name, where in told])}",
            f"drop those rows, or leave the value out{_or_drop(infinite, roles.target)}",
        )
    if vast := [name for name, (low, high) in ranges.items() if low < -LARGEST or high > LARGEST]:
        told = [(name, draft.told(np.abs(values(name)) > LARGEST)) for name in vast]
        where = and_([f"{name!r} in {rows}" for name, rows in told])
        raise UserError(
            f"values beyond {LARGEST:g}, whose squares are infinite: {_columns_word(vast)} {where} of {roles.data}",
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
