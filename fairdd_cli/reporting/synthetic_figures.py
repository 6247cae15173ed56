"""Figures of synthetic sets: their images, and their loss."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fairdd_cli.artifacts import SyntheticSet
from fairdd_cli.errors import UsageError
from fairdd_cli.reporting.figures import COLOURS, INK, label_of, new_figure, styled, text_size, wrapped
from fairdd_cli.reporting.outside_text import bounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 10  # images of a class in a grid
SIDE = 0.62  # inches of an image
CURVES = 10


@styled
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
    names = [wrapped(bounded(name)) for name in synthetic.class_names]
    row = max(SIDE * height / width, *(text_size(name)[1] + 0.05 for name in names))
    beside = max(text_size(name)[0] for name in names)
    across = row * width / height * columns
    title = label_of(synthetic) + ("" if columns == synthetic.ipc else f", first {columns}")
    title = wrapped(title, max(2.4, across), 11, bold=True)
    figure = new_figure(max(2.6, across) + beside + 0.4, row * classes + text_size(title, 11)[1] + 0.3)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks(np.arange(classes) * (height + gap) + height / 2, names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_anchor("NW")
    axes.set_title(title, loc="left")
    return figure


@styled
def loss_curves(sets: Sequence[SyntheticSet]) -> "Figure":
    """The matching loss over the iterations, each run divided by its first loss: strategies sum over groups or not.

    The heavy line is the mean over a fiftieth of the run. Raises UsageError where no set has a history.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter  # noqa: PLC0415

    with_history = [s for s in sets if len(s.history.loss) > 1 and s.history.loss[0] > 0][:CURVES]
    if not with_history:
        raise UsageError("none of the synthetic sets has a history of losses to draw")
    names = [wrapped(label_of(synthetic), 3.0) for synthetic in with_history]
    figure = new_figure(7.2, 3.4 + sum(text_size(name)[1] + 0.1 for name in names[::2]) + 0.3)
    axes = figure.subplots()
    for index, synthetic in enumerate(with_history):
        steps, loss = synthetic.history.iteration, synthetic.history.loss / synthetic.history.loss[0]
        colour, window = COLOURS[index % len(COLOURS)], max(1, len(loss) // 50)
        smooth = np.convolve(loss, np.full(window, 1 / window), mode="valid")
        axes.plot(steps, loss, color=colour, linewidth=0.7, alpha=0.3)
        axes.plot(steps[window - 1 :], smooth, color=colour, linewidth=1.8, label=names[index])
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
