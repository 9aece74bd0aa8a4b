"""How the alias moves from one champion to the next, however many runs want to move it at the same moment.

A registry cannot say "make this the champion if that one still is". So a run

1. notes on its version that it claims the place, and for which version: at first for its own;
2. looks where the alias is and what others claim, and compares what it has not compared yet, until a look shows
   nothing new;
3. notes which one it takes for the best, moves the alias there, and looks again: from 2 if there is something new;
4. notes that it has decided.

Nobody waits, and no clock decides. Whoever moves the alias last has seen all the others: each writes its claim before
it looks and before it moves, and looks once more after it has moved. A run that began later compares itself with the
champion, with all claims that are open, and with all that change until it has decided.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from trainer import claims, comparison, registry
from trainer.comparison import Challenger, Comparison, Floats, Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient


def contest(client: "MlflowClient", challenger: Challenger, compared: Comparison) -> Verdict:
    """Make a version champion that has been found better than the champion, unless another run's is better still.

    Parameters
    ----------
    compared : Comparison
        With the champion; its verdict is that the challenger is to be promoted.

    Returns
    -------
    Verdict
        Whether the challenger is champion now, and why.
    """
    name, own = challenger.name, challenger.version
    predicted: dict[str, Floats | None] = {compared.champion: compared.by_champion, own: challenger.predicted}
    noted, best, has_moved = own, own, False
    claims.write(client, name, own, best, claims.OPEN)
    while True:
        champion = registry.find_champion(client, name).number
        entrants = claims.entrants(registry.versions(client, name), compared.settled, champion)
        if new := [one for one in entrants if str(one.version) not in predicted]:
            for one in new:
                predicted[str(one.version)] = comparison.against(challenger, one).by_champion
            has_moved = False
            continue
        if has_moved:
            break
        best = _best(challenger, [*(str(one.version) for one in entrants), own], predicted)
        if best != noted:
            claims.write(client, name, own, best, claims.OPEN)
            noted = best
        elif champion == best:
            break
        else:
            registry.promote(client, name, best, champion)
            has_moved = True
    claims.write(client, name, own, best)
    if best == own:
        return compared.verdict
    later = f"{compared.verdict.sentence}; not promoted, since version {best} came at the same moment and is champion"
    return replace(compared.verdict, promoted=False, sentence=later)


def _best(challenger: Challenger, numbers: list[str], predicted: dict[str, Floats | None]) -> str:
    """Return the best one as if they had come one after the other: each has to be better beyond chance than the last.

    Where one cannot be scored here, the one before it stays.
    """
    best, *others = numbers
    for other in others:
        before, after = predicted[best], predicted[other]
        if before is None or after is None:
            continue
        test = challenger.test
        if comparison.measure(test.target, before, after, test.groups, challenger.seed).is_proven:
            best = other
    return best
