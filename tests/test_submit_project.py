"""What is sent, before it is sent: parameters, job.yml filled in, the staged folders, the environment, the names."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from submit import data, job, own, rules
from submit.compute import Asked
from submit.data import JobInput
from submit.own import COMPARE, MAIN, SWEEP, Trainer
from tests.conftest import ROOT, link
from tests.submitting import Answers, SimpleNamespace, fake_workspace, refusal
from trainer.errors import UserError
from trainer.git import Git

OURS = Trainer()
ENTRY = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
TABLE = JobInput("uri_file", "/somewhere/table.csv", "table.csv")


def document(
    entry: str = MAIN, search: JobInput | None = None, table: JobInput = TABLE, **changed: str
) -> dict[str, Any]:
    files = {"data": table} | ({"search": search} if search else {})
    work = OURS.work(entry, OURS.defaults(entry) | changed, files)
    return job.document(OURS, work, ROOT, Asked().job_fields())


@pytest.mark.parametrize("entry", [MAIN, SWEEP, COMPARE])
def test_a_job_runs_the_command_of_mlproject_with_its_parameters(entry: str) -> None:
    search = own.find_search(OURS, OURS.defaults(SWEEP)) if entry == SWEEP else None
    made = document(entry, search)
    ours = [word.replace("${{inputs.", "{").replace("}}", "}") for word in shlex.split(made["command"])]
    assert ours == shlex.split(ENTRY[entry]["command"])
    assert made["inputs"].keys() == ENTRY[entry]["parameters"].keys()
    assert made["inputs"]["data"] == {"type": "uri_file", "path": "/somewhere/table.csv"}
    files = ("data", "search") if search else ("data",)
    for name, value in made["inputs"].items():
        quoted = f'"${{{{inputs.{name}}}}}"'
        assert (quoted in made["command"]) == (name in files)
        assert name in files or value == shlex.quote(str(ENTRY[entry]["parameters"][name]["default"])) != ""
    if search:
        assert made["inputs"]["search"] == {"type": "uri_file", "path": str(ROOT / "submit" / "sweep.yml")}


def test_a_value_arrives_in_one_piece_whatever_the_shell_would_do_with_it() -> None:
    for value in ("blood pressure", "it's", '"; rm -rf ~; "', "$HOME", "a\\b", "1e-05", "0.20", "prix m²", "進行度"):
        made = document(target=value)
        read = yaml.safe_load(job.to_yaml(made))["inputs"]["target"]
        words = shlex.split(made["command"].replace("${{inputs.target}}", read))
        assert words[words.index("--target") + 1] == value


def test_the_job_knows_the_state_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, git = document(), OURS.git()
    assert {name: made["environment_variables"][name] for name in ("GIT_COMMIT", "GIT_DIRTY")} == {
        "GIT_COMMIT": git.commit, "GIT_DIRTY": git.dirty,
    }  # fmt: skip
    assert made["properties"]["mlflow.source.git.commit"] == git.commit
    assert len(git.commit) == 40
    elsewhere = Trainer(tmp_path)
    for name in ("GIT_COMMIT", "GIT_DIRTY"):
        monkeypatch.delenv(name, raising=False)
    assert elsewhere.git() == Git("unknown", "unknown")
    monkeypatch.setenv("GIT_COMMIT", "told")
    monkeypatch.setenv("GIT_DIRTY", "true")
    assert elsewhere.git() == Git("told", "true")


def test_what_is_given_is_filled_in() -> None:
    made = job.document(
        OURS, OURS.work(MAIN, OURS.defaults(MAIN), {"data": TABLE}), ROOT, Asked(cluster="mine", nodes=2).job_fields(),
        name="n", tags={"a": "b"}, experiment="e", timeout=5, image="other",
    )  # fmt: skip
    assert (made["name"], made["experiment_name"], made["compute"]) == ("n", "e", "azureml:mine")
    assert (made["limits"], made["tags"]) == ({"timeout": 5}, {"project": "mlflow-trainer", "a": "b"})
    assert made["distribution"] == {"type": "pytorch", "process_count_per_instance": 1}
    assert made["resources"] == {"instance_count": 2}
    assert "name" not in document()
    assert job.time_limit(OURS) == document()["limits"]["timeout"] == 7200
    assert made["environment"] == OURS.environment("other").reference != document()["environment"]


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (["alhpa=1"], "MLproject has no parameter 'alhpa'; did you mean 'alpha'?"),
        (["alpha"], "-P 'alpha' is not of the form name=value"),
        (["alpha="], "the value of alpha is empty"),
        (["alpha=1", "alpha=2"], "the parameter alpha is given twice"),
        (["alpha=-1"], "alpha should be a number at least 0, and is '-1'"),
        (["estimator=rigde"], "there is no estimator 'rigde'; did you mean 'ridge'?"),
        (["target=${{inputs.key}}"], "the value of target is '${{inputs.key}}'"),
        (["target=a\nb"], r"the value of target is 'a\nb'"),
        (["data=a.csv"], "the data are given twice, as --data and as -P data="),
        ([f"columns={'x,' * 300}y"], "the value of columns has 601 characters, and a workspace keeps at most 500"),
    ],
)
def test_a_parameter_that_cannot_be_is_told(given: list[str], cause: str) -> None:
    with pytest.raises(UserError) as caught:
        own.read_parameters(OURS, MAIN, given, "b.csv")
    assert caught.value.cause == cause


def test_what_several_nodes_cannot_do_is_told() -> None:
    with pytest.raises(UserError, match="3 processes cannot train together with estimator=ridge"):
        own.read_parameters(OURS, MAIN, [], nodes=3)
    with pytest.raises(UserError, match="a search runs on one node"):
        own.read_parameters(OURS, SWEEP, [], nodes=2)
    with pytest.raises(UserError, match="a comparison runs on one node"):
        own.read_parameters(OURS, COMPARE, [], nodes=2)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (["alpha=1"], "MLproject's compare has no parameter 'alpha'"),
        (["estimators=rigde"], "estimators names 'rigde', which is no estimator; did you mean 'ridge'?"),
        (["cv=0"], "models are compared by cross-validation, and cv=0"),
    ],
)
def test_a_comparison_that_cannot_be_is_told_before_anything_is_sent(given: list[str], cause: str) -> None:
    with pytest.raises(UserError) as caught:
        own.read_parameters(OURS, COMPARE, given)
    assert caught.value.cause == cause


def test_what_a_job_is_called() -> None:
    def title(entry: str) -> str:
        return OURS.title(OURS.work(entry, OURS.defaults(entry), {"data": TABLE}))

    assert title(MAIN) == "ridge on table.csv"
    assert title(COMPARE) == "comparison of all on table.csv"
    long = document(table=JobInput("uri_file", f"https://h/{'売' * 300}.csv", "t"))["display_name"]
    assert (len(long), long[:13], long[-3:]) == (rules.MAX_TITLE, "ridge on 売売売売", "...")


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (["alpha=1"], "MLproject's sweep has no parameter 'alpha'"),
        (["search=away.yml"], "cannot read away.yml: No such file or directory"),
        (["estimator=random_forest"], f"{ROOT / 'submit' / 'sweep.yml'}: the estimator random_forest has no alpha"),
        (["cv=0"], "models are compared by cross-validation, and cv=0"),
        (["seed=x"], "seed should be "),
    ],
)
def test_a_search_that_cannot_be_is_told_before_anything_is_sent(
    given: list[str], cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        own.find_search(OURS, own.read_parameters(OURS, SWEEP, given))
    assert caught.value.cause.startswith(cause)


def test_only_what_is_on_the_list_is_staged(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "trainer" / "__pycache__").mkdir(parents=True)
    (root / "data").mkdir()
    for name in ("MLproject", "conda.yml", "serving.yml", "train.py", "trainer/a.py", ".env", "mlflow.db",
                 "config.json", "data/x.csv",
                 "trainer/notes.txt", "trainer/__pycache__/a.pyc", "id_rsa"):  # fmt: skip
        (root / name).write_text(name)
    link(root / "trainer" / "link.py", root / ".env")
    staged = Trainer(root).stage(MAIN, tmp_path / "staged")
    found = sorted(path.relative_to(staged.folder).as_posix() for path in staged.folder.rglob("*") if path.is_file())
    assert found == ["MLproject", "conda.yml", "serving.yml", "train.py", "trainer/a.py"]
    assert (staged.files, staged.bytes) == (5, sum(len(name) for name in found))
    with pytest.raises(UserError, match="the code is 49 bytes; at most 10 bytes are sent"):
        own.stage(root, own.CODE[MAIN], tmp_path / "again", limit=10)
    with pytest.raises(UserError, match=r"has no sweep\.py"):
        Trainer(root).stage(SWEEP, tmp_path / "third")


def test_the_version_of_the_environment_is_that_of_its_contents(tmp_path: Path) -> None:
    (tmp_path / "submit").mkdir()
    conda, environment = tmp_path / "conda.yml", tmp_path / "submit" / "environment.yml"
    conda.write_text((ROOT / "conda.yml").read_text())
    environment.write_text((ROOT / "submit" / "environment.yml").read_text())
    here = Trainer(tmp_path)
    versions = [OURS.environment().version]
    conda.write_text("# another comment\n" + conda.read_text())
    versions.append(here.environment().version)
    conda.write_text(conda.read_text().replace("pip:", "pip: # more\n      - another==1"))
    versions.append(here.environment().version)
    environment.write_text(environment.read_text().replace("ubuntu24.04", "ubuntu26.04"))
    versions.append(here.environment().version)
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


# ---- the data


def find(given: str) -> JobInput:
    return data.find(given, OURS.path(given, OURS.defaults(MAIN)["data"]))


@pytest.mark.parametrize(
    ("given", "kind", "path", "name"),
    [
        ("azureml:sales:3", "uri_file", "azureml:sales:3", "azureml:sales:3"),
        ("azureml:sales@latest", "uri_file", "azureml:sales@latest", "azureml:sales@latest"),
        ("https://example.org/a/b.csv", "uri_file", "https://example.org/a/b.csv", "b.csv"),
        ("HTTPS://example.org/a/my b.csv", "uri_file", "https://example.org/a/my%20b.csv", "my b.csv"),
        ("https://example.org/a/b.csv?v=2", "uri_file", "https://example.org/a/b.csv?v=2", "b.csv"),
        ("azureml://datastores/x/paths/parts/", "uri_folder", "azureml://datastores/x/paths/parts/", "parts"),
        ("abfss://c@a.dfs.core.windows.net/t", "uri_file", "abfss://c@a.dfs.core.windows.net/t", "t"),
        ("job:train-1/models", "uri_file",
         "azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.train-1/models", "models"),
        ("parts", "uri_folder", "HERE/parts", "parts"),
        ("parts/1.parquet", "uri_file", "HERE/parts/1.parquet", "1.parquet"),
        ("sales #1 (EU) ü.csv", "uri_file", "HERE/sales #1 (EU) ü.csv", "sales #1 (EU) ü.csv"),
        ("data/diabetes.csv", "uri_file", str(ROOT / "data" / "diabetes.csv"), "diabetes.csv"),
    ],
)  # fmt: skip
def test_data_may_be_a_file_a_folder_an_asset_an_output_or_an_address(
    given: str, kind: str, path: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "1.parquet").write_bytes(b"1234")
    (tmp_path / "sales #1 (EU) ü.csv").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    found = find(given)
    assert (found.kind, found.path, found.name) == (kind, path.replace("HERE", str(tmp_path)), name)
    assert found.document == {"type": kind, "path": found.path}
    assert document(table=found)["display_name"] == f"ridge on {name}"


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ("sale.csv", "there is no file or folder 'sale.csv'; did you mean 'sales.csv'?"),
        ("empty", "the folder 'empty' holds no file"),
        ("azureml:sales", "'azureml:sales' names neither a data asset nor what a job has stored"),
        ("job:train-1", "'job:train-1' names neither"),
        ("s3://bucket/a.csv", "a node cannot read s3:// addresses"),
        ("azureml://datastores/x/paths/*.parquet", "'azureml://datastores/x/paths/*.parquet' is a pattern"),
        *((address, "the address of the data holds a signature, a token or a password") for address in (
            "https://acct.blob.core.windows.net/c/a.csv?sv=1&sig=TOPSECRET",
            "https://h/a.csv?SIG=TOPSECRET", "https://h/a.csv?token=TOPSECRET&api_key=1", "https://h/a.csv?code=TOPSECRET",
            "https://h/a.csv%3Fsig=TOPSECRET", "https://h/a.csv%3fsig%3dTOPSECRET", "https://h/a.csv?X-Amz-Signature=TOPSECRET",
            "abfss://me:TOPSECRET@example.org/a.csv", "https://me:TOPSECRET@example.org/a.csv", "https://TOPSECRET@example.org/a.csv",
        )),
    ],
)  # fmt: skip
def test_data_that_cannot_be_are_told(given: str, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden").write_text("a\n1\n")
    (tmp_path / "sales.csv").write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        find(given)
    assert caught.value.cause.startswith(cause)
    assert "TOPSECRET" not in str(caught.value)


@pytest.mark.parametrize("links", [True, False])
def test_what_is_sent_of_a_folder_is_what_train_py_would_read(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "parts"
    visible = {"2023.parquet": b"1", "2024.parquet": b"22", "year=2025/a.parquet": b"333"}
    hidden = (".gitignore", ".amlignore", ".env", ".ipynb_checkpoints/2023-checkpoint.parquet", "_delta_log/0.json")
    for name, content in {**visible, **dict.fromkeys(hidden, b"2023.parquet")}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    if not links:  # as on Windows
        monkeypatch.setattr(data.os, "symlink", Answers(OSError("a privilege is not held"), again=True))
    found = find(str(folder))
    assert found.text == "parts (3 files, 6 bytes)"
    staged = data.stage(found, tmp_path / "scratch")
    sent = {path.relative_to(staged.path).as_posix(): path.read_bytes() for path in Path(staged.path).rglob("*.*")}
    assert sent == visible
    assert (Path(staged.path).name, staged.name) == ("parts", "parts")

    from azure.ai.ml._utils._asset_utils import get_content_hash, get_ignore_file, get_upload_files_from_folder

    # and the client, which goes by ignore files and follows links, takes all of it
    ignored = get_ignore_file(staged.path)
    uploaded = get_upload_files_from_folder(staged.path, ignore_file=ignored)
    assert sorted(name for _, name in uploaded) == sorted(visible)
    assert get_content_hash(staged.path, ignored) is not None


def test_a_label_is_resolved_to_the_version_that_is_recorded() -> None:
    asset = SimpleNamespace(type="uri_folder", version="7")
    client = SimpleNamespace(data=SimpleNamespace(get=Answers(asset)))
    found = data.look_up(fake_workspace(client), find("azureml:sales@latest"))
    assert (found.kind, found.path) == ("uri_folder", "azureml:sales:7")
    assert found.text == "data asset sales, version 7 (latest)"
    assert data.look_up(fake_workspace(), TABLE) == TABLE


def test_an_asset_that_is_not_there_or_is_no_table_is_told() -> None:
    def ask(answer: Any, given: str = "azureml:sales:1") -> None:
        data.look_up(fake_workspace(SimpleNamespace(data=SimpleNamespace(get=Answers(answer)))), find(given))

    with pytest.raises(UserError, match="has no data asset sales of version 1"):
        ask(refusal(404))
    with pytest.raises(UserError, match="has no data asset sales with the label newest"):
        ask(refusal(404), "azureml:sales@newest")
    with pytest.raises(UserError, match="is of type mltable"):
        ask(SimpleNamespace(type="mltable", version="1"))


# ---- the names


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (rules.check_experiment_name, ("a", "A-b_1", "1" * 256),
         ("", "my experiment (2024)/a", "-a", "é", "a" * 257, "a\n")),
        (rules.check_cluster_name, ("ab", "cpu-cluster", "A" * 32),
         ("", "a", "azureml:cpu-cluster", "1ab", "ab-", "a_b", "a" * 33, "ab\n")),
        (rules.check_job_name, ("train-1", "a" * 255), ("", "a/b", "../x", "a b", "a" * 256)),
    ],
)  # fmt: skip
def test_names_are_checked_by_the_rules_of_the_service(check: Any, good: tuple[str, ...], bad: tuple[str, ...]) -> None:
    for name in good:
        check(name)
    for name in bad:
        with pytest.raises(UserError, match="cannot be the name of"):
            check(name)


def test_there_are_limits_of_parameters_and_tags() -> None:
    rules.check_parameters({str(number): "x" * 500 for number in range(200)})
    with pytest.raises(UserError, match="there are 201 parameters"):
        rules.check_parameters(dict.fromkeys(map(str, range(201)), "x"))
    rules.check_tags({str(number).rjust(100): "x" * 1000 for number in range(50)})
    for tags in (dict.fromkeys(map(str, range(51)), "x"), {"x" * 101: "x"}, {"x": "x" * 1001}):
        with pytest.raises(UserError, match="there are"):
            rules.check_tags(tags)
    names = document()["tags"]
    with pytest.raises(UserError, match="cannot be the name of an experiment"):
        job.document(
            OURS, OURS.work(MAIN, OURS.defaults(MAIN), {"data": TABLE}), ROOT, {}, tags=names, experiment="a b"
        )
