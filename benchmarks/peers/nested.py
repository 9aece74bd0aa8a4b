"""The shape of a search in MLflow's examples: each trial is a nested `mlflow run`."""

import sys
from pathlib import Path

import mlflow

path, target, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])
with mlflow.start_run():
    for trial in range(trials):
        with mlflow.start_run(nested=True) as child:
            mlflow.projects.run(
                uri=str(Path(__file__).parent),
                env_manager="local",
                run_id=child.info.run_id,
                parameters={"data": path, "target": target, "alpha": 10.0 ** (trial / 5 - 3)},
            )
