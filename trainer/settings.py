"""Every parameter, once: name, default, meaning, reader, group. MLproject, job.yml and README are written from here.

Standard library only, so that a command line is checked before anything large is imported.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trainer import estimators
from trainer.errors import UserError, nearest
from trainer.readers import AUTO, NONE, Reader, choice, integer, names, number, text
from trainer.secrets import without_secrets

TABLE, ESTIMATOR, MEASURE, WHERE = "the table", "the estimator", "how it is measured", "where it goes"

SHIPPED = "data/diabetes.csv"
SPLITS = ("stable", "random", "time")
SCALINGS = ("standard", "none")
PROMOTIONS = ("earned", "never")
SEPARATORS = {AUTO: AUTO, "comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
DECIMALS = {AUTO: AUTO, "point": ".", "comma": ","}
BOUNDED = {"rmse": "<", "mae": "<", "r2": ">"}
ALL = "all"
CV_FOLDS, CV_ROWS = 5, 100_000

# What both MLflow and Azure Machine Learning take for the name of a registered model.
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_VARIABLE = re.compile(r"\$(?P<brace>\{)?(?P<name>[A-Za-z_]\w*)(?(brace)\})")
_BOUND = re.compile(r"\s*(?P<metric>\w+)\s*(?P<sign>[<>])\s*(?P<value>\S+)\s*")


@dataclass(frozen=True)
class Parameter:
    """A parameter of an entry point; `read` takes its name and text and returns its value."""

    name: str
    default: str
    meaning: str
    read: Reader = text
    group: str = WHERE

    @property
    def flag(self) -> str:
        """How it is spelled on a command line."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True)
class Bound:
    """What a metric must be below, or above, for a model to be registered."""

    metric: str
    value: float

    def holds(self, measured: float) -> bool:
        """Whether a measured value lies on the right side; a value that is not a number does not."""
        return measured < self.value if BOUNDED[self.metric] == "<" else measured > self.value

    def __str__(self) -> str:
        return f"{self.metric}{BOUNDED[self.metric]}{self.value:g}"


def model_name(name: str, given: str) -> str | None:
    """Read the name of a registered model; None for ``none``, however it is spelled."""
    if given.casefold() == NONE:
        return None
    if not _MODEL_NAME.fullmatch(given):
        raise UserError(
            f"{given!r} cannot be the name of a registered model",
            f"give {name}=NAME of a-z, A-Z, 0-9, '-', '_' and '.', at most 255 of them",
        )
    return given


def _address(name: str, given: str) -> str:
    """Read where a table is.

    ``$NAME`` stands for an environment variable, so that a signature need not be in a command line, which `mlflow run`
    logs as it is. The default is found in any folder: it comes with the project.
    """
    if given == SHIPPED and not Path(given).exists():
        return str(Path(__file__).resolve().parent.parent / given)
    if (found := _VARIABLE.fullmatch(given)) is None:
        return text(name, given)
    if not (value := os.environ.get(found["name"])):
        raise UserError(
            f"{name} is {given}, and there is no environment variable {found['name']}",
            f"export {found['name']}='https://...'",
        )
    return value


def _none_or_names(name: str, given: str) -> tuple[str, ...]:
    return () if given.casefold() == NONE else names(name, given)


def _key(name: str, given: str) -> tuple[str, ...]:
    return tuple(sorted(_none_or_names(name, given)))


def _columns(name: str, given: str) -> tuple[str, ...] | None:
    return None if given == AUTO else names(name, given)


def _none_or_text(name: str, given: str) -> str | None:
    return None if given.casefold() == NONE else text(name, given)


def _shown(name: str, given: str) -> tuple[str, ...] | None:
    return None if given.casefold() == ALL else _none_or_names(name, given)


def _folds(name: str, given: str) -> int | None:
    if given == AUTO:
        return None
    folds = integer(name, given, low=0)
    if folds == 1:
        raise UserError("cv=1 leaves no rows to train on", "give cv=0 for none, or at least 2 folds")
    return folds


def _bounds(name: str, given: str) -> tuple[Bound, ...]:
    bounds = []
    for part in _none_or_names(name, given):
        found = _BOUND.fullmatch(part)
        if found is None or BOUNDED.get(found["metric"]) != found["sign"]:
            raise UserError(
                f"{name} should say what a model must reach, and is {part!r}",
                f"give {name}='rmse<60', 'mae<50', 'r2>0.3', or several with commas",
            )
        bounds.append(Bound(found["metric"], number(name, found["value"], low=float("-inf"))))
    return tuple(bounds)


def _estimator(name: str, given: str) -> str:
    return choice(name, given, tuple(estimators.ESTIMATORS))


