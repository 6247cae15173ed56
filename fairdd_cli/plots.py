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
from fairdd_cli.formats import signed
from fairdd_cli.metrics import METRICS
from fairdd_cli.report import Row
from fairdd_cli.runs import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1a1d21"  # text and frames; on a page the colour of its text
# Each has a contrast of at least 3 to 1 with white and with the page's dark background.
COLOURS = ("#2a7fd4", "#d9660b", "#0f9d72", "#c0569b", "#8a6fd1", "#a07c10", "#5f7a8a", "#d43c3c", "#1f95a8", "#7a8f1d")
MARKERS = "osD^vP*X"
SUFFIXES = (".png", ".svg", ".pdf")
PANELS = 6  # data sets in one scatter plot
COLUMNS = 10  # images of a class in a grid
CURVES = 10
NUMBERED = 12  # classes or groups up to which a heat map's cells carry numbers
LABELLED = 16  # rows up to which every point of a scatter plot is named

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
    return text.replace(INK, "currentColor")


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415

    return Figure(figsize=(width, height), layout="constrained")


@picture
def scatter(rows: Sequence[Row], x: str = "accuracy", y: str = "deo_mean") -> "Figure":
    """Metric `y` over metric `x`, a panel for each data set: error bars of one standard deviation over seeds.

    Colour is the method, the marker the fairness strategy (vanilla hollow); arrows lead from the vanilla row to
    those compared with it; the line joins the rows that no other beats in both metrics.
    """
    rows = [row for row in rows if row.mean(x) is not None and row.mean(y) is not None]
    if not rows:
        raise UsageError(f"no row has both {x} and {y} to draw")
    panels = list(dict.fromkeys(row.setting.dataset for row in rows))[:PANELS]
    methods = sorted({row.setting.method for row in rows})
    strategies = sorted({row.setting.fairness for row in rows}, key=lambda name: (name != "vanilla", name))
    across = min(len(panels), 2)
    figure = _figure(4.2 * across + 2.6, 4.2 * -(-len(panels) // across))
    grid = figure.subplots(-(-len(panels) // across), across, squeeze=False).ravel()
    for axes, name in zip(grid, panels, strict=False):
        _panel(axes, [row for row in rows if row.setting.dataset == name], x, y, methods, strategies)
        axes.set_title(name)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    figure.legend(handles=_keys(methods, strategies), loc="outside right upper")
    return figure


def _panel(axes: "Axes", rows: list[Row], x: str, y: str, methods: list[str], strategies: list[str]) -> None:
    points = np.array([(row.mean(x), row.mean(y)) for row in rows], float)
    front = pareto(points, METRICS[x].higher_is_better, METRICS[y].higher_is_better)
    if len(front) > 1:
        axes.plot(*points[front].T, color=INK, alpha=0.45, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    several = len({(row.setting.ipc, row.setting.network, row.variant) for row in rows}) > 1
    for index, row in enumerate(rows):
        colour, kind = COLOURS[methods.index(row.setting.method) % len(COLOURS)], strategies.index(row.setting.fairness)
        hollow = row.setting.fairness == "vanilla"
        axes.errorbar(
            points[index, 0],
            points[index, 1],
            xerr=row.metrics[x]["std"] if row.seeds > 1 else None,
            yerr=row.metrics[y]["std"] if row.seeds > 1 else None,
            fmt=MARKERS[kind % len(MARKERS)],
            color=colour,
            markerfacecolor="none" if hollow else colour,
            markersize=7,
            elinewidth=1,
            capsize=2,
            zorder=3,
        )
        if row.vanilla is not None:
            start = (row.vanilla.mean(x), row.vanilla.mean(y))
            arrow = {"arrowstyle": "->", "color": colour, "alpha": 0.75, "shrinkA": 6, "shrinkB": 6}
            axes.annotate("", xy=tuple(points[index]), xytext=start, arrowprops=arrow, zorder=2)
        if several and (len(rows) <= LABELLED or index in front):
            text = " ".join(filter(None, (f"IPC {row.setting.ipc}", row.variant if len(row.variant) < 20 else "")))
            axes.annotate(text, points[index], xytext=(6, 6), textcoords="offset points", fontsize=8)
    axes.margins(0.14)
    for axis, metric in ((axes.xaxis, x), (axes.yaxis, y)):
        better = "higher" if METRICS[metric].higher_is_better else "lower"
        axis.set_label_text(f"{METRICS[metric].label} (%), {better} is better")
    axes.grid(color=INK, alpha=0.12, linewidth=0.8)


def pareto(points: np.ndarray, x_up: bool, y_up: bool) -> list[int]:
    """The rows of `points` [N, 2] that no other is better than in both columns, in the order of the first."""
    signs = np.array([1 if x_up else -1, 1 if y_up else -1])
    front: list[int] = []
    best = -np.inf
    for index in sorted(range(len(points)), key=lambda i: tuple(-points[i] * signs)):
        if points[index, 1] * signs[1] > best:
            best = points[index, 1] * signs[1]
            front.append(index)
    return front


def _keys(methods: list[str], strategies: list[str]) -> list[Any]:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    plain: dict[str, Any] = {"linestyle": "", "markersize": 7}
    keys = [
        Line2D([], [], color=COLOURS[index % len(COLOURS)], marker="s", label=name, **plain)
        for index, name in enumerate(methods)
    ]
    for index, name in enumerate(strategies):
        face = "none" if name == "vanilla" else INK
        keys.append(
            Line2D([], [], color=INK, marker=MARKERS[index % len(MARKERS)], markerfacecolor=face, label=name, **plain)
        )
    keys.append(Line2D([], [], color=INK, alpha=0.45, linestyle=(0, (4, 3)), label="Pareto front"))
    keys.append(Line2D([], [], linestyle="", label="bars: ± 1 std over seeds"))
    return keys


@picture
def recall_maps(rows: Sequence[Row]) -> "Figure":
    """The recall of every cell (mean over seeds, percent), classes x groups, a map for each row side by side.

    Empty cells stay blank.
    """
    classes, groups = rows[0].cells.total.shape[1:]
    names = rows[0].runs[0].evaluation
    side = 0.42 if max(classes, groups) <= NUMBERED else 5 / max(classes, groups)
    figure = _figure(len(rows) * max(2.6, side * groups) + 2.6, max(2.4, side * classes + 1.6))
    grid = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
    for axes, row in zip(grid, rows, strict=True):
        table = row.recall()
        image = axes.imshow(table, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        deo = row.mean("deo_mean")
        axes.set_title(row.name + ("" if deo is None else f"\nDEO_A {deo:.1f} %"))
        axes.set_xticks(range(groups), names.protected_names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(classes), names.class_names)
        axes.tick_params(length=0)
        axes.set_xlabel("group")
        if max(classes, groups) <= NUMBERED:
            for (y, x), value in np.ndenumerate(table):
                text, colour = ("-", INK) if np.isnan(value) else (f"{value:.0f}", "white" if value < 62 else "black")
                axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
    grid[0].set_ylabel("class")
    figure.colorbar(image, ax=grid, label="Recall (%)", shrink=0.9)
    return figure


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
    figure = _figure(0.62 * columns + 1.6, 0.62 * classes * height / width + 0.7)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks(np.arange(classes) * (height + gap) + height / 2, [clean(name) for name in synthetic.class_names])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    shown = "" if columns == synthetic.ipc else f", first {columns}"
    axes.set_title(f"{_named(synthetic)}{shown}", loc="left")
    return figure


def _named(synthetic: SyntheticSet) -> str:
    return clean(f"{synthetic.dataset} {synthetic.method} {synthetic.fairness} IPC {synthetic.ipc}")


@picture
def loss_curves(sets: Sequence[SyntheticSet]) -> "Figure":
    """The matching loss over the iterations, each run divided by its first loss: strategies sum over groups or not.

    The heavy line is the mean over a fiftieth of the run. Raises UsageError where no set has a history.
    """
    drawn = [s for s in sets if len(s.history.loss) > 1 and s.history.loss[0] > 0][:CURVES]
    if not drawn:
        raise UsageError("none of the synthetic sets has a history of losses to draw")
    figure = _figure(7.2, 4)
    axes = figure.subplots()
    for index, synthetic in enumerate(drawn):
        steps, loss = synthetic.history.iteration, synthetic.history.loss / synthetic.history.loss[0]
        colour, window = COLOURS[index % len(COLOURS)], max(1, len(loss) // 50)
        smooth = np.convolve(loss, np.full(window, 1 / window), mode="valid")
        axes.plot(steps, loss, color=colour, linewidth=0.7, alpha=0.3)
        axes.plot(steps[window - 1 :], smooth, color=colour, linewidth=1.8, label=_named(synthetic))
    axes.set_yscale("log")
    axes.set_xlabel("iteration")
    axes.set_ylabel("loss / first loss")
    axes.grid(color=INK, alpha=0.12, linewidth=0.8)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@picture
def embedding(
    real: np.ndarray, groups: np.ndarray, group_names: Sequence[str], synthetic: np.ndarray, title: str = ""
) -> "Figure":
    """How synthetic images cover the groups: 2-D points of the `real` [N, 2] by group and the `synthetic` [M, 2].

    `groups` int64 [N] index `group_names`; the projection is the caller's.
    """
    figure = _figure(6.8, 4.6)
    axes = figure.subplots()
    for group, name in enumerate(group_names):
        marker = MARKERS[group // len(COLOURS) % len(MARKERS)]
        colour = COLOURS[group % len(COLOURS)]
        x, y = real[groups == group].T
        axes.scatter(x, y, s=14, alpha=0.55, color=colour, marker=marker, label=clean(name), lw=0)
    x, y = synthetic.T
    axes.scatter(x, y, s=110, marker="*", color="white", edgecolor=INK, label="synthetic", zorder=3)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("first direction of the projection")
    axes.set_ylabel("second direction")
    axes.set_title(clean(title))
    figure.legend(loc="outside right upper")
    return figure


def describe_scatter(rows: Sequence[Row], x: str = "accuracy", y: str = "deo_mean") -> str:
    """The scatter plot in words, for those who don't see it."""
    pairs = [row for row in rows if row.vanilla is not None and {x, y} <= set(row.versus)]
    words = [f"{METRICS[y].label} over {METRICS[x].label}, {len(rows)} rows."]
    words += [
        f"{row.setting.dataset} {row.name}, IPC {row.setting.ipc}: {signed(row.versus[x].points)} points of "
        f"{METRICS[x].label} and {signed(row.versus[y].points)} of {METRICS[y].label} against vanilla."
        for row in pairs[:PANELS]
    ]
    return " ".join(words)
