"""Several processes that train one model, joined by XGBoost's own collective.

Whoever starts them says where each stands, as torchrun does and Azure Machine Learning's ``distribution: pytorch``: in
the environment variables WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT. Each reads its share of the table's row groups
(`trainer.table.load`); rank 0 alone speaks to MLflow.
"""

import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from socket import gaierror, gethostbyname
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainer import formats, reading, table
from trainer.errors import UserError
from trainer.group import ALONE
from trainer.heartbeat import Heartbeat, LostError
from trainer.readers import integer
from trainer.roles import assign
from trainer.settings import check_distributed

if TYPE_CHECKING:
    from trainer.group import Group
    from trainer.settings import Settings

# Nodes start minutes apart: so long a process waits for the others to come, and says so now and then.
JOIN_SECONDS = 300
TELL_SECONDS = 30
# Whether the others are alive is seen by their heartbeat, so that one may read, or fit, for as long as it takes.
PATIENCE_SECONDS = 7 * 24 * 3600
# XGBoost's own tries to connect come with pauses that grow, and it makes them again to report the loss of process 0 to
# process 0. So it gets one, and to wait for process 0 at the start it is asked again.
RETRIES = 1
PAUSE_SECONDS = 0.5
# What a process may take to say by itself that another one is lost; then it is ended.
GRACE_SECONDS = 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that train together; `address` and `port` are those of rank 0."""

    rank: int
    world_size: int
    address: str
    port: int

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world_size}"


def place() -> Place | None:
    """Read the environment; None where this process trains alone.

    Raises
    ------
    UserError
        The variables do not fit together.
    """

    def variable(name: str, text: str, low: int, high: int | None = None) -> int:
        remedy = "unset WORLD_SIZE to train in one process"
        return integer(f"the environment variable {name}", text, low, high, remedy=remedy)

    size = variable("WORLD_SIZE", os.environ.get("WORLD_SIZE") or "1", low=1)
    if size == 1:
        return None
    found = {name: os.environ.get(name, "") for name in ("RANK", "MASTER_ADDR", "MASTER_PORT")}
    if missing := [name for name, text in found.items() if not text]:
        raise UserError(
            f"WORLD_SIZE={size} asks for several processes, and {' and '.join(missing)} is not set",
            "set RANK, MASTER_ADDR and MASTER_PORT too, or unset WORLD_SIZE to train in one process",
        )
    rank = variable("RANK", found["RANK"], low=0, high=size - 1)
    port = variable("MASTER_PORT", found["MASTER_PORT"], low=1, high=65535)
    return Place(rank, size, found["MASTER_ADDR"], port)


def check(asked: "Settings", own: Place | None) -> None:
    """Refuse what several processes cannot do, in each of them, before any waits for another."""
    if own is not None:
        check_distributed(asked, own.world_size)
        check_share(asked, own)


def check_share(settings: "Settings", own: Place) -> None:
    """Refuse, before any process waits for another, a table that they cannot share; each sees it in the metadata."""
    location = formats.locate(settings.data)
    with reading.opened(location, group=ProcessGroup(own)) as found:
        table.check_share(found, assign(found.names, found.schema, settings, location.data))


@dataclass(frozen=True)
class ProcessGroup:
    """The processes, once they have found each other (`trainer.group.Group`)."""

    place: Place
    heartbeat: Heartbeat | None = None

    @property
    def rank(self) -> int:
        """Which of them this one is."""
        return self.place.rank

    @property
    def world_size(self) -> int:
        """How many they are."""
        return self.place.world_size

    def sum(self, values: Any) -> Floats:
        """Add numbers up over the processes."""
        return self._reduce(values, "SUM")

    def least(self, values: Any) -> Floats:
        """Take the least of each number over the processes."""
        return self._reduce(values, "MIN")

    @contextmanager
    def sharing_errors(self) -> Iterator[None]:
        """Make the `UserError` of one process everyone's, so that none waits for one that has given up."""
        try:
            yield
        except LostError:
            raise
        except UserError:
            self._first_failure(True)
            raise
        if (failed := self._first_failure(False)) < self.world_size:
            raise UserError(
                f"process {failed} of {self.world_size} cannot go on, and no model is trained without it",
                f"see what process {failed} says",
            )

    def check(self) -> None:
        """Raise if another process is lost."""
        if self.heartbeat is not None:
            self.heartbeat.check()

    def _first_failure(self, own: bool) -> int:
        # a sum of zeros and least ranks: a broadcast does not notice that its sender has gone
        return int(self.least([self.rank if own else self.world_size])[0])

    def _reduce(self, values: Any, operation: str) -> Floats:
        from xgboost import collective

        self.check()
        own = np.asarray(values, dtype=np.float64)
        return collective.allreduce(own, collective.Op[operation]) if own.size else own


