"""Figures of synthetic sets: their images under their scores, and their loss."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fairdd_cli.artifacts import SyntheticSet
from fairdd_cli.errors import UsageError
from fairdd_cli.loading import shown_images
from fairdd_cli.metrics import METRICS, Confusion
from fairdd_cli.reporting.figures import COLOURS, INK, label_of, new_figure, styled, text_size, wrapped
from fairdd_cli.reporting.labels import metric_title, value_of
from fairdd_cli.reporting.outside_text import bounded
from fairdd_cli.reporting.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 10  # images of a class in a grid
SIDE = 0.62  # inches of an image
MOST_SETS = 6  # side by side
CURVES = 10
VALIDATED = {"accuracy": "-", "deo_max": ":", "deo_mean": "--"}  # metrics of a validation, and their lines
SCORES = ("accuracy", "deo_max", "deo_mean")  # above the images of a set


@styled
def image_grid(sets: Sequence[SyntheticSet], rows: Sequence[Row] = ()) -> "Figure":
    """The synthetic images of each of the `sets`, side by side: a row for each class, its first ten where it has more.

    Above each stand its name and, where `rows` were evaluated on it, its accuracy, DEO_M and DEO_A.
    """
    sheets = [_sheet(each) for each in sets]
    names = [[wrapped(bounded(name)) for name in each.class_names] for each in sets]
    named = [index == 0 or each != names[index - 1] for index, each in enumerate(names)]  # once where all are alike
    shapes = [each.shape[1:] for each in sets]
    row = max(
        *(SIDE * height / width for height, width in shapes),
        *(text_size(name)[1] + 0.05 for each in names for name in each),
    )
    widths = [
        max(2.6, row * width / height * min(COLUMNS, _most_of_a_class(each)))
        for each, (height, width) in zip(sets, shapes, strict=True)
    ]
    titles = [wrapped(_title(each), width - 0.2, 11, bold=True) for each, width in zip(sets, widths, strict=True)]
    scores = [
        "\n".join(wrapped(line, width - 0.2) for line in _scores(each, rows))
        for each, width in zip(sets, widths, strict=True)
    ]
    beside = sum(max(text_size(name)[0] for name in each) for each, shown in zip(names, named, strict=True) if shown)
    above = max(text_size(title, 11)[1] + text_size(score)[1] for title, score in zip(titles, scores, strict=True))
    classes = max(map(len, names))
    figure = new_figure(sum(widths) + beside + 0.4 * len(sets), row * classes + above + 0.3)
    panels = figure.subplots(1, len(sets), squeeze=False, width_ratios=widths)[0]
    for index, axes in enumerate(panels):
        axes.imshow(sheets[index], interpolation="nearest")
        axes.set_xticks([])
        count = len(names[index]) if named[index] else 0
        axes.set_yticks((np.arange(count) + 0.5) * len(sheets[index]) / max(1, count), names[index][:count])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_anchor("NW")
        axes.set_title(titles[index], loc="left")
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(scores[index], loc="left")
    return figure


def _sheet(synthetic: SyntheticSet) -> np.ndarray:
    """The images in rows and columns with white between them, float64 [height, width, 3]."""
    mean, std = (np.array(values)[:, None, None] for values in (synthetic.mean, synthetic.std))
    pixels = np.clip(shown_images(synthetic) * std + mean, 0, 1).transpose(0, 2, 3, 1)
    columns = min(COLUMNS, _most_of_a_class(synthetic))
    height, width, channels = pixels.shape[1:]
    gap = max(1, height // 16)
    classes = len(synthetic.class_names)
    sheet = np.ones((classes * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for label in range(classes):
        for column, image in enumerate(pixels[synthetic.labels == label][:columns]):
            top, left = label * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = image[..., :3] if channels >= 3 else image[..., :1]
    return sheet


def _most_of_a_class(synthetic: SyntheticSet) -> int:
    """The most images that a class has."""
    return int(np.bincount(synthetic.labels).max())


def _title(synthetic: SyntheticSet) -> str:
    return label_of(synthetic) + (f", first {COLUMNS}" if _most_of_a_class(synthetic) > COLUMNS else "")


def _scores(synthetic: SyntheticSet, rows: Sequence[Row]) -> list[str]:
    """A line for each of the `rows` that was evaluated on this set; several are called by their networks."""
    evaluated = [row for row in rows if any(run.evaluation.synthetic_digest == synthetic.digest for run in row.runs)]
    lines = []
    for row in evaluated:
        values = [f"{metric_title(name)} {value_of(row, name)}" for name in SCORES if row.mean(name) is not None]
        several = [row.setting.network] if len(evaluated) > 1 else []
        pooled = len({run.evaluation.synthetic_digest for run in row.runs})
        lines.append("   ".join([*several, *values, *([f"mean of {pooled} sets"] if pooled > 1 else [])]))
    return lines


@styled
def loss_curves(sets: Sequence[SyntheticSet]) -> "Figure":
    """The loss over the iterations, each run divided by the mean of its first ones: strategies sum over groups or not.

    A line that is still noisy is drawn thin under its mean over a fiftieth of the run. Which losses hold the sampling
    noise of their batches is said. Below, where a run was validated, what its networks scored on validation images, and
    a dot where the images that were kept stood. Raises UsageError where no set has a history.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter  # noqa: PLC0415

    with_history = [s for s in sets if len(s.history.loss) > 1][:CURVES]
    if not with_history:
        raise UsageError("none of the synthetic sets has a history of losses to draw")
    kinds = {s.history.what for s in with_history}
    labels = [label_of(s) if len(kinds) == 1 else f"{label_of(s)}: {s.history.what}" for s in with_history]
    names = [wrapped(label, 3.0) for label in labels]
    validated = any(s.history.validation is not None for s in with_history)
    height = 3.4 + 2.6 * validated + sum(text_size(name)[1] + 0.1 for name in names[::2]) + 0.3
    figure = new_figure(7.2, height)
    axes, *below = figure.subplots(1 + validated, sharex=True, squeeze=False)[:, 0]
    for index, synthetic in enumerate(with_history):
        steps, loss = synthetic.history.iteration, synthetic.history.loss
        colour, window = COLOURS[index % len(COLOURS)], max(1, len(loss) // 50)
        smooth = np.convolve(loss, np.full(window, 1 / window), mode="valid")
        # An unbiased distance that is 0 may come out below it.
        scale = smooth[0] if smooth[0] > 0 else np.abs(loss).max() or 1.0
        axes.plot(steps, loss / scale, color=colour, linewidth=0.7, alpha=0.3)
        axes.plot(steps[window - 1 :], smooth / scale, color=colour, linewidth=1.8, label=names[index])
    low, high = axes.get_ylim()
    if low > 0 and high > 10 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    (below[0] if below else axes).set_xlabel("iteration")
    axes.set_ylabel(f"{kinds.pop() if len(kinds) == 1 else 'loss'},\nrelative to the start")
    axes.grid(color=INK, alpha=0.12, linewidth=0.8)
    if below:
        _draw_validations(below[0], with_history)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _draw_validations(axes: "Axes", sets: Sequence[SyntheticSet]) -> None:
    """Accuracy, DEO_M and DEO_A of the networks that `sets` were validated with, each set in its colour."""
    for index, synthetic in enumerate(sets):
        if (validation := synthetic.history.validation) is None:
            continue
        kept = validation.position(synthetic.kept_iteration)
        confusion = Confusion.of_cells(validation.correct, validation.total)
        for name, line in VALIDATED.items():
            values = 100 * METRICS[name](confusion).mean(axis=1)
            axes.plot(validation.iteration, values, line, color=COLOURS[index % len(COLOURS)], linewidth=1.4)
            axes.plot(validation.iteration[kept], values[kept], "o", color=COLOURS[index % len(COLOURS)], markersize=4)
    for name, line in VALIDATED.items():
        axes.plot([], [], line, color=INK, label=METRICS[name].label)
    axes.set_ylabel("validation (%)")
    axes.grid(color=INK, alpha=0.12, linewidth=0.8)
    axes.legend(loc="best", fontsize="small")
