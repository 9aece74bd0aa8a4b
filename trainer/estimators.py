"""The estimators, one entry each. Light: a library is imported where a model is built."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from trainer.errors import UserError
from trainer.readers import AUTO, Reader, integer, number

_alpha: Reader = partial(number, low=0)
_positive: Reader = partial(number, low=0, open_low=True)
_count: Reader = partial(integer, low=1, high=2**31 - 1)

# The values of a text column that are encoded each for itself: in columns that are mostly 0, which cost a linear model
# little, and tell a forest less than the mean target does; or as categories, of which HistGradientBoosting takes 255.
# Of categories with few rows it leaves those with fewer than 10 out, and xgboost learns the rows by heart. Ridge, whose
# penalty fades with the rows, takes more values than a thousand where each has some rows.
MANY, FEW, NATIVE, MOST, SOME_ROWS = 1_000, 20, 250, 2_500, 5


@dataclass(frozen=True)
class Estimator:
    """What this project knows of an estimator.

    Attributes
    ----------
    build : callable
        Takes the hyperparameters by the library's names, and ``random_state``.
    hyperparameters : mapping
        By the name here: the library's name, and how its text is read.
    is_linear : bool
        Whether it depends on a table's second moments alone, and takes weights of rows. The last digits of its
        predictions may differ between machines.
    distributed : bool
        Whether several processes can train one model.
    scaled : bool
        Whether its numbers are standardised, as the parameter ``scaling`` says.
    takes_missing : bool
        Whether it has a way of its own with missing numbers.
    most_categories, rows_a_category, few_categories : int
        A text column with more values, or fewer rows for each of them on average, is encoded by their mean targets,
        unless it has no more than `few_categories` of them.
    categorical : callable or None
        Whether it has a way of its own with categories: how many features are, of how many (the first ones), turned
        into the parameters that tell it. None: they are one-hot encoded.
    package : str
        The distribution that its predictions depend on.
    """

    build: Callable[..., Any]
    hyperparameters: Mapping[str, tuple[str, Reader]]
    is_linear: bool = False
    distributed: bool = False
    scaled: bool = True
    takes_missing: bool = False
    most_categories: int = FEW
    rows_a_category: int = 1
    few_categories: int = 0
    categorical: Callable[[int, int], Mapping[str, Any]] | None = None
    package: str = "scikit-learn"


def _ridge(**parameters: Any) -> Any:
    from sklearn.linear_model import Ridge

    # text makes the matrix sparse, and then Ridge approaches the solution, by default to 4 digits
    return Ridge(tol=1e-10, **parameters)


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


def _categorical_features(categories: int, features: int) -> Mapping[str, Any]:
    return {"categorical_features": [place < categories for place in range(features)]} if categories else {}


def _feature_types(categories: int, features: int) -> Mapping[str, Any]:
    if not categories:
        return {}
    return {"enable_categorical": True, "feature_types": ["c"] * categories + ["q"] * (features - categories)}


ESTIMATORS: dict[str, Estimator] = {
    "ridge": Estimator(
        _ridge,
        {"alpha": ("alpha", _alpha)},
        is_linear=True,
        most_categories=MOST,
        rows_a_category=SOME_ROWS,
        few_categories=MANY,
    ),
    "elasticnet": Estimator(
        _elasticnet,
        {
            "alpha": ("alpha", _positive),
            "l1_ratio": ("l1_ratio", partial(number, low=0, high=1, open_high=False)),
        },
        is_linear=True,
        most_categories=MANY,
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
        most_categories=NATIVE,
        rows_a_category=20,
        categorical=_categorical_features,
    ),
    "xgboost": Estimator(
        _xgboost,
        {
            "n_estimators": ("n_estimators", _count),
            "learning_rate": ("learning_rate", _positive),
            "max_depth": ("max_depth", _count),
        },
        distributed=True,
        scaled=False,
        takes_missing=True,
        most_categories=NATIVE,
        rows_a_category=20,
        categorical=_feature_types,
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
