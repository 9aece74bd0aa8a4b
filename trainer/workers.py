"""Several processes that train one model, joined by XGBoost's own collective.

Whoever starts them says where each stands, as torchrun does and Azure Machine Learning's ``distribution: pytorch``: in
the environment variables WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT. Each reads its share of the table's row groups;
rank 0 alone speaks to MLflow.
"""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from socket import gaierror, gethostbyname
from time import monotonic, sleep
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer import files, stream, table
from trainer.errors import UserError
from trainer.readers import integer as whole_number

# How long a process waits for the others: to come, and, once they are there, to say something. Nodes start minutes
# apart, and shares are read at different speeds. A process that ends is noticed at once, by its closed sockets.
JOIN_SECONDS = 300
SILENCE_SECONDS = 300
# XGBoost's own tries to connect come with pauses that grow, and it makes them again to report the loss of process 0 to
# process 0. So it gets one, and to wait for process 0 at the start it is asked again.
RETRIES = 1
PAUSE_SECONDS = 0.5
# Of an error that one process tells the others.
MESSAGE_BYTES = 4096

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that train together.

    Attributes
    ----------
    rank, size : int
    address : str
        Of rank 0: a host name or an IP address.
    port : int
    """

    rank: int
    size: int
    address: str
    port: int

    @property
    def leads(self) -> bool:
        """Whether it is the one that speaks to MLflow."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"process {self.rank} of {self.size}"


def place() -> Place | None:
    """Read the environment; None where this process trains alone.

    Raises
    ------
    UserError
        The variables do not fit together.
    """

    def variable(name: str, text: str, low: int, high: int | None = None) -> int:
        remedy = "unset WORLD_SIZE to train in one process"
        return whole_number(f"the environment variable {name}", text, low, high, remedy=remedy)

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


@dataclass(frozen=True)
class Share:
    """What one process is to read of a table.

    Attributes
    ----------
    location : files.Location
    layout : stream.Layout
        With this process's row groups alone.
    features, key : list of str
    target : str
    """

    location: files.Location
    layout: stream.Layout
    features: list[str]
    target: str
    key: list[str]


def share(data: str, target: str, key: Sequence[str], columns: Sequence[str] | None, own: Place) -> Share:
    """Give a process every `size`-th row group of a table, beginning with the `rank`-th.

    The parameters are those of `trainer.table.read`.

    Raises
    ------
    UserError
        There are too few row groups, or columns that are no numbers. Every process sees this for itself in the files'
        metadata, before any waits for another.
    """
    location = files.locate(data)
    try:
        layout = stream.look(location)
        features = table.feature_names(layout.schema.names, target, key, columns, data)
        stream.types_of(layout, features, target)
    except stream.NotStreamableError as error:
        raise _not_numbers(data, str(error)) from error
    groups = len(layout.pieces)
    if groups < own.size:
        held = f"{groups} row group{'s' if groups > 1 else ''}" if groups else "CSV"
        raise UserError(
            f"{own.size} processes need {own.size} row groups of Parquet or more, and {data} has {held}",
            "write it with smaller row groups: frame.to_parquet(..., row_group_size=ROWS); or use fewer processes",
        )
    own_layout = replace(layout, pieces=layout.pieces[own.rank :: own.size])
    return Share(location, own_layout, features, target, list(key))


def _not_numbers(data: str, why: str) -> UserError:
    return UserError(
        f"several processes read numbers from Parquet, and {data} holds something else{f': {why}' if why else ''}",
        "leave that out with columns=..., turn it into numbers, or use one process",
    )


@dataclass(frozen=True)
class Team:
    """The processes, once they have found each other. Each calls the same methods in the same order."""

    place: Place

    def sum(self, values: Any) -> Floats:
        """Add numbers up over the processes."""
        return self._reduce(values, "SUM")

    def tally(self, own: stream.Tally) -> stream.Tally:
        """Add up what was counted while the shares were read; row numbers are those of the whole table."""
        rows, *counts = self.sum([own.rows, *own.missing, *own.infinite])
        missing, infinite = np.array_split(np.array(counts, dtype=np.int64), 2)
        firsts = self._reduce([*own.first_missing, *own.first_infinite, own.low, -own.high], "MIN")
        first_missing, first_infinite = np.array_split(np.minimum(firsts[:-2], 2.0**62).astype(np.int64), 2)
        return stream.Tally(int(rows), missing, infinite, first_missing, first_infinite, firsts[-2], -firsts[-1])

    @contextmanager
    def sharing_errors(self) -> Iterator[None]:
        """Make the `UserError` of one process everyone's, so that none waits for one that has given up."""
        try:
            yield
        except UserError as error:
            self._agree(error)
            raise
        self._agree(None)

    def _agree(self, error: UserError | None) -> None:
        # by sums alone: a broadcast does not notice that its sender has gone
        first = int(self._reduce([self.place.size if error is None else self.place.rank], "MIN")[0])
        if first == self.place.size:
            return
        letters = np.zeros(MESSAGE_BYTES)
        if error is not None and first == self.place.rank:
            text = f"{error.cause}\n{error.remedy}".encode()[:MESSAGE_BYTES]
            letters[: len(text)] = np.frombuffer(text, dtype=np.uint8)
        told = bytes(self.sum(letters).astype(np.uint8)).rstrip(b"\0").decode(errors="replace")
        raise UserError(*told.split("\n", 1))

    def _reduce(self, values: Any, operation: str) -> Floats:
        from xgboost import collective

        return collective.allreduce(np.asarray(values, dtype=np.float64), collective.Op[operation])


