"""What `az ml job|compute|environment create -f submit/FILE` does, with the SDK that it is made of."""

from __future__ import annotations

import json
import os
from pathlib import Path

from azure.ai.ml import MLClient, load_compute, load_environment, load_job
from azure.identity import DefaultAzureCredential

HERE = Path(__file__).resolve().parents[2] / "submit"


def main() -> None:
    client = MLClient(
        DefaultAzureCredential(),
        os.environ["AZURE_SUBSCRIPTION_ID"],
        os.environ["AZURE_RESOURCE_GROUP"],
        os.environ["AZUREML_WORKSPACE_NAME"],
    )
    said = {
        "compute.yml": client.compute.begin_create_or_update(load_compute(HERE / "compute.yml")).result().name,
        "environment.yml": client.environments.create_or_update(load_environment(HERE / "environment.yml")).name,
        "sweep.yml": client.jobs.create_or_update(
            load_job(HERE / "sweep.yml", params_override=[{"limits.max_total_trials": 1}])
        ).name,
        "job.yml": client.jobs.create_or_update(load_job(HERE / "job.yml")).name,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
