"""What `az ml job|compute|environment create -f submit/FILE` does, with the SDK that it is made of."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from azure.ai.ml import MLClient, load_compute, load_environment, load_job
from azure.identity import DefaultAzureCredential

HERE = Path(__file__).resolve().parents[2] / "submit"


def main(name: str) -> None:
    client = MLClient(
        DefaultAzureCredential(),
        os.environ["AZURE_SUBSCRIPTION_ID"],
        os.environ["AZURE_RESOURCE_GROUP"],
        os.environ["AZUREML_WORKSPACE_NAME"],
    )
    said = {}
    if name == "job.yml":
        sent = client.jobs.create_or_update(load_job(HERE / name))
        said = {"name": sent.name, "code": str(sent.code)}
    elif name == "sweep.yml":
        sweep = load_job(HERE / name, params_override=[{"limits.max_total_trials": 2}])
        sent = client.jobs.create_or_update(sweep)
        said = {"name": sent.name}
    elif name == "compute.yml":
        said = {"name": client.compute.begin_create_or_update(load_compute(HERE / name)).result().name}
    else:
        said = {"name": client.environments.create_or_update(load_environment(HERE / name)).name}
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
