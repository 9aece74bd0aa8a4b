"""MLflow's own server over one sqlite file, in one process.

`mlflow server` starts processes that import mlflow again, and makes the tables of an empty store by every migration
there has been. Here one process serves the same application, on a copy of a store that was made once. It is run as a
script, and without collecting garbage before it serves: importing is most of what it does.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any


def template(cache: Path, artifacts: str) -> Path:
    """Return a store without runs, made first if this version of MLflow has none yet."""
    import fcntl  # not on Windows

    path = cache / f"mlflow-{version('mlflow')}-{version('sqlalchemy')}.db"
    cache.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            partial = path.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            store: Any = SqlAlchemyStore(f"sqlite:///{partial}", artifacts)  # type: ignore[no-untyped-call]
            store.engine.dispose()
            partial.replace(path)
    return path


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="mlflow_server.py")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--template", type=Path, required=True, help="the folder of stores without runs")
    parser.add_argument("--artifacts", required=True, help="the address below which the artifacts of runs are")
    options = parser.parse_args()
    gc.disable()
    if not options.store.exists():
        partial = options.store.with_suffix(".partial")
        shutil.copyfile(template(options.template, options.artifacts), partial)
        partial.replace(options.store)
    uri = f"sqlite:///{options.store}"
    os.environ |= {"_MLFLOW_SERVER_FILE_STORE": uri, "_MLFLOW_SERVER_REGISTRY_STORE": uri}
    os.environ |= {"_MLFLOW_SERVER_ARTIFACT_ROOT": options.artifacts}
    from mlflow.server import app, handlers
    from werkzeug.serving import make_server

    handlers._get_tracking_store()  # a store that cannot be opened is told now, not at the first request
    gc.freeze()
    gc.enable()
    make_server("127.0.0.1", options.port, app, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
