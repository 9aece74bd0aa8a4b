"""Train a regression model on a table: from a CSV or Parquet file to a registered MLflow model.

    python train.py                                          # the shipped table, every default: rmse 48.0518
    python train.py --data sales.parquet --target revenue    # your own
    mlflow run . --env-manager local -P estimator=random_forest

Where the run goes is MLflow's business (MLFLOW_TRACKING_URI; unset: ./mlflow.db), so the same command
line runs on a laptop, under `mlflow run`, and as an Azure Machine Learning job.
"""

from trainer import startup  # isort: skip  # first, to start fast

from collections.abc import Sequence

from trainer import checks, cli, distributed, results, settings, tracking, training
from trainer.card import run_name
from trainer.results import Result
from trainer.table import load

SOURCE = "train.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 where `must` is not met, or 2 for what the user can fix."""
    return cli.run(__doc__ or "", settings.MAIN, train, arguments)


def train(given: dict[str, str]) -> int:
    """One training run, from a table to a registered model; or the part of it of one process of several."""
    asked = settings.read(given)
    place = distributed.place()
    distributed.check(asked, place)
    if place is not None and place.rank > 0:
        with distributed.process_group(place) as group:
            training.learn(asked, load(asked, group), group)
        return 0
    print("parameters ", settings.changes(settings.MAIN, given))
    with tracking.session(given, SOURCE) as session:
        with distributed.joined(place, session.abandon) as group:
            table = load(asked, group)
            run = session.open(run_name(asked, table.source.name))
            outcome = training.learn(asked, table, group)
        remarks = checks.examine(asked, table, outcome.metrics, outcome.predicted)
        result = Result(asked, table, outcome, remarks)
        standing = results.store(session, run, result)
    results.show(run, result, standing)
    return 1 if standing.unmet else 0


if __name__ == "__main__":
    startup.leave(main())
