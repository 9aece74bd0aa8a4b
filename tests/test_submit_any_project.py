"""Any MLflow project as a job: its parameters, command, environment and files, and what cannot be sent."""

import ast
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from submit import job, own, staging
from submit.compute import Asked
from submit.errors import UserError
from submit.project import Project, opened
from tests.conftest import ROOT, link

SHARED = {"errors", "git", "secrets", "signals"}
MLPROJECT = """
name: wine & more
conda_env: conda.yaml
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      l1-ratio: {type: float, default: 0.1}
      table: {type: path, default: data/table.csv}
      site: {type: uri, default: "https://example.org/a"}
      note: string
    command: "python train.py --alpha {alpha} --l1 {l1-ratio} --table {table} --site {site} --note {note}"
  broken: {command: "awk '{print $1}' x"}
"""
CONDA = "dependencies: [python=3.11, pip, {pip: [mlflow, numpy]}]\n"


def project(folder: Path, mlproject: str = MLPROJECT, **files: str) -> Path:
    made = {"MLproject": mlproject, "conda.yaml": CONDA, "train.py": "", "data/table.csv": "a\n1\n", **files}
    for name, text in made.items():
        path = folder / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def document(folder: Path, *given: str, entry: str = "main", image: str | None = None) -> dict[str, Any]:
    with opened(str(folder)) as found:
        work = found.read_work(entry, given, None, 1)
        return job.document(found, work, folder, Asked().job_fields(), image=image)


def test_a_job_runs_the_command_as_mlflow_renders_it(tmp_path: Path) -> None:
    made = document(project(tmp_path), "alpha=1", "note=it's a b", "more=x y")
    assert made["inputs"]["table"] == {"type": "uri_file", "path": str(tmp_path / "data" / "table.csv")}
    text = made["command"].replace("${{inputs.table}}", "/mnt/my table.csv")
    for name, value in made["inputs"].items():
        if isinstance(value, str):
            text = text.replace(f"${{{{inputs.{name}}}}}", value)
    words = shlex.split(text)
    assert words == [
        "python", "train.py", "--alpha", "1", "--l1", "0.1", "--table", "/mnt/my table.csv",
        "--site", "https://example.org/a", "--note", "it's a b", "--more", "x y",
    ]  # fmt: skip
    assert (made["experiment_name"], made["tags"]["project"]) == ("wine-more", "wine-more")
    assert made["display_name"] == "main of wine & more"


def test_this_project_is_its_own_job_yml() -> None:
    with opened(None) as found:
        work = found.read_work("main", (), None, 1)
        made = job.document(found, work, ROOT, Asked().job_fields())
    plain = yaml.safe_load((ROOT / "submit" / "job.yml").read_text())
    assert shlex.split(made["command"]) == shlex.split(plain["command"])
    assert {key: one for key, one in made["inputs"].items() if key != "data"} == {
        key: one for key, one in plain["inputs"].items() if key != "data"
    }
    with opened(str(ROOT)) as found:
        assert isinstance(found, own.Trainer)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ((), "main has no value for note"),
        (("note=x", "alpha=half"), "alpha is of type float, and is 'half'"),
        (("note=x", "site=data/table.csv"), "site is of type uri, and 'data/table.csv' is none"),
        (("note=x", "site=file:///a"), "site is 'file:///a', a file of this machine"),
        (("note=x", "table=data/tabel.csv"),
         "table: there is no file or folder 'data/tabel.csv'; did you mean 'table.csv'?"),
        (("note=x", "table=s3://b/a.csv"), "table: a node cannot read s3:// addresses"),
        (("note=x", "site=https://h/a?sig=TOPSECRET"), "the value of site holds a signature"),
        (("note=a\nb",), r"the value of note is 'a\nb'"),
        (("note",), "-P 'note' is not of the form name=value"),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_is_told(given: tuple[str, ...], cause: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        document(project(tmp_path), *given)
    assert caught.value.cause.startswith(cause)
    assert "TOPSECRET" not in str(caught.value)


def test_a_file_of_this_machine_that_is_given_as_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "beside.csv").write_text("a\n1\n")
    folder = project(tmp_path / "p")
    for value, is_told in (("../beside.csv", True), ("data/table.csv", False), ("..", False), ("x" * 400, False)):
        with opened(str(folder)) as found:
            remarks = found.read_work("main", [f"note={value}"], None, 1).remarks
        assert [remark.startswith(f"note is text, and {value} is a file of this machine") for remark in remarks] == (
            [True] if is_told else []
        )


@pytest.mark.parametrize(
    ("entry", "cause"),
    [("mian", "has no entry point 'mian'; did you mean 'main'?"), ("no.py", "has no entry point 'no.py'"),
     ("broken", "the command of broken cannot be filled in")],
)  # fmt: skip
def test_an_entry_point_that_cannot_be_is_told(entry: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=cause.replace("?", r"\?")):
        document(project(tmp_path), entry=entry)
    assert document(tmp_path, entry="train.py")["command"] == "python train.py"


