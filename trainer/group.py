"""What the rows of a table are shared among: one process, or several that are asked alike (`trainer.distributed`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Group(Protocol):
    """Processes that each hold some rows; each calls the same methods in the same order."""

    @property
    def rank(self) -> int:
        """Which of them this one is."""

    @property
    def world_size(self) -> int:
        """How many they are."""

    def sum(self, values: Any) -> Floats:
        """Add numbers up over the processes."""

    def least(self, values: Any) -> Floats:
        """Take the least of each number over the processes."""

    def sharing_errors(self) -> Any:
        """Make what the user has to fix in one process everyone's, for as long as the block lasts."""

    def check(self) -> None:
        """Raise if another process is lost."""


@dataclass(frozen=True)
class _Alone:
    rank: int = 0
    world_size: int = 1

    def sum(self, values: Any) -> Floats:
        return np.asarray(values, dtype=np.float64)

    def least(self, values: Any) -> Floats:
        return np.asarray(values, dtype=np.float64)

    @contextmanager
    def sharing_errors(self) -> Iterator[None]:
        yield

    def check(self) -> None:
        """There is nobody to lose."""


ALONE: Group = _Alone()
