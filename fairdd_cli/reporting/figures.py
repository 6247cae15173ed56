"""Pictures of a report. They need matplotlib, the extra `plot`; no window is opened and no global state is left.

Every function returns a figure; `render` makes a file's bytes of it, `inline_svg` an element for a page.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from fairdd_cli.artifacts import SyntheticSet
from fairdd_cli.errors import UsageError
from fairdd_cli.reporting.results import clean
from fairdd_cli.reporting.table import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fairdd_cli.reporting.group_coverage import Cloud

INK = "#1a1d21"  # text and frames; on a page the colour of its text
# Each has a contrast of at least 3 to 1 with white and with the page's dark background.
COLOURS = ("#2a7fd4", "#d9660b", "#0f9d72", "#c0569b", "#8a6fd1", "#a07c10", "#5f7a8a", "#d43c3c", "#1f95a8", "#7a8f1d")
MARKERS = "osD^vP*X"
SUFFIXES = (".png", ".svg", ".pdf")
COLUMNS = 10  # images of a class in a grid
CURVES = 10
PANELS_ACROSS = 5
NUMBERED = 12  # classes or groups up to which a heat map's cells carry numbers

STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # names come from files and are text
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
P = ParamSpec("P")


def require() -> None:
    """Raises UsageError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401, PLC0415  # optional, and slow to import
    except ImportError as error:
        raise UsageError("pictures need matplotlib: pip install 'fairdd[plot]'") from error


@contextmanager
def _styled() -> Iterator[None]:
    require()
    import matplotlib as mpl  # noqa: PLC0415

    with mpl.rc_context(STYLE), warnings.catch_warnings():  # a name may hold letters that the font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def picture(draw: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """Has `draw` run in the style that all pictures share."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        with _styled():
            return draw(*args, **kwargs)

    return styled


def render(figure: "Figure", suffix: str) -> bytes:
    """The figure as a .png (150 dots an inch), .svg or .pdf, the same bytes for the same figure."""
    if suffix not in SUFFIXES:
        raise UsageError(f"pictures are written as {', '.join(SUFFIXES)}, not as '{suffix}'")
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


def blank(width: float, height: float) -> "Figure":
    """An empty figure of that many inches whose parts make room for each other."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width, height), layout="constrained")


def short(text: str, letters: int = 24) -> str:
    """`text` for a label, cut where it would push the picture aside."""
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


@picture
def recall_maps(rows: Sequence[Row]) -> "Figure":
    """The recall of every cell (mean over seeds, percent), classes x groups, a map for each row side by side.

    Empty cells stay blank.
    """
    classes, groups = rows[0].cells.total.shape[1:]
    names = rows[0].runs[0].evaluation
    side = 0.42 if max(classes, groups) <= NUMBERED else 5 / max(classes, groups)
    figure = blank(len(rows) * max(2.6, side * groups) + 2.6, max(2.4, side * classes + 1.6))
    grid = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
    for axes, row in zip(grid, rows, strict=True):
        table = row.recall()
        image = axes.imshow(table, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        deo = row.mean("deo_mean")
        axes.set_title(short(row.name, 36) + ("" if deo is None else f"\nDEO_A {deo:.1f} %"))
        axes.set_xticks(
            range(groups), [*map(short, names.protected_names)], rotation=60, ha="right", rotation_mode="anchor"
        )
        axes.set_yticks(range(classes), [*map(short, names.class_names)])
        axes.tick_params(length=0)
        axes.set_xlabel("group")
        if max(classes, groups) <= NUMBERED:
            for (y, x), value in np.ndenumerate(table):
                text, colour = ("-", INK) if np.isnan(value) else (f"{value:.0f}", "white" if value < 62 else "black")
                axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
    grid[0].set_ylabel("class")
    figure.colorbar(image, ax=grid, label="Recall (%)", shrink=0.9)
    return figure


def describe_recall(rows: Sequence[Row]) -> str:
    """The recall maps in words, for those who don't see them."""
    parts = []
    for row in rows:
        table = row.recall()
        low, high = np.nanmin(table), np.nanmax(table)
        worst = np.unravel_index(np.nanargmin(table), table.shape)
        names = row.runs[0].evaluation
        cell = f"{names.class_names[worst[0]]}, {names.protected_names[worst[1]]}"
        parts.append(f"{row.name}: recall from {low:.0f} % ({cell}) to {high:.0f} %")
    return "; ".join(parts) + "."


