"""What the figures of a report share: style, room for names, and files. They need matplotlib, the extra `plot`.

No window is opened and no global state is left. A function that draws returns a figure; `render` makes a file's bytes
of it, `inline_svg` an element for a page. Names are wrapped, and figures grow until they have room.
"""

import io
import logging
import re
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from fairdd_cli.artifacts import SyntheticSet
from fairdd_cli.errors import UsageError
from fairdd_cli.reporting.outside_text import bounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1a1d21"  # text and frames; on a page the colour of its text
# Each has a contrast of at least 3 to 1 with white and with the page's dark background.
COLOURS = ("#2a7fd4", "#d9660b", "#0f9d72", "#c0569b", "#8a6fd1", "#a07c10", "#5f7a8a", "#d43c3c", "#1f95a8", "#7a8f1d")
MARKERS = "osD^vP*X"
SUFFIXES = (".png", ".svg", ".pdf")
POINTS = 72  # an inch
FONT_SIZE = 10
LINE = 1.25  # height of a line of text, in font sizes
LEAST_LETTER = 0.2  # width of a narrow letter, in font sizes
NAME_WIDTH = 1.9  # inches that a name may take before it is wrapped
TALLEST_LEGEND = 14.0  # inches, beyond which a legend has another column

STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names come from files and are text
    "svg.fonttype": "none",
    "font.size": FONT_SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
P = ParamSpec("P")


def require() -> None:
    """Raises UsageError where matplotlib is not installed. It is optional, and slow to import."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it speaks of its fonts and folders as it is imported
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError as error:
        raise UsageError("figures need matplotlib: pip install 'fairdd[plot]'") from error


@contextmanager
def _styled() -> Iterator[None]:
    require()
    import matplotlib as mpl  # noqa: PLC0415

    with mpl.rc_context(STYLE), warnings.catch_warnings():  # a name may hold letters that the font lacks
        warnings.simplefilter("ignore")
        yield


def styled(draw: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """Has `draw` run in the style that all figures share."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        with _styled():
            return draw(*args, **kwargs)

    return in_style


def render(figure: "Figure", suffix: str) -> bytes:
    """The figure as a .png (150 dots an inch), .svg or .pdf, the same bytes for the same figure."""
    if suffix not in SUFFIXES:
        raise UsageError(f"figures are written as {', '.join(SUFFIXES)}, not as '{suffix}'")
    import matplotlib as mpl  # noqa: PLC0415

    undated = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[suffix]
    buffer = io.BytesIO()
    with _styled(), mpl.rc_context({"svg.hashsalt": "fairdd"}):
        figure.savefig(buffer, format=suffix[1:], dpi=150, metadata=undated)
    return buffer.getvalue()


def inline_svg(figure: "Figure", name: str) -> str:
    """The figure as an `svg` element that takes the page's text colour; `name` keeps the ids of a page apart."""
    import matplotlib as mpl  # noqa: PLC0415

    buffer = io.StringIO()
    with _styled(), mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r'<g id="[\w.]+_\d+"', "<g", text[text.index("<svg") :])  # counters, alike in every figure
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", text, flags=re.DOTALL)  # would style the page
    return text.replace(INK, "currentColor")


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that many inches whose parts make room for each other."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width, height), layout="constrained")


def text_size(text: str, size: float = FONT_SIZE, bold: bool = False) -> tuple[float, float]:
    """Width and height in inches of `text`, whose lines stand below each other."""
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415
    from matplotlib.textpath import text_to_path  # noqa: PLC0415

    font = FontProperties(size=size, weight="bold" if bold else "normal")
    lines = text.split("\n")
    width = max(text_to_path.get_text_width_height_descent(line, font, False)[0] for line in lines)
    return width / POINTS, LINE * size * len(lines) / POINTS


def wrapped(text: str, width: float = NAME_WIDTH, size: float = FONT_SIZE, bold: bool = False) -> str:
    """`text` in lines of at most `width` inches, broken between words or, where a word is longer, within it."""

    most = int(width * POINTS / (LEAST_LETTER * size)) + 1  # letters that a line may have: to measure takes a while

    def too_wide(line: str) -> bool:
        return len(line) > most or text_size(line, size, bold)[0] > width

    lines = [""]
    for word in re.findall(r"\S+\s*|\s+", text):
        if lines[-1] and too_wide(lines[-1] + word.rstrip()):
            lines.append("")
        rest = word
        while (letters := len(rest.rstrip())) > 1 and too_wide(rest.rstrip()):  # no line is wide enough
            fitting = max(1, bisect_left(range(1, min(letters, most)), True, key=lambda end: too_wide(rest[:end])))
            lines[-1], rest = rest[:fitting], rest[fitting:]
            lines.append("")
        lines[-1] += rest
    return "\n".join(line.rstrip() for line in lines)


def legend_size(labels: Sequence[str]) -> tuple[float, float, int]:
    """Width and height in inches of a legend with these labels, and its number of columns."""
    sizes = [text_size(label) for label in labels]
    width, height = max(size[0] for size in sizes) + 0.75, sum(size[1] + 0.08 for size in sizes)
    columns = -(-int(100 * height) // int(100 * TALLEST_LEGEND))
    return width * columns, height / columns + 0.4, columns


def label_of(synthetic: SyntheticSet) -> str:
    """The set in a few words."""
    names = map(bounded, (synthetic.dataset, synthetic.method, synthetic.fairness))
    return f"{' '.join(names)} IPC {synthetic.ipc}"
