"""A chart as SVG: axes with round numbers, and marks between them.

Text is drawn by whoever shows the chart, in the fonts that are there, so that names in any script are. Colours are CSS
variables: a page has them for light and dark, and a file of its own brings the light ones along.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.markup import Markup, cut, element, extent, together

Floats = npt.NDArray[np.float64]

# Of a chart, and of its text, in units of which a page shows one as about a pixel.
WIDTH, HEIGHT, TEXT = 440, 310, 13
# A row of a chart of rows, and the widest label and remark beside it.
ROW, LONGEST_LABEL = 24, 170
# A file is shown twice as large, so that it can be read at half its size.
SCALE = 2
MINUS = "\N{MINUS SIGN}"

LIGHT = "--ink:#1c2330;--soft:#5d6675;--grid:#dfe3ea;--mark:#1f6feb;--second:#c2410c;--paper:#ffffff"
FONTS = (
    'system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans CJK JP","Hiragino Sans","Yu Gothic",'
    '"Microsoft YaHei","DejaVu Sans",sans-serif'
)
STYLE = (
    f"svg text{{font-family:{FONTS};font-size:{TEXT}px;fill:var(--soft)}}"
    "svg .name,svg .value{fill:var(--ink)}"
    "svg .grid{stroke:var(--grid)}svg .base{stroke:var(--soft)}"
    "svg .dash{stroke:var(--soft);stroke-dasharray:5 4}"
    "svg .line{stroke:var(--mark);stroke-width:2;fill:none}"
    "svg .bar{fill:var(--mark);fill-opacity:.75}svg .whisker{stroke:var(--ink);stroke-width:1.5;fill:none}"
    "svg .point{fill:var(--mark);fill-opacity:.5}svg .dot{fill:var(--mark)}"
    "svg .best{fill:var(--second)}svg .paper{fill:var(--paper)}"
)


@dataclass(frozen=True)
class Axis:
    """Places values between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, values: Floats | float) -> Floats:
        """Return the places of values."""
        low, high, given = self.low, self.high, np.asarray(values, dtype=np.float64)
        if self.is_log:
            low, high, given = log10(low), log10(high), np.log10(given)
        places: Floats = self.start + (given / (high - low) - low / (high - low)) * (self.end - self.start)
        return places

    def ticks(self, about: int = 5) -> list[tuple[float, str]]:
        """Return round numbers, and how they are written."""
        if self.is_log:
            first, last = ceil(log10(self.low) - 1e-9), floor(log10(self.high) + 1e-9)
            every = max(1, ceil((last - first + 1) / about))
            return [(10.0**power, f"{10.0**power:g}") for power in range(first, last + 1, every)]
        step = _round_step((self.high - self.low) / about)
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        values = [number * step for number in range(first, last + 1)]
        return list(zip(values, _written(values, step), strict=True))


def _round_step(rough: float) -> float:
    power = 10.0 ** floor(log10(rough))
    return next((times * power for times in (1, 2, 2.5, 5) if times * power >= rough * (1 - 1e-9)), 10 * power)


def _written(values: Sequence[float], step: float) -> list[str]:
    """Write the numbers of an axis alike, with the digits that tell one from the next, and large ones as 150k or 2M."""
    largest = max(map(abs, values), default=0.0)
    if largest >= 1e15 or step < 1e-5:
        return [f"{value:.3g}" for value in values]
    sizes = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
    size, letter = next((one for one in sizes if largest >= max(one[0], 1e5)), (1.0, ""))
    apart = step / size
    digits = next(count for count in range(12) if abs(round(apart, count) - apart) < 1e-9 * apart)
    return [f"{value / size:.{digits}f}{letter}".replace("-", MINUS) if value else "0" for value in values]


def around(*values: Floats | float, floor_at_zero: bool = False) -> tuple[float, float]:
    """Return the ends of an axis that shows values with some room; what is not finite is left out."""
    known = np.concatenate([np.ravel(np.asarray(one, dtype=np.float64)) for one in values])
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if floor_at_zero:
        low = min(low, 0.0)
    room = 0.04 * (high - low)
    if not room > 1e-9 * max(abs(low), abs(high)):
        room = 0.05 * max(abs(low), abs(high)) or 1.0
    return (low if floor_at_zero and low == 0 else low - room), high + room