@pytest.mark.parametrize(
    ("mlproject", "cause"),
    [
        ("entry_points: [", "is not YAML in line 1"),
        ("entry_points: 3", "is not as MLflow has it"),
        ("just text", "is not as MLflow has it"),
        ("conda_env: nothing.yaml", "MLflow refuses the MLproject .* no such file was found"),
        ("conda_env: conda.yaml\npython_env: x", "multiple environment fields"),
    ],
)
def test_an_mlproject_that_cannot_be_is_told(mlproject: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=cause), opened(str(project(tmp_path, mlproject))):
        pass


def test_a_project_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    for address, version, cause in (
        (str(tmp_path), None, "has no MLproject"),
        (f"{tmp_path}#part", None, "there is no folder 'part'"),
        (str(tmp_path), "v1", "is no Git repository, and version v1 is asked for"),
        (str(tmp_path / "nothing"), None, "cannot fetch the project"),
        ("https://me:TOPSECRET@127.0.0.1:9/x.git", None, "cannot fetch the project"),
    ):
        with pytest.raises(UserError, match=cause) as caught, opened(address, version):
            pass
        assert "TOPSECRET" not in str(caught.value)


def test_a_version_of_a_repository_is_cloned_and_the_folder_left_alone(tmp_path: Path) -> None:
    folder = project(tmp_path / "repository" / "part").parent

    def git(*words: str) -> str:
        line = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "trunk")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    (folder / "part" / "train.py").write_text("second")
    git("commit", "-qam", "two")
    with opened(f"{folder}#part", "v1") as found:
        assert isinstance(found, Project)
        fetched = found.root
        assert (fetched / "train.py").read_text() == ""
        assert found.git().commit == git("rev-parse", "v1")
    assert not fetched.exists()
    assert git("rev-parse", "--abbrev-ref", "HEAD") == "trunk"
    with pytest.raises(UserError, match=r"cannot fetch the project .* at v2"), opened(f"{folder}#part", "v2"):
        pass


# ---- the environment


def environment(folder: Path, image: str | None = None) -> Any:
    with opened(str(folder)) as found:
        return found.environment(image)


def pins(found: Any) -> list[str]:
    return list(next(one["pip"] for one in found.conda["dependencies"] if isinstance(one, dict)))


def test_what_a_job_logs_with_is_added_and_told(tmp_path: Path) -> None:
    found = environment(project(tmp_path))
    assert pins(found)[:2] == ["mlflow<3", "numpy"]
    assert [one.partition("<=")[0] for one in pins(found)[2:]] == ["azureml-mlflow"]
    assert found.source == (
        "conda.yaml; added: azureml-mlflow, with which the job speaks to the workspace; "
        "mlflow<3, for log_model of mlflow 3 fails in a workspace"
    )
    (tmp_path / "conda.yaml").write_text("dependencies: [python=3.11, numpy]\n")
    found = environment(tmp_path)
    assert found.conda["dependencies"][:3] == ["python=3.11", "numpy", "pip"]
    assert "mlflow-skinny<3" in pins(found)
    assert "added: mlflow-skinny and azureml-mlflow" in found.source
    (tmp_path / "conda.yaml").write_text("dependencies: [python=3.11, pip, {pip: [mlflow, azureml-mlflow]}]\n")
    assert pins(environment(tmp_path)) == ["mlflow<3", "azureml-mlflow"]
    other = environment(tmp_path, "mine:1")
    assert (other.image, other.version == environment(tmp_path).version) == ("mine:1", False)


def test_a_python_env_becomes_a_conda_file_with_its_requirements(tmp_path: Path) -> None:
    text = 'python: "3.10"\nbuild_dependencies: [pip==24.0, setuptools]\ndependencies: ["-r more.txt", pandas]\n'
    files = {"python_env__yaml": text, "more__txt": "mlflow  # tracking\n\n-r last.txt\n", "last__txt": "scipy>=1\n"}
    found = environment(project(tmp_path, "python_env: python_env.yaml", **files))
    assert found.conda["dependencies"][:3] == ["python=3.10", "pip==24.0", "setuptools"]
    assert pins(found)[:3] == ["mlflow<3", "scipy>=1", "pandas"]
    os.remove(tmp_path / "conda.yaml")
    os.remove(tmp_path / "python_env.yaml")
    none = environment(project(tmp_path / "none", "name: x", conda__yml=""), None)
    assert none.conda


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ("mlflow>=1.0", "mlflow>=1.0,<3"),
        ("mlflow[extras]>=2 ; python_version > '3'", 'mlflow[extras]<3,>=2; python_version > "3"'),
        ("mlflow<=3.1", "mlflow<=3.1,<3"),
        ("mlflow~=2.9", None),
        ("mlflow==2.22.0", None),
        ("mlflow==3.1", None),
        ("mlflow !", None),
    ],
)
def test_mlflow_3_is_held_off_where_the_project_leaves_it_open(wanted: str, sent: str | None, tmp_path: Path) -> None:
    folder = project(tmp_path, conda__yaml=f'dependencies: [pip, {{pip: ["{wanted}"]}}]\n')
    found = environment(folder)
    assert pins(found)[0] == (sent or wanted)
    assert ("fails" in found.source) == (sent is not None or wanted == "mlflow==3.1")
    (folder / "conda.yaml").write_text("dependencies: [conda-forge::mlflow >=1, pip]\n")
    assert environment(folder).conda["dependencies"][0] == "conda-forge::mlflow >=1,<3"