def joined(own: Place | None, on_loss: Callable[[], None] | None = None) -> "AbstractContextManager[Group]":
    """Return the processes that train together, for as long as the block lasts; this one alone where there are none."""
    return nullcontext(ALONE) if own is None else process_group(own, on_loss)


@contextmanager
def process_group(own: Place, on_loss: Callable[[], None] | None = None) -> Iterator[ProcessGroup]:
    """Find the other processes, and stay with them for as long as the block lasts.

    A process that ends, or is stopped, ends the others within half a minute. One that is blocked in XGBoost cannot
    raise: then the two lines are written, and the process is ended, by a thread.

    Parameters
    ----------
    own : Place
    on_loss : callable or None
        Called before this process is ended in that way: to end its run, say.

    Raises
    ------
    UserError
        They do not come, or one of them is lost.
    """
    from xgboost import collective, config_context
    from xgboost.core import XGBoostError

    met = False
    tracker = None
    heartbeat = Heartbeat(own.rank, own.world_size)
    try:
        with config_context(verbosity=0), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="xgboost")  # each try to connect
            address = gethostbyname(own.address)
            if own.rank == 0:
                tracker = _tracker(own, address)
            with _waiting(own, on_loss):
                _meet(own, address)
                heartbeat.listen(address)
                port = int(-collective.allreduce(np.array([-float(heartbeat.port)]), collective.Op.MIN)[0])
            heartbeat.start(address, port, lambda who: _end(own, who, on_loss))
            met = True
            try:
                yield ProcessGroup(own, heartbeat)
                heartbeat.finish()
            except BaseException:
                with suppress(
                    XGBoostError
                ):  # the others may have gone already; if one is stopped, the heartbeat ends us
                    collective.finalize()
                raise
            collective.finalize()
            if tracker is not None:
                tracker.wait_for(TELL_SECONDS)
    except LostError as error:
        raise _lost(own, error.rank) from error
    except (XGBoostError, gaierror) as error:
        if isinstance(error, XGBoostError) and "collective" not in str(error) and "rabit" not in str(error):
            raise
        raise _lost(own, None) if met else _alone(own, error) from error
    finally:
        heartbeat.stop()
        if tracker is not None:
            _free(tracker)


def _meet(own: Place, address: str) -> None:
    """Connect to the tracker of process 0, which may start later than this one, and wait for the other processes."""
    from xgboost import collective
    from xgboost.core import XGBoostError

    deadline = monotonic() + JOIN_SECONDS
    while True:
        try:
            collective.init(
                dmlc_tracker_uri=address,
                dmlc_tracker_port=own.port,
                dmlc_task_id=f"{own.rank:06d}",  # the ranks of the collective are in its order
                dmlc_retry=RETRIES,
                dmlc_timeout=PATIENCE_SECONDS,
            )
        except XGBoostError:
            if own.rank == 0 or monotonic() > deadline:
                raise
            sleep(PAUSE_SECONDS)
        else:
            return


