"""The folder of a logged model: an MLflow model and a recorded scoring. Written, loaded, scored again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainer import pipeline
from trainer.errors import UnusableModelError, UserError
from trainer.hashing import is_number

if TYPE_CHECKING:
    from trainer.loading import Column

CONDA_YML = Path(__file__).resolve().parent.parent / "conda.yml"
RECORDED_SCORING = "recorded_scoring.json"
RECORDED_ROWS = 200
EXAMPLE_ROWS = 5
# Rows that are cast and scored at a time.
BLOCK_ROWS = 100_000
ANOTHER = "load it in the environment that is recorded with it, or train another"


def save(
    path: Path,
    model: Any,
    scored: pd.DataFrame,
    columns: "Sequence[Column]",
    versions: Mapping[str, str],
    metadata: Mapping[str, Any],
) -> None:
    """Write a fitted model as an MLflow model: of the sklearn flavor in skops' format, or of the xgboost flavor.

    Beside it goes the recorded scoring, ``recorded_scoring.json``: rows, what the model predicts for them now, and
    with which versions. It is what tells later whether the model still predicts the same. The ``MLmodel`` file holds
    its digest, and that of the model's own file.

    Parameters
    ----------
    path : Path
        A folder that does not exist yet.
    model : fitted Pipeline or XGBRegressor
    scored : DataFrame of shape (n_rows, n_features)
        The first `RECORDED_ROWS` of them are recorded, the first `EXAMPLE_ROWS` are the input example.
    columns : sequence of Column
        What each feature is.
    versions : mapping of str to str
        Packages that predictions may depend on, by name.
    metadata : mapping
        Kept in the ``MLmodel`` file; JSON types only.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    scored = _as_sent(scored.head(RECORDED_ROWS), columns)
    rows = scored
    answers = np.asarray(model.predict(rows))
    predictions = answers.astype(np.float64)
    common = {
        "conda_env": str(CONDA_YML),
        "signature": ModelSignature(
            inputs=Schema([ColSpec(_mlflow_type(column), str(name)) for name, column in scored.items()]),
            outputs=Schema([TensorSpec(answers.dtype, (-1,))]),
        ),
        "input_example": rows.head(EXAMPLE_ROWS),
    }
    if pipeline.is_pipeline(model):
        import mlflow.sklearn

        trusted = {"serialization_format": "skops", "skops_trusted_types": pipeline.TRUSTED_TYPES}
        mlflow.sklearn.save_model(model, str(path), **common, **trusted)
    else:
        import mlflow.xgboost

        mlflow.xgboost.save_model(model, str(path), **common)
    saved = Model.load(str(path))
    recorded = {
        "rows": {"columns": list(rows.columns), "data": _json_rows(rows)},
        "predictions": predictions.tolist(),
        "versions": dict(versions),
    }
    text = json.dumps(recorded, allow_nan=False).encode()
    (path / RECORDED_SCORING).write_bytes(text)
    saved.metadata = {
        **metadata,
        "recorded_scoring_sha256": _sha256(text),
        "model_sha256": _sha256((path / model_file(saved)).read_bytes()),
    }
    saved.save(str(path / "MLmodel"))


def _as_sent(rows: pd.DataFrame, columns: "Sequence[Column]") -> pd.DataFrame:
    """Return rows in the types in which a caller will send such rows again."""
    types = {"integer": "int64", "boolean": "bool"}
    return rows.astype({c.name: types[c.kind] for c in columns if c.kind in types and not c.missing})


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _mlflow_type(column: "pd.Series[Any]") -> str:
    """Name the MLflow type that mlflow holds the columns of a prediction's input to."""
    if column.dtype.kind == "i":
        return "long"
    if column.dtype.kind == "f":
        return "double"
    return "boolean" if is_number(column) else "string"


