"""Who is the champion of a registered model, since when, and where does it come from?

python champion.py --model-name diabetes-progression
python champion.py --model-name diabetes-progression --version 2    # make version 2 the champion
"""

import sys
from collections.abc import Sequence

from trainer import cli, registry, settings

LINEAGE = ("rmse", "rows", "estimator", "target", "split", "test_fraction", "key", "data_sha256", "git_commit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 without a champion, 2 for what the user can fix."""
    return cli.run(__doc__ or "", settings.CHAMPION, show, arguments)


def show(given: dict[str, str]) -> int:
    """Print the champion and its lineage."""
    name = settings.values(settings.CHAMPION, given)["model_name"]
    champion = registry.champion(registry.client(), name)
    if champion is None:
        print(f"{name} has no champion")
        return 1
    print(f"champion      models:/{name}/{champion.version}")
    print(f"since         {champion.tags.get(registry.SINCE, 'unknown')}")
    print(f"because       {champion.tags.get(registry.VERDICT, 'somebody made it the champion by hand')}")
    print(f"run           {champion.run_id}")
    for tag in LINEAGE:
        print(f"{tag:<13} {champion.tags.get(tag, 'unknown')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
