"""In this folder, the package `mlflow_aml` is submit/ itself; what `pip install` brings has its modules inside."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parent.parent / "submit")]
