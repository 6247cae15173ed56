"""What a method is given."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Experts, Split
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness._base import Strategy, TargetWeights, concatenate
from fairdd_cli.matching.sampling import Sampling
from fairdd_cli.matching.signals import reduced
from fairdd_cli.matching.synthetic import Synthetic
from fairdd_cli.networks import Classifier, NetworkSpec, freeze_batch_norm, has_batch_norm
from fairdd_cli.runtime import ImageStore, Processes, Progress, Runtime, Streams, all_reduce_gradients, even_slices
from fairdd_cli.training import TensorImages, TrainingConfig, embed, fit
from fairdd_cli.training import augmentation as augment

TOGETHER = 8  # micro-batches of real images whose classes are matched together on a CPU: each call costs something


@dataclass(frozen=True)
class RealBatch:
    """Real images of consecutive classes, sorted by class and cell, each assigned to a target.

    `targets` says how many of them each of these classes has.
    """

    indices: np.ndarray  # int64 [B]
    labels: Tensor  # int64 [B], on the host
    weights: TargetWeights
    targets: tuple[int, ...]  # [classes]


@dataclass
class Problem:
    """A distillation in progress: the data, the synthetic set, and every choice that is not the method's own.

    `state` holds what a method learns beside the images. Its `prepare` fills it; a checkpoint carries the tensors
    and, when the run goes on, copies their values into those that `prepare` made.
    """

    runtime: Runtime
    streams: Streams
    split: Split
    store: ImageStore
    synthetic: Synthetic
    strategy: Strategy
    sampling: Sampling
    batch_real: int
    network: NetworkSpec
    progress: Progress
    flips: bool  # whether a mirrored image keeps its class; digits don't
    sample_weights: np.ndarray  # [N], of the training images, from the strategy
    state: dict[str, Tensor] = field(default_factory=dict)  # names without slashes
    experts: Experts = field(init=False)  # set before `prepare` of a method that `uses_experts`

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.synthetic.classes

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of an image."""
        return self.store.shape[2], self.store.shape[3]

    @cached_property
    def _shared(self) -> tuple[slice, Processes]:
        return self.runtime.processes.for_classes(self.classes)

    @property
    def sent(self) -> int:
        """Bytes that this process has summed with others so far."""
        return self.runtime.processes.bytes_reduced + self._shared[1].bytes_reduced

    def pieces(self) -> Iterator[slice]:
        """The classes of this process that are matched at a time: all on a GPU, a few on a CPU."""
        mine, _ = self._shared
        # Of a synthetic image all that the layers made is kept until the way back.
        of_class = max(self.batch_real, 4 * self.synthetic.per_class)
        together = self.classes if self.runtime.full_batch else max(1, TOGETHER * self.runtime.micro_batch // of_class)
        yield from even_slices(mine, together)

    def drawn(self, label: int, *key: int) -> np.ndarray:
        """Indices int64 of real images of the class `label` for this `key` (iteration, step …), sorted."""
        return self.sampling(self.split, label, self.batch_real, self.streams.numpy("real", label, *key))

    def batch(self, drawn: Sequence[np.ndarray]) -> RealBatch:
        """The real batch of consecutive classes of which these indices were `drawn`."""
        weights = [
            self.strategy.assign_targets(self.split.protected[part], self.sample_weights[part]) for part in drawn
        ]
        indices = np.concatenate(drawn)
        labels = torch.from_numpy(self.split.labels[indices])
        return RealBatch(indices, labels, concatenate(weights), tuple(each.num_targets for each in weights))

    def real(self, classes: slice, *key: int) -> RealBatch:
        """The real batch of `classes` for this `key`."""
        return self.batch([self.drawn(label, *key) for label in range(classes.start, classes.stop)])

    def embed(self, network: Classifier, indices: np.ndarray) -> Tensor:
        """The embeddings float32 [n, D] of the training images at `indices`, on the device."""
        return embed(network, self.store, indices, self.runtime)

    def total(self, distances: Tensor, targets: Sequence[int]) -> Tensor:
        """The loss of these `distances` [all targets], as the strategy puts those of each class together."""
        return reduced(distances, targets, self.strategy.reduce)

    def parts(
        self, real: RealBatch, draw: augment.AugmentationParams, most: int | None = None
    ) -> Iterator[tuple[slice, Tensor]]:
        """The augmented images of `real` that are this process's, a micro-batch or `most` at a time.

        Raises UsageError where there is none for it.
        """
        mine = self._shared[1].shard(len(real.indices))
        if mine.start == mine.stop:
            raise UsageError(
                f"{self.runtime.processes.world_size} processes are too many for {self.classes} classes of "
                f"{len(real.indices)} images"
            )
        for part in self.runtime.micro_batches(mine, most):
            yield part, draw.apply(self.store.take(real.indices[part]), real.labels[part])

    def together(self, signals: Sequence[Tensor]) -> None:
        """Adds to `signals` of a piece those of the processes that it is shared with."""
        for signal in signals:
            self._shared[1].all_reduce(signal)

    def draw(self, operations: str, *key: int) -> augment.AugmentationParams:
        """The Siamese augmentation of this `key`: for each class one operation and one set of parameters."""
        return augment.sample_siamese(operations, self.classes, self.size, self.streams.torch("augment", *key))

    def fresh_network(self, *key: int) -> Classifier:
        """A network initialised for this `key`, on the device, with statistics of real images where it needs any."""
        channels, height, width = self.store.shape[1:]
        with self.streams.fork_rng("network", *key):
            network = self.network.build((channels, height, width), self.classes)
        self.runtime.prepare_module(network)
        self.take_statistics(network, *key)
        return network

    def take_statistics(self, network: Classifier, *key: int) -> None:
        """Fixes the batch statistics of `network`, where it has any, at those of real images of every class."""
        if has_batch_norm(network):
            per_class = max(1, 256 // self.classes)
            indices = [
                self.sampling(self.split, label, per_class, self.streams.numpy("statistics", label, *key))
                for label in range(self.classes)
            ]
            freeze_batch_norm(network, self.store.take(np.concatenate(indices)))

    def operations(self, strategy: str) -> str:
        """The augmentation `strategy` without what would change an image's class."""
        return augment.without(strategy, *(() if self.flips else ("flip",)))

    def train(self, network: Classifier, training: TrainingConfig, *key: int) -> None:
        """Trains `network` on the synthetic set as it is now."""
        with torch.no_grad():
            images, labels = self.synthetic.training_images(slice(0, self.classes))
        answers = self.runtime.to_device(labels)
        fit(network, TensorImages(images), answers, training, self.runtime, self.streams, key, self.progress)

    @cached_property
    def optimizer(self) -> torch.optim.SGD:
        """The optimiser of the synthetic images; the method sets learning rate and momentum by `optimise`."""
        return torch.optim.SGD([self.synthetic.images], lr=1.0)

    def optimise(self, learning_rate: float, momentum: float) -> None:
        """Sets what `update` uses."""
        for group in self.optimizer.param_groups:
            group["lr"], group["momentum"] = learning_rate, momentum

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of all that the next iterations depend on: the images, their momentum, and `state`."""
        live = {"images": self.synthetic.images, **{f"state.{name}": tensor for name, tensor in self.state.items()}}
        momentum = self.optimizer.state[self.synthetic.images].get("momentum_buffer")
        if momentum is not None:
            live["momentum"] = momentum
        return {name: tensor.detach().clone() for name, tensor in live.items()}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Goes back to a `snapshot`. Tensors of `state` are changed in place, so that others may hold them."""
        with torch.no_grad():
            self.synthetic.images.copy_(snapshot["images"])
            for name, tensor in self.state.items():
                tensor.copy_(snapshot[f"state.{name}"])
        self.synthetic.images.grad = None
        self.optimizer.state.clear()
        if "momentum" in snapshot:
            momentum = snapshot["momentum"].to(self.synthetic.images.device, copy=True)
            self.optimizer.state[self.synthetic.images]["momentum_buffer"] = momentum

    @cached_property
    def real_images(self) -> int:
        """Images of a real batch over all classes."""
        return len(self.real(slice(0, self.classes)).indices)

    def gather(self, loss: Tensor) -> Tensor:
        """Adds the gradient of `loss` to that of the synthetic images; returns the loss as a plain value.

        Of processes that share a class only one counts.
        """
        images = self.synthetic.images
        if not self._shared[1].is_main:
            return torch.zeros_like(loss)
        (gradient,) = torch.autograd.grad(loss, [images])
        images.grad = gradient if images.grad is None else images.grad + gradient
        return loss.detach()

    def clamp(self) -> None:
        """Moves what has left the range of an image back to its limits."""
        with torch.no_grad():
            self.synthetic.images.clamp_(self.store.low, self.store.high)

    def update(self, stretch: Tensor | None = None) -> None:
        """Moves the synthetic images along the gradient gathered in them, by all processes, since the last update.

        A `stretch` [C, 1, 1] multiplies it, channel by channel.
        """
        all_reduce_gradients(self.runtime.processes, [self.synthetic.images])
        if stretch is not None and self.synthetic.images.grad is not None:
            self.synthetic.images.grad *= stretch
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
