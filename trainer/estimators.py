"""The estimators by name, their hyperparameters, and the preprocessing in front of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import moments
from trainer.errors import UserError
from trainer.hashing import is_number
from trainer.parameters import AUTO, number, whole_number

ESTIMATORS = ("ridge", "elasticnet", "random_forest", "hist_gradient_boosting", "xgboost")
# Those that several processes can train together.
COLLECTIVE = ("xgboost",)
SCALINGS = ("standard", "none")

# The categories of a text column that are encoded each for itself; rarer ones share a column.
MAX_CATEGORIES = 100

# What skops must be told to trust beyond its own list: the compiled parts of numpy and scikit-learn.
TRUSTED_TYPES = [
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]

# Hyperparameters by estimator: the name here, the name in its library, and how its text is read.
_Reader = Callable[[str, str], float | int]
_alpha: _Reader = partial(number, low=0)
_positive: _Reader = partial(number, low=0, open_low=True)
_count: _Reader = partial(whole_number, low=1, high=2**31 - 1)
HYPERPARAMETERS: dict[str, dict[str, tuple[str, _Reader]]] = {
    "ridge": {"alpha": ("alpha", _alpha)},
    "elasticnet": {
        "alpha": ("alpha", _positive),
        "l1_ratio": ("l1_ratio", partial(number, low=0, high=1, open_high=False)),
    },
    "random_forest": {"n_estimators": ("n_estimators", _count), "max_depth": ("max_depth", _count)},
    "hist_gradient_boosting": {
        "n_estimators": ("max_iter", _count),
        "learning_rate": ("learning_rate", _positive),
        "max_depth": ("max_depth", _count),
    },
    "xgboost": {
        "n_estimators": ("n_estimators", _count),
        "learning_rate": ("learning_rate", _positive),
        "max_depth": ("max_depth", _count),
    },
}
HYPERPARAMETER_NAMES = tuple(dict.fromkeys(name for own in HYPERPARAMETERS.values() for name in own))


@dataclass(frozen=True)
class Choice:
    """An estimator and what is known of it before any data is read.

    Attributes
    ----------
    name : str
        One of `ESTIMATORS`.
    hyperparameters : dict
        By the names of the estimator's library; what is left out keeps that library's default.
    scaling : {'standard', 'none'}
    seed : int
        `random_state`, where the estimator has one.
    """

    name: str
    hyperparameters: dict[str, float | int]
    scaling: str
    seed: int


def read_hyperparameters(estimator: str, given: Mapping[str, str]) -> dict[str, float | int]:
    """Read the hyperparameters that were given (those that are not ``auto``).

    Parameters
    ----------
    estimator : str
        One of `ESTIMATORS`.
    given : mapping of str to str
        By this project's names.

    Returns
    -------
    dict
        By the names of the estimator's library.

    Raises
    ------
    UserError
        The estimator has no such hyperparameter, or the value is out of its range.
    """
    own = HYPERPARAMETERS[estimator]
    values: dict[str, float | int] = {}
    for name, text in given.items():
        if text == AUTO:
            continue
        if name not in own:
            raise UserError(
                f"the estimator {estimator} has no {name}; it has {' and '.join(own)}",
                f"leave {name}={AUTO}, or choose another estimator",
            )
        their_name, read = own[name]
        values[their_name] = read(name, text)
    return values


def make(chosen: Choice, features: pd.DataFrame) -> Any:
    """Build an unfitted model for a table's features.

    Numbers without missing values are standardised, or passed through untouched with ``scaling='none'``.
    Missing numbers are imputed by the median, with an indicator column, except for
    hist_gradient_boosting, which handles them itself. Text is one-hot encoded; a category that was not
    seen in training counts as a rare one.

    xgboost stands alone: it takes numbers, missing ones too, as they are, and scaling would change none of its splits.

    Parameters
    ----------
    chosen : Choice
    features : DataFrame of shape (n_rows, n_features)
        Only its columns' types and whether they have missing values matter.

    Returns
    -------
    sklearn.pipeline.Pipeline or xgboost.XGBRegressor
        The pipeline has the steps ``columns`` and ``estimator``.

    Raises
    ------
    UserError
        xgboost is asked to take text.
    """
    if chosen.name == "xgboost":
        return _xgboost(chosen, features)
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

    imputes = chosen.name != "hist_gradient_boosting"
    numbers, gapped, texts = [], [], []
    for name, column in features.items():
        if not is_number(column):
            texts.append(name)
        elif imputes and column.isna().any():
            gapped.append(name)
        else:
            numbers.append(name)
    scale = [StandardScaler()] if chosen.scaling == "standard" else []
    transformers: list[tuple[str, Any, list[Any]]] = []
    if numbers:
        transformers.append(("numbers", *scale, numbers) if scale else ("numbers", "passthrough", numbers))
    if gapped:
        transformers.append(("gapped", make_pipeline(_median(), *scale), gapped))
    if texts:
        transformers.append(("texts", _one_hot(), texts))
    columns = ColumnTransformer(
        transformers,
        # hist_gradient_boosting takes no sparse matrix
        sparse_threshold=0.0 if chosen.name == "hist_gradient_boosting" else 0.3,
    )
    return Pipeline([("columns", columns), ("estimator", _estimator(chosen))])


def fit(model: Any, features: pd.DataFrame, target: npt.NDArray[np.float64]) -> Any:
    """Fit a model from `make` in place, on all cores, and return it ready to predict.

    A linear model is fitted from the moments of a large table of numbers, without a copy of it.


    A forest predicts with one thread: with several, its trees are summed in the order in which the
    threads finish, and the last digit changes from call to call.
    """
    if is_linear(model) and is_large(features) and moments.have(features):
        return moments.fit(model, list(features.columns), moments.take(features, target)[0])
    if not is_pipeline(model):
        return model.fit(features, target)  # on all cores by itself
    parallel = "n_jobs" in model.named_steps["estimator"].get_params()
    if parallel:
        model.set_params(estimator__n_jobs=-1)
    model.fit(features, target)
    if parallel:
        model.set_params(estimator__n_jobs=None)
    return model


def is_pipeline(model: Any) -> bool:
    """Whether a model is one of scikit-learn's, with preprocessing in front; else it is xgboost's."""
    return hasattr(model, "named_steps")


def final(model: Any) -> Any:
    """Give the estimator of a model, without what stands in front of it."""
    return model.named_steps["estimator"] if is_pipeline(model) else model


def is_linear(model: Any) -> bool:
    """Whether a model is a linear one, which depends on the features' moments alone."""
    from sklearn.linear_model import ElasticNet, Ridge

    return isinstance(final(model), Ridge | ElasticNet)


