"""The environment that serves a model: what its predictions depend on, and no more.

Azure Machine Learning builds the environment of an online deployment from the model's own ``conda.yaml`` and adds its
scoring server, which wants other versions of a few packages than training needs. So a model carries the packages
that a prediction passes through, pinned as they are in training. ``serving.yml`` is written from uv.lock, where they
are resolved together with that server (`make lock`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from trainer import pipeline

if TYPE_CHECKING:
    from trainer.table import Column

SERVING_YML = Path(__file__).resolve().parent.parent / "serving.yml"


def environment(model: Any, columns: "Sequence[Column]") -> dict[str, Any]:
    """Return the environment of a fitted model, as a conda.yaml says it.

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
