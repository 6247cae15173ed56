"""Accuracy and fairness as functions of a confusion table. A metric is one entry here: see `metric`.

A table counts test images as integers [..., classes, groups, classes]: label, protected value, prediction; leading
axes (seeds, replicates) are kept. Results are fractions between 0 and 1.

A cell without test images has no recall: it is not a number and is left out of maxima, minima and means, unless
`empty_cells` is `zero`, which scores it 0 as the public FairDD code does. A metric that nothing is left for is NaN.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fairdd_cli.errors import unknown
from fairdd_cli.registry import Registry

EMPTY_CELLS = ("skip", "zero")
IN_A_LINE = ("accuracy", "deo_max", "deo_mean")  # the metrics that a line of text has room for
FEW_TEST_IMAGES = 30  # in a cell; with fewer, one prediction moves a recall, and so DEO, by over three points


@dataclass(frozen=True, eq=False)
class Confusion:
    """A confusion table with the sums that metrics share; without `table` where only `correct` and `total` are known.

    `correct` and `total` count the test images of each cell, [..., classes, groups].
    """

    correct: np.ndarray
    total: np.ndarray
    table: np.ndarray | None = None
    empty_cells: str = "skip"

    @classmethod
    def of(cls, table: np.ndarray, empty_cells: str = "skip") -> "Confusion":
        """The confusion of a table [..., classes, groups, classes] of counts."""
        kind = np.float64 if table.dtype.kind == "f" else np.int64
        correct = np.diagonal(table, axis1=-3, axis2=-1).swapaxes(-1, -2).astype(kind)
        return cls(correct, table.sum(axis=-1, dtype=kind), table, empty_cells)

    @classmethod
    def of_cells(cls, correct: np.ndarray, total: np.ndarray) -> "Confusion":
        """The confusion of `correct` counts [..., classes, groups] of the test images `total` [classes, groups]."""
        return cls(correct, np.broadcast_to(total, correct.shape))

    @cached_property
    def recall(self) -> np.ndarray:
        """R[y, a] = P(prediction = y | label y, protected a), float64 [..., classes, groups]."""
        if self.empty_cells not in EMPTY_CELLS:
            raise unknown("treatment of empty cells", self.empty_cells, EMPTY_CELLS)
        return _ratio(self.correct, self.total, empty=np.nan if self.empty_cells == "skip" else 0.0)

    @cached_property
    def predicted(self) -> np.ndarray:
        """How many images of each group are predicted as each class, [..., classes, groups]."""
        if self.table is None:
            raise ValueError("this metric needs the whole table: declare it with uses='table'")
        return np.asarray(self.table.sum(axis=-3, dtype=self.correct.dtype).swapaxes(-1, -2))

    @property
    def empty(self) -> list[tuple[int, int]]:
        """The (label, protected) pairs that have no test image in at least one of the tables."""
        return self.smaller_than(1)

    def smaller_than(self, images: int) -> list[tuple[int, int]]:
        """The (label, protected) pairs that have fewer test images than that in at least one of the tables."""
        small = (self.total < images).any(axis=tuple(range(self.total.ndim - 2)))
        return [(int(label), int(group)) for label, group in np.argwhere(small)]


@dataclass(frozen=True)
class Metric:
    """A metric, called with a table or its `Confusion`; returns fractions with the table's leading axes.

    `classes` is the only number of classes that it is defined for, 0 for any. `uses` is `cells` for a metric that
    depends on nothing but how many images of each cell there are and how many of them are correct: it is quicker to
    resample. A `recall_gap` compares the groups' recalls within each class: reports put beside it what a fair
    classifier would score.
    """

    name: str
    label: str
    meaning: str
    formula: str
    higher_is_better: bool
    compute: Callable[[Confusion], np.ndarray]
    classes: int = 0
    uses: str = "table"
    recall_gap: bool = False

    def __call__(self, table: "np.ndarray | Confusion", empty_cells: str = "skip") -> np.ndarray:
        """The metric of a table [..., classes, groups, classes], or of its `Confusion`."""
        return self.compute(table if isinstance(table, Confusion) else Confusion.of(table, empty_cells))

    def applies(self, classes: int) -> bool:
        """Whether the metric is defined for that many classes."""
        return self.classes in (0, classes)


class Metrics(Mapping[str, Metric]):
    """The metrics by name: those of this file, then the `metric` of each module that another package registers.

    Such a package names the module in the Python entry-point group `fairdd_cli.metrics`.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Metric] = {}
        self._others = Registry("metric", "fairdd_cli.metrics", "metric")
        self._complete = False

    def register(self, metric: Metric) -> None:
        """Adds `metric`; from then on reports, pages, files and help have it. ValueError for a name that is taken."""
        if metric.name in self._by_name:
            raise ValueError(f"there is already a metric called '{metric.name}'")
        self._by_name[metric.name] = metric

    def unregister(self, name: str) -> None:
        """Takes a metric away again, as where a notebook defines it anew."""
        del self._by_name[name]

    def names(self) -> list[str]:
        """Every name on offer."""
        return list(self)

    def canonical(self, name: str) -> str:
        """The metric of that name or label; raises UsageError, naming the nearest, for an unknown one."""
        by_label = {metric.label.lower(): key for key, metric in self.items()}
        found = by_label.get(name.lower(), name)
        if found not in self:
            raise unknown("metric", name, self)
        return found

    def load(self, name: str) -> Metric:
        """The metric of that name or label."""
        return self[self.canonical(name)]

    def _all(self) -> dict[str, Metric]:
        if not self._complete:
            self._complete = True
            for name in self._others.names():
                added = self._others.load(name).metric
                if self._by_name.get(added.name) is not added:  # the decorator has registered its metrics already
                    self.register(added)
        return self._by_name

    def __getitem__(self, name: str) -> Metric:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


