"""Several processes that train one model: on this machine, over loopback, as nodes of a cluster would."""

import json
import multiprocessing
import re
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests import rank
from tests.conftest import Done
from tests.standin.state import free_port
from tests.tables import load, read_settings
from trainer import distributed
from trainer.distributed import Place, ProcessGroup
from trainer.errors import UserError

N = 4_000


def rounded() -> pd.DataFrame:
    """Return a table whose features have few values each: then all processes find the same cut points."""
    generator = np.random.default_rng(1)
    frame = pd.DataFrame(generator.normal(size=(N, 4)).round(1), columns=list("abcd"))
    frame["count"] = generator.integers(0, 50, N)
    frame["id"] = range(1, N + 1)
    frame["nothing"] = np.nan
    frame["y"] = 2 * frame["a"] + frame["b"] ** 2 + 0.1 * frame["count"] + generator.normal(size=N) * 0.3
    frame.loc[[7, 2_000], "b"] = np.nan
    frame.loc[[3, 777], "y"] = np.nan
    return frame


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rounded") / "table.parquet"
    rounded().to_parquet(path, row_group_size=500, index=False)
    return path


# Processes that have imported what they need: each is a fork of one that has.
FORKS = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows
PROCESSES = multiprocessing.get_context("forkserver" if FORKS else "spawn")
if FORKS:
    PROCESSES.set_forkserver_preload(["tests.rank"])


class Ranks:
    """Processes that train together."""

    def __init__(self, folder: Path, size: int, *arguments: object, only: int | None = None, **environ: str) -> None:
        place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())} | environ
        self.said = [(folder / f"out-{rank}", folder / f"err-{rank}") for rank in range(size if only is None else only)]
        self.processes = [
            PROCESSES.Process(
                target=rank.become,
                args=(str(out), str(err), place | {"RANK": str(number)}, [str(one) for one in arguments]),
            )
            for number, (out, err) in enumerate(self.said)
        ]
        for process in self.processes:
            process.start()

    def __enter__(self) -> "Ranks":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def end(self, number: int) -> Done:
        """Wait for the end of a process."""
        self.processes[number].join(240)
        code = self.processes[number].exitcode
        assert code is not None, "it goes on after 240 s"
        out, err = self.said[number]
        return Done(code, out.read_text(), err.read_text())


def found(done: Done) -> dict[str, Any]:
    assert done.code == 0, done.err
    return json.loads(next(line for line in done.out.splitlines() if line.startswith("{")))


def test_several_processes_read_the_table_of_one_and_train_one_model(shared: Path, tmp_path: Path) -> None:
    size = 3
    alone = load(shared)
    with Ranks(tmp_path, size, shared) as ranks:
        parts = [found(ranks.end(number)) for number in range(size)]
    columns = [[one.name, one.kind, one.missing, one.low, one.high] for one in alone.columns]
    for part in parts:
        assert (part["n_rows"], part["columns"]) == (N - 2, columns)
        assert part["remarks"] == [remark.text for remark in alone.remarks]
        assert part["model"] == parts[0]["model"]
        assert part["metrics"] == pytest.approx(parts[0]["metrics"], rel=1e-12)
    assert parts[0]["sha256"] == alone.source.sha256
    assert alone.test.numbers is not None
    targets = dict(zip(alone.test.numbers.tolist(), alone.test.target.tolist(), strict=True))
    assert {n: t for part in parts for n, t in zip(part["numbers"], part["target"], strict=True)} == targets
    assert parts[0]["metrics"]["rows_test"] == len(alone.test.target)
    around = ((alone.test.target - alone.training.target.mean()) ** 2).mean() ** 0.5
    assert parts[0]["metrics"]["baseline_rmse"] == pytest.approx(around, rel=1e-12)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no signal stops a process of Windows")
@pytest.mark.parametrize(
    ("step", "victim", "name"),
    [
        ("joined", 1, "SIGSTOP"),
        ("read", 0, "SIGKILL"),
        ("measured", 0, "SIGSTOP"),
    ],
)
def test_a_process_that_is_killed_or_stopped_ends_the_others(
    step: str, victim: int, name: str, shared: Path, tmp_path: Path
) -> None:
    with Ranks(tmp_path, 2, shared, step, victim, int(signal.Signals[name]), IMPATIENT="yes") as ranks:
        done = ranks.end(1 - victim)
    assert done.code == 2, done.err
    assert f"process {1 - victim} of 2 has lost" in done.err
    assert "Traceback" not in done.err
    assert "{" not in done.out