class Plot:
    """A chart with two axes.

    Parameters
    ----------
    across, up : (float, float)
        The ends of the axes.
    below, above : str
        What the axes are of, with its unit; `above` is written above the upright one.
    percent : bool
        Whether the upright axis is of shares.
    """

    def __init__(
        self,
        across: tuple[float, float],
        up: tuple[float, float],
        below: str,
        above: str,
        is_log: bool = False,
        percent: tuple[bool, bool] = (False, False),
        size: tuple[int, int] = (WIDTH, HEIGHT),
    ) -> None:
        self.width, self.height = size
        bottom, top, right = self.height - 44, 30, self.width - 24
        self.y = Axis(*up, bottom, top)
        up_ticks = [(at, _percent(at) if percent[1] else text) for at, text in self.y.ticks()]
        left = 12 + max((extent(text, TEXT) for _, text in up_ticks), default=0)
        self.x = Axis(*across, left, right, is_log)
        self._parts: list[Markup] = []
        for at, text in up_ticks:
            place = float(self.y(at))
            self._parts.append(line(left, place, right, place, "grid"))
            self._parts.append(label(left - 6, place + 4, text, "end"))
        last = -1e9
        for at, text in self.x.ticks():
            place, shown = float(self.x(at)), _percent(at) if percent[0] else text
            self._parts.append(line(place, bottom, place, top, "grid"))
            if place - extent(shown, TEXT) / 2 > last + 6 and place + extent(shown, TEXT) / 2 < self.width:
                self._parts.append(label(place, bottom + 18, shown, "middle"))
                last = place + extent(shown, TEXT) / 2
        self._parts.append(label(right, self.height - 8, cut(below, self.width - 28, TEXT), "end", full=below))
        self._parts.append(label(4, 15, cut(above, self.width - 12, TEXT), "start", full=above))

    def points(self, across: Floats, up: Floats, kind: str = "point", radius: float = 3.5) -> "Plot":
        """Draw a circle at each place."""
        places = zip(self.x(across).tolist(), self.y(up).tolist(), strict=True)
        circles = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>' for x, y in places)
        self._parts.append(element("g", Markup(circles), class_=kind))
        return self

    def curve(self, across: Floats, up: Floats, kind: str = "line") -> "Plot":
        """Draw a line from place to place."""
        places = zip(self.x(across).tolist(), self.y(up).tolist(), strict=True)
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        self._parts.append(element("path", d=path, class_=kind, fill="none"))
        return self

    def whiskers(self, across: Floats, low: Floats, high: Floats) -> "Plot":
        """Draw an upright interval at each place."""
        self._parts += [
            line(x, below, x, above, "whisker")
            for x, below, above in zip(
                self.x(across).tolist(), self.y(low).tolist(), self.y(high).tolist(), strict=True
            )
        ]
        return self

    def markup(self, named: str) -> Markup:
        """Return the chart; `named` is what a screen reader says."""
        return whole(self.width, self.height, named, *self._parts)


