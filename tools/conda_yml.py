"""Write conda.yml from uv.lock: the training environment, every package of it pinned.

Run it as ``make lock``; a test holds it fresh.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TEMPLATE = """\
# Written from uv.lock by `make lock`; do not edit: change pyproject.toml, and run it again.
# The one environment: of `mlflow run`, of the Azure Machine Learning job, and of the logged model.
name: mlflow-trainer
channels:
  - conda-forge
dependencies:
  - python={python}
  - pip
  - pip:
{requirements}
"""


def conda_yml() -> str:
    """Render conda.yml for the lock file as it is, without the network.

    Raises
    ------
    subprocess.CalledProcessError
        uv cannot read the lock file.
    """
    export = ["uv", "export", "--frozen", "--only-group", "train", "--no-emit-project"]
    plain = ["--no-hashes", "--no-annotate", "--no-header", "--quiet"]
    listed = subprocess.run([*export, *plain], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return TEMPLATE.format(
        python=(ROOT / ".python-version").read_text().strip(),
        requirements="\n".join(f"      - {line}" for line in listed.splitlines()),
    )


if __name__ == "__main__":
    (ROOT / "conda.yml").write_text(conda_yml())
