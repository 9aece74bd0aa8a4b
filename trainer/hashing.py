"""The hash of a row: what the stable split goes by."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd


def row_hash(frame: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """Hash each row by its values alone: `pandas.util.hash_pandas_object` over float64 and text.

    The order of the columns plays no part, nor does whether a number was stored as an integer, a
    float or a boolean: a column that turns from integer to float keeps its rows' hashes.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)

    Returns
    -------
    ndarray of shape (n_rows,), uint64
    """
    canonical = {}
    for name, column in sorted(frame.items(), key=lambda item: str(item[0])):
        if is_number(column):
            values = column.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0  # -0.0 becomes 0.0
        else:
            values = column.to_numpy(dtype=object, copy=True)
        values[pd.isna(values)] = np.nan  # nan has many bit patterns, and text may say None
        canonical[name] = values
    hashes = pd.util.hash_pandas_object(pd.DataFrame(canonical, copy=False), index=False)
    return np.asarray(hashes, dtype=np.uint64)


def is_number(column: "pd.Series[Any]") -> bool:
    """Whether a feature counts as a number: integers, floats and booleans, with or without missing values."""
    if column.dtype.kind in "biuf":
        return True
    present = column.dropna()
    return bool(len(present)) and isinstance(present.iloc[0], bool | np.bool_)
