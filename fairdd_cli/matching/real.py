"""The real side of a run: the training images, and batches of them with the targets that the strategy gives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Split
from fairdd_cli.fairness import Strategy, TargetWeights, concatenate
from fairdd_cli.matching.noise import NoiseWeights, noise_weights
from fairdd_cli.matching.sampling import Sampling, balanced
from fairdd_cli.networks import Classifier
from fairdd_cli.runtime import ImageStore, Runtime, Streams
from fairdd_cli.training import embed

GROUPS_PER_STEP = 3  # of those in which a base of group maps can be shown: more groups leave fewer images to each
STATISTICS_BATCH = 256  # real images of all classes that batch statistics are taken of


@dataclass(frozen=True)
class RealBatch:
    """Real images of consecutive `classes`, sorted by class and cell, each with its target and weight.

    `num_targets` says how many of the targets each of the classes has. `key` is what it was drawn for.
    """

    classes: slice
    indices: np.ndarray  # int64 [B]
    labels: Tensor  # int64 [B], on the host
    weights: TargetWeights
    num_targets: tuple[int, ...]  # [classes]
    key: tuple[int, ...] = ()


@dataclass
class RealData:
    """The training split, its images on the device, and how batches are drawn.

    `batch_size` is the number of images of a class in a batch; `sample_weights` [N] come from the strategy. Balanced
    batches have images of `groups_per_step` groups of each class, drawn anew each time, or of all where that is 0.
    """

    split: Split
    store: ImageStore
    strategy: Strategy
    sampling: Sampling
    batch_size: int
    sample_weights: np.ndarray
    runtime: Runtime
    streams: Streams
    groups_per_step: int = 0

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.split.count)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        _, channels, height, width = self.store.shape
        return channels, height, width

    @property
    def by_cell(self) -> bool:
        """Whether images are chosen within each cell: the strategy uses groups, or the sampling balances cells."""
        return self.strategy.uses_groups or self.sampling is balanced

    def sample_indices(self, label: int, *key: int) -> np.ndarray:
        """Indices int64 of real images of the class `label` for this `key` (iteration, step …), sorted by cell."""
        split, present = self.split, np.flatnonzero(self.split.count[label])
        if 0 < self.groups_per_step < len(present) and self.sampling is balanced:
            drawn = self.streams.numpy("groups", label, *key).choice(present, self.groups_per_step, replace=False)
            count = np.zeros_like(split.count)
            count[label, drawn] = split.count[label, drawn]
            split = replace(split, count=count)
        return self.sampling(split, label, self.batch_size, self.streams.numpy("real", label, *key))

    def batch(self, classes: slice, indices: Sequence[np.ndarray], *key: int) -> RealBatch:
        """The batch of consecutive `classes` that consists of these images, given by class and drawn for `key`."""
        weights = [self.strategy.assign_targets(self.split.protected[i], self.sample_weights[i]) for i in indices]
        all_indices = np.concatenate(indices)
        labels = torch.from_numpy(self.split.labels[all_indices])
        num_targets = tuple(each.num_targets for each in weights)
        return RealBatch(classes, all_indices, labels, concatenate(weights), num_targets, key)

    def sample_batch(self, classes: slice, *key: int) -> RealBatch:
        """A batch of `classes` drawn for this `key`."""
        indices = [self.sample_indices(label, *key) for label in range(classes.start, classes.stop)]
        return self.batch(classes, indices, *key)

    @property
    def drawn_by_cell(self) -> bool:
        """Whether a target's mean varies only as images of a cell do: how many there are of each cell is of no account.

        So it is where the sampling fixes their number, or the strategy averages each group by itself. Else a batch
        varies as images of the whole class do.
        """
        return self.sampling is balanced or (self.strategy.uses_groups and not self.strategy.reweights_samples)

    def noise_weights(self, batch: RealBatch) -> NoiseWeights:
        """The weights that tell the sampling noise of a `batch` that was drawn at random."""
        label, protected = batch.labels.numpy(), self.split.protected[batch.indices]
        groups = self.split.count.shape[1]
        if self.drawn_by_cell:
            return noise_weights(
                batch.weights.weight, label * groups + protected, label, self.split.count[label, protected]
            )
        return noise_weights(batch.weights.weight, batch.weights.target, label, self.split.count.sum(axis=1)[label])

    @cached_property
    def noise_known(self) -> bool:
        """Whether every batch tells its sampling noise: in each class more images are drawn than it has strata."""
        drawn = [len(self.sample_indices(label)) for label in range(self.num_classes)]
        strata = np.count_nonzero(self.split.count, axis=1) if self.drawn_by_cell else np.ones(self.num_classes)
        return bool((np.array(drawn) > strata).all())

    def statistics_images(self, *key: int) -> Tensor:
        """Images of every class, drawn for this `key`, that batch normalisation takes its statistics of."""
        per_class = max(1, STATISTICS_BATCH // self.num_classes)
        return self.store.take(self.indices_of_all_classes("statistics", per_class, *key))

    def indices_of_all_classes(self, purpose: str, per_class: int, *key: int) -> np.ndarray:
        """Indices int64 of about `per_class` real images of every class, drawn for this `purpose` and `key`."""
        indices = [
            self.sampling(self.split, label, per_class, self.streams.numpy(purpose, label, *key))
            for label in range(self.num_classes)
        ]
        return np.concatenate(indices)

    def embed(self, network: Classifier, indices: np.ndarray) -> Tensor:
        """The embeddings float32 [n, D] of the training images at `indices`, on the device."""
        return embed(network, self.store, indices, self.runtime)

    @cached_property
    def images_per_step(self) -> int:
        """Images of a real batch over all classes."""
        return len(self.sample_batch(slice(0, self.num_classes)).indices)
