"""Fairness strategies: which group targets the synthetic images of a class are matched to.

Every target is a weighted average over the class's real batch, and every image of the batch belongs to one
target. A strategy is therefore one function: from the protected values and the importance of the batch's images to
the target and the weight of each. A method computes a distance for each target and never asks which strategy it runs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fairdd_cli.artifacts import Split
from fairdd_cli.errors import unknown
from fairdd_cli.registry import FURTHER_STRATEGIES

if TYPE_CHECKING:
    from torch import Tensor

Embed = Callable[[np.ndarray], "Tensor"]  # indices int64 [n] of training images -> float32 [n, D], on the device
REFERENCES = 1000  # images of a class that a density is estimated from: its cost stays linear in the class


@dataclass(frozen=True)
class Assignment:
    """Images [n] of which each belongs to a `target` (0 … targets - 1, not decreasing) with a `weight`.

    The weights of a target over the whole batch sum to one.
    """

    target: np.ndarray  # int64 [n]
    weight: np.ndarray  # float32 [n]
    targets: int

    def __getitem__(self, part: slice) -> "Assignment":
        return Assignment(self.target[part], self.weight[part], self.targets)

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Each target that occurs, with where its images stand."""
        starts = np.flatnonzero(np.diff(self.target, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(self.target)], strict=True):
            yield int(self.target[start]), slice(int(start), int(stop))


def class_means(classes: int, per_class: int) -> Assignment:
    """Images of `classes` in order, `per_class` each, with one target a class: its mean."""
    target = np.repeat(np.arange(classes), per_class)
    return Assignment(target, np.full(len(target), 1 / per_class, np.float32), classes)


def joined(assignments: Sequence[Assignment]) -> Assignment:
    """The assignments of consecutive classes as one."""
    sizes = [assignment.targets for assignment in assignments]
    first = np.cumsum([0, *sizes[:-1]])
    target = np.concatenate([a.target + offset for a, offset in zip(assignments, first, strict=True)])
    weight = np.concatenate([assignment.weight for assignment in assignments])
    return Assignment(target, weight, sum(sizes))


def uniform(split: Split, embed: Embed) -> np.ndarray:
    """The importance float64 [N] of images that are all alike."""
    return np.ones(len(split))


@dataclass(frozen=True)
class Strategy:
    """A strategy by `name`.

    `uses_groups` says whether protected values matter to it. `weigh` takes the protected values int64 [n] of a
    batch, sorted, and the importance [n] of its images, which `importance` computes once for the whole training
    split. `reduce` (sum or max) makes one loss of those of a class's targets.
    """

    name: str
    uses_groups: bool
    weigh: Callable[[np.ndarray, np.ndarray], Assignment]
    importance: Callable[[Split, Embed], np.ndarray] = uniform
    reduce: str = "sum"

    def assign(self, protected: np.ndarray, importance: np.ndarray | None = None) -> Assignment:
        """The targets of a batch with these `protected` values; without `importance` its images are all alike."""
        return self.weigh(protected, np.ones(len(protected)) if importance is None else importance)

    @property
    def weighs_samples(self) -> bool:
        """Whether the weights correct for how often images occur, so that batches must follow the data."""
        return self.importance is not uniform


def _vanilla(protected: np.ndarray, importance: np.ndarray) -> Assignment:
    """One target, the mean over the batch: what the distillers do by themselves (DC, ICLR 2021; DM, WACV 2023)."""
    size = len(protected)
    return Assignment(np.zeros(size, np.int64), np.full(size, 1 / size, np.float32), 1)


def _fairdd(protected: np.ndarray, importance: np.ndarray) -> Assignment:
    """A target for each group present, that group's mean: synchronized matching (FairDD, NeurIPS 2025)."""
    groups, target, count = np.unique(protected, return_inverse=True, return_counts=True)
    return Assignment(target.astype(np.int64), (1 / count[target]).astype(np.float32), len(groups))


def _barycenter(protected: np.ndarray, importance: np.ndarray) -> Assignment:
    """One target, the unweighted mean of the group means (COBRA, 2026, with the quadratic discrepancy)."""
    per_group = _fairdd(protected, importance)
    return Assignment(np.zeros_like(per_group.target), per_group.weight / per_group.targets, 1)


def _weighted(protected: np.ndarray, importance: np.ndarray) -> Assignment:
    """One target, the mean weighted by importance."""
    return Assignment(np.zeros(len(protected), np.int64), (importance / importance.sum()).astype(np.float32), 1)


def _inverse_cell_size(split: Split, embed: Embed) -> np.ndarray:
    """The importance float64 [N] that lets every cell of a class count alike."""
    importance: np.ndarray = 1 / split.count[split.labels, split.protected]
    return importance


def _inverse_density(split: Split, embed: Embed) -> np.ndarray:
    """The importance float64 [N] that falls with the density of an image's class around it; no group is looked at.

    The density is a mean of Gaussian kernels on evenly spaced images of the class. Their bandwidth is half the
    median distance between these images, so that the many that look alike, not the few that differ, set the scale.
    """
    importance = np.empty(len(split))
    for label in np.unique(split.labels):
        members = np.flatnonzero(split.labels == label)
        evenly = np.linspace(0, len(members) - 1, min(REFERENCES, len(members))).astype(int)
        references = embed(members[evenly]).cpu().numpy()
        bandwidth = max(float(np.median(_squared_distances(references, references))) / 4, 1e-12)  # squared
        for start in range(0, len(members), REFERENCES):
            part = members[start : start + REFERENCES]
            squared = _squared_distances(embed(part).cpu().numpy(), references)
            kernels = np.exp(-squared / (2 * bandwidth)).sum(axis=1)
            importance[part] = len(references) / kernels.clip(min=1)  # as a reference far from all others, at most
    return importance


def _squared_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Float64 [n, m] between float32 [n, D] and [m, D]."""
    points, others = points.astype(np.float64), others.astype(np.float64)
    distances: np.ndarray = (points**2).sum(1, keepdims=True) - 2 * points @ others.T + (others**2).sum(1)
    return distances.clip(0)


STRATEGIES: Mapping[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy("vanilla", False, _vanilla),
        Strategy("fairdd", True, _fairdd),
        Strategy("barycenter", True, _barycenter),
        # Only the group that is served worst counts (Sagawa et al., ICLR 2020).
        Strategy("groupdro", True, _fairdd, reduce="max"),
        Strategy("inverse", True, _weighted, importance=_inverse_cell_size),
        # Density-weighted matching (Cui et al., Mitigating Bias in Dataset Distillation, ICML 2024).
        Strategy("kde", False, _weighted, importance=_inverse_density),
    )
}


def strategy_names() -> list[str]:
    """Every strategy on offer, sorted."""
    return sorted({*STRATEGIES, *FURTHER_STRATEGIES.names()})


def find_strategy(name: str) -> Strategy:
    """The strategy called `name`; raises UsageError, naming the nearest, for an unknown one."""
    if name in STRATEGIES:
        return STRATEGIES[name]
    if name not in FURTHER_STRATEGIES.names():
        raise unknown("fairness strategy", name, strategy_names())
    strategy: Strategy = FURTHER_STRATEGIES.load(name).strategy
    return strategy
