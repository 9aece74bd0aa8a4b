"""One way to a table: read once, each column understood by all its rows, checked, hashed, split."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import columns, formats, gather, reading, split
from trainer.columns import Kind, Text
from trainer.delimited import RetypedError, no_rows
from trainer.draft import Draft, check, drop_rows, leave_out, understood
from trainer.errors import Remark, UserError
from trainer.gather import Gathered, Sink, pasted
from trainer.group import ALONE, Group
from trainer.roles import Roles, assign
from trainer.spelling import Clock, Spelling
from trainer.split import Mask, take_out

if TYPE_CHECKING:
    from trainer.settings import Settings

# Up to so many values (rows x columns) a side is laid out column by column, as a DataFrame usually is; beyond, the rows
# stay where they were read.
LARGE_VALUES = 4_000_000
# Rows that are hashed at a time; each time every different text is hashed once.
HASH_ROWS = 2**17


@dataclass(frozen=True)
class Column:
    """What one feature is, by all rows of the table.

    Of numbers, `low` and `high` are the range, and `spelling` is how the table writes them, where it has marks, or
    where they are times; of dates that were text, `order` is that of day and month.
    """

    name: str
    kind: Kind
    missing: int
    low: float | None = None
    high: float | None = None
    spelling: Spelling | Clock | None = None
    order: str = ""


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
    """A table that has been read, checked and split.

    `n_rows` are those with a target; `time_cut` is, with ``split=time``, when the test rows begin.
    """

    source: formats.Source
    n_rows: int
    columns: tuple[Column, ...]
    training: Rows
    test: Rows
    rows_without_target: int = 0
    remarks: tuple[Remark, ...] = ()
    time_cut: str = ""

    @property
    def n_features(self) -> int:
        """How many features it has."""
        return len(self.columns)


def load(settings: "Settings", group: Group = ALONE) -> Table:
    """Read the table that the settings name, and split it.

    Parameters
    ----------
    settings : Settings
    group : Group
        Of several processes each reads its share of a Parquet table's row groups, and gets its own rows of both sides;
        what is said of the table is said of all rows. The `source` is left to process 0.

    Raises
    ------
    UserError
        The table cannot be read, or a model cannot be trained on it.
    """
    return _load(settings, settings.decimal, group)


def _load(settings: "Settings", decimal: str, group: Group) -> Table:
    with group.sharing_errors():
        location = formats.locate(settings.data)
        wanted = [settings.target, *settings.key, *(settings.columns or ())]
        with reading.opened(location, settings.separator, decimal, wanted, group) as found:
            roles = assign(found.names, found.schema, settings, location.data)
            if group.world_size > 1:
                check_share(found, roles)
            remarks = [*found.remarks, *roles.remarks]
            gathered = _gather(found, roles)
            source, typed, known = found.source(), found.typed, found.decimal
            zeros, separator, numbers = found.zeros, found.separator, found.numbers
        draft = understood(gathered, roles, typed, known, numbers, group)
    del gathered
    if separator and decimal == "auto" and draft.decimal != known and separator != ",":
        return _load(settings, draft.decimal, group)  # the first lines had no decimals
    draft.remarks[:0] = remarks
    draft.remarks += [
        Remark(
            "leading_zeros", f"{name}: {zeros[name]!r} is read as the number {float(zeros[name]):.0f}, as pandas does"
        )
        for name in draft.names
        if name in zeros and draft.kinds[name] == "integer"
    ]
    leave_out(draft, roles)
    n_rows, without = drop_rows(draft, roles)
    check(draft, roles)
    with group.sharing_errors():
        described = _columns(draft)
        training, test, cut = _divided(draft, roles, settings)
    return Table(source, n_rows, described, training, test, without, tuple(draft.remarks), cut)


def check_share(found: reading.Reading, roles: Roles) -> None:
    """Refuse a table that several processes cannot share: too few row groups, or columns that are no numbers.

    Every process sees this for itself in the files' metadata.
    """
    size, data = found.group.world_size, roles.data
    if found.n_groups < size:
        held = f"{found.n_groups} row group{'s' if found.n_groups > 1 else ''}" if found.n_groups else "none"
        raise UserError(
            f"{size} processes need {size} row groups of Parquet or more, and {data} has {held}",
            "write it with smaller row groups: frame.to_parquet(..., row_group_size=ROWS); or use one process",
        )
    wrong = [name for name, kind in roles.kinds.items() if kind not in gather.NUMERIC]
    if wrong:
        told = ", ".join(f"the column {name!r} is of type {found.schema[name]}" for name in wrong[:12])
        features = [name for name in wrong if name != roles.target]
        raise UserError(
            f"several processes read numbers from Parquet, and {data} holds something else: {told}",
            f"leave that out: drop={pasted(features)}; or use one process" if features else "use one process",
        )


def _gather(found: reading.Reading, roles: Roles) -> Gathered:
    """Read all rows; a column of CSV that is not what its first block was is read again, as text."""
    while True:
        kinds = {name: str(columns.meaning(found.schema[name])) for name in roles.kinds}
        apart = roles.target if kinds[roles.target] in gather.NUMERIC else None
        sink = Sink(kinds, roles.key, found.rows, roles.data, apart)
        try:
            for batch in found.batches(list(dict.fromkeys([*roles.kinds, *roles.key]))):
                sink.add(batch)
                found.group.check()
        except RetypedError as error:
            found.as_text(error.column)
            continue
        if sink.filled == 0 and found.group.world_size == 1:
            raise no_rows(roles.data)
        roles.kinds.update(kinds)
        return sink.result()


# -- the two sides --------------------------------------------------------------------------------


def _divided(draft: Draft, roles: Roles, settings: "Settings") -> tuple[Rows, Rows, str]:
    groups = _hashes(draft, draft.keys) if draft.keys else None
    in_test = _chosen(draft, roles, settings, groups)
    cut = str(draft.values(roles.time)[in_test].min()) if roles.time else ""
    keys = pd.DataFrame({name: values[in_test] for name, values in draft.keys.items()}) if draft.keys else None
    if roles.extra:
        draft.forget([roles.extra])
    draft.keys.clear()
    matrix, test_matrix = take_out(draft.matrix, in_test)
    target, test_target = take_out(draft.target, in_test)
    own, test_own = (None, None) if groups is None else take_out(groups, in_test)
    others = {name: take_out(values, in_test) for name, values in draft.others.items()}
    numbers = np.flatnonzero(in_test) if draft.kept is None else draft.kept[in_test]
    training = Rows(_frame(draft, matrix, {name: both[0] for name, both in others.items()}), target, own)
    frame = _frame(draft, test_matrix, {name: both[1] for name, both in others.items()})
    return training, Rows(frame, test_target, test_own, keys, numbers), cut


def _chosen(draft: Draft, roles: Roles, settings: "Settings", groups: split.Hashes | None) -> Mask:
    fraction, distinct = settings.test_fraction, len(draft.target)
    if settings.split == "time":
        assert roles.time is not None
        times = draft.values(roles.time)
        if isinstance(times, Text):
            raise UserError(
                f"the time {roles.time!r} of {roles.data} is text that is no date",
                "give time=COLUMN of dates or numbers",
            )
        in_test = split.by_time(times, fraction, roles.time, roles.data)
        if groups is not None and np.isin(groups[in_test], groups[~in_test]).any():
            told = f"with split=time, rows of one {' and '.join(roles.key)} are on both sides"
            draft.remarks.append(Remark("groups_on_both_sides", told))
    elif settings.split == "random":
        in_test = split.by_seed(len(draft.target), groups, fraction, settings.seed)
    else:
        hashes = _hashes(draft, None) if groups is None else groups
        in_test, remark = split.by_hash(hashes, fraction, fill=draft.group.world_size == 1)
        draft.remarks += [remark] if remark else []
        if in_test.sum() < 2 or len(in_test) - in_test.sum() < 2:
            distinct = len(np.unique(hashes))
    n_test = int(in_test.sum())
    fewest = 2 if draft.group.world_size == 1 else 1
    split.check_sides(len(in_test) - n_test, n_test, settings.split, fraction, distinct, fewest)
    return in_test


def _hashes(draft: Draft, keys: Mapping[str, Any] | None) -> split.Hashes:
    """Hash the features, or the keys, block by block."""
    has_text = keys is not None or any(isinstance(draft.others.get(name), Text) for name in draft.names)
    size = HASH_ROWS if not has_text else 8 * HASH_ROWS
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
        codes: Any = values.codes[rows]
        return pd.Categorical.from_codes(codes, pd.Index(values.values, dtype=object))
    return values[rows]


def _columns(draft: Draft) -> tuple[Column, ...]:
    numbers = [name for name in draft.names if draft.kinds[name] not in ("text", "datetime")]
    missing, ranges = draft.missing(draft.names), draft.ranges(numbers)
    return tuple(
        Column(name, draft.kinds[name], missing[name], low, high, draft.spellings.get(name), draft.orders.get(name, ""))
        for name in draft.names
        for low, high in [ranges.get(name, (None, None))]
    )


def _frame(draft: Draft, matrix: columns.Floats, others: Mapping[str, Any]) -> pd.DataFrame:
    large = matrix.size >= LARGE_VALUES
    if not others:
        return pd.DataFrame(matrix if large else np.asfortranarray(matrix), columns=draft.names, copy=False)
    parts = {name: values.objects() if isinstance(values, Text) else values for name, values in others.items()}
    parts |= {name: matrix[:, number] for number, name in enumerate(draft.numeric)}
    return pd.DataFrame({name: parts[name] for name in draft.names}, copy=not large)
