"""Several processes that train one model: on this machine, over loopback, as nodes of a cluster would."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.conftest import ROOT, Done, Trainer, run_id
from tests.standin.state import free_port
from trainer import workers
from trainer.errors import UserError

RNG = np.random.default_rng(1)
N = 4_000


@pytest.fixture(scope="module")
def rounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table whose features have few values each: then all processes find the same cut points."""
    frame = pd.DataFrame(RNG.normal(size=(N, 4)).round(1), columns=list("abcd"))
    frame["count"] = RNG.integers(0, 50, N)
    frame["y"] = 2 * frame["a"] + frame["b"] ** 2 + 0.1 * frame["count"] + RNG.normal(size=N) * 0.3
    path = tmp_path_factory.mktemp("rounded") / "table.parquet"
    frame.to_parquet(path, row_group_size=500, index=False)
    return path


def start(size: int, *arguments: object, said: Path | None = None) -> list[subprocess.Popen[str]]:
    """Start processes that train together; what they say goes to pipes, or all of it to a file each in a folder."""
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = []
    for rank in range(size):
        with contextlib.ExitStack() as files:
            file = files.enter_context((said / f"{rank}.txt").open("w")) if said else None
            process = subprocess.Popen(
                [sys.executable, "train.py", *map(str, arguments)],
                cwd=ROOT,
                env=os.environ | place | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stdout=file or subprocess.PIPE,
                stderr=file or subprocess.PIPE,
                text=True,
            )
        processes.append(process)
    return processes


def finish(processes: list[subprocess.Popen[str]], seconds: float = 240) -> list[Done]:
    deadline = time.monotonic() + seconds
    try:
        said = [one.communicate(timeout=max(1.0, deadline - time.monotonic())) for one in processes]
        return [Done(one.returncode, out, err) for one, (out, err) in zip(processes, said, strict=True)]
    finally:
        end(processes)


def end(processes: list[subprocess.Popen[str]]) -> None:
    for one in processes:
        if one.poll() is None:
            one.kill()
            one.communicate()
        for stream in (one.stdout, one.stderr):
            if stream is not None:
                stream.close()


def trained(data: Path, name: str, *more: str) -> list[str]:
    common = ["--estimator=xgboost", "--target=y", "--cv=0", "--n-estimators=20", f"--data={data}"]
    return [*common, f"--model-name={name}", *more]


PROBE = """
import json, sys, mlflow, pandas as pd
frame = pd.read_parquet(sys.argv[1]).sample(frac=1, axis=1, random_state=0)
print(json.dumps(mlflow.pyfunc.load_model(sys.argv[2]).predict(frame.drop(columns="y")).tolist()))
"""


def predictions(data: Path, model: str) -> np.ndarray:
    asked = subprocess.run([sys.executable, "-c", PROBE, data, model], capture_output=True, text=True, check=True)
    return np.array(json.loads(asked.stdout))


@pytest.mark.parametrize("size", [2, 4])
def test_several_processes_train_the_model_of_one(
    size: int, rounded: Path, trains: Trainer, store: mlflow.MlflowClient
) -> None:
    before = len(store.search_runs(["0"]))
    alone = trains(estimator="xgboost", target="y", cv=0, n_estimators=20, data=rounded, model_name=f"one-{size}")
    assert alone.code == 0, alone.err
    done = finish(start(size, *trained(rounded, f"many-{size}")))
    assert [one.code for one in done] == [0] * size, done
    assert len(store.search_runs(["0"])) == before + 2  # one each
    assert [version.version for version in store.search_model_versions(f"name='many-{size}'")] == [1]

    one, many = (store.get_run(run_id(of)).data.metrics for of in (alone, done[0]))
    assert many["rows_train"] + many["rows_test"] == N
    for name in ("rows_train", "rows_test", "baseline_rmse"):
        assert many[name] == pytest.approx(one[name], rel=1e-12)
    for name in ("rmse", "mae", "mse", "r2"):
        assert many[name] == pytest.approx(one[name], rel=1e-6)
    shares = [next(line for line in of.err.splitlines() if " training + " in line).split() for of in done]
    assert sum(int(words[4]) + int(words[7]) for words in shares) == N
    assert {words[11] for words in shares} == {str(N)}

    expected = predictions(rounded, f"models:/one-{size}/1")
    assert np.abs(predictions(rounded, f"models:/many-{size}/1") - expected).max() < 1e-6


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed_takes_the_others_with_it_and_registers_nothing(
    victim: int, rounded: Path, store: mlflow.MlflowClient, tmp_path: Path
) -> None:
    name = f"killed-{victim}"
    processes = start(2, *trained(rounded, name, "--n-estimators=1000000"), said=tmp_path)
    try:
        watched = processes[1 - victim]
        run = wait_for_run(store, name, processes)
        wait_until_they_have_met(tmp_path, processes)
        time.sleep(2)  # into the fit
        assert all(one.poll() is None for one in processes)
        processes[victim].send_signal(signal.SIGKILL)
        watched.wait(240)
    finally:
        end(processes)
    said = (tmp_path / f"{1 - victim}.txt").read_text()
    assert watched.returncode == 2, said
    assert f"process {1 - victim} of 2 has lost another one" in said
    assert "Traceback" not in said
    if victim == 1:
        assert store.get_run(run).info.status == "FAILED"
    assert not store.search_model_versions(f"name='{name}'")


