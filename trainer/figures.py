"""Figures of a model, of its comparison with the champion, and of a search, as PNG files.

Names of columns and files come from users: they are drawn as they are, in fonts that this machine has, and never read
as mathematics.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

# An Azure Machine Learning workspace lists artifacts by prefix: no name may begin with another.
FOLDER = "figures"
# Inches, and dots an inch: sharp on a dense screen, and readable at half the size.
SIZE, DPI = (6.4, 4.8), 150
# A scatter of more points than this is a blot that takes seconds to draw.
POINTS = 2_000
# The bars that a reader can tell apart.
BARS = 20
# What fits beside an axis, above it, and beside a bar: in letters of Latin width.
LONGEST_LABEL, LONGEST_TITLE, LONGEST_BAR = 40, 66, 24

# What is drawn with what matplotlib brings along; and who is asked, in this order, for a letter that it has not.
OWN_FONT = "DejaVu Sans"
FONTS = (
    *("Noto Sans CJK JP", "Noto Sans JP", "Hiragino Sans", "Hiragino Kaku Gothic ProN", "Yu Gothic", "Meiryo"),
    *("MS Gothic", "IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic"),
    *("Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "SimHei", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Droid Sans Fallback", "Noto Sans TC", "PingFang TC", "Microsoft JhengHei"),
    *("Noto Sans KR", "Apple SD Gothic Neo", "Malgun Gothic", "NanumGothic"),
    *("Noto Sans", "Noto Sans Thai", "Noto Sans Devanagari", "Arial Unicode MS", "Segoe UI", "Unifont"),
)

Floats = npt.NDArray[np.float64]


def draw(folder: Path, target: str, actual: Floats, predicted: Floats, importance: pd.DataFrame, title: str) -> None:
    """Write ``predicted_vs_actual.png``, ``residuals.png`` and ``feature_importance.png``.

    Parameters
    ----------
    folder : Path
        It exists.
    target : str
        The target's name, for the axes.
    actual, predicted : ndarray of shape (n_test,)
        At most `POINTS` of them are drawn, evenly chosen.
    importance : DataFrame
        From `evaluation.importance`; at most `BARS` of it are drawn.
    title : str
    """
    step = -(-len(actual) // POINTS)
    shown, of = actual[::step], predicted[::step]
    bars = importance.head(BARS).iloc[::-1]
    features = [str(name) for name in bars["feature"]]
    with style((target, title, *features)) as drawable:
        name, title = drawable(target, LONGEST_LABEL), drawable(title, LONGEST_TITLE)
        figure, axes = _axes(title, f"actual {name}", f"predicted {name}")
        ends = [min(shown.min(), of.min()), max(shown.max(), of.max())]
        axes.plot(ends, ends, color="0.5", linewidth=1, label="perfect")
        axes.scatter(shown, of, s=16, alpha=0.6, linewidths=0, label="test rows")
        axes.legend(loc="upper left")
        _save(figure, folder / "predicted_vs_actual.png")

        figure, axes = _axes(title, f"predicted {name}", "actual - predicted")
        axes.axhline(0, color="0.5", linewidth=1)
        axes.scatter(of, shown - of, s=16, alpha=0.6, linewidths=0)
        _save(figure, folder / "residuals.png")

        figure, axes = _axes(title, "RMSE added when a feature's test values are shuffled", left=0.34)
        axes.barh(np.arange(len(bars)), bars["mean"], xerr=bars["std"])
        axes.set_yticks(np.arange(len(bars)), [drawable(feature, LONGEST_BAR) for feature in features])
        _save(figure, folder / "feature_importance.png")


def draw_comparison(path: Path, actual: Floats, by_champion: Floats, by_challenger: Floats, title: str) -> None:
    """Draw the errors of two models on the same rows against each other; below the diagonal the challenger is better.

    Parameters
    ----------
    path : Path
        The ``.png`` file.
    actual, by_champion, by_challenger : ndarray of shape (n_rows,)
        At most `POINTS` of them are drawn, evenly chosen.
    title : str
    """
    step = -(-len(actual) // POINTS)
    theirs, ours = np.abs(actual - by_champion)[::step], np.abs(actual - by_challenger)[::step]
    with style((title,)) as drawable:
        labels = "absolute error of the champion", "absolute error of the challenger"
        figure, axes = _axes(drawable(title, LONGEST_TITLE), *labels)
        end = max(theirs.max(), ours.max())
        axes.plot([0, end], [0, end], color="0.5", linewidth=1)
        axes.scatter(theirs, ours, s=16, alpha=0.6, linewidths=0)
        _save(figure, path)


def draw_search(path: Path, trials: Sequence[tuple[Mapping[str, str], float, float]], title: str) -> None:
    """Draw what cross-validation says of each trial of a search against each hyperparameter that was searched.

    Parameters
    ----------
    path : Path
        The ``.png`` file.
    trials : sequence of (hyperparameters as they were spelled, mean, standard deviation)
        Of the RMSE over the folds; a trial that has diverged is not drawn.
    title : str
    """
    drawn = [trial for trial in trials if isfinite(trial[1])]
    names = list(dict.fromkeys(name for spelled, _, _ in drawn for name in spelled))
    best = min(drawn, key=lambda trial: trial[1])
    with style((title, *names)) as drawable:
        from matplotlib.figure import Figure

        wide = max(SIZE[0], 3.4 * len(names))
        figure = Figure(figsize=(wide, SIZE[1]), dpi=DPI, layout="constrained")
        figure.suptitle(drawable(title, int(LONGEST_TITLE * wide / SIZE[0])))
        panels = figure.subplots(1, max(1, len(names)), sharey=True, squeeze=False)[0]
        panels[0].set_ylabel("cv rmse ± standard deviation of the folds")
        for axes, name in zip(panels, names, strict=False):
            own = [(spelled[name], mean, std) for spelled, mean, std in drawn if name in spelled]
            places, is_log = _places([text for text, _, _ in own])
            axes.errorbar(places, [mean for _, mean, _ in own], [std for *_, std in own], fmt="o", alpha=0.7, capsize=3)
            if name in best[0]:
                place = dict(zip([text for text, _, _ in own], places, strict=True))[best[0][name]]
                axes.plot([place], [best[1]], "o", color="C1", markersize=9, label="best", zorder=3)
            if places and isinstance(places[0], str):
                axes.tick_params("x", rotation=45)
            if is_log:
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter("{x:g}")
                axes.xaxis.set_minor_formatter("")
            axes.set_xlabel(drawable(name, LONGEST_LABEL))
            axes.grid(alpha=0.3)
        figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside upper right")
        _save(figure, path)


def _places(spelled: list[str]) -> tuple[list[Any], bool]:
    """Return where values belong on an axis, and whether it is a logarithmic one."""
    try:
        numbers = [float(text) for text in spelled]
    except ValueError:
        return list(spelled), False
    return list(numbers), min(numbers) > 0 and max(numbers) > 30 * min(numbers)


class Drawable:
    """Turns a text into one that can be drawn: on one line, not too long, without letters that no font has."""

    def __init__(self, missing: frozenset[str]) -> None:
        self._missing = missing

    def __call__(self, text: str, most: int) -> str:
        """Return the text, cut to the width of `most` Latin letters."""
        pieces = [self._piece(letter) for letter in " ".join(text.split())]
        if sum(map(_width, pieces)) <= most:
            return "".join(pieces)
        widths = np.cumsum([_width(piece) for piece in pieces])
        return "".join(pieces[: int(np.searchsorted(widths, most - 3, side="right"))]) + "..."

    def _piece(self, letter: str) -> str:
        return letter if _is_drawn(letter) and letter not in self._missing else f"\\u{ord(letter):04x}"


@contextmanager
def style(texts: Iterable[str]) -> Iterator[Drawable]:
    """Let figures be drawn that show these texts, whatever they hold and whatever the user's own style is."""
    import matplotlib

    fonts, missing = _fonts("".join(texts))
    settings = {
        "font.family": [OWN_FONT, *fonts],
        "font.size": 11,
        "axes.titlesize": 11,
        "text.parse_math": False,
        "text.usetex": False,
        "axes.formatter.use_mathtext": False,
    }
    with matplotlib.rc_context(settings):  # type: ignore[arg-type]
        yield Drawable(missing)


