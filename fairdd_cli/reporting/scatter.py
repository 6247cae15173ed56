"""Figure: fairness over accuracy, a point for every row of a report."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fairdd_cli.errors import UsageError
from fairdd_cli.metrics import METRICS
from fairdd_cli.reporting.figures import COLOURS, INK, MARKERS, legend_size, new_figure, styled, text_size, wrapped
from fairdd_cli.reporting.labels import signed
from fairdd_cli.reporting.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 6  # data sets and networks in one figure; the first ones are drawn
PANEL = 4.2  # inches
LEGEND_SCALE = 0.12  # inches that the larger markers add to a legend's line
CROWD = 200  # rows of a panel from which on arrows and bars would only hide the points
DASHED = (0, (4, 3))


@styled
def scatter(rows: Sequence[Row], x: str = "accuracy", y: str = "deo_mean") -> "Figure":
    """Metric `y` over metric `x`, a panel for each data set and network: bars of one standard deviation over seeds.

    Colour is the method, the marker the fairness strategy (vanilla hollow), its size the IPC; arrows lead from the
    vanilla row to those compared with it. Rings mark the rows that no other beats in both metrics.
    """
    rows = [row for row in rows if row.mean(x) is not None and row.mean(y) is not None]
    if not rows:
        raise UsageError(f"no row has both {x} and {y} to draw")
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        panels.setdefault((row.setting.dataset, row.setting.network), []).append(row)
    key = Key.of(rows)
    across = min(len(panels), 2)
    down = -(-min(len(panels), PANELS) // across)
    shown = list(panels.items())[:PANELS]
    titles = [wrapped(", ".join(name), PANEL - 0.8, 11, bold=True) for name, _ in shown]
    handles = key.handles()
    width, height, columns = legend_size([str(handle.get_label()) for handle in handles])
    panel = PANEL + max(text_size(title, 11)[1] for title in titles) - text_size("A", 11)[1]
    figure = new_figure(PANEL * across + width + 0.2, max(panel * down, height + LEGEND_SCALE))
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, title, (_, members) in zip(grid, titles, shown, strict=False):
        _panel(axes, members, x, y, key)
        axes.set_title(title)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    figure.legend(handles=handles, loc="outside right upper", ncols=columns)
    return figure


@dataclass(frozen=True)
class Key:
    """What colours, markers and sizes mean in a scatter plot."""

    methods: list[str]
    strategies: list[str]
    ipcs: list[int]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Key":
        """The key to `rows`; vanilla has the first marker."""
        strategies = sorted({row.setting.fairness for row in rows}, key=lambda name: (name != "vanilla", name))
        methods = sorted({row.setting.method for row in rows})
        return cls(methods, strategies, sorted({row.setting.ipc for row in rows}))

    def colour(self, method: str) -> str:
        """The colour of a method."""
        return COLOURS[self.methods.index(method) % len(COLOURS)]

    def marker(self, fairness: str) -> str:
        """The marker of a strategy."""
        return MARKERS[self.strategies.index(fairness) % len(MARKERS)]

    def size(self, ipc: int) -> float:
        """The size of a marker, in points: from 6 for the smallest IPC to 11 for the largest."""
        steps = len(self.ipcs) - 1
        return 6 + 5 * bisect_left(self.ipcs, ipc) / steps if steps else 7

    def handles(self) -> list[Any]:
        """The legend."""
        from matplotlib.lines import Line2D  # noqa: PLC0415

        def entry(label: str, **look: Any) -> Line2D:
            return Line2D([], [], label=wrapped(label), **{"linestyle": "", "color": INK, "markersize": 7, **look})

        entries = [entry(name, color=self.colour(name), marker="s") for name in self.methods]
        for name in self.strategies:
            face = "none" if name == "vanilla" else INK
            entries.append(entry(name, marker=self.marker(name), markerfacecolor=face))
        if len(self.ipcs) > 1:
            shown = self.ipcs if len(self.ipcs) <= 5 else [self.ipcs[0], self.ipcs[-1]]
            entries += [entry(f"IPC {ipc}", marker="o", markersize=self.size(ipc), alpha=0.5) for ipc in shown]
        ring = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgewidth": 0.8}
        entries.append(entry("Pareto front", alpha=0.6, linestyle=DASHED, linewidth=1, **ring))
        return [*entries, entry("bars: ± 1 std over seeds")]


def _panel(axes: "Axes", rows: list[Row], x: str, y: str, key: Key) -> None:
    points = np.array([(row.mean(x), row.mean(y)) for row in rows], float)
    front = points[pareto(points, METRICS[x].higher_is_better, METRICS[y].higher_is_better)]
    axes.plot(front[:, 0], front[:, 1], color=INK, alpha=0.6, linewidth=1, linestyle=DASHED, zorder=1)
    axes.scatter(front[:, 0], front[:, 1], s=260, facecolor="none", edgecolor=INK, alpha=0.6, linewidth=0.8, zorder=1)
    crowded = len(rows) > CROWD
    looks: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows):
        looks.setdefault((row.setting.method, row.setting.fairness), []).append(index)
    for (method, fairness), members in looks.items():
        colour, group = key.colour(method), [rows[index] for index in members]
        across, up = points[members].T
        if not crowded:
            bars = [[row.metrics[name]["std"] if row.seeds > 1 else np.nan for row in group] for name in (x, y)]
            look: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 1, "capsize": 2, "zorder": 2}
            axes.errorbar(across, up, xerr=bars[0], yerr=bars[1], **look)
        sizes = [key.size(row.setting.ipc) ** 2 for row in group]
        face = "none" if fairness == "vanilla" else colour
        marks: dict[str, Any] = {"marker": key.marker(fairness), "facecolor": face, "edgecolor": colour}
        axes.scatter(across, up, s=sizes, rasterized=crowded, zorder=3, **marks)
    for row, point in zip(rows, points, strict=True):
        if row.vanilla is not None and not crowded:
            start = (row.vanilla.mean(x) or 0.0, row.vanilla.mean(y) or 0.0)
            colour = key.colour(row.setting.method)
            arrow = {"arrowstyle": "->", "color": colour, "alpha": 0.75, "shrinkA": 7, "shrinkB": 8}
            axes.annotate("", xy=(point[0], point[1]), xytext=start, arrowprops=arrow, zorder=2)
    axes.margins(0.1)
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


def describe_scatter(rows: Sequence[Row], x: str = "accuracy", y: str = "deo_mean") -> str:
    """The scatter plot in words, for those who don't see it."""
    pairs = [row for row in rows if row.vanilla is not None and {x, y} <= set(row.delta)]
    words = [f"{METRICS[y].label} over {METRICS[x].label}, {len(rows)} rows."]
    words += [
        f"{row.setting.dataset} {row.name}, IPC {row.setting.ipc}: {signed(row.delta[x].points)} points of "
        f"{METRICS[x].label} and {signed(row.delta[y].points)} of {METRICS[y].label} against vanilla."
        for row in pairs[:PANELS]
    ]
    return " ".join(words)