@pytest.mark.parametrize(
    ("dependencies", "cause"),
    [
        ("[-e .]", "installs '-e .' of this machine"),
        ("[./wheels/a.whl]", "installs './wheels/a.whl' of this machine"),
        ("[-r nothing.txt]", "names nothing.txt, and there is no such file"),
        ("[-c constraints.txt]", "takes constraints from constraints.txt"),
        ("[mlflow==99.0]", "asks for mlflow==99.0, and azureml-mlflow, through which a job logs, takes mlflow up to"),
    ],
)
def test_an_environment_that_cannot_be_made_there_is_told(dependencies: str, cause: str, tmp_path: Path) -> None:
    folder = project(tmp_path, "python_env: e.yaml", e__yaml=f"dependencies: {dependencies}\n")
    with pytest.raises(UserError, match=cause):
        environment(folder)


def test_an_image_is_taken_as_it_is_unless_only_this_machine_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = "docker_env: {image: IMAGE, environment: [[A, b], FROM_HERE]}\nentry_points: {main: {command: python x}}"
    folder = project(tmp_path, docker.replace("IMAGE", "registry.example.org/a:1"))
    with pytest.raises(UserError, match="takes FROM_HERE from the environment, and it is not set"):
        environment(folder)
    monkeypatch.setenv("FROM_HERE", "c")
    made = document(folder)
    assert made["command"].startswith("{ python -c 'import azureml.mlflow'")
    assert made["command"].endswith("} && python x")
    assert {"A": "b", "FROM_HERE": "c"}.items() <= made["environment_variables"].items()
    project(folder, docker.replace("IMAGE", "local-one"), Dockerfile="FROM python")
    with pytest.raises(UserError, match="made from the Dockerfile beside MLproject"):
        environment(folder)
    assert environment(folder, "registry.example.org/local-one").image == "registry.example.org/local-one"
    project(folder, docker.replace("FROM_HERE", "[API_TOKEN, TOPSECRET]").replace("IMAGE", "a/b"))
    with pytest.raises(UserError, match="looks like a secret") as caught:
        environment(folder)
    assert "TOPSECRET" not in str(caught.value)
    project(folder, "docker_env: {image: a/b, volumes: ['/a:/b']}")
    with pytest.raises(UserError, match="docker_env mounts /a:/b of this machine"):
        environment(folder)


# ---- the files


def test_a_folder_is_sent_without_stores_secrets_and_what_its_ignore_file_names(tmp_path: Path) -> None:
    names = ("pkg/a.py", "pkg/big.bin", ".env", "mlruns/0/meta.yaml", "mlflow.db", ".git/config", "v/pyvenv.cfg",
             "v/lib/x.py", "pkg/__pycache__/a.pyc", ".gitignore")  # fmt: skip
    root = project(tmp_path / "root", **dict.fromkeys(names, "x"))
    (root / ".gitignore").write_text("*.bin\n")
    (tmp_path / "outside").write_text("x")
    link(root / "away", tmp_path / "outside")
    link(root / "inside.py", root / "train.py")
    count, total = staging.copy(root, tmp_path / "staged")
    sent = {path.relative_to(tmp_path / "staged").as_posix() for path in (tmp_path / "staged").rglob("*.*")}
    assert sent == {"conda.yaml", "train.py", "data/table.csv", "pkg/a.py", "inside.py"}
    assert count == len(sent) + 1
    assert total == sum(path.stat().st_size for path in (tmp_path / "staged").rglob("*") if path.is_file())
    with pytest.raises(UserError, match=r"MLproject is \d+ bytes"):
        staging.copy(root, tmp_path / "again", max_bytes=total - 1)


# ---- what is installed


def test_the_installed_package_imports_nothing_beside_itself() -> None:
    """Its modules name each other relatively, and the trainer only where this project's own results are looked at."""
    trainers = {"own", "outputs", "registered", "submission", "deploy", "answers", *SHARED}
    for path in (ROOT / "submit").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                top = str(node.module).partition(".")[0]
                assert top != "submit", (path.name, node.lineno)
                assert top != "trainer" or path.stem in trainers, (path.name, node.lineno)
        for node in tree.body if path.stem not in SHARED else ():
            assert not (isinstance(node, ast.ImportFrom) and str(node.module).startswith("trainer")), path.name
    for name in SHARED:
        tree = ast.parse((ROOT / "trainer" / f"{name}.py").read_text(encoding="utf-8"))
        absolute = {str(one.module) for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) and one.level == 0}
        assert not any(module.startswith("trainer") for module in absolute), name