def _estimators(name: str, given: str) -> tuple[str, ...]:
    if given.casefold() == ALL:
        return tuple(estimators.ESTIMATORS)
    found = [one.strip() for one in text(name, given).split(",")]
    for one in found:
        if one not in estimators.ESTIMATORS:
            raise UserError(
                f"{name} names {one!r}, which is no estimator{nearest(one, estimators.ESTIMATORS)}",
                f"give {name}={ALL}, or some of {','.join(estimators.ESTIMATORS)}",
            )
        if found.count(one) > 1:
            raise UserError(f"{name} names {one} twice", f"give {name}={','.join(dict.fromkeys(found))}")
    return tuple(found)


def _one_of(known: tuple[str, ...]) -> Reader:
    return partial(choice, known=known)


def _word_or_sign(known: Mapping[str, str]) -> Reader:
    """Read a word, or the sign that it stands for, and return the sign."""

    def read(name: str, given: str) -> str:
        return given if given in known.values() else known[choice(name, given, tuple(known))]

    return read


_MODEL = Parameter(
    "model_name", "diabetes-progression", "registered model to add a version to; none: do not register", model_name
)

_TABLE = (
    Parameter(
        "data", SHIPPED, "CSV, Parquet or Arrow IPC: a file, a folder of parts, a URL", _address, TABLE,
    ),
    Parameter("target", "progression", "the numeric column to predict", text, TABLE),
    Parameter(
        "key", NONE, "column(s), separated by commas, that name the entity of a row (a patient, say): no features, and "
        "all rows of an entity fall on one side of the split", _key, TABLE,
    ),
    Parameter(
        "columns", AUTO, "the features, separated by commas; auto: all columns but the target and the key", _columns,
        TABLE,
    ),
    Parameter("drop", NONE, "columns to leave out, separated by commas", _none_or_names, TABLE),
    Parameter("separator", AUTO, f"of a CSV file: {' | '.join(SEPARATORS)}", _word_or_sign(SEPARATORS), TABLE),
    Parameter("decimal", AUTO, f"of a CSV file's numbers: {' | '.join(DECIMALS)}", _word_or_sign(DECIMALS), TABLE),
)  # fmt: skip
_HYPERPARAMETERS = tuple(
    Parameter(name, AUTO, f"{meaning}: {estimators.having(name)}", text, ESTIMATOR)
    for name, meaning in {
        "alpha": "strength of the penalty",
        "l1_ratio": "share of the L1 penalty, 0 to 1",
        "n_estimators": "number of trees",
        "learning_rate": "shrinkage of each tree",
        "max_depth": "largest depth of a tree",
    }.items()
)
_ESTIMATOR = Parameter("estimator", "ridge", " | ".join(estimators.ESTIMATORS), _estimator, ESTIMATOR)
_SCALING = Parameter(
    "scaling", "standard", f"of numeric features: {' | '.join(SCALINGS)}; trees have no use for it",
    _one_of(SCALINGS), ESTIMATOR,
)  # fmt: skip
_MEASURE = (
    Parameter(
        "split", "stable", "stable: a hash of a row's key, or features, makes it a test row; random: the seed does; "
        "time: the newest rows are the test", _one_of(SPLITS), MEASURE,
    ),
    Parameter("time", NONE, "with split=time: the column that says when a row was", _none_or_text, MEASURE),
    Parameter(
        "test_fraction", "0.2", "share of the test rows, between 0 and 1",
        partial(number, low=0, high=1, open_low=True, open_high=True), MEASURE,
    ),
    Parameter(
        "cv", AUTO, f"folds of the cross-validation on the training rows; 0: none; auto: {CV_FOLDS}, to {CV_ROWS} rows",
        _folds, MEASURE,
    ),
    Parameter(
        "seed", "0", "random_state of the estimator, the folds and the random split",
        partial(integer, low=0, high=2**32 - 1), MEASURE,
    ),
    Parameter(
        "must", NONE, "what the test rows must show for a model to be registered: rmse<60, mae<50, r2>0.3; several "
        "with commas; else exit code 1", _bounds, MEASURE,
    ),
)  # fmt: skip
_WHERE = (
    _MODEL,
    Parameter(
        "promote", "earned", "earned: the version becomes champion if it is better; never: only say so",
        _one_of(PROMOTIONS),
    ),
    Parameter(
        "show", NONE, "columns, separated by commas, whose values report.html shows of the test rows with the largest "
        "errors; all; none: their keys alone", _shown,
    ),
)  # fmt: skip

