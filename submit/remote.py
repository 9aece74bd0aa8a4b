"""Send the training run as an Azure Machine Learning job, follow it, bring its results home and prove them.

\b
    python submit/remote.py                          # the defaults of MLproject
    python submit/remote.py -P estimator=elasticnet -P alpha=0.1 --data sales.parquet
    python submit/remote.py -e sweep                 # search for hyperparameters
    python submit/remote.py --dry-run                # print the job as YAML and send nothing
    python submit/remote.py attach JOB               # follow again, from any machine

Exit codes: 0 done and proved; 1 the job failed or was cancelled; 2 wrong input or missing access;
3 the download could not be proved; 130 interrupted and left running.
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    # Run as a script: what it imports is beside its folder, not in it.
    sys.path[0] = str(ROOT)

import click  # noqa: E402

from submit.follow import cancel as cancel_job  # noqa: E402
from submit.follow import follow, interruptible  # noqa: E402
from submit.screen import Screen, can_ask, redact, size  # noqa: E402
from trainer.errors import UserError  # noqa: E402

if TYPE_CHECKING:
    from submit.follow import Ending
    from submit.outputs import Version
    from submit.workspace import Workspace

DONE, FAILED, WRONG, LEFT = 0, 1, 2, 130
COMMAND = "python submit/remote.py"
# Of a version's tags, those that say where it comes from
LINEAGE = ("rows", "data_sha256", "git_commit")

_debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
_output_dir = click.option(
    "--output-dir", default="outputs", show_default=True, type=click.Path(path_type=Path, file_okay=False),
    help="Where the job's folder of results goes.",
)  # fmt: skip
_on_interrupt = click.option(
    "--on-interrupt", default="ask", show_default=True, type=click.Choice(["ask", "detach", "cancel"]),
    help="What Ctrl-C or SIGTERM does with the job; where nobody can be asked, ask detaches.",
)  # fmt: skip
_queue_timeout = click.option(
    "--queue-timeout", default="30m", show_default=True, metavar="TIME",
    help="Cancel a job that has waited so long for a node.",
)  # fmt: skip


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}, help=__doc__)
@click.option(
    "-e", "--entry-point", default="main", show_default=True, type=click.Choice(["main", "sweep"]),
    help="MLproject's: main trains a model, sweep searches for its hyperparameters.",
)  # fmt: skip
@click.option("-P", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of the entry point.")
@click.option(
    "--data", metavar="PATH|ASSET|URL", help="The table: a local file or folder, azureml:NAME:VERSION, a URL."
)
@click.option("--cluster", metavar="NAME", help="Another cluster than compute.yml's; created where it is missing.")
@click.option("--size", "vm_size", metavar="NAME", help="The size of a new cluster's nodes.")
@click.option("--max-nodes", type=click.IntRange(1), help="The most nodes of a new cluster.")
@click.option("--low-priority", is_flag=True, help="A new cluster of nodes that are cheap and may be taken away.")
@click.option(
    "--nodes", default=1, show_default=True, type=click.IntRange(1),
    help="How many nodes train one model together; with estimator=xgboost.",
)  # fmt: skip
@click.option("--experiment", metavar="NAME", help="The experiment to file the run under.")
@click.option("--detach", is_flag=True, help="Send, and do not wait.")
@_on_interrupt
@click.option("--timeout", metavar="TIME", help="The service ends the job after this time: 90s, 30m, 2h.")
@_queue_timeout
@click.option(
    "--resubmit", default=2, show_default=True, type=click.IntRange(0),
    help="How often a job whose node was taken away is sent again.",
)  # fmt: skip
@_output_dir
@click.option("--dry-run", is_flag=True, help="Print the job as YAML, without network and sign-in, and stop.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_debug
@click.pass_context
def cli(context: click.Context, /, **options: Any) -> int:
    """Submit, unless a command is named."""
    if context.invoked_subcommand is None:
        return submit(options)
    for name in options:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"options of a submission cannot go before {context.invoked_subcommand}", context)
    return DONE


@cli.command()
@click.argument("job")
@click.option("--register", is_flag=True, help="Register the model, where the job could not.")
@_on_interrupt
@_queue_timeout
@_output_dir
@_debug
def attach(job: str, register: bool, on_interrupt: str, queue_timeout: str, output_dir: Path) -> int:
    """Follow JOB again; where it has ended, download and prove."""
    import skops.io  # noqa: F401  # for the proof; first, for it searches every module that is loaded by then

    from submit.job import read_seconds

    seconds = read_seconds("--queue-timeout", queue_timeout)
    workspace = _connect()
    ending = follow(workspace, job, seconds, on_interrupt)
    return _conclude(workspace, job, ending, output_dir, register)


@cli.command()
@click.argument("job")
@_debug
def cancel(job: str) -> int:
    """Cancel JOB."""
    workspace = _connect()
    ending, had_ended = cancel_job(workspace, job)
    how = "had ended already: it is" if had_ended else "is"
    workspace.screen.say(f"job {job} {how} {ending.status.lower()}")
    return DONE


@cli.command()
@click.option("-n", "count", default=10, show_default=True, type=click.IntRange(1), help="How many.")
@_debug
def jobs(count: int) -> int:
    """List the recent jobs: name, status, rmse, age."""
    from submit.report import list_jobs

    list_jobs(_connect(), count)
    return DONE


@cli.command()
@click.option("--cluster", metavar="NAME", help="Another cluster than compute.yml's.")
@click.option("--size", "vm_size", metavar="NAME", help="Another size than compute.yml's.")
@click.option("--low-priority", is_flag=True, help="Look at the quota of low-priority nodes.")
@_debug
def doctor(cluster: str | None, vm_size: str | None, low_priority: bool) -> int:
    """Check versions, sign-in, workspace, quota and cluster, and say how to mend what is not well."""
    from submit.report import examine

    return DONE if examine(Screen(), cluster, vm_size, low_priority) else WRONG


def _connect() -> "Workspace":
    from submit.workspace import connect, find_address

    screen = Screen()
    address = find_address(Path.cwd())
    with screen.status(f"signing in to {address.workspace_name}"):
        return connect(address, screen, interactive=screen.terminal and can_ask())


def submit(options: dict[str, Any]) -> int:
    """Check, show, ask, send, follow, bring home: the whole of a submission."""
    from submit import job
    from submit import workspace as places

    timeout = options["timeout"] and job.read_seconds("--timeout", options["timeout"])
    queue_timeout = job.read_seconds("--queue-timeout", options["queue_timeout"])
    entry = options["entry_point"]
    parameters = job.read_parameters(options["parameters"], options["data"], options["nodes"], entry)
    search = job.find_search(parameters) if entry == job.SWEEP else None
    data = job.find_data(parameters[job.DATA])
    environment = places.read_environment()
    order = job.Order(parameters, data, environment.reference, options["experiment"], timeout, options["nodes"], search)
    if options["dry_run"]:
        click.echo(job.to_yaml(job.document(order, ROOT, options["cluster"] or places.default_cluster())), nl=False)
        return DONE

    workspace = _connect()
    screen = workspace.screen
    with screen.status("looking at the workspace"):
        order = replace(order, data=job.look_up(workspace, data))
        cluster = places.plan_cluster(
            workspace, options["cluster"], options["vm_size"], options["max_nodes"], options["low_priority"]
        )
        places.check_nodes(cluster, options["nodes"])
        known = places.has_environment(workspace, environment)
    with tempfile.TemporaryDirectory(prefix="submit-") as scratch:
        staged = job.stage(Path(scratch) / "code", entry=entry)
        made = "" if known else ", to be created (its image is built once, about 10 minutes)"
        screen.table(
            [
                ("workspace", f"{workspace.name} in {workspace.location}, named by {workspace.address.source}"),
                ("cluster", cluster.text),
                *(("", f"! {remark}") for remark in cluster.remarks),
                ("environment", f"{environment.name}:{environment.version}{made}"),
                ("code", f"{staged.files} files, {size(staged.bytes)}"),
                ("data", data.text),
                *((("nodes", f"{order.nodes}, which train one model together"),) if order.nodes > 1 else ()),
                *((("search", search.text),) if search else ()),
                ("parameters", job.changes(parameters, entry)),
            ]
        )
        asks = not options["yes"] and screen.terminal and can_ask()
        if asks and not click.confirm("Send it?", default=True):
            screen.say("nothing was sent")
            return FAILED
        places.create_cluster(workspace, cluster)
        if not known:
            places.create_environment(workspace, environment)
        name, ending = "", None
        for attempt in range(options["resubmit"] + 1):
            if ending is not None:
                screen.say(f"its node was taken away: sent again, {attempt} of {options['resubmit']} times", "yellow")
            tags = {"resubmission_of": name} if name else {}
            name = job.new_name(entry)
            document = job.document(order, staged.folder, cluster.name, name, tags)
            ending = _send(workspace, document, Path(scratch), options["detach"], options["on_interrupt"])
            if ending is None:
                if options["detach"]:
                    return DONE
                ending = follow(workspace, name, queue_timeout, options["on_interrupt"])
            if not ending.preempted:
                break
    return _conclude(workspace, name, ending, options["output_dir"], register=False)


def _send(
    workspace: "Workspace", document: dict[str, Any], scratch: Path, detach: bool, on_interrupt: str
) -> "Ending | None":
    """Send a job and say how to get at it; where somebody interrupts, what became of it."""
    from submit import follow, job

    name = document["name"]
    try:
        sent = job.send(workspace, document, scratch)
    except follow.Interrupted as interruption:
        if not follow.exists(workspace, name):
            workspace.screen.say("nothing was sent")
            raise
        return follow.interrupted(workspace, name, interruption, "detach" if detach else on_interrupt)
    workspace.screen.table(
        [
            ("job", name),
            ("studio", str(sent.studio_url)),
            ("attach", f"{COMMAND} attach {name}"),
            ("cancel", f"{COMMAND} cancel {name}"),
            ("look", f"{COMMAND} jobs"),
        ]
    )
    return None


def _conclude(workspace: "Workspace", name: str, ending: "Ending | None", output_dir: Path, register: bool) -> int:
    """Bring home what there is, and say in the end how it stands."""
    from submit import outputs
    from trainer.registry import VERDICT

    screen = workspace.screen
    if ending is None or ending.left:
        screen.say(f"job {name} goes on. To follow it again: {COMMAND} attach {name}", "yellow")
        return LEFT
    if ending.status != "Completed" and not register:
        screen.say(f"job {name} is {ending.status.lower()}", "bold red")
        if "could not register" in ending.said:
            screen.say(f"its model is stored all the same; to register it: {COMMAND} attach {name} --register")
        return FAILED
    try:
        proof = outputs.bring_home(workspace, name, output_dir)
        version = outputs.find_version(workspace, proof)
        if version is None and register:
            version = outputs.register(workspace, proof)
    except KeyboardInterrupt:
        screen.say(f"job {name} has ended. To bring its results home: {COMMAND} attach {name}", "yellow")
        raise
    how = "exactly" if proof.agreement.exact else f"to {proof.agreement.largest_relative:.0e}"
    screen.table(
        [
            ("outputs", f"{proof.folder} ({proof.files} files, {size(proof.bytes)})"),
            ("proved", f"its model predicts its {proof.agreement.rows} recorded rows again, {how}"),
            ("rmse", repr(proof.metric["RMSE"])),
            ("model", _lineage(version, proof.metric["params"]["model_name"], name)),
            *([("champion", version.tags[VERDICT])] if version and VERDICT in version.tags else []),
        ]
    )
    return DONE


def _lineage(version: "Version | None", model: str, name: str) -> str:
    if version is None:
        return f"not registered ({'model_name=none' if model == 'none' else f'{COMMAND} attach {name} --register'})"
    shown = ", ".join(f"{key} {version.tags[key][:12]}" for key in LINEAGE if key in version.tags)
    return f"{version.uri}, from run {version.run_id} ({shown})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        # Lines of a job's log may hold any character; a terminal that cannot show one should not end the program.
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        with interruptible():
            return int(cli.main(args=given, prog_name=COMMAND, standalone_mode=False) or 0)
    except UserError as error:
        _explain(error, debug)
        return error.exit_code
    except click.UsageError as error:
        _explain(UserError(error.format_message(), f"{COMMAND} --help lists options and commands"), debug)
        return WRONG
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return LEFT


def _explain(error: UserError, debug: bool) -> None:
    if debug:
        import traceback

        click.echo(redact("".join(traceback.format_exception(error))), err=True)
    click.echo(redact(str(error)), err=True)


if __name__ == "__main__":
    sys.exit(main())
