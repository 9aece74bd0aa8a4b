"""A client that waits for a job through an outage of the service, and says when it hears nothing and when again."""

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
    said = ""

    def say(word: str) -> None:
        nonlocal said
        if word != said:
            print(word, flush=True)
        said = word

    while True:
        try:
            status = str(client.jobs.get(sys.argv[1]).status).rsplit(".", 1)[-1].capitalize()
        except AzureError:
            say("silence")
        else:
            say("waiting" if said in ("", "waiting") else "again")
            if status in ("Completed", "Failed", "Canceled"):
                break
        time.sleep(0.2)
    say(status)


if __name__ == "__main__":
    main()
