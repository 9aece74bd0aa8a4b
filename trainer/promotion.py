"""How the alias moves from one champion to the next, however many runs want to move it at the same moment.

A registry cannot say "make this the champion if that one still is". So a run

1. marks its version with a claim, and looks whether the champion is still the one that it was compared with,
2. moves the alias, and looks for other versions that claim the place or have taken it meanwhile,
3. compares the better one of each pair, and moves the alias again until it sees no new one,
4. takes its claim back.

Whoever moves the alias last has seen all the others: each marks its version before it looks, so of two runs at least
one meets the other. Nobody waits, and no clock decides.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from trainer import comparison, registry
from trainer.comparison import Challenger, Comparison, Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient

# How often a comparison is made again because another run has changed the champion meanwhile.
ATTEMPTS = 5


def contest(
    client: "MlflowClient", challenger: Challenger, compared: Comparison, again: Callable[[], Comparison]
) -> Comparison:
    """Make a version champion that has been found better than the champion, unless another run's is better still.

    Parameters
    ----------
    compared : Comparison
        With the champion; its verdict is that the challenger is to be promoted.
    again : callable
        Compares with the present champion.

    Returns
    -------
    Comparison
        The one that has decided; its verdict says whether the challenger is champion now.
    """
    name, version = challenger.name, challenger.version
    registry.claim(client, name, version)
    for _ in range(ATTEMPTS):
        if registry.find_champion(client, name).number in (compared.champion, version):
            compared = _take(client, challenger, compared)
            break
        compared = again()
        if not compared.verdict.promoted:
            break
    else:
        why = f"the champion has changed {ATTEMPTS} times meanwhile; {registry.replace_command(name, version)}"
        compared = replace(compared, verdict=replace(compared.verdict, promoted=False, sentence=f"not promoted: {why}"))
    registry.withdraw(client, name, version)
    return compared


def _take(client: "MlflowClient", challenger: Challenger, compared: Comparison) -> Comparison:
    """Move the alias, then look for rivals, until there is no new one; the best one is where the alias ends."""
    name = challenger.name
    best, after, met = challenger, compared.champion, {*compared.settled, compared.champion, challenger.version}
    while True:
        registry.promote(client, name, best.version, after)
        new = registry.rivals(client, name, met)
        if not new:
            return replace(compared, verdict=_told(challenger, best, compared.verdict))
        for rival in new:
            number = str(rival.version)
            met.add(number)
            duel = comparison.against(best, rival)
            if stays(duel, best.version, rival_has_taken=registry.SINCE in rival.tags):
                after = number
                continue
            after = best.version
            if duel.by_champion is None:  # it cannot be scored here, so its own run compares it with the others
                best = replace(best, version=number)
                met.update(str(one.version) for one in new)
                break
            best = replace(best, version=number, tags=rival.tags, predicted=duel.by_champion)


def _told(challenger: Challenger, best: Challenger, verdict: Verdict) -> Verdict:
    if best.version == challenger.version:
        return verdict
    taken = f"{verdict.sentence}; not promoted, since version {best.version} came at the same moment and is champion"
    return replace(verdict, promoted=False, sentence=taken)


def stays(duel: Comparison, version: str, rival_has_taken: bool) -> bool:
    """Whether a version stays champion beside another one that has taken the same place, or still claims it.

    Of two that have taken it the lower number stays, unless the other one is better beyond chance: so both runs come
    to the same end. One that still claims it has to be better beyond chance.
    """
    verdict = duel.verdict
    if rival_has_taken and int(version) > int(duel.champion):
        return verdict.promoted
    return verdict.gain is None or verdict.gain.high >= 0 or verdict.gain.units < comparison.FEWEST_UNITS
