"""Turn the words of a command line into values.

MLproject knows no bool and no None: a parameter that is not given says ``auto``, and no says ``none``.
"""

from collections.abc import Sequence

from trainer.errors import UserError, nearest

AUTO = "auto"
NONE = "none"


def number(
    name: str,
    text: str,
    low: float,
    high: float = float("inf"),
    *,
    open_low: bool = False,
    open_high: bool = True,
) -> float:
    """Read a number from `low` to `high`; an open end is not part of the range.

    Raises
    ------
    UserError
        It is not a number, or out of range.
    """
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


def whole_number(name: str, text: str, low: int, high: int | None = None, *, remedy: str = "") -> int:
    """Read an integer from `low` to `high`, both inclusive; by default the remedy is to give another.

    Raises
    ------
    UserError
        It is not an integer, or out of range.
    """
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low or (high is not None and value > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise UserError(f"{name} should be a whole number {bounds}, and is {text!r}", remedy or f"give {name}=NUMBER")
    return value


def choice(name: str, text: str, known: Sequence[str]) -> str:
    """Read one of the known words.

    Raises
    ------
    UserError
        It is none of them.
    """
    if text not in known:
        raise UserError(f"there is no {name} {text!r}{nearest(text, known)}", f"give {name}={'|'.join(known)}")
    return text
