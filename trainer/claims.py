"""What a run says on its version while it may move the alias, so that those who do so at the same moment meet.

Only the run of a version writes there (and a person who decides, once the run has ended), and nothing is taken back:
a claim names the version that its run takes for the best, and says whether the run is still looking.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.recording import tag_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

TAG = "champion_claim"
OPEN = ", not decided yet"
_FORM = re.compile(r"for version (\d+)")


def write(client: "MlflowClient", name: str, version: str, best: str, remark: str = "") -> None:
    """Note on a version which one its run, or a person, takes for the best; `remark` is `OPEN` or says who decided."""
    tag_version(client, name, version, TAG, f"for version {best}{remark}")


def read(versions: "Iterable[ModelVersion]") -> dict[str, str]:
    """Return the claims that there are, by version."""
    return {str(one.version): one.tags[TAG] for one in versions if TAG in one.tags}


def open_ones(versions: "Iterable[ModelVersion]") -> list[str]:
    """Return the versions whose runs have not decided yet, as far as is known: a run may have been killed."""
    return [number for number, claim in read(versions).items() if claim.endswith(OPEN)]


def entrants(versions: "Sequence[ModelVersion]", settled: Mapping[str, str], champion: str) -> "list[ModelVersion]":
    """Return the versions that have come into question since others were settled: in the order that decides ties.

    Parameters
    ----------
    versions : sequence of ModelVersion
        All that there are now.
    settled : mapping of str to str
        The claims as they were when the comparison began; one that was open then is not settled.
    champion : str
        Where the alias is now.

    Returns
    -------
    list of ModelVersion
        First the champion, then what other runs have ended with, then what is still open; each by number.
    """
    found, undecided = read(versions), open_ones(versions)
    moved = [claim for number, claim in found.items() if number in undecided or claim != settled.get(number)]
    named = {match[1] for claim in moved if (match := _FORM.match(claim))} | {champion}
    chosen = [one for one in versions if str(one.version) in named]
    return sorted(
        chosen, key=lambda one: (str(one.version) in undecided, str(one.version) != champion, int(one.version))
    )
