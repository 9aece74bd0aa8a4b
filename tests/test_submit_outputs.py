"""What a job has stored: whatever it is, and whoever wrote it, it comes down whole and verified, or not at all."""

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from submit import outputs
from submit.artifacts import Artifacts, open_store
from submit.outputs import Metric
from submit.workspace import Workspace
from tests.submitting import Answers, fake_workspace, refusal, ticking
from trainer import model_folder, registry
from trainer.errors import UserError, VerificationError

BLOB = "https://acct.blob.core.windows.net/c/b?sig=SECRET"
METRIC = {
    "run_id": "train-1", "RMSE": 48.0, "rows_train": 350, "rows_test": 92, "data_sha256": "d", "git_commit": "g",
    "params": {"model_name": "m", "target": "y", "estimator": "ridge", "split": "stable", "test_fraction": "0.2",
               "key": "none"},
}  # fmt: skip


class Store:
    """A container with blobs, by name."""

    def __init__(self, blobs: dict[str, Any], sizes: dict[str, int] | None = None) -> None:
        self.blobs, self.asked = {f"p/{name}": content for name, content in blobs.items()}, []  # type: ignore[var-annotated]
        self.sizes = {f"p/{name}": size for name, size in (sizes or {}).items()}

    def list_blobs(self, name_starts_with: str) -> list[Any]:
        return [
            SimpleNamespace(name=name, size=self.sizes.get(name, len(content) if isinstance(content, bytes) else 1))
            for name, content in self.blobs.items()
            if name.startswith(name_starts_with)
        ]

    def download_blob(self, name: str) -> Any:
        self.asked.append(name)
        content = self.blobs[name]
        if callable(content):
            content = content()
        if isinstance(content, BaseException):
            raise content
        return SimpleNamespace(chunks=lambda: iter([content[:3], content[3:]]))

    def fetch(self, folder: Path) -> None:
        outputs.download(Artifacts(fake_workspace(), "store", "p", self), "train-1", folder)  # type: ignore[arg-type]


def test_everything_comes_down_as_it_was_stored(tmp_path: Path) -> None:
    blobs = {"metric.json": b"12345", "models/MLmodel": b"", "user_logs/std log ü.txt": b"x"}
    Store(blobs).fetch(tmp_path)
    files = (path for path in tmp_path.rglob("*") if path.is_file())
    assert {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in files} == blobs


