"""Compare all estimators on the same folds: one parent run, one child run each, and the best model registered.

    python compare.py                                                    # all of them, on the shipped table
    python compare.py --estimators ridge,xgboost --data sales.parquet --target revenue
    mlflow run . -e compare --env-manager local

Each is taken with its own defaults, in this process. They are compared by cross-validation on the training rows; then
the best one is measured on the test rows, logged and registered as `train.py` does it. To tune it, search: `sweep.py`.
"""

from trainer import startup  # isort: skip  # first, to start fast

from collections.abc import Sequence

from trainer import board, checks, cli, distributed, report, results, settings, tracking, training
from trainer.card import comparison_name
from trainer.errors import UserError
from trainer.results import Result
from trainer.table import load

SOURCE = "compare.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 where `must` is not met, or 2 for what the user can fix."""
    return cli.run(__doc__ or "", settings.COMPARE, compare, arguments)


def compare(given: dict[str, str]) -> int:
    """One comparison, from a table to the registered model of the best estimator."""
    if distributed.place() is not None:
        raise UserError("a comparison runs in one process, and WORLD_SIZE asks for several", "unset WORLD_SIZE")
    planned = board.plan(given)
    print("parameters ", settings.changes(settings.COMPARE, given))
    with tracking.session(given, SOURCE) as session:
        table = load(planned[0].settings)
        title = comparison_name([trial.name for trial in planned], table.source.name)
        run = session.open(title)
        entries: list[board.Entry] = []
        for trial in planned:
            print(f"compare     {trial.name} ({len(entries) + 1} of {len(planned)})")
            entries = board.add(entries, board.measure(run, trial, table, SOURCE))
        ranked = board.rank(entries, table)
        for line in ranked.lines():
            print(report.wrapped(line, 3))
        best = ranked.best
        print(f"best        {best.name}; now on the test rows:")
        chosen = best.score.trial.settings
        board.log_picture(run, ranked, chosen, title)
        assert best.fitted is not None
        outcome = training.measure(chosen, best.fitted, table)
        tracking.log(run, tags={"best_estimator": best.name}, metrics={"estimators": len(entries)})
        remarks = checks.examine(chosen, table, outcome.metrics, outcome.predicted)
        result = Result(chosen, table, outcome, remarks, ranked.markup(chosen.target))
        standing = results.store(session, run, result)
    results.show(run, result, standing)
    return 1 if standing.unmet else 0


if __name__ == "__main__":
    startup.leave(main())
