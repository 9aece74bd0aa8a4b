"""HTML and SVG whose text cannot be taken for markup: an element escapes all that is not an element itself."""

import html
import unicodedata

from trainer.card import CONTROL, plain


class Markup(str):
    """Text that is HTML or SVG already, and is left as it is."""

    __slots__ = ()


def element(name: str, *content: object, **attributes: object) -> Markup:
    """Return an element; a trailing ``_`` of an attribute's name falls off, others become ``-``; None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{together(*content)}</{name}>")


def together(*content: object) -> Markup:
    """Return one piece of markup after the other; what is none is escaped."""
    return Markup("".join(one if isinstance(one, Markup) else escaped(one) for one in content))


def escaped(text: object) -> Markup:
    """Return a text as HTML shows it, without what turns the direction of writing, or has no place in XML."""
    return Markup(html.escape(CONTROL.sub(" ", str(text)).encode("utf-8", "replace").decode()))


def extent(text: str, size: float) -> float:
    """Return how wide a text is drawn, rather too much than too little: who shows it has the font."""
    return size * sum(_width(letter) for letter in text)


def cut(text: object, most: float, size: float) -> str:
    """Return a text on one line that is no wider than `most`; what is left out is three dots."""
    shown = plain(text)
    if extent(shown, size) <= most:
        return shown
    width, kept = extent("…", size), ""
    for letter in shown:
        width += extent(letter, size)
        if width > most:
            break
        kept += letter
    return kept.rstrip() + "…"


def _width(letter: str) -> float:
    if letter in " .,:;|!'ijlI()[]":
        return 0.36
    if unicodedata.combining(letter):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.4 if unicodedata.category(letter) == "So" else 1.05
    return 1.0 if letter in "mwMW@%…—" else 0.72 if letter.isupper() else 0.62
