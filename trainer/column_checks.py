"""Checks of the columns of a table: each function says in a sentence what it has found, or nothing."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.material import Floats, Material, known, listed, quoted, spelled

# Alone, a feature gives the target away from this share of its variance on, if the model leaves at least half of the
# rest unexplained.
LEAK_R2, LEAK_REST = 0.95, 0.5
# A text that alone says so much is mostly one that names a country, say; it takes more to be remarked on.
LEAK_R2_OF_TEXT = 0.99
LEAK_ROWS = 30
# Neighbours on each side whose mean predicts a row.
NEIGHBOURS = 2
# A column of integers numbers the rows where its values leave no more than this share of gaps.
GAPS = 0.2
TIME_NAME = re.compile(r"(^|[_\W])(year|yr|jahr|month|week|day|date|time|t|trend|period|quarter|hour|age)s?\d*$", re.I)
YEARS = (1_500, 2_200)
# Where nine of ten texts are numbers, the column was meant to be numeric.
NUMERIC_SHARE = 0.9
NUMBER = re.compile(r"\s*[+-]?(0|[1-9]\d*|\d*\.\d+|[1-9]\d*\.\d*|0\.)([eE][+-]?\d+)?\s*")
CODE = re.compile(r"0\d+")
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*")
# What is neither all nines nor rare is a quantity: the zeros of an interaction, say.
SENTINEL_SHARE = 0.2
NINES = re.compile(r"-?(9{2,}|8{3,}|7{3,}|6{3,})")
DISTINCT_SHARE = 0.95
# What names an entity: at least this many, with so many rows each, most of them more than once, and alike.
GROUPS, GROUP_ROWS, REPEATED, ALIKE = 20, 100, 0.8, 0.15
GROUPED_ROWS = 200_000
ID_NAME = re.compile(
    r"(^|[_\W])(id|ids|nr|code|key|uuid|subject|patient|person|student|pupil|child|mouse|rat|animal|customer|client|"
    r"user|account|household|hh|family|firm|company|plant|site|station|store|shop|machine|device|sensor|batch|lot|"
    r"school|class|hospital|country|state|county|city|district|region)(_?(id|no|nr|num|number|code))?$|[a-z]I[Dd]$",
    re.I,
)


def leak(material: Material) -> str:
    """A feature that alone is nearly as good as the model."""
    r2 = material.metrics["r2"]
    if material.n_rows < LEAK_ROWS or len(material.table.columns) < 2:
        return ""
    passed = {*_of_target(material), *_dates(material)}
    alone = {
        name: share for name, share in _alone(material).items() if name not in passed and not TIME_NAME.search(name)
    }
    found = [
        name
        for name, share in alone.items()
        if share >= (LEAK_R2_OF_TEXT if name in material.texts else LEAK_R2) and LEAK_REST * (1 - share) <= 1 - r2
    ]
    if not found:
        return ""
    found.sort(key=lambda name: -alone[name])
    target, first = quoted(material.settings.target), quoted(found[0])
    return f"{first} alone predicts {target} (r2 {alone[found[0]]:.3f}): if it is known only afterwards, drop it"


def _alone(material: Material) -> dict[str, float]:
    """Return the share of the target's variance that each feature predicts alone, of rows that were left out."""
    target = material.target - material.target.mean()
    total = float(np.sum(target**2))
    if not total > 0:
        return {}
    shares: dict[str, float] = {}
    if material.names:
        order = np.argsort(material.numbers, axis=0, kind="stable")
        summed = np.vstack([np.zeros(order.shape[1]), np.cumsum(target[order], axis=0)])
        at = np.arange(len(target))
        low, high = np.maximum(at - NEIGHBOURS, 0), np.minimum(at + NEIGHBOURS + 1, len(target))
        own = target[order]
        mean = (summed[high] - summed[low] - own) / (high - low - 1)[:, np.newaxis]
        by_neighbours = 1 - np.sum((own - mean) ** 2, axis=0) / total
        shares |= dict(zip(material.names, np.fmax(by_neighbours, _correlation(material) ** 2), strict=True))
    for name, values in material.texts.items():
        codes, _ = pd.factorize(pd.Series(values).fillna("(missing)"))
        counts, sums = np.bincount(codes)[codes], np.bincount(codes, weights=target)[codes]
        others = np.where(counts > 1, (sums - target) / np.maximum(counts - 1, 1), 0.0)
        shares[name] = 1 - float(np.sum((target - others) ** 2)) / total
    return shares


