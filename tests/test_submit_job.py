"""What is sent, before it is sent: parameters, job.yml, the staged folder; and the small parts that need no service."""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from trainer.git import Git

import train
from submit import job, service, workspace
from submit.follow import Log
from submit.screen import Screen, clock, redact, size
from tests.conftest import ROOT
from trainer.errors import UserError

MAIN = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]["main"]
JOB = yaml.safe_load((ROOT / "submit" / "job.yml").read_text())


def order(**changed: str) -> job.Order:
    defaults = {name: str(spec["default"]) for name, spec in MAIN["parameters"].items()}
    data = job.Data({"type": "uri_file", "path": "/somewhere/table.csv"}, "table.csv")
    return job.Order(defaults | changed, data, "azureml:mlflow-trainer:1", None, None)


def test_job_yml_has_the_command_and_the_parameters_of_mlproject() -> None:
    ours = [word.replace("${{inputs.", "{").replace("}}", "}") for word in shlex.split(JOB["command"])]
    assert ours == shlex.split(MAIN["command"])
    assert list(JOB["inputs"]) == list(MAIN["parameters"]) == list(train.PARAMETERS)
    inputs = {name: value for name, value in JOB["inputs"].items() if name != "data"}
    assert inputs == {name: str(MAIN["parameters"][name]["default"]) for name in inputs}
    assert (ROOT / "submit" / JOB["inputs"]["data"]["path"]).resolve() == ROOT / MAIN["parameters"]["data"]["default"]


def test_a_search_is_the_entry_point_sweep_of_mlproject() -> None:
    entry = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]["sweep"]
    parameters = job.read_parameters(["target=it's"], None, entry=job.SWEEP)
    assert parameters.keys() == entry["parameters"].keys()
    searching = replace(order(), parameters=parameters, search=job.find_search(parameters))
    document = job.document(searching, ROOT, "cluster")
    ours = [word.replace("${{inputs.", "{").replace("}}", "}") for word in shlex.split(document["command"])]
    assert ours == shlex.split(entry["command"])
    assert document["inputs"].keys() == entry["parameters"].keys()
    assert document["inputs"]["search"] == {"type": "uri_file", "path": str(ROOT / "submit" / "sweep.yml")}
    assert shlex.split(document["inputs"]["target"]) == ["it's"]
    for quoted in ('--search "${{inputs.search}}"', '--data "${{inputs.data}}"', "--target ${{inputs.target}}"):
        assert quoted in document["command"]


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (["alpha=1"], "MLproject's sweep has no parameter 'alpha'"),
        (["search=away.yml"], "cannot read away.yml: No such file or directory"),
        (["estimator=random_forest"], f"{ROOT / 'submit' / 'sweep.yml'}: the estimator random_forest has no alpha"),
        (["cv=0"], "trials are compared by cross-validation, and cv=0"),
        (["seed=x"], "seed should be a whole number"),
    ],
)
def test_a_search_that_cannot_be_is_told_before_anything_is_sent(
    given: list[str], cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        job.find_search(job.read_parameters(given, None, entry=job.SWEEP))
    assert caught.value.cause.startswith(cause)
    with pytest.raises(UserError, match="a search runs on one node"):
        job.read_parameters([], None, nodes=2, entry=job.SWEEP)


def test_no_parameter_renders_as_nothing_or_as_anything_but_text() -> None:
    document = job.document(order(), ROOT, "cluster")
    for name, value in document["inputs"].items():
        assert name == "data" or (isinstance(value, str) and value), name


def test_a_value_arrives_in_one_piece_whatever_the_shell_would_do_with_it() -> None:
    for value in ("blood pressure", "it's", '"; rm -rf ~; "', "$HOME", "a\\b", "1e-05", "0.20"):
        document = job.document(order(target=value), ROOT, "cluster")
        rendered = document["command"].replace(
            "${{inputs.target}}", yaml.safe_load(job.to_yaml(document))["inputs"]["target"]
        )
        assert shlex.split(rendered)[shlex.split(rendered).index("--target") + 1] == value


def test_the_job_knows_the_state_of_the_code() -> None:
    document = job.document(order(), ROOT, "cluster")
    git = job.read_git()
    assert document["environment_variables"]["GIT_COMMIT"] == git.commit
    assert document["environment_variables"]["GIT_DIRTY"] == git.dirty
    assert document["properties"]["mlflow.source.git.commit"] == git.commit
    assert len(git.commit) == 40


def test_without_a_repository_the_environment_tells_the_state_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "ROOT", tmp_path)
    for name in ("GIT_COMMIT", "GIT_DIRTY"):
        monkeypatch.delenv(name, raising=False)
    assert job.read_git() == Git("unknown", "unknown")
    monkeypatch.setenv("GIT_COMMIT", "told")
    monkeypatch.setenv("GIT_DIRTY", "true")
    assert job.read_git() == Git("told", "true")


