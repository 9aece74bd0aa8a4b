"""A model: preprocessing by the kinds of a table's columns, and an estimator behind it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import moments
from trainer.estimators import ESTIMATORS
from trainer.settings import Settings

if TYPE_CHECKING:
    from trainer.loading import Column

Floats = npt.NDArray[np.float64]

# The categories of a text column that are encoded each for itself; rarer ones share a column.
MAX_CATEGORIES = 100
# From this many values on (rows x columns) a linear model is fitted from the moments of the rows, without a copy.
LARGE_VALUES = 4_000_000

# What skops must be told to trust beyond its own list: the compiled parts of numpy and scikit-learn.
TRUSTED_TYPES = [
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
]


def make(settings: Settings, columns: "Sequence[Column]") -> Any:
    """Build an unfitted model for columns of these kinds: a Pipeline with the steps ``columns`` and ``estimator``.

    Missing numbers are imputed by the median, with an indicator where training has them, unless the estimator has a
    way of its own; numbers are standardised with ``scaling='standard'``. Text is one-hot encoded.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

    estimator = ESTIMATORS[settings.estimator]
    built = estimator.build(**settings.hyperparameters, random_state=settings.seed)
    numbers = [column.name for column in columns if column.kind in ("number", "integer", "boolean")]
    texts = [column.name for column in columns if column.kind == "text"]
    if estimator.flavor == "xgboost" and not texts:
        return built
    steps = [] if estimator.takes_missing else [_median()]
    steps += [StandardScaler()] if settings.scaling == "standard" else []
    transformers: list[tuple[str, Any, list[str]]] = []
    if numbers:
        transformers.append(("numbers", make_pipeline(*steps) if steps else "passthrough", numbers))
    if texts:
        transformers.append(("texts", _one_hot(), texts))
    dense = estimator.takes_categories
    return Pipeline(
        [("columns", ColumnTransformer(transformers, sparse_threshold=0.0 if dense else 0.3)), ("estimator", built)]
    )


def fit(model: Any, features: pd.DataFrame, target: Floats) -> Any:
    """Fit a model from `make` in place, on all cores, and return it ready to predict.

    A linear model is fitted from the moments of a large table of numbers. A forest predicts with one thread: with
    several, its trees are summed in the order in which the threads finish, and the last digit changes.
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


def predict(model: Any, features: pd.DataFrame) -> Floats:
    """Predict; of a large table a block of rows at a time."""
    if not is_large(features):
        return np.asarray(model.predict(features), dtype=np.float64)
    predicted = np.empty(len(features))
    for rows, block in moments.blocks(features):
        predicted[rows] = model.predict(pd.DataFrame(block, columns=features.columns, copy=False))
    return predicted


def is_pipeline(model: Any) -> bool:
    """Whether a model is one of scikit-learn's, with preprocessing in front; else it is xgboost's."""
    return hasattr(model, "named_steps")


def final(model: Any) -> Any:
    """Return the estimator of a model, without what stands in front of it."""
    return model.named_steps["estimator"] if is_pipeline(model) else model


def is_linear(model: Any) -> bool:
    """Whether a model is a linear one, which depends on the features' moments alone."""
    from sklearn.linear_model import ElasticNet, Ridge

    return isinstance(final(model), Ridge | ElasticNet)


def is_large(features: pd.DataFrame) -> bool:
    """Whether a table of numbers is so large that a copy of it costs more than it gives."""
    return features.size >= LARGE_VALUES and all(kind.kind == "f" for kind in features.dtypes)


def params(model: Any) -> dict[str, str]:
    """Return all parameters of a model's estimator as its library spells them: ``estimator__alpha``."""
    return {f"estimator__{name}": str(value) for name, value in final(model).get_params().items()}


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
