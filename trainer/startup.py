"""What makes a small run start fast. Import it before any other library.

Most of a small run is the import of libraries. The collector would walk through their objects again and again to find
all of them in use; OpenBLAS lets its idle threads spin for 2**26 cycles after each product, and the threads of boosting
spin for one another, which takes up to ten times the CPU where the machine has other work; skops searches every
module that is loaded by then; and imports that start from a shallow stack are cheaper. Together that is two fifths of
the run. On a large table, pyarrow's own allocator keeps tens of megabytes that it does not need.
"""

import gc
import os
import sys
from typing import NoReturn

from trainer import signals

signals.tell_instead_of_traceback()
gc.set_threshold(1_000_000, 50, 50)
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "10")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # mlflow's git: a machine without git is told once, by us

try:
    import sklearn  # noqa: F401  # isort: skip
    import skops.io  # noqa: F401  # isort: skip
except ModuleNotFoundError as error:
    print(f"error: this Python has no package {error.name!r}, which the project needs", file=sys.stderr)
    print(f"  fix: uv run python {' '.join(sys.argv) or 'train.py'}", file=sys.stderr)
    sys.exit(2)


def leave(exit_code: int) -> NoReturn:
    """End the process; without the last look for garbage before everything is thrown away."""
    gc.freeze()
    sys.exit(exit_code)
