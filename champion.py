"""Who is the champion of a registered model, since when, and where does it come from?

python champion.py --model-name diabetes-progression
"""

import sys
from collections.abc import Sequence

from trainer import command_line, registry

PARAMETERS = {"model_name": ("diabetes-progression", "registered model")}
LINEAGE = ("rmse", "rows", "estimator", "target", "split", "test_fraction", "key", "data_sha256", "git_commit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 without a champion, 2 for what the user can mend."""
    return command_line.run(__doc__ or "", PARAMETERS, show, arguments)


def show(given: dict[str, str]) -> int:
    """Print the champion and its lineage."""
    name = registry.check_name(given["model_name"])
    reigning = registry.champion(registry.client(), name)
    if reigning is None:
        print(f"{name} has no champion")
        return 1
    print(f"champion      models:/{name}/{reigning.version}")
    print(f"since         {reigning.tags.get(registry.SINCE, 'unknown')}")
    print(f"because       {reigning.tags.get(registry.VERDICT, 'somebody made it the champion by hand')}")
    print(f"run           {reigning.run_id}")
    for tag in LINEAGE:
        print(f"{tag:<13} {reigning.tags.get(tag, 'unknown')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
