"""The signals of real and of synthetic images that a run matches, from micro-batches and from all ranks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import TargetWeights, class_means
from fairdd_cli.matching.real import RealBatch
from fairdd_cli.matching.signals import Transform, gradients, layer_features, weighted_sums
from fairdd_cli.matching.state import RunState
from fairdd_cli.matching.synthetic import SyntheticBatch
from fairdd_cli.networks import Classifier
from fairdd_cli.training import augmentation as augment


@dataclass(frozen=True)
class RunSignals:
    """Embeddings, features and gradients: of real images for each target, of synthetic images to match them."""

    state: RunState

    def synthetic_batch(self, batch: RealBatch) -> SyntheticBatch:
        """The synthetic images to match with `batch`: by class, or those of each cell that has a target."""
        if not self.state.match_cells:
            return self.state.synthetic.batch_of_classes(batch.classes, *batch.key)
        ends = np.cumsum(batch.num_targets)
        groups = [batch.weights.groups[end - number : end] for end, number in zip(ends, batch.num_targets, strict=True)]
        return self.state.synthetic.batch_of_cells(batch.classes, groups, *batch.key)

    def real_mean_embeddings(
        self, network: Classifier, batch: RealBatch, augmentation: augment.AugmentationParams
    ) -> tuple[Tensor, Tensor]:
        """The weighted mean embedding float32 [targets, D] of each target of `batch`, and its sampling noise.

        The noise is one number for all targets: what their squared Euclidean distances exceed on average, in all, the
        distances to the means of all images (see `noise.py`); 0 unless the run `subtracts_noise`. Of the ranks that
        share a class only one counts it. Nothing is differentiable.
        """
        noise_weights = self.state.real.noise_weights(batch) if self.state.subtracts_noise else None

        def sums(images: Tensor, part: slice) -> list[Tensor]:
            with self.state.runtime.autocast():
                embedded = network.embed(images).float()
            mean = weighted_sums(embedded, batch.weights[part])
            if not noise_weights:
                return [mean]
            weight = self.state.runtime.to_device(noise_weights.weight[part])
            squares = (weight * embedded.square().sum(dim=1)).sum()
            return [mean, squares, weighted_sums(embedded, noise_weights[part])]

        mean, *spread = self._sums(network, batch, augmentation, sums)
        if noise_weights is None or not self.state.class_shard[1].is_main:
            return mean, self.state.scalar()
        squares, centres = spread
        # Σ a ‖e - m‖² = Σ a ‖e‖² - ‖Σ a e‖² / Σ a, with the weights a and the mean m of a stratum
        inverse_totals = self.state.runtime.to_device(noise_weights.inverse_totals)
        return mean, squares - (inverse_totals * centres.square().sum(dim=1)).sum()

    def real_means(
        self,
        network: Classifier,
        batch: RealBatch,
        augmentation: augment.AugmentationParams,
        weights: TargetWeights,
        transform: Transform | None = None,
    ) -> Tensor:
        """The mean float32 [targets, D] by `weights` of what `transform` makes of embeddings; not differentiable."""

        def sums(images: Tensor, part: slice) -> list[Tensor]:
            with self.state.runtime.autocast():
                embedded = network.embed(images).float()
            return [weighted_sums(transform(embedded) if transform else embedded, weights[part])]

        (mean,) = self._sums(network, batch, augmentation, sums)
        return mean

    def synthetic_mean_embeddings(
        self,
        network: Classifier,
        batch: RealBatch,
        augmentation: augment.AugmentationParams,
        transform: Transform | None = None,
    ) -> Tensor:
        """The mean float32 [classes or cells, D] of the embeddings of the synthetic images to match with `batch`.

        Or of what `transform` makes of the embeddings. It can be differentiated with respect to the images.
        """
        synthetic = self.synthetic_batch(batch)
        embedded = self._embedded(network, synthetic, augmentation)
        return weighted_sums(transform(embedded) if transform else embedded, synthetic.weights)

    def each_synthetic_embedding(
        self, network: Classifier, batch: RealBatch, augmentation: augment.AugmentationParams
    ) -> tuple[Tensor, TargetWeights]:
        """The embedding float32 [n, D] of each synthetic image to match with `batch`, and their targets."""
        synthetic = self.synthetic_batch(batch)
        return self._embedded(network, synthetic, augmentation), synthetic.weights

    def _embedded(
        self, network: Classifier, synthetic: SyntheticBatch, augmentation: augment.AugmentationParams
    ) -> Tensor:
        with self.state.runtime.autocast():
            embedded = network.embed(augmentation.apply(synthetic.images, synthetic.labels)).float()
        self.state.progress.advance(len(synthetic.labels))
        return embedded

    def real_layers(
        self, network: Classifier, batch: RealBatch, augmentation: augment.AugmentationParams
    ) -> tuple[Tensor, Tensor]:
        """The weighted mean [targets, F] of the features of all layers of each target, and each embedding [B, D].

        Both float32 and not differentiable; the last D of the features are the embedding.
        """
        each = class_means(len(batch.indices), 1)

        def features(images: Tensor, part: slice) -> list[Tensor]:
            with self.state.runtime.autocast():
                layers = layer_features(network, images)
            return [
                torch.cat([weighted_sums(layer, batch.weights[part]) for layer in layers], dim=1),
                weighted_sums(layers[-1], each[part]),
            ]

        mean, embedded = self._sums(network, batch, augmentation, features)
        return mean, embedded

    def synthetic_layers(
        self, network: Classifier, batch: RealBatch, augmentation: augment.AugmentationParams
    ) -> Tensor:
        """The same as `synthetic_mean_embeddings` of the features of all layers: float32 [classes or cells, F]."""
        synthetic = self.synthetic_batch(batch)
        with self.state.runtime.autocast():
            layers = layer_features(network, augmentation.apply(synthetic.images, synthetic.labels))
        self.state.progress.advance(len(synthetic.labels))
        return torch.cat([weighted_sums(layer, synthetic.weights) for layer in layers], dim=1)

    def class_embeddings(
        self, network: Classifier, classes: slice, augmentation: augment.AugmentationParams, *key: int
    ) -> Tensor:
        """The mean embedding float32 [classes, D] of the synthetic images of each class, differentiable in them."""
        synthetic = self.state.synthetic.batch_of_classes(classes, *key)
        return weighted_sums(self._embedded(network, synthetic, augmentation), synthetic.weights)

    def class_centres(self, network: Classifier, augmentation: augment.AugmentationParams, *key: int) -> Tensor:
        """The mean embedding float32 [classes, D] of the synthetic images of every class, of all ranks, as a leaf."""
        own, ranks = self.state.class_shard
        with torch.no_grad():
            chunks = self.state.class_chunks()
            means = [self.class_embeddings(network, classes, augmentation, *key) for classes in chunks]
            centres = means[0].new_zeros(self.state.num_classes, means[0].shape[1])
            if ranks.is_main:
                centres[own] = torch.cat(means)
            self.state.runtime.processes.all_reduce(centres)
        return centres.requires_grad_()

    def _sums(
        self,
        network: Classifier,
        batch: RealBatch,
        augmentation: augment.AugmentationParams,
        signals: Callable[[Tensor, slice], list[Tensor]],
    ) -> list[Tensor]:
        """The sums over all images of `batch` of the `signals` of a part of them, given as images and as a slice."""
        sums: list[Tensor] = []
        with torch.no_grad():
            for part, images in self._micro_batches(batch, augmentation, self.state.runtime.forward_batch(network)):
                found = signals(images, part)
                sums = [total + more for total, more in zip(sums, found, strict=True)] if sums else found
        self._all_reduce(sums)
        self.state.progress.advance(len(batch.indices) / 3)
        return sums

    def real_gradients(
        self,
        network: Classifier,
        batch: RealBatch,
        augmentation: augment.AugmentationParams,
        layers: tuple[type[nn.Module], ...],
    ) -> list[Tensor]:
        """Each layer's gradient float32 [targets, rows, columns] of the weighted loss of each target of `batch`."""
        sums: list[Tensor] | None = None
        for part, images in self._micro_batches(batch, augmentation):
            labels = self.state.runtime.to_device(batch.labels[part])
            with self.state.runtime.autocast():
                sums = gradients(network, images, labels, batch.weights[part], layers=layers, into=sums)
        self._all_reduce(sums or [])
        self.state.progress.advance(len(batch.indices))
        return sums or []

    def synthetic_gradients(
        self,
        network: Classifier,
        synthetic: SyntheticBatch,
        augmentation: augment.AugmentationParams,
        layers: tuple[type[nn.Module], ...],
    ) -> list[Tensor]:
        """Each layer's gradient float32 [classes or cells, rows, columns] of the mean loss of each, differentiable."""
        with self.state.runtime.autocast():
            augmented = augmentation.apply(synthetic.images, synthetic.labels)
            labels = self.state.runtime.to_device(synthetic.labels)
            found = gradients(network, augmented, labels, synthetic.weights, differentiable=True, layers=layers)
        self.state.progress.advance(2 * len(synthetic.labels))
        return found

    def _micro_batches(
        self, batch: RealBatch, augmentation: augment.AugmentationParams, most: int | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """This rank's augmented images of `batch`, a micro-batch or `most` at a time.

        Raises UsageError where there is none for this rank.
        """
        shard = self.state.class_shard[1].shard(len(batch.indices))
        if shard.start == shard.stop:
            raise UsageError(
                f"{self.state.runtime.processes.world_size} ranks are too many for {self.state.num_classes} classes of "
                f"{len(batch.indices)} images"
            )
        for part in self.state.runtime.micro_batches(shard, most):
            yield part, augmentation.apply(self.state.real.store.take(batch.indices[part]), batch.labels[part])

    def _all_reduce(self, signals: Sequence[Tensor]) -> None:
        for signal in signals:
            self.state.class_shard[1].all_reduce(signal)
