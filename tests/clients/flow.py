"""The whole way of a submission, with azure-ai-ml, azureml-mlflow and mlflow and no code of this project.

It prints one line of JSON for each step, which the test compares with what a workspace would say.
"""

from __future__ import annotations

import binascii
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import mlflow  # noqa: E402
from azure.ai.ml import Input, MLClient, Output, command  # noqa: E402
from azure.ai.ml.entities import AmlCompute, Environment  # noqa: E402
from azure.ai.ml.exceptions import JobException  # noqa: E402
from azure.ai.ml.sweep import Choice  # noqa: E402
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError  # noqa: E402
from azure.identity import DefaultAzureCredential  # noqa: E402

CONDA = "name: flow\ndependencies:\n  - python=3.11\n  - pip:\n      - mlflow\n      - azureml-mlflow\n"
# It exists: the stand-in takes any, a real workspace builds on it.
IMAGE = "mcr.microsoft.com/azureml/openmpi5.0-ubuntu24.04:20260901.v1"
TRAIN = """
import argparse, json, os, pathlib, shutil
import mlflow
parser = argparse.ArgumentParser()
parser.add_argument("--data")
parser.add_argument("--alpha", type=float, default=1.0)
parser.add_argument("--out")
arguments, rest = parser.parse_known_args()
print("rest", rest, "files", sorted(p.name for p in pathlib.Path(".").rglob("*") if p.is_file()), flush=True)
table = pathlib.Path(arguments.data).read_text().splitlines() if arguments.data else []
with mlflow.start_run() as run:
    mlflow.log_param("alpha", arguments.alpha)
    mlflow.log_metric("rmse", abs(arguments.alpha - 0.3) + 1)
    mlflow.log_metric("rows", len(table))
    mlflow.log_dict({"run": run.info.run_id}, "metric.json")
    folder = pathlib.Path("model_folder")
    folder.mkdir()
    (folder / "MLmodel").write_text(json.dumps({"flavors": {}, "run_id": run.info.run_id}))
    mlflow.log_artifacts(str(folder), "models")
    if arguments.out:
        shutil.copytree(folder, pathlib.Path(arguments.out) / "models")
print("done", os.environ["AZUREML_RUN_ID"], flush=True)
"""


def say(step: str, **values: object) -> None:
    print(json.dumps({"step": step, **values}, default=str), flush=True)


def follow(client: MLClient, name: str) -> None:
    """Wait for a job as `jobs.stream` does; that one fails where the workspace gives a signature for a key."""
    try:
        client.jobs.stream(name)
    except (binascii.Error, HttpResponseError):
        while client.jobs.get(name).status not in ("Completed", "Failed", "Canceled"):
            time.sleep(1)


def look_at_the_subscription(client: MLClient) -> None:
    """Say what is offered, and how much of it."""
    sizes = {size.name: vars(size) for size in client.compute.list_sizes()}
    usage = {row.name["value"]: row.limit for row in client.compute.list_usage() if "/workspaces/" not in row.id}
    fit = [size.name for size in client.compute.list_sizes(compute_type="AmlCompute")]
    ours = sizes.get("Standard_DS3_v2", {})
    say(
        "sizes",
        cores=ours.get("vCPUs"),
        limit=usage.get("Standard DSv2 Family Cluster Dedicated vCPUs"),
        left_out=sorted(set(sizes) - set(fit)),
        currency=(ours.get("estimatedVMPrices") or {}).get("billingCurrency"),
    )


