"""One way to a table: read once, each column understood by all its rows, checked, hashed, split."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import columns, formats, gather, split
from trainer.columns import Kind, Text
from trainer.delimited import RetypedError, no_rows
from trainer.errors import Remark, UserError, nearest
from trainer.gather import Gathered, Sink, pasted
from trainer.split import MINIMUM_ROWS, Mask, take_out

if TYPE_CHECKING:
    from trainer.settings import Settings

# Up to so many values (rows x columns) a side is laid out column by column, as a DataFrame usually is; beyond, the rows
# stay where they were read.
LARGE_VALUES = 4_000_000
# Squares of larger values, and their sums, are infinite.
LARGEST = 1e150
# A double tells all integers apart up to here.
EXACT = 2.0**53

# A column that numbers the rows, or names them, and is no feature: by its name alone (a DataFrame's index in Parquet),
# if no value comes twice (written for the rows' names), or if it counts 0, 1, 2 ... or 1, 2, 3 ... in order.
_INDEX = re.compile(r"__index_level_\d+__")
_ROW_NAMES = re.compile(r"Unnamed: 0(\.\d+)*|row[._ ]?names?", re.IGNORECASE)
_COUNTERS = re.compile(r"index|level_0|X(\.\d+)?|(row[._ ]?)?(id|no|nr|num|number)|row|obs|#|\.\.\.1", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """What one feature is, by all rows of the table; of numbers, `low` and `high` are the range."""

    name: str
    kind: Kind
    missing: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Rows:
    """One side of the split, in the table's order.

    Attributes
    ----------
    features : DataFrame of shape (n_rows, n_features)
        Numbers, integers and booleans are float64, text is object, dates are datetime64[us]; nan and NaT where a value
        is missing.
    target : ndarray of shape (n_rows,), float64
    groups : ndarray of shape (n_rows,), uint64, or None
        A number for each value of the key.
    keys : DataFrame of shape (n_rows, n_keys) or None
        The key as it is; of the test rows alone.
    numbers : ndarray of shape (n_rows,), int64, or None
        Row numbers in the table, from 0; of the test rows alone.
    """

    features: pd.DataFrame
    target: npt.NDArray[np.float64]
    groups: npt.NDArray[np.uint64] | None
    keys: pd.DataFrame | None = None
    numbers: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Table:
    """A table that has been read, checked and split; `n_rows` are those with a target."""

    source: formats.Source
    n_rows: int
    columns: tuple[Column, ...]
    training: Rows
    test: Rows
    rows_without_target: int = 0
    remarks: tuple[Remark, ...] = ()

    @property
    def n_features(self) -> int:
        """How many features it has."""
        return len(self.columns)


def load(settings: "Settings") -> Table:
    """Read the table that the settings name, and split it.

    Raises
    ------
    UserError
        The table cannot be read, or a model cannot be trained on it.
    """
    return _load(settings, settings.decimal)


def _load(settings: "Settings", decimal: str) -> Table:
    location = formats.locate(settings.data)
    wanted = [settings.target, *settings.key, *(settings.columns or ())]
    with formats.reading(location, settings.separator, decimal, wanted) as reading:
        roles = assign(reading.names, reading.schema, settings, location.data)
        remarks = [*reading.remarks, *roles.remarks]
        gathered = _gather(reading, roles)
        source, typed, known = reading.source(), reading.typed, reading.decimal
        zeros, separator = reading.zeros, reading.separator
    draft = _understood(gathered, roles, typed, known)
    del gathered
    if not typed and decimal == "auto" and draft.decimal != known and separator != ",":
        return _load(settings, draft.decimal)  # the first lines had no decimals
    draft.remarks[:0] = remarks
    draft.remarks += [
        Remark("leading_zeros", f"{name}: {zeros[name]!r} is read as the number {float(zeros[name]):.0f}, as pandas does")
        for name in draft.names
        if name in zeros and draft.kinds[name] == "integer"
    ]
    _leave_out(draft, roles)
    without = _drop_rows(draft, roles)
    _check(draft, roles)
    return _divided(draft, roles, settings, source, without)


# -- what each column is for ----------------------------------------------------------------------


@dataclass(frozen=True)
class Roles:
    """What the columns are for.

    Attributes
    ----------
    features : tuple of str
    chosen : bool
        Whether the user has named them.
    extra : str or None
        The time of the split, where it is no feature.
    kinds : dict of str to str
        Of the features, the target and `extra`: `columns.meaning`.
    """

    features: tuple[str, ...]
    chosen: bool
    target: str
    key: tuple[str, ...]
    time: str | None
    extra: str | None
    kinds: dict[str, str]
    data: str
    remarks: tuple[Remark, ...] = ()


def assign(names: Sequence[str], schema: Mapping[str, Any], settings: "Settings", data: str) -> Roles:
    """Check the columns by their names and types.

    Raises
    ------
    UserError
        A column is not there, or there twice, or none is left, or some cannot be used.
    """
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"{data} has more than one column {' and '.join(map(repr, duplicates))}", "rename or drop the duplicates"
        )
    target, key, time = settings.target, settings.key, settings.time if settings.split == "time" else None
    _check_names(names, settings, time, data)
    given = names if settings.columns is None else settings.columns
    features = [name for name in given if name != target and name not in key and name not in settings.drop]
    remarks = []
    if settings.columns is None and (index := [name for name in features if _INDEX.fullmatch(name)]):
        features = [name for name in features if name not in index]
        remarks.append(_left_out("row_number", index, "the index of a DataFrame"))
    if not features:
        raise UserError(
            f"{data} has no feature: its columns are {_listed(names)}",
            "add at least one column besides the target and the keys",
        )
    extra = None if time is None or time in features else time
    kinds = {name: columns.meaning(schema[name]) for name in [*features, target, *([extra] if extra else [])]}
    bad = [name for name in kinds if kinds[name] is None and name != target]
    if bad:
        described = _and([f"{name!r} ({schema[name]})" for name in bad])
        raise UserError(
            f"{'column' if len(bad) == 1 else 'columns'} {described} of {data} cannot be "
            f"{'a feature' if len(bad) == 1 else 'features'}; numbers, text, dates and booleans can",
            f"leave {'it' if len(bad) == 1 else 'them'} out: drop={pasted([*settings.drop, *bad])}",
        )
    if kinds[target] not in ("integer", "number", "text", "empty"):
        raise UserError(
            f"the target {target!r} of {data} is not numeric, but {schema[target]}", "give a target column of numbers"
        )
    known = {name: str(kind) for name, kind in kinds.items()}
    return Roles(tuple(features), settings.columns is not None, target, key, time, extra, known, data, tuple(remarks))


def _check_names(names: Sequence[str], settings: "Settings", time: str | None, data: str) -> None:
    target, key = settings.target, settings.key
    wanted = [("target", target), *(("key", name) for name in key), *(("columns", name) for name in settings.columns or ())]
    wanted += [("drop", name) for name in settings.drop] + ([("time", time)] if time else [])
    absent = [(role, name) for role, name in wanted if name not in names]
    if absent:
        said = _and([f"the {'feature' if role == 'columns' else role} {name!r}" for role, name in absent])
        role, name = absent[0]
        numbers = all(re.fullmatch(r"[-+.\d]+", one) for one in names)
        raise UserError(
            f"{said} {'is not a column' if len(absent) == 1 else 'are no columns'} of {data}{nearest(name, names)}",
            f"write the names of the columns into the first line: it is {', '.join(names)[:60]}"
            if numbers
            else f"give {role}=NAME with one of {_listed(names)}",
        )
    for role, one in (("key", key), ("time", (time,)), ("drop", settings.drop)):
        if target in one:
            raise UserError(
                f"{target!r} is given as target and as {role}",
                "a key names a group: give another column" if role == "key" else f"give another {role}",
            )
    if time in key:
        raise UserError(f"{time!r} is given as time and as key", "give another column as time")
    for name in settings.columns or ():
        if name == target or name in key:
            role = "target" if name == target else "key"
            raise UserError(
                f"{name!r} is given as {role} and among the columns", f"the {role} is no feature: leave it out"
            )


def _gather(reading: formats.Reading, roles: Roles) -> Gathered:
    """Read all rows; a column of CSV that is not what its first block was is read again, as text."""
    while True:
        kinds = {name: str(columns.meaning(reading.schema[name])) for name in roles.kinds}
        apart = roles.target if kinds[roles.target] in gather.NUMERIC else None
        sink = Sink(kinds, roles.key, reading.rows, roles.data, apart)
        try:
            for batch in reading.batches(list(dict.fromkeys([*roles.kinds, *roles.key]))):
                sink.add(batch)
        except RetypedError as error:
            reading.as_text(error.column)
            continue
        if sink.filled == 0:
            raise no_rows(roles.data)
        roles.kinds.update(kinds)
        return sink.result()


# -- what each column means -----------------------------------------------------------------------


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


def _understood(gathered: Gathered, roles: Roles, typed: bool, decimal: str) -> Draft:
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


def _leave_out(draft: Draft, roles: Roles) -> None:
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
        draft.remarks.append(_left_out("row_number", out, "the numbers or names of the rows"))


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


def _drop_rows(draft: Draft, roles: Roles) -> int:
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
        draft.remarks.append(Remark("empty", f"left out: {_listed(empty)} (without any value)"))
    return count


def _check(draft: Draft, roles: Roles) -> None:
    """Refuse what cannot be computed with, and tell what a double cannot hold."""
    target = draft.target
    if target.min() == target.max():
        raise UserError(
            f"the target {roles.target!r} of {roles.data} has one value only, {target[0]:g}",
            "give a target that varies from row to row",
        )
    numbers = [name for name in draft.names if draft.kinds[name] in ("number", "integer")]
    ranges = {name: _range(draft, name) for name in numbers} | {roles.target: (target.min(), target.max())}
    values: Callable[[str], Any] = lambda name: target if name == roles.target else draft.values(name)  # noqa: E731
    rows = np.arange(len(target)) if draft.kept is None else draft.kept
    infinite = [name for name, (low, high) in ranges.items() if low == -np.inf or high == np.inf]
    if infinite:
        told = [f"{name!r} in {split.rows_told(rows[np.isinf(values(name))])}" for name in infinite]
        raise UserError(
            f"column {told[0].replace(' in ', f' of {roles.data} is infinite in ', 1)}"
            if len(told) == 1
            else f"columns of {roles.data} are infinite: {_and(told)}",
            f"drop those rows, or leave the value out{_or_drop(infinite, roles.target)}",
        )
    vast = [name for name, (low, high) in ranges.items() if low < -LARGEST or high > LARGEST]
    if vast:
        told = [f"{name!r} in {split.rows_told(rows[np.abs(values(name)) > LARGEST])}" for name in vast]
        raise UserError(
            f"values beyond {LARGEST:g}, whose squares are infinite, are in {_columns_word(vast)} {_and(told)} "
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


def _range(draft: Draft, name: str) -> tuple[float, float]:
    if name in draft.numeric:
        number = draft.numeric.index(name)
        return float(draft.tally.low[number]), float(draft.tally.high[number])
    return float(np.fmin.reduce(draft.others[name])), float(np.fmax.reduce(draft.others[name]))


# -- the two sides --------------------------------------------------------------------------------


def _divided(draft: Draft, roles: Roles, settings: "Settings", source: formats.Source, without: int) -> Table:
    groups = _hashes(draft, draft.keys) if draft.keys else None
    in_test = _chosen(draft, roles, settings, groups)
    described = tuple(_column(draft, name) for name in draft.names)
    numbers = np.flatnonzero(in_test) if draft.kept is None else draft.kept[in_test]
    keys = pd.DataFrame({name: values[in_test] for name, values in draft.keys.items()}) if draft.keys else None
    if roles.extra:
        del draft.others[roles.extra]
    n_rows = len(draft.target)
    draft.keys.clear()
    matrix, test_matrix = take_out(draft.matrix, in_test)
    target, test_target = take_out(draft.target, in_test)
    own, test_own = (None, None) if groups is None else take_out(groups, in_test)
    others = {name: take_out(values, in_test) for name, values in draft.others.items()}
    training = Rows(_frame(draft, matrix, {name: both[0] for name, both in others.items()}), target, own)
    frame = _frame(draft, test_matrix, {name: both[1] for name, both in others.items()})
    test = Rows(frame, test_target, test_own, keys, numbers)
    return Table(source, n_rows, described, training, test, without, tuple(draft.remarks))


def _chosen(draft: Draft, roles: Roles, settings: "Settings", groups: split.Hashes | None) -> Mask:
    fraction, distinct = settings.test_fraction, len(draft.target)
    if settings.split == "time":
        assert roles.time is not None
        times = draft.values(roles.time)
        if isinstance(times, Text):
            raise UserError(
                f"the time {roles.time!r} of {roles.data} is text that is no date", "give time=COLUMN of dates or numbers"
            )
        in_test = split.by_time(times, fraction, roles.time, roles.data)
        if groups is not None and np.isin(groups[in_test], groups[~in_test]).any():
            told = f"with split=time, rows of one {' and '.join(roles.key)} are on both sides"
            draft.remarks.append(Remark("groups_on_both_sides", told))
    elif settings.split == "random":
        in_test = split.by_seed(len(draft.target), groups, fraction, settings.seed)
    else:
        hashes = _hashes(draft, None) if groups is None else groups
        in_test, remark = split.by_hash(hashes, fraction, "split=random draws as many as asked")
        draft.remarks += [remark] if remark else []
        if in_test.sum() < 2 or len(in_test) - in_test.sum() < 2:
            distinct = len(np.unique(hashes))
    n_test = int(in_test.sum())
    split.check_sides(len(in_test) - n_test, n_test, settings.split, fraction, distinct)
    return in_test


def _hashes(draft: Draft, keys: Mapping[str, Any] | None) -> split.Hashes:
    """Hash the features, or the keys, block by block."""
    has_text = keys is not None or any(isinstance(draft.others.get(name), Text) for name in draft.names)
    size = 2**20 if has_text else split.BLOCK_ROWS
    blocks = []
    for start in range(0, len(draft.target), size):
        rows = slice(start, start + size)
        if keys is not None:
            block = {name: values[rows] for name, values in keys.items()}
        else:
            block = {name: _block(draft.values(name), rows) for name in draft.names}
        blocks.append(split.row_hash(pd.DataFrame(block, copy=False)))
    return np.concatenate(blocks)


def _block(values: Any, rows: slice) -> Any:
    if isinstance(values, Text):
        return pd.Categorical.from_codes(values.codes[rows], pd.Index(values.values, dtype=object))
    return values[rows]


def _column(draft: Draft, name: str) -> Column:
    kind = draft.kinds[name]
    if name in draft.numeric:
        missing = int(draft.tally.missing[draft.numeric.index(name)])
    else:
        values = draft.others[name]
        missing = int((values.codes < 0).sum() if isinstance(values, Text) else pd.isna(values).sum())
    if kind in ("text", "datetime"):
        return Column(name, kind, missing)
    return Column(name, kind, missing, *_range(draft, name))


def _frame(draft: Draft, matrix: columns.Floats, others: Mapping[str, Any]) -> pd.DataFrame:
    large = matrix.size >= LARGE_VALUES
    if not others:
        return pd.DataFrame(matrix if large else np.asfortranarray(matrix), columns=draft.names, copy=False)
    parts = {name: values.objects() if isinstance(values, Text) else values for name, values in others.items()}
    parts |= {name: matrix[:, number] for number, name in enumerate(draft.numeric)}
    return pd.DataFrame({name: parts[name] for name in draft.names}, copy=not large)


# -- sentences ------------------------------------------------------------------------------------


def _all_missing_target(roles: Roles) -> UserError:
    return UserError(
        f"the target {roles.target!r} of {roles.data} is missing in all rows", "give a target column of numbers"
    )


def _left_out(code: str, names: Sequence[str], why: str) -> Remark:
    return Remark(code, f"left out: {_listed(names)} ({why}); to have it, name the features: columns=A,B,...")


def _or_drop(names: Sequence[str], target: str) -> str:
    features = [name for name in names if name != target]
    return f", or leave the columns out: drop={pasted(features)}" if features else ""


def _columns_word(names: Sequence[str]) -> str:
    return "column" if len(names) == 1 else "columns"


def _columns_told(names: Sequence[str]) -> str:
    return f"{_columns_word(names)} {_and([repr(name) for name in names])}"


def _and(words: Sequence[str]) -> str:
    shown = [*words[:12], f"... ({len(words)} in all)"] if len(words) > 12 else list(words)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
