"""The names of the stand-in: its workspace, its hosts, its storage account.

Every stand-in has the same names. Which one a client reaches is decided by the proxy that it is told to use.
"""

from __future__ import annotations

SUBSCRIPTION = "00000000-0000-4000-8000-0000005ca1ab"
RESOURCE_GROUP = "standin-group"
WORKSPACE = "standin-workspace"
WORKSPACE_ID = "11111111-0000-4000-8000-0000005ca1ab"
TENANT = "22222222-0000-4000-8000-0000005ca1ab"
LOCATION = "westeurope"
CLOUD = "AzureLocal"

MANAGEMENT = "management.azureml.test"
API = f"{LOCATION}.api.azureml.test"
LOGIN = "login.azureml.test"
# The client cuts the first two parts off the portal's name; what is left ends `https://ml.azure.{rest}`.
PORTAL = "portal.azureml.test"
AML_RESOURCE = "https://ml.azure.test"
STUDIO = "https://ml.azureml.test"
STORAGE_SUFFIX = "core.azureml.test"
ACCOUNT = "teststorage"
BLOB = f"{ACCOUNT}.blob.{STORAGE_SUFFIX}"
# An endpoint's address begins with its name.
INFERENCE = f"{LOCATION}.inference.azureml.test"
HOSTS = (MANAGEMENT, API, LOGIN, BLOB)

BLOBSTORE = "workspaceblobstore"
ARTIFACTSTORE = "workspaceartifactstore"
CONTAINERS = {BLOBSTORE: f"azureml-blobstore-{WORKSPACE_ID}", ARTIFACTSTORE: "azureml"}

PROVIDER = "Microsoft.MachineLearningServices"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}"
SCOPE = f"{GROUP}/providers/{PROVIDER}/workspaces/{WORKSPACE}"
TRACKING_URI = f"azureml://{API}/mlflow/v2.0{SCOPE}"


def artifact_prefix(run: str) -> str:
    """Return the folder of a run's artifacts and logs in the container of `workspaceartifactstore`."""
    return f"ExperimentRun/dcid.{run}"


def studio_url(run: str) -> str:
    """Return the address at which the studio would show a run; the client adds the tenant."""
    return f"{STUDIO}/runs/{run}?wsid={SCOPE}"