@contextmanager
def _waiting(own: Place, on_loss: Callable[[], None] | None) -> Iterator[None]:
    """Tell now and then that the others have not come; end this process if they never do, and XGBoost waits on."""
    met = threading.Event()
    begun = monotonic()

    def tell() -> None:
        while not met.wait(TELL_SECONDS):
            waited = monotonic() - begun
            if waited > JOIN_SECONDS + GRACE_SECONDS:
                _leave(_alone(own, None), on_loss)
            print(
                f"waiting     {own}: not all are there yet, {waited:.0f} of {JOIN_SECONDS} s",
                file=sys.stderr,
                flush=True,
            )

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        met.set()


def _end(own: Place, lost: int, on_loss: Callable[[], None] | None) -> None:
    """End a process whose main thread has not heard that another one is lost."""
    _leave(_lost(own, lost), on_loss)


def _leave(error: UserError, on_loss: Callable[[], None] | None) -> None:
    try:
        if on_loss is not None:
            on_loss()
    finally:
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_code)


def _tracker(own: Place, address: str) -> Any:
    """Start what introduces the processes to each other. Inside a container the address may belong to its host."""
    from xgboost.core import XGBoostError
    from xgboost.tracker import RabitTracker

    hosts = [address] if ip_address(address).is_loopback else [address, "0.0.0.0"]
    for host in hosts:
        try:
            tracker = RabitTracker(own.world_size, host, own.port, sortby="task", timeout=JOIN_SECONDS)
            tracker.start()
        except XGBoostError as error:
            found = re.search("system error:(.+)", str(error))
            if found is None:
                raise
            reason = found[1]
        else:
            return tracker
    raise UserError(
        f"{own} cannot listen at {address}:{own.port}: {reason}",
        "give all of them another MASTER_PORT, one that is free; one that was in use is free again after a minute",
    )


def _free(tracker: Any) -> None:
    """Stop a tracker. It would tell of the lost process once more; that has been said."""
    from xgboost.core import XGBoostError

    with suppress(XGBoostError):
        tracker.free()


def _lost(own: Place, rank: int | None) -> UserError:
    who = "another one" if rank is None else f"process {rank}"
    return UserError(
        f"{own} has lost {who}: it was ended or stopped, or its machine was, and a model cannot be trained without it",
        "look at the log of the process that ended first, then run all of them again",
    )


def _alone(own: Place, error: Exception | None) -> UserError:
    where = f"{own.address}:{own.port}"
    if own.rank == 0:
        what = f"{own} waited for the others at {where}, and they did not come"
    else:
        what = f"{own} did not find process 0 at {where}, or not all of the others came"
    reason = (str(error).splitlines() or [""])[-1].strip() if isinstance(error, gaierror) else ""
    return UserError(
        f"{what}{f': {reason}' if reason else ''}",
        "start all of them with the same MASTER_ADDR and MASTER_PORT, on a port that is free and open between them",
    )


def metrics(group: "Group", actual: Floats, predicted: Floats, train_target: Floats) -> dict[str, float]:
    """Measure the predictions of all processes' test rows, exactly: by the sums of each one's.

    Parameters
    ----------
    group : ProcessGroup
    actual, predicted : ndarray of shape (n_test,)
        Of this process.
    train_target : ndarray of shape (n_train,)
        Of this process.

    Returns
    -------
    dict
        As `trainer.evaluation.metrics`, and ``rows_train`` and ``rows_test`` over all processes.
    """
    errors = actual - predicted
    n_train, train_sum, n_test, test_sum, absolute, squared = group.sum(
        [len(train_target), train_target.sum(), len(actual), actual.sum(), np.abs(errors).sum(), (errors**2).sum()]
    )
    around_mean, around_baseline = group.sum(
        [((actual - test_sum / n_test) ** 2).sum(), ((actual - train_sum / n_train) ** 2).sum()]
    )
    mse = float(squared / n_test)
    return {
        "rmse": mse**0.5,
        "mae": float(absolute / n_test),
        "mse": mse,
        "r2": float(1 - squared / around_mean) if around_mean else 0.0,
        "baseline_rmse": float(around_baseline / n_test) ** 0.5,
        "rows_train": int(n_train),
        "rows_test": int(n_test),
    }
