"""Accuracy and fairness as pure functions of a confusion table.

A table counts test images as int64 [..., classes, groups, classes]: label, protected value, prediction; leading
axes (seeds, replicates) are kept. Every metric needs only how many images of a cell there are and how many of
them were classified correctly, so each function takes a table or its `Cells`. Results are fractions.

A cell without test images has no recall: it is not a number and is left out of maxima, minima and means, unless
`empty_cells` is `zero`, which scores it 0 as the public FairDD code does. A metric that nothing is left for is NaN.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fairdd_cli.errors import unknown

EMPTY_CELLS = ("skip", "zero")


class Cells(NamedTuple):
    """What the metrics look at: for each cell the test images, and those classified correctly."""

    correct: np.ndarray  # [..., classes, groups]
    total: np.ndarray  # [..., classes, groups]


Table = np.ndarray | Cells


def cells(table: Table) -> Cells:
    """The cells of a confusion table [..., classes, groups, classes]."""
    if isinstance(table, Cells):
        return table
    return Cells(np.diagonal(table, axis1=-3, axis2=-1).swapaxes(-1, -2), table.sum(axis=-1))


def empty(table: Table) -> list[tuple[int, int]]:
    """The (label, protected) pairs that have no test image in at least one of the tables."""
    total = cells(table).total
    classes, groups = np.nonzero((total == 0).any(axis=tuple(range(total.ndim - 2))))
    return list(zip(classes.tolist(), groups.tolist(), strict=True))


def recall_table(table: Table, empty_cells: str = "skip") -> np.ndarray:
    """R[y, a] = P(prediction = y | label y, protected a), float64 [..., classes, groups]."""
    if empty_cells not in EMPTY_CELLS:
        raise unknown("treatment of empty cells", empty_cells, EMPTY_CELLS)
    return _share(*cells(table), empty=np.nan if empty_cells == "skip" else 0.0)


def accuracy(table: Table, empty_cells: str = "skip") -> np.ndarray:
    """The share of all test images that is classified correctly."""
    correct, total = cells(table)
    return _share(correct.sum(axis=(-2, -1)), total.sum(axis=(-2, -1)))


def balanced_accuracy(table: Table, empty_cells: str = "skip") -> np.ndarray:
    """The mean recall of the cells: every (label, protected) pair weighs the same."""
    return _mean(recall_table(table, empty_cells), axis=(-2, -1))


def worst_group_accuracy(table: Table, empty_cells: str = "skip") -> np.ndarray:
    """The recall of the cell with the lowest one."""
    return _min(recall_table(table, empty_cells), axis=(-2, -1))


def deo_max(table: Table, empty_cells: str = "skip") -> np.ndarray:
    """DEO_M = max over classes of (max over groups R - min over groups R): FairDD, section 4.1.

    For two classes this is fairlearn's `equalized_odds_difference`.
    """
    return _max(_spread(recall_table(table, empty_cells)), axis=-1)


def deo_mean(table: Table, empty_cells: str = "skip") -> np.ndarray:
    """DEO_A = mean over classes of (max over groups R - min over groups R): FairDD, section 4.1."""
    return _mean(_spread(recall_table(table, empty_cells)), axis=-1)


def group_accuracy_gap(table: Table, empty_cells: str = "skip") -> np.ndarray:
    """The accuracy of the best group minus that of the worst."""
    correct, total = cells(table)
    return _spread(_share(correct.sum(axis=-2), total.sum(axis=-2)))


def demographic_parity_difference(table: Table, empty_cells: str = "skip") -> np.ndarray:
    """The largest difference between groups in P(prediction = 1 | a), for two classes."""
    correct, total = cells(table)
    predicted = correct[..., 1, :] + total[..., 0, :] - correct[..., 0, :]
    return _spread(_share(predicted, total.sum(axis=-2)))


@dataclass(frozen=True)
class Metric:
    """A metric as reports know it; `classes` is the only number of classes that it exists for, 0 for any."""

    compute: Callable[[Table, str], np.ndarray]
    label: str
    meaning: str
    higher_is_better: bool
    classes: int = 0

    def applies(self, classes: int) -> bool:
        """Whether the metric is defined for that many classes."""
        return self.classes in (0, classes)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": Metric(accuracy, "Accuracy", "test images classified correctly", True),
        "deo_max": Metric(deo_max, "DEO_M", "largest recall gap between groups, worst class", False),
        "deo_mean": Metric(deo_mean, "DEO_A", "largest recall gap between groups, mean over classes", False),
        "worst_group_accuracy": Metric(worst_group_accuracy, "Worst", "recall of the worst cell", True),
        "group_accuracy_gap": Metric(group_accuracy_gap, "Gap", "accuracy gap between best and worst group", False),
        "balanced_accuracy": Metric(balanced_accuracy, "Balanced", "mean recall over cells", True),
        "demographic_parity_difference": Metric(
            demographic_parity_difference,
            "DPD",
            "difference between groups in the share predicted as class 1",
            False,
            2,
        ),
    }
)


def per_seed(table: Table, empty_cells: str = "skip") -> dict[str, np.ndarray]:
    """Every metric that the number of classes allows, as fractions [seeds] of a table [seeds, …]."""
    found = cells(table)
    classes = found.total.shape[-2]
    return {name: m.compute(found, empty_cells) for name, m in METRICS.items() if m.applies(classes)}


def summary(values: np.ndarray) -> dict[str, Any]:
    """Mean, sample standard deviation (0 for one seed) and the values of each seed, in percent; None for NaN."""
    return summaries(values, [len(values)])[0]


def summaries(values: np.ndarray, lengths: Sequence[int]) -> list[dict[str, Any]]:
    """The `summary` of each of the consecutive parts of `values` with these lengths, computed together."""
    percent = 100 * values
    known = ~np.isnan(percent)
    stops = np.cumsum(lengths, dtype=np.int64)
    starts = stops - np.array(lengths, np.int64)
    count = np.add.reduceat(known, starts, dtype=np.int64)
    mean = _share(np.add.reduceat(np.where(known, percent, 0.0), starts), count)
    squares = np.where(known, percent - np.repeat(mean, lengths), 0.0) ** 2
    std = np.sqrt(np.add.reduceat(squares, starts) / np.maximum(count - 1, 1))
    std[count == 0] = np.nan
    listed = _listed(percent)
    parts = zip(_listed(mean), _listed(std), starts.tolist(), stops.tolist(), strict=True)
    return [{"mean": m, "std": s, "per_seed": listed[start:stop]} for m, s, start, stop in parts]


def _listed(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def summarise(confusion: np.ndarray, empty_cells: str = "skip") -> dict[str, dict[str, Any]]:
    """The metrics of a confusion table int64 [seeds, classes, groups, classes], ready for JSON.

    Returns `{metric: {"mean", "std", "per_seed"}}` in percent; a value that does not exist is None.
    """
    return {name: summary(values) for name, values in per_seed(confusion, empty_cells).items()}


def _share(part: np.ndarray, whole: np.ndarray, empty: float = np.nan) -> np.ndarray:
    shares = np.full(np.shape(whole), empty)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _max(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    highest = np.where(np.isnan(values), -np.inf, values).max(axis=axis)
    return np.asarray(np.where(np.isinf(highest), np.nan, highest))


def _min(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    return -_max(-values, axis)


def _mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    known = ~np.isnan(values)
    return _share(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def _spread(values: np.ndarray) -> np.ndarray:
    """The largest difference along the last axis, the groups; 0 where a single group is there."""
    return np.asarray(_max(values, axis=-1) - _min(values, axis=-1))
