"""Train a regression model on a table: from a CSV or Parquet file to a registered MLflow model.

    python train.py                                          # the shipped table, every default
    python train.py --data sales.parquet --target revenue    # your own
    mlflow run . --env-manager local -P estimator=random_forest

Where the run goes is MLflow's business (MLFLOW_TRACKING_URI; unset: ./mlflow.db), so the same command
line runs on a laptop, under `mlflow run`, and as an Azure Machine Learning job.
"""

import gc
import os

# Most of a small run is the import of libraries. The collector would walk through their objects again
# and again to find all of them in use; OpenBLAS lets its idle threads spin for 2**26 cycles after each
# product; skops searches every module that is loaded by then; and imports that start from a shallow
# stack are cheaper. Together that is two fifths of the run. On a large table, pyarrow's own allocator
# keeps tens of megabytes that it does not need.
gc.set_threshold(1_000_000, 50, 50)
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "10")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

import sklearn  # noqa: F401  # isort: skip
import skops.io  # noqa: F401  # isort: skip

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, NoReturn

from trainer import (
    card,
    challenge,
    champion,
    command_line,
    estimators,
    evaluation,
    figures,
    files,
    model_folder,
    registry,
    table,
    tracking,
    workers,
)
from trainer.errors import UserError, disk_errors
from trainer.parameters import AUTO, NONE, choice, number, whole_number

# The parameters: default and meaning. MLproject says the same.
PARAMETERS = {
    "data": ("data/diabetes.csv", "CSV (or .csv.gz), Parquet, or folder of Parquet parts; a path or URL"),
    "target": ("progression", "the numeric column to predict"),
    "key": (NONE, "column(s), separated by commas, that name the entity of a row (a patient, say): no "
                  "features, and all rows of an entity fall on one side of the split"),
    "columns": (AUTO, "the features, separated by commas; auto: all columns but the target and the key"),
    "estimator": ("ridge", " | ".join(estimators.ESTIMATORS)),
    "alpha": (AUTO, "ridge, elasticnet: strength of the penalty"),
    "l1_ratio": (AUTO, "elasticnet: share of the L1 penalty, 0 to 1"),
    "n_estimators": (AUTO, "random_forest, xgboost: trees; hist_gradient_boosting: its max_iter"),
    "learning_rate": (AUTO, "hist_gradient_boosting, xgboost: shrinkage of each tree"),
    "max_depth": (AUTO, "random_forest, hist_gradient_boosting, xgboost: depth of each tree"),
    "scaling": ("standard", "of the numeric features: standard | none; xgboost has no use for it"),
    "split": ("stable", "stable: a hash of a row's key, or features, makes it a test row; random: the seed"),
    "test_fraction": ("0.2", "share of the test rows, between 0 and 1"),
    "cv": (AUTO, f"folds of the cross-validation on the training rows; 0: none; auto: "
                 f"{evaluation.CV_FOLDS} up to {evaluation.CV_ROWS} rows"),
    "seed": ("0", "random_state of the estimator, the folds and the random split"),
    "model_name": ("diabetes-progression", "registered model to add a version to; none: do not register"),
    "promote": ("earned", "earned: the version becomes champion if it is proved better; never: only say so"),
}  # fmt: skip

PROMOTIONS = ("earned", "never")

# An Azure Machine Learning workspace lists artifacts by prefix: no name may begin with another.
MODELS = "models"