def _correlation(material: Material) -> Floats:
    """Return the correlation of each numeric feature with the target; a missing value counts as the mean."""
    present = ~np.isnan(material.numbers)
    means = np.sum(material.numbers, axis=0, where=present) / np.maximum(present.sum(axis=0), 1)
    centred = np.nan_to_num(material.numbers - means, posinf=0.0, neginf=0.0)
    scale = np.abs(centred).max(axis=0)
    centred = centred / np.where(scale > 0, scale, 1.0)
    target = material.target - material.target.mean()
    target = target / max(float(np.abs(target).max()), np.finfo(float).tiny)
    size = np.sqrt((centred**2).sum(axis=0) * np.sum(target**2))
    found: Floats = np.where(size > 0, centred.T @ target / np.where(size > 0, size, 1.0), 0.0)
    return found


def _of_target(material: Material) -> list[str]:
    """Name the features that are the target times a constant, plus another."""
    if material.n_rows < 10 or not material.names:
        return []
    exact = np.abs(_correlation(material)) > 1 - 1e-12
    complete = ~np.isnan(material.numbers).any(axis=0)
    return [name for name, is_copy in zip(material.names, exact & complete, strict=True) if is_copy]


def copy(material: Material) -> str:
    """A copy of the target, or of another feature."""
    if of_target := _of_target(material):
        return (
            f"{listed(of_target)} is the target {quoted(material.settings.target)} itself, scaled or shifted: drop it"
        )
    first: dict[Any, str] = {}
    found: list[tuple[str, str]] = []
    constants = {*_constant(material)}
    numbers = dict(zip(material.names, material.numbers.T, strict=True))
    for name in (column.name for column in material.table.columns):
        if name in constants or material.n_rows < 10:
            continue
        values = np.ascontiguousarray(numbers[name]) if name in numbers else _texts(material, name)
        other = first.setdefault(
            pd.util.hash_array(values).tobytes() if values.dtype == object else values.tobytes(), name
        )
        if other != name and _equal(material, name, other):
            found.append((name, other))
    if not found:
        return ""
    more = f", and {len(found) - 1} more are copies" if len(found) > 1 else ""
    return f"{quoted(found[0][0])} is a copy of {quoted(found[0][1])}{more}: drop what is not needed"


def _texts(material: Material, name: str) -> npt.NDArray[Any]:
    return np.array([str(value) for value in material.texts[name]], dtype=object)


def _equal(material: Material, name: str, other: str) -> bool:
    pairs = zip(material.whole(name), material.whole(other), strict=True)
    return all(one.reset_index(drop=True).equals(two.reset_index(drop=True)) for one, two in pairs)


def constant(material: Material) -> str:
    """Features with one value in all rows."""
    found = _constant(material)
    if not found:
        return ""
    return f"{listed(found)} {'has' if len(found) == 1 else 'have'} one value in all rows and cannot help"


def _constant(material: Material) -> list[str]:
    with_one = (material.numbers == material.numbers[:1]).all(axis=0) if material.n_rows else []
    candidates = [name for name, is_one in zip(material.names, with_one, strict=False) if is_one]
    candidates += [name for name, values in material.texts.items() if len(set(map(str, values))) == 1]
    return [
        name
        for name in candidates
        if len({value for side in material.whole(name) for value in side.unique().tolist()}) == 1
    ]


def row_number(material: Material) -> str:
    """An integer column that numbers the rows."""
    found, dates = [], _dates(material)
    for name, values in zip(material.names, material.numbers.T, strict=True):
        n_rows = material.table.n_rows
        integers = n_rows >= 20 and not np.isnan(values).any() and bool((values == np.floor(values)).all())
        if not integers or TIME_NAME.search(name) or len(np.unique(values)) < len(values):
            continue
        low, high = values.min(), values.max()
        if (YEARS[0] <= low and high <= YEARS[1]) or high - low > (1 + GAPS) * n_rows or name in dates:
            continue
        sides = np.concatenate([side.to_numpy(dtype=np.float64) for side in material.whole(name)])
        if sides.max() - sides.min() < (1 + GAPS) * n_rows and len(np.unique(sides)) == len(sides):
            found.append(name)
    if not found:
        return ""
    is_or_are = "is" if len(found) == 1 else "are"
    return f"{listed(found)} {is_or_are} different in every row, like a row number: drop={spelled(found)}"


def _dates(material: Material) -> set[str]:
    return {column.name for column in material.table.columns if column.kind == "datetime"}


