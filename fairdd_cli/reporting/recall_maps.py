"""Figure: the recall of every cell as heat maps side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fairdd_cli.reporting.figures import FONT_SIZE, INK, LINE, POINTS, new_figure, styled, text_size, wrapped
from fairdd_cli.reporting.rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUMBERED = 12  # classes or groups up to which a heat map's cells carry numbers
SIDE = 0.42  # inches of a cell with a number
LONGEST_SIDE = 20.0  # inches of a heat map, beyond which only some of the classes or groups are named
LEAST_WIDTH = 2.6


@styled
def recall_maps(rows: Sequence[Row]) -> "Figure":
    """The recall of every cell (mean over seeds, percent), classes x groups, a map for each row side by side.

    Empty cells stay blank.
    """
    names = rows[0].runs[0].evaluation
    class_names, group_names = [[*map(wrapped, each)] for each in (names.class_names, names.protected_names)]
    numbered = max(len(class_names), len(group_names)) <= NUMBERED
    least = SIDE if numbered else 0.05
    tall, class_step = _length(class_names, least)
    wide, group_step = _length(group_names, least)
    wide = max(LEAST_WIDTH, wide)
    titles = [_title(row, wide) for row in rows]
    left = max(text_size(name)[0] for name in class_names) + 0.5
    below = max(text_size(name)[0] for name in group_names) + 0.5
    above = max(text_size(title, 11)[1] for title in titles) + 0.3
    figure = new_figure(len(rows) * (wide + 0.2) + left + 1.2, max(1.2, tall) + above + below)
    grid = figure.subplots(1, len(rows), squeeze=False, sharey=True)[0]
    for axes, row, title in zip(grid, rows, titles, strict=True):
        table = row.recall()
        image = axes.imshow(table, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        axes.set_title(title)
        places = range(0, len(group_names), group_step)
        axes.set_xticks(places, [group_names[place] for place in places], rotation=90, va="top", ha="center")
        places = range(0, len(class_names), class_step)
        axes.set_yticks(places, [class_names[place] for place in places])
        axes.tick_params(length=0)
        axes.set_xlabel("group")
        if numbered:
            for (y, x), value in np.ndenumerate(table):
                text, colour = ("-", INK) if np.isnan(value) else (f"{value:.0f}", "white" if value < 62 else "black")
                axes.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
    grid[0].set_ylabel("class")
    figure.colorbar(image, ax=grid, label="Recall (%)", shrink=0.9)
    return figure


def _length(names: Sequence[str], least: float) -> tuple[float, int]:
    """The inches of an axis with these names, whose entries take `least`, and every how many are named."""
    needed = max(least, max(name.count("\n") + 1.2 for name in names) * LINE * FONT_SIZE / POINTS)
    length = len(names) * needed
    step = -(-int(100 * length) // int(100 * LONGEST_SIDE))
    return max(len(names) * least, length / step), step


def _title(row: Row, width: float) -> str:
    deo = row.mean("deo_mean")
    name = wrapped(row.name, width, 11, bold=True)
    return name if deo is None else f"{name}\nDEO_A {deo:.1f} %"


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
