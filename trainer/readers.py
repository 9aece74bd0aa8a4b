"""Turn the words of a command line into values.

MLproject knows no bool and no None: a parameter that is not given says ``auto``, and no says ``none``.
"""

import csv
from collections.abc import Callable, Sequence
from typing import Any

from trainer.errors import UserError, nearest

AUTO = "auto"
NONE = "none"

# Takes the parameter's name and its text; raises UserError.
Reader = Callable[[str, str], Any]


def number(
    name: str,
    text: str,
    low: float,
    high: float = float("inf"),
    *,
    open_low: bool = False,
    open_high: bool = True,
) -> float:
    """Read a number from `low` to `high`; an open end is not part of the range."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    inside = (low < value if open_low else low <= value) and (value < high if open_high else value <= high)
    if not inside:
        bounds = f"{'above' if open_low else 'at least'} {low:g}"
        if high != float("inf"):
            bounds += f" and {'below' if open_high else 'at most'} {high:g}"
        raise UserError(f"{name} should be a number {bounds}, and is {text!r}", f"give {name}=NUMBER")
    return value


def integer(name: str, text: str, low: int, high: int | None = None, *, remedy: str = "") -> int:
    """Read an integer from `low` to `high`, both inclusive; by default the remedy is to give another."""
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise UserError(f"{name} should be an integer {bounds}, and is {text!r}", remedy or f"give {name}=NUMBER")
    return value


def choice(name: str, text: str, known: Sequence[str]) -> str:
    """Read one of the known words."""
    if text not in known:
        raise UserError(f"there is no {name} {text!r}{nearest(text, known)}", f"give {name}={'|'.join(known)}")
    return text


def text(name: str, given: str) -> str:
    """Read any text but an empty one."""
    if not given.strip():
        raise UserError(f"{name} is empty", f"give {name}=VALUE")
    return given


def names(name: str, given: str) -> tuple[str, ...]:
    """Read names separated by commas, each once; a name that holds a comma stands in double quotes."""
    try:
        found = next(csv.reader([given], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise UserError(
            f"{name} has a double quote that does not close: {given!r}",
            f"""give {name}='a,"b, c"': quotes around a name that holds a comma""",
        ) from error
    return tuple(dict.fromkeys(one.strip() for one in found))
