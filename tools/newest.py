"""Train, compare, verify and predict with the newest MLflow that there is, in an environment of its own: `make newest`.

The training environment has the newest MLflow that azureml-mlflow takes; what a later one breaks is seen here first.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of the shipped table, with all defaults
RMSE = "48.0518"
STEPS = (
    ("train.py",),
    ("train.py", "--data", "data/diabetes_350.csv"),
    ("verify.py",),
    ("champion.py",),
    ("predict.py", "--data", "data/diabetes.csv", "--output", "predictions.csv"),
)


def requirements() -> list[str]:
    """Return what the training environment asks for, with any MLflow, and without what holds it back."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    asked = [one for group in ("model", "train") for one in groups[group] if isinstance(one, str)]
    kept = [one for one in asked if not one.startswith("azureml-mlflow")]
    return ["mlflow" if one.startswith("mlflow==") else one for one in kept]


def main() -> int:
    """Run each step, and say with which MLflow; the exit code is 1 where one fails or finds other figures."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(ROOT / "data")
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text("\n".join(requirements()))
        environ = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        apart = ("--isolated", "--no-project", "--python", "3.11", "--with-requirements", str(wanted))
        python = ["uv", "run", *apart, "python"]
        subprocess.run([*python, "-m", "mlflow", "--version"], cwd=folder, check=True)
        for step, *options in STEPS:
            words = [*python, str(ROOT / step), *options]
            done = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, check=False)
            print(f"$ python {' '.join((step, *options))}\n{done.stdout}{done.stderr}", flush=True)
            if done.returncode or (step == "champion.py" and RMSE not in done.stdout):
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