def _width(piece: str) -> float:
    if len(piece) > 1:
        return len(piece)
    return 2 if unicodedata.east_asian_width(piece) in "WF" else 1.4 if piece in "mwMW@%" else 1.1


def _is_drawn(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def _fonts(text: str) -> tuple[list[str], frozenset[str]]:
    """Return the fonts that have what `OWN_FONT` has not, and the letters that no font has."""
    letters = {letter for letter in text if ord(letter) > 0x7F and _is_drawn(letter)}
    if not letters:
        return [], frozenset()
    from matplotlib import font_manager

    missing = {letter for letter in letters if ord(letter) not in _letters(font_manager.findfont(OWN_FONT))}
    fonts: list[str] = []
    files = {entry.name: entry.fname for entry in reversed(font_manager.fontManager.ttflist)}
    for name in FONTS if missing else ():
        found = {letter for letter in missing if ord(letter) in _letters(files[name])} if name in files else set()
        if found:
            fonts.append(name)
            missing -= found
        if not missing:
            break
    return fonts, frozenset(missing)


@cache
def _letters(file: str) -> frozenset[int]:
    """Return the code points that a font file has; none where it cannot be read, as one of coloured emoji."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(file).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


def _axes(title: str, below: str, beside: str = "", left: float = 0.16) -> tuple[Any, Any]:
    # Figure without pyplot: no global state, no window, and half of the import time. The texts around the axes have
    # fixed places: to find some, matplotlib would lay out each tick's label once more, a third of the time.
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI)
    axes = figure.add_axes((left, 0.14, 0.96 - left, 0.76))
    axes.locator_params(nbins=6)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    figure.text(0.02, 0.955, title, va="center")
    figure.text(0.53 if beside else 0.5, 0.035, below, ha="center", va="center")
    figure.text(0.025, 0.52, beside, rotation=90, ha="center", va="center")
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    # the canvas itself: savefig copies all settings of matplotlib first
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(path, pil_kwargs={"compress_level": 3})  # type: ignore[no-untyped-call]
