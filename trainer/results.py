"""What becomes of a model that has been measured: logged, registered, compared, told, and, last of all, promoted."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from trainer import (
    card,
    checks,
    comparison,
    figures,
    learning_curve,
    lineage,
    pipeline,
    promotion,
    registry,
    report,
    signals,
    tracking,
)
from trainer.errors import Interrupted, Remark, UserError, disk_errors
from trainer.learning_curve import LearningCurve
from trainer.lineage import Lineage
from trainer.markup import Markup
from trainer.pieces import NOTHING
from trainer.settings import Settings
from trainer.table import Table
from trainer.training import Outcome


@dataclass(frozen=True)
class Result:
    """A model that has been measured, with all that is to be said of it; `board` shows what it was chosen from."""

    settings: Settings
    table: Table
    outcome: Outcome
    remarks: tuple[Remark, ...]
    board: Markup = NOTHING

    @cached_property
    def curves(self) -> dict[str, list[tuple[int, float]]]:
        """What is measured by rounds of boosting."""
        return report.curves(self.outcome.model, self.table.test)

    @cached_property
    def learning(self) -> LearningCurve:
        """What the model does with fewer rows."""
        return learning_curve.measure(self.settings, self.table, self.outcome.folds)


def store(session: tracking.Session, run: tracking.Run, result: Result) -> card.Standing:
    """Log a model with all that belongs to it, register it, compare it with the champion, promote it if it is better.

    Whatever stops this, wherever: there is no version of a failed run, and no alias on a version that is gone. The
    version is whole, its verdict is written and the run has ended before the alias moves.
    """
    settings, outcome = result.settings, result.outcome
    traced = lineage.trace(run.id, run.tags, result.table.source, settings.estimator)
    with _scratch() as folder:
        report.write(folder, settings, result.table, outcome, traced)
        codes = ", ".join(dict.fromkeys(remark.code for remark in result.remarks)) or "none"
        with tracking.logged_model(run, folder / report.MODELS, report.MODELS, settings.given) as model:
            tracking.log(
                run,
                params=pipeline.params(outcome.model),
                metrics=outcome.metrics,
                tags=traced.tags | {"remarks": codes},
                model_id=model.id,
            )
            tracking.log_folder(run, folder)
    tracking.log_curves(run, result.curves)
    _ = result.learning  # it takes its time now, and not while a version waits for its verdict
    tracking.log_dataset(run, result.table.source, result.table.n_rows, result.table.n_features)
    if unmet := report.unmet(settings.must, outcome.metrics):
        standing = card.Standing(run.id, verdict=f"not registered: {'; '.join(unmet)}", unmet=tuple(unmet))
    elif settings.model_name is None:
        standing = card.Standing(run.id)
    else:
        return _register(session, run, result, traced, model)
    with session.finishing():
        _conclude(run, result, traced, standing)
    return standing


def _register(
    session: tracking.Session, run: tracking.Run, result: Result, traced: Lineage, model: tracking.LoggedModel
) -> card.Standing:
    settings, name = result.settings, str(result.settings.model_name)
    registry.close_abandoned(run, name)
    tags = registry.version_tags(result.outcome.metrics["rmse"], result.table.n_rows, traced.source, settings.given)
    if result.table.time_cut:
        tags |= {"time": str(settings.time), "time_cut": result.table.time_cut}
    source = model.source or f"{run.artifact_uri}/{report.MODELS}"
    made = False
    try:
        with registry.registered(run, name, source, tags, model.id) as version, session.finishing():
            made = True
            challenger = comparison.Challenger(
                name,
                version,
                tags,
                {column.name: column.kind for column in result.table.columns},
                result.table.test,
                result.outcome.predicted,
                settings.seed,
            )
            compared = _compare(run, challenger, result)
            standing = card.Standing(run.id, name, version, compared.verdict.sentence, compared.verdict.promoted)
            _conclude(run, result, traced, standing, compared)
            tracking.link(run, model, name, version)
            registry.conclude(run.client, name, version, compared.verdict.sentence)
    except UserError as error:
        if not made:  # the model is stored all the same: `submit/remote.py attach JOB --register` reads what says so
            with suppress(UserError):
                _conclude(run, result, traced, card.Standing(run.id, verdict=f"not registered: {error.cause}"))
        raise
    if not standing.promoted:
        return standing
    try:
        decided = promotion.contest(run.client, challenger, compared)
    except (UserError, Interrupted) as error:
        failed = f"has not become champion: {tracking.reason(error)}"
        with suppress(UserError, Interrupted), signals.hurried(error):  # what is said of the clean-up came second
            if registry.find_champion(run.client, name).number == version:
                failed = f"is champion, and no other was looked for: {tracking.reason(error)}"
            else:
                _correct(run, result, traced, replace(standing, promoted=False, verdict=f"version {version} {failed}"))
        if isinstance(error, Interrupted):
            raise
        raise UserError(
            f"version {version} of {name} is registered, and {failed}", registry.replace_command(name, version)
        ) from error
    if decided == compared.verdict:
        return standing
    standing = replace(standing, verdict=decided.sentence, promoted=False)
    _correct(run, result, traced, standing)
    return standing


def _compare(run: tracking.Run, challenger: comparison.Challenger, result: Result) -> comparison.Comparison:
    """Compare with the champion, and log what came of it; a model that is worth nothing is never promoted."""
    settings = result.settings
    compared = comparison.against_champion(run.client, challenger)
    verdict = compared.verdict
    if verdict.promoted and (worthless := checks.is_worthless(result.outcome.metrics)):
        verdict = comparison.Verdict(False, f"version {challenger.version} is not promoted: {worthless}", verdict.gain)
    if verdict.promoted and settings.promote == "never":
        verdict = comparison.Verdict(False, f"{verdict.sentence} (not promoted: promote=never)", verdict.gain)
    _log(run, challenger, replace(compared, verdict=verdict))
    return replace(compared, verdict=verdict)


def _log(run: tracking.Run, challenger: comparison.Challenger, compared: comparison.Comparison) -> None:
    verdict = compared.verdict
    metrics = verdict.gain.metrics if verdict.gain else {}
    tracking.log(run, metrics=metrics, tags={registry.VERDICT: verdict.sentence})
    if compared.by_champion is None:
        return
    with _scratch() as folder:
        picture = folder / report.FIGURES / f"against_version_{compared.champion}.svg"
        picture.parent.mkdir()
        title = f"version {challenger.version} against the champion, version {compared.champion}"
        figures.draw_comparison(picture, challenger.test.target, compared.by_champion, challenger.predicted, title)
        tracking.log_folder(run, folder)


def _conclude(
    run: tracking.Run,
    result: Result,
    traced: Lineage,
    standing: card.Standing,
    compared: comparison.Comparison | None = None,
) -> None:
    """Write what says how it ended: metric.json, the model card, the report, and the descriptions."""
    settings, table, outcome = result.settings, result.table, result.outcome
    curve = result.curves.get(report.BY_ROUND, ())
    with _scratch() as folder:
        report.conclude(
            folder, settings, table, outcome, traced, result.remarks, standing, curve, compared, result.board,
            result.learning,
        )  # fmt: skip
        tracking.log_folder(run, folder)
    text = card.run_description(settings, table, outcome.metrics, result.remarks, standing)
    tracking.describe(run, text)
    if standing.version is not None:
        of_model = card.model_description(settings, table.source.name)
        registry.describe(run.client, str(standing.model_name), standing.version, of_model, text)


def _correct(run: tracking.Run, result: Result, traced: Lineage, standing: card.Standing) -> None:
    """Write another verdict than the one that was written before the alias was to move."""
    registry.conclude(run.client, str(standing.model_name), str(standing.version), str(standing.verdict))
    tracking.log(run, tags={registry.VERDICT: str(standing.verdict)})
    _conclude(run, result, traced, standing)


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a folder to write artifacts into; a disk that is full is told in two lines."""
    with (
        disk_errors(
            "write the artifacts to the temporary folder", "free some space there, or set TMPDIR to another disk"
        ),
        TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
    ):
        yield Path(scratch)


def show(run: tracking.Run, result: Result, standing: card.Standing) -> None:
    """Print how good the model is, and where it is."""
    report.show(result.settings, result.table, result.outcome.metrics, result.remarks)
    print(f"run         {run.id}")
    named = f"models:/{standing.model_name}/{standing.version}"
    print(f"model       {'not registered' if standing.version is None else named}")
    if standing.unmet:
        print(f"must        {'; '.join(standing.unmet)}")
    elif standing.verdict is not None:
        print(report.wrapped(f"champion    {standing.verdict}", 12))
    print(f"look at it  {tracking.where_to_look(run)}")
