"""What a distillation run consists of, what of it a checkpoint keeps, and which classes are this rank's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from fairdd_cli.artifacts import Experts
from fairdd_cli.matching.networks import Networks
from fairdd_cli.matching.real import RealData
from fairdd_cli.matching.synthetic import SyntheticImages
from fairdd_cli.runtime import Processes, Progress, Runtime, Streams, even_slices
from fairdd_cli.training import augmentation as augment

CHUNK_BATCHES = 8  # micro-batches of real images whose classes a CPU matches at a time: every call has a cost


def allowed_augmentations(policy: str, mirror_keeps_class: bool) -> str:
    """The augmentation `policy` without operations that would change an image's class."""
    return augment.without(policy, *(() if mirror_keeps_class else ("flip",)))


@dataclass
class RunState:
    """The real data, the synthetic images, the networks, and what ties them together.

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
    subtracts_noise: bool = (
        False  # whether the loss goes without the noise that `RunSignals.real_mean_embeddings` tells
    )
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
        own, _ = self.class_shard
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

    def normal_draw(self, stream: str, *key: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers of this `shape`, drawn from `stream` at `key`, beside the images."""
        return self.runtime.to_device(torch.randn(shape, generator=self.streams.torch(stream, *key)))

    def beside_images(self, labels: Tensor) -> Tensor:
        """`labels`, or other numbers of the host, where the images are."""
        return self.runtime.to_device(labels)

    def advance(self, cost: float) -> None:
        """Advances the progress by `cost` image passes that are done, or left out, by all together."""
        self.progress.advance(cost / self.runtime.processes.world_size)

    @cached_property
    def class_shard(self) -> tuple[slice, Processes]:
        """The classes of this rank, and the ranks that share their images with it."""
        return self.runtime.processes.for_classes(self.num_classes)

    @property
    def bytes_reduced(self) -> int:
        """Bytes that this rank has summed with others so far."""
        return self.runtime.processes.bytes_reduced + self.class_shard[1].bytes_reduced

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
