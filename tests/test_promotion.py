"""Many runs move the alias at once: whatever the order of their requests, the best model is champion at the end."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.turns import TEST, Registry, play, simplified, wrong
from trainer import claims, comparison, promotion, registry
from trainer.comparison import Challenger, Verdict


@pytest.fixture
def simple() -> Iterator[None]:
    """Compare versions by their figures."""
    with simplified():
        yield


@pytest.mark.parametrize("has_aliases", [True, False])
@pytest.mark.parametrize(("runs", "seeds"), [(2, 120), (3, 200), (4, 120), (8, 16)])
def test_whatever_the_order_of_requests_the_best_model_ends_as_champion(
    runs: int, seeds: int, has_aliases: bool, simple: None
) -> None:
    for seed in range(seeds):
        rmses = np.random.default_rng(seed).permutation(np.arange(runs) * 10.0 + 20).tolist()
        client, ended = play(rmses, seed, has_aliases)
        assert not wrong(client, rmses, ended), (seed, rmses)


class Late(Registry):
    """A registry that lets others go on, once, after a run has looked for the last date and before it notes its own."""

    def set_model_version_tag(self, _: str, number: str, key: str, text: str) -> None:
        if key == registry.SINCE:
            meanwhile, self.pause = self.pause, lambda: None
            meanwhile()
        self.tags[number][key] = text


def test_a_date_that_comes_late_makes_no_champion_of_the_one_before(simple: None) -> None:
    client: Any = Late({number: {} for number in "123"}, has_aliases=False)

    def others() -> None:  # one run has taken version 2 for the best, then version 3
        registry.promote(client, "m", "2", "1")
        registry.promote(client, "m", "3", "2")

    registry.promote(client, "m", "1", "none")
    client.pause = others
    client.search_model_versions = lambda *_, **__: Registry.search_model_versions(Registry(client.tags))
    registry.promote(client, "m", "3", "1")
    assert registry.find_champion(client, "m").number == "3"


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