def main() -> None:
    client = MLClient(
        DefaultAzureCredential(),
        os.environ["AZURE_SUBSCRIPTION_ID"],
        os.environ["AZURE_RESOURCE_GROUP"],
        os.environ["AZUREML_WORKSPACE_NAME"],
    )
    workspace = client.workspaces.get(os.environ["AZUREML_WORKSPACE_NAME"])
    say("workspace", location=workspace.location, tracking=workspace.mlflow_tracking_uri)
    try:
        look_at_the_subscription(client)
    except HttpResponseError as error:  # of a role on the workspace alone
        say("sizes", refused=error.status_code)

    try:
        client.compute.get("flow-cluster")
    except ResourceNotFoundError as error:
        say("no cluster", status=error.status_code)
    cluster = AmlCompute(
        name="flow-cluster",
        size="Standard_DS3_v2",
        min_instances=0,
        max_instances=2,
        idle_time_before_scale_down=120,
    )
    created = client.compute.begin_create_or_update(cluster).result()
    say(
        "cluster",
        name=created.name,
        size=created.size,
        maximum=created.max_instances,
        state=created.provisioning_state,
    )
    cluster.max_instances = 3
    say("cluster updated", maximum=client.compute.begin_create_or_update(cluster).result().max_instances)
    try:
        client.compute.begin_create_or_update(AmlCompute(name="bad", size="Standard_Nonsense")).result()
    except HttpResponseError as error:
        say("bad size", status=error.status_code, message=str(error).splitlines()[0])

    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        (here / "conda.yml").write_text(CONDA)
        environment = Environment(name="flow-env", version="1", image=IMAGE, conda_file=str(here / "conda.yml"))
        environment = client.environments.create_or_update(environment)
        latest = client.environments.get("flow-env", label="latest")
        say("environment", version=environment.version, latest=latest.version)
        code = here / "code"
        (code / "inner").mkdir(parents=True)
        (code / "train.py").write_text(TRAIN)
        (code / "inner" / "extra.txt").write_text("x")
        shutil.copy(Path(__file__).with_name("report.py"), code)
        data = here / "data.csv"
        data.write_text("a,b\n1,2\n3,4\n")

        job = command(
            code=str(code),
            command="python train.py --data ${{inputs.data}} --alpha ${{inputs.alpha}} "
            "--out ${{outputs.model}} "
            "${{inputs.nothing}}",
            inputs={"data": Input(type="uri_file", path=str(data)), "alpha": 0.5, "nothing": ""},
            outputs={"model": Output(type="uri_folder")},
            environment="flow-env@latest",
            compute="flow-cluster",
            experiment_name="flow",
            display_name="flow run",
            tags={"who": "flow"},
        )
        sent = client.jobs.create_or_update(job)
        say("sent", name=sent.name, status=sent.status, studio=sent.studio_url)
        log = io.StringIO()
        with contextlib.redirect_stdout(log):
            follow(client, sent.name)
        say("stream", log=log.getvalue())
        ended = client.jobs.get(sent.name)
        say("ended", status=ended.status, outputs=sorted(ended.outputs))
        client.jobs.download(sent.name, download_path=here / "one", all=True)
        client.jobs.download(sent.name, download_path=here / "two", output_name="model")
        say(
            "downloads",
            all=sorted(p.relative_to(here / "one").as_posix() for p in (here / "one").rglob("*") if p.is_file()),
            named=sorted(p.relative_to(here / "two").as_posix() for p in (here / "two").rglob("*") if p.is_file()),
            run=json.loads((here / "one" / "artifacts" / "metric.json").read_text())["run"],
        )

        mlflow.set_tracking_uri(workspace.mlflow_tracking_uri)
        run = mlflow.get_run(sent.name)
        say(
            "run",
            id=run.info.run_id,
            status=run.info.status,
            params=run.data.params,
            metrics=run.data.metrics,
            uri=run.info.artifact_uri,
            tags={key: run.data.tags.get(key) for key in ("who", "mlflow.runName")},
        )
        found = mlflow.search_runs(experiment_names=["flow"], filter_string="metrics.rmse > 0")
        say("search", runs=list(found["run_id"]))
        path = mlflow.artifacts.download_artifacts(f"runs:/{sent.name}/models")
        say(
            "artifacts",
            files=sorted(os.listdir(path)),
            listed=[f.path for f in mlflow.MlflowClient().list_artifacts(sent.name)],
        )
        registry = mlflow.MlflowClient()
        with contextlib.suppress(mlflow.MlflowException):  # it is there, where this has run before
            registry.create_registered_model("flow-model")
        version = registry.create_model_version("flow-model", f"{run.info.artifact_uri}/models", run_id=sent.name)
        registry.set_model_version_tag("flow-model", version.version, "data", "abc")
        asset = client.models.get("flow-model", version=str(version.version))
        say(
            "version",
            version=version.version,
            run=version.run_id,
            asset=asset.path,
            latest=client.models.get("flow-model", label="latest").version,
        )

        job.command = "ls train.py"
        again = client.jobs.create_or_update(job)
        follow(client, again.name)
        say("again", status=client.jobs.get(again.name).status, same_code=again.code == sent.code)

        sweeping = command(
            code=str(code),
            command="python report.py rmse -${{search_space.alpha}}; mkdir outputs; cp ${{inputs.data}} outputs/",
            inputs={"data": Input(type="uri_file", path=str(data)), "alpha": Choice([0.1, 0.3])},
            environment="flow-env:1",
            compute="flow-cluster",
        )
        step = sweeping(alpha=Choice([0.1, 0.3]))
        sweep = step.sweep(sampling_algorithm="grid", primary_metric="rmse", goal="Minimize", compute="flow-cluster")
        sweep.set_limits(max_total_trials=4, max_concurrent_trials=2, timeout=3600)
        sweep.experiment_name = "flow"
        sent_sweep = client.jobs.create_or_update(sweep)
        follow(client, sent_sweep.name)
        done = client.jobs.get(sent_sweep.name)
        children = [child.name for child in client.jobs.list(parent_job_name=sent_sweep.name)]
        client.jobs.download(sent_sweep.name, download_path=here / "sweep", all=True)
        say(
            "sweep",
            name=sent_sweep.name,
            status=done.status,
            best=done.properties.get("best_child_run_id"),
            score=done.properties.get("score"),
            children=sorted(children),
            parents=[mlflow.get_run(child).data.tags.get("mlflow.parentRunId") for child in children],
            files=sorted(p.relative_to(here / "sweep").as_posix() for p in (here / "sweep").rglob("*") if p.is_file()),
        )

        failing = command(
            command="echo before; python -c \"raise ValueError('broken')\"",
            environment="flow-env:1",
            compute="flow-cluster",
            experiment_name="flow",
        )
        failed = client.jobs.create_or_update(failing)
        try:
            follow(client, failed.name)
        except JobException as error:
            say(
                "failing",
                status=client.jobs.get(failed.name).status,
                message=str(error),
                run=mlflow.get_run(failed.name).info.status,
            )

        sleeping = command(command="echo sleeping; sleep 300", environment="flow-env:1", compute="flow-cluster")
        sent_sleeping = client.jobs.create_or_update(sleeping)
        try:
            client.jobs.download(sent_sleeping.name, download_path=here / "early")
        except JobException as error:
            say("early download", message=str(error))
        client.jobs.begin_cancel(sent_sleeping.name).result()
        say(
            "cancelled",
            status=client.jobs.get(sent_sleeping.name).status,
            run=mlflow.get_run(sent_sleeping.name).info.status,
        )
        try:
            client.jobs.begin_cancel(sent_sleeping.name).result()
        except HttpResponseError as error:
            say("cancelled twice", status=error.status_code)
        say("jobs", names=[listed and listed.name for listed in client.jobs.list()])


if __name__ == "__main__":
    main()
    if "--assets" in sys.argv:
        # In this process, because importing azure-ai-ml is most of it; and with signatures, not the account's key.
        import assets

        header = {"X-IDENTITY-HEADER": os.environ["IDENTITY_HEADER"]}
        faults = os.environ["IDENTITY_ENDPOINT"].replace("/msi/token", "/standin/faults")
        urllib.request.urlopen(urllib.request.Request(faults, method="DELETE", headers=header)).close()
        assets.main()