def _json_rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Give rows in JSON's types: numbers exactly (as Python prints them), a missing value as null."""
    missing = frame.isna().to_numpy()
    return [
        [None if gap else value for value, gap in zip(row, gaps, strict=True)]
        for row, gaps in zip(frame.astype(object).to_numpy().tolist(), missing, strict=True)
    ]


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
        There is no recorded scoring, or it, or the model's file, is not the one of the day of training.
    UnusableModelError
        The model cannot be loaded here, or cannot score the rows.
    """
    recorded = read_recorded(folder)
    model = load(folder)
    rows = recorded["rows"]
    return Agreement(
        recorded=np.asarray(recorded["predictions"], dtype=np.float64),
        predicted=predict(model, pd.DataFrame(rows["data"], columns=rows["columns"], dtype=object)),
        versions=recorded["versions"],
    )


def estimator(folder: Path) -> str:
    """Name the estimator of a model folder, as train.py's parameter does; empty where it is not known."""
    from mlflow.models import Model

    return str((Model.load(str(folder)).metadata or {}).get("estimator", ""))


def load(folder: Path) -> Any:
    """Load an MLflow model, whatever happens.

    Raises
    ------
    UnusableModelError
        It cannot be loaded here: a package is missing, or has another version.
    """
    import mlflow.pyfunc

    try:
        return mlflow.pyfunc.load_model(str(folder))
    except Exception as error:  # what another version of any package raises cannot be foreseen
        raise UnusableModelError(f"it cannot be loaded here: {_said(error)}", ANOTHER) from error


def feature_names(model: Any) -> list[str]:
    """Name the columns that a loaded model needs.

    Raises
    ------
    UnusableModelError
        It has no signature.
    """
    schema = model.metadata.get_input_schema()
    if schema is None:
        raise UnusableModelError("it has no signature that says which columns it needs", ANOTHER)
    names: list[str] = schema.input_names()
    return names


def predict(model: Any, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Score rows with a loaded model, each column cast to the type that the model's signature names.

    Parameters
    ----------
    model : mlflow.pyfunc.PyFuncModel
    rows : DataFrame of shape (n_rows, n_columns)
        A missing value is None or nan. Columns that the model does not know are left out.

    Returns
    -------
    ndarray of shape (n_rows,)

    Raises
    ------
    UnusableModelError
        The rows cannot be cast, or the model fails on them.
    """
    schema = model.metadata.get_input_schema()
    predicted = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        try:
            answers = model.predict(_cast(rows.iloc[block], schema))
        except Exception as error:  # as above
            raise UnusableModelError(f"it cannot score these rows: {_said(error)}", ANOTHER) from error
        predicted[block] = np.asarray(answers, dtype=np.float64).reshape(-1)
    return predicted


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
    model = Model.load(str(folder))
    digests = model.metadata or {}
    if hashlib.sha256(text).hexdigest() != digests.get("recorded_scoring_sha256"):
        raise UserError(
            f"{path} is not what was recorded on the day of training",
            "fetch the model folder again from where it was logged",
        )
    recorded: dict[str, Any] = json.loads(text)
    file = folder / model_file(model)
    if hashlib.sha256(file.read_bytes()).hexdigest() != digests.get("model_sha256"):
        raise UserError(
            f"{file} is not the model that was recorded on the day of training",
            "fetch the model folder again from where it was logged",
        )
    return recorded


def model_file(model: Any) -> str:
    """Name the file of an MLflow model that holds the model itself; the flavors have different words for it."""
    flavor = model.flavors["python_function"]
    return str(flavor.get("model_path") or flavor["data"])


def _cast(rows: pd.DataFrame, schema: Any) -> pd.DataFrame:
    columns = {}
    for column in schema.inputs:
        values = rows[column.name]
        missing = values.isna()
        dtype = _DTYPES.get(column.type.name, "object")
        if dtype == "bool" and missing.any():
            dtype = "object"  # a truth value that is missing is neither true nor false
        columns[column.name] = values.mask(missing, np.nan).astype(dtype)
    return pd.DataFrame(columns)


def _said(error: Exception) -> str:
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"
