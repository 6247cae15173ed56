"""How far a mean over seeds can be trusted: a bootstrap over seeds and test images, from counts alone.

**Small counts.** A cell in which all of a few test images are right (or wrong) says little of its recall, yet
resampling its images would give the same recall again, and an interval "0.0…0.0". The recall of a cell of n images,
k of them correct, is therefore resampled about (k + 1/2) / (n + 1), which Jeffreys' prior gives (Brown, Cai &
DasGupta, Interval Estimation for a Binomial Proportion, Statistical Science 16, 2001), as a Beta variable with the
variance of a binomial share of n images. That is the smoothed form of the Bayesian bootstrap (Rubin, Annals of
Statistics 9, 1981). Where a cell has few images or none of them is correct, maxima and minima over cells remain the
same in almost all replicates. There the interval is at least that of the delta method with the same variances.

**Seeds.** Counts don't tell which images two seeds agree on, and seeds that share their test images share its
accidents. The bootstrap takes the images of a cell as ordered by difficulty: one that a weak network gets right,
every stronger one gets right as well. No other assumption that fits the counts makes the seeds depend on each other
more, so intervals are rather too wide than too narrow. A replicate of a cell is one Dirichlet draw: the shares of
images between the recalls of consecutive seeds. The replicate's seeds are drawn with replacement, as usual.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from fairdd_cli.metrics import FEW_TEST_IMAGES, METRICS, Confusion, per_seed
from fairdd_cli.reporting.rows import Difference, Row

CHUNK = 2**21  # numbers drawn at a time: 16 MiB
LEAST_CONCENTRATION = 0.25  # of the Beta distribution of a single image's recall; 0 would be the image itself
STEP = 1e-6  # of a standard deviation, in a derivative


class Counts:
    """The counts of networks that share a test split, with what they are resampled from.

    `table` is [seeds, classes, groups, classes].
    """

    def __init__(self, table: np.ndarray) -> None:
        confusion = Confusion.of(table)
        classes = table.shape[-1]
        self.total = confusion.total.max(axis=0)
        self.recall = (confusion.correct + 0.5) / (confusion.total + 1)  # smoothed, [seeds, classes, groups]
        wrong = table + 0.5 / max(1, classes - 1)
        wrong[:, range(classes), :, range(classes)] = 0
        self.wrong = wrong / np.maximum(wrong.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
        order = self.recall.argsort(axis=0)
        self.rank = np.moveaxis(order.argsort(axis=0), 0, -1)  # [classes, groups, seeds]
        ordered = np.moveaxis(np.take_along_axis(self.recall, order, axis=0), 0, -1)
        self.widths = np.diff(ordered, axis=-1, prepend=0.0, append=1.0)  # [classes, groups, seeds + 1]

    @property
    def seeds(self) -> int:
        """How many networks there are."""
        return len(self.recall)

    def resampled_recall(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Recalls in `count` resampled test splits, float64 [count, seeds, classes, groups]."""
        concentration = np.maximum(self.total - 1, LEAST_CONCENTRATION)[..., None]
        shares = generator.standard_gamma(concentration * self.widths, size=(count, *self.widths.shape))
        cumulative = (shares / shares.sum(axis=-1, keepdims=True)).cumsum(axis=-1)
        return np.moveaxis(np.take_along_axis(cumulative, self.rank[None], axis=-1), -1, 1)

    def confusion(self, recall: np.ndarray, empty_cells: str, wrong: np.ndarray | None = None) -> Confusion:
        """The confusion of cells with that `recall`, and those shares of the `wrong` predictions, if given."""
        correct, total = recall * self.total, np.broadcast_to(self.total, recall.shape)
        if wrong is None:
            return Confusion(correct, total, None, empty_cells)
        table = wrong * (total - correct)[..., None]
        classes = range(table.shape[-1])
        table[..., classes, :, classes] = np.moveaxis(correct, -2, 0)
        return Confusion(correct, total, table, empty_cells)

    def resampled_wrong(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Shares of the wrong predictions in as many splits, for all seeds alike, [count, 1, classes, groups, classes].

        They are factors of the seeds' own shares, whose sum `wrong_of` makes 1 again.
        """
        pooled = self.wrong.mean(axis=0)
        missed = (self.total * (1 - self.recall.mean(axis=0)))[..., None]
        drawn = generator.standard_gamma(np.maximum(missed, LEAST_CONCENTRATION) * pooled, size=(count, *pooled.shape))
        factors = np.divide(drawn, pooled, out=np.zeros_like(drawn), where=pooled > 0)
        return np.asarray(factors[:, None])

    def wrong_of(self, factors: np.ndarray) -> np.ndarray:
        """The seeds' shares of wrong predictions times `factors`."""
        shares = self.wrong * factors
        return np.asarray(shares / np.maximum(shares.sum(axis=-1, keepdims=True), np.finfo(float).tiny))


def needs_table(names: Sequence[str]) -> bool:
    """Whether one of these metrics depends on more than the cells."""
    return any(METRICS[name].uses == "table" for name in names)


def replicates(
    table: np.ndarray,
    count: int,
    generator: np.random.Generator,
    names: Sequence[str],
    empty_cells: str = "skip",
) -> dict[str, np.ndarray]:
    """Each metric's mean over seeds in `count` resampled experiments, float64 [count], as fractions.

    `table` is [seeds, classes, groups, classes]; the seeds share their test split.
    """
    counts = Counts(table)
    whole = needs_table(names)
    parts: list[dict[str, np.ndarray]] = []
    step = max(1, CHUNK // (table.size if whole else counts.recall.size))
    for start in range(0, count, step):
        size = min(step, count - start)
        recall = counts.resampled_recall(size, generator)
        wrong = counts.wrong_of(counts.resampled_wrong(size, generator)) if whole else None
        chosen = generator.integers(0, counts.seeds, (size, counts.seeds))
        experiment = np.arange(size)[:, None]
        sample = counts.confusion(
            recall[experiment, chosen], empty_cells, None if wrong is None else wrong[experiment, chosen]
        )
        parts.append({name: values.mean(axis=1) for name, values in per_seed(sample, names).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def interval(estimate: float, values: np.ndarray, confidence_level: float) -> tuple[float, float]:
    """The interval of `confidence_level` (a fraction) about `estimate` that the replicates' `values` span.

    The replicates are shifted so that their mean meets the estimate: resampling widens every gap between groups,
    and that must not pass for a finding.
    """
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(values, [tail, 1 - tail]) - values.mean() + estimate
    return float(low), float(high)


def standard_errors(
    table: np.ndarray,
    count: int,
    generator: np.random.Generator,
    names: Sequence[str],
    empty_cells: str = "skip",
) -> dict[str, float]:
    """The delta method's standard error of each metric's mean over seeds, as a fraction.

    The root mean square of the derivatives in `count` random directions: the recall of every cell moves by a little of
    its own deviation, in all seeds at once. Maxima and minima have such derivatives where cells are tied, too (Fang &
    Santos, Inference on Directionally Differentiable Functions, Review of Economic Studies 86, 2019).
    """
    counts = Counts(table)
    confusion = Confusion.of(table, empty_cells)
    recall = np.divide(confusion.correct, confusion.total, out=np.zeros(confusion.total.shape), where=counts.total > 0)
    wrong = counts.wrong[None] if needs_table(names) else None

    def means(moves: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics' means over seeds for recalls that are moved by `moves`, [count, classes, groups]."""
        moved = counts.confusion(recall[None] + moves[:, None], empty_cells, wrong)
        return {name: values.mean(axis=1) for name, values in per_seed(moved, names).items()}

    share = counts.recall.mean(axis=0)
    deviation = np.sqrt(share * (1 - share) / np.maximum(counts.total, 1))
    base = means(np.zeros((1, *deviation.shape)))
    squares = dict.fromkeys(base, 0.0)
    step = max(1, CHUNK // (recall.size if wrong is None else table.size))
    for start in range(0, count, step):
        directions = deviation * generator.standard_normal((min(step, count - start), *deviation.shape))
        for name, values in means(STEP * directions).items():
            squares[name] += float((((values - base[name]) / STEP) ** 2).sum())
    return {name: float(np.nan_to_num(np.sqrt(square / count))) for name, square in squares.items()}


def with_intervals(
    rows: Sequence[Row],
    count: int,
    stream: Callable[[str], np.random.Generator],
    confidence_level: float = 0.95,
    empty_cells: str = "skip",
    names: Sequence[str] | None = None,
) -> list[Row]:
    """`rows` with intervals of means and differences for the metrics called `names` (else all) from `count` replicates.

    `stream` gives the generator of a name; a row's name is its own, whatever other rows there are. The rows of a
    difference are resampled independently, as though they had been tested on different images: on the safe side.
    """
    wanted = list(names or METRICS)
    z = NormalDist().inv_cdf((1 + confidence_level) / 2)
    samples: dict[int, _Sample] = {}

    def sampled(row: Row) -> _Sample:
        """The replicates of each metric in percent, and the least half width of the intervals that need one."""
        if id(row.table) not in samples:
            name = json.dumps([row.setting, sorted(run.evaluation.digest for run in row.runs)])
            drawn = replicates(row.table, count, stream(f"bootstrap {name}"), wanted, empty_cells)
            percent = {metric: 100 * values for metric, values in drawn.items()}
            uncertain = [metric for metric in percent if needs_least(row, metric, percent[metric])]
            errors = (
                standard_errors(row.table, count, stream(f"standard errors {name}"), uncertain, empty_cells)
                if uncertain
                else {}
            )
            samples[id(row.table)] = _Sample(percent, {metric: 100 * z * error for metric, error in errors.items()})
        return samples[id(row.table)]

    def needs_least(row: Row, metric: str, values: np.ndarray) -> bool:
        """Whether the replicates' `values` of the metric are too alike: cells are small, or all agree."""
        mean = row.mean(metric)
        if mean is None:
            return False
        small = ((row.cell_sizes > 0) & (row.cell_sizes < FEW_TEST_IMAGES)).any()
        low, high = _possible(interval(mean, values, confidence_level))
        return bool(small or f"{low:.1f}" == f"{high:.1f}")  # as reports show it

    def with_own(row: Row) -> Row:
        own = sampled(row)
        intervals = {
            name: _possible(_widened(mean, interval(mean, values, confidence_level), own.least.get(name, 0.0)))
            for name, values in own.replicates.items()
            if (mean := row.mean(name)) is not None
        }
        with_intervals = replace(row, intervals=intervals, confidence_level=confidence_level)
        if row.vanilla is None:
            return with_intervals
        base = sampled(row.vanilla)
        delta = dict(row.delta)
        for name in delta.keys() & own.replicates.keys():
            points = delta[name].points
            both = float(np.hypot(own.least.get(name, 0.0), base.least.get(name, 0.0)))
            ends = interval(points, own.replicates[name] - base.replicates[name], confidence_level)
            low, high = _widened(points, ends, both)
            clear = low > 0 or high < 0
            better = (points > 0) == METRICS[name].higher_is_better if clear else None
            delta[name] = Difference(points, (low, high), better)
        return replace(with_intervals, delta=delta)

    return [with_own(row) for row in rows]


class _Sample(NamedTuple):
    """What the intervals of a row are made of, by metric."""

    replicates: dict[str, np.ndarray]  # [count], percent
    least: dict[str, float]  # half of the least width, points


def _possible(ends: tuple[float, float]) -> tuple[float, float]:
    """The part of an interval that is between 0 and 100 percent."""
    return max(0.0, ends[0]), min(100.0, ends[1])


def _widened(estimate: float, ends: tuple[float, float], least: float) -> tuple[float, float]:
    """The interval with these `ends`, not nearer to the estimate than `least`."""
    return min(ends[0], estimate - least), max(ends[1], estimate + least)
