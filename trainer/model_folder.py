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
import yaml

from trainer import mlmodel, pipeline, serving
from trainer.errors import UnusableModelError, UserError
from trainer.model_loading import TRAINING_TABLE, Model, load

if TYPE_CHECKING:
    from trainer.columns import Kind
    from trainer.table import Column

__all__ = ["Agreement", "Model", "UnusableModelError", "load", "predict", "save", "score_again"]

ROOT = Path(__file__).resolve().parent.parent
TRAINING_YML = "training.yaml"
SKOPS, XGBOOST = "model.skops", "model.ubj"  # as mlflow calls them
RECORDED_SCORING = "recorded_scoring.json"
RECORDED_ROWS = 200
EXAMPLE_ROWS = 5


def save(
    path: Path,
    model: Any,
    scored: pd.DataFrame,
    columns: "Sequence[Column]",
    versions: Mapping[str, str],
    metadata: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted model as an MLflow model: of the sklearn flavor in skops' format, or of the xgboost flavor.

    Beside it goes the recorded scoring, ``recorded_scoring.json``: rows, what the model predicts for them now, and
    with which versions. It is what tells later whether the model still predicts the same. ``training_table.json`` says
    what the table was like. The ``MLmodel`` file holds the digests of both, and that of the model's own file.

    ``requirements.txt`` is what serves the model, and is small; ``conda.yaml`` is that with Azure Machine Learning's
    server; ``training.yaml`` beside them is what has trained it.

    The signature names the columns, all of them required, with the type ``any``. A narrower type would refuse what the
    pipeline takes: mlflow 3.15 refuses an int64 column for ``double`` unless all of it is 0 and 1, a column with a gap
    for ``long`` or ``boolean``, a categorical one for ``string``, and nullable dtypes for all of them. What ``any``
    costs: the scoring server of `mlflow models serve` reads no CSV (JSON and Parquet it does; `mlflow models predict`
    reads CSV, too), and MLflow's user interface names no types; `training_table.json` does.

    The input example holds all numbers as decimals, booleans, too: Azure Machine Learning casts what comes to its
    types, and would make ``false`` of a boolean that is missing.

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
    training : mapping, optional
        What is recorded of the training table, from `trainer.profile.take`; else the kinds of the columns alone.
    """
    from mlflow.models import Model as MlflowModel
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    rows = scored.head(RECORDED_ROWS)
    answers = np.asarray(model.predict(rows))
    sent = _as_sent(rows)
    common = {
        "conda_env": serving.UNREAD,
        "signature": ModelSignature(
            inputs=Schema([ColSpec(AnyType(), column.name) for column in columns]),  # type: ignore[no-untyped-call]
            outputs=Schema([TensorSpec(answers.dtype, (-1,))]),
        ),
        "input_example": sent.head(EXAMPLE_ROWS),
    }
    if pipeline.is_pipeline(model):
        import mlflow.sklearn

        trusted = {"serialization_format": "skops", "skops_trusted_types": pipeline.TRUSTED_TYPES}
        mlflow.sklearn.save_model(model, str(path), **common, **trusted)
    else:
        import mlflow.xgboost

        mlflow.xgboost.save_model(model, str(path), **common)
    serving.write(path, serving.environment(model, columns))
    serving.add_server(path / "conda.yaml")
    (path / TRAINING_YML).write_bytes((ROOT / "conda.yml").read_bytes())
    recorded = {
        "rows": {"columns": list(sent.columns), "data": _json_rows(sent)},
        "predictions": answers.astype(np.float64).tolist(),
        "versions": dict(versions),
    }
    kinds = {"columns": [{"name": column.name, "kind": column.kind} for column in columns]}
    digests = {
        "recorded_scoring_sha256": _write_json(path / RECORDED_SCORING, recorded),
        "training_table_sha256": _write_json(path / TRAINING_TABLE, training or kinds),
        "model_sha256": mlmodel.digest(path / (SKOPS if pipeline.is_pipeline(model) else XGBOOST)),
    }
    saved = MlflowModel.load(str(path))
    saved.metadata = {**metadata, **digests}
    saved.save(str(path / mlmodel.MLMODEL))


def _write_json(path: Path, content: Mapping[str, Any]) -> str:
    """Write a file, and return its digest."""
    text = json.dumps(content, allow_nan=False).encode()
    path.write_bytes(text)
    return hashlib.sha256(text).hexdigest()


def _as_sent(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows in the types in which JSON sends them: a date is text."""
    dates = [name for name, values in rows.items() if values.dtype.kind == "M"]
    return rows.assign(**{str(name): _iso(rows[name]) for name in dates})


def _iso(dates: "pd.Series[Any]") -> "pd.Series[Any]":
    text = dates.dt.strftime("%Y-%m-%dT%H:%M:%S.%f").str.removesuffix(".000000").str.removesuffix("T00:00:00")
    sent: pd.Series[Any] = text.astype(object).where(dates.notna(), None)
    return sent


def _json_rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Give rows in JSON's types: numbers exactly (as Python prints them), a missing value as null."""
    missing = frame.isna().to_numpy()
    return [
        [None if gap else value for value, gap in zip(row, gaps, strict=True)]
        for row, gaps in zip(frame.astype(object).to_numpy().tolist(), missing, strict=True)
    ]


@dataclass(frozen=True)
class Recorded:
    """Rows that were scored on the day of training, what was predicted for them, and with which packages."""

    rows: pd.DataFrame
    predictions: npt.NDArray[np.float64]
    versions: dict[str, str]


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


def score_again(folder: Path, trust: bool = False, name: str = "") -> Agreement:
    """Load a model folder and score the rows that are recorded in it.

    Parameters
    ----------
    folder : Path
        An MLflow model with ``recorded_scoring.json``, as `save` writes it.
    trust : bool
        Let MLflow load it, and run the code that it brings.
    name : str
        What messages call it; the folder's path where it is empty.

    Raises
    ------
    UserError
        There is no recorded scoring, or it, or the model's file, is not the one of the day of training.
    UnusableModelError
        The model cannot be loaded here, or cannot score the rows.
    """
    recorded = read_recorded(folder, trust, name)
    return Agreement(recorded.predictions, load(folder, trust, name).predict(recorded.rows), recorded.versions)


def estimator(folder: Path) -> str:
    """Name the estimator of a model folder, as train.py's parameter does; empty where it is not known."""
    return str(mlmodel.describe(folder, trust=True).metadata.get("estimator", ""))


def version(folder: Path) -> str:
    """Return the version that MLflow says a downloaded folder is: ``models:/NAME/VERSION``; empty where it is none."""
    path = folder / "registered_model_meta"
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8")[:10_000])
        return f"models:/{said['model_name']}/{said['model_version']}"
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return ""


def feature_names(model: Model) -> list[str]:
    """Name the columns that a loaded model needs."""
    return model.feature_names


def kinds(model: Model) -> "dict[str, Kind]":
    """Return what each feature of a loaded model was in training."""
    return dict(model.kinds)


def predict(model: Model, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Score rows; see `Model.predict`."""
    return model.predict(rows)


def read_recorded(folder: Path, trust: bool = False, name: str = "") -> Recorded:
    """Read the recorded scoring of a model folder, and check it, and the model's file, against their digests.

    Raises
    ------
    UserError
        There is none.
    UnusableModelError
        The folder is not a model that this project has made, or has changed since.
    """
    described = mlmodel.describe(folder, name, trust)
    if not (folder / RECORDED_SCORING).is_file():
        raise UserError(
            f"{described.name} has no {RECORDED_SCORING}, so there is nothing to compare with",
            "give a model that this project's train.py has made",
        )
    content = mlmodel.read_checked(described, RECORDED_SCORING, "recorded_scoring_sha256")
    mlmodel.check_digest(described)
    try:
        read = json.loads(content)
        rows = pd.DataFrame(read["rows"]["data"], columns=read["rows"]["columns"], dtype=object)
        predictions = np.asarray(read["predictions"], dtype=np.float64)
        versions = {str(package): str(version) for package, version in read["versions"].items()}
        if predictions.shape != (len(rows),):
            raise ValueError("it has another number of predictions than of rows")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        cause = f"{described.name}: its {RECORDED_SCORING} cannot be read: {mlmodel.said(error)}"
        raise UnusableModelError(cause, mlmodel.AGAIN) from error
    return Recorded(rows, predictions, versions)
