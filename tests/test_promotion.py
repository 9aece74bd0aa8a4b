"""Many runs move the alias at once: whatever the order of their requests, the best model is champion at the end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from trainer import claims, comparison, promotion, registry
from trainer.comparison import Challenger, Comparison, Gain, Verdict


class Turns:
    """Runs that take turns: each goes on for one request, and drawn numbers say which one is next.

    Either any of those that are left, with the same chance; or always the one that comes first in a drawn order, which
    changes at a few drawn moments: what goes wrong only where one run is stopped for long, at the wrong place, is found
    by the second (Burckhardt and others, A Randomized Scheduler with Probabilistic Guarantees, 2010).
    """

    def __init__(self, runs: list[Callable[[], None]], seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.order = self.random.permutation(len(runs)).tolist() if seed % 2 else []
        self.changes = set(self.random.integers(1, 16 * len(runs), size=4).tolist())
        self.here = threading.Semaphore(0)
        self.gates = [threading.Semaphore(0) for _ in runs]
        self.own = threading.local()
        self.alive = set(range(len(runs)))
        self.errors: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(n, run)) for n, run in enumerate(runs)]

    def _run(self, number: int, run: Callable[[], None]) -> None:
        self.own.number = number
        self.gates[number].acquire()
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - `play` tells it
            self.errors.append(error)
        self.alive.discard(number)
        self.here.release()

    def pause(self) -> None:
        """Let another run go on."""
        self.here.release()
        self.gates[self.own.number].acquire()

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


@pytest.fixture
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare versions by their figures, and leave out what is for a real server."""

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

    for module in (registry, claims):
        monkeypatch.setattr(module, "said_to_server", said)
    monkeypatch.setattr(registry, "optional", optional)
    monkeypatch.setattr(comparison, "against", against)
    monkeypatch.setattr(comparison, "measure", measure)


TEST: Any = SimpleNamespace(target=None, groups=None)


def play(rmses: list[float], seed: int, has_aliases: bool = True) -> tuple[Registry, dict[str, Verdict]]:
    """Let one run a figure compare itself with the champion, version 1 of rmse 100, and contest its place."""
    client: Any = Registry({"1": {"rmse": "100"}}, has_aliases=has_aliases)
    registry.promote(client, "m", "1", "none")
    ended: dict[str, Verdict] = {}

    def run(number: str, rmse: float) -> None:
        client.tags[number] = {"rmse": repr(rmse)}
        challenger = Challenger("m", number, client.tags[number], {}, TEST, np.array([rmse]), 0)
        compared = comparison.against_champion(client, challenger)
        promoted = compared.verdict.promoted
        ended[number] = promotion.contest(client, challenger, compared) if promoted else compared.verdict

    turns = Turns([lambda n=n, rmse=rmse: run(str(n), rmse) for n, rmse in enumerate(rmses, 2)], seed)  # type: ignore[misc]
    client.pause = turns.pause
    turns.play()
    client.pause = lambda: None
    return client, ended


@pytest.mark.parametrize("has_aliases", [True, False])
@pytest.mark.parametrize(("runs", "seeds"), [(2, 120), (3, 200), (4, 120), (8, 16)])
def test_whatever_the_order_of_requests_the_best_model_ends_as_champion(
    runs: int, seeds: int, has_aliases: bool, simple: None
) -> None:
    for seed in range(seeds):
        rmses = np.random.default_rng(seed).permutation(np.arange(runs) * 10.0 + 20).tolist()
        client, ended = play(rmses, seed, has_aliases)
        best = str(2 + int(np.argmin(rmses)))
        assert registry.find_champion(client, "m").number == best, (seed, rmses)  # type: ignore[arg-type]
        assert ended[best].promoted, seed
        assert all(
            one.promoted or "is champion" in one.sentence or one.sentence == "measured" for one in ended.values()
        )
        assert not claims.open_ones(client.search_model_versions())


def test_of_those_that_are_alike_the_champion_is_one_that_says_so(simple: None) -> None:
    for seed in range(120):
        client, ended = play([50.0, 50.1, 50.2], seed)
        number = registry.find_champion(client, "m").number  # type: ignore[arg-type]
        assert number in [n for n, one in ended.items() if one.promoted], seed


def contested(client: Any, meanwhile: Callable[[], None]) -> Verdict:
    """Contest the place of version 1 with a version of rmse 50."""
    number = str(len(client.tags) + 1)
    client.tags[number] = {"rmse": "50"}
    challenger = Challenger("m", number, client.tags[number], {}, TEST, np.array([50.0]), 0)
    compared = comparison.against_champion(client, challenger)
    assert compared.verdict.promoted
    meanwhile()
    return promotion.contest(client, challenger, compared)


def test_a_person_who_moves_the_alias_meanwhile_is_heard(simple: None) -> None:
    for rmse, winner in {"30": "2", "90": "3"}.items():
        client = Registry({"1": {"rmse": "100"}, "2": {"rmse": rmse}}, {"champion": "1"})
        verdict = contested(client, lambda client=client: client.alias.update(champion="2"))  # type: ignore[misc]
        assert (client.alias["champion"], verdict.promoted) == (winner, winner == "3")


def test_what_a_killed_run_has_claimed_is_taken_up(simple: None) -> None:
    for rmse, winner in {"30": "2", "50.2": "2", "70": "3"}.items():
        killed = {"rmse": rmse, claims.TAG: f"for version 2{claims.OPEN}"}
        client = Registry({"1": {"rmse": "100"}, "2": killed}, {"champion": "1"})
        verdict = contested(client, lambda: None)
        assert (client.alias["champion"], verdict.promoted) == (winner, winner == "3")
    assert "came at the same moment" not in verdict.sentence