@dataclass(frozen=True)
class Settings:
    """The parameters, read and checked; `given` holds them as they were spelled."""

    data: str
    target: str
    key: tuple[str, ...]
    columns: tuple[str, ...] | None
    chosen: estimators.Choice
    split: str
    test_fraction: float
    cv: int | None
    seed: int
    model_name: str | None
    promote: str
    given: dict[str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, or 2 for what the user can mend."""
    return command_line.run(__doc__ or "", PARAMETERS, lambda given: train(read_settings(given)), arguments)


def train(settings: Settings) -> int:
    """One training run, from a table to a registered model; or the part of it of one process of several."""
    place = workers.place()
    if place is not None:
        check_together(settings, place.size)
        if not place.leads:
            fit_together(settings, place)
            return 0
    echo_changes(settings.given, PARAMETERS)
    with tracking.start_run(settings.given, source="train.py") as run:
        data, outcome = fit_alone(settings) if place is None else fit_together(settings, place)
        version, verdict = store(run, settings, data, outcome)
    report(settings, data, outcome, run, version, verdict)
    return 0


def fit_alone(settings: Settings) -> tuple[table.About, "Outcome"]:
    """Read, split, fit and measure in this process."""
    data, training, test = prepare(settings)
    fitted = fit(settings, training, cross_validate(settings, training))
    del training  # of a large table, most of the memory
    return data, evaluate(settings, fitted, test)


def prepare(settings: Settings) -> tuple[table.About, table.Rows, table.Rows]:
    """Read the table and split it."""
    data = table.read(settings.data, settings.target, settings.key, settings.columns)
    sides = table.split(data, settings.split, settings.test_fraction, settings.seed)
    return data.about, *table.divide(data, sides)


@dataclass(frozen=True)
class Fitted:
    """A fitted model, and what was measured on the training rows."""

    model: Any
    baseline: float
    metrics: dict[str, float]


def cross_validate(settings: Settings, training: table.Rows) -> dict[str, float]:
    """Cross-validate on the training rows."""
    model = estimators.make(settings.chosen, training.features)
    return evaluation.cross_validate(
        model, training.features, training.target, training.entities, settings.cv, settings.seed
    )


def fit(settings: Settings, training: table.Rows, folds: dict[str, float]) -> Fitted:
    """Fit on the training rows; `folds` is what `cross_validate` has measured on them."""
    features, target = training.features, training.target
    model = estimators.make(settings.chosen, features)
    started = perf_counter()
    estimators.fit(model, features, target)
    fit_seconds = perf_counter() - started
    return Fitted(model, target.mean(), folds | {"rows_train": len(target), "fit_seconds": fit_seconds})


@dataclass(frozen=True)
class Outcome:
    """A fitted model, the rows that it has not seen, and how it does on them."""

    model: Any
    test: table.Rows
    predicted: evaluation.Floats
    metrics: dict[str, float]
    importance: Any


def evaluate(settings: Settings, fitted: Fitted, test: table.Rows) -> Outcome:
    """Measure on the test rows."""
    predicted = estimators.predict(fitted.model, test.features)
    measured = evaluation.metrics(test.target, predicted, fitted.baseline)
    importance = evaluation.importance(fitted.model, test.features, test.target, settings.seed)
    metrics = measured | fitted.metrics | {"rows_test": len(test.target)}
    return Outcome(fitted.model, test, predicted, metrics, importance)


def check_together(settings: Settings, size: int) -> None:
    """Refuse what several processes cannot do, in each of them, before any waits for another.

    Raises
    ------
    UserError
        They cannot do this.
    """
    asked = {
        f"estimator={settings.chosen.name}": settings.chosen.name not in estimators.COLLECTIVE,
        "split=random": settings.split != "stable",
        f"cv={settings.cv}": bool(settings.cv),
    }
    for what, refused in asked.items():
        if refused:
            raise UserError(
                f"{size} processes cannot train together with {what}",
                f"give estimator={'|'.join(estimators.COLLECTIVE)}, split=stable and cv=0, or use one process",
            )


def fit_together(settings: Settings, place: workers.Place) -> tuple[table.About, Outcome]:
    """Do the part of one process of several: read a share, fit one model with the others, measure it on all test rows.

    Returns
    -------
    table.About
        Of the whole table; the process that leads knows its digest.
    Outcome
        The metrics are of all test rows; the rows, and what matters, of this process's.
    """
    own = workers.share(settings.data, settings.target, settings.key, settings.columns, place)
    with workers.joined(place) as team:
        data, training, test = workers.read(team, own, settings.test_fraction)
        model = estimators.make(settings.chosen, training.features)
        started = perf_counter()
        estimators.fit(model, training.features, training.target)
        seconds = perf_counter() - started
        predicted = estimators.predict(model, test.features)
        metrics = workers.metrics(team, test.target, predicted, training.target) | {"fit_seconds": seconds}
    rows = f"{len(training.target)} training + {len(test.target)} test rows"
    print(f"{place}: {rows} of {data.n_rows}", file=sys.stderr)
    del training
    if place.leads:
        data = replace(data, source=files.describe(own.location))
    importance = evaluation.importance(model, test.features, test.target, settings.seed)
    return data, Outcome(model, test, predicted, metrics, importance)


def store(
    run: tracking.Run, settings: Settings, data: table.About, outcome: Outcome
) -> tuple[str | None, champion.Verdict | None]:
    """Log the model with all that belongs to it, register it, and let it challenge the champion.

    Returns
    -------
    str or None
        The version; None with ``model_name=none``.
    Verdict or None
        What came of the challenge.
    """
    facts = describe(run, settings, data, outcome)
    with TemporaryDirectory() as scratch:
        with disk_errors(f"write the artifacts to {scratch}", "free some space there, or set TMPDIR to another disk"):
            write_artifacts(Path(scratch), settings, data, outcome, facts)
        tracking.log(run, params=estimators.params(outcome.model), metrics=outcome.metrics, tags=facts.tags)
        tracking.log_dataset(run, data.source, data.n_rows, data.n_features)
        tracking.log_folder(run, Path(scratch))
    if settings.model_name is None:
        return None, None
    with registry.registered(run, settings.model_name, MODELS, facts.version_tags) as version:
        candidate = challenge.Candidate(
            settings.model_name, version, facts.version_tags, outcome.test, outcome.predicted
        )
        verdict = challenge.challenge(run, candidate, settings.seed, promotes=settings.promote == "earned")
    return version, verdict


@dataclass(frozen=True)
class Facts:
    """Where a model comes from: the run, the data, the code, the versions of what computed it."""

    run_id: str
    lineage: dict[str, str]
    versions: dict[str, str]
    version_tags: dict[str, str]

    @property
    def tags(self) -> dict[str, str]:
        """The tags of the run."""
        return self.lineage | {f"version.{name}": text for name, text in self.versions.items()}


def describe(run: tracking.Run, settings: Settings, data: table.About, outcome: Outcome) -> Facts:
    """Collect what the tags, the model, its card and metric.json say alike."""
    git = tracking.git_state(run)
    lineage = {
        "data_name": data.source.name,
        "data_sha256": data.source.sha256,
        "data_bytes": str(data.source.size),
        "git_commit": git.commit,
        "git_dirty": git.dirty,
    }
    version_tags = registry.version_tags(outcome.metrics["rmse"], data.n_rows, lineage, settings.given)
    versions = {"python": platform.python_version()} | {
        name: metadata.version(name) for name in estimators.packages(settings.chosen.name)
    }
    return Facts(run.id, lineage, versions, version_tags)


def write_artifacts(folder: Path, settings: Settings, data: table.About, outcome: Outcome, facts: Facts) -> None:
    """Write all artifacts of the run: metric.json, models/, figures/, model_card.md."""
    (folder / figures.FOLDER).mkdir()
    title = f"{settings.chosen.name} on {data.source.name}, {len(outcome.test.target)} test rows"
    figures.save(
        folder / figures.FOLDER, settings.target, outcome.test.target, outcome.predicted, outcome.importance, title
    )
    model_folder.save(
        folder / MODELS,
        outcome.model,
        table.as_sent(outcome.test.features.head(model_folder.RECORDED_ROWS), data),
        facts.versions,
        facts.lineage | {"run_id": facts.run_id, "estimator": settings.chosen.name, "target": settings.target},
    )
    card.save(
        folder / "model_card.md",
        outcome.model,
        {
            "What it does": f"Predicts `{settings.target}` with the estimator `{settings.chosen.name}`.",
            "Data": f"`{data.source.name}`, {data.n_rows} rows and {data.n_features} features, "
            f"sha256 `{data.source.sha256}`. The {settings.split} split held "
            f"{len(outcome.test.target)} rows back for the test.",
            "Use": f'`mlflow.pyfunc.load_model("runs:/{facts.run_id}/{MODELS}").predict(frame)`, with the '
            "columns of the signature in any order; a missing or wrong-typed column is refused.",
            "Lineage": f"MLflow run `{facts.run_id}`, git commit `{facts.lineage['git_commit']}`.",
        },
        outcome.metrics,
        outcome.importance.head(figures.BARS),
        facts.versions,
    )
    contract = metric_json(settings, outcome, facts)
    (folder / "metric.json").write_text(json.dumps(contract, indent=2) + "\n")


def metric_json(settings: Settings, outcome: Outcome, facts: Facts) -> dict[str, Any]:
    """Say in one file what the later steps of a team's pipeline read: `run_id`, `RMSE`, `R2` and more."""
    measured = outcome.metrics
    return {
        "run_id": facts.run_id,
        "RMSE": measured["rmse"],
        "R2": measured["r2"],
        "MAE": measured["mae"],
        "MSE": measured["mse"],
        "baseline_RMSE": measured["baseline_rmse"],
        "cv_RMSE_mean": measured.get("cv_rmse_mean"),
        "cv_RMSE_std": measured.get("cv_rmse_std"),
        "rows_train": measured["rows_train"],
        "rows_test": measured["rows_test"],
        **facts.lineage,
        "params": settings.given,
        "versions": facts.versions,
    }


def read_settings(given: dict[str, str]) -> Settings:
    """Check all parameters before anything else happens.

    Raises
    ------
    UserError
        One of them cannot be used.
    """
    estimator = choice("estimator", given["estimator"], estimators.ESTIMATORS)
    seed = whole_number("seed", given["seed"], low=0, high=2**32 - 1)
    scaling = choice("scaling", given["scaling"], estimators.SCALINGS)
    hyperparameters = estimators.read_hyperparameters(
        estimator, {name: given[name] for name in estimators.HYPERPARAMETER_NAMES}
    )
    keys = () if given["key"] == NONE else tuple(dict.fromkeys(given["key"].split(",")))
    columns = None if given["columns"] == AUTO else tuple(dict.fromkeys(given["columns"].split(",")))
    name = given["model_name"]
    return Settings(
        data=given["data"],
        target=given["target"],
        key=keys,
        columns=columns,
        chosen=estimators.Choice(estimator, hyperparameters, scaling, seed),
        split=choice("split", given["split"], table.SPLITS),
        test_fraction=number("test_fraction", given["test_fraction"], low=0, high=1, open_low=True, open_high=True),
        cv=evaluation.read_folds(given["cv"]),
        seed=seed,
        model_name=None if name == NONE else registry.check_name(name),
        promote=choice("promote", given["promote"], PROMOTIONS),
        given=given,
    )


def echo_changes(given: dict[str, str], parameters: command_line.Parameters) -> None:
    """Print the parameters that differ from their defaults."""
    defaults = {name: default for name, (default, _) in parameters.items()}
    changed = {name: text for name, text in given.items() if text != defaults[name]}
    print("parameters ", ", ".join(f"{k}={v} (not {defaults[k]})" for k, v in changed.items()) or "all defaults")


def report(
    settings: Settings,
    data: table.About,
    outcome: Outcome,
    run: tracking.Run,
    version: str | None,
    verdict: champion.Verdict | None,
) -> None:
    """Print how good the model is, and where it is."""
    m = outcome.metrics
    rows = f"{m['rows_train']} training + {m['rows_test']} test rows"
    print(f"data        {data.source.name}: {rows}, {data.n_features} features, {settings.split} split")
    print(f"rmse        {m['rmse']:.4f}  (mean predictor {m['baseline_rmse']:.4f})")
    if "cv_rmse_mean" in m:
        print(f"cv rmse     {m['cv_rmse_mean']:.4f} +- {m['cv_rmse_std']:.4f}")
    print(f"r2          {m['r2']:.4f}")
    print(f"mae         {m['mae']:.4f}")
    print(f"run         {run.id}")
    print(f"model       {'not registered' if version is None else f'models:/{settings.model_name}/{version}'}")
    if verdict is not None:
        print(f"champion    {verdict.sentence}")
    print(f"look at it  {tracking.where_to_look(run)}")


def leave(exit_code: int) -> NoReturn:
    """End the process; without the last look for garbage before everything is thrown away."""
    gc.freeze()
    sys.exit(exit_code)


if __name__ == "__main__":
    leave(main())
