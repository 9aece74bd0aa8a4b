"""Write serving.yml from uv.lock: what a prediction passes through, pinned.

The group ``serve`` of pyproject.toml is resolved together with Azure Machine Learning's inference server. A model that
names its packages has to name that server and the monitoring that the service's script imports, says the documentation
(concept: guidelines for deploying MLflow models, 2026); without them the container does not start. So they are
pinned here, and what only they and MLflow need is left to them. Run it as ``make lock``; a test holds it fresh.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MLFLOW = "mlflow-skinny"
SERVER = ("azureml-inference-server-http", "azureml-ai-monitoring", MLFLOW)
XGBOOST = ("xgboost", "xgboost-cpu")
DATES = ("skrub",)

TEMPLATE = """\
# Written from uv.lock by `make lock`; do not edit: change the group `serve` of pyproject.toml, and run it again.
# What a prediction passes through, and Azure Machine Learning's server: each model carries `always` and `server`, and
# the other parts that it needs.
python: "{python}"
"""


def serving_yml() -> str:
    """Render serving.yml for the lock file as it is, without the network.

    Raises
    ------
    subprocess.CalledProcessError
        uv cannot read the lock file.
    """
    always = _exported(SERVER, XGBOOST, DATES)
    parts = {
        "always": sorted([*always, *(one for one in _exported() if one.startswith(f"{MLFLOW}=="))]),
        "server": [one for one in _exported() if one.startswith(tuple(f"{name}==" for name in SERVER[:2]))],
        "xgboost": _without(_exported(SERVER, DATES), always),
        "dates": _without(_exported(SERVER, XGBOOST), always),
    }
    text = TEMPLATE.format(python=(ROOT / ".python-version").read_text().strip())
    for name, pins in parts.items():
        text += f"{name}:\n" + "".join(f"  - {pin}\n" for pin in pins)
    return text


def _exported(*left_out: tuple[str, ...]) -> list[str]:
    """List the pins of the group, without some packages and what only they need."""
    command = [
        "uv",
        "export",
        "--frozen",
        "--only-group",
        "serve",
        "--no-hashes",
        "--no-annotate",
        "--no-header",
        "--quiet",
    ]
    for package in (one for group in left_out for one in group):
        command += ["--prune", package]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def _without(pins: list[str], others: list[str]) -> list[str]:
    return [pin for pin in pins if pin not in others]


if __name__ == "__main__":
    (ROOT / "serving.yml").write_text(serving_yml())