@dataclass(frozen=True)
class Row:
    """One row of a chart of rows: its label, what is measured, from where to where that may be, and a remark."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    remark: str = ""
    is_best: bool = False


def rows(given: Sequence[Row], below: str, named: str, bars: bool = True, reference: float | None = None) -> Markup:
    """Draw a value a row, as a bar from zero, or as a dot where zero is of no interest.

    Parameters
    ----------
    given : sequence of Row
    below : str
        What the values are of, with their unit.
    named : str
        What a screen reader says.
    bars : bool
    reference : float, optional
        A dashed line here.
    """
    left = 8 + min(LONGEST_LABEL, max(extent(row.label, TEXT) for row in given))
    right = 8 + max(extent(row.remark, TEXT) for row in given)
    bottom = 6 + ROW * len(given)
    ends = np.array([end for row in given for end in (row.value, row.low, row.high, reference) if end is not None])
    axis = Axis(*around(ends, floor_at_zero=bars), left + 4, WIDTH - max(right, 16))
    parts = []
    last = -1e9
    for at, text in axis.ticks(4):
        place, half = float(axis(at)), extent(text, TEXT) / 2
        parts.append(line(place, 4, place, bottom, "grid"))
        if place - half > last + 6:
            parts.append(label(place, bottom + 16, text, "middle"))
            last = place + half
    if reference is not None:
        parts.append(line(float(axis(reference)), 4, float(axis(reference)), bottom, "dash"))
    zero = float(axis(0.0)) if bars else 0.0
    for number, row in enumerate(given):
        middle = 6 + ROW * (number + 0.5)
        parts.append(
            label(left - 4, middle + 4.5, cut(row.label, LONGEST_LABEL, TEXT), "end", kind="name", full=row.label)
        )
        if not isfinite(row.value):
            parts.append(label(left + 8, middle + 4.5, row.remark, "start"))
            continue
        place = float(axis(row.value))
        if bars:
            edges = sorted((zero, place))
            parts.append(rectangle(edges[0], middle - 7, max(edges[1] - edges[0], 0.5), 14, _kind("bar", row)))
        if row.low is not None and row.high is not None:
            low, high = float(axis(row.low)), float(axis(row.high))
            ends_of = f"M{low:.1f} {middle - 4:.1f}v8M{low:.1f} {middle:.1f}H{high:.1f}M{high:.1f} {middle - 4:.1f}v8"
            parts.append(element("path", d=ends_of, class_="whisker"))
        if not bars:
            parts.append(element("circle", cx=f"{place:.1f}", cy=f"{middle:.1f}", r=4.5, class_=_kind("dot", row)))
        parts.append(label(WIDTH - 4, middle + 4.5, row.remark, "end", kind="value"))
    parts.append(label(WIDTH - 4, bottom + 36, cut(below, WIDTH - 8, TEXT), "end", full=below))
    return whole(WIDTH, bottom + 44, named, *parts)


def _kind(kind: str, row: Row) -> str:
    return f"{kind} best" if row.is_best else kind


def histogram(shares: Floats, named: str, width: int = 120, height: int = 28) -> Markup:
    """Draw shares as small bars side by side, without axes."""
    top = float(shares.max(initial=0.0)) or 1.0
    step = width / max(len(shares), 1)
    tall = [
        (number * step, max(float(share) / top * (height - 2), 0.8 if share else 0))
        for number, share in enumerate(shares)
    ]
    bars = [rectangle(at + 0.5, height - size, max(step - 1, 1), size, "bar") for at, size in tall if size]
    base = line(0, height - 0.5, width, height - 0.5, "base")
    return whole(width, height, named, *bars, base)


# -- marks ------------------------------------------------------------------------------------------


def whole(width: float, height: float, named: str, *parts: Markup) -> Markup:
    """Return marks as a chart."""
    return element(
        "svg", *parts, viewBox=f"0 0 {width:g} {height:g}", width=f"{width:g}", height=f"{height:g}", role="img",
        aria_label=named,
    )  # fmt: skip


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a straight line."""
    return Markup(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>')


def rectangle(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """Return a filled rectangle."""
    return Markup(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"/>')


def label(x: float, y: float, text: str, anchor: str, kind: str | None = None, full: str = "") -> Markup:
    """Return a text; where it has been cut, a pointer that rests on it sees the `full` one."""
    hint = element("title", full[:300]) if full and full != text else Markup("")
    return element("text", hint, text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def beside(charts: Iterable[Markup], widths: Sequence[int], height: int, named: str) -> Markup:
    """Return charts side by side."""
    starts = np.cumsum([0, *widths])
    placed = [
        element("g", one, transform=f"translate({at} 0)") for at, one in zip(starts.tolist(), charts, strict=False)
    ]
    return whole(int(starts[-1]), height, named, *placed)


def write(path: Path, chart: Markup, title: str) -> None:
    """Write a chart as a file of its own, on white, with a title."""
    found = chart.partition('viewBox="0 0 ')[2].partition('"')[0].split()
    width, height = (float(one) for one in found)
    heading = label(4, 17, cut(title, width - 8, TEXT), "start", kind="name", full=title)
    content = together(
        element("style", Markup(f"svg{{{LIGHT}}}{STYLE}")),
        rectangle(0, 0, width, height + 26, "paper"),
        heading,
        element("g", chart, transform="translate(0 26)"),
    )
    size = {"width": f"{SCALE * width:g}", "height": f"{SCALE * (height + 26):g}"}
    whole_file = element(
        "svg", content, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width:g} {height + 26:g}", **size
    )
    path.write_text(whole_file + "\n", encoding="utf-8")
