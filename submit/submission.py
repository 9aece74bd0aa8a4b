"""The story of one submission: check, show, ask, send, follow, fetch, verify."""

import tempfile
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

from . import compute, data, follow, job, outputs, own, predictions, rules, sizes
from .console import Screen, can_ask, clock, command, dollars, size
from .environment import Environment, create_environment, has_environment
from .errors import Interrupted, UserError
from .job import Project, Staged, Work
from .own import Trainer
from .workspace import Workspace, connect, find_address

DONE, FAILED, USAGE, DETACHED = 0, 1, 2, 130
# A price that the service does not tell
UNKNOWN = 0.0
# Of a version's tags, those that say where it comes from
LINEAGE = ("rows", "data_sha256", "git_commit")
# How many of the metrics of a project that is not known are shown.
_METRICS = 12


@dataclass(frozen=True)
class Submission:
    """What is asked for on the command line, checked as far as nobody needs to be asked.

    Attributes
    ----------
    workspace : str or None
        Which one; None for that of the environment or of config.json.
    timeout, queue_timeout : int
        Seconds; of `timeout`, None for that of job.yml.
    image : str or None
        In the place of the project's.
    resubmit : int
        How often a job whose node was taken away is sent again.
    ask : bool
        Whether somebody is to agree before anything is sent.
    tags : mapping
        Of the run, in addition to the project's.
    """

    work: Work
    where: compute.Asked
    workspace: str | None = None
    experiment: str | None = None
    image: str | None = None
    timeout: int | None = None
    queue_timeout: int = 1800
    resubmit: int = 2
    detach: bool = False
    on_interrupt: str = "ask"
    output_dir: Path = Path("outputs")
    ask: bool = True
    project: Project = field(default_factory=Trainer)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Sent:
    """A job that was sent, with what it takes to send it again.

    Attributes
    ----------
    name : str
        Of the job, which is the run's id.
    ending : Ending or None
        What has become of it, where somebody has interrupted while it was sent.
    scratch : TemporaryDirectory
        Holds what was staged, for as long as it may be sent again.
    """

    workspace: Workspace
    submission: Submission
    code: Path
    scratch: "tempfile.TemporaryDirectory[str]"
    price: float | None
    name: str = ""
    ending: follow.Ending | None = None


def dry_run(submission: Submission) -> str:
    """Return the job as YAML, without asking anybody."""
    return job.to_yaml(_document(submission, submission.project.root, submission.where.job_fields()))


def _document(submission: Submission, code: Path, where: dict[str, Any], **more: Any) -> dict[str, Any]:
    return job.document(
        submission.project, submission.work, code, where,
        experiment=submission.experiment, timeout=submission.timeout, image=submission.image, **more,
    )  # fmt: skip


def open_workspace(named: str | None = None) -> Workspace:
    """Find the workspace and sign in."""
    screen = Screen()
    address = find_address(Path.cwd(), named)
    with screen.status(f"signing in to {address.workspace_name}"):
        return connect(address, screen, interactive=screen.terminal and can_ask())


def submit(submission: Submission) -> int:
    """Do the whole of it, and return the exit code."""
    sent = send(submission)
    if sent is None:
        return FAILED
    with sent.scratch:
        return DONE if submission.detach and sent.ending is None else finish(sent)


def send(submission: Submission) -> Sent | None:
    """Check, show, ask and send; None where somebody has said no."""
    _document(submission, submission.project.root, submission.where.job_fields())  # its names, before anybody is asked
    environment = submission.project.environment(submission.image)
    workspace = open_workspace(submission.workspace)
    screen = workspace.screen
    with screen.status("looking at the workspace"):
        known, limits = sizes.sizes(workspace), sizes.usages(workspace)
        target = compute.plan(workspace, submission.where, known, limits)
        files = {name: data.look_up(workspace, file) for name, file in submission.work.files.items()}
        work = submission.project.settle(workspace, replace(submission.work, files=files))
        submission = replace(submission, work=work)
        is_new = not has_environment(workspace, environment)
    scratch = tempfile.TemporaryDirectory(prefix="submit-", ignore_cleanup_errors=True)
    try:
        folder = Path(scratch.name)
        staged = submission.project.stage(submission.work.entry, folder / "code")
        screen.pairs(_rows(workspace, submission, target, environment, is_new, staged))
        if submission.ask and screen.terminal and can_ask() and not _agreed():
            screen.say("nothing was sent")
            scratch.cleanup()
            return None
        compute.create(workspace, target)
        if is_new:
            create_environment(workspace, environment)
        files = {name: data.stage(file, folder / "inputs" / name) for name, file in files.items()}
        submission = replace(submission, work=replace(submission.work, files=files))
        price = None if target.price is None else target.price * submission.where.nodes
        sent = Sent(workspace, submission, staged.folder, scratch, price)
        _send(sent, {})
        return sent
    except BaseException:
        scratch.cleanup()
        raise


