"""Send the training run as an Azure Machine Learning job, follow it, fetch its results and verify them.

\b
    python submit/remote.py                          # the defaults of MLproject
    python submit/remote.py -P estimator=elasticnet -P alpha=0.1 --data sales.parquet
    python submit/remote.py --serverless             # without a cluster
    python submit/remote.py -e sweep                 # search for hyperparameters
    python submit/remote.py -e compare               # try all estimators
    python submit/remote.py -e predict --data new.csv -P output=predictions.csv    # score a table with a model
    python submit/remote.py --project DIR_OR_URL -e ENTRY -P name=value    # any other MLflow project
    python submit/remote.py --dry-run                # print the job as YAML and send nothing
    python submit/remote.py attach JOB               # follow again, from any machine
    python submit/remote.py deploy models:/NAME@champion    # behind an address, verified; see endpoints, undeploy

Exit codes: 0 done and verified; 1 the job failed or was cancelled; 2 wrong input or missing access;
3 the download, or the deployment, could not be verified; 130 interrupted and left running.
"""  # noqa: D301  # click's mark for lines that stay as they are

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

if not __package__:
    # Run as a script: what it imports is beside its folder, not in it, and it is a module of its package (PEP 366).
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = importlib.import_module("submit").__name__

try:
    import click
except ModuleNotFoundError as missing:
    print(f"error: this Python has no package {missing.name!r}, which the project needs", file=sys.stderr)
    print(f"  fix: uv run python {' '.join(sys.argv)}", file=sys.stderr)
    sys.exit(2)

from .console import Screen, command
from .errors import UserError
from .rules import seconds
from .secrets import redact
from .signals import heard

DONE, USAGE, DETACHED = 0, 2, 130


def _seconds(_: click.Context, option: click.Parameter, text: str | None) -> int | None:
    return None if text is None else seconds(option.opts[0], text)