METRICS = Metrics()


def metric(
    label: str,
    meaning: str,
    formula: str,
    *,
    better: str,
    classes: int = 0,
    uses: str = "table",
    recall_gap: bool = False,
) -> Callable[[Callable[[Confusion], np.ndarray]], Metric]:
    """Registers the function that it decorates as a metric of the function's name; `better` is `higher` or `lower`."""

    def registered(compute: Callable[[Confusion], np.ndarray]) -> Metric:
        made = Metric(compute.__name__, label, meaning, formula, better == "higher", compute, classes, uses, recall_gap)
        METRICS.register(made)
        return made

    return registered


@metric("Accuracy", "test images classified correctly", "P(ŷ = y)", better="higher", uses="cells")
def accuracy(confusion: Confusion) -> np.ndarray:
    """The share of all test images that is classified correctly."""
    return _ratio(confusion.correct.sum(axis=(-2, -1)), confusion.total.sum(axis=(-2, -1)))


@metric(
    "DEO_M",
    "largest recall gap between groups, worst class",
    "max_y (max_a R[y, a] - min_a R[y, a])",
    better="lower",
    uses="cells",
    recall_gap=True,
)
def deo_max(confusion: Confusion) -> np.ndarray:
    """DEO_M = max over classes of (max over groups R - min over groups R): FairDD, section 4.1.

    For two classes this is fairlearn's `equalized_odds_difference`.
    """
    return _max(_gap(confusion.recall), axis=-1)


@metric(
    "DEO_A",
    "largest recall gap between groups, mean over classes",
    "mean_y (max_a R[y, a] - min_a R[y, a])",
    better="lower",
    uses="cells",
    recall_gap=True,
)
def deo_mean(confusion: Confusion) -> np.ndarray:
    """DEO_A = mean over classes of (max over groups R - min over groups R): FairDD, section 4.1."""
    return _mean(_gap(confusion.recall), axis=-1)


@metric("WGA", "recall of the worst cell (worst-group accuracy)", "min_ya R[y, a]", better="higher", uses="cells")
def worst_group_accuracy(confusion: Confusion) -> np.ndarray:
    """The recall of the cell with the lowest one (Sagawa et al., Group DRO, ICLR 2020)."""
    return _min(confusion.recall, axis=(-2, -1))


@metric(
    "Gap",
    "accuracy gap between best and worst group",
    "max_a P(ŷ = y | a) - min_a P(ŷ = y | a)",
    better="lower",
    uses="cells",
)
def group_accuracy_gap(confusion: Confusion) -> np.ndarray:
    """The accuracy of the best group minus that of the worst."""
    return _gap(_ratio(confusion.correct.sum(axis=-2), confusion.total.sum(axis=-2)))


@metric("Balanced", "mean recall over cells", "mean_ya R[y, a]", better="higher", uses="cells")
def balanced_accuracy(confusion: Confusion) -> np.ndarray:
    """The mean recall of the cells: every (label, protected) pair weighs the same."""
    return _mean(confusion.recall, axis=(-2, -1))