def _agreed() -> bool:
    import click

    return click.confirm("Send it?", default=True)


def _rows(
    workspace: Workspace, submission: Submission, target: compute.Target, environment: Environment,
    is_new: bool, staged: Staged,
) -> list[tuple[str, str]]:  # fmt: skip
    """Say what will be sent, and what it will cost."""
    work, nodes = submission.work, submission.where.nodes
    made = ", to be created (its image is built once, about 10 minutes)" if is_new else ""
    rows = [
        ("workspace", f"{workspace.name} in {workspace.location}, named by {workspace.address.source}"),
        ("compute" if submission.where.serverless else "cluster", target.text),
        *(("", f"! {remark}") for remark in target.remarks),
        *(("", hint) for hint in target.hints),
    ]
    if target.quota.verdict == "enough" or (target.quota.verdict == "unknown" and target.quota.text):
        rows.append(("quota", target.quota.text))
    if target.price is not None:
        limit = submission.timeout or job.time_limit(submission.project)
        most = f", at most {dollars(target.price * nodes * limit / 3600)} in {clock(limit)}" if limit else ""
        rows.append(("price", f"{dollars(target.price * nodes)} an hour while it runs{most}"))
    rows += [
        ("environment", f"{environment.name}:{environment.version}{made}"),
        *([("", environment.source)] if environment.source else []),
        ("code", f"{staged.files} files, {size(staged.bytes)}"),
        *((name, file.text) for name, file in work.files.items()),
        *([("nodes", f"{nodes}, which train one model together")] if nodes > 1 else []),
        *work.told,
        ("parameters", work.changes),
        *(("", f"! {remark}") for remark in work.remarks),
    ]
    return rows


def finish(sent: Sent) -> int:
    """Follow a job that was sent, again where its node was taken away, and conclude; return the exit code."""
    ending = _follow_until_done(sent)
    asked = sent.submission
    return conclude(sent.workspace, sent.name, ending, asked.output_dir, sent.price or UNKNOWN, home=asked.work.home)


def _follow_until_done(sent: Sent) -> follow.Ending:
    asked, attempt = sent.submission, 0
    while True:
        ending = sent.ending or follow.follow(sent.workspace, sent.name, asked.queue_timeout, asked.on_interrupt)
        if not ending.preempted or attempt == asked.resubmit:
            return ending
        attempt += 1
        sent.workspace.screen.say(f"its node was taken away: sent again, {attempt} of {asked.resubmit} times", "yellow")
        _send(sent, {"resubmission_of": sent.name})


def _send(sent: Sent, tags: Mapping[str, str]) -> None:
    """Send the job and say how to get at it; where somebody interrupts, what became of it."""
    from azure.ai.ml import load_job

    workspace, asked = sent.workspace, sent.submission
    sent.name = job.new_name(asked.project.label(asked.work.entry))
    sent.ending = None
    document = _document(asked, sent.code, asked.where.job_fields(workspace.by_identity), name=sent.name, tags=tags)
    rules.check_job_name(sent.name)
    path = Path(sent.scratch.name) / f"{sent.name}.yml"
    path.write_text(job.to_yaml(document), encoding="utf-8")

    def create() -> Any:
        with redirect_stderr(StringIO()):  # its progress bars
            return workspace.client.jobs.create_or_update(load_job(path))

    try:
        with workspace.screen.status("sending"):
            made = workspace.call("send the job", create)
            _record(sent)
    except Interrupted as interruption:
        if not follow.exists(workspace, sent.name):
            workspace.screen.say("nothing was sent")
            raise
        how = "detach" if asked.detach else asked.on_interrupt
        sent.ending = follow.interrupted(workspace, sent.name, interruption, how)
        return
    workspace.screen.pairs(
        [
            ("job", sent.name),
            ("studio", str(made.studio_url)),
            ("attach", command("attach", sent.name, *workspace.address.words)),
            ("cancel", command("cancel", sent.name, *workspace.address.words)),
            ("look", command("jobs", *workspace.address.words)),
        ]
    )


def _record(sent: Sent) -> None:
    """Tell the workspace's MLflow what `mlflow run` would: the parameters as they were given, and the source."""
    from mlflow.entities import Param, RunTag

    asked = sent.submission
    if not asked.project.recorded:
        return
    tags = {**asked.project.tags(asked.work.entry), **asked.tags}
    parameters = [Param(key, value) for key, value in asked.work.parameters.items()]  # type: ignore[no-untyped-call]
    told = [RunTag(key, value) for key, value in tags.items()]  # type: ignore[no-untyped-call]
    try:
        sent.workspace.call(
            "log the parameters", lambda: sent.workspace.mlflow().log_batch(sent.name, params=parameters, tags=told)
        )
    except UserError as error:  # the job runs all the same
        sent.workspace.screen.say(f"its run does not say what it was given: {error.cause}", "yellow")


