"""The story of one submission: check, show, ask, send, follow, fetch, verify."""

import tempfile
from collections.abc import Iterable
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

from submit import compute, data, follow, outputs, project, rules, sizes
from submit.console import Screen, can_ask, clock, command, dollars, size
from submit.project import Project, Work
from submit.workspace import Workspace, connect, find_address
from trainer.errors import Interrupted, UserError

DONE, FAILED, USAGE, DETACHED = 0, 1, 2, 130
# Of a version's tags, those that say where it comes from
LINEAGE = ("rows", "data_sha256", "git_commit")


@dataclass(frozen=True)
class Submission:
    """What is asked for on the command line, checked as far as nobody needs to be asked.

    Attributes
    ----------
    timeout, queue_timeout : int
        Seconds; of `timeout`, None for that of job.yml.
    resubmit : int
        How often a job whose node was taken away is sent again.
    ask : bool
        Whether somebody is to agree before anything is sent.
    """

    work: Work
    where: compute.Asked
    experiment: str | None = None
    timeout: int | None = None
    queue_timeout: int = 1800
    resubmit: int = 2
    detach: bool = False
    on_interrupt: str = "ask"
    output_dir: Path = Path("outputs")
    ask: bool = True
    project: Project = field(default_factory=Project)


def read_work(of: Project, entry: str, given: Iterable[str], table: str | None, nodes: int) -> Work:
    """Check what a job is to do: its parameters, its data, its search."""
    parameters = project.read_parameters(of, entry, given, table, nodes)
    named = parameters[project.DATA]
    found = data.find(named, of.path(named, of.defaults(entry)[project.DATA]))
    search = project.find_search(of, parameters) if entry == project.SWEEP else None
    return Work(entry, parameters, found, search)


def dry_run(submission: Submission) -> str:
    """Return the job as YAML, without asking anybody."""
    return project.to_yaml(_document(submission, submission.project.root, submission.where.job_fields()))


def _document(submission: Submission, code: Path, where: dict[str, Any], **more: Any) -> dict[str, Any]:
    return project.document(
        submission.project, submission.work, code, where,
        experiment=submission.experiment, timeout=submission.timeout, **more,
    )  # fmt: skip


def open_workspace() -> Workspace:
    """Find the workspace and sign in."""
    screen = Screen()
    address = find_address(Path.cwd())
    with screen.status(f"signing in to {address.workspace_name}"):
        return connect(address, screen, interactive=screen.terminal and can_ask())


def submit(submission: Submission) -> int:
    """Do the whole of it, and return the exit code."""
    _document(submission, submission.project.root, submission.where.job_fields())  # its names, before anybody is asked
    workspace = open_workspace()
    screen = workspace.screen
    with screen.status("looking at the workspace"):
        known, limits = sizes.sizes(workspace), sizes.usages(workspace)
        target = compute.plan(workspace, submission.where, known, limits)
        submission = replace(
            submission, work=replace(submission.work, data=data.look_up(workspace, submission.work.data))
        )
        environment = project.read_environment(submission.project)
        is_new = not project.has_environment(workspace, environment)
    with tempfile.TemporaryDirectory(prefix="submit-") as folder:
        scratch = Path(folder)
        staged = project.stage(submission.project, submission.work.entry, scratch / "code")
        screen.pairs(_rows(workspace, submission, target, environment, is_new, staged))
        if submission.ask and screen.terminal and can_ask() and not _agreed():
            screen.say("nothing was sent")
            return FAILED
        compute.create(workspace, target)
        if is_new:
            project.create_environment(workspace, submission.project, environment)
        work = replace(submission.work, data=data.stage(submission.work.data, scratch))
        name, ending = _send_until_done(workspace, replace(submission, work=work), staged.folder, scratch)
    if ending is None:
        return DONE
    price = None if target.price is None else target.price * submission.where.nodes
    return conclude(workspace, name, ending, submission.output_dir, price)


def _agreed() -> bool:
    import click

    return click.confirm("Send it?", default=True)


