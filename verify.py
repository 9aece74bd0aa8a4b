"""Does a model still predict what it predicted on the day it was trained?

    python verify.py --model models:/diabetes-progression/3
    python verify.py --model models:/diabetes-progression@champion --record yes
    python verify.py --model outputs/my-job/models

The rows that were recorded with the model are scored again, here and now. Exit code 0: the same; 1: they differ, or
the model cannot be used here; 2: there is nothing to compare. Nothing that came with the model is run, unless
`--trust yes` says so.
"""

import logging
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from platform import python_version

from trainer import cli, model_folder, registry, settings, tracking
from trainer.card import MOST_NAME, plain
from trainer.errors import UnusableModelError
from trainer.estimators import ESTIMATORS
from trainer.secrets import without_secrets

LINEAR_TOLERANCE = 1e-9
WORST_ROWS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; see the exit codes above."""
    return cli.run(__doc__ or "", settings.VERIFY, verify, arguments)


def verify(given: dict[str, str]) -> int:
    """Score the recorded rows of a model again, and tell how far the answers are from those of the day of training."""
    read = settings.values(settings.VERIFY, given)
    tolerance, trust = read["tolerance"], read["trust"] == "yes"
    _silence_what_is_said_better_below(trust)
    changed: dict[str, tuple[str, str]] = {}
    with registry.fetched(given["model"]) as folder:
        try:
            changed = changed_versions(model_folder.read_recorded(folder, trust, given["model"]).versions)
            agreement = model_folder.score_again(folder, trust, given["model"])
        except UnusableModelError as error:
            print(error, file=sys.stderr)
            if changed:
                _explain(given["model"], changed)
            return 1
        if tolerance is None:
            estimator = ESTIMATORS.get(model_folder.estimator(folder))
            tolerance = LINEAR_TOLERANCE if estimator and estimator.is_linear else 0.0
    agrees = agreement.largest_relative <= tolerance
    _report(given["model"], agreement, agrees, tolerance, changed)
    name = plain(f"verify {without_secrets(given['model'])}")[:MOST_NAME]
    if read["record"] == "yes":
        _record(given, name, agreement, agrees)
    else:
        tracking.name_given_run(name)
    return 0 if agrees else 1


def changed_versions(recorded: dict[str, str]) -> dict[str, tuple[str, str]]:
    """List the packages whose version is not that of the day of training: by name, the one then and the one now."""
    present = {"python": python_version()}
    for name in recorded.keys() - present.keys():
        try:
            present[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            present[name] = "not installed"
    return {name: (then, present[name]) for name, then in recorded.items() if present[name] != then}


def _silence_what_is_said_better_below(trust: bool) -> None:
    if trust:
        import mlflow  # noqa: F401 - it sets the levels of its loggers on import

        for name in ("mlflow.utils.requirements_utils", "mlflow.pyfunc"):
            logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "Trying to unpickle estimator")


def _report(
    model: str, agreement: model_folder.Agreement, agrees: bool, tolerance: float, changed: dict[str, tuple[str, str]]
) -> None:
    environment = "the same environment"
    if changed:
        environment = f"{len(changed)} package{'s' if len(changed) > 1 else ''} differ{'' if len(changed) > 1 else 's'}"
    print(
        f"{model}: {'the same' if agrees else 'DIFFERENT'} predictions for {agreement.rows} recorded rows "
        f"(largest difference {agreement.largest_absolute:.3g}, relative {agreement.largest_relative:.3g}; "
        f"tolerance {tolerance:.3g}; {environment})"
    )
    if not agrees:
        _show_worst(agreement)
        _explain(model, changed)
    elif changed:
        listed = (f"{name} {then} -> {now}" for name, (then, now) in changed.items())
        print(f"differing, without effect: {', '.join(listed)}")


def _show_worst(agreement: model_folder.Agreement) -> None:
    print(f"{'row':>5} {'recorded':>24} {'now':>24} {'relative':>10}")
    for row in (-agreement.relative).argsort(kind="stable")[:WORST_ROWS]:
        then, now = agreement.recorded[row], agreement.predicted[row]
        print(f"{row:>5} {then:>24.17g} {now:>24.17g} {agreement.relative[row]:>10.3g}")


def _explain(model: str, changed: dict[str, tuple[str, str]]) -> None:
    if not changed:
        print("no package differs from the day of training: look at the machine (processor, BLAS) or at the files")
        return
    print(f"{'package':<16} {'then':<12} now")
    for name, (then, now) in changed.items():
        print(f"{name:<16} {then:<12} {now}")
    print(f"in the recorded environment: mlflow models predict --env-manager uv -m {model} -i rows.csv -t csv")


def _record(given: dict[str, str], name: str, agreement: model_folder.Agreement, agrees: bool) -> None:
    with tracking.start_run(given, "verify.py", name) as run:
        tracking.log(
            run,
            metrics={
                "verified_rows": agreement.rows,
                "largest_absolute_difference": min(agreement.largest_absolute, sys.float_info.max),
                "largest_relative_difference": min(agreement.largest_relative, sys.float_info.max),
                "agrees": float(agrees),
            },
        )
    print(f"recorded in run {run.id}")


if __name__ == "__main__":
    sys.exit(main())
