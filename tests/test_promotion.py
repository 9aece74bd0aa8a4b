"""Many runs move the alias at once: whatever the order of their requests, the best model is champion at the end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from trainer import comparison, promotion, registry
from trainer.comparison import Challenger, Comparison, Gain, Verdict


class Turns:
    """Runs that take turns: each goes on for one request, and a drawn number says which one is next."""

    def __init__(self, runs: list[Callable[[], None]], seed: int) -> None:
        self.random = np.random.default_rng(seed)
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

    def play(self) -> None:
        """Let all runs come to their ends."""
        for thread in self.threads:
            thread.start()
        while self.alive:
            number = int(self.random.choice(sorted(self.alive)))
            self.gates[number].release()
            self.here.acquire()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors


@dataclass
class Registry:
    """A registry of one model, which answers each request at once and lets another run go on after it."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)
    has_aliases: bool = True
    pause: Callable[[], None] = lambda: None

    def _version(self, number: str) -> Any:
        return SimpleNamespace(version=number, tags=dict(self.tags[number]))

    def get_registered_model(self, _: str) -> Any:
        found = SimpleNamespace(aliases=dict(self.alias))
        self.pause()
        return found

    def get_model_version(self, _: str, number: str) -> Any:
        found = self._version(number)
        self.pause()
        return found

    def search_model_versions(self, *_: Any, **__: Any) -> Any:
        class Page(list[Any]):
            token = None

        found = Page(self._version(number) for number in self.tags)
        self.pause()
        return found

    def set_model_version_tag(self, _: str, number: str, key: str, text: str) -> None:
        self.tags[number][key] = text
        self.pause()

    def delete_model_version_tag(self, _: str, number: str, key: str) -> None:
        self.tags[number].pop(key, None)
        self.pause()

    def set_registered_model_alias(self, _: str, alias: str, number: str) -> None:
        if not self.has_aliases:
            raise mlflow.MlflowException("", RESOURCE_DOES_NOT_EXIST)
        self.alias[alias] = number
        self.pause()


@pytest.fixture
def simple(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare versions by their numbers' qualities, and leave out what is for a real server."""

    @contextmanager
    def said(*_: Any, **__: Any) -> Iterator[None]:
        yield

    def optional(_: str, call: Callable[[], object]) -> bool:
        try:
            call()
        except mlflow.MlflowException:
            return False
        return True

    def against(challenger: Challenger, champion: Any) -> Comparison:
        its, own = float(champion.tags["rmse"]), float(challenger.predicted[0])
        gain = Gain(99, its, own, its - own - 0.5, its - own + 0.5, 99)
        verdict = Verdict(gain.is_proven, "measured", gain)
        return Comparison(verdict, str(champion.version), np.array([its]))

    monkeypatch.setattr(registry, "said_to_server", said)
    monkeypatch.setattr(registry, "optional", optional)
    monkeypatch.setattr(comparison, "against", against)


def play(rmses: list[float], seed: int, has_aliases: bool) -> tuple[Registry, dict[str, Comparison]]:
    """Let one run a figure compare itself with the champion, version 1 of rmse 100, and contest its place."""
    client = Registry({"1": {"rmse": "100"}}, has_aliases=has_aliases)
    registry.promote(client, "m", "1", "none")  # type: ignore[arg-type]
    ended: dict[str, Comparison] = {}

    def run(number: str, rmse: float) -> None:
        client.tags[number] = {"rmse": repr(rmse)}
        challenger = Challenger("m", number, client.tags[number], {}, None, np.array([rmse]), 0)  # type: ignore[arg-type]

        def again() -> Comparison:
            return comparison.against_champion(client, challenger)  # type: ignore[arg-type]

        compared = again()
        if compared.verdict.promoted:
            compared = promotion.contest(client, challenger, compared, again)  # type: ignore[arg-type]
        ended[number] = compared

    turns = Turns([lambda n=n, rmse=rmse: run(str(n), rmse) for n, rmse in enumerate(rmses, 2)], seed)  # type: ignore[misc]
    client.pause = turns.pause
    turns.play()
    client.pause = lambda: None
    return client, ended


@pytest.mark.parametrize("has_aliases", [True, False])
@pytest.mark.parametrize("runs", [2, 3, 8])
def test_whatever_the_order_of_requests_the_best_model_ends_as_champion(
    runs: int, has_aliases: bool, simple: None
) -> None:
    for seed in range(150 if runs < 8 else 40):
        rmses = np.random.default_rng(seed).permutation(np.arange(runs) * 10.0 + 20).tolist()
        client, ended = play(rmses, seed, has_aliases)
        best = str(2 + int(np.argmin(rmses)))
        assert registry.find_champion(client, "m").number == best, (seed, rmses)  # type: ignore[arg-type]
        assert ended[best].verdict.promoted, seed
        assert not any(registry.CLAIM in tags for tags in client.tags.values()), seed


def test_of_two_that_are_alike_the_champion_is_one_that_says_so(simple: None) -> None:
    for seed in range(50):
        client, ended = play([50.0, 50.1], seed, True)
        number = registry.find_champion(client, "m").number  # type: ignore[arg-type]
        assert number in [n for n, one in ended.items() if one.verdict.promoted], seed


def test_a_champion_that_changes_all_the_time_is_told(simple: None) -> None:
    client = Registry({"1": {"rmse": "100"}, "2": {"rmse": "50"}})
    challenger = Challenger("m", "2", {}, {}, None, np.array([50.0]), 0)  # type: ignore[arg-type]
    stale = Comparison(Verdict(True, "better"), "7")
    done = promotion.contest(client, challenger, stale, lambda: replace(stale))  # type: ignore[arg-type]
    assert not done.verdict.promoted
    assert "has changed 5 times meanwhile" in done.verdict.sentence
    assert "champion.py --model-name m --version 2" in done.verdict.sentence
    assert registry.CLAIM not in client.tags["2"]
