"""What the service takes for a name, and how much of what: checked here, before anything is sent."""

import re
from collections.abc import Iterable, Mapping

from .errors import UserError

MAX_PARAMETERS, MAX_VALUE = 200, 500
MAX_TAGS, MAX_TAG_NAME, MAX_TAG_VALUE = 50, 100, 1000
MAX_TITLE = 256

_EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,255}")
_CLUSTER = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])")
_ENDPOINT = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]{1,30}[A-Za-z0-9])")
_DURATION = re.compile(r"(?P<count>\d+)(?P<unit>[smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,254}")


def _check(what: str, name: str, rule: re.Pattern[str], remedy: str) -> None:
    if not rule.fullmatch(name):
        raise UserError(f"{name!r} cannot be the name of {what}", remedy)


def check_experiment_name(name: str) -> None:
    """Check the name of an experiment."""
    remedy = "give --experiment NAME of a-z, A-Z, 0-9, '-' and '_', at most 256 of them, the first no sign"
    _check("an experiment", name, _EXPERIMENT, remedy)


def check_cluster_name(name: str) -> None:
    """Check the name of a cluster: without ``azureml:``."""
    remedy = "give --cluster NAME of 2 to 32 of a-z, A-Z, 0-9 and '-', the first a letter, the last no '-'"
    _check("a cluster", name, _CLUSTER, remedy)


def check_endpoint_name(name: str) -> None:
    """Check the name of an endpoint; that nobody else in the region has it, the service alone can say."""
    remedy = "give --endpoint NAME of 3 to 32 of a-z, A-Z, 0-9 and '-', the first a letter, the last no '-'"
    _check("an endpoint", name, _ENDPOINT, remedy)


def check_job_name(name: str) -> None:
    """Check the name of a job, before the service is asked for it."""
    _check("a job", name, _JOB, "give the name that was printed as `job` when it was sent")


def check_parameters(parameters: Mapping[str, str]) -> None:
    """Check that a run of the service's MLflow can hold the parameters."""
    if len(parameters) > MAX_PARAMETERS:
        raise UserError(
            f"there are {len(parameters)} parameters, and a run in a workspace has at most {MAX_PARAMETERS}",
            "give fewer",
        )
    for name, value in parameters.items():
        if len(value) > MAX_VALUE:
            raise UserError(
                f"the value of {name} has {len(value)} characters, and a workspace keeps at most {MAX_VALUE}",
                f"give a shorter {name}",
            )


def check_tags(tags: Mapping[str, str]) -> None:
    """Check that a job can hold the tags."""
    long = [name for name, value in tags.items() if len(name) > MAX_TAG_NAME or len(value) > MAX_TAG_VALUE]
    if len(tags) > MAX_TAGS or long:
        raise UserError(
            f"there are {len(tags)} tags" + (f", and {long[0]!r} is too long" if long else ""),
            f"shorten job.yml's: at most {MAX_TAGS}, of {MAX_TAG_NAME} characters, with values of {MAX_TAG_VALUE}",
        )


def shortened(title: str) -> str:
    """Return what the studio may call a job."""
    return title if len(title) <= MAX_TITLE else f"{title[: MAX_TITLE - 3]}..."


def slug(text: str) -> str:
    """Turn a text into what can be part of the name of an experiment, an environment or a job; may be empty."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def pairs(given: Iterable[str], data: str | None = None) -> dict[str, str]:
    """Read ``-P name=value`` as `mlflow run` does; `data` is ``--data``, another way to say ``-P data=``."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"-P {text!r} is not of the form name=value", "give -P name=value")
        if name in found:
            raise UserError(f"the parameter {name} is given twice", "give it once")
        found[name] = value
    if data is not None:
        if "data" in found:
            raise UserError("the data are given twice, as --data and as -P data=", "give them once")
        found["data"] = data
    return found


def seconds(flag: str, text: str) -> int:
    """Read a duration: 90s, 30m, 2h, or a number of seconds."""
    found = _DURATION.fullmatch(text)
    if not found or int(found["count"]) == 0:
        raise UserError(f"{flag} {text!r} is not a duration", f"give {flag} 90s, 30m, 2h or a number of seconds")
    return int(found["count"]) * _UNITS[found["unit"]]
