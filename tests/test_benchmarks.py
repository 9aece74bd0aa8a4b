"""The benchmarks run, and their table says what was measured."""

import sys
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest

from benchmarks import data, measure


def case(name: str, code: str, **more: float) -> measure.Case:
    return measure.Case("work", name, (((sys.executable, "-c", code), ()),), **more)  # type: ignore[arg-type]


def test_commands_are_measured_and_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    ours = measure.run(case("ours", "pass"), tmp_path, {})
    assert ours.cpu > 0
    assert ours.peak > 1
    assert not ours.ended
    assert measure.run(case("slow", "import time; time.sleep(600)", seconds=0.1), tmp_path, {}).ended
    with pytest.raises(RuntimeError, match="ours failed"):
        measure.run(case("ours", "raise SystemExit(3)"), tmp_path, {})


def test_a_table_of_what_was_measured() -> None:
    costs = [measure.Cost(2.0, 3.0, 100.0), measure.Cost(5.0, 4.5, 250.0), measure.Cost(9.0, 9.0, 100.0, ended=True)]
    cases = [case("ours", ""), case("peer", ""), case("slow", "")]
    lines = measure.table(dict(zip(cases, costs, strict=True))).splitlines()
    assert lines[2:] == [
        "| work | ours | 2.0 | 3.0 | 100 | 1 | 1 | 1 |",
        "| work | peer | 5.0 | 4.5 | 250 | 2.50 | 1.50 | 2.50 |",
        "| work | slow | > 9.0 | > 9.0 | > 100 | > 4.50 | > 3.00 | > 1.00 |",
    ]
    assert measure.median_of([costs[0], costs[1], costs[0]]) == costs[0]


def test_the_same_rows_every_time(tmp_path: Path) -> None:
    first, second = (data.write(tmp_path / name, 1_000, features=2) for name in ("a.parquet", "b.parquet"))
    table = pyarrow.parquet.read_table(first)
    assert table.equals(pyarrow.parquet.read_table(second))
    assert table.column_names == ["f0", "f1", "y"]
    assert pyarrow.csv.read_csv(data.write(tmp_path / "a.csv", 1_000, features=2)).equals(table)
