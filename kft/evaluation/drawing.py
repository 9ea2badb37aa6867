"""How a drawing becomes SVG that takes its colours from the page around it.

Text stays text, so a drawing is small, selectable and searchable, and shows any script the reader's
browser has a font for. Colours are those of Okabe and Ito, which colour-blind people can tell apart
(https://jfly.uni-koeln.de/color/); a page may give others for `--blue`, `--orange`, `--green`, `--purple`.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

INK, BLUE, ORANGE, GREEN, PURPLE = "#010203", "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SERIES = (BLUE, ORANGE, GREEN, PURPLE)

_THEME = {
    INK: "currentColor",
    BLUE: f"var(--blue, {BLUE})",
    ORANGE: f"var(--orange, {ORANGE})",
    GREEN: f"var(--green, {GREEN})",
    PURPLE: f"var(--purple, {PURPLE})",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kft",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
# As wide as a phone held upright, so that the font is never scaled down there.
_WIDTH_INCHES = 4.8

# All of these set to None make matplotlib leave the metadata, and so the date, out.
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True)
class Figure:
    """A drawing with its words.

    Attributes:
        title: A few words.
        svg: One `<svg>` element that needs nothing from outside.
        caption: What to see in it, in a sentence or two.
        table: Rows of cells that belong to the drawing, the first of them the header; or nothing.
    """

    title: str
    svg: str
    caption: str
    table: tuple[tuple[str, ...], ...] = ()


@contextmanager
def style() -> Iterator[None]:
    """The look of every drawing, from the making of its canvas to `to_svg`."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The browser picks the font, so it does not matter which letters matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        yield


def new_canvas(height_inches: float) -> Canvas:
    """An empty canvas that belongs to no window and no global list, so that nothing has to close it."""
    return Canvas(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")


def to_svg(canvas: Canvas, name: str) -> str:
    """The `<svg>` element of a canvas, with ids of its own, the page's colours and the page's width.

    Args:
        canvas: What was drawn on.
        name: A word that no other drawing of the page has; it goes before each id.
    """
    out = io.StringIO()
    canvas.savefig(out, format="svg", metadata=_NO_METADATA)
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(out.getvalue())
    root.attrib.pop("width")
    root.attrib.pop("height")
    for element in root.iter():
        for key, value in element.attrib.items():
            element.set(key, _themed(key, value, name))
    return ElementTree.tostring(root, encoding="unicode")


def short_label(label: str, most: int = 18) -> str:
    """A label for an axis: one line of printable characters, cut where it is long.

    >>> short_label("a rather long name", most=8), short_label("two\\nlines")
    ('a rathe…', 'two lines')
    """
    line = "".join(character for character in " ".join(str(label).split()) if character.isprintable())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _themed(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key.endswith("href") or "url(#" in value:
        value = re.sub(r"(^|\()#", rf"\1#{name}-", value)
    if key == "style":
        for colour, themed in _THEME.items():
            value = value.replace(colour, themed)
    return value
