"""A model: preprocessing by the kinds of a table's columns, and an estimator behind it.

A fitted model takes the columns however they are typed: numbers and booleans as any dtype or as text of them, text and
dates with missing values in every spelling (None, nan, NA), dates also as text. So it holds types of scikit-learn,
numpy, pandas and skrub alone, and nothing of this project: it can be loaded without it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import moments
from trainer import spelling as spellings
from trainer.estimators import Estimator
from trainer.settings import Settings

if TYPE_CHECKING:
    from trainer.table import Column

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.uint64] | None

# From this many values on (rows x columns) a linear model is fitted from the moments of the rows, and predictions are
# made a block of rows at a time: a copy of the table would cost more than it gives.
LARGE_VALUES = 4_000_000
# Folds in which the mean targets of categories are computed for the rows of the other folds.
CROSS_FITTING = 5
MISSING = "nan"
# Training rows in which a number is missing, and in which it is there, that an indicator of it takes: with fewer, it is
# fitted to whatever else is special about those rows (on published tables: rmse up to 1.4 times that without it).
FEWEST_GAPS = 20
# Training rows with a date from which on a linear model has its parts: of fewer it learns by heart what days they were
# (on published tables: rmse 1.2 times, and where most are missing 3 times, that of the date as one number).
FEWEST_DATES = 100
# Rows that show whether a column may be empty.
SEEMING_ROWS = 100

# What skops must be told to trust beyond its own list: compiled parts of numpy and scikit-learn, functions that convert
# columns (`check_array` in a partial is HistGradientBoosting's own), the encoder of dates, and xgboost's model.
TRUSTED_TYPES = [
    "functools.partial",
    "numpy.append",
    "numpy.asarray",
    "numpy.dtype",
    "numpy.interp",
    "numpy.max",
    "numpy.outer",
    "numpy.ravel",
    "numpy.reshape",
    "numpy.sort",
    "numpy.strings.replace",
    "numpy.strings.strip",
    "numpy.strings.translate",
    "numpy.strings.zfill",
    "numpy.sum",
    "numpy.take",
    "pandas._libs.missing.NAType",
    "pandas.core.series.Series",
    "pandas.core.tools.datetimes.to_datetime",
    "pandas.core.tools.numeric.to_numeric",
    "pandas.core.tools.timedeltas.to_timedelta",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
    "skrub._datetime_encoder.DatetimeEncoder",
    "skrub._datetime_encoder._CircularEncoder",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBRegressor",
]


def make(settings: Settings, estimator: Estimator, columns: "Sequence[Column]", features: pd.DataFrame) -> Any:
    """Build an unfitted model for columns of these kinds: a Pipeline with the steps ``columns`` and ``estimator``.

    Parameters
    ----------
    settings : Settings
    estimator : Estimator
        The entry of ``settings.estimator``.
    columns : sequence of Column
    features : DataFrame
        The training rows; they say how many values a text column has.

    Notes
    -----
    Missing numbers become the median, with an indicator where training has enough of them, unless the estimator has a
    way of its own; numbers are standardised with ``scaling='standard'``, and read from text where the table has marks
    beside them: another text counts as missing. Text is one-hot encoded, or left to the estimator as categories; where
    it has too many values for that, as the entry says, each value stands for its mean target. A date becomes its parts
    and its place in the year, week and day, or, where a linear model has few dates, one number. What training has not
    seen, and a missing text, count as a value of its own.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    # by their places, not their names: scikit-learn looks for each name in the list of all. Scoring goes by names. The
    # places are arrays: skops writes each entry of a list for itself.
    places = {name: place for place, name in enumerate(features.columns)}
    spelled = {places[column.name]: column.spelling for column in columns if column.spelling is not None}
    numeric = [places[column.name] for column in columns if column.kind in ("number", "integer", "boolean")]
    numbers = [place for place in numeric if place not in spelled]
    texts = [places[column.name] for column in columns if column.kind == "text"]
    dates = {places[column.name]: column.order for column in columns if column.kind == "datetime"}
    most = max(min(estimator.most_categories, len(features) // estimator.rows_a_category), estimator.few_categories)
    many = {place for place in texts if features.iloc[:, place].nunique(dropna=False) > most}
    few = [place for place in texts if place not in many]
    transformers: list[tuple[str, Any, Any]] = []
    if few:
        transformers.append(("categories", _one_hot() if estimator.categorical is None else _codes(), few))
    if many:
        transformers.append(("means", _means(), sorted(many)))
    for number, (place, order) in enumerate(dates.items()):
        few_known = estimator.is_linear and features.iloc[:, place].notna().sum() < FEWEST_DATES
        transformers.append((f"date{number}", _date(estimator, not few_known, order, features.iloc[:, place]), place))
    standard = settings.scaling == "standard"
    missing = {places[column.name] for column in columns if column.missing and not estimator.takes_missing}
    gapped = {place for place in missing & {*numeric} if _has_gaps(features.iloc[:, place])}
    for place, spelling in spelled.items():
        scaled = _scaled(estimator, standard, indicator=place in gapped)
        transformers.append((f"marks{place}", Pipeline([*spellings.steps(spelling), *scaled]), place))
    for name, those in (("numbers", {*numbers} - gapped), ("gapped", gapped & {*numbers})):
        if those:
            scaled = _scaled(estimator, standard, indicator=name == "gapped")
            own = [place for place in numbers if place in those]
            transformers.append((name, Pipeline([*_floats(len(own)), *scaled]), own))
    built = estimator.build(**settings.hyperparameters, random_state=settings.seed)
    threshold = 0.3 if estimator.categorical is None else 0.0
    chosen = [(name, step, np.asarray(of) if isinstance(of, list) else of) for name, step, of in transformers]
    return Pipeline([("columns", ColumnTransformer(chosen, sparse_threshold=threshold)), ("estimator", built)])


def fit(estimator: Estimator, model: Any, features: pd.DataFrame, target: Floats, groups: Groups = None) -> Any:
    """Fit a model from `make` in place, on all cores, and return it ready to predict.

    A linear model is fitted from the moments of a large table of numbers. A forest predicts with one thread: with
    several, its trees are summed in the order in which the threads finish, and the last digit changes.

    Parameters
    ----------
    estimator : Estimator
    model : Pipeline
    features : DataFrame of shape (n_rows, n_features)
    target : ndarray of shape (n_rows,)
    groups : ndarray of shape (n_rows,) or None
        Where given, no row has a part in the mean target that stands for a category in another row of its group.
    """
    if estimator.is_linear and is_large(features) and moments.have(features):
        return moments.fit(model, features, moments.take(features, target)[0])
    features = _without_empty_columns(features)
    columns, final_step = model.named_steps["columns"], model.named_steps["estimator"]
    kinds = {kind: names for kind, _, names in columns.transformers}
    if "means" in kinds:
        columns.set_params(means__encoder__cv=_cross_fitting(final_step, target, groups))
    matrix = columns.fit_transform(features, target)
    if "means" in kinds:  # the rows of a fold have no place in a model
        for step in (columns.named_transformers_["means"], columns.get_params()["means"]):
            step.set_params(encoder__cv=CROSS_FITTING)
    if estimator.categorical is not None:
        categories = len(kinds.get("categories", ()))
        final_step.set_params(**estimator.categorical(categories, matrix.shape[1]))
    parallel = "n_jobs" in final_step.get_params()
    if parallel:
        final_step.set_params(n_jobs=-1)
    final_step.fit(matrix, target)
    if parallel:
        final_step.set_params(n_jobs=None)
    return model


def predict(model: Any, features: pd.DataFrame) -> Floats:
    """Predict; of a large table a block of rows at a time."""
    if not is_large(features):
        return np.asarray(model.predict(features), dtype=np.float64)
    predicted = np.empty(len(features))
    for rows in moments.slices(len(features)):
        predicted[rows] = model.predict(features.iloc[rows])
    return predicted


def prepared(
    model: Any, features: pd.DataFrame
) -> tuple[Floats, list[npt.NDArray[np.intp]], Callable[[Floats], Floats]]:
    """Return what a fitted model's estimator sees of some rows, which columns are whose, and how it predicts.

    Returns
    -------
    ndarray of shape (n_rows, n_columns)
    list of ndarray
        By feature, in the order of the table.
    callable
        Takes such a matrix and returns the predictions.
    """
    if not is_pipeline(model):
        names = features.columns
        bare = [np.array([place]) for place in range(len(names))]
        return (
            features.to_numpy(dtype=np.float64),
            bare,
            lambda rows: _predicted(model, pd.DataFrame(rows, columns=names)),
        )
    columns, estimator = model.named_steps["columns"], model.named_steps["estimator"]
    matrix = columns.transform(features)
    parts: list[list[int]] = [[] for _ in columns.feature_names_in_]
    for kind, step, places in columns.transformers_:
        if kind == "remainder":
            continue
        start = columns.output_indices_[kind].start
        for place, count in _made(step, [places] if isinstance(places, int) else list(places)):
            parts[place].extend(range(start, start + count))
            start += count
    dense = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
    return dense, [np.array(own, dtype=np.intp) for own in parts], lambda rows: _predicted(estimator, rows)


def _predicted(estimator: Any, rows: Any) -> Floats:
    return np.asarray(estimator.predict(rows), dtype=np.float64)


def _made(step: Any, places: list[int]) -> Iterator[tuple[int, int]]:
    """Say in their order how many columns a fitted step has made of each feature, and then of which one a gap."""
    encoder, imputer = step.named_steps.get("encoder"), step.named_steps.get("imputer")
    if hasattr(encoder, "all_outputs_"):
        yield places[0], len(encoder.all_outputs_)
        return
    one_hot = hasattr(encoder, "drop_idx_")
    for number, place in enumerate(places):
        yield place, len(encoder.categories_[number]) if one_hot else 1
    if imputer is not None and imputer.indicator_ is not None:
        for number in imputer.indicator_.features_:
            yield places[number], 1


def is_pipeline(model: Any) -> bool:
    """Whether a model has preprocessing in front; else it is xgboost's, from several processes."""
    return hasattr(model, "named_steps")


def final(model: Any) -> Any:
    """Return the estimator of a model, without what stands in front of it."""
    return model.named_steps["estimator"] if is_pipeline(model) else model


def is_large(features: pd.DataFrame) -> bool:
    """Whether a table is so large that a copy of it costs more than it gives."""
    return features.size >= LARGE_VALUES


def params(model: Any) -> dict[str, str]:
    """Return all parameters of a model's estimator as its library spells them: ``estimator__alpha``."""
    return {f"estimator__{name}": str(value) for name, value in final(model).get_params().items()}


def _without_empty_columns(features: pd.DataFrame) -> pd.DataFrame:
    """Return rows in which a column that is missing in all of them, as may be in a fold, is constant."""
    seeming = features.columns[features.head(SEEMING_ROWS).isna().all()]
    empty = [name for name in seeming if features[name].isna().all() and features[name].dtype != object]
    constant = {name: pd.Series(0, index=features.index).astype(features[name].dtype) for name in empty}
    return features.assign(**{str(name): values for name, values in constant.items()}) if empty else features


def _has_gaps(values: "pd.Series[Any]") -> bool:
    missing = int(values.isna().sum())
    return min(missing, len(values) - missing) >= FEWEST_GAPS


def _floats(columns: int) -> list[tuple[str, Any]]:
    """Return the steps that make floats of so many columns of numbers, whatever they come as."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import FunctionTransformer

    # no row more: only integers become floats, for an imputer fills no gap among integers. Objects stay what they are:
    # MLflow hands a nullable column on as such, in which NA is no number.
    nothing = np.empty((0, columns))
    gaps = SimpleImputer(missing_values=pd.NA, strategy="constant", fill_value=np.nan, keep_empty_features=True)
    return [("floats", FunctionTransformer(np.append, kw_args={"values": nothing, "axis": 0})), ("gaps", gaps)]


def _scaled(estimator: Estimator, standard: bool, indicator: bool) -> list[tuple[str, Any]]:
    """Return the steps that fill the gaps of numbers, and scale them."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    scaled = standard and estimator.scaled
    steps: list[tuple[str, Any]] = []
    if not estimator.takes_missing:
        # a column may be empty in the training part of a fold
        imputer = SimpleImputer(strategy="median", add_indicator=indicator, keep_empty_features=True)
        steps.append(("imputer", imputer))
    if scaled or estimator.takes_missing:
        # without scaling: only turned into float64, whatever they came as
        steps.append(("scaler", StandardScaler(with_mean=scaled, with_std=scaled)))
    return steps


def _date(estimator: Estimator, in_parts: bool, order: str, values: "pd.Series[Any]") -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
    from skrub import DatetimeEncoder

    # a linear model sees no year, week or day in numbers that begin anew; trees do
    periodic = "circular" if estimator.is_linear else None
    mixed: Mapping[str, Any] = {"format": "mixed", "utc": True, "errors": "coerce", "dayfirst": order[:2] == "%d"}
    reading = [("reader", FunctionTransformer(pd.to_datetime, kw_args=mixed))]
    if "%y" in order and (values.isna() | (values == values.dt.normalize())).all():
        reading = spellings.days(order)
    encoder = DatetimeEncoder(resolution=None)
    if in_parts:
        encoder = DatetimeEncoder(add_weekday=True, add_day_of_year=True, periodic_encoding=periodic)
    steps: list[tuple[str, Any]] = [
        *reading,
        ("encoder", encoder),
    ]
    if not estimator.takes_missing:
        steps += [("imputer", SimpleImputer(strategy="median")), ("scaler", StandardScaler())]
    return Pipeline(steps)


def _text() -> list[tuple[str, Any]]:
    """Return the steps that turn a column of anything into text, and one text for all that is missing."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import FunctionTransformer

    # by way of numpy's own type of text, in which each value is turned into text, and takes no more than it needs
    same = {"strategy": "constant", "fill_value": MISSING}
    return [
        ("text", FunctionTransformer(np.asarray, kw_args={"dtype": "T"})),
        ("object", FunctionTransformer(np.asarray, kw_args={"dtype": "O"})),
        ("none", SimpleImputer(missing_values="None", **same)),
        ("na", SimpleImputer(missing_values="<NA>", **same)),
    ]


def _one_hot() -> Any:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    return Pipeline([*_text(), ("encoder", OneHotEncoder(handle_unknown="ignore"))])


def _codes() -> Any:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    return Pipeline([*_text(), ("encoder", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan))])


def _means() -> Any:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler, TargetEncoder

    # the target is a number, also where all of its values happen to be integers
    encoder = TargetEncoder(target_type="continuous", cv=CROSS_FITTING)
    return Pipeline([*_text(), ("encoder", encoder), ("scaler", StandardScaler())])


def _cross_fitting(final_step: Any, target: Floats, groups: Groups) -> Any:
    from sklearn.model_selection import GroupKFold, KFold

    seed = final_step.get_params().get("random_state")
    if groups is None:
        return KFold(CROSS_FITTING, shuffle=True, random_state=seed)
    folds = min(CROSS_FITTING, len(np.unique(groups)))
    if folds < 2:
        return KFold(CROSS_FITTING, shuffle=True, random_state=seed)
    return list(GroupKFold(folds, shuffle=True, random_state=seed).split(target, target, groups))
