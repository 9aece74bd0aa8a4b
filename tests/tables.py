"""Small tables for tests, and how train.py would read them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from trainer import settings, table
from trainer.group import ALONE, Group


def read_settings(data: object, target: str = "y", **given: object) -> settings.Settings:
    """Read the parameters of a command line."""
    spelled = settings.defaults() | {"data": str(data), "target": target, "model_name": "none"}
    return settings.read(spelled | {name: str(value) for name, value in given.items()})


def load(data: object, target: str = "y", group: Group = ALONE, **given: object) -> table.Table:
    """Read a table with the parameters of a command line."""
    return table.load(read_settings(data, target, **given), group)


def csv(path: Path, columns: Mapping[str, Sequence[object]], separator: str = ",") -> Path:
    """Write columns as CSV, each value as it is."""
    lines = [separator.join(columns), *(separator.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def whole(read: table.Table) -> pd.DataFrame:
    """Return the rows of both sides in the table's order; the test rows know their numbers."""
    assert read.test.numbers is not None
    n_rows = len(read.training.target) + len(read.test.target)
    rest = [number for number in range(n_rows) if number not in set(read.test.numbers.tolist())]
    sides = [
        side.features.assign(**{"": side.target}).set_axis(numbers)
        for side, numbers in ((read.training, rest), (read.test, read.test.numbers))
    ]
    return pd.concat(sides).sort_index()


def kinds(read: table.Table) -> dict[str, str]:
    """Return the kinds of the features."""
    return {column.name: column.kind for column in read.columns}


def told(read: table.Table, code: str) -> list[str]:
    """Return the remarks with a code."""
    return [remark.text for remark in read.remarks if remark.code == code]
