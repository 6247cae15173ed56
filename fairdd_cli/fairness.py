"""Fairness strategies: which group targets the synthetic images of a class are matched to.

Every target is a weighted average over the class's real batch, and every image of the batch belongs to one
target. A strategy is therefore one function: from the protected values of the batch to the target and the weight
of each image. A method sums its distance over the targets and never asks which strategy it runs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


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


def joined(assignments: Sequence[Assignment]) -> tuple[Assignment, np.ndarray]:
    """The assignments of consecutive classes as one, and the position int64 [targets] of the class of each target."""
    sizes = [assignment.targets for assignment in assignments]
    first = np.cumsum([0, *sizes[:-1]])
    target = np.concatenate([a.target + offset for a, offset in zip(assignments, first, strict=True)])
    weight = np.concatenate([assignment.weight for assignment in assignments])
    return Assignment(target, weight, sum(sizes)), np.repeat(np.arange(len(sizes)), sizes)


@dataclass(frozen=True)
class Strategy:
    """A strategy by `name`; `uses_groups` says whether protected values matter to it."""

    name: str
    uses_groups: bool
    assign: Callable[[np.ndarray], Assignment]


def _vanilla(protected: np.ndarray) -> Assignment:
    """One target, the mean over the batch: what the distillers do by themselves (DC, ICLR 2021; DM, WACV 2023)."""
    size = len(protected)
    return Assignment(np.zeros(size, np.int64), np.full(size, 1 / size, np.float32), 1)


def _fairdd(protected: np.ndarray) -> Assignment:
    """A target for each group present, that group's mean: synchronized matching (FairDD, NeurIPS 2025)."""
    groups, target, count = np.unique(protected, return_inverse=True, return_counts=True)
    return Assignment(target.astype(np.int64), (1 / count[target]).astype(np.float32), len(groups))


def _barycenter(protected: np.ndarray) -> Assignment:
    """One target, the unweighted mean of the group means (COBRA, 2026, with the quadratic discrepancy)."""
    per_group = _fairdd(protected)
    return Assignment(np.zeros_like(per_group.target), per_group.weight / per_group.targets, 1)


STRATEGIES: Mapping[str, Strategy] = {
    "vanilla": Strategy("vanilla", False, _vanilla),
    "fairdd": Strategy("fairdd", True, _fairdd),
    "barycenter": Strategy("barycenter", True, _barycenter),
}