def test_a_process_that_nobody_joins_says_so_while_it_waits_and_ends(shared: Path, tmp_path: Path) -> None:
    with Ranks(tmp_path, 2, shared, only=1, ALONE="yes") as ranks:
        done = ranks.end(0)
    assert done.code == 2
    assert re.search(r"waiting     process 0 of 2: not all are there yet, \d+ of 8 s", done.err)
    assert "process 0 of 2 waited for the others at 127.0.0.1:" in done.err


def test_what_is_wrong_with_one_share_ends_all(tmp_path: Path) -> None:
    frame = rounded()
    frame.loc[778, "c"] = np.inf  # in the second row group, which only process 1 reads
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=500, index=False)
    broken = frame.assign(c=1.0).to_parquet(row_group_size=500, index=False)
    middle = broken.index(b"PAR1") + 4
    with Ranks(tmp_path, 2, tmp_path / "t.parquet") as ranks:
        for number in range(2):
            done = ranks.end(number)
            assert done.code == 2
            assert f"column 'c' of {tmp_path / 't.parquet'} is infinite in row 779" in done.err
    second = tmp_path / "second"
    second.mkdir()
    (second / "b.parquet").write_bytes(broken[:middle] + b"\xff" * 40 + broken[middle + 40 :])  # process 0 reads it
    with Ranks(second, 2, second / "b.parquet") as ranks:
        first, second = ranks.end(0), ranks.end(1)
    assert (first.code, second.code) == (2, 2)
    assert "cannot be read as Parquet" in first.err
    assert "process 0 of 2 cannot go on" in second.err
    assert "see what process 0 says" in second.err


OWN = Place(1, 2, "127.0.0.1", 1)


def test_what_cannot_be_shared_is_seen_before_anybody_waits(shared: Path, tmp_path: Path) -> None:
    frame = rounded()
    frame.to_parquet(tmp_path / "one.parquet", index=False)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.assign(city="Oslo", day=pd.Timestamp(0)).to_parquet(tmp_path / "text.parquet", row_group_size=500)
    distributed.check_share(read_settings(shared), OWN)
    for name, expected in {
        "one.parquet": "2 processes need 2 row groups of Parquet or more, and .* has 1 row group",
        "t.csv": "several processes read Parquet, and .* is CSV",
        "text.parquet": "the column 'city' is of type string, the column 'day' is of type timestamp",
    }.items():
        with pytest.raises(UserError, match=expected) as caught:
            distributed.check_share(read_settings(tmp_path / name), OWN)
    assert "drop=city,day" in caught.value.remedy
    distributed.check_share(read_settings(tmp_path / "text.parquet", drop="city,day"), OWN)


def test_where_a_process_stands_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.place() is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert distributed.place() is None
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="RANK and MASTER_ADDR and MASTER_PORT is not set"):
        distributed.place()
    for name, text in {"RANK": "2", "MASTER_ADDR": "node-0", "MASTER_PORT": "6105"}.items():
        monkeypatch.setenv(name, text)
    assert distributed.place() == Place(2, 3, "node-0", 6105)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UserError, match="RANK should be an integer from 0 to 2, and is '3'"):
        distributed.place()
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match="the environment variable WORLD_SIZE should be an integer") as caught:
        distributed.place()
    assert caught.value.remedy == "unset WORLD_SIZE to train in one process"


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "JOIN_SECONDS", 1)
    with (
        pytest.raises(UserError, match="process 1 of 2 did not find process 0"),
        distributed.process_group(Place(1, 2, "127.0.0.1", free_port())),
    ):
        pass


def test_the_port_of_process_0_is_taken() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"cannot listen at 127.0.0.1:{port}: Address already in use"),
            distributed.process_group(Place(0, 2, "127.0.0.1", port)),
        ):
            pass


def test_process_0_listens_everywhere_where_its_address_is_not_its_own() -> None:
    tracker = distributed._tracker(Place(0, 2, "192.0.2.1", free_port()), "192.0.2.1")
    assert tracker.worker_args()["dmlc_tracker_uri"] == "0.0.0.0"
    distributed._free(tracker)


def test_a_group_says_where_it_stands() -> None:
    group = ProcessGroup(OWN)
    assert (group.rank, group.world_size, str(OWN)) == (1, 2, "process 1 of 2")
    group.check()
