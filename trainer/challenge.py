"""A registered version challenges the champion: both score the same test rows, and the better one is crowned."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from trainer import champion, figures, registry, table, tracking, verification
from trainer.evaluation import Floats

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Candidate:
    """A version that has just been registered.

    Attributes
    ----------
    name, version : str
        Of the registered model.
    tags : dict of str to str
        Of the version: what it was trained for and how its table was split.
    test : table.Rows
        Its test rows.
    predicted : ndarray of shape (n_test,)
        Its predictions for them.
    """

    name: str
    version: str
    tags: dict[str, str]
    test: table.Rows
    predicted: Floats


def challenge(run: tracking.Run, candidate: Candidate, seed: int, promotes: bool) -> champion.Verdict:
    """Compare a version with the champion, crown it where it has earned that, and log the verdict.

    Parameters
    ----------
    run : tracking.Run
    candidate : Candidate
    seed : int
        Of the bootstrap.
    promotes : bool
        Whether to crown it, or only to say that it has earned it.

    Raises
    ------
    UserError
        The registry or the tracking server refused.
    """
    name, version = candidate.name, candidate.version
    late = registry.turn(run.client, name, version)
    reigning = registry.champion(run.client, name)
    if late:
        verdict = champion.Verdict(False, f"version {version} was not compared: {late}")
    elif reigning is None:
        verdict = champion.Verdict(True, f"version {version} is the first champion")
    else:
        verdict = _compare(run, candidate, reigning, seed)
    if verdict.promoted and promotes:
        registry.crown(run.client, name, version)
    elif verdict.promoted:
        verdict = champion.Verdict(False, f"{verdict.sentence} (not done: promote=never)", verdict.gain)
    metrics = verdict.gain.metrics if verdict.gain else {}
    tracking.log(run, metrics=metrics, tags={registry.VERDICT: verdict.sentence})
    registry.conclude(run.client, name, version, verdict.sentence)
    return verdict


def _compare(run: tracking.Run, candidate: Candidate, reigning: "ModelVersion", seed: int) -> champion.Verdict:
    """Score the test rows with the champion too, where that is fair, and log the comparison."""
    version, test = candidate.version, candidate.test
    theirs = f"version {version} cannot be compared with the champion, version {reigning.version}, which stays"
    try:
        with registry.fetched(f"models:/{candidate.name}/{reigning.version}") as folder:
            model = verification.load(folder)
        own, its = list(test.features.columns), verification.feature_names(model)
        if reason := champion.unfair(candidate.tags, reigning.tags, own, its):
            return champion.Verdict(False, f"{theirs}: {reason}")
        by_champion = verification.predict(model, test.features)
    except verification.UnusableError as error:
        return champion.Verdict(False, f"{theirs}: {error}")
    gain = champion.measure(test.target, by_champion, candidate.predicted, test.entities, seed)
    with TemporaryDirectory() as scratch:
        picture = Path(scratch) / figures.FOLDER / "against_champion.png"
        picture.parent.mkdir()
        title = f"version {version} against the champion, version {reigning.version}"
        figures.save_comparison(picture, test.target, by_champion, candidate.predicted, title)
        tracking.log_folder(run, Path(scratch))
    return champion.judge(version, str(reigning.version), gain)
