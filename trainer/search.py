"""A search space as Azure Machine Learning's sweep jobs write it, and the trials that are drawn from it here."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from math import exp, inf, prod
from pathlib import Path
from typing import Any

import yaml

from trainer import settings
from trainer.errors import UserError, nearest
from trainer.readers import AUTO, integer
from trainer.settings import HYPERPARAMETERS
from trainer.trials import Trial, check

# What trials are compared by: never by the test rows, which are to say afterwards how good the chosen one is.
OBJECTIVE = {"goal": "minimize", "primary_metric": "cv_rmse_mean"}
SAMPLINGS = ("random", "grid")
DISTRIBUTIONS = ("choice", "uniform", "loguniform")
MOST_TRIALS = 1_000
NAMES = ", ".join(HYPERPARAMETERS)
# Of a number that is drawn: it is used as it is spelled.
DIGITS = 6


@dataclass(frozen=True)
class Search:
    """What is searched, how, and for how long.

    Attributes
    ----------
    space : dict
        By hyperparameter: a list of values, or a distribution of `scipy.stats`.
    sampling : {'random', 'grid'}
    seed : int
        Of the random sampling.
    n_trials : int
        At most; a space of choices may have fewer combinations.
    inputs : dict of str to str
        What the job passes to all of its trials on a cluster.
    """

    space: dict[str, Any]
    sampling: str
    seed: int
    n_trials: int
    inputs: dict[str, str]

    def __str__(self) -> str:
        how = f"random, seed {self.seed}" if self.sampling == "random" else self.sampling
        return f"{' and '.join(self.space)} ({how})"

    @property
    def combinations(self) -> int | None:
        """How many trials a space of choices has; None where a hyperparameter has a distribution."""
        return prod(map(len, self.space.values())) if _all_choices(self.space) else None

    def trials(self) -> list[dict[str, str]]:
        """Draw the hyperparameters of each trial, spelled as on a command line.

        By `sklearn.model_selection.ParameterSampler` or `ParameterGrid`; the service draws others from the same space.
        """
        from sklearn.model_selection import ParameterGrid, ParameterSampler

        n_trials = min(self.n_trials, self.combinations or self.n_trials)
        grid = self.sampling == "grid"
        points = ParameterGrid(self.space) if grid else ParameterSampler(self.space, n_trials, random_state=self.seed)
        drawn = [tuple(self._spelled(name, point[name]) for name in self.space) for point in islice(points, n_trials)]
        return [dict(zip(self.space, texts, strict=True)) for texts in dict.fromkeys(drawn)]

    def _spelled(self, name: str, value: Any) -> str:
        return str(value) if isinstance(self.space[name], list) else f"{value:.{DIGITS}g}"


@dataclass(frozen=True)
class Plan:
    """A search, and its trials, all of them checked."""

    search: Search
    trials: list[Trial]

    def __str__(self) -> str:
        combinations = self.search.combinations or 0
        left_out = f" of {combinations}" if self.search.n_trials < combinations else ""
        return f"{len(self.trials)}{left_out} trials of {self.trials[0].settings.estimator}: {self.search}"

    def not_used(self, given: Mapping[str, str]) -> str:
        """Say which inputs of the file say otherwise than the parameters; they are for the cluster."""
        inputs = self.search.inputs.items()
        others = {name: text for name, text in inputs if name != "data" and given.get(name, text) != text}
        return ", ".join(f"{name}={text} (here {given[name]})" for name, text in others.items())


def plan(given: Mapping[str, str]) -> Plan:
    """Read the search space and check every trial before anything else happens."""
    found = read(given["search"])
    common = settings.defaults()
    common |= {name: text for name, text in given.items() if name in common}
    drawn = [_trial(given["search"], number, common, values) for number, values in enumerate(found.trials(), 1)]
    check(drawn)
    return Plan(found, drawn)


def _trial(path: str, number: int, common: dict[str, str], hyperparameters: dict[str, str]) -> Trial:
    settings.read(common)  # what is wrong with the parameters is not the search's fault
    try:
        read_settings = settings.read(common | hyperparameters)
    except UserError as error:
        remedy = f"change search_space in {path} (integers: a choice), or the estimator"
        raise UserError(f"{path}: {error.cause}", remedy) from error
    differs = {name: text for name, text in hyperparameters.items() if text != AUTO}
    return Trial(f"trial {number}", read_settings, differs)


def read(path: str) -> Search:
    """Read the search space, the sampling and the limits of a sweep job.

    Parameters
    ----------
    path : str
        YAML; https://learn.microsoft.com/azure/machine-learning/reference-yaml-job-sweep says what it holds.

    """
    document = _document(path)
    space = {name: _distribution(path, name, spec) for name, spec in _mapping(path, document, "search_space").items()}
    if not space:
        raise _wrong(path, "has nothing in its search_space", f"search one of {NAMES}")
    given = document.get("sampling_algorithm", "random")
    algorithm = given if isinstance(given, dict) else {"type": given}
    sampling = str(algorithm.get("type", "random")).lower()
    if sampling not in SAMPLINGS:
        raise _wrong(path, f"samples by {sampling!r}, which is not supported", f"give {' or '.join(SAMPLINGS)}")
    if sampling == "grid" and not _all_choices(space):
        raise _wrong(
            path, "asks for a grid of a distribution", "give each hyperparameter a choice, or sample at random"
        )
    objective = {key: str(text).lower() for key, text in _mapping(path, document, "objective").items()}
    if objective != OBJECTIVE:
        raise _wrong(
            path,
            f"has the objective {objective}, and here trials are compared by cross-validation",
            f"give goal: {OBJECTIVE['goal']}, primary_metric: {OBJECTIVE['primary_metric']}; the test rows stay unseen",
        )
    limits = _mapping(path, document, "limits")
    there = f"give one in {path}"
    most = str(limits.get("max_total_trials", ""))
    n_trials = integer("max_total_trials", most, low=1, high=MOST_TRIALS, remedy=there)
    own_seed = str(algorithm.get("seed", 0))
    seed = integer("the seed of sampling_algorithm", own_seed, low=0, high=2**32 - 1, remedy=there)
    inputs = document.get("inputs")
    passed = {str(name): str(value) for name, value in inputs.items()} if isinstance(inputs, dict) else {}
    return Search(space, sampling, seed, n_trials, passed)


def _document(path: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "give search=FILE, a sweep job in YAML") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise _wrong(
            path, f"is not a YAML file{line}", "correct it, or begin with a copy of submit/sweep.yml"
        ) from error
    if not isinstance(document, dict) or document.get("type") != "sweep":
        raise _wrong(path, "is not a sweep job", "begin with a copy of submit/sweep.yml")
    return document


def _mapping(path: str, document: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    if not isinstance(found, dict):
        raise _wrong(path, f"has no {key}", "begin with a copy of submit/sweep.yml")
    return found


def _all_choices(space: Mapping[str, Any]) -> bool:
    return all(isinstance(values, list) for values in space.values())


def _distribution(path: str, name: str, spec: Any) -> Any:
    known = HYPERPARAMETERS
    if name not in known:
        raise _wrong(path, f"searches {name!r}{nearest(str(name), known)}", f"search one of {NAMES}")
    kind = spec.get("type") if isinstance(spec, dict) else None
    if kind not in DISTRIBUTIONS:
        raise _wrong(path, f"draws {name} by {kind!r}, which is not supported", f"give type: {'|'.join(DISTRIBUTIONS)}")
    if kind == "choice":
        values = spec.get("values")
        if not isinstance(values, list) or not values:
            raise _wrong(path, f"gives {name} no values to choose from", f"give {name} values: [...]")
        return values
    from scipy import stats

    try:
        low, high = float(spec["min_value"]), float(spec["max_value"])
        ends = (low, high) if kind == "uniform" else (exp(low), exp(high))
    except (KeyError, TypeError, ValueError, OverflowError):
        ends = (0.0, 0.0)
    if not -inf < ends[0] < ends[1] < inf or (kind == "loguniform" and ends[0] == 0):
        raise _wrong(
            path,
            f"should give {name} two numbers, min_value below max_value",
            "of a loguniform they are natural logarithms: -7 and 5 stand for 0.0009 and 148",
        )
    return stats.uniform(ends[0], ends[1] - ends[0]) if kind == "uniform" else stats.loguniform(*ends)


def _wrong(path: str, what: str, remedy: str) -> UserError:
    return UserError(f"{path} {what}", remedy)