@picture
def image_grid(synthetic: SyntheticSet) -> "Figure":
    """The synthetic images, a row for each class; the first ten of a class where it has more."""
    mean, std = (np.array(values)[:, None, None] for values in (synthetic.mean, synthetic.std))
    pixels = np.clip(synthetic.images * std + mean, 0, 1).transpose(0, 2, 3, 1)
    columns = min(COLUMNS, synthetic.ipc)
    height, width, channels = pixels.shape[1:]
    gap = max(1, height // 16)
    classes = len(synthetic.class_names)
    sheet = np.ones((classes * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for label in range(classes):
        for column, image in enumerate(pixels[synthetic.labels == label][:columns]):
            top, left = label * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = image[..., :3] if channels >= 3 else image[..., :1]
    figure = blank(0.62 * columns + 1.6, 0.62 * classes * height / width + 0.7)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks(
        np.arange(classes) * (height + gap) + height / 2, [short(clean(name)) for name in synthetic.class_names]
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    shown = "" if columns == synthetic.ipc else f", first {columns}"
    axes.set_title(f"{named(synthetic)}{shown}", loc="left")
    return figure


def named(synthetic: SyntheticSet) -> str:
    """The set in a few words."""
    return short(clean(f"{synthetic.dataset} {synthetic.method} {synthetic.fairness} IPC {synthetic.ipc}"), 48)


@picture
def loss_curves(sets: Sequence[SyntheticSet]) -> "Figure":
    """The matching loss over the iterations, each run divided by its first loss: strategies sum over groups or not.

    The heavy line is the mean over a fiftieth of the run. Raises UsageError where no set has a history.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter  # noqa: PLC0415

    drawn = [s for s in sets if len(s.history.loss) > 1 and s.history.loss[0] > 0][:CURVES]
    if not drawn:
        raise UsageError("none of the synthetic sets has a history of losses to draw")
    figure = blank(7.2, 4)
    axes = figure.subplots()
    for index, synthetic in enumerate(drawn):
        steps, loss = synthetic.history.iteration, synthetic.history.loss / synthetic.history.loss[0]
        colour, window = COLOURS[index % len(COLOURS)], max(1, len(loss) // 50)
        smooth = np.convolve(loss, np.full(window, 1 / window), mode="valid")
        axes.plot(steps, loss, color=colour, linewidth=0.7, alpha=0.3)
        axes.plot(steps[window - 1 :], smooth, color=colour, linewidth=1.8, label=named(synthetic))
    low, high = axes.get_ylim()
    if low > 0 and high > 10 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("iteration")
    axes.set_ylabel("loss / first loss")
    axes.grid(color=INK, alpha=0.12, linewidth=0.8)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@picture
def embedding(clouds: "Sequence[Cloud]", group_names: Sequence[str], title: str = "") -> "Figure":
    """How synthetic images cover the groups: a panel for each class, its real images by group, the synthetic on top.

    Groups named after colours have them.
    """
    from matplotlib.colors import is_color_like  # noqa: PLC0415

    named_after = [f"xkcd:{name}" for name in group_names]  # a survey of what people call colours
    colours: Sequence[str] = named_after if all(map(is_color_like, named_after)) else COLOURS
    columns = min(PANELS_ACROSS, len(clouds))
    rows = -(-len(clouds) // columns)
    figure = blank(*((6.8, 4.6) if len(clouds) == 1 else (2.1 * columns + 1.8, 2.1 * rows + 0.7)))
    grid = figure.subplots(rows, columns, squeeze=False)
    size = 14 if len(clouds) == 1 else 7
    for axes in grid.flat[len(clouds) :]:
        axes.set_axis_off()
    handles: dict[str, Any] = {}
    for axes, cloud in zip(grid.flat, clouds, strict=False):
        for group in np.unique(cloud.groups):
            name = short(clean(group_names[group]))
            x, y = cloud.real[cloud.groups == group].T
            handles[name] = axes.scatter(
                x,
                y,
                s=size,
                alpha=0.7,
                color=colours[group % len(colours)],
                marker=MARKERS[group // len(colours) % len(MARKERS)],
                edgecolor=INK,
                lw=0.3,
            )
        x, y = cloud.synthetic.T
        stars = axes.scatter(x, y, s=50 + 4 * size, marker="*", color=INK, edgecolor="white", lw=0.8, zorder=3)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(short(clean(cloud.name)), fontsize=9, fontweight="normal")
        axes.set_xlabel(f"{100 * cloud.explained:.0f} % of variance shown", fontsize=8)
    figure.supxlabel("first principal direction of the class's real images", fontsize=9)
    figure.supylabel("second principal direction", fontsize=9)
    figure.suptitle(short(clean(title), 60), fontsize=11, fontweight="bold")
    order = [name for name in map(short, map(clean, group_names)) if name in handles]
    figure.legend(
        [*(handles[name] for name in order), stars], [*order, "synthetic"], loc="outside right upper", markerscale=1.5
    )
    return figure
