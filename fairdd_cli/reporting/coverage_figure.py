"""Figure: how synthetic images cover the groups of their classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fairdd_cli.reporting.figures import COLOURS, INK, MARKERS, legend_size, new_figure, styled, text_size, wrapped
from fairdd_cli.reporting.outside_text import bounded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fairdd_cli.reporting.group_coverage import ClassProjection

PANELS_ACROSS = 5
PANEL = 2.1  # inches


@styled
def coverage_figure(projections: "Sequence[ClassProjection]", group_names: Sequence[str], title: str = "") -> "Figure":
    """How synthetic images cover the groups: a panel for each class, its real images by group, the synthetic on top.

    Groups named after colours have them.
    """
    from matplotlib.colors import is_color_like  # noqa: PLC0415

    survey = [f"xkcd:{name}" for name in group_names]  # what people call colours
    colours: Sequence[str] = survey if all(map(is_color_like, survey)) else COLOURS
    alone = len(projections) == 1
    columns = min(PANELS_ACROSS, len(projections))
    rows = -(-len(projections) // columns)
    panel = 4.6 if alone else PANEL
    names = [wrapped(bounded(projection.name), panel, 9) for projection in projections]
    shown = sorted({int(group) for projection in projections for group in projection.groups})
    legend = [*(wrapped(bounded(group_names[group])) for group in shown), "synthetic"]
    width, height, legend_columns = legend_size(legend)
    across = panel * columns + width + 0.4
    title = wrapped(bounded(title), panel * columns, 11, bold=True)
    down = rows * (panel + max(text_size(name, 9)[1] for name in names) + 0.1)
    figure = new_figure(across, max(down, height) + text_size(title, 11)[1] + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(projections) :]:
        axes.set_axis_off()
    handles: dict[int, Any] = {}
    for axes, projection, name in zip(grid.flat, projections, names, strict=False):
        handles |= _panel(axes, projection, colours, size=14 if alone else 7)
        axes.set_title(name, fontsize=9, fontweight="normal")
    synthetic = handles.pop(-1)
    figure.supxlabel("first principal direction of the class's real images", fontsize=9)
    figure.supylabel("second principal direction", fontsize=9)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold")
    figure.legend(
        [*(handles[group] for group in shown), synthetic],
        legend,
        loc="outside right upper",
        markerscale=1.5,
        ncols=legend_columns,
    )
    return figure


def _panel(axes: "Axes", projection: "ClassProjection", colours: Sequence[str], size: int) -> dict[int, Any]:
    """Draws a class; returns the handle of each group, and of the synthetic images as group -1."""
    handles: dict[int, Any] = {}
    for group in map(int, np.unique(projection.groups)):
        x, y = projection.real[projection.groups == group].T
        handles[group] = axes.scatter(
            x,
            y,
            s=size,
            alpha=0.7,
            color=colours[group % len(colours)],
            marker=MARKERS[group // len(colours) % len(MARKERS)],
            edgecolor=INK,
            lw=0.3,
        )
    x, y = projection.synthetic.T
    handles[-1] = axes.scatter(x, y, s=50 + 4 * size, marker="*", color=INK, edgecolor="white", lw=0.8, zorder=3)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"{100 * projection.explained:.0f} % of variance shown", fontsize=8)
    return handles
