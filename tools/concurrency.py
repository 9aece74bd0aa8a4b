"""Start several runs at once on one store, and look at what they have left.

    uv run python tools/concurrency.py                               # 2, 4, 8 runs: a new SQLite file, a server
    uv run python tools/concurrency.py --postgres postgresql://me@127.0.0.1/empty    # and one with PostgreSQL

Every run must end well, each have a version of its own with a verdict, and the best model be champion.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import requests

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
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
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
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
    return wrong + _look(uri, name, count)


def _look(uri: str, name: str, count: int) -> list[str]:
    import mlflow

    from trainer import claims

    client = mlflow.MlflowClient(uri)
    versions = list(client.search_model_versions(f"name='{name}'"))
    wrong = [] if len(versions) == count else [f"{len(versions)} versions of {count} runs"]
    for version in versions:
        status = client.get_run(str(version.run_id)).info.status
        if status != "FINISHED" or version.tags.get("champion_verdict") in (None, "pending"):
            wrong.append(f"version {version.version} of a {status} run: {version.tags.get('champion_verdict')}")
        if version.tags.get(claims.TAG, "").endswith(claims.OPEN):
            wrong.append(f"version {version.version} still claims the place")
    champion = client.get_model_version_by_alias(name, "champion")
    best = min(float(version.tags["rmse"]) for version in versions)
    if float(champion.tags["rmse"]) > best:
        wrong.append(f"the champion has rmse {champion.tags['rmse']}, and the best version has {best}")
    return wrong


def main() -> int:
    """Run the command line; the exit code is 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", default="2,4,8", help="how many at once, separated by commas [2,4,8]")
    parser.add_argument("--postgres", metavar="URI", help="of an empty PostgreSQL database")
    given = parser.parse_args()
    found = 0
    with TemporaryDirectory(prefix="together-") as scratch:
        stores = {"SQLite file": "", "server with SQLite": f"sqlite:///{scratch}/served.db"}
        if given.postgres:
            stores["server with PostgreSQL"] = given.postgres
        for label, backend in stores.items():
            for count in map(int, given.runs.split(",")):
                folder = Path(scratch) / f"{label} {count}".replace(" ", "-")
                folder.mkdir()
                if backend:
                    with server(backend, folder) as address:
                        wrong = together(count, address, folder)
                else:
                    wrong = together(count, f"sqlite:///{folder}/new.db", folder)
                found += len(wrong)
                print(f"{label:<24} {count} runs: {'; '.join(wrong) or 'no violation'}", flush=True)
    print(f"{found} violations")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