@metric(
    "DPD",
    "difference between groups in the share predicted as class 1",
    "max_a P(ŷ = 1 | a) - min_a P(ŷ = 1 | a)",
    better="lower",
    classes=2,
    uses="cells",
)
def demographic_parity_difference(confusion: Confusion) -> np.ndarray:
    """The largest difference between groups in P(prediction = 1 | a), for two classes."""
    correct, total = confusion.correct, confusion.total
    predicted = correct[..., 1, :] + total[..., 0, :] - correct[..., 0, :]
    return _gap(_ratio(predicted, total.sum(axis=-2)))


@metric(
    "SUF_M",
    "largest precision gap between groups (sufficiency), worst predicted class",
    "max_c (max_a - min_a) P(y = c | ŷ = c, a)",
    better="lower",
)
def sufficiency_gap_max(confusion: Confusion) -> np.ndarray:
    """Predictive parity, worst predicted class (Barocas, Hardt & Narayanan, Fairness and Machine Learning, ch. 3).

    A group that is never predicted as a class has no precision there and is left out.
    """
    return _max(_precision_gap(confusion), axis=-1)


@metric(
    "SUF_A",
    "largest precision gap between groups (sufficiency), mean over predicted classes",
    "mean_c (max_a - min_a) P(y = c | ŷ = c, a)",
    better="lower",
)
def sufficiency_gap_mean(confusion: Confusion) -> np.ndarray:
    """As `sufficiency_gap_max`, with the mean over predicted classes."""
    return _mean(_precision_gap(confusion), axis=-1)


@metric(
    "FPR_M",
    "largest gap between groups in the false-positive rate, worst class",
    "max_c (max_a - min_a) P(ŷ = c | y ≠ c, a)",
    better="lower",
)
def false_positive_rate_gap_max(confusion: Confusion) -> np.ndarray:
    """The largest between-group difference of the rate at which images of other classes are taken for a class."""
    return _max(_false_positive_rate_gap(confusion), axis=-1)


@metric(
    "FPR_A",
    "largest gap between groups in the false-positive rate, mean over classes",
    "mean_c (max_a - min_a) P(ŷ = c | y ≠ c, a)",
    better="lower",
)
def false_positive_rate_gap_mean(confusion: Confusion) -> np.ndarray:
    """As `false_positive_rate_gap_max`, with the mean over classes."""
    return _mean(_false_positive_rate_gap(confusion), axis=-1)


def _precision_gap(confusion: Confusion) -> np.ndarray:
    return _gap(_ratio(confusion.correct, confusion.predicted))


def _false_positive_rate_gap(confusion: Confusion) -> np.ndarray:
    negatives = confusion.total.sum(axis=-2, keepdims=True) - confusion.total
    return _gap(_ratio(confusion.predicted - confusion.correct, negatives))


def per_seed(confusion: Confusion, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The metrics called `names` (else all) that the number of classes allows, as fractions with the leading axes."""
    classes = confusion.total.shape[-2]
    return {name: METRICS[name](confusion) for name in names or METRICS if METRICS[name].applies(classes)}


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
    mean = _ratio(np.add.reduceat(np.where(known, percent, 0.0), starts), count)
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
    return {name: summary(values) for name, values in per_seed(Confusion.of(confusion, empty_cells)).items()}


def in_words(correct: np.ndarray, total: np.ndarray) -> str:
    """Mean accuracy, DEO_M and DEO_A in percent of some networks' `correct` counts [networks, classes, groups]."""
    means = {name: 100 * float(METRICS[name](Confusion.of_cells(correct, total)).mean()) for name in IN_A_LINE}
    return labelled({name: None if math.isnan(mean) else mean for name, mean in means.items()})


def labelled(means: Mapping[str, float | None]) -> str:
    """Accuracy, DEO_M and DEO_A among `means` (percent), as far as they exist, each after its label."""
    found = {name: means[name] for name in IN_A_LINE}
    return ", ".join(f"{METRICS[name].label} {mean:.1f}" for name, mean in found.items() if mean is not None)


def _ratio(part: np.ndarray, whole: np.ndarray, empty: float = np.nan) -> np.ndarray:
    ratios = np.full(np.shape(whole), empty)
    np.divide(part, whole, out=ratios, where=whole > 0)
    return ratios


def _max(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    highest = np.where(np.isnan(values), -np.inf, values).max(axis=axis)
    return np.asarray(np.where(np.isinf(highest), np.nan, highest))


def _min(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    return -_max(-values, axis)


def _mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def _gap(values: np.ndarray) -> np.ndarray:
    """The largest difference along the last axis, the groups; 0 where a single group is there."""
    return np.asarray(_max(values, axis=-1) - _min(values, axis=-1))
