"""What each column of a table is for: target, key, time, feature; by its name and type."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer import columns
from trainer.errors import Remark, UserError, nearest
from trainer.gather import pasted
from trainer.spelling import Clock

if TYPE_CHECKING:
    from trainer.settings import Settings

# What pandas calls the index of a DataFrame in a Parquet file, and reads as an index again.
_INDEX = re.compile(r"__index_level_\d+__")


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
    times : mapping of str to Clock
        Those of the features that are times of day or durations by their type.
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
    times: Mapping[str, Clock] = field(default_factory=dict)


def assign(names: Sequence[str], schema: Mapping[str, Any], settings: "Settings", data: str) -> Roles:
    """Check the columns by their names and types.

    Raises
    ------
    UserError
        A column is not there, or there twice, or none is left, or some cannot be used.
    """
    if len(names) > 1 and all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", one, re.IGNORECASE) for one in names):
        raise UserError(
            f"the first line of {data} has numbers where the names of the columns should be: {', '.join(names)[:60]}",
            "write a line with the names above it",
        )
    if duplicates := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UserError(
            f"{data} has more than one column {' and '.join(map(repr, duplicates))}", "rename or drop the duplicates"
        )
    target, key, time = settings.target, settings.key, settings.time if settings.split == "time" else None
    _check_names(names, settings, time, data)
    given = names if settings.columns is None else settings.columns
    features = [name for name in given if name != target and name not in key and name not in settings.drop]
    remarks = []
    if settings.columns is None and (index := [name for name in features if _INDEX.fullmatch(name)]):
        features = [name for name in features if not _INDEX.fullmatch(name)]
        remarks.append(left_out("row_number", index, "the index of a DataFrame"))
    if not features:
        raise UserError(
            f"{data} has no feature: its columns are {listed(names)}",
            "add at least one column besides the target and the keys",
        )
    if not_features := [name for name in settings.show or () if name not in features]:
        raise UserError(
            f"show names {not_features[0]!r}, which is no feature", f"give show={pasted(features[:1])}, say"
        )
    extra = None if time is None or time in features else time
    kinds = {name: columns.meaning(schema[name]) for name in [*features, target, *([extra] if extra else [])]}
    bad = [name for name in kinds if kinds[name] is None and name != target]
    if bad:
        described = and_([f"{name!r} ({schema[name]})" for name in bad])
        raise UserError(
            f"{'column' if len(bad) == 1 else 'columns'} {described} of {data} cannot be "
            f"{'a feature' if len(bad) == 1 else 'features'}; numbers, text, dates and booleans can",
            f"leave {'it' if len(bad) == 1 else 'them'} out: drop={pasted([*settings.drop, *bad])}",
        )
    if kinds[target] not in ("integer", "number", "seconds", "text", "empty"):
        raise UserError(
            f"the target {target!r} of {data} is not numeric, but {schema[target]}", "give a target column of numbers"
        )
    known = {name: str(kind) for name, kind in kinds.items()}
    times = {name: columns.clock(schema[name]) for name in features if known[name] == "seconds"}
    chosen = settings.columns is not None
    return Roles(tuple(features), chosen, target, key, time, extra, known, data, tuple(remarks), times)


def _check_names(names: Sequence[str], settings: "Settings", time: str | None, data: str) -> None:
    target, key = settings.target, settings.key
    wanted = [
        ("target", target),
        *(("key", name) for name in key),
        *(("columns", name) for name in settings.columns or ()),
    ]
    wanted += [(role, name) for role in ("drop", "show") for name in getattr(settings, role) or ()]
    wanted += [("time", time)] if time else []
    present = set(names)
    absent = [(role, name) for role, name in wanted if name not in present]
    if absent:
        said = and_([f"the {'feature' if role == 'columns' else role} {name!r}" for role, name in absent])
        role, name = absent[0]
        raise UserError(
            f"{said} {'is not a column' if len(absent) == 1 else 'are no columns'} of {data}{nearest(name, names)}",
            f"give {role}=NAME with one of {listed(names)}",
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


# -- sentences ------------------------------------------------------------------------------------


def left_out(code: str, names: Sequence[str], why: str) -> Remark:
    """Say which columns are left out, and how to have them."""
    return Remark(code, f"left out: {listed(names)} ({why}); to have it, name the features: columns=A,B,...")


def and_(words: Sequence[str]) -> str:
    """Join words as a sentence does."""
    shown = [*words[:12], f"... ({len(words)} in all)"] if len(words) > 12 else list(words)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def listed(names: Sequence[str]) -> str:
    """Name some columns, the first of them if they are many."""
    return ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
