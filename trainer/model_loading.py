"""A model folder, loaded without running anything that came with it.

`mlflow.pyfunc.load_model` imports the module that the folder's ``MLmodel`` names, from the folder's own code, and takes
the types that skops may build from there, too. Here ``MLmodel`` is data: what this project writes is loaded by the
library that it is for, after a look at what is in the file; whatever else a folder asks for is refused by name. It is
the same where an organisation forbids MLflow to unpickle (``MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false``).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import casting, pipeline, skops_parts, tree_bounds
from trainer.errors import UnusableModelError
from trainer.mlmodel import AGAIN, ANOTHER, Description, describe, read_checked, refused, said

if TYPE_CHECKING:
    from trainer.columns import Kind

TRAINING_TABLE = "training_table.json"
# Rows that are cast and scored at a time.
BLOCK_ROWS = 100_000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes
    ----------
    name : str
        As the user has named it.
    types : mapping of str to str
        What each feature is cast to; see `trainer.casting`.
    kinds : mapping of str to str
        What each feature was in training.
    metadata : mapping
        Of the ``MLmodel`` file: the run, the data, the versions.
    training : mapping
        What was recorded of the training table; empty for a model of version 0.1.0.
    """

    name: str
    types: Mapping[str, str]
    kinds: "Mapping[str, Kind]"
    metadata: Mapping[str, Any]
    training: Mapping[str, Any]
    scores: Callable[[pd.DataFrame], Any] = field(repr=False)

    @property
    def feature_names(self) -> list[str]:
        """The features in the order of the signature."""
        return list(self.types)

    @property
    def target(self) -> str:
        """The column that it predicts; empty where it is not known."""
        return str(self.metadata.get("target", ""))

    @property
    def estimator(self) -> str:
        """The estimator as train.py's parameter names it; empty where it is not known."""
        return str(self.metadata.get("estimator", ""))

    def predict(self, frame: pd.DataFrame) -> Floats:
        """Score rows; each column is cast to the type of training, as far as nothing is lost.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)
            A missing value is None, nan or NA. Columns that the model does not know are passed over.

        Returns
        -------
        ndarray of shape (n_rows,)

        Raises
        ------
        UnusableModelError
            A feature is missing, or holds what would be changed by the cast, or the model fails.
        """
        if missing := [name for name in self.types if name not in frame]:
            raise UnusableModelError(f"{self.name} needs the column {missing[0]!r}, which is not there", ANOTHER)
        predicted = np.empty(len(frame))
        for start in range(0, len(frame), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            rows = casting.cast(frame.iloc[block], self.types, self.name)
            try:
                answers = self.scores(rows)
            except Exception as error:  # what another version of any package raises cannot be foreseen
                raise UnusableModelError(f"{self.name} cannot score these rows: {said(error)}", ANOTHER) from error
            predicted[block] = np.asarray(answers, dtype=np.float64).reshape(-1)
        return predicted


def load(folder: Path, trust: bool = False, name: str = "") -> Model:
    """Load a model folder; nothing that came with it is run, unless it is trusted.

    Parameters
    ----------
    folder : Path
    trust : bool
        Let MLflow load whatever it is, and run the code that it brings.
    name : str
        What messages call it; the folder's path where it is empty.

    Raises
    ------
    UnusableModelError
        It is not a model as this project writes it, or a package is missing, or has another version.
    """
    described = describe(folder, name, trust)
    training = read_training(described)
    try:
        scores = (
            _trusted(folder) if trust else _sklearn(described) if described.flavor == "sklearn" else _xgboost(described)
        )
    except UnusableModelError:
        raise
    except tree_bounds.ForgedError as error:
        raise refused(
            described.name, f"{described.file.name} was not written by {described.flavor}: {error}"
        ) from error
    except Exception as error:  # as above
        raise UnusableModelError(f"{described.name} cannot be loaded here: {said(error)}", ANOTHER) from error
    kinds = {column["name"]: column["kind"] for column in training.get("columns", [])}
    types = casting.types(described.inputs, kinds)
    return Model(
        name=described.name,
        types=types,
        kinds={feature: kinds.get(feature) or casting.KINDS[taken] for feature, taken in types.items()},
        metadata=described.metadata,
        training=training,
        scores=scores,
    )


def read_training(described: Description) -> Mapping[str, Any]:
    """Read what was recorded of the training table; empty where nothing was."""
    if "training_table_sha256" not in described.metadata:
        return {}
    content = read_checked(described, TRAINING_TABLE, "training_table_sha256")
    try:
        found: Mapping[str, Any] = json.loads(content)
        if strange := {column["kind"] for column in found["columns"]} - casting.TYPES.keys():
            raise ValueError(f"a column is {min(strange)}")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnusableModelError(
            f"{described.name}: its {TRAINING_TABLE} cannot be read: {said(error)}", AGAIN
        ) from error
    return found


def _sklearn(described: Description) -> Callable[[pd.DataFrame], Any]:
    """Load a pipeline from skops' format: of our types alone, whatever the folder says is to be trusted."""
    import skops.io

    foreign = skops_parts.foreign(described.file)
    foreign |= set(skops.io.get_untrusted_types(file=described.file)) - set(pipeline.TRUSTED_TYPES)
    if foreign:
        raise refused(described.name, f"{min(foreign)}, which no pipeline of this project has")
    fitted = skops.io.load(described.file, trusted=pipeline.TRUSTED_TYPES)
    tree_bounds.check_sklearn(fitted)
    predict: Callable[[pd.DataFrame], Any] = fitted.predict
    return predict


def _xgboost(described: Description) -> Callable[[pd.DataFrame], Any]:
    from xgboost import XGBRegressor

    content = described.file.read_bytes()
    tree_bounds.check_xgboost(content, len(described.inputs))
    fitted = XGBRegressor()
    fitted.load_model(bytearray(content))
    predict: Callable[[pd.DataFrame], Any] = fitted.predict
    return predict


def _trusted(folder: Path) -> Callable[[pd.DataFrame], Any]:
    import mlflow.pyfunc

    predict: Callable[[pd.DataFrame], Any] = mlflow.pyfunc.load_model(str(folder)).predict
    return predict
