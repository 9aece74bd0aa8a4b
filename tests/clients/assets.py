"""Assets and small changes with azure-ai-ml: one line of JSON for each step."""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

from azure.ai.ml import Input, MLClient, command  # noqa: E402
from azure.ai.ml.entities import AmlCompute, Data, Environment, Model  # noqa: E402
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError  # noqa: E402
from azure.identity import DefaultAzureCredential  # noqa: E402


def say(step: str, **values: Any) -> None:
    print(json.dumps({"step": step, **values}, default=str), flush=True)


def wait(client: MLClient, job: str) -> None:
    while client.jobs.get(job).status not in ("Completed", "Failed", "Canceled"):
        time.sleep(0.1)


def main() -> None:
    names = [os.environ[key] for key in ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME")]
    client = MLClient(DefaultAzureCredential(), *names)
    here = Path(tempfile.mkdtemp())
    (here / "table").mkdir()
    (here / "table" / "part.csv").write_text("a\n1\n")

    for step, get in {
        "no data": lambda: client.data.get("assets-data", version="1"),
        "no model": lambda: client.models.get("assets-model", version="1"),
        "no environment": lambda: client.environments.get("assets-env", version="1"),
        "no job": lambda: client.jobs.get("assets-none"),
    }.items():
        try:
            get()
        except ResourceNotFoundError as error:
            say(step, body=json.loads(error.response.text()) if error.response else None)

    data = Data(name="assets-data", path=str(here / "table"), type="uri_folder")
    first = client.data.create_or_update(data)
    (here / "table" / "more.csv").write_text("a\n2\n")
    second = client.data.create_or_update(Data(name="assets-data", path=str(here / "table"), type="uri_folder"))
    say(
        "data",
        versions=[first.version, second.version],
        latest=client.data.get("assets-data", label="latest").version,
    )
    say("data list", names=[row.name for row in client.data.list()])

    for text in ("one", "two"):
        (here / "conda.yml").write_text(f"name: {text}\ndependencies: [python=3.11]\n")
        made = client.environments.create_or_update(
            Environment(name="assets-env", image="image:1", conda_file=str(here / "conda.yml"))
        )
        say(f"environment {text}", version=made.version)
    say("environments", names=[row.name for row in client.environments.list()])

    cluster = AmlCompute(name="assets-cluster", size="STANDARD_DS3_V2", max_instances=1, tier="low_priority")
    client.compute.begin_create_or_update(cluster).result()
    found = client.compute.get("assets-cluster")
    say(
        "assets cluster",
        tier=found.tier,
        listed=[row.name for row in client.compute.list() if row.name == found.name],
    )

    job = command(
        command="cat ${{inputs.data}}/*.csv; mkdir outputs; echo saved > outputs/o.txt",
        inputs={"data": Input(type="uri_folder", path="azureml:assets-data:2", mode="download")},
        environment="assets-env@latest",
        compute="assets-cluster",
        experiment_name="assets",
        tags={"first": "1"},
    )
    sent = client.jobs.create_or_update(job)
    wait(client, sent.name)
    client.jobs.download(sent.name, download_path=here / "down", all=True)
    files = sorted(path.name for path in (here / "down").rglob("*") if path.is_file())
    say("data read", job=sent.name, files=files)
    ended = client.jobs.get(sent.name)
    ended.tags["second"] = "2"
    client.jobs.create_or_update(ended)
    say("tags", tags=client.jobs.get(sent.name).tags)
    client.jobs.archive(sent.name)
    say("archived", active=[row.name for row in client.jobs.list() if row and row.name == sent.name])

    model = Model(
        name="assets-model",
        path=f"azureml://jobs/{sent.name}/outputs/artifacts/paths/outputs/",
        type="custom_model",
    )
    kept = client.models.create_or_update(model)
    say("model", version=kept.version, path=client.models.get("assets-model", version="1").path)
    say("models", names=[row.name for row in client.models.list() if row.name == "assets-model"])
    reading = command(
        command="cat ${{inputs.model}}/o.txt",
        inputs={"model": Input(type="custom_model", path="azureml:assets-model:1")},
        environment="assets-env@latest",
        compute="assets-cluster",
        experiment_name="assets",
    )
    sent = client.jobs.create_or_update(reading)
    wait(client, sent.name)
    say("model read", job=sent.name)
    client.compute.begin_delete("assets-cluster").result()
    try:
        client.compute.get("assets-cluster")
    except HttpResponseError as error:
        say("deleted", status=error.status_code)


if __name__ == "__main__":
    main()
