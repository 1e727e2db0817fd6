"""The style of all figures, and their conversion to inline SVG: real text, unique ids, transparent background."""

import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmbert.report.formatting import clean

# Okabe and Ito, Color Universal Design, 2008: colour-blind readers can distinguish them; without their yellow, which is
# too light on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", "-.", ":")
INK = "#1b1b1f"  # is replaced by the page's colour of text, light or dark
FAINT = "#8a8a8e"
WIDTH = 5.8  # inches
LINE = 0.3  # inches: height of one row of a figure

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mmbert",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.formatter.useoffset": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "grid.color": FAINT,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}
FONTS = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Verdana, sans-serif"
REFERENCE = re.compile(r"url\(#([^)]*)\)")


def draw(name: str, title: str, width: float, height: float, paint: Callable[[Figure], None]) -> Markup:
    """Return a figure as an ``<svg>`` element for an HTML page.

    The same input gives the same text, whatever the user's settings of matplotlib.

    Args:
        name: prefix of the ids of the figure, unique on the page.
        title: what a screen reader reads.
        width: in inches.
        height: in inches.
        paint: draws on the empty figure that it is called with.
    """
    stream = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        warnings.filterwarnings("ignore", message="(?s).*Glyph")  # the reader's fonts draw the text, not matplotlib's
        warnings.filterwarnings("ignore", message=".*onstrained_layout not applied")
        figure = Figure(figsize=(width, height))
        paint(figure)
        plain = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=plain, transparent=True)
    return _inline(stream.getvalue(), name, clean(title), width)


def _inline(text: str, name: str, title: str, width: float) -> Markup:
    root = ElementTree.fromstring(text)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag.rpartition("}")[2] in ("metadata", "style")]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            key.rpartition("}")[2]: _attribute(key.rpartition("}")[2], value, name)
            for key, value in element.attrib.items()
        }
    del root.attrib["width"], root.attrib["height"], root.attrib["version"]
    root.attrib |= {"role": "img", "aria-label": title, "style": f"--size:{width * 96:.0f}px"}
    root.attrib |= {"stroke-linejoin": "round", "font-family": FONTS, "fill": "currentColor"}
    heading = ElementTree.Element("title")
    heading.text = title
    root.insert(0, heading)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    if key == "style":
        value = re.sub(r" *font-family: [^;]*;?", "", value.replace(INK, "currentColor"))
    if key == "d":
        value = " ".join(value.split())
    return REFERENCE.sub(rf"url(#{name}-\1)", value)


def label_rows(axes: Axes, labels: list[str]) -> None:
    """Label the rows of a figure, the first on top, without a frame on the left.

    Args:
        axes: of the figure.
        labels: one for each row.
    """
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
