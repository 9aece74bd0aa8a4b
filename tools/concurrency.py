"""Start several runs at once on one new store, and look at what they have left.

    uv run python tools/concurrency.py                               # 2, 4, 8 runs: a new SQLite file, a server
    uv run python tools/concurrency.py --runs 2,4 --rounds 3
    uv run python tools/concurrency.py --postgres postgresql+psycopg2://me@127.0.0.1/postgres    # and one on PostgreSQL

Every run must end well, each have a version of its own with a verdict, numbered from 1 without gaps, and the best model
be champion. On PostgreSQL, each store is a database that is created for it and dropped afterwards.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import requests
from mlflow.exceptions import MlflowException

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from trainer import claims, registry  # noqa: E402

FILE, SERVED_FILE, POSTGRES, SERVED_POSTGRES = KINDS = (
    "SQLite",
    "server on SQLite",
    "PostgreSQL",
    "server on PostgreSQL",
)
# The first is better than the others beyond chance; they take turns in the order of starting.
ALPHAS = ("1", "1000", "300", "5000")
SECONDS = 600


@contextmanager
def server(backend: str, folder: Path) -> Iterator[str]:
    """Serve a store on a free port of this machine, for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", backend, "--artifacts-destination", str(folder / "artifacts")]
    with open(folder / "server.log", "w") as log:
        # its six processes for jobs would take the CPU of what is looked at
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield _answering(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(60)


def _answering(address: str, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if requests.get(f"{address}/health", timeout=5).ok:
                return address
        except requests.RequestException:
            time.sleep(0.5)
    raise SystemExit(f"the server at {address} does not answer")


@contextmanager
def database(address: str, name: str) -> Iterator[str]:
    """Create an empty PostgreSQL database beside the one of an address, for as long as the block lasts."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(address, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f'create database "{name}"'))
            try:
                yield engine.url.set(database=name).render_as_string(hide_password=False)
            finally:
                connection.execute(sqlalchemy.text(f'drop database "{name}" with (force)'))
    finally:
        engine.dispose()


@contextmanager
def stores(kind: str, postgres: str, folder: Path) -> Iterator[str]:
    """Give the address of a new store of a kind."""
    with ExitStack() as stack:
        if kind == FILE:
            yield f"sqlite:///{folder}/new.db"
        elif kind == SERVED_FILE:
            yield stack.enter_context(server(f"sqlite:///{folder}/served.db", folder))
        else:
            backend = stack.enter_context(database(postgres, folder.name))
            yield backend if kind == POSTGRES else stack.enter_context(server(backend, folder))


def together(count: int, uri: str, folder: Path) -> list[str]:
    """Start runs at once; return what is wrong afterwards."""
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    name = f"together-{count}"
    running = []
    for number in range(count):
        command = [sys.executable, str(ROOT / "train.py"), f"--data={ROOT / 'data/diabetes.csv'}", "--cv=0"]
        command += [f"--model-name={name}", f"--alpha={ALPHAS[(number + 1) % len(ALPHAS)]}", f"--seed={number}"]
        running.append(
            subprocess.Popen(
                command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
    said = [process.communicate(timeout=SECONDS)[0] for process in running]
    wrong = [f"exit code {p.returncode}: {text[-300:]}" for p, text in zip(running, said, strict=True) if p.returncode]
    try:
        return wrong + look(uri, name, count)
    except MlflowException as error:
        return [*wrong, f"the store cannot be read: {str(error).splitlines()[0]}"]


def look(uri: str, name: str, count: int) -> list[str]:
    """Say what is wrong with a registered model that so many runs have made."""
    client = mlflow.MlflowClient(uri)
    versions = sorted(client.search_model_versions(f"name='{name}'"), key=lambda version: int(version.version))
    numbers = [int(version.version) for version in versions]
    wrong = [] if numbers == list(range(1, count + 1)) else [f"versions {numbers} of {count} runs"]
    for version in versions:
        status = client.get_run(str(version.run_id)).info.status
        if status != "FINISHED" or version.tags.get(registry.VERDICT) in (None, registry.PENDING):
            wrong.append(f"version {version.version} of a {status} run: {version.tags.get(registry.VERDICT)}")
    wrong += [f"version {number} still claims the place" for number in claims.open_ones(versions)]
    if not versions:
        return wrong
    champion = registry.find_champion(client, name)
    best = min(float(version.tags["rmse"]) for version in versions)
    if champion.version is None:
        wrong.append(f"there is no champion {champion.remark}")
    elif float(champion.version.tags["rmse"]) > best:
        wrong.append(f"the champion has rmse {champion.version.tags['rmse']}, and the best version has {best}")
    return wrong


def main() -> int:
    """Run the command line; the exit code is 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", default="2,4,8", help="how many at once, separated by commas [2,4,8]")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="how often each is tried [1]")
    parser.add_argument("--only", default=",".join(KINDS), metavar="KINDS", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--postgres", metavar="URI", help="of a PostgreSQL database beside which others can be created")
    given = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    kinds = [kind for kind in given.only.split(",") if given.postgres or kind in (FILE, SERVED_FILE)]
    table, found = [], 0
    with TemporaryDirectory(prefix="together-") as scratch:
        for kind in kinds:
            for count in map(int, given.runs.split(",")):
                violations = 0
                for number in range(given.rounds):
                    folder = Path(scratch) / f"{Path(scratch).name}-{kind}-{count}-{number}".replace(" ", "-")
                    folder.mkdir()
                    with stores(kind, given.postgres, folder) as uri:
                        wrong = together(count, uri, folder)
                    for sentence in wrong:
                        print(f"{kind}, {count} runs, round {number + 1}: {sentence}", flush=True)
                    violations += len(wrong)
                table.append(f"{kind:<22} {count:>4} {given.rounds:>6} {count * given.rounds:>5} {violations:>10}")
                print(table[-1], flush=True)
                found += violations
    print("\n".join(["", f"{'store':<22} {'once':>4} {'rounds':>6} {'runs':>5} {'violations':>10}", *table]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