def sentinel(material: Material) -> str:
    """A value that stands for a missing one."""
    found = []
    for name, values in zip(material.names, material.numbers.T, strict=True):
        distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
        if len(distinct) < 8:
            continue
        for edge, others in ((0, distinct[1:]), (-1, distinct[:-1])):
            value, count = distinct[edge], counts[edge]
            gap = min(abs(value - others[0]), abs(value - others[-1]))
            spread = others[-1] - others[0]
            is_nines = NINES.fullmatch(f"{value:.0f}") is not None and value == np.floor(value)
            few = count <= SENTINEL_SHARE * material.n_rows
            if count >= 3 and ((few and gap > 2 * spread) or (is_nines and gap > 0.5 * spread)):
                found.append((name, value, count))
    if not found:
        return ""
    name, value, count = found[0]
    more = f" (and {len(found) - 1} more columns)" if len(found) > 1 else ""
    return (
        f"{quoted(name)} says {value:g} in {count} of {material.n_rows} rows, far from the rest{more}: a missing value?"
    )


def text_numbers(material: Material) -> str:
    """A text column that is numbers but for a few values."""
    if any(remark.code == "text_numbers" for remark in material.table.remarks):
        return ""
    for name, values in material.texts.items():
        texts = known(values)
        others = [text for text in texts if not NUMBER.fullmatch(text)]
        is_code = any(CODE.fullmatch(text) for text in others)
        if len(texts) >= 10 and len(others) <= (1 - NUMERIC_SHARE) * len(texts) and not is_code:
            share = f"{len(texts) - len(others)} of {len(texts)} values"
            but = f"; {quoted(others[0])} is not" if others else ""
            return f"{quoted(name)} is text, although {share} are numbers{but}"
    return ""


def decimal_comma(material: Material) -> str:
    """A text column that is numbers with a decimal comma."""
    for name, values in material.texts.items():
        texts = known(values)
        commas = [text for text in texts if DECIMAL_COMMA.fullmatch(text) and not THOUSANDS.fullmatch(text)]
        numbers = sum(bool(NUMBER.fullmatch(text) or DECIMAL_COMMA.fullmatch(text)) for text in texts)
        if len(texts) >= 10 and numbers >= NUMERIC_SHARE * len(texts) and len(commas) >= 0.5 * len(texts):
            point = commas[0].replace(",", ".")
            return f"{quoted(name)} is text such as {quoted(commas[0])}: decimal commas? Write {point}"
    return ""


def case_text(material: Material) -> str:
    """Texts that differ by case or blanks alone."""
    for name, values in material.texts.items():
        distinct = set(known(values))
        if len(distinct) > 0.5 * material.n_rows:
            continue
        alike: dict[str, str] = {}
        for text in sorted(distinct):
            other = alike.setdefault(" ".join(text.casefold().split()), text)
            if other != text:
                return f"{quoted(name)} has both {quoted(other)} and {quoted(text)}: write them alike if they are one"
    return ""


def distinct_text(material: Material) -> str:
    """Text that differs in nearly every row."""
    found = []
    for name, values in material.texts.items():
        texts = known(values)
        if len(texts) >= 20 and len(set(texts)) >= DISTINCT_SHARE * len(texts):
            found.append(name)
    if not found:
        return ""
    is_or_are = "is" if len(found) == 1 else "are"
    return f"{listed(found)} {is_or_are} different in nearly every row and cannot help: drop={spelled(found)}"


def groups(material: Material) -> str:
    """A column that may name the entity that several rows belong to."""
    if material.settings.key or material.settings.split == "time":
        return ""
    rows = material.table.training
    target = rows.target[:GROUPED_ROWS]
    best: tuple[float, str, int] | None = None
    for column in material.table.columns:
        if column.kind not in ("text", "integer") or (column.kind == "integer" and not ID_NAME.search(column.name)):
            continue
        values = rows.features[column.name].iloc[:GROUPED_ROWS]
        if values.isna().any():
            continue
        codes, distinct = pd.factorize(values)
        counts = np.bincount(codes)
        if not GROUPS <= len(counts) <= len(codes) / 2 or len(codes) / len(counts) > GROUP_ROWS:
            continue
        if (counts > 1).mean() < REPEATED:
            continue
        similar = alike(codes, target)
        if similar >= ALIKE and (best is None or similar > best[0]):
            best = similar, column.name, len(distinct)
    if best is None:
        return ""
    _, name, count = best
    return f"{quoted(name)} has {count} values in {len(target)} rows: if it names an entity, give key={name}"


def alike(codes: npt.NDArray[np.intp], target: Floats) -> float:
    """Return the intraclass correlation of the target, ICC(1): 0 where groups do not matter, 1 where they are all."""
    counts = np.bincount(codes)
    n_groups, n_rows = len(counts), len(codes)
    means = np.bincount(codes, weights=target) / counts
    within = float(np.sum((target - means[codes]) ** 2)) / (n_rows - n_groups)
    between = float(np.sum(counts * (means - target.mean()) ** 2)) / (n_groups - 1)
    typical = (n_rows - float(np.sum(counts**2)) / n_rows) / (n_groups - 1)
    total = between + (typical - 1) * within
    return (between - within) / total if total > 0 else 0.0