_yes = click.option("--yes", is_flag=True, help="Do not ask.")
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
    "--queue-timeout", default="30m", show_default=True, metavar="TIME", callback=_seconds,
    help="Cancel a job that has waited so long for a node.",
)  # fmt: skip
_workspace = click.option(
    "--workspace", metavar="FILE|SUBSCRIPTION/GROUP/NAME", help="Another workspace than the nearest config.json's."
)
_cluster = click.option("--cluster", metavar="NAME", help="Another cluster than compute.yml's; created if missing.")
_size = click.option("--size", metavar="NAME", help="The size of a new cluster's nodes, or of serverless ones.")
_low_priority = click.option("--low-priority", is_flag=True, help="Nodes that are cheap and may be taken away.")
_serverless = click.option("--serverless", is_flag=True, help="Nodes for this job alone, without a cluster.")
_nodes = click.option(
    "--nodes", default=1, show_default=True, type=click.IntRange(1),
    help="How many nodes train one model together; with estimator=xgboost.",
)  # fmt: skip


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}, help=__doc__)
@click.option(
    "--project", metavar="DIR|URL",
    help="Another project: a folder with an MLproject, or a Git address; #FOLDER for a part of it.",
)  # fmt: skip
@click.option("--version", metavar="REF", help="Of a project in Git: a commit, a branch or a tag.")
@click.option(
    "-e", "--entry-point", default="main", show_default=True, metavar="NAME",
    help="MLproject's: here main trains a model, sweep searches for hyperparameters, compare tries all estimators, "
    "predict scores a new table.",
)  # fmt: skip
@click.option("-P", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter of the entry point.")
@click.option(
    "--data", metavar="PATH|ASSET|URL",
    help="The table: a local file or folder, azureml:NAME:VERSION, azureml:NAME@latest, job:NAME/PATH, an address.",
)  # fmt: skip
@_workspace
@_cluster
@_size
@click.option("--max-nodes", type=click.IntRange(1), help="The most nodes of a new cluster.")
@_low_priority
@_serverless
@_nodes
@click.option("--experiment", metavar="NAME", help="The experiment to file the run under.")
@click.option("--image", metavar="NAME", help="Another image than the project's, or below its conda file.")
@click.option("--detach", is_flag=True, help="Send, and do not wait.")
@_on_interrupt
@click.option("--timeout", metavar="TIME", callback=_seconds, help="The service ends the job after it: 90s, 30m, 2h.")
@_queue_timeout
@click.option(
    "--resubmit", default=2, show_default=True, type=click.IntRange(0),
    help="How often a job whose node was taken away is sent again.",
)  # fmt: skip
@_output_dir
@click.option("--dry-run", is_flag=True, help="Print the job as YAML, without network and sign-in, and stop.")
@_yes
@_debug
@click.pass_context
def cli(
    context: click.Context, project: str | None, version: str | None, entry_point: str, parameters: tuple[str, ...],
    data: str | None, workspace: str | None, cluster: str | None, size: str | None, max_nodes: int | None,
    low_priority: bool, serverless: bool, nodes: int, experiment: str | None, image: str | None, detach: bool,
    on_interrupt: str, timeout: int | None, queue_timeout: int, resubmit: int, output_dir: Path, dry_run: bool,
    yes: bool,
) -> int:  # fmt: skip
    """Submit, unless a command is named."""
    if context.invoked_subcommand is not None:
        for name in context.params:
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(
                    f"options of a submission cannot go before {context.invoked_subcommand}", context
                )
        return DONE
    from . import submission
    from .compute import Asked
    from .project import opened

    where = Asked(cluster, size, max_nodes, low_priority, nodes, serverless)
    with opened(project, version) as found:
        asked = submission.Submission(
            work=found.read_work(entry_point, parameters, data, nodes), project=found, where=where, workspace=workspace,
            experiment=experiment, image=image, timeout=timeout, queue_timeout=queue_timeout, resubmit=resubmit,
            detach=detach, on_interrupt=on_interrupt, output_dir=output_dir, ask=not yes,
        )  # fmt: skip
        if dry_run:
            click.echo(submission.dry_run(asked), nl=False)
            return DONE
        return submission.submit(asked)


@cli.command()
@click.argument("job")
@click.option("--register", is_flag=True, help="Register the model, where the job could not.")
@_on_interrupt
@_queue_timeout
@_output_dir
@_workspace
@_debug
def attach(
    job: str, register: bool, on_interrupt: str, queue_timeout: int, output_dir: Path, workspace: str | None
) -> int:
    """Follow JOB again; where it has ended, fetch and verify."""
    from . import submission

    return submission.attach(job, queue_timeout, on_interrupt, output_dir, register, workspace)


@cli.command()
@click.argument("job")
@_workspace
@_debug
def cancel(job: str, workspace: str | None) -> int:
    """Cancel JOB."""
    from . import submission

    return submission.cancel(job, workspace)


@cli.command()
@click.option("-n", "count", default=10, show_default=True, type=click.IntRange(1), help="How many.")
@_workspace
@_debug
def jobs(count: int, workspace: str | None) -> int:
    """List the recent jobs: name, status, rmse, cost, age."""
    from . import jobs as listed
    from .submission import open_workspace

    listed.show(open_workspace(workspace), count)
    return DONE


@cli.command()
@click.argument("model")
@click.option("--endpoint", metavar="NAME", help="Another name than the model's; unique in the region.")
@click.option("--instance-type", metavar="NAME", help="Another size of virtual machine than deployment.yml's.")
@click.option("--instances", type=click.IntRange(1), help="How many of them.")
@_yes
@_workspace
@_debug
def deploy(
    model: str, endpoint: str | None, instance_type: str | None, instances: int | None, yes: bool, workspace: str | None
) -> int:
    """Deploy MODEL, models:/NAME@champion or models:/NAME/VERSION, and move the traffic once it has answered right."""
    from . import deploy as deployed

    return deployed.deploy(deployed.Asked(model, endpoint, instance_type, instances, not yes, workspace))


@cli.command()
@_workspace
@_debug
def endpoints(workspace: str | None) -> int:
    """List the endpoints and their deployments: traffic, model, size, what an hour costs."""
    from . import endpoints as listed
    from .submission import open_workspace

    listed.show(open_workspace(workspace))
    return DONE


@cli.command()
@click.argument("endpoint")
@_yes
@_workspace
@_debug
def undeploy(endpoint: str, yes: bool, workspace: str | None) -> int:
    """Delete ENDPOINT and its deployments."""
    from . import endpoints as listed
    from .rules import check_endpoint_name
    from .submission import open_workspace

    check_endpoint_name(endpoint)
    return DONE if listed.undeploy(open_workspace(workspace), endpoint, ask=not yes) else 1


@cli.command()
@_cluster
@_size
@_low_priority
@_serverless
@_nodes
@_workspace
@_debug
def doctor(
    cluster: str | None, size: str | None, low_priority: bool, serverless: bool, nodes: int, workspace: str | None
) -> int:
    """Check versions, sign-in, workspace, storage, quota and cluster, and say how to fix what is not well."""
    from .compute import Asked
    from .doctor import examine

    asked = Asked(cluster, size, None, low_priority, nodes, serverless)
    return DONE if examine(Screen(), asked, workspace) else USAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    if arguments is None and sys.getfilesystemencoding() == "ascii":
        # LC_ALL=C where Python's UTF-8 mode is off: no name of a file, column or value beyond ASCII would be right.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        # Lines of a job's log may hold any character; a terminal that cannot show one should not end the program.
        sys.stdout.reconfigure(errors="replace", encoding=None if sys.stdout.isatty() else "utf-8")  # type: ignore[union-attr]
        with heard():
            return int(cli.main(args=given, prog_name=command(), standalone_mode=False) or 0)
    except UserError as error:
        _explain(error, debug)
        return error.exit_code
    except click.UsageError as error:
        _explain(UserError(error.format_message(), f"{command('--help')} lists options and commands"), debug)
        return USAGE
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return DETACHED


def _explain(error: UserError, debug: bool) -> None:
    if debug:
        _trace(type(error), error, error.__traceback__)
    click.echo(redact(str(error)), err=True)


def _trace(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print a traceback without secrets: the errors of libraries quote addresses with signatures."""
    from traceback import format_exception

    click.echo(redact("".join(format_exception(kind, error, traceback))), err=True)


if __name__ == "__main__":
    sys.excepthook = _trace
    sys.exit(main())