def packages(estimator: str) -> tuple[str, ...]:
    """Name the packages that an estimator's predictions depend on."""
    own = "xgboost-cpu" if estimator == "xgboost" else "scikit-learn"
    return (own, "numpy", "pandas", "scipy", "skops", "mlflow")


def is_large(features: pd.DataFrame) -> bool:
    """Whether a table has been streamed into float32."""
    return bool((features.dtypes == np.float32).all())


def predict(model: Any, features: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Predict; of a large table a block of rows at a time, in float64, as a caller's rows will be."""
    if not is_large(features):
        return np.asarray(model.predict(features), dtype=np.float64)
    predicted = np.empty(len(features))
    for rows, block in moments.blocks(features):
        predicted[rows] = model.predict(pd.DataFrame(block, columns=features.columns, copy=False))
    return predicted


def params(model: Any) -> dict[str, str]:
    """Give all parameters of a model's estimator as its library spells them: ``estimator__alpha``."""
    return {f"estimator__{name}": str(value) for name, value in final(model).get_params().items()}


def _xgboost(chosen: Choice, features: pd.DataFrame) -> Any:
    from xgboost import XGBRegressor

    for name, column in features.items():
        if column.dtype.kind not in "biuf":
            held = "truth values of which some are missing" if is_number(column) else "text"
            raise UserError(
                f"xgboost takes numbers, and the column {name!r} holds {held}",
                "turn it into numbers, leave it out with columns=..., or give estimator=hist_gradient_boosting",
            )
    return XGBRegressor(**chosen.hyperparameters, random_state=chosen.seed)


def _estimator(chosen: Choice) -> Any:
    # imported where needed: a linear model need not wait for the trees
    if chosen.name == "ridge":
        from sklearn.linear_model import Ridge as Estimator
    elif chosen.name == "elasticnet":
        from sklearn.linear_model import ElasticNet as Estimator
    elif chosen.name == "random_forest":
        from sklearn.ensemble import RandomForestRegressor as Estimator
    else:
        from sklearn.ensemble import HistGradientBoostingRegressor as Estimator
    return Estimator(**chosen.hyperparameters, random_state=chosen.seed)


def _median() -> Any:
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy="median", add_indicator=True)


def _one_hot() -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    # Missing text is nan in a DataFrame from a file, and None in one from JSON: both are one category.
    missing = {"strategy": "constant", "fill_value": "(missing)"}
    return make_pipeline(
        SimpleImputer(missing_values=np.nan, **missing),
        SimpleImputer(missing_values=None, **missing),
        OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES),
    )
