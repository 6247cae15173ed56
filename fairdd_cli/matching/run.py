"""One distillation run: what a method is given. It hides the device, precision, processes and micro-batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairdd_cli.artifacts import Experts
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import TargetWeights, class_means
from fairdd_cli.matching.distances import reduce_over_targets
from fairdd_cli.matching.networks import Networks
from fairdd_cli.matching.real import RealBatch, RealData
from fairdd_cli.matching.signals import Transform, gradients, layer_features, weighted_sums
from fairdd_cli.matching.synthetic import SyntheticBatch, SyntheticImages
from fairdd_cli.matching.unrolling import unrolled_sgd
from fairdd_cli.networks import Classifier
from fairdd_cli.runtime import Processes, Progress, Runtime, Streams, even_slices
from fairdd_cli.training import augmentation as augment

CHUNK_BATCHES = 8  # micro-batches of real images whose classes a CPU matches at a time: every call has a cost


def allowed_augmentations(policy: str, mirror_keeps_class: bool) -> str:
    """The augmentation `policy` without operations that would change an image's class."""
    return augment.without(policy, *(() if mirror_keeps_class else ("flip",)))


@dataclass
class Run:
    """A distillation in progress: the real data, the synthetic images, the networks, and what ties them together.

    With `match_cells` each group is matched by the synthetic images that stand for it, and not by the class's mean.
    `cross_entropy` is the weight of classifying the synthetic images, as a share of the matching gradient's norm.
    `state` holds what a method learns besides the images: its `prepare` fills it, and a checkpoint carries it.
    """

    runtime: Runtime
    streams: Streams
    real: RealData
    synthetic: SyntheticImages
    networks: Networks
    progress: Progress
    mirror_keeps_class: bool
    subtracts_noise: bool = False  # whether `real_embeddings` tells the sampling noise, so that the loss can go without
    match_cells: bool = False
    cross_entropy: float = 0.0
    state: dict[str, Tensor] = field(default_factory=dict)  # names without slashes
    experts: Experts = field(init=False)  # set before `prepare` of a method that `uses_experts`

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.real.num_classes

    def class_chunks(self) -> Iterator[slice]:
        """The classes that are matched at a time: all on a GPU, a few on a CPU; with torchrun those of this rank."""
        own, _ = self._class_shard
        # Backpropagation keeps every layer's output of the synthetic images.
        per_class = max(self.real.batch_size, 4 * self.synthetic.per_class)
        on_cpu = max(1, CHUNK_BATCHES * self.runtime.micro_batch // per_class)
        yield from even_slices(own, self.num_classes if self.runtime.full_batch else on_cpu)

    def allowed_augmentations(self, policy: str) -> str:
        """The augmentation `policy` without operations that would change an image's class."""
        return allowed_augmentations(policy, self.mirror_keeps_class)

    def siamese_augmentation(self, policy: str, *key: int) -> augment.AugmentationParams:
        """Siamese augmentation for this `key`: one operation with one set of parameters for each class."""
        size = self.real.shape[1:]
        generator = self.streams.torch("augment", *key)
        return augment.sample_siamese(self.allowed_augmentations(policy), self.num_classes, size, generator)

    def scalar(self, value: float = 0.0) -> Tensor:
        """`value` as a tensor beside the images."""
        return torch.full((), float(value), device=self.runtime.device)

    # Signals of real and of synthetic images

    def synthetic_batch(self, batch: RealBatch) -> SyntheticBatch:
        """The synthetic images to match with `batch`: by class, or those of each cell that has a target."""
        if not self.match_cells:
            return self.synthetic.batch_of_classes(batch.classes, *batch.key)
        ends = np.cumsum(batch.num_targets)
        groups = [batch.weights.groups[end - number : end] for end, number in zip(ends, batch.num_targets, strict=True)]
        return self.synthetic.batch_of_cells(batch.classes, groups, *batch.key)

    def real_embeddings(
        self, network: Classifier, batch: RealBatch, augmentation: augment.AugmentationParams
    ) -> tuple[Tensor, Tensor]:
        """The weighted mean embedding float32 [targets, D] of each target of `batch`, and its sampling noise.

        The noise is one number for all targets: what their squared Euclidean distances exceed on average, in all, the
        distances to the means of all images (see `noise.py`); 0 unless the run `subtracts_noise`. Of the ranks that
        share a class only one counts it. Nothing is differentiable.
        """
        noise_weights = self.real.noise_weights(batch) if self.subtracts_noise else None

        def sums(images: Tensor, part: slice) -> list[Tensor]:
            with self.runtime.autocast():
                embedded = network.embed(images).float()
            mean = weighted_sums(embedded, batch.weights[part])
            if not noise_weights:
                return [mean]
            weight = self.runtime.to_device(noise_weights.weight[part])
            squares = (weight * embedded.square().sum(dim=1)).sum()
            return [mean, squares, weighted_sums(embedded, noise_weights[part])]

        mean, *spread = self._sums(network, batch, augmentation, sums)
        if noise_weights is None or not self._class_shard[1].is_main:
            return mean, self.scalar()
        squares, centres = spread
        # Σ a ‖e - m‖² = Σ a ‖e‖² - ‖Σ a e‖² / Σ a, with the weights a and the mean m of a stratum
        inverse_totals = self.runtime.to_device(noise_weights.inverse_totals)
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
            with self.runtime.autocast():
                embedded = network.embed(images).float()
            return [weighted_sums(transform(embedded) if transform else embedded, weights[part])]

        (mean,) = self._sums(network, batch, augmentation, sums)
        return mean

    def synthetic_embeddings(
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
        with self.runtime.autocast():
            embedded = network.embed(augmentation.apply(synthetic.images, synthetic.labels)).float()
        self.progress.advance(len(synthetic.labels))
        return embedded

    def real_layers(
        self, network: Classifier, batch: RealBatch, augmentation: augment.AugmentationParams
    ) -> tuple[Tensor, Tensor]:
        """The weighted mean [targets, F] of the features of all layers of each target, and each embedding [B, D].

        Both float32 and not differentiable; the last D of the features are the embedding.
        """
        each = class_means(len(batch.indices), 1)

        def features(images: Tensor, part: slice) -> list[Tensor]:
            with self.runtime.autocast():
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
        """The same as `synthetic_embeddings` of the features of all layers: float32 [classes or cells, F]."""
        synthetic = self.synthetic_batch(batch)
        with self.runtime.autocast():
            layers = layer_features(network, augmentation.apply(synthetic.images, synthetic.labels))
        self.progress.advance(len(synthetic.labels))
        return torch.cat([weighted_sums(layer, synthetic.weights) for layer in layers], dim=1)

    def class_embeddings(
        self, network: Classifier, classes: slice, augmentation: augment.AugmentationParams, *key: int
    ) -> Tensor:
        """The mean embedding float32 [classes, D] of the synthetic images of each class, differentiable in them."""
        synthetic = self.synthetic.batch_of_classes(classes, *key)
        return weighted_sums(self._embedded(network, synthetic, augmentation), synthetic.weights)

    def class_centres(self, network: Classifier, augmentation: augment.AugmentationParams, *key: int) -> Tensor:
        """The mean embedding float32 [classes, D] of the synthetic images of every class, of all ranks, as a leaf."""
        own, ranks = self._class_shard
        with torch.no_grad():
            chunks = self.class_chunks()
            means = [self.class_embeddings(network, classes, augmentation, *key) for classes in chunks]
            centres = means[0].new_zeros(self.num_classes, means[0].shape[1])
            if ranks.is_main:
                centres[own] = torch.cat(means)
            self.runtime.processes.all_reduce(centres)
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
            for part, images in self._micro_batches(batch, augmentation, self.runtime.forward_batch(network)):
                found = signals(images, part)
                sums = [total + more for total, more in zip(sums, found, strict=True)] if sums else found
        self._all_reduce(sums)
        self.progress.advance(len(batch.indices) / 3)
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
            labels = self.runtime.to_device(batch.labels[part])
            with self.runtime.autocast():
                sums = gradients(network, images, labels, batch.weights[part], layers=layers, into=sums)
        self._all_reduce(sums or [])
        self.progress.advance(len(batch.indices))
        return sums or []

    def synthetic_gradients(
        self,
        network: Classifier,
        synthetic: SyntheticBatch,
        augmentation: augment.AugmentationParams,
        layers: tuple[type[nn.Module], ...],
    ) -> list[Tensor]:
        """Each layer's gradient float32 [classes or cells, rows, columns] of the mean loss of each, differentiable."""
        with self.runtime.autocast():
            augmented = augmentation.apply(synthetic.images, synthetic.labels)
            labels = self.runtime.to_device(synthetic.labels)
            found = gradients(network, augmented, labels, synthetic.weights, differentiable=True, layers=layers)
        self.progress.advance(2 * len(synthetic.labels))
        return found

    def _micro_batches(
        self, batch: RealBatch, augmentation: augment.AugmentationParams, most: int | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """This rank's augmented images of `batch`, a micro-batch or `most` at a time.

        Raises UsageError where there is none for this rank.
        """
        shard = self._class_shard[1].shard(len(batch.indices))
        if shard.start == shard.stop:
            raise UsageError(
                f"{self.runtime.processes.world_size} ranks are too many for {self.num_classes} classes of "
                f"{len(batch.indices)} images"
            )
        for part in self.runtime.micro_batches(shard, most):
            yield part, augmentation.apply(self.real.store.take(batch.indices[part]), batch.labels[part])

    # The loss and its gradient

    def reduce_loss(self, distances: Tensor, num_targets: Sequence[int]) -> Tensor:
        """One loss of the `distances` [all targets]: those of a class as the strategy says, summed over classes."""
        return reduce_over_targets(distances, num_targets, self.real.strategy.reduce)

    def backward(self, loss: Tensor, *shared: Tensor) -> Tensor:
        """Adds the gradient of `loss` to that of the synthetic images and of `shared`; returns the loss, detached.

        Of the ranks that share a class only one counts.
        """
        if not self._class_shard[1].is_main:
            return torch.zeros_like(loss)
        gradient, *others = torch.autograd.grad(loss, [self.synthetic.images, *shared])
        self.synthetic.accumulate_gradient(gradient)
        for tensor, of_tensor in zip(shared, others, strict=True):
            tensor.grad = of_tensor if tensor.grad is None else tensor.grad + of_tensor
        return loss.detach()

    def all_reduced_gradient(self, shared: Tensor) -> Tensor:
        """The gradient of `shared`, which `backward` accumulated, summed over all ranks."""
        gradient = torch.zeros_like(shared) if shared.grad is None else shared.grad
        return self.runtime.processes.all_reduce(gradient)

    def backward_by_target(
        self, distance: Callable[[int], Tensor], num_targets: int, learned: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of the targets, whose gradient is left in the synthetic images, and the gradient of `learned`.

        `distance` gives that of one target; one graph at a time is in memory, and ranks share the targets. All
        targets share `learned`, whose gradient is therefore the mean over them.
        """
        processes, images = self.runtime.processes, self.synthetic.images
        own = processes.shard(num_targets)
        distances, by_target = torch.zeros(num_targets, device=learned.device), []
        for target in range(own.start, own.stop):
            value = distance(target)
            by_target.append(torch.autograd.grad(value, [images, learned]))
            distances[target] = value.detach()
        processes.all_reduce(distances).requires_grad_()
        loss = self.reduce_loss(distances, [num_targets])
        (shares,) = torch.autograd.grad(loss, [distances])
        gradient, of_learned = torch.zeros_like(images), torch.zeros_like(learned)
        for share, (of_images, of_target) in zip(shares[own], by_target, strict=True):
            gradient += share * of_images
            of_learned += share * of_target / num_targets
        processes.all_reduce(of_learned)
        self.synthetic.accumulate_gradient(gradient)
        return loss.detach() / processes.world_size, of_learned

    def update_images(self, network: Classifier, *key: int, lr_factor: float = 1.0) -> None:
        """Moves the synthetic images along their gradient and, where it has a weight, that of the cross-entropy."""
        auxiliary = self._cross_entropy_gradient(network, *key) if self.cross_entropy else None
        self.synthetic.optimizer_step(lr_factor, auxiliary, self.cross_entropy)

    @property
    def update_cost(self) -> int:
        """Image passes of `update_images`."""
        return self.num_classes * self.synthetic.per_class if self.cross_entropy else 0

    def _cross_entropy_gradient(self, network: Classifier, *key: int) -> Tensor:
        """The gradient of the mean cross-entropy of all augmented synthetic images under `network`."""
        gradient, per_class = torch.zeros_like(self.synthetic.images), self.synthetic.per_class
        policy, total = self.allowed_augmentations(augment.FULL), self.num_classes * per_class
        generator = self.streams.torch("cross-entropy/augment", *key)
        augmentation = augment.sample_per_image(policy, total, self.real.shape[1:], generator)
        for classes in self.class_chunks():
            images, labels = self.synthetic.training_images(classes, *key)
            positions = torch.arange(classes.start * per_class, classes.stop * per_class)
            with self.runtime.autocast():
                logits = network(augmentation.apply(images, positions))
            loss = F.cross_entropy(logits.float(), self.runtime.to_device(labels), reduction="sum") / total
            if self._class_shard[1].is_main:  # of the ranks that share a class only one counts
                gradient += torch.autograd.grad(loss, [self.synthetic.images])[0]
            self.progress.advance(len(labels))
        return self.runtime.processes.all_reduce(gradient)

    # Trajectories

    def expert_parameters(self, target: int, expert: int, epoch: int) -> Tensor:
        """The parameters [P] of an expert of `target` after `epoch` epochs."""
        return self.runtime.to_device(self.experts.parameters(target, expert, epoch))

    def unrolled_sgd(
        self, network: Classifier, start: Tensor, batches: Iterable[tuple[Tensor, Tensor]], step_size: Tensor
    ) -> Tensor:
        """The parameters [P] after an SGD step on each of `batches`, differentiable in images and `step_size`.

        A batch has images and labels int64 on the host.
        """
        return unrolled_sgd(network, start, self._counted(batches), step_size, self.runtime)

    def _counted(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in batches:
            yield images, self.runtime.to_device(labels)
            self.progress.advance(3 * len(labels))

    # Ranks, and the state of the run

    @cached_property
    def _class_shard(self) -> tuple[slice, Processes]:
        """The classes of this rank, and the ranks that share their images with it."""
        return self.runtime.processes.for_classes(self.num_classes)

    def _all_reduce(self, signals: Sequence[Tensor]) -> None:
        for signal in signals:
            self._class_shard[1].all_reduce(signal)

    @property
    def bytes_reduced(self) -> int:
        """Bytes that this rank has summed with others so far."""
        return self.runtime.processes.bytes_reduced + self._class_shard[1].bytes_reduced

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of all that the next iterations depend on: the images, their momentum, and `state`."""
        learned = {f"state.{name}": tensor.detach().clone() for name, tensor in self.state.items()}
        return {**self.synthetic.snapshot(), **learned}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Goes back to a `snapshot`. Tensors of `state` are changed in place: a method may hold them."""
        self.synthetic.restore(snapshot)
        with torch.no_grad():
            for name, tensor in self.state.items():
                tensor.copy_(snapshot[f"state.{name}"])
