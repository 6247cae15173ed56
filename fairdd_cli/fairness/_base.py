"""What a fairness strategy must say of itself, and the targets that it gives to a batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fairdd_cli.artifacts import Split
from fairdd_cli.registry import STRATEGIES

if TYPE_CHECKING:
    from torch import Tensor

Embed = Callable[[np.ndarray], "Tensor"]  # indices int64 [n] of training images -> float32 [n, D], on the device


@dataclass(frozen=True)
class TargetWeights:
    """Images [n] of which each belongs to a `target` (0 … num_targets - 1, not decreasing) with a `weight`.

    The weights of a target over the whole batch sum to one. Where each target is a protected group, `groups` says
    which; it is empty where targets mix groups.
    """

    target: np.ndarray  # int64 [n]
    weight: np.ndarray  # float32 [n]
    num_targets: int
    groups: tuple[int, ...] = ()  # [num_targets]

    def __getitem__(self, part: slice) -> "TargetWeights":
        return TargetWeights(self.target[part], self.weight[part], self.num_targets, self.groups)

    def segments(self) -> Iterator[tuple[int, slice]]:
        """Each target that occurs, with the slice of its images."""
        starts = np.flatnonzero(np.diff(self.target, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(self.target)], strict=True):
            yield int(self.target[start]), slice(int(start), int(stop))


def single_target(weight: np.ndarray) -> TargetWeights:
    """One target for all images, with these weights [n], which sum to one."""
    return TargetWeights(np.zeros(len(weight), np.int64), weight.astype(np.float32), 1)


def group_targets(protected: np.ndarray, sample_weights: np.ndarray) -> TargetWeights:
    """One target for each group present in `protected` int64 [n], the group's plain mean."""
    groups, target, count = np.unique(protected, return_inverse=True, return_counts=True)
    weight = (1 / count[target]).astype(np.float32)
    return TargetWeights(target.astype(np.int64), weight, len(groups), tuple(map(int, groups)))


def class_means(classes: int, per_class: int) -> TargetWeights:
    """Images of `classes` in order, `per_class` each, with one target a class: its mean."""
    return plain_means(np.full(classes, per_class))


def plain_means(sizes: np.ndarray) -> TargetWeights:
    """Images in order of their targets, as many of each as `sizes` [targets] says; a target is their plain mean."""
    target = np.repeat(np.arange(len(sizes)), sizes)
    return TargetWeights(target, np.repeat(1 / np.maximum(sizes, 1), sizes).astype(np.float32), len(sizes))


def concatenate(parts: Sequence[TargetWeights]) -> TargetWeights:
    """The targets of consecutive classes, numbered one after another."""
    sizes = [part.num_targets for part in parts]
    offsets = np.cumsum([0, *sizes[:-1]])
    target = np.concatenate([part.target + offset for part, offset in zip(parts, offsets, strict=True)])
    weight = np.concatenate([part.weight for part in parts])
    return TargetWeights(target, weight, sum(sizes), tuple(group for part in parts for group in part.groups))


def equal_weights(split: Split, embed: Embed) -> np.ndarray:
    """The same weight for every image, float64 [N]."""
    return np.ones(len(split))


@dataclass(frozen=True)
class Strategy:
    """A fairness strategy.

    `targets` takes the protected values int64 [n] of a class's real batch, sorted, and the sample weights [n] of its
    images, and gives each image its target and weight. `sample_weights` computes the weights of the whole training
    split once, before the first iteration. `reduce` (sum or max) makes one loss of the distances to a class's targets.
    `uses_groups` says whether the protected values matter.
    """

    title: str
    paper: str
    uses_groups: bool
    targets: Callable[[np.ndarray, np.ndarray], TargetWeights]
    sample_weights: Callable[[Split, Embed], np.ndarray] = equal_weights
    reduce: str = "sum"

    def assign_targets(self, protected: np.ndarray, sample_weights: np.ndarray | None = None) -> TargetWeights:
        """The targets of a batch with these `protected` values; without `sample_weights` all images weigh the same."""
        return self.targets(protected, np.ones(len(protected)) if sample_weights is None else sample_weights)

    @property
    def targets_are_groups(self) -> bool:
        """Whether each target is a group of its own, so that a part of the synthetic images can be matched to it."""
        return bool(self.assign_targets(np.arange(2)).groups)

    @property
    def reweights_samples(self) -> bool:
        """Whether images are reweighted by how rare they are, so that batches must follow the data."""
        return self.sample_weights is not equal_weights


def find_strategy(name: str) -> Strategy:
    """The strategy called `name`; raises UsageError, naming the nearest, for an unknown one."""
    strategy: Strategy = STRATEGIES.load(name).strategy
    return strategy
