"""From nothing to a verified, registered model, on the stand-in, with the real clients: one submission, looked at."""

import json
import re
import shutil
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from submit import own
from tests import standin_http as http
from tests.conftest import ROOT, SECRET, Submitted, Trainer, run_id
from tests.standin import Fault, Request, StandIn, names
from tests.submitting import Warm, job_name, together

CODE = {
    "MLproject",
    "conda.yml",
    "serving.yml",
    "train.py",
    *(f"trainer/{path.name}" for path in ROOT.glob("trainer/*.py")),
}
ENVIRONMENT = own.Trainer().environment()
WRITES = ("PUT", "POST", "PATCH", "DELETE")


def writes(requests: list[Request]) -> Counter[str]:
    """Count what was written, by kind."""
    found: Counter[str] = Counter()
    for request in requests:
        kind = re.sub(rf"^{re.escape(names.SCOPE)}/(\w+)/.*", r"\1", request.path)
        if request.method in WRITES and request.plane in ("control", "blob") and "listSecrets" not in request.path:
            found["blobs" if request.plane == "blob" else kind] += 1
    return found


def code_files(requests: list[Request]) -> set[str]:
    """List the files of code that were uploaded."""
    uploads = [request.path for request in requests if request.plane == "blob" and request.method == "PUT"]
    return {path.rpartition("/code/")[2] for path in uploads if "/code/" in path}


def versions(standin: StandIn, model: str) -> list[dict[str, Any]]:
    query = {"filter": f"name='{model}'"}
    answer = http.call(standin, "GET", f"{http.MLFLOW}/model-versions/search", params=query).json()
    found: list[dict[str, Any]] = answer.get("model_versions", [])
    return found


