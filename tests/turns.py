"""A registry on which runs take turns, one request each, in an order that a seed draws and nothing else decides."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

import mlflow
import numpy as np
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from trainer import claims, comparison, promotion, recording, registry
from trainer.comparison import Challenger, Comparison, Gain, Verdict


class Killed(BaseException):
    """A run ends here, and says nothing more: no `except` of the code that runs may notice."""


class Turns:
    """Runs that take turns: each goes on for one request, and drawn numbers say which one is next.

    Either any of those that are left, with the same chance; or always the one that comes first in a drawn order, which
    changes at a few drawn moments: what goes wrong only where one run is stopped for long, at the wrong place, is found
    by the second (Burckhardt and others, A Randomized Scheduler with Probabilistic Guarantees, 2010). `killed` names a
    run and the request before which it is killed.
    """

    def __init__(self, runs: list[Callable[[], None]], seed: int, killed: tuple[int, int] | None = None) -> None:
        self.random = np.random.default_rng(seed)
        self.order = self.random.permutation(len(runs)).tolist() if seed % 2 else []
        self.changes = set(self.random.integers(1, 16 * len(runs), size=4).tolist())
        self.here = threading.Semaphore(0)
        self.gates = [threading.Semaphore(0) for _ in runs]
        self.own = threading.local()
        self.alive = set(range(len(runs)))
        self.errors: list[BaseException] = []
        self.killed, self.requests = killed, [0 for _ in runs]
        self.threads = [
            threading.Thread(target=self._run, args=(n, run), name=f"run {n}") for n, run in enumerate(runs)
        ]

    def _run(self, number: int, run: Callable[[], None]) -> None:
        self.own.number = number
        self.gates[number].acquire()
        try:
            run()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - `play` tells it
            self.errors.append(error)
        self.alive.discard(number)
        self.here.release()

    def pause(self) -> None:
        """Let another run go on."""
        self.here.release()
        self.gates[self.own.number].acquire()
        self.requests[self.own.number] += 1
        if (self.own.number, self.requests[self.own.number]) == self.killed:
            raise Killed

    def _next(self, turn: int) -> int:
        if not self.order:
            return int(self.random.choice(sorted(self.alive)))
        first: int = next(number for number in self.order if number in self.alive)
        if turn in self.changes:
            self.order.remove(first)
            self.order.append(first)
        return first

    def play(self) -> None:
        """Let all runs come to their ends."""
        for thread in self.threads:
            thread.start()
        turn = 0
        while self.alive:
            turn += 1
            self.gates[self._next(turn)].release()
            self.here.acquire()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors


@dataclass
class Registry:
    """A registry of one model, which lets other runs go on before it does what it is asked: requests take a while."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)
    has_aliases: bool = True
    pause: Callable[[], None] = lambda: None

    def _version(self, number: str) -> Any:
        return SimpleNamespace(version=number, tags=dict(self.tags[number]))

    def get_registered_model(self, _: str) -> Any:
        self.pause()
        return SimpleNamespace(aliases=dict(self.alias))

    def get_model_version(self, _: str, number: str) -> Any:
        self.pause()
        return self._version(number)

    def search_model_versions(self, *_: Any, **__: Any) -> Any:
        class Page(list[Any]):
            token = None

        self.pause()
        return Page(self._version(number) for number in self.tags)

    def set_model_version_tag(self, _: str, number: str, key: str, text: str) -> None:
        self.pause()
        self.tags[number][key] = text

    def set_registered_model_alias(self, _: str, alias: str, number: str) -> None:
        self.pause()
        if not self.has_aliases:
            raise mlflow.MlflowException("", RESOURCE_DOES_NOT_EXIST)
        self.alias[alias] = number


class Clock(datetime):
    """What each run takes for the present: the clocks of two machines differ, and each look at one takes a while."""

    ahead: ClassVar[dict[str, float]] = {}
    looks: ClassVar[dict[str, int]] = {}

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Clock":
        """Return a moment of this run's clock: it depends on nothing but how often it was asked."""
        run = threading.current_thread().name
        cls.looks[run] = cls.looks.get(run, 0) + 1
        return cls(2026, 1, 1, tzinfo=tz) + timedelta(milliseconds=cls.ahead.get(run, 0.0) + 7 * cls.looks[run])