HOSTILE = {
    "outside": ({"../x": b"1"}, None),
    "far outside": ({"a/../../x": b"1"}, None),
    "absolute": ({"/etc/x": b"1"}, None),
    "absolute of Windows": ({"..\\x": b"1"}, None),
    "control characters": ({"\x1b]0;x\x07": b"1"}, None),
    "a long name": ({"n" * 300: b"1"}, None),
    "a file and a folder of one name": ({"a": b"1", "a/b": b"1"}, None),
    "a folder and a file of one name": ({"a/b": b"1", "a": b"1"}, None),
    "too large": ({"a": b"1"}, {"a": 10_000_000_000}),
    "too many": ({str(number): b"1" for number in range(10_001)}, None),
    "nothing": ({}, None),
    "always short": ({"a": b"1"}, {"a": 2}),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_training_run_stores_is_not_taken(what: str, tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        Store(*HOSTILE[what]).fetch(tmp_path / "folder")
    assert caught.value.exit_code == 3
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable() or "\n" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["folder"])


def test_a_disk_that_is_full_is_no_fault_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", Answers(OSError(28, "No space left on device"), again=True))
    with pytest.raises(UserError, match="cannot write the results: No space left on device") as caught:
        Store({"a": b"1"}).fetch(tmp_path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("error", [refusal(403, BLOB, "AuthorizationPermissionMismatch"), KeyboardInterrupt()])
def test_an_error_ends_a_download_of_many_files(error: BaseException, tmp_path: Path) -> None:
    """What has not begun does not begin: the first file fails while seven others wait for it, and 492 for them."""
    begun = threading.Semaphore(0)
    failed = threading.Event()

    def fails() -> BaseException:
        for _ in range(7):
            assert begun.acquire(timeout=60)
        failed.set()
        return error

    def waits() -> bytes:
        begun.release()
        assert failed.wait(60)
        return b"1"

    store = Store({"0": fails, **{str(number): waits for number in range(1, 500)}})
    with pytest.raises(type(error) if isinstance(error, KeyboardInterrupt) else UserError):
        store.fetch(tmp_path)
    assert len(store.asked) < 400


def test_a_file_that_breaks_off_is_read_again(tmp_path: Path) -> None:
    from azure.core.exceptions import ServiceResponseError

    broken = Answers(ServiceResponseError("broke off"), b"12", b"123")
    Store({"a": broken}, {"a": 3}).fetch(tmp_path)
    assert (broken.calls, (tmp_path / "a").read_bytes()) == (3, b"123")


def write(folder: Path, metric: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metric.json").write_text(metric if isinstance(metric, str) else json.dumps(metric), encoding="utf-8")
    return folder


BAD_METRICS = {
    "no JSON": "{",
    "no object": [1],
    "no run": {key: value for key, value in METRIC.items() if key != "run_id"},
    "no RMSE": {key: value for key, value in METRIC.items() if key != "RMSE"},
    "RMSE of another type": METRIC | {"RMSE": [1]},
    "RMSE that is not finite": METRIC | {"RMSE": float("nan")},
    "rows of another type": METRIC | {"rows_test": None},
    "no params": METRIC | {"params": None},
    "params of another type": METRIC | {"params": {"model_name": 7}},
    "a param of another type": METRIC | {"params": METRIC["params"] | {"target": {"a": 1}}},  # type: ignore[operator]
    "deep": "[" * 100_000,
    "of another run": METRIC | {"run_id": "train-2"},
    "of nobody": METRIC | {"run_id": "x" * 10_000},
}


@pytest.mark.parametrize("what", BAD_METRICS)
def test_a_metric_json_that_is_not_the_jobs_is_not_taken(what: str, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"metric\.json") as caught:
        outputs.verify(write(tmp_path, BAD_METRICS[what]), "train-1")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "mlmodel", ["{", "- a", "a: !!python/object/apply:os.system ['touch pwned']", "\x00", "flavors: 7", None]
)
def test_a_model_folder_that_is_none_is_not_taken_and_runs_nothing(
    mlmodel: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    models = write(tmp_path / "job", METRIC) / "models"
    models.mkdir()
    if mlmodel is not None:
        (models / "MLmodel").write_text(mlmodel)
    with pytest.raises(VerificationError, match="the downloaded model"):
        outputs.verify(tmp_path / "job", "train-1")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(("difference", "passes"), [(0.0, True), (1e-12, True), (1e-6, False), (float("nan"), False)])
def test_the_model_must_predict_what_it_predicted(
    difference: float, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreement = SimpleNamespace(largest_relative=difference, largest_absolute=difference, exact=not difference, rows=92)
    monkeypatch.setattr(model_folder, "score_again", Answers(agreement, again=True))
    write(tmp_path, METRIC)
    if passes:
        found = outputs.verify(tmp_path, "train-1")
        assert (found.files, found.metric.rmse, found.metric.rows, found.metric.model) == (1, 48.0, 442, "m")
        return
    with pytest.raises(VerificationError, match="predicts otherwise than on the node"):
        outputs.verify(tmp_path, "train-1")


def test_what_is_fetched_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agreement = SimpleNamespace(largest_relative=0.0, exact=True, rows=1)
    monkeypatch.setattr(model_folder, "score_again", Answers(agreement, again=True))
    default = SimpleNamespace(path="azureml://datastores/other/paths/p/")
    job = SimpleNamespace(outputs={"default": default}, tags={"project": "mlflow-trainer"})
    keys = SimpleNamespace(account_key=None, sas_token="sas")
    datastore = SimpleNamespace(
        protocol="https", account_name="acct", endpoint="core.windows.net", container_name="c", credentials=keys
    )
    named: list[str] = []
    client = SimpleNamespace(
        jobs=SimpleNamespace(get=Answers(job, again=True)),
        datastores=SimpleNamespace(get=lambda name, **_: named.append(name) or datastore),
    )
    stores = [Store({"metric.json": b"{"}), Store({"metric.json": json.dumps(METRIC).encode()})]

    def opened(address: str, container: str, credential: Any, **_: Any) -> Any:
        assert (address, container, credential) == ("https://acct.blob.core.windows.net", "c", "sas")
        store = stores.pop(0)
        context = SimpleNamespace(list_blobs=store.list_blobs, download_blob=store.download_blob)

        class Context:
            def __enter__(self) -> Any:
                return context

            def __exit__(self, *_: Any) -> None: ...

        return Context()

    import azure.storage.blob

    monkeypatch.setattr(azure.storage.blob, "ContainerClient", opened)
    with pytest.raises(VerificationError):
        outputs.fetch(fake_workspace(client), "train-1", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    found = outputs.fetch(fake_workspace(client), "train-1", tmp_path / "out")
    assert found.folder == tmp_path / "out" / "train-1"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train-1"]
    assert named == ["other", "other"]
    # what is there already is verified where it lies
    assert outputs.fetch(fake_workspace(client), "train-1", tmp_path / "out").folder == found.folder


def metric(model: str | None = "m") -> Metric:
    return Metric("train-1", 48.0, 442, model, METRIC)


def version(number: int, run_id: str | None, source: str = "") -> Any:
    return SimpleNamespace(name="m", version=str(number), run_id=run_id, source=source, tags={})


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        # the newest is not the job's because it is the newest
        ([version(1, "train-1"), version(2, "train-2")], "1"),
        ([version(1, "train-2"), version(2, "train-3")], None),
        ([version(number, f"x-{number}") for number in range(400)] + [version(400, "train-1")], "400"),
        # a version that has lost its run is found by where it lies
        ([version(1, None, "azureml://h/mlflow/v2.0/x/runs/train-2/artifacts/models"),
          version(2, "", "azureml://h/mlflow/v2.0/x/runs/train-1/artifacts/models")], "2"),
        ([version(1, None, "azureml://datastores/a/paths/ExperimentRun/dcid.train-1/models")], "1"),
        ([version(1, None, "azureml://x/runs/train-10/artifacts/models")], None),
        ([version(1, "train-2", "azureml://x/runs/train-1/artifacts/models")], None),
    ],
)  # fmt: skip
def test_the_version_of_a_job_is_that_of_its_run(
    versions: list[Any], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "mlflow", lambda _: None)
    monkeypatch.setattr(registry, "versions", lambda _, name: versions if name == "m" else [])
    found = outputs.find_version(fake_workspace(), metric())
    assert (found.version if found else None) == expected
    assert outputs.find_version(fake_workspace(), metric(None)) is None


def test_a_job_that_was_told_to_register_nothing_is_not_registered() -> None:
    with pytest.raises(UserError, match="was sent with model_name=none"):
        outputs.register(fake_workspace(), metric(None))


def test_a_store_that_is_gone_or_another_is_told() -> None:
    def opened(found: Any) -> Any:
        workspace = fake_workspace(SimpleNamespace(datastores=SimpleNamespace(get=Answers(found))))
        return open_store(workspace, "old", lambda address, container, **_: (address, container))

    with pytest.raises(UserError, match="has no datastore old any more"):
        opened(refusal(404))
    facts = {"protocol": "https", "account_name": "acct", "endpoint": "core.windows.net", "credentials": None}
    lake = SimpleNamespace(filesystem="fs", type="azure_data_lake_gen2", **facts)
    assert opened(lake) == ("https://acct.blob.core.windows.net", "fs")
    with pytest.raises(UserError, match="of type azure_file, which holds no blobs"):
        opened(SimpleNamespace(file_share_name="s", type="azure_file", **facts))


def test_the_storage_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch)
    refused = SimpleNamespace(list_blobs=Answers(refusal(403, BLOB, "AuthorizationPermissionMismatch")))
    with pytest.raises(UserError, match="the storage account acct refuses to list the artifacts") as caught:
        Artifacts(fake_workspace(), "s", "p", refused).listing()  # type: ignore[arg-type]
    assert "Storage Blob Data Contributor" in caught.value.remedy
