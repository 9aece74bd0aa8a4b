"""A client that waits for a job through an outage of the service and says for how long it heard nothing."""

from __future__ import annotations

import os
import sys
import time

from azure.ai.ml import MLClient
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential


def main() -> None:
    client = MLClient(
        DefaultAzureCredential(),
        os.environ["AZURE_SUBSCRIPTION_ID"],
        os.environ["AZURE_RESOURCE_GROUP"],
        os.environ["AZUREML_WORKSPACE_NAME"],
        retry_total=0,
    )
    last, gap = 0.0, 0.0
    while True:
        try:
            status = str(client.jobs.get(sys.argv[1]).status).rsplit(".", 1)[-1].capitalize()
        except AzureError:
            time.sleep(0.2)
        else:
            if last:
                gap = max(gap, time.monotonic() - last)
            else:
                print("waiting", flush=True)
            last = time.monotonic()
            if status in ("Completed", "Failed", "Canceled"):
                break
        time.sleep(0.1)
    print(status, gap, flush=True)


if __name__ == "__main__":
    main()
