"""The benchmarks run, and their table says what was measured."""

import sys
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet
import pytest

from benchmarks import data, measure


def case(name: str, code: str, **more: float) -> measure.Case:
    return measure.Case("work", name, (((sys.executable, "-c", code), ()),), **more)  # type: ignore[arg-type]


def test_a_table_of_what_was_measured(tmp_path: Path) -> None:
    ours = measure.run(case("ours", "pass"), tmp_path, {})
    greedy = measure.run(case("peer", "x = b'x' * 900_000_000; sum(range(10_000_000))"), tmp_path, {})
    assert 0 < ours.cpu < greedy.cpu
    assert 900 < greedy.peak < 1_200
    slow = measure.run(case("slow", "import time; time.sleep(60)", seconds=1), tmp_path, {})
    assert slow.ended
    lines = measure.table({case("ours", ""): ours, case("peer", ""): greedy, case("slow", ""): slow}).splitlines()
    assert lines[2].startswith("| work | ours | ")
    assert lines[2].endswith("| 1 | 1 | 1 |")
    assert "| > " in lines[4]
    with pytest.raises(RuntimeError, match="ours failed"):
        measure.run(case("ours", "raise SystemExit(3)"), tmp_path, {})


def test_the_same_rows_every_time(tmp_path: Path) -> None:
    first, second = (data.write(tmp_path / name, 1_000, features=2) for name in ("a.parquet", "b.parquet"))
    table = pyarrow.parquet.read_table(first)
    assert table.equals(pyarrow.parquet.read_table(second))
    assert table.column_names == ["f0", "f1", "y"]
    assert pyarrow.csv.read_csv(data.write(tmp_path / "a.csv", 1_000, features=2)).equals(table)
