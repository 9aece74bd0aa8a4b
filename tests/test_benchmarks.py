"""The benchmarks run, and their table says what was measured."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.csv
import pyarrow.parquet
import pytest

from benchmarks import data, fuzz, measure, tables


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


def test_a_real_table_is_held_against_a_plain_pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=90), "b": rng.normal(size=90)}).assign(y=lambda f: f["a"] - f["b"])
    frame.to_csv(tmp_path / "mine.csv", index=False)
    frame.head(6).to_csv(tmp_path / "mine_is_short.csv", index=False)
    assert tables.main([str(tmp_path), "--only", "mine"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("trained ")
    assert " 1.000  mine.csv: " in said[0]
    assert said[1].startswith("refused ")
    assert "rmse at most 1.05 x plain: 100.0% of 1" in said


def test_a_table_that_takes_too_long_is_left() -> None:
    def forever() -> None:
        while True:
            pass

    with pytest.raises(tables.TooLongError), tables.limited(0.01):
        forever()


@pytest.mark.parametrize("name", fuzz.originals())
def test_what_is_damaged_was_sound(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{name.split('-')[-1]}"
    path.write_bytes(fuzz.originals()[name])
    assert fuzz.attempt(path) == "trained"
    path.write_bytes(path.read_bytes()[:40])
    assert fuzz.attempt(path) == "two lines"


def test_a_trial_can_be_had_again() -> None:
    trials = [fuzz.damaged(3, trial) for trial in range(30)]
    assert trials == [fuzz.damaged(3, trial) for trial in range(30)]
    assert all(data not in fuzz.originals().values() for name, data in trials if name == ".parquet")
