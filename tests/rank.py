"""One of several processes, for tests: it reads, fits, measures, and may stop itself at a step, as a machine does."""

import json
import os
import sys

import xgboost

from tests.tables import read_settings
from trainer import distributed, heartbeat, table
from trainer.errors import UserError


def become(out: str, err: str, environment: dict[str, str], arguments: list[str]) -> None:
    """Be a process of its own with these arguments, which writes to these files and ends with its exit code."""
    os.environ.update(environment)
    # Where nobody is to be lost, a busy machine may take its time; where somebody is, no test waits as a cluster does.
    heartbeat.SILENCE_SECONDS, heartbeat.GRACE_SECONDS = (3.0, 1.0) if "IMPATIENT" in environment else (600.0, 60.0)
    distributed.JOIN_SECONDS, distributed.TELL_SECONDS = (8, 1) if "ALONE" in environment else (240, 30)
    distributed.GRACE_SECONDS = 0
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    try:
        main(*arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def main(data: str, step: str = "", rank: str = "-1", signal: str = "0") -> None:
    """Take part; what is found is printed as JSON."""
    place = distributed.place()
    assert place is not None

    def reach(name: str) -> None:
        if name == step and place.rank == int(rank):
            os.kill(os.getpid(), int(signal))

    settings = read_settings(data, estimator="xgboost")
    reach("before joining")
    with distributed.process_group(place, lambda: print("the run is ended", file=sys.stderr, flush=True)) as group:
        reach("joined")
        read = table.load(settings, group)
        reach("read")
        rows = xgboost.QuantileDMatrix(read.training.features, read.training.target)
        booster = xgboost.train({"nthread": 1}, rows, 5)
        predicted = booster.predict(xgboost.DMatrix(read.test.features))
        metrics = distributed.metrics(group, read.test.target, predicted, read.training.target)
        reach("measured")
    assert read.test.numbers is not None
    found = {
        "metrics": metrics,
        "n_rows": read.n_rows,
        "columns": [[column.name, column.kind, column.missing, column.low, column.high] for column in read.columns],
        "numbers": read.test.numbers.tolist(),
        "target": read.test.target.tolist(),
        "remarks": [remark.text for remark in read.remarks],
        "sha256": read.source.sha256,
        "model": booster.save_raw("json").decode(),
    }
    print(json.dumps(found))
