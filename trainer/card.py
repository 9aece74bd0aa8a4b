"""The model card: what a stranger should know of a model before using it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from trainer import estimators


def save(
    path: Path,
    model: Any,
    sentences: Mapping[str, str],
    metrics: Mapping[str, float],
    importance: pd.DataFrame,
    versions: Mapping[str, str],
) -> None:
    """Write the model card as Markdown, with `skops.card`.

    Parameters
    ----------
    path : Path
        The ``.md`` file.
    model : fitted Pipeline or XGBRegressor
    sentences : mapping of str to str
        What to say, by the title of the section.
    metrics : mapping of str to float
    importance : DataFrame
        From `evaluation.importance`.
    versions : mapping of str to str
        Packages by name.
    """
    from skops.card import Card

    card = Card(model, template=None)
    for title, text in sentences.items():
        card.add(**{title: text})
    hyperparameters = estimators.final(model).get_params()
    card.add_table(
        **{
            "Metrics": {"metric": list(metrics), "value": [f"{value:.6g}" for value in metrics.values()]},
            "What matters": {
                "feature": importance["feature"].tolist(),
                "RMSE added when shuffled": [
                    f"{mean:.4g} ± {std:.2g}" for mean, std in zip(importance["mean"], importance["std"], strict=True)
                ],
            },
            "Hyperparameters": {
                "name": list(hyperparameters),
                "value": [str(value) for value in hyperparameters.values()],
            },
            "Versions": {"package": list(versions), "version": list(versions.values())},
        }
    )
    card.save(path)
