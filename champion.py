"""Who is the champion of a registered model, since when, and where does it come from?

    python champion.py --model-name diabetes-progression
    python champion.py --model-name diabetes-progression --version 2    # make version 2 the champion

A person who promotes by hand decides whatever the comparison has said, and the version keeps both.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trainer import claims, cli, registry, settings
from trainer.causes import command
from trainer.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

LINEAGE = ("rmse", "rows", "estimator", "target", "split", "test_fraction", "key", "data_sha256", "git_commit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0, 1 without a champion, 2 for what the user can fix."""
    return cli.run(__doc__ or "", settings.CHAMPION, show, arguments)


def show(given: dict[str, str]) -> int:
    """Print the champion and its lineage, after promoting a version by hand where one is given."""
    asked = settings.values(settings.CHAMPION, given)
    name, version = asked["model_name"], asked["version"]
    client = registry.client()
    if version is not None:
        promote(client, name, str(version))
    champion = registry.find_champion(client, name)
    if champion.version is None:
        error = registry.no_champion(client, name, champion)
        print(f"{error.cause}\n  fix: {error.remedy}")
        return 1
    tags = champion.version.tags
    print(f"champion      models:/{name}/{champion.number}")
    print(f"since         {tags.get(registry.SINCE, 'unknown')}")
    print(f"because       {tags.get(registry.VERDICT, 'somebody promoted it by hand')}")
    print(f"run           {champion.version.run_id}")
    for tag in LINEAGE:
        print(f"{tag:<13} {_shown(tag, tags.get(tag, 'unknown'))}")
    return 0


def _shown(tag: str, text: str) -> str:
    """Return the text of a tag; all digits of the measure are in the run."""
    try:
        return f"{float(text):.6g}" if tag == "rmse" else text
    except ValueError:
        return text


def promote(client: "MlflowClient", name: str, version: str) -> None:
    """Make a version the champion, because a person says so."""
    known = {str(one.version): one for one in registry.versions(client, name)}
    if version not in known:
        raise UserError(
            f"{name} has no version {version}; it has {', '.join(known) or 'none'}",
            "give --version with one that there is" if known else f"{command('python')} train.py --model-name {name}",
        )
    former = registry.find_champion(client, name).number
    if former == version:
        return
    verdict = known[version].tags.get(registry.VERDICT, "")
    by_hand = f"promoted by hand, after version {former}" + (f"; before that: {verdict}" if verdict else "")
    registry.conclude(client, name, version, by_hand)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    for number in claims.open_ones(known.values()):  # left by runs that were killed; a person has decided now
        claims.write(client, name, number, number, f", until {now}")
    claims.write(client, name, version, version, f", by hand, {now}")
    registry.promote(client, name, version, former)


if __name__ == "__main__":
    sys.exit(main())
