"""Rehearse a deployment: the model served as Azure Machine Learning serves it, without Azure.

    python -m tools.rehearse_deploy --model models:/diabetes-progression@champion
    make rehearse-deploy ARGS="--model outputs/my-job/models"

The environment is built from the model's own conda.yaml and nothing else, the server in it is Microsoft's, the
rows that were recorded with the model are posted to it and to `mlflow models serve`, and the answers are compared with
what was predicted on the day of training. Needs uv and a package index. Exit code 0: the same; 1: they differ.
"""

import argparse
import hashlib
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests
import yaml

from trainer import model_folder, registry
from trainer.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
SCORE_SCRIPT = ROOT / "tools" / "score_script.py"
TOLERANCE = 1e-9
# `azmlinfsrv` as it is, but for this machine alone.
ON_THIS_MACHINE = (
    "import sys; from azureml_inference_server_http import constants; constants.DEFAULT_HOST = '127.0.0.1'; "
    "from azureml_inference_server_http.amlserver import run; sys.exit(run())"
)
UP_SECONDS = 300
STOP_SECONDS = 10
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlflow-trainer" / "serving"


@dataclass(frozen=True)
class Answered:
    """How a server did: seconds until it answered at all, and how far its predictions are from the recorded ones."""

    server: str
    up_seconds: float
    rows: int
    largest_relative: float

    def __str__(self) -> str:
        return (
            f"{self.server:<22} up in {self.up_seconds:.1f} s, {self.rows} recorded rows, "
            f"largest relative difference {self.largest_relative:.3g}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Rehearse, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models:/diabetes-progression@champion", help="a URI of MLflow, or a folder")
    parser.add_argument("--python", type=Path, help="of an environment that is there already; else one is built")
    given = parser.parse_args(arguments)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        with registry.fetched(given.model) as folder, TemporaryDirectory() as scratch:
            python = given.python or build(folder)
            print(f"environment  {python.parent.parent}")
            recorded = model_folder.read_recorded(folder, name=given.model)
            answered = [
                azure(folder.resolve(), python, recorded, Path(scratch)),
                mlflow_serve(folder.resolve(), python, recorded, Path(scratch)),
            ]
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for one in answered:
        print(one)
    agrees = all(one.largest_relative <= TOLERANCE for one in answered)
    print(f"{given.model}: {'the same answers' if agrees else 'OTHER answers'} as on the day of training")
    return 0 if agrees else 1


def build(folder: Path) -> Path:
    """Build the environment of a deployment of a model, once for each list of packages, and return its Python.

    Raises
    ------
    UserError
        The packages cannot be installed together.
    """
    version, pins = _named(folder)
    home = CACHE / hashlib.sha256("\n".join((version, *pins)).encode()).hexdigest()[:16]
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if (home / "complete").is_file():
        return python
    for command in (
        ["uv", "venv", "--quiet", "--clear", "--python", version, str(home)],
        ["uv", "pip", "install", "--quiet", "--python", str(python), *pins],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            telling = [line for line in lines if not line.startswith(("hint:", "warning:"))] or lines or [""]
            cause = f"the environment cannot be built: {' '.join(telling)[:500]}"
            raise UserError(cause, f"run it by hand: {shlex.join(command)}")
    (home / "complete").touch()
    return python


def _named(folder: Path) -> tuple[str, list[str]]:
    """Read the version of Python and the packages of a model's conda.yaml."""
    path = folder / "conda.yaml"
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
        version = next(one.partition("=")[2] for one in listed if isinstance(one, str) and one.startswith("python="))
        return version, next(one["pip"] for one in listed if isinstance(one, dict))
    except (OSError, TypeError, KeyError, StopIteration, yaml.YAMLError) as error:
        raise UserError(f"{path} does not name Python and packages", "train the model again") from error


def microsofts_server(python: Path, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command of Microsoft's server for a model folder, and the variables that it needs."""
    ports = ["--port", str(port), "--health_port", str(port)]
    command = [str(python), "-c", ON_THIS_MACHINE, "--entry_script", str(SCORE_SCRIPT), *ports]
    return command, {"AZUREML_MODEL_DIR": str(folder.parent), "MLFLOW_MODEL_FOLDER": folder.name}


def azure(folder: Path, python: Path, recorded: model_folder.Recorded, scratch: Path) -> Answered:
    """Serve a model with Microsoft's server, post its recorded rows, and compare the answers."""
    port = _free_port()
    command, environment = microsofts_server(python, folder, port)
    with _running(command, {**environment, "HOME": str(scratch)}, f"http://127.0.0.1:{port}/", scratch) as seconds:
        body = {"input_data": {**_split(recorded), "index": list(range(len(recorded.rows)))}}
        answer = _post(f"http://127.0.0.1:{port}/score", body)
        swagger = requests.get(f"http://127.0.0.1:{port}/swagger.json?version=3", timeout=UP_SECONDS)
        swagger.raise_for_status()
    return Answered("azmlinfsrv", seconds, len(recorded.rows), _difference(answer, recorded))


def mlflow_serve(folder: Path, python: Path, recorded: model_folder.Recorded, scratch: Path) -> Answered:
    """Serve a model with `mlflow models serve`, post its recorded rows, and compare the answers."""
    port = _free_port()
    serve = ["models", "serve", "--env-manager", "local", "-m", str(folder), "-h", "127.0.0.1", "-p", str(port)]
    command = [str(python), "-m", "mlflow", *serve]
    path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with _running(command, {"PATH": path}, f"http://127.0.0.1:{port}/ping", scratch) as seconds:
        answer = _post(f"http://127.0.0.1:{port}/invocations", {"dataframe_split": _split(recorded)})
    return Answered("mlflow models serve", seconds, len(recorded.rows), _difference(answer["predictions"], recorded))


@contextmanager
def _running(command: list[str], environment: Mapping[str, str], health: str, scratch: Path) -> Iterator[float]:
    """Run a server as long as the block lasts; yield the seconds until it answered."""
    log = scratch / "server.log"
    surroundings = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **environment}
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=scratch, env=surroundings, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while not _answers(health):
            if process.poll() is not None or time.monotonic() - started > UP_SECONDS:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
                print(tail, file=sys.stderr)
                raise UserError("the server did not come up; its last lines are above", f"run {' '.join(command[:3])}")
            time.sleep(0.2)
        yield time.monotonic() - started
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server and its workers, which are its process group."""
    if os.name == "nt":
        process.terminate()
    else:
        os.killpg(process.pid, 15)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False


def _post(url: str, body: Mapping[str, Any]) -> Any:
    answer = requests.post(url, json=body, timeout=UP_SECONDS)
    if answer.status_code != 200:
        raise UserError(f"the server refused the recorded rows: {answer.status_code} {answer.text[:300]}", "see above")
    return answer.json()


def _split(recorded: model_folder.Recorded) -> dict[str, Any]:
    return {"columns": list(recorded.rows.columns), "data": recorded.rows.to_numpy(dtype=object).tolist()}


def _difference(answer: Any, recorded: model_folder.Recorded) -> float:
    predicted = np.asarray(answer, dtype=np.float64).reshape(-1)
    return model_folder.Agreement(recorded.predictions, predicted, {}).largest_relative


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