def test_only_what_is_on_the_list_is_staged(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "trainer" / "__pycache__").mkdir(parents=True)
    (root / "data").mkdir()
    for name in ("MLproject", "conda.yml", "train.py", "trainer/a.py", ".env", "mlflow.db", "config.json", "data/x.csv",
                 "trainer/notes.txt", "trainer/__pycache__/a.pyc", "id_rsa"):  # fmt: skip
        (root / name).write_text(name)
    os.symlink(root / ".env", root / "trainer" / "link.py")
    staged = job.stage(tmp_path / "staged", root)
    found = sorted(path.relative_to(staged.folder).as_posix() for path in staged.folder.rglob("*") if path.is_file())
    assert found == ["MLproject", "conda.yml", "train.py", "trainer/a.py"]
    assert (staged.files, staged.bytes) == (4, sum(len(name) for name in found))
    with pytest.raises(UserError, match="the code is 38 bytes; at most 10 bytes are sent"):
        job.stage(tmp_path / "again", root, limit=10)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (["alhpa=1"], "MLproject has no parameter 'alhpa'; did you mean 'alpha'?"),
        (["alpha"], "-P 'alpha' is not of the form name=value"),
        (["alpha="], "the value of alpha is empty"),
        (["alpha=1", "alpha=2"], "the parameter alpha is given twice"),
        (["alpha=-1"], "alpha should be a number at least 0, and is '-1'"),
        (["test_fraction=2"], "test_fraction should be a number above 0 and below 1, and is '2'"),
        (["estimator=rigde"], "there is no estimator 'rigde'; did you mean 'ridge'?"),
        (["target=${{inputs.key}}"], "the value of target is '${{inputs.key}}'"),
        (["target=a\nb"], r"the value of target is 'a\nb'"),
    ],
)
def test_a_parameter_that_cannot_be_is_told(given: list[str], cause: str) -> None:
    with pytest.raises(UserError) as caught:
        job.read_parameters(given, None)
    assert caught.value.cause == cause


def test_data_are_given_once() -> None:
    with pytest.raises(UserError, match="the data are given twice"):
        job.read_parameters(["data=a.csv"], "b.csv")
    assert job.read_parameters([], "b.csv")["data"] == "b.csv"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("azureml:sales:3", {"type": "uri_file", "path": "azureml:sales:3"}),
        ("https://example.org/a/b.csv", {"type": "uri_file", "path": "https://example.org/a/b.csv"}),
        ("azureml://datastores/x/paths/parts/", {"type": "uri_folder", "path": "azureml://datastores/x/paths/parts/"}),
        ("parts", {"type": "uri_folder", "path": "HERE/parts"}),
        ("parts/1.parquet", {"type": "uri_file", "path": "HERE/parts/1.parquet"}),
        ("data/diabetes.csv", {"type": "uri_file", "path": str(ROOT / "data" / "diabetes.csv")}),
    ],
)
def test_data_may_be_a_file_a_folder_an_asset_or_an_address(
    given: str, expected: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "1.parquet").write_bytes(b"1234")
    monkeypatch.chdir(tmp_path)
    assert job.find_data(given).input == {k: v.replace("HERE", str(tmp_path)) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ("sale.csv", "there is no file or folder 'sale.csv'; did you mean 'sales.csv'?"),
        ("empty", "the folder 'empty' holds no file"),
        ("azureml:sales", "'azureml:sales' is not the name of a data asset's version"),
        (
            "https://x.blob.core.windows.net/c/a.csv?sv=1&sig=abc",
            "the address of the data holds a signature or a password",
        ),
        ("https://me:secret@example.org/a.csv", "the address of the data holds a signature or a password"),
    ],
)
def test_data_that_cannot_be_are_told(given: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "sales.csv").write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        job.find_data(given)
    assert caught.value.cause.startswith(cause)
    assert "secret" not in str(caught.value)


def test_durations() -> None:
    assert [job.read_seconds("--timeout", text) for text in ("90", "90s", "15m", "2h", "1d")] == [
        90, 90, 900, 7200, 86400,
    ]  # fmt: skip
    for wrong in ("", "0", "soon", "-1", "1.5h"):
        with pytest.raises(UserError, match="is not a duration"):
            job.read_seconds("--timeout", wrong)


def test_the_version_of_the_environment_is_that_of_its_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "submit").mkdir()
    conda, environment = tmp_path / "conda.yml", tmp_path / "submit" / "environment.yml"
    conda.write_text((ROOT / "conda.yml").read_text())
    environment.write_text((ROOT / "submit" / "environment.yml").read_text())
    versions = [workspace.read_environment().version]
    monkeypatch.setattr(workspace, "HERE", environment.parent)
    monkeypatch.setattr(workspace, "ENVIRONMENT_YML", environment)
    conda.write_text("# another comment\n" + conda.read_text())
    versions.append(workspace.read_environment().version)
    conda.write_text(conda.read_text().replace("mlflow==3.15.0", "mlflow==3.15.1"))
    versions.append(workspace.read_environment().version)
    environment.write_text(environment.read_text().replace("20260901", "20261001"))
    versions.append(workspace.read_environment().version)
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