@contextmanager
def joined(own: Place) -> Iterator[Team]:
    """Find the other processes, and stay with them for as long as the block lasts.

    Raises
    ------
    UserError
        They do not come, or one of them is lost.
    """
    from xgboost import collective, config_context
    from xgboost.core import XGBoostError

    met = False
    tracker = None
    try:
        with config_context(verbosity=0), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="xgboost")  # each try to connect
            address = gethostbyname(own.address)
            if own.leads:
                tracker = _tracker(own, address)
            _meet(own, address)
            met = True
            try:
                yield Team(own)
            except BaseException:
                with suppress(XGBoostError):  # the others may have gone already, with the same error
                    collective.finalize()
                raise
            collective.finalize()
            if tracker is not None:
                tracker.wait_for(SILENCE_SECONDS)
    except (XGBoostError, gaierror) as error:
        if isinstance(error, XGBoostError) and "collective" not in str(error) and "rabit" not in str(error):
            raise
        raise _lost(own) if met else _alone(own, error) from error
    finally:
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
                dmlc_timeout=SILENCE_SECONDS,
            )
        except XGBoostError:
            if own.leads or monotonic() > deadline:
                raise
            sleep(PAUSE_SECONDS)
        else:
            return


def _tracker(own: Place, address: str) -> Any:
    """Start what introduces the processes to each other. Inside a container the address may belong to its host."""
    from xgboost.core import XGBoostError
    from xgboost.tracker import RabitTracker

    hosts = [address] if ip_address(address).is_loopback else [address, "0.0.0.0"]
    for host in hosts:
        try:
            tracker = RabitTracker(own.size, host, own.port, sortby="task", timeout=JOIN_SECONDS)
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


def _lost(own: Place) -> UserError:
    return UserError(
        f"{own} has lost another one: it was ended, or its machine was, and a model cannot be trained without it",
        "look at the log of the process that ended first, then run all of them again",
    )


def _alone(own: Place, error: Exception) -> UserError:
    where = f"{own.address}:{own.port}"
    if own.leads:
        what = f"{own} waited for the others at {where}, and they did not come"
    else:
        what = f"{own} did not find process 0 at {where}"
    reason = (str(error).splitlines() or [""])[-1].strip() if isinstance(error, gaierror) else ""
    return UserError(
        f"{what}{f': {reason}' if reason else ''}",
        "start all of them with the same MASTER_ADDR and MASTER_PORT, on a port that is free and open between them",
    )


def read(team: Team, own: Share, test_fraction: float) -> tuple[table.About, table.Rows, table.Rows]:
    """Read a process's share, check the whole table, and split the share by the rows' hashes.

    Returns
    -------
    table.About
        Of the whole table; its source is left to the process that leads.
    table.Rows, table.Rows
        The training rows and the test rows of this share.

    Raises
    ------
    UserError
        In every process, where one of them cannot use its share, or a model cannot be trained on the table.
    """
    data = own.location.data
    with team.sharing_errors():
        try:
            streamed = stream.read(own.location, own.layout, own.features, own.target, own.key)
        except stream.NotStreamableError as error:
            raise _not_numbers(data, str(error)) from error
    tally = team.tally(streamed.tally)
    table.check_tally(tally, own.features, own.target, data)
    gapped = {name for name, missing in zip(own.features, tally.missing, strict=False) if missing}
    types = {name: "float64" if name in gapped else kind for name, kind in streamed.types.items()}
    part = table.from_stream(streamed, own.features, bool(own.key), files.Source(data, "", 0))
    with team.sharing_errors():
        sides = table.split(part, "stable", test_fraction, seed=0, fewest=1)
    training, test = table.divide(part, sides)
    return table.About(part.source, tally.rows, len(own.features), types), training, test


def metrics(team: Team, actual: Floats, predicted: Floats, train_target: Floats) -> dict[str, float]:
    """Measure the predictions of all processes' test rows, exactly: by the sums of each one's.

    Parameters
    ----------
    team : Team
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
    n_train, train_sum, n_test, test_sum, absolute, squared = team.sum(
        [len(train_target), train_target.sum(), len(actual), actual.sum(), np.abs(errors).sum(), (errors**2).sum()]
    )
    around_mean, around_baseline = team.sum(
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