def _rows(
    workspace: Workspace, submission: Submission, target: compute.Target, environment: project.Environment,
    is_new: bool, staged: project.Staged,
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
        limit = submission.timeout or project.time_limit(submission.project)
        most = f", at most {dollars(target.price * nodes * limit / 3600)} in {clock(limit)}" if limit else ""
        rows.append(("price", f"{dollars(target.price * nodes)} an hour while it runs{most}"))
    rows += [
        ("environment", f"{environment.name}:{environment.version}{made}"),
        ("code", f"{staged.files} files, {size(staged.bytes)}"),
        ("data", work.data.text),
        *([("nodes", f"{nodes}, which train one model together")] if nodes > 1 else []),
        *([("search", work.search.text)] if work.search else []),
        ("parameters", project.changes(submission.project, work.entry, work.parameters)),
    ]
    return rows


def _send_until_done(
    workspace: Workspace, submission: Submission, code: Path, scratch: Path
) -> tuple[str, follow.Ending | None]:
    """Send the job and follow it, again where its node was taken away; no ending where nobody is to wait for it."""
    where = submission.where.job_fields(workspace.by_identity)
    name, attempt = project.new_name(submission.work.entry), 0
    tags: dict[str, str] = {}
    while True:
        job = _document(submission, code, where, name=name, tags=tags)
        ending = _send(workspace, job, scratch, "detach" if submission.detach else submission.on_interrupt)
        if ending is None:
            if submission.detach:
                return name, None
            ending = follow.follow(workspace, name, submission.queue_timeout, submission.on_interrupt)
        if not ending.preempted or attempt == submission.resubmit:
            return name, ending
        attempt += 1
        workspace.screen.say(f"its node was taken away: sent again, {attempt} of {submission.resubmit} times", "yellow")
        tags, name = {"resubmission_of": name}, project.new_name(submission.work.entry)


def _send(workspace: Workspace, job: dict[str, Any], scratch: Path, on_interrupt: str) -> follow.Ending | None:
    """Send a job and say how to get at it; where somebody interrupts, what became of it."""
    from azure.ai.ml import load_job

    name = str(job["name"])
    rules.check_job_name(name)
    path = scratch / f"{name}.yml"
    path.write_text(project.to_yaml(job), encoding="utf-8")

    def create() -> Any:
        with redirect_stderr(StringIO()):  # its progress bars
            return workspace.client.jobs.create_or_update(load_job(path))

    try:
        with workspace.screen.status("sending"):
            sent = workspace.call("send the job", create)
    except Interrupted as interruption:
        if not follow.exists(workspace, name):
            workspace.screen.say("nothing was sent")
            raise
        return follow.interrupted(workspace, name, interruption, on_interrupt)
    workspace.screen.pairs(
        [
            ("job", name),
            ("studio", str(sent.studio_url)),
            ("attach", command("attach", name)),
            ("cancel", command("cancel", name)),
            ("look", command("jobs")),
        ]
    )
    return None


def attach(name: str, queue_timeout: int, on_interrupt: str, output_dir: Path, register: bool) -> int:
    """Follow a job again; where it has ended, fetch and verify."""
    import skops.io  # noqa: F401  # to verify; first, for it searches every module that is loaded by then

    rules.check_job_name(name)
    workspace = open_workspace()
    ending = follow.follow(workspace, name, queue_timeout, on_interrupt)
    return conclude(workspace, name, ending, output_dir, None, register)


def cancel(name: str) -> int:
    """Cancel a job, and say what it has become."""
    rules.check_job_name(name)
    workspace = open_workspace()
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
) -> int:
    """Fetch and verify what there is, say in the end how it stands, and return the exit code.

    Parameters
    ----------
    price : float or None
        USD an hour of all its nodes; None to look it up.
    register : bool
        Register the model where the job could not.
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
        model = _model_rows(workspace, found.metric, register)
    except KeyboardInterrupt:
        screen.say(f"job {name} has ended. To fetch its results: {command('attach', name)}", "yellow")
        raise
    how = "exactly" if found.agreement.exact else f"to {found.agreement.largest_relative:.0e}"
    screen.pairs(
        [
            ("outputs", f"{found.folder} ({found.files} files, {size(found.bytes)})"),
            ("verified", f"its model predicts its {found.agreement.rows} recorded rows again, {how}"),
            ("rmse", repr(found.metric.rmse)),
            *model,
        ]
    )
    return DONE


def _say_cost(workspace: Workspace, name: str, ending: follow.Ending, price: float | None) -> None:
    """Say what a job has cost: node time at the price of its size. Nothing where the service says nothing."""
    if not ending.seconds:
        return
    if price is None:
        price = workspace.advice("price", lambda: compute.Prices(workspace).of(workspace.client.jobs.get(name)))
    if price is not None:
        amount = dollars(price * ending.seconds / 3600)
        workspace.screen.say(f"it ran for {clock(ending.seconds)}, about {amount} at {dollars(price)} an hour")


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
