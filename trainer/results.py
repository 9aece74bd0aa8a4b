"""What becomes of a model that has been measured: logged, registered, compared, told."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from trainer import card, checks, comparison, lineage, pipeline, registry, report, tracking
from trainer.errors import Remark, disk_errors
from trainer.loading import Table
from trainer.settings import Settings
from trainer.training import Outcome


def store(
    run: tracking.Run, settings: Settings, table: Table, outcome: Outcome, remarks: Sequence[Remark] = ()
) -> card.Standing:
    """Log the model with all that belongs to it, register it, and compare it with the champion."""
    traced = lineage.trace(run.id, run.tags, table.source, settings.estimator)
    with TemporaryDirectory() as scratch:
        with disk_errors(f"write the artifacts to {scratch}", "free some space there, or set TMPDIR to another disk"):
            report.write(Path(scratch), settings, table, outcome, traced)
        tags = traced.tags | {"remarks": ", ".join(dict.fromkeys(remark.code for remark in remarks)) or "none"}
        tracking.log(run, params=pipeline.params(outcome.model), metrics=outcome.metrics, tags=tags)
        tracking.log_dataset(run, table.source, table.n_rows, table.n_features)
        tracking.log_folder(run, Path(scratch))
    standing = card.Standing(run.id)
    if settings.model_name is not None:
        standing = register(run, settings, table, outcome, traced)
    with TemporaryDirectory() as scratch:
        with disk_errors(f"write the artifacts to {scratch}", "free some space there, or set TMPDIR to another disk"):
            report.conclude(Path(scratch), settings, table, outcome, traced, remarks, standing)
        tracking.log_folder(run, Path(scratch))
    if standing.promoted:
        registry.promote(run.client, str(standing.model_name), str(standing.version))
    return standing


def register(
    run: tracking.Run, settings: Settings, table: Table, outcome: Outcome, traced: lineage.Lineage
) -> card.Standing:
    """Register the model as a new version, and compare it with the champion; nothing is promoted yet."""
    name = str(settings.model_name)
    tags = registry.version_tags(outcome.metrics["rmse"], table.n_rows, traced.source, settings.given)
    with registry.registered(run, name, report.MODELS, tags) as version:
        challenger = comparison.Challenger(name, version, tags, table.test, outcome.predicted)
        verdict = comparison.against_champion(run, challenger, settings.seed)
        if verdict.promoted and (worthless := checks.is_worthless(outcome.metrics)):
            verdict = comparison.Verdict(False, f"version {version} is not promoted: {worthless}", verdict.gain)
        if verdict.promoted and settings.promote == "never":
            verdict = comparison.Verdict(False, f"{verdict.sentence} (not done: promote=never)", verdict.gain)
        metrics = verdict.gain.metrics if verdict.gain else {}
        tracking.log(run, metrics=metrics, tags={registry.VERDICT: verdict.sentence})
        registry.conclude(run.client, name, version, verdict.sentence)
    return card.Standing(run.id, name, version, verdict.sentence, verdict.promoted)


def show(
    run: tracking.Run,
    settings: Settings,
    table: Table,
    outcome: Outcome,
    remarks: Sequence[Remark],
    standing: card.Standing,
) -> None:
    """Print how good the model is, and where it is."""
    report.show(settings, table, outcome.metrics, remarks)
    print(f"run         {run.id}")
    named = f"models:/{standing.model_name}/{standing.version}"
    print(f"model       {'not registered' if standing.version is None else named}")
    if standing.verdict is not None:
        print(f"champion    {standing.verdict}")
    print(f"look at it  {tracking.where_to_look(run)}")
