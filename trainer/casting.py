"""The types in which a model takes its features, and the cast to them, which loses nothing."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from trainer.errors import UnusableModelError

if TYPE_CHECKING:
    from trainer.columns import Kind

ANY = "any"
# What a feature of each kind is cast to, by MLflow's names of types.
TYPES = {"number": "double", "integer": "double", "boolean": "double", "text": "string", "datetime": "datetime"}
# What the signatures of version 0.1.0 say, in which integers and booleans are types of their own.
KINDS: "dict[str, Kind]" = {
    "double": "number",
    "float": "number",
    "long": "integer",
    "integer": "integer",
    "boolean": "boolean",
    "string": "text",
    "datetime": "datetime",
}
_MEANING = {"double": "numbers", "long": "integers", "boolean": "booleans", "string": "text", "datetime": "dates"}


def types(inputs: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, str]:
    """Return what each feature is cast to: by its kind in training, else by the type in the signature."""
    found = {}
    for name, given in inputs.items():
        widened = {"float": "double", "integer": "long"}.get(given, given)
        found[name] = TYPES[kinds[name]] if name in kinds else widened if widened in KINDS else "string"
    return found


def cast(rows: pd.DataFrame, taken: Mapping[str, str], model: str) -> pd.DataFrame:
    """Return the features of rows in the types that a model takes.

    Raises
    ------
    UnusableModelError
        A value would not be the same afterwards: a decimal for an integer, a text for a number.
    """
    columns = {}
    for name, kind in taken.items():
        values = rows[name]
        try:
            columns[name] = _CASTS[kind](values)
        except (ValueError, TypeError) as error:
            example = _example(values, kind)
            raise UnusableModelError(
                f"{model} takes {_MEANING[kind]} in the column {name!r}, and it holds {example!r}",
                "give the column as it was in training, or train another model",
            ) from error
    return pd.DataFrame(columns, index=rows.index, copy=False)


def _numbers(values: "pd.Series[Any]") -> "pd.Series[Any]":
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if values.dtype.kind in "OUS" or isinstance(values.dtype, pd.StringDtype):
        values = pd.to_numeric(values.astype(object).where(values.notna(), np.nan))
    if values.dtype.kind in "Mm":
        raise TypeError("a date is no number")
    return pd.Series(values.to_numpy(dtype=np.float64, na_value=np.nan), index=values.index)


def _integers(values: "pd.Series[Any]") -> "pd.Series[Any]":
    numbers = _numbers(values)
    if numbers.isna().any():
        return numbers
    whole = numbers.astype(np.int64)
    if not (whole == numbers).all():
        raise ValueError("a decimal is no integer")
    return whole


def _booleans(values: "pd.Series[Any]") -> "pd.Series[Any]":
    numbers = _numbers(values)
    missing = numbers.isna()
    if not numbers[~missing].isin((0, 1)).all():
        raise ValueError("a number is no boolean")
    if not missing.any():
        return numbers.astype(bool)
    return numbers.map({0.0: False, 1.0: True}).astype(object)


def _texts(values: "pd.Series[Any]") -> "pd.Series[Any]":
    missing = values.isna()
    texts = values.astype(object).where(~missing, np.nan)
    if not texts[~missing].map(lambda value: isinstance(value, str)).all():
        raise TypeError("a number is no text")
    return texts


def _dates(values: "pd.Series[Any]") -> "pd.Series[Any]":
    if values.dtype.kind in "iufb":
        if values.isna().all():
            return pd.Series(np.full(len(values), np.datetime64("NaT"), dtype="datetime64[us]"), index=values.index)
        raise TypeError("a number is no date")
    dates = pd.to_datetime(values.astype(object) if values.dtype.kind == "O" else values, format="ISO8601", utc=True)
    return dates.dt.tz_localize(None).astype("datetime64[us]")


_CASTS = {"double": _numbers, "long": _integers, "boolean": _booleans, "string": _texts, "datetime": _dates}


def _example(values: "pd.Series[Any]", kind: str) -> Any:
    """Return the first value that cannot be cast."""
    for value in values[values.notna()].tolist():
        try:
            _CASTS[kind](pd.Series([value]))
        except (ValueError, TypeError):
            return value
    return str(values.dtype)
