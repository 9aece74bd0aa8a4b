"""The notebooks: without outputs in git, and the short one does what it says."""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import mlflow
import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def sources(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


def test_the_two_notebooks_are_there() -> None:
    assert [path.name for path in NOTEBOOKS] == ["challenge.ipynb", "quickstart.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_no_output_is_kept_in_git(path: Path) -> None:
    notebook = read(path)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), cell["source"]
            assert cell["metadata"] == {}
            compile("".join(cell["source"]), path.name, "exec")
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


def test_the_lesson_has_each_step_and_criterion() -> None:
    text = "\n".join(sources(ROOT / "notebooks" / "challenge.ipynb", "markdown"))
    for step in range(1, 9):
        assert f"## Step {step}. " in text
    for criterion in range(1, 5):
        assert f"**成功基準 {criterion}: " in text


def test_the_quickstart_runs(store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    try:
        for source in sources(ROOT / "notebooks" / "quickstart.ipynb", "code"):
            exec(compile(source, "quickstart.ipynb", "exec"), namespace)
    finally:
        plt.close("all")
    assert "rmse        48.0518 " in capsys.readouterr().out
    assert int(store.get_model_version_by_alias("quickstart", "champion").version) == 1
    assert len(namespace["predictions"]) == 92
