"""The environment that serves a model: what its predictions depend on, and no more.

Azure Machine Learning builds the environment of an online deployment from the model's own ``conda.yaml``, which has to
name the service's server; that wants other versions of a few packages than training needs. So a model carries the
server, and the packages that a prediction passes through, pinned as they are in training. ``serving.yml`` is written
from uv.lock, where they are resolved together (`make lock`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from trainer import pipeline

if TYPE_CHECKING:
    from trainer.table import Column

# MLflow holds the pins that it is given against what is installed, and for that reads the list of files of each package
# that is: a tenth of a small run. A marker that holds nowhere spares it; `write` puts the environment in its place.
UNREAD = {"dependencies": [{"pip": ["mlflow; python_version < '3'"]}]}
SERVING_YML = Path(__file__).resolve().parent.parent / "serving.yml"


def environment(model: Any, columns: "Sequence[Column]") -> dict[str, Any]:
    """Return what the predictions of a fitted model depend on, as a conda.yaml says it.

    Parameters
    ----------
    model : fitted Pipeline or XGBRegressor
    columns : sequence of Column
        What each feature is.
    """
    parts = yaml.safe_load(SERVING_YML.read_text(encoding="utf-8"))
    pins: list[str] = list(parts["always"])
    if type(pipeline.final(model)).__module__.startswith("xgboost"):
        pins += parts["xgboost"]
    if any(column.kind == "datetime" for column in columns):
        pins += parts["dates"]
    return {
        "name": "serving",
        "channels": ["conda-forge"],
        "dependencies": [f"python={parts['python']}", "pip", {"pip": sorted(set(pins))}],
    }


def write(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write an environment into the folder of a model, as MLflow does."""
    pins: list[str] = environment["dependencies"][-1]["pip"]
    (folder / "conda.yaml").write_text(yaml.safe_dump(dict(environment), default_flow_style=False), encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(pins), encoding="utf-8")


def add_server(conda_yaml: Path) -> None:
    """Add Azure Machine Learning's server to the conda.yaml of a model folder.

    To that file alone: `requirements.txt` beside it is what MLflow serves with, and what it warns of where a package
    is missing as it loads the model; and no training environment has room for that server.
    """
    server = yaml.safe_load(SERVING_YML.read_text(encoding="utf-8"))["server"]
    document = yaml.safe_load(conda_yaml.read_text(encoding="utf-8"))
    pip = next(one for one in document["dependencies"] if isinstance(one, dict))
    pip["pip"] = sorted({*pip["pip"], *server})
    conda_yaml.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
