"""Score the recorded rows of a model folder again: does it still predict what it predicted on its first day?"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer.errors import UserError
from trainer.model_folder import RECORDED_SCORING

# How mlflow's types are held in a DataFrame; text stays an object.
_DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}


@dataclass(frozen=True)
class Agreement:
    """The predictions of the day of training, and those of now.

    Attributes
    ----------
    recorded, predicted : ndarray of shape (rows,)
        In the unit of the target.
    versions : dict
        The packages of the day of training, by name.
    """

    recorded: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    versions: dict[str, str]

    @property
    def rows(self) -> int:
        """How many rows were scored again."""
        return len(self.recorded)

    @property
    def absolute(self) -> npt.NDArray[np.float64]:
        """The difference of each row; infinite where now there is no number."""
        return np.nan_to_num(np.abs(self.predicted - self.recorded), nan=np.inf)

    @property
    def relative(self) -> npt.NDArray[np.float64]:
        """The difference of each row as a share of what was recorded; 0 where both are 0."""
        size = np.abs(self.recorded)
        return np.divide(self.absolute, size, out=np.where(self.absolute > 0, np.inf, 0.0), where=size > 0)

    @property
    def largest_absolute(self) -> float:
        """The largest difference, in the unit of the target."""
        return float(self.absolute.max(initial=0.0))

    @property
    def largest_relative(self) -> float:
        """The largest difference as a share of what was recorded."""
        return float(self.relative.max(initial=0.0))

    @property
    def exact(self) -> bool:
        """Whether every prediction is the same to the last bit."""
        return bool(np.array_equal(self.recorded, self.predicted))


def score_again(folder: Path) -> Agreement:
    """Load a model folder and score the rows that are recorded in it.

    Parameters
    ----------
    folder : Path
        An MLflow model with ``recorded_scoring.json``, as `trainer.model_folder.save` writes it.

    Raises
    ------
    UserError
        There is no recorded scoring, or it is not the one that was recorded.
    Exception
        Whatever mlflow raises where the model cannot be loaded.
    """
    import mlflow.pyfunc

    recorded = read_recorded(folder)
    model = mlflow.pyfunc.load_model(str(folder))
    frame = restore(recorded["rows"], model.metadata.signature.inputs)
    return Agreement(
        recorded=np.asarray(recorded["predictions"], dtype=np.float64),
        predicted=np.asarray(model.predict(frame), dtype=np.float64).reshape(-1),
        versions=recorded["versions"],
    )


def read_recorded(folder: Path) -> dict[str, Any]:
    """Read the recorded scoring of a model folder, and check it against the digest in its ``MLmodel`` file.

    Raises
    ------
    UserError
        There is none, or it has changed since.
    """
    from mlflow.models import Model

    path = folder / RECORDED_SCORING
    if not path.is_file():
        raise UserError(
            f"{folder} has no {RECORDED_SCORING}, so there is nothing to compare with",
            "give a model that this project's train.py has made",
        )
    text = path.read_bytes()
    expected = (Model.load(str(folder)).metadata or {}).get("recorded_scoring_sha256")
    if hashlib.sha256(text).hexdigest() != expected:
        raise UserError(
            f"{path} is not what was recorded on the day of training",
            "fetch the model folder again from where it was logged",
        )
    recorded: dict[str, Any] = json.loads(text)
    return recorded


def restore(rows: dict[str, Any], schema: Any) -> pd.DataFrame:
    """Make a DataFrame of recorded rows, each column in the type that the model's signature names.

    Parameters
    ----------
    rows : dict
        ``columns`` and ``data``, a missing value as None.
    schema : mlflow.types.Schema
        The signature's inputs.
    """
    types = {column.name: column.type.name for column in schema.inputs}
    columns = {}
    for position, name in enumerate(rows["columns"]):
        values = [row[position] for row in rows["data"]]
        gaps = any(value is None for value in values)
        dtype = _DTYPES.get(types[str(name)], "object")
        if gaps and dtype not in ("float64", "float32"):
            dtype = "object"  # a truth value that is missing is neither true nor false
        columns[str(name)] = pd.Series([np.nan if value is None else value for value in values], dtype=dtype)
    return pd.DataFrame(columns)
