"""What tests share: a store of their own, train.py called in this process, a workspace on this machine."""

import base64
import functools
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from filelock import FileLock
from hypothesis import settings
from mlflow.tracking import fluent
from xdist.scheduler import LoadScopeScheduling

import train
from tests.standin import POSSIBLE, Request, StandIn

if TYPE_CHECKING:
    from tests.submitting import Warm

# A shell has its background jobs ignore SIGINT, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Property tests draw the same examples each time, and no example has a deadline: a busy machine is no fault.
settings.load_profile("ci")

ROOT = Path(__file__).resolve().parent.parent

# Signed addresses, tokens, and keys of accounts and endpoints; where they have been left out, there are asterisks.
SECRET = re.compile(
    r"(?:[?&]|%3F|%26)sig(?:=|%3D)(?!\*)|eyJ[\w-]{10,}\.[\w-]{10,}|AccountKey=(?!\*)|standin-key-", re.IGNORECASE
)


@dataclass(frozen=True)
class Done:
    """What a command did: its exit code and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def template_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an SQLite store once for all workers: making its tables takes longer than a training run."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own  # else it would be that of former sessions
    path = shared / "template.db"
    with FileLock(shared / "template.lock"):
        if not path.exists():
            made = shared / "made.db"
            mlflow.MlflowClient(f"sqlite:///{made}").search_experiments()
            made.rename(path)
    return path


@pytest.fixture
def tracking_uri(template_store: Path, tmp_path: Path) -> str:
    """Name an SQLite store of the test's own."""
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(template_store, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update experiments set artifact_location = ?", [str(path.parent / "0")])
    return f"sqlite:///{path}"


@pytest.fixture
def store(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[mlflow.MlflowClient]:
    """Point MLflow to the store, run in the project's folder, and forget both afterwards."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "AZUREML_", "GIT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", str(Path(tracking_uri.removeprefix("sqlite:///")).parent))
    monkeypatch.chdir(ROOT)
    forget()
    yield mlflow.MlflowClient(tracking_uri)
    while mlflow.active_run():
        mlflow.end_run("FAILED")
    forget()


def forget() -> None:
    """Undo what mlflow keeps in the process: the experiment that was set."""
    fluent._active_experiment_id = None
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)


Trainer = Callable[..., Done]


@pytest.fixture
def trains(store: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]) -> Trainer:
    """Return train.py's command line as a function: ``trains(alpha=1, model_name="none")``."""
    return script(train.main, capsys)


def script(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> Trainer:
    """Return the command line of a script as a function of its parameters."""

    def call(**parameters: object) -> Done:
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in parameters.items()]
        capsys.readouterr()
        given = os.environ.get("MLFLOW_EXPERIMENT_ID")
        code = main(arguments)
        fluent._active_experiment_id = None
        if not given:
            os.environ.pop("MLFLOW_EXPERIMENT_ID", None)  # set_experiment leaves it behind
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


def link(path: Path, target: Path) -> None:
    """Make a link, or skip the test where that needs a privilege."""
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("Windows makes no link without a privilege")


def run_id(done: Done) -> str:
    """Read the run's id from what train.py printed."""
    return next(line.split()[1] for line in done.out.splitlines() if line.startswith("run "))


# A function, test or fixture, that takes the workspace, or what is made with it
_TAKES_WORKSPACE = re.compile(r"^def \w+\([^)]*\b(standin|standin_session|submitted|remote)\b", re.MULTILINE)


@functools.cache
def uses_workspace(file: str) -> bool:
    """Say whether tests of a file use the workspace of the run."""
    return bool(_TAKES_WORKSPACE.search((ROOT / file).read_text(encoding="utf-8")))


class OneWorkspace(LoadScopeScheduling):
    """Give a file's tests to one worker, and all files that use the workspace to one: there is one in a run.

    Faults and jobs of a test could meet another's if two workers shared it. (The groups of `--dist loadgroup` are
    suffixes of node ids, which pytest 9.2 does not let xdist 3.8 set: they did nothing.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "workspace" if uses_workspace(file) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Distribute tests so."""
    return OneWorkspace(config, log)


@pytest.fixture(scope="session")
def standin_session() -> Iterator[StandIn]:
    """A workspace on this machine, started once in a run, by the worker that has all tests that use it.

    At the end no client may have asked for a route that the stand-in does not know: that is how an update of
    a client library is noticed.
    """
    if not POSSIBLE:
        pytest.skip("the workspace on this machine needs Linux or macOS")
    with StandIn() as workspace:
        yield workspace
        unknown = sorted(set(workspace.unknown_routes))
    assert not unknown, f"clients asked for what the stand-in does not know: {unknown}"


@pytest.fixture
def standin(standin_session: StandIn) -> Iterator[StandIn]:
    """The workspace of the session, without faults before and after the test."""
    standin_session.clear_faults()
    yield standin_session
    standin_session.clear_faults()


@dataclass(frozen=True)
class Submitted:
    """The first submission of the session: the job, what was said, where the results are, the requests it took."""

    job: str
    out: str
    err: str
    outputs: Path
    requests: list[Request]
    refused: list[str]


@pytest.fixture(scope="session")
def submitted(standin_session: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """Submit the project with its defaults, from a workspace with nothing in it, as a user does."""
    from tests.submitting import command, job_name

    folder = tmp_path_factory.mktemp("submitted")
    standin_session.clear_faults()
    before, refused = len(standin_session.requests), len(standin_session.refused_hosts)
    done = standin_session.run(command("--yes", "--output-dir", folder / "outputs"), cwd=folder, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    job = job_name(done.stdout)
    return Submitted(
        job=job,
        out=done.stdout,
        err=done.stderr,
        outputs=folder / "outputs" / job,
        requests=standin_session.requests[before:],
        refused=standin_session.refused_hosts[refused:],
    )


@pytest.fixture(scope="session")
def remote(
    submitted: Submitted, standin_session: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Warm"]:
    """Run `submit/remote.py` with some arguments, in a workspace that is not empty: `tests.submitting.Warm`.

    At the end no secret may be in what any of the commands has said (submissions, refusals, downloads, deployments),
    nor in what the workspace keeps of their jobs: logs, documents, and all that MLflow was told.
    """
    from tests.submitting import Warm, jobs_kept

    said = tmp_path_factory.mktemp("said")
    warm = Warm(standin_session, said)
    yield warm
    warm.close()
    texts = {str(path): path.read_text(encoding="utf-8") for path in said.rglob("*") if path.is_file()}
    key = base64.b64encode(standin_session.folder.secret("account")).decode()
    for name, text in (texts | jobs_kept(standin_session)).items():
        assert key not in text, name
        assert not SECRET.search(text), name