@pytest.fixture(scope="module")
def searched(
    remote: Warm, standin_session: StandIn, submitted: Submitted, tmp_path_factory: pytest.TempPathFactory
) -> Submitted:
    """A search of two trials, sent with `submit/remote.py`."""
    folder = tmp_path_factory.mktemp("searched")
    document = yaml.safe_load((ROOT / "submit" / "sweep.yml").read_text())
    document["limits"]["max_total_trials"] = 2
    (folder / "mine.yml").write_text(yaml.safe_dump(document))
    before = len(standin_session.requests)
    asked = ("-e", "sweep", "-P", "search=mine.yml", "-P", "model_name=searched")
    done = remote("--yes", "--output-dir", folder / "out", *asked, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    name = job_name(done.stdout, "sweep")
    requests = standin_session.requests[before:]
    return Submitted(name, done.stdout, done.stderr, folder / "out" / name, requests, [])


def test_the_screen_tells_what_will_be_sent_and_what_became_of_it(submitted: Submitted) -> None:
    for line in (
        rf"workspace    {names.WORKSPACE} in {names.LOCATION}, named by the environment variables",
        r"cluster      cpu-cluster, 0 to 4 nodes of Standard_D4ds_v4 \(4 cores, 16 GB\), dedicated, to be created",
        r"quota        4 of \d+ cores \(.*\)",
        r"price        \d\.\d\d USD an hour while it runs, at most \d\.\d\d USD in 2:00:00",
        rf"environment  mlflow-trainer:{ENVIRONMENT.version}, to be created .*",
        r"code         \d+ files, \d+\.\d kB",
        r"data         diabetes\.csv \(\d+\.\d kB\)",
        r"parameters   all defaults",
        rf"job     {submitted.job}",
        rf"studio  https://\S+{submitted.job}\S+",
        rf"attach  python submit/remote\.py attach {submitted.job}",
        rf"cancel  python submit/remote\.py cancel {submitted.job}",
        r"Running \(\d:\d\d\)",
        r"\| rmse        \d+\.\d{4}  .*",
        r"Completed \(\d:\d\d\)",
        r"it ran for \d:\d\d, about \d\.\d+ USD at \d\.\d\d USD an hour",
        rf"outputs +{submitted.outputs} \(\d+ files, \d+\.\d kB\)",
        r"verified +its model predicts its \d+ recorded rows again, exactly",
        rf"model +models:/diabetes-progression/\d+, from run {submitted.job} \(rows 442, .*\)",
    ):
        assert re.search(rf"^{line}$", submitted.out, re.MULTILINE), f"{line}\n{submitted.out}"
    assert submitted.err == ""


def test_the_results_are_there_and_nothing_half_done_beside_them(submitted: Submitted) -> None:
    assert [path.name for path in submitted.outputs.parent.iterdir()] == [submitted.job]
    for name in ("models/MLmodel", "metric.json", "user_logs/std_log.txt"):
        assert (submitted.outputs / name).is_file()
    assert json.loads((submitted.outputs / "metric.json").read_text())["run_id"] == submitted.job


def test_metrics_are_those_of_a_local_run_to_the_last_digit(submitted: Submitted, trains: Trainer) -> None:
    done = trains()
    local = json.loads(Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id(done)}/metric.json")).read_text())
    cluster = json.loads((submitted.outputs / "metric.json").read_text())
    measured = [key for key in local if key.isupper() or key[:2] in ("cv", "ro", "ba")]
    same = ("data_name", "data_sha256", "git_commit", "versions")
    assert len(measured) > 5
    assert {key: cluster[key] for key in (*measured, *same)} == {key: local[key] for key in (*measured, *same)}
    others = {key: value for key, value in cluster["params"].items() if key != "data"}
    assert others == {key: value for key, value in local["params"].items() if key != "data"}


def test_the_version_names_its_job_and_its_lineage(standin: StandIn, submitted: Submitted) -> None:
    version = next(one for one in versions(standin, "diabetes-progression") if one["run_id"] == submitted.job)
    assert {"data_sha256", "git_commit", "rmse", "rows"} <= {tag["key"] for tag in version["tags"]}


def test_what_arrives_is_what_was_staged(standin: StandIn, submitted: Submitted) -> None:
    job = http.job(standin, submitted.job)
    assert job["environmentId"].endswith(f"/mlflow-trainer/versions/{ENVIRONMENT.version}")
    assert job["environmentVariables"]["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert re.fullmatch("[0-9a-f]{40}", job["environmentVariables"]["GIT_COMMIT"])
    values = {key: one["value"] for key, one in job["inputs"].items() if one["jobInputType"] == "literal"}
    defaults = own.Trainer().defaults("main")
    assert values == {key: value for key, value in defaults.items() if key != "data"}
    assert code_files(submitted.requests) == CODE


def test_no_secret_is_said_stored_or_tagged(standin: StandIn, submitted: Submitted) -> None:
    texts = {"out": submitted.out, "err": submitted.err}
    for path in submitted.outputs.rglob("*"):
        if path.is_file():
            texts[path.name] = path.read_bytes().decode("latin1")
    texts["job"] = json.dumps(http.job(standin, submitted.job))
    texts["run"] = json.dumps(http.run(standin, submitted.job))
    texts["versions"] = json.dumps(versions(standin, "diabetes-progression"))
    for name, text in texts.items():
        assert not SECRET.search(text), name


def test_nothing_but_the_workspace_was_contacted(submitted: Submitted) -> None:
    assert submitted.refused == []
    assert not [request for request in submitted.requests if request.note]


def test_a_second_submission_sends_nothing_but_the_job(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    first = writes(submitted.requests)
    assert (first["computes"], first["environments"]) == (1, 1)
    assert first["codes"] >= 2
    assert first["blobs"] > 10
    standin.inject(Fault("no-quota", times=0))  # it stays in the queue, and costs nothing
    before = len(standin.requests)
    asked = ("--yes", "--detach", "-P", "model_name=none", "--max-nodes", 2, "--low-priority")
    done = remote(*asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = job_name(done.stdout)
    sent = [one for one in standin.requests[before:] if name not in one.path or one.method == "PUT"]
    until = next(i for i, one in enumerate(sent) if one.method == "PUT" and "/jobs/" in one.path)
    assert writes(sent[: until + 1]) == {"jobs": 1}
    assert "to be created" not in done.stdout
    assert "parameters   model_name=none (not diabetes-progression)" in done.stdout
    assert "! its largest number of nodes is 4, not 2: left as it is" in done.stdout
    assert "! its priority is dedicated, not low priority: left as it is" in done.stdout
    assert remote("cancel", name, cwd=tmp_path).returncode == 0


def test_what_others_have_stored_is_read_where_it_lies(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    address = http.upload(standin, {"table.csv": (ROOT / "data" / "diabetes.csv").read_bytes()})
    asset = {"properties": {"dataType": "uri_file", "dataUri": f"{address}/table.csv"}}
    http.call(standin, "PUT", "/data/patients/versions/3", json=asset).raise_for_status()
    standin.inject(Fault("no-quota", times=0))
    stored = f"azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{submitted.job}"
    for given, kind, path, text in (
        ("azureml:patients:3", "uri_file", "/data/patients/versions/3", "data asset patients, version 3"),
        ("azureml:patients@latest", "uri_file", "/data/patients/versions/3", "data asset patients, version 3 (latest)"),
        (f"job:{submitted.job}/models", "uri_folder", f"{stored}/models", f"models of the job {submitted.job}"),
        (f"job:{submitted.job}/metric.json", "uri_file", f"{stored}/metric.json", "metric.json of the job"),
    ):
        done = remote("--yes", "--detach", "--data", given, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"data         {text}" in done.stdout
        name = job_name(done.stdout)
        sent = http.job(standin, name)["inputs"]["data"]
        assert (sent["jobInputType"], sent["uri"].endswith(path)) == (kind, True), sent
        http.call(standin, "POST", f"/jobs/{name}/cancel").raise_for_status()
    missing = remote("--yes", "--data", f"job:{submitted.job}/model", cwd=tmp_path)
    assert "has stored no 'model'" in missing.stderr


def test_attach_fetches_what_has_ended_and_verifies_what_is_there(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    done = remote("attach", submitted.job, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " its model predicts its " in done.stdout
    assert re.search(r"^it ran for \d:\d\d, about \d\.\d+ USD at ", done.stdout, re.MULTILINE)
    first, again = submitted.outputs, tmp_path / "outputs" / submitted.job
    same = {p.relative_to(first): p.read_bytes() for p in first.rglob("*") if p.is_file()}
    assert {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()} == same
    scoring = again / "models" / "recorded_scoring.json"
    scoring.write_text(scoring.read_text().replace("1", "2"))
    changed = remote("attach", submitted.job, cwd=tmp_path)
    assert changed.returncode == 3
    assert len(changed.stderr.splitlines()) == 2
    shutil.rmtree(again)


def test_jobs_lists_the_job_with_its_rmse_and_what_it_cost(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    standin.inject(Fault("labeling-job"))
    done = remote("jobs", "-n", 500, cwd=tmp_path)  # other tests may have sent any number before
    assert done.returncode == 0, done.stderr
    line = rf"^{submitted.job} +Completed +48\.0518 +\d\.\d+ USD +\d+ (s|min) +mlflow-trainer$"
    assert re.search(line, done.stdout, re.MULTILINE), done.stdout
    assert done.stdout.splitlines()[-1] == "and 2 of kinds that this client cannot read"
    standin.inject(Fault("429", route="/mlflow/", times=0, seconds=372))
    busy = remote("jobs", "-n", 1, cwd=tmp_path)
    assert (busy.returncode, busy.stderr) == (0, "")
    assert re.search(r"^runs: the service does not (tell \(\d+\)|answer)$", busy.stdout, re.MULTILINE), busy.stdout


def test_doctor_finds_all_well_and_says_what_is_not(
    remote: Warm, standin: StandIn, submitted: Submitted, tmp_path: Path
) -> None:
    well = remote("doctor", cwd=tmp_path)
    assert well.returncode == 0, well.stdout
    checks = [line.split()[:2] for line in well.stdout.splitlines() if not line.startswith(" ")]
    assert checks == [["ok", name] for name in (
        "python", "packages", "config", "workspace", "storage", "cluster", "environment",
    )]  # fmt: skip
    for name in ("azure-ai-ml", "mlflow", "scikit-learn"):
        assert f"{name} {version(name)}" in well.stdout
    listed = re.findall(r"^ +(Standard_\w+): (\d+) cores, .*, (\d+\.\d\d) USD an hour$", well.stdout, re.MULTILINE)
    assert listed
    assert [float(price) for _, __, price in listed] == sorted(float(price) for _, __, price in listed)
    gpu = remote("doctor", "--size", "Standard_NC6s_v3", "--cluster", "gpus", cwd=tmp_path)
    assert gpu.returncode == 2
    assert re.search(r"^NOT   cluster .*is 0 cores, and a node takes 6", gpu.stdout, re.MULTILINE), gpu.stdout
    assert "      fix " in gpu.stdout


def test_the_yaml_files_stand_alone(
    remote: Warm, standin: StandIn, submitted: Submitted, searched: Submitted, tmp_path: Path
) -> None:
    """What `az` sends by hand is what `submit/remote.py` sends: the job that has run, and one trial of the search."""
    done = remote.start([str(ROOT / "tests" / "clients" / "by_hand.py")], tmp_path).wait()
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["compute.yml"], said["environment.yml"]) == ("cpu-cluster", "mlflow-trainer")
    ours, theirs = http.job(standin, submitted.job), http.job(standin, said["job.yml"])
    http.call(standin, "POST", f"/jobs/{said['job.yml']}/cancel").raise_for_status()
    assert theirs["command"].split() == ours["command"].split()
    assert theirs["inputs"] == ours["inputs"]
    assert (theirs["computeId"], theirs["experimentName"]) == (ours["computeId"], ours["experimentName"])
    # the same files as those that were staged for a search, so the same code
    assert theirs["codeId"] == http.job(standin, searched.job)["codeId"]
    assert http.wait(standin, said["sweep.yml"]) == "Completed", http.log(standin, f"{said['sweep.yml']}_0")
    best = http.job(standin, said["sweep.yml"])["properties"]
    trial = http.run(standin, best["best_child_run_id"])["data"]
    metrics = {metric["key"]: metric["value"] for metric in trial["metrics"]}
    assert metrics["cv_rmse_mean"] == float(best["score"])
    assert {param["key"]: param["value"] for param in trial["params"]}["model_name"] == "none"


def test_a_search_runs_on_a_node_and_registers_its_best_model(standin: StandIn, searched: Submitted) -> None:
    assert re.search(r"^search +2 trials of ridge: alpha \(random, seed 0\)$", searched.out, re.MULTILINE)
    assert f"models:/searched/1, from run {searched.job}" in searched.out
    assert code_files(searched.requests) == CODE | {"sweep.py", "compare.py", "verify.py"}
    assert "max_total_trials: 2" in (searched.outputs / "search" / "mine.yml").read_text()

    query = f"tags.mlflow.parentRunId = '{searched.job}'"
    body = {"experiment_ids": [http.run(standin, searched.job)["info"]["experiment_id"]], "filter": query}
    found = http.call(standin, "POST", f"{http.MLFLOW}/runs/search", json=body).json()["runs"]
    assert [trial["info"]["status"] for trial in found] == ["FINISHED"] * 2
    tried = {
        metric["value"]: trial["data"]["params"][0]["value"]
        for trial in found
        for metric in trial["data"]["metrics"]
        if metric["key"] == "cv_rmse_mean"
    }
    metric = json.loads((searched.outputs / "metric.json").read_text())
    assert metric["params"]["alpha"] == tried[min(tried)]


def test_estimators_are_compared_on_a_node_and_the_best_is_registered(
    remote: Warm, standin: StandIn, tmp_path: Path
) -> None:
    asked = ("-e", "compare", "-P", "estimators=elasticnet,ridge", "-P", "model_name=compared")
    done = remote("--yes", "--output-dir", "out", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    name = job_name(done.stdout, "compare")
    assert re.search(r"^\| 1  ridge +cv rmse \d+\.\d{4} .*$", done.stdout, re.MULTILINE), done.stdout
    assert f"models:/compared/1, from run {name}" in done.stdout
    assert "The estimators" in (tmp_path / "out" / name / "report.html").read_text(encoding="utf-8")
    metrics = {metric["key"]: metric["value"] for metric in http.run(standin, name)["data"]["metrics"]}
    assert metrics["estimators"] == 2


def test_two_nodes_train_one_model(remote: Warm, standin: StandIn, tmp_path: Path) -> None:
    done = remote("--yes", "--output-dir", "out", *together(tmp_path, "together", trees=10), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^nodes +2, which train one model together$", done.stdout, re.MULTILINE)
    name = job_name(done.stdout)
    metric = json.loads((tmp_path / "out" / name / "metric.json").read_text())
    assert metric["run_id"] == name
    assert metric["rows_train"] + metric["rows_test"] == 2_000
    assert metric["RMSE"] < metric["baseline_RMSE"] / 2
    logs = sorted(path.name for path in (tmp_path / "out" / name / "user_logs").iterdir())
    assert logs == ["std_log_process_0.txt", "std_log_process_1.txt"]
    assert f"models:/together/1, from run {name}" in done.stdout
