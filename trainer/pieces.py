"""What pages are put together from: sections, charts with what is said of them, tables, names, code."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from trainer.diagnostics import short
from trainer.markup import Markup, element, together

# Of a name, or a value.
MOST_LETTERS = 80
NOTHING = Markup("")


def section(title: str, *content: Markup) -> Markup:
    """Return a part of a page, with its title."""
    return element("section", element("h2", title), *content)


def charts(*drawn: Markup) -> Markup:
    """Put charts side by side; the first one of an odd number has what is said of it beside itself."""
    alone = drawn[: len(drawn) % 2]
    rows = [element("div", *alone, class_="alone")] if alone else []
    return together(*rows, element("div", *drawn[len(alone) :], class_="charts") if drawn[1:] else NOTHING)


def chart(drawn: Markup, *said: object) -> Markup:
    """Return a chart, and what is said of it."""
    return element("figure", drawn, element("figcaption", *said))


def percent(share: float) -> str:
    """Return a share with two digits, or three near 0 and 1, where they matter."""
    digits = 0 if 0.1 <= share <= 0.9 or share in (0.0, 1.0) else 1
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def name(text: object) -> Markup:
    """Return a name, or a value, of the user's: its direction of writing does not turn what stands around it."""
    shown = str(text)
    if len(shown) > MOST_LETTERS:
        return element("bdi", f"{shown[: MOST_LETTERS - 1]}…", title=shown[: 10 * MOST_LETTERS])
    return element("bdi", shown if shown.strip() else "(blank)")


def cell(value: Any) -> Markup:
    """Return a value of a data frame."""
    if isinstance(value, float | np.floating):
        return element("span", short(float(value)) if np.isfinite(value) else "", class_="number")
    if isinstance(value, int | np.integer):
        return element("span", f"{value}", class_="number")
    return name("" if value is None or value is pd.NaT else value)


def table(names: Sequence[str], rows: Sequence[Sequence[Markup]]) -> Markup:
    """Return a table; without a head where no column has a name."""
    body = element("tbody", *(element("tr", *(element("td", one) for one in row)) for row in rows))
    head = element("thead", element("tr", *(element("th", name(one)) for one in names))) if any(names) else NOTHING
    return element("div", element("table", head, body), class_="wide")


def code(text: str) -> Markup:
    """Return lines that are chosen, to be copied, by one click."""
    lines = [element("span", line) if line else NOTHING for line in text.split("\n")]
    return element("pre", Markup("\n".join(lines)))
