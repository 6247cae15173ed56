"""How far a mean over seeds can be trusted: bootstrap over seeds and test images, from counts alone.

Counts don't tell which images two seeds agree on, and seeds that share their test images share its accidents. The
bootstrap therefore takes the images of a cell as ordered by difficulty: one that a weak network gets right, every
stronger one gets right as well. No other assumption that fits the counts makes the seeds depend on each other
more, so intervals are rather too wide than too narrow. A replicate of a cell of n images is then one multinomial
draw: how many images fall between the recalls of consecutive seeds. The replicate's seeds are drawn with
replacement, as usual.
"""

import numpy as np

from fairdd_cli.metrics import Cells, per_seed

CHUNK = 2**21  # counts drawn at a time: 16 MiB


def replicates(
    cells: Cells, count: int, generator: np.random.Generator, empty_cells: str = "skip"
) -> dict[str, np.ndarray]:
    """Each metric's mean over seeds in `count` resampled experiments, float64 [count], as fractions.

    `cells` hold [seeds, classes, groups]; the seeds share their test split.
    """
    seeds = cells.total.shape[0]
    total = cells.total.max(axis=0)
    recall = np.divide(cells.correct, cells.total, out=np.zeros(cells.total.shape), where=cells.total > 0)
    order = recall.argsort(axis=0)
    rank = np.moveaxis(order.argsort(axis=0), 0, -1)  # [classes, groups, seeds]
    ordered = np.moveaxis(np.take_along_axis(recall, order, axis=0), 0, -1)
    widths = np.diff(ordered, axis=-1, prepend=0.0, append=1.0)

    parts: list[dict[str, np.ndarray]] = []
    step = max(1, CHUNK // cells.total.size)
    for start in range(0, count, step):
        size = min(step, count - start)
        drawn = generator.multinomial(total, widths, size=(size, *total.shape)).cumsum(axis=-1)
        correct = np.moveaxis(np.take_along_axis(drawn, rank[None], axis=-1), -1, 1)
        chosen = generator.integers(0, seeds, (size, seeds))
        correct = np.take_along_axis(correct, chosen[:, :, None, None], axis=1)
        sample = Cells(correct, np.broadcast_to(total, correct.shape))
        parts.append({name: values.mean(axis=1) for name, values in per_seed(sample, empty_cells).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(estimate: float, values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The interval of `confidence` (a fraction) about `estimate` that the replicates' `values` span.

    The replicates are shifted so that their mean meets the estimate: resampling widens every gap between groups,
    and that must not pass for a finding.
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail]) - values.mean() + estimate
    return float(low), float(high)