def attach(
    name: str, queue_timeout: int, on_interrupt: str, output_dir: Path, register: bool, named: str | None = None
) -> int:
    """Follow a job again; where it has ended, fetch and verify."""
    if own.is_here():
        import skops.io  # noqa: F401  # to verify; first, for it searches every module that is loaded by then

    rules.check_job_name(name)
    workspace = open_workspace(named)
    ending = follow.follow(workspace, name, queue_timeout, on_interrupt)
    return conclude(workspace, name, ending, output_dir, None, register)


def cancel(name: str, named: str | None = None) -> int:
    """Cancel a job, and say what it has become."""
    rules.check_job_name(name)
    workspace = open_workspace(named)
    ending, had_ended = follow.cancel(workspace, name)
    how = "had ended already: it is" if had_ended else "is"
    workspace.screen.say(f"job {name} {how} {ending.status.lower()}")
    return DONE


def conclude(
    workspace: Workspace,
    name: str,
    ending: follow.Ending,
    output_dir: Path,
    price: float | None,
    register: bool = False,
    home: Path | None = None,
) -> int:
    """Fetch and verify what there is, say in the end how it stands, and return the exit code.

    Parameters
    ----------
    price : float or None
        USD an hour of all its nodes; None to look it up, `UNKNOWN` where that was done in vain.
    register : bool
        Register the model where the job could not.
    home : Path or None
        Where the predictions of a job that has scored a table go; None for its folder of results.
    """
    screen = workspace.screen
    if ending.detached:
        screen.say(f"job {name} goes on. To follow it again: {command('attach', name)}", "yellow")
        return DETACHED
    _say_cost(workspace, name, ending, price)
    if ending.status != "Completed" and not register:
        screen.say(f"job {name} is {ending.status.lower()}", "bold red")
        if "could not register" in ending.log_tail:
            again = command("attach", name, "--register")
            screen.say(f"its model is stored all the same; to register it: {again}")
        return FAILED
    try:
        found = outputs.fetch(workspace, name, output_dir)
        if isinstance(found, outputs.Fetched):
            rows = predictions.bring_home(workspace, name, found.folder, home)
            rows = [("verified", f"no: {found.why}"), *_metric_rows(workspace, name)] if rows is None else rows
            screen.pairs([("outputs", f"{found.folder} ({found.files} files, {size(found.bytes)})"), *rows])
            return DONE
        model = _model_rows(workspace, found.metric, register)
    except KeyboardInterrupt:
        screen.say(f"job {name} has ended. To fetch its results: {command('attach', name)}", "yellow")
        raise
    from trainer.card import figure

    how = "exactly" if found.agreement.exact else f"to {found.agreement.largest_relative:.0e}"
    screen.pairs(
        [
            ("outputs", f"{found.folder} ({found.files} files, {size(found.bytes)})"),
            ("verified", f"its model predicts its {found.agreement.rows} recorded rows again, {how}"),
            ("rmse", figure(found.metric.rmse)),
            *model,
        ]
    )
    return DONE


def _say_cost(workspace: Workspace, name: str, ending: follow.Ending, price: float | None) -> None:
    """Say what a job has cost: node time at the price of its size. Nothing where the service says nothing."""
    if not ending.seconds or price == UNKNOWN:
        return
    if price is None:
        price = workspace.advice("price", lambda: compute.Prices(workspace).of(workspace.client.jobs.get(name)))
    if price is not None:
        amount = dollars(price * ending.seconds / 3600)
        workspace.screen.say(f"it ran for {clock(ending.seconds)}, about {amount} at {dollars(price)} an hour")


def _metric_rows(workspace: Workspace, name: str) -> list[tuple[str, str]]:
    """Say what the run has logged, as MLflow has it in the end."""
    metrics = workspace.advice("metrics", lambda: workspace.mlflow().get_run(name).data.metrics) or {}
    return [(key, repr(value)) for key, value in sorted(metrics.items())[:_METRICS]]


def _model_rows(workspace: Workspace, metric: outputs.Metric, register: bool) -> list[tuple[str, str]]:
    """Say which version of which model the job has registered, and what came of its comparison."""
    from trainer.registry import VERDICT

    try:
        version = outputs.find_version(workspace, metric)
    except UserError as error:
        if register:
            raise
        return [("model", f"the registry does not tell: {error.cause}")]
    if version is None and register:
        version = outputs.register(workspace, metric)
    if version is None:
        again = "model_name=none" if metric.model is None else command("attach", metric.run_id, "--register")
        return [("model", f"not registered ({again})")]
    shown = ", ".join(f"{key} {version.tags[key][:12]}" for key in LINEAGE if key in version.tags)
    rows = [("model", f"models:/{version.name}/{version.version}, from run {metric.run_id} ({shown})")]
    return rows + ([("champion", version.tags[VERDICT])] if VERDICT in version.tags else [])
