"""What Azure Machine Learning's generated script does with an MLflow model, for the rehearsal of a deployment.

It runs in the environment of the deployment, below `azmlinfsrv`, and may import nothing of this project: the model from
AZUREML_MODEL_DIR by `mlflow.pyfunc`, the input in the types of the model's input example, the answer as JSON.
"""

import os
from io import StringIO
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from azureml.ai.monitoring import Collector  # noqa: F401 - the service's script imports it, whether it is used or not
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.schema_decorators import input_schema, output_schema
from mlflow.pyfunc.scoring_server import _get_jsonable_obj

_folder = Path(os.environ["AZUREML_MODEL_DIR"]) / os.environ["MLFLOW_MODEL_FOLDER"]
_model = mlflow.pyfunc.load_model(str(_folder))
_info = _model.metadata.saved_input_example_info
_example = pd.read_json(StringIO((_folder / _info["artifact_path"]).read_text()), orient="split", dtype=False)


def init() -> None:
    """Load the model: done above, for its example decides about the types of `run`."""


@input_schema("input_data", PandasParameterType(_example, enforce_shape=False, orient="split"))
@output_schema(NumpyParameterType(_model.predict(_example), enforce_shape=False))
def run(input_data: pd.DataFrame) -> Any:
    """Score the rows of a request."""
    return _get_jsonable_obj(_model.predict(input_data), pandas_orient="records")