MAIN = (*_TABLE, _ESTIMATOR, *_HYPERPARAMETERS, _SCALING, *_MEASURE, *_WHERE)
SWEEP = (
    Parameter(
        "search", "submit/sweep.yml", "the search space, sampling and number of trials: a sweep job in YAML", text,
        "the trials",
    ),
    *_TABLE, _ESTIMATOR, _SCALING, *_MEASURE, *_WHERE,
)  # fmt: skip
COMPARE = (
    Parameter(
        "estimators", ALL, f"those to compare, separated by commas; {ALL}: {', '.join(estimators.ESTIMATORS)}",
        _estimators, "what is compared",
    ),
    *_TABLE, _SCALING, *_MEASURE, *_WHERE,
)  # fmt: skip
_WHICH = Parameter(
    "model", f"models:/{_MODEL.default}@champion",
    "models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN/models, or a folder",
)  # fmt: skip
_TRUST = Parameter(
    "trust", "no", "yes: let MLflow load the model, and run the code that it brings; no: run nothing of it",
    _one_of(("yes", "no")),
)  # fmt: skip
VERIFY = (
    _WHICH,
    Parameter(
        "tolerance", AUTO, "largest relative difference; auto: 1e-9 for linear models, 0 (exact) for trees",
        lambda name, given: None if given == AUTO else number(name, given, low=0),
    ),
    Parameter("record", "no", "yes: log the result as a run of its own; no: only say it", _one_of(("yes", "no"))),
    _TRUST,
)  # fmt: skip
PREDICT = (
    _WHICH,
    _TABLE[0],
    Parameter("output", "predictions.csv", "a file to write: .csv or .parquet"),
    Parameter(
        "key", AUTO, "columns to copy before the predictions; auto: those that named the groups of training",
        lambda name, given: None if given == AUTO else _none_or_names(name, given),
    ),
    *(one for one in _TABLE if one.name in ("separator", "decimal")),
    _TRUST,
)  # fmt: skip
CHAMPION = (
    Parameter("model_name", _MODEL.default, "registered model", model_name),
    Parameter(
        "version", NONE, "make this version the champion; none: only show who is",
        lambda name, given: None if given.casefold() == NONE else integer(name, given, low=1),
    ),
)  # fmt: skip

ENTRY_POINTS: dict[str, tuple[Parameter, ...]] = {
    "main": MAIN,
    "sweep": SWEEP,
    "compare": COMPARE,
    "predict": PREDICT,
    "verify": VERIFY,
    "champion": CHAMPION,
}
HYPERPARAMETERS = tuple(parameter.name for parameter in _HYPERPARAMETERS)


@dataclass(frozen=True)
class Settings:
    """The parameters of a training run, read and checked; `given` holds them as they were spelled, without secrets.

    `hyperparameters` are by the names of the estimator's library; what is left out keeps that library's default.
    `columns` and `cv` are None for ``auto``, `model_name` and `time` for ``none``, `show` for ``all``.
    """

    data: str
    target: str
    key: tuple[str, ...]
    columns: tuple[str, ...] | None
    drop: tuple[str, ...]
    separator: str
    decimal: str
    estimator: str
    hyperparameters: dict[str, float | int]
    scaling: str
    split: str
    time: str | None
    test_fraction: float
    cv: int | None
    seed: int
    must: tuple[Bound, ...]
    model_name: str | None
    promote: str
    show: tuple[str, ...] | None
    given: dict[str, str]


def defaults(entry_point: str = "main") -> dict[str, str]:
    """Return the defaults of an entry point's parameters, as they are spelled."""
    return {parameter.name: parameter.default for parameter in ENTRY_POINTS[entry_point]}


def values(parameters: tuple[Parameter, ...], given: Mapping[str, str]) -> dict[str, Any]:
    """Read the text of each parameter."""
    return {parameter.name: parameter.read(parameter.name, given[parameter.name]) for parameter in parameters}


def read(given: Mapping[str, str]) -> Settings:
    """Check all parameters of a training run before anything else happens."""
    found = values(MAIN, given)
    spelled = {name: found.pop(name) for name in HYPERPARAMETERS}
    hyperparameters = estimators.read_hyperparameters(found["estimator"], spelled)
    if (found["split"] == "time") != (found["time"] is not None):
        raise UserError(
            "split=time needs the column that says when a row was"
            if found["time"] is None
            else f"time={found['time']} is used by split=time alone, and split is {found['split']}",
            "give split=time and time=COLUMN together, or neither",
        )
    recorded = {parameter.name: without_secrets(given[parameter.name]) for parameter in MAIN}
    return Settings(**found, hyperparameters=hyperparameters, given=recorded)


def check_distributed(settings: Settings, world_size: int) -> None:
    """Refuse what several processes cannot do, in each of them, before any waits for another."""
    able = "|".join(name for name, estimator in estimators.ESTIMATORS.items() if estimator.distributed)
    asked = {
        f"estimator={settings.estimator}": not estimators.ESTIMATORS[settings.estimator].distributed,
        f"split={settings.split}": settings.split != "stable",
        f"cv={settings.cv}": bool(settings.cv),
    }
    for what, refused in asked.items():
        if refused:
            raise UserError(
                f"{world_size} processes cannot train together with {what}",
                f"give estimator={able}, split=stable and cv=0, or use one process",
            )


def changes(parameters: tuple[Parameter, ...], given: Mapping[str, str]) -> str:
    """Say in one line what differs from the defaults."""
    changed = (
        f"{parameter.name}={without_secrets(given[parameter.name])} (not {parameter.default})"
        for parameter in parameters
        if given[parameter.name] != parameter.default
    )
    return ", ".join(changed) or "all defaults"
