"""The estimators, one entry each. Light: a library is imported where a model is built."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from trainer.errors import UserError
from trainer.readers import AUTO, Reader, integer, number

_alpha: Reader = partial(number, low=0)
_positive: Reader = partial(number, low=0, open_low=True)
_count: Reader = partial(integer, low=1, high=2**31 - 1)


@dataclass(frozen=True)
class Estimator:
    """What this project knows of an estimator.

    Attributes
    ----------
    build : callable
        Takes the hyperparameters by the library's names, and ``random_state``.
    hyperparameters : mapping
        By the name here: the library's name, and how its text is read.
    penalty : {'sum', 'mean'} or None
        Of a linear model: whether its penalty is weighed against the sum or the mean of the squared errors. A linear
        model depends on second moments alone, and its predictions may differ in the last digits between machines.
    distributed : bool
        Whether several processes can train one model.
    takes_missing, takes_categories : bool
        Whether it has a way of its own with missing numbers, and with categories.
    flavor : {'sklearn', 'xgboost'}
        The MLflow flavor of a model of numbers alone.
    package : str
        The distribution that its predictions depend on.
    """

    build: Callable[..., Any]
    hyperparameters: Mapping[str, tuple[str, Reader]]
    penalty: Literal["sum", "mean"] | None = None
    distributed: bool = False
    takes_missing: bool = False
    takes_categories: bool = False
    flavor: Literal["sklearn", "xgboost"] = "sklearn"
    package: str = "scikit-learn"

    @property
    def is_linear(self) -> bool:
        """Whether it depends on the second moments of a table alone."""
        return self.penalty is not None


def _ridge(**parameters: Any) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(**parameters)


def _elasticnet(**parameters: Any) -> Any:
    from sklearn.linear_model import ElasticNet

    return ElasticNet(**parameters)


def _random_forest(**parameters: Any) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(**parameters)


def _hist_gradient_boosting(**parameters: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(**parameters)


def _xgboost(**parameters: Any) -> Any:
    from xgboost import XGBRegressor

    return XGBRegressor(**parameters)


ESTIMATORS: dict[str, Estimator] = {
    "ridge": Estimator(_ridge, {"alpha": ("alpha", _alpha)}, penalty="sum"),
    "elasticnet": Estimator(
        _elasticnet,
        {
            "alpha": ("alpha", _positive),
            "l1_ratio": ("l1_ratio", partial(number, low=0, high=1, open_high=False)),
        },
        penalty="mean",
    ),
    "random_forest": Estimator(
        _random_forest, {"n_estimators": ("n_estimators", _count), "max_depth": ("max_depth", _count)}
    ),
    "hist_gradient_boosting": Estimator(
        _hist_gradient_boosting,
        {
            "n_estimators": ("max_iter", _count),
            "learning_rate": ("learning_rate", _positive),
            "max_depth": ("max_depth", _count),
        },
        takes_missing=True,
        takes_categories=True,
    ),
    "xgboost": Estimator(
        _xgboost,
        {
            "n_estimators": ("n_estimators", _count),
            "learning_rate": ("learning_rate", _positive),
            "max_depth": ("max_depth", _count),
        },
        distributed=True,
        takes_missing=True,
        takes_categories=True,
        flavor="xgboost",
        package="xgboost" if sys.platform == "darwin" else "xgboost-cpu",
    ),
}


def having(hyperparameter: str) -> str:
    """Name the estimators that have a hyperparameter."""
    return ", ".join(name for name, estimator in ESTIMATORS.items() if hyperparameter in estimator.hyperparameters)


def read_hyperparameters(estimator: str, given: Mapping[str, str]) -> dict[str, float | int]:
    """Read the hyperparameters that are not ``auto``, and return them by the library's names."""
    own = ESTIMATORS[estimator].hyperparameters
    values: dict[str, float | int] = {}
    for name, text in given.items():
        if text == AUTO:
            continue
        if name not in own:
            raise UserError(
                f"the estimator {estimator} has no {name}; it has {' and '.join(own)}",
                f"leave {name}={AUTO}, or choose another estimator",
            )
        library_name, read = own[name]
        values[library_name] = read(name, text)
    return values