@contextmanager
def simplified() -> Iterator[None]:
    """Compare versions by their figures, leave out what is for a real server, and let no clock decide."""

    @contextmanager
    def said(*_: Any, **__: Any) -> Iterator[None]:
        yield

    def optional(_: str, call: Callable[[], object]) -> bool:
        try:
            call()
        except mlflow.MlflowException:
            return False
        return True

    def measure(_: Any, before: Any, after: Any, *__: Any) -> Gain:
        its, own = float(before[0]), float(after[0])
        return Gain(99, its, own, its - own - 0.5, its - own + 0.5, 99)

    def against(challenger: Challenger, champion: Any) -> Comparison:
        its = np.array([float(champion.tags["rmse"])])
        gain = measure(None, its, challenger.predicted)
        return Comparison(Verdict(gain.is_proven, "measured", gain), str(champion.version), its)

    with ExitStack() as stack:
        for module in (registry, recording):
            stack.enter_context(patch.object(module, "said_to_server", said))
        stack.enter_context(patch.object(registry, "optional", optional))
        stack.enter_context(patch.object(registry, "datetime", Clock))
        stack.enter_context(patch.object(comparison, "against", against))
        stack.enter_context(patch.object(comparison, "measure", measure))
        yield


TEST: Any = SimpleNamespace(target=None, groups=None)


def contestant(client: Any, number: str, rmse: float) -> Verdict:
    """Do what a run does that registers a version of this rmse."""
    client.tags[number] = {"rmse": repr(rmse)}
    challenger = Challenger("m", number, client.tags[number], {}, TEST, np.array([rmse]), 0)
    compared = comparison.against_champion(client, challenger)
    return promotion.contest(client, challenger, compared) if compared.verdict.promoted else compared.verdict


def play(
    rmses: list[float], seed: int, has_aliases: bool = True, killed: tuple[int, int] | None = None
) -> tuple[Registry, dict[str, Verdict]]:
    """Let one run a figure compare itself with the champion, version 1 of rmse 100, and contest its place."""
    client: Any = Registry({"1": {"rmse": "100"}}, has_aliases=has_aliases)
    random = np.random.default_rng([seed, 1])
    Clock.looks.clear()
    Clock.ahead = {f"run {number}": float(random.integers(0, 200)) for number in range(len(rmses))}
    registry.promote(client, "m", "1", "none")
    ended: dict[str, Verdict] = {}

    def one(number: int, rmse: float) -> Callable[[], None]:
        return lambda: ended.update({str(number): contestant(client, str(number), rmse)})

    turns = Turns([one(number, rmse) for number, rmse in enumerate(rmses, 2)], seed, killed)
    client.pause = turns.pause
    turns.play()
    client.pause = lambda: None
    return client, ended


def wrong(client: Any, rmses: list[float], ended: dict[str, Verdict], is_killed: bool = False) -> list[str]:
    """Say what is wrong once all runs have ended; where one was killed, once another has come by that is the best.

    One that is killed between its move of the alias and its second look may leave a champion that is better than the
    former one, and worse than another that came at the same moment.
    """
    number = registry.find_champion(client, "m").number
    if number == registry.NOBODY:
        return ["nobody is champion"]
    if is_killed:
        found = [f"version {number} is champion"] * (number == "1")
        last = contestant(client, str(len(client.tags) + 1), 1.0)
        if not last.promoted or registry.find_champion(client, "m").number != str(len(client.tags)):
            found.append(f"the next run is not champion: {last.sentence}")
        return found
    found = []
    if number != str(2 + int(np.argmin(rmses))) or not ended[number].promoted:
        found.append(f"version {number} is champion: {ended[number].sentence}")
    found += [
        f"version {one}: {verdict.sentence}"
        for one, verdict in ended.items()
        if not (verdict.promoted or "is champion" in verdict.sentence or verdict.sentence == "measured")
    ]
    return found + [f"version {one} still claims the place" for one in claims.open_ones(client.search_model_versions())]
