"""Let runs move the alias at the same moment, in drawn orders of their requests, and look at who is champion.

    uv run python -m tools.interleavings                          # 20,000 orders: minutes
    uv run python -m tools.interleavings --orders 500 --from 7000

The code is that of a run (trainer/promotion.py and what it asks of the registry); the registry is one in memory, with
aliases or without them, on which two to eight runs take turns. In each fourth order one of them is killed before a
drawn request. What an order is depends on its number alone, so that one that goes wrong can be looked at again.
"""

import argparse
import sys
from collections import Counter

import numpy as np

from tests import turns

# So many runs, in turn: most of what can go wrong takes two or three.
RUNS = (2, 3, 2, 4, 3, 2, 3, 8)
# A run sends about so many requests; a kill after its last one is none.
REQUESTS = 24


def tried(seed: int) -> tuple[str, list[str]]:
    """Play the order of a number; return its kind, and what was wrong at its end."""
    random = np.random.default_rng([seed, 2])
    runs, has_aliases = RUNS[seed // 2 % len(RUNS)], bool(random.integers(2))
    rmses = random.permutation(np.arange(runs) * 10.0 + 20).tolist()
    killed = (int(random.integers(runs)), int(random.integers(1, REQUESTS))) if random.integers(4) == 0 else None
    client, ended = turns.play(rmses, seed, has_aliases, killed)
    is_killed = len(ended) < runs
    kind = f"{runs} runs, {'aliases' if has_aliases else 'no aliases'}{', one killed' if is_killed else ''}"
    return kind, turns.wrong(client, rmses, ended, is_killed)


def main() -> int:
    """Run the command line; the exit code is 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--orders", type=int, default=20_000, metavar="N", help="how many [20000]")
    parser.add_argument("--from", dest="first", type=int, default=0, metavar="N", help="the number of the first [0]")
    given = parser.parse_args()
    played: Counter[str] = Counter()
    violations: Counter[str] = Counter()
    with turns.simplified():
        for seed in range(given.first, given.first + given.orders):
            kind, wrong = tried(seed)
            played[kind] += 1
            if wrong:
                violations[kind] += 1
                print(f"order {seed} ({kind}): {'; '.join(wrong)}", flush=True)
    print(f"{'kind':<36} {'orders':>7} {'violations':>10}")
    for kind, number in sorted(played.items()):
        print(f"{kind:<36} {number:>7} {violations[kind]:>10}")
    print(f"{'all':<36} {played.total():>7} {violations.total():>10}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