def wait_until_they_have_met(said: Path, processes: list[subprocess.Popen[str]]) -> None:
    """Wait for the line that XGBoost writes in each process once all have come."""
    deadline = time.monotonic() + 240
    while not all("got rank" in path.read_text(errors="replace") for path in said.iterdir()):
        assert time.monotonic() < deadline
        assert all(one.poll() is None for one in processes)
        time.sleep(0.1)


def wait_for_run(client: mlflow.MlflowClient, name: str, processes: list[subprocess.Popen[str]]) -> str:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and all(one.poll() is None for one in processes):
        if found := client.search_runs(["0"], f"params.model_name = '{name}'"):
            return str(found[0].info.run_id)
        time.sleep(0.2)
    raise TimeoutError([one.poll() for one in processes])


def test_what_is_wrong_with_one_share_is_said_by_all(rounded: Path, tmp_path: Path, store: mlflow.MlflowClient) -> None:
    frame = pd.read_parquet(rounded)
    frame.loc[777, "c"] = np.inf  # in the second row group, which only process 1 reads
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=500, index=False)
    done = finish(start(2, *trained(tmp_path / "t.parquet", "infinite")))
    for one in done:
        assert one.code == 2
        assert "column 'c' of" in one.err
        assert "is infinite in row 778" in one.err
    assert not store.search_model_versions("name='infinite'")


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process one of two that would wait for the other, if it got as far."""
    for name, text in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, text)

    def too_late(*_: object) -> None:
        raise AssertionError("it went to look for the others")

    monkeypatch.setattr(workers, "joined", too_late)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"estimator": "ridge"}, "2 processes cannot train together with estimator=ridge"),
        ({"split": "random"}, "2 processes cannot train together with split=random"),
        ({"cv": "5"}, "2 processes cannot train together with cv=5"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_by_each(
    given: dict[str, str], expected: str, second_of_two: None, rounded: Path, trains: Trainer
) -> None:
    done = trains(**({"estimator": "xgboost", "target": "y", "cv": "0", "data": rounded} | given))
    assert (done.code, len(done.err.splitlines())) == (2, 2)
    assert expected in done.err


def test_too_few_row_groups_and_text_are_seen_before_anybody_waits(
    second_of_two: None, rounded: Path, tmp_path: Path, trains: Trainer
) -> None:
    frame = pd.read_parquet(rounded)
    frame.to_parquet(tmp_path / "one.parquet", index=False)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.assign(city="Oslo").to_parquet(tmp_path / "text.parquet", row_group_size=500, index=False)
    for name, expected in {
        "one.parquet": "2 processes need 2 row groups of Parquet or more",
        "t.csv": "has CSV",
        "text.parquet": "the column 'city' is of type",
    }.items():
        done = trains(estimator="xgboost", target="y", data=tmp_path / name)
        assert (done.code, len(done.err.splitlines())) == (2, 2), name
        assert expected in done.err


def test_where_a_process_stands_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert workers.place() is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert workers.place() is None
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="RANK and MASTER_ADDR and MASTER_PORT is not set"):
        workers.place()
    for name, text in {"RANK": "2", "MASTER_ADDR": "node-0", "MASTER_PORT": "6105"}.items():
        monkeypatch.setenv(name, text)
    assert workers.place() == workers.Place(2, 3, "node-0", 6105)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UserError, match="RANK should be a whole number from 0 to 2, and is '3'"):
        workers.place()
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match="the environment variable WORLD_SIZE should be a whole number") as caught:
        workers.place()
    assert caught.value.remedy == "unset WORLD_SIZE to train in one process"


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "JOIN_SECONDS", 1)
    with (
        pytest.raises(UserError, match="process 1 of 2 did not find process 0"),
        workers.joined(workers.Place(1, 2, "127.0.0.1", free_port())),
    ):
        pass


def test_the_port_of_process_0_is_taken() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        with (
            pytest.raises(UserError, match=f"cannot listen at 127.0.0.1:{port}: Address already in use"),
            workers.joined(workers.Place(0, 2, "127.0.0.1", port)),
        ):
            pass


def test_process_0_listens_everywhere_where_its_address_is_not_its_own() -> None:
    tracker = workers._tracker(workers.Place(0, 2, "192.0.2.1", free_port()), "192.0.2.1")
    assert tracker.worker_args()["dmlc_tracker_uri"] == "0.0.0.0"
    workers._free(tracker)