def test_the_workspace_is_that_of_the_variables_or_of_the_nearest_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in workspace.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    with pytest.raises(UserError, match=r"no workspace is named: .* have no config\.json"):
        workspace.find_address(below)
    keys = {"subscription_id": "s", "resource_group": "g", "workspace_name": "w"}
    (tmp_path / ".azureml").mkdir()
    (tmp_path / ".azureml" / "config.json").write_text(json.dumps(keys))
    assert workspace.find_address(below).source == str(tmp_path / ".azureml" / "config.json")
    (tmp_path / "a" / "config.json").write_text(json.dumps(keys | {"workspace_name": "nearer"}))
    assert workspace.find_address(below).workspace_name == "nearer"
    (below / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is not the configuration of a workspace: KeyError 'subscription_id'"):
        workspace.find_address(below)
    monkeypatch.setenv(workspace.VARIABLES[0], "s")
    with pytest.raises(UserError, match="is not the configuration"):
        workspace.find_address(below)
    (below / "config.json").unlink()
    for name, value in zip(workspace.VARIABLES, "sgw", strict=True):
        monkeypatch.setenv(name, value)
    assert workspace.find_address(below) == workspace.Address("s", "g", "w", "the environment variables")


def test_a_log_is_cut_into_lines_wherever_it_was_cut() -> None:
    text = "eins\nzwei äöü\r\n10%\r50%\r100%\nno end".encode()
    for step in (1, 2, 3, 7, 100):
        log = Log()
        lines: list[str] = []
        for start in range(0, len(text), step):
            lines += log.take(text[start : start + step])
        lines += log.take(b"", last=True)
        assert lines == ["eins", "zwei äöü", "100%", "no end"]
        assert log.offset == len(text)
    assert log.tail == lines


def test_what_opens_a_door_is_left_out() -> None:
    assert redact("https://x/y?sv=1&sig=ab%2Fc%3D&se=2") == "https://x/y?sv=1&sig=***&se=2"
    assert redact("Account" + "Key=abc==;Name=x") == "Account" + "Key=***;Name=x"
    assert redact("Authorization: Bearer abc.def") == "Authorization: Bearer ***"
    assert redact("token eyJhbGciOi.eyJzdWIiOi.c2ln") == "token ***"
    assert redact("exit code=3, signature of the model") == "exit code=3, signature of the model"


def test_numbers_for_people() -> None:
    assert [clock(seconds) for seconds in (0, 7.9, 754, 3723)] == ["0:00", "0:07", "12:34", "1:02:03"]
    assert [size(count) for count in (0, 999, 95_100, 5_000_000, 3 * 10**15)] == [
        "0 bytes", "999 bytes", "95.1 kB", "5.0 MB", "3000.0 TB",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # the SDK's import of marshmallow
def test_a_call_is_tried_again_where_that_helps_and_explained_where_not() -> None:
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError, ServiceRequestError

    screen = Screen(terminal=False)
    passing = iter([ServiceRequestError("no route to host"), HttpResponseError("x"), None])

    def once_more() -> str:
        error = next(passing)
        if isinstance(error, HttpResponseError):
            error.status_code = 503
        if error:
            raise error
        return "done"

    assert service.call("try", once_more, screen, patience=10) == "done"

    def away() -> None:
        raise ServiceRequestError("https://x/y?sig=secret does not answer")

    with pytest.raises(service.UnreachableError, match=r"could not try: no answer from the service for 1 s") as lost:
        service.call("try", away, screen, patience=1)
    assert "secret" not in str(lost.value)

    def refused() -> None:
        error = HttpResponseError("(UserError) The name is taken\nand more")
        error.status_code = 400
        raise error

    with pytest.raises(UserError, match="could not try: The name is taken") as told:
        service.call("try", refused, screen)
    assert told.value.exit_code == 2

    def missing() -> None:
        raise ResourceNotFoundError("nothing here")

    with pytest.raises(ResourceNotFoundError):
        service.call("try", missing, screen)

    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        service.call("try", bug, screen)


def test_several_nodes_are_one_distributed_job() -> None:
    plain = job.document(order(), ROOT, "cluster")
    assert "distribution" not in plain
    assert "resources" not in plain
    together = job.document(replace(order(estimator="xgboost", cv="0"), nodes=3), ROOT, "cluster")
    assert together["distribution"] == {"type": "pytorch", "process_count_per_instance": 1}
    assert together["resources"] == {"instance_count": 3}


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ([], "2 processes cannot train together with estimator=ridge"),
        (["estimator=xgboost", "split=random"], "2 processes cannot train together with split=random"),
        (["estimator=xgboost", "cv=5"], "2 processes cannot train together with cv=5"),
    ],
)
def test_what_several_nodes_cannot_do_is_told_before_anything_is_sent(given: list[str], cause: str) -> None:
    with pytest.raises(UserError) as caught:
        job.read_parameters(given, None, nodes=2)
    assert caught.value.cause == cause
    assert job.read_parameters(given, None, nodes=1)


def test_more_nodes_than_the_cluster_has() -> None:
    cluster = workspace.Cluster(SimpleNamespace(name="small"), True, 2, "", ())
    workspace.check_nodes(cluster, 2)
    with pytest.raises(UserError, match="asks for 3 nodes, and the cluster small has at most 2"):
        workspace.check_nodes(cluster, 3)
