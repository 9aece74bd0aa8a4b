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
from math import inf, isfinite

from trainer import cli, results, search, settings, tracking, training
from trainer.errors import UserError
from trainer.loading import Table, load
from trainer.readers import AUTO
from trainer.settings import Settings

SOURCE = "sweep.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 for what the user can fix."""
    return cli.run(__doc__ or "", settings.SWEEP, sweep, arguments)


def sweep(given: dict[str, str]) -> int:
    """One search, from a table to the registered model of its best trial."""
    space, trials = plan(given)
    print("parameters ", settings.changes(settings.SWEEP, given))
    print(f"search      {summary(space, trials)}, as {given['search']} says")
    others = {name: text for name, text in space.inputs.items() if name != "data" and given.get(name, text) != text}
    if others:
        told = ", ".join(f"{name}={text} (here {given[name]})" for name, text in others.items())
        print(f"not used    inputs of {given['search']}, which are for the cluster: {told}")
    with tracking.start_run(given, SOURCE) as run:
        tracking.log_file(run, given["search"], "search")
        table = load(trials[0])
        folds = [score(run, number, trial, table) for number, trial in enumerate(trials, 1)]
        scores = [one["cv_rmse_mean"] for one in folds]
        best = min(range(len(scores)), key=lambda number: scores[number] if isfinite(scores[number]) else inf)
        if not isfinite(scores[best]):
            raise UserError("every trial has diverged", f"search smaller values than those of {given['search']}")
        print(f"best        trial {best + 1}; now on the test rows:")
        outcome = training.measure(trials[best], training.fit(trials[best], table, folds[best]), table)
        tracking.log(run, tags={"best_trial": str(best + 1)}, metrics={"trials": len(trials)})
        version, verdict = results.store(run, trials[best], table, outcome)
    results.show(run, trials[best], table, outcome, version, verdict)
    return 0


def plan(given: dict[str, str]) -> tuple[search.Search, list[Settings]]:
    """Read the search space and check every trial before anything else happens.

    Raises
    ------
    UserError
        The search cannot be done.
    """
    space = search.read(given["search"])
    fixed = read_fixed(given)
    return space, [read_trial(given["search"], fixed, hyperparameters) for hyperparameters in space.trials()]


def summary(space: search.Search, trials: Sequence[Settings]) -> str:
    """Say in a few words what is searched."""
    left_out = f" of {space.combinations}" if space.n_trials < (space.combinations or 0) else ""
    return f"{len(trials)}{left_out} trials of {trials[0].estimator}: {space}"


def read_fixed(given: dict[str, str]) -> dict[str, str]:
    """Check what all trials have in common, and return it by the names of train.py's parameters.

    Raises
    ------
    UserError
        A parameter cannot be used, or there is nothing to compare trials by.
    """
    defaults = settings.defaults()
    fixed = defaults | {name: text for name, text in given.items() if name in defaults}
    if settings.read(fixed).cv == 0:
        raise _no_folds("cv=0")
    return fixed


def read_trial(path: str, fixed: dict[str, str], hyperparameters: dict[str, str]) -> Settings:
    """Check the hyperparameters of a trial.

    Raises
    ------
    UserError
        The estimator cannot use one of them.
    """
    try:
        return settings.read(fixed | hyperparameters)
    except UserError as error:
        remedy = f"change search_space in {path} (whole numbers: a choice), or the estimator"
        raise UserError(f"{path}: {error.cause}", remedy) from error


def score(run: tracking.Run, number: int, trial: Settings, table: Table) -> dict[str, float]:
    """Cross-validate the model of a trial, and log it as a child run."""
    own = {name: trial.given[name] for name in settings.HYPERPARAMETERS if trial.given[name] != AUTO}
    with tracking.child_run(run, f"trial {number}", own, SOURCE) as child:
        metrics = training.cross_validate(trial, table)
        if not metrics:
            raise _no_folds(f"cv=auto makes none of {len(table.training.target)} rows")
        tracking.log(child, metrics=metrics)
    shown = " ".join(f"{name}={text}" for name, text in own.items())
    print(f"trial {number:<5} cv rmse {metrics['cv_rmse_mean']:.4f} +- {metrics['cv_rmse_std']:.4f}  {shown}")
    return metrics


def _no_folds(why: str) -> UserError:
    return UserError(f"trials are compared by cross-validation, and {why}", f"give cv={settings.CV_FOLDS}, say")


if __name__ == "__main__":
    startup.leave(main())
