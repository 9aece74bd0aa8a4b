"""What runs without anybody at a terminal: the workflow of GitHub Actions, the pipeline, the schedule."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

import verify
from tests.conftest import ROOT, SECRET, Submitted, Trainer, run_id, script
from tests.standin import StandIn
from tests.submitting import without_azure
from tools import job_summary

WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "train.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in WORKFLOW["jobs"]["train"]["steps"] if "run" in step}
PIPELINE = yaml.safe_load((ROOT / "submit" / "pipeline.yml").read_text(encoding="utf-8"))
LOAD = """
import json
from azure.ai.ml import load_job
from azure.ai.ml.entities._load_functions import load_schedule
pipeline = load_job("submit/pipeline.yml")
assert pipeline._validate().passed, pipeline._validate().error_messages
nightly = load_schedule("submit/schedule.yml")
print(json.dumps([list(pipeline.jobs), nightly.trigger.expression, list(nightly.create_job.jobs)]))
"""


def programs(folder: Path) -> Path:
    """Make `uv run`, which takes this environment, and `gh`, which notes what it is called with."""
    folder.mkdir()
    (folder / "uv").write_text(f'#!/bin/sh\nshift\n[ "$1" = python ] && shift\nexec {sys.executable} "$@"\n')
    (folder / "gh").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {shlex.quote(str(folder))}/said\n')
    for program in folder.iterdir():
        program.chmod(0o755)
    return folder


def outputs(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_workflow_trains_and_comments(standin: StandIn, submitted: Submitted, tmp_path: Path) -> None:
    environ = standin.process_environ() | {
        "PATH": f"{programs(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "PROMOTE": "never",
        "NUMBER": "7",
    }
    for name in ("Train", "Say how good it is", "Comment"):
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", STEPS[name]["run"]],
            cwd=ROOT, env=environ, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, name + done.stdout + done.stderr
        assert not SECRET.search(done.stdout + done.stderr)
    said = (tmp_path / "comment.md").read_text(encoding="utf-8")
    assert "| rmse | 48.0518 (95 % 42.17 to 53.67); mean predictor 75.8778 |" in said
    assert (tmp_path / "summary").read_text(encoding="utf-8") == said
    found = outputs((tmp_path / "output").read_text())
    assert found["promoted"] == "false"
    assert re.fullmatch(r"models:/diabetes-progression/\d+", found["model"])
    words = (tmp_path / "bin" / "said").read_text().splitlines()
    assert words[:3] == ["pr", "comment", "7"]
    assert words[-1] == str(tmp_path / "comment.md")


def test_what_a_comment_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metric = {
        "run_id": "job", "RMSE": 48.05176, "R2": 0.57956, "RMSE_low": None, "RMSE_high": None, "baseline_RMSE": 75.9,
        "cv_RMSE_mean": None, "cv_RMSE_std": None, "rows_train": 350, "rows_test": 92, "data_name": "a|b.csv",
        "model_name": None, "version": None, "champion_verdict": None, "promoted": False, "remarks": ["leak"],
    }  # fmt: skip
    (tmp_path / "metric.json").write_text(json.dumps(metric))
    assert job_summary.main([str(tmp_path / "metric.json"), "--comment", str(tmp_path / "comment.md")]) == 0
    assert outputs(capsys.readouterr().out) == {"promoted": "false", "model": ""}
    said = (tmp_path / "comment.md").read_text()
    for line in ("| rmse | 48.0518; mean", "| model | not registered |", "a\\|b.csv", "| champion | not compared |"):
        assert line in said
    assert said.endswith("\n\n- ! leak\n")


def test_the_workflow_keeps_no_secret_and_deploys_what_was_promoted() -> None:
    text = (ROOT / ".github" / "workflows" / "train.yml").read_text(encoding="utf-8")
    assert "secrets." not in text
    assert WORKFLOW["permissions"]["id-token"] == "write"
    # what others write (titles, branches) never becomes a part of a shell line
    assert not [step["run"] for step in STEPS.values() if "${{" in step["run"]]
    assert "promoted == 'true'" in STEPS["Deploy"]["if"]
    assert "github.event_name == 'push'" in STEPS["Deploy"]["if"]


def test_the_pipeline_and_the_schedule_are_what_the_service_takes() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD], cwd=ROOT, env=without_azure(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    steps, expression, at_night = json.loads(done.stdout.splitlines()[-1])
    assert steps == at_night == ["train", "gate", "register"]
    assert len(expression.split()) == 5


def filled(step: str, **values: str) -> list[list[str]]:
    """Return the words of a step's commands, with its inputs and outputs in place."""
    text = re.sub(
        r"\$\{\{(?:inputs|outputs)\.(\w+)\}\}", lambda found: values[found[1]], PIPELINE["jobs"][step]["command"]
    )
    return [shlex.split(command) for command in text.split(" && ")]


def test_the_steps_of_the_pipeline_do_what_they_say(
    store: mlflow.MlflowClient, trains: Trainer, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    inputs: dict[str, Any] = PIPELINE["inputs"] | {"data": "data/diabetes.csv"}

    def train(must: str) -> Any:
        words = filled("train", **inputs | {"must": must}, run=str(tmp_path))[0][2:]
        return trains(
            **{flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}
        )

    refused = train("rmse<40")
    assert refused.code == 1
    assert "must        rmse is 48.0518, and must be below 40" in refused.out
    done = train(inputs["must"])
    assert done.code == 0
    assert store.search_registered_models() == []
    downloads = filled("train", **inputs, run=str(tmp_path))[1]
    assert downloads[:4] == ["mlflow", "artifacts", "download", "--run-id"]
    folder = mlflow.artifacts.download_artifacts(run_id=run_id(done), dst_path=str(tmp_path / "run"))
    gate = filled("gate", run=folder.rstrip("/"))[0]
    verified = script(verify.main, capsys)(model=gate[gate.index("--model") + 1])
    assert (verified.code, "the same predictions for 92 recorded rows" in verified.out) == (0, True)
    words = filled("register", run=folder, model_name="piped")[0]
    assert words[:2] == ["python", "-c"]
    monkeypatch.setattr(sys, "argv", ["-c", *words[3:]])
    exec(words[2], {})
    [version] = store.search_model_versions("name = 'piped'")
    assert version.run_id == run_id(done)
