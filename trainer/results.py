"""What becomes of a model that has been measured: logged, registered, compared, told."""

from pathlib import Path
from tempfile import TemporaryDirectory

from trainer import comparison, lineage, pipeline, registry, report, tracking
from trainer.errors import disk_errors
from trainer.loading import Table
from trainer.settings import Settings
from trainer.training import Outcome


def store(
    run: tracking.Run, settings: Settings, table: Table, outcome: Outcome
) -> tuple[str | None, comparison.Verdict | None]:
    """Log the model with all that belongs to it, register it, and compare it with the champion.

    Returns
    -------
    str or None
        The version; None with ``model_name=none``.
    Verdict or None
        What came of the comparison.
    """
    traced = lineage.trace(run.id, run.tags, table.source, settings.estimator)
    with TemporaryDirectory() as scratch:
        with disk_errors(f"write the artifacts to {scratch}", "free some space there, or set TMPDIR to another disk"):
            report.write(Path(scratch), settings, table, outcome, traced)
        tracking.log(run, params=pipeline.params(outcome.model), metrics=outcome.metrics, tags=traced.tags)
        tracking.log_dataset(run, table.source, table.n_rows, table.n_features)
        tracking.log_folder(run, Path(scratch))
    if settings.model_name is None:
        return None, None
    tags = registry.version_tags(outcome.metrics["rmse"], table.n_rows, traced.source, settings.given)
    with registry.registered(run, settings.model_name, report.MODELS, tags) as version:
        challenger = comparison.Challenger(settings.model_name, version, tags, table.test, outcome.predicted)
        verdict = comparison.against_champion(run, challenger, settings.seed)
        if verdict.promoted and settings.promote == "never":
            verdict = comparison.Verdict(False, f"{verdict.sentence} (not done: promote=never)", verdict.gain)
        metrics = verdict.gain.metrics if verdict.gain else {}
        tracking.log(run, metrics=metrics, tags={registry.VERDICT: verdict.sentence})
        registry.conclude(run.client, settings.model_name, version, verdict.sentence)
    if verdict.promoted:
        registry.promote(run.client, settings.model_name, version)
    return version, verdict


def show(
    run: tracking.Run,
    settings: Settings,
    table: Table,
    outcome: Outcome,
    version: str | None,
    verdict: comparison.Verdict | None,
) -> None:
    """Print how good the model is, and where it is."""
    report.show(settings, table, outcome.metrics)
    print(f"run         {run.id}")
    print(f"model       {'not registered' if version is None else f'models:/{settings.model_name}/{version}'}")
    if verdict is not None:
        print(f"champion    {verdict.sentence}")
    print(f"look at it  {tracking.where_to_look(run)}")
