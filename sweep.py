"""Search for the hyperparameters of a model: one parent run, one child run a trial, and the best model registered.

    python sweep.py                                                      # submit/sweep.yml, on the shipped table
    python sweep.py --search mine.yml --estimator random_forest --data sales.parquet --target revenue
    mlflow run . -e sweep --env-manager local

The table is read once, and all trials run in this process. They are compared by cross-validation on the training
rows; then the best one is trained, measured on the test rows, logged and registered as `train.py` does it. The search
space is that of an Azure Machine Learning sweep job, which runs its trials as jobs of a cluster.
"""

from trainer import startup  # isort: skip  # first, to start fast

from collections.abc import Sequence

from trainer import board, checks, cli, distributed, results, search, settings, tracking, training, trials
from trainer.card import run_name
from trainer.errors import UserError
from trainer.results import Result
from trainer.table import load

SOURCE = "sweep.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 where `must` is not met, or 2 for what the user can fix."""
    return cli.run(__doc__ or "", settings.SWEEP, sweep, arguments)


def sweep(given: dict[str, str]) -> int:
    """One search, from a table to the registered model of its best trial."""
    if distributed.place() is not None:
        raise UserError("a search runs in one process, and WORLD_SIZE asks for several", "unset WORLD_SIZE")
    plan = search.plan(given)
    print("parameters ", settings.changes(settings.SWEEP, given))
    print(f"search      {plan}, as {given['search']} says")
    if others := plan.not_used(given):
        print(f"not used    inputs of {given['search']}, which are for the cluster: {others}")
    with tracking.session(given, SOURCE) as session:
        table = load(plan.trials[0].settings)
        title = run_name(plan.trials[0].settings, table.source.name, search=True)
        run = session.open(title)
        tracking.log_file(run, given["search"], "search")
        scores = []
        for trial in plan.trials:
            scores.append(one := trials.score(run, trial, table, SOURCE))
            folds = one.folds.metrics
            print(f"{trial.name:<11} cv rmse {folds['cv_rmse_mean']:.4f} +- {folds['cv_rmse_std']:.4f}  {trial}")
        best = trials.best(scores, given["search"])
        print(f"best        {best.trial.name}; now on the test rows:")
        trials.log_picture(run, scores, title)
        chosen = best.trial.settings
        outcome = training.measure(chosen, training.fit(chosen, table, best.folds), table)
        number = best.trial.name.rpartition(" ")[2]
        tracking.log(run, tags={"best_trial": number}, metrics={"trials": len(scores)})
        remarks = checks.examine(chosen, table, outcome.metrics, outcome.predicted)
        remarks += checks.search_edge(plan.search, best.trial.params)
        result = Result(chosen, table, outcome, remarks, board.of_search(scores, best))
        standing = results.store(session, run, result)
    results.show(run, result, standing)
    return 1 if standing.unmet else 0


if __name__ == "__main__":
    startup.leave(main())
