"""What a method is given, and what it must say of itself."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from fairdd_cli import augment
from fairdd_cli.artifacts import BiasedDataset, Experts, Split
from fairdd_cli.embedding import embed
from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.fairness import Assignment, Strategy, joined
from fairdd_cli.matching import reduced
from fairdd_cli.networks import Classifier, NetworkSpec, freeze_statistics, has_batch_statistics
from fairdd_cli.processes import Processes, share_gradient
from fairdd_cli.runtime import ImageStore, Progress, Runtime, Streams, even
from fairdd_cli.sampling import BATCH_REAL, Sampling
from fairdd_cli.synthetic import Synthetic
from fairdd_cli.train import TensorImages, Training, fit

TOGETHER = 8  # micro-batches of real images whose classes are matched together on a CPU: each call costs something


@dataclass(frozen=True)
class RealBatch:
    """Real images of consecutive classes, sorted by class and cell, each assigned to a target.

    `targets` says how many of them each of these classes has.
    """

    indices: np.ndarray  # int64 [B]
    labels: Tensor  # int64 [B], on the host
    assignment: Assignment
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
    importance: np.ndarray  # [N], of the training images, from the strategy
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
        return self.runtime.processes.sent + self._shared[1].sent

    def pieces(self) -> Iterator[slice]:
        """The classes of this process that are matched at a time: all on a GPU, a few on a CPU."""
        mine, _ = self._shared
        # Of a synthetic image all that the layers made is kept until the way back.
        of_class = max(self.batch_real, 4 * self.synthetic.per_class)
        together = self.classes if self.runtime.whole else max(1, TOGETHER * self.runtime.micro_batch // of_class)
        yield from even(mine, together)

    def drawn(self, label: int, *key: int) -> np.ndarray:
        """Indices int64 of real images of the class `label` for this `key` (iteration, step …), sorted."""
        return self.sampling(self.split, label, self.batch_real, self.streams.numpy("real", label, *key))

    def batch(self, drawn: Sequence[np.ndarray]) -> RealBatch:
        """The real batch of consecutive classes of which these indices were `drawn`."""
        assignments = [self.strategy.assign(self.split.protected[part], self.importance[part]) for part in drawn]
        indices = np.concatenate(drawn)
        labels = torch.from_numpy(self.split.labels[indices])
        return RealBatch(indices, labels, joined(assignments), tuple(each.targets for each in assignments))

    def real(self, classes: slice, *key: int) -> RealBatch:
        """The real batch of `classes` for this `key`."""
        return self.batch([self.drawn(label, *key) for label in range(classes.start, classes.stop)])

    def embed(self, network: Classifier, indices: np.ndarray) -> Tensor:
        """The embeddings float32 [n, D] of the training images at `indices`, on the device."""
        return embed(network, self.store, indices, self.runtime)

    def total(self, distances: Tensor, targets: Sequence[int]) -> Tensor:
        """The loss of these `distances` [all targets], as the strategy puts those of each class together."""
        return reduced(distances, targets, self.strategy.reduce)

    def parts(self, real: RealBatch, draw: augment.Draw, most: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        """The augmented images of `real` that are this process's, a micro-batch or `most` at a time.

        Raises UsageError where there is none for it.
        """
        mine = self._shared[1].share(len(real.indices))
        if mine.start == mine.stop:
            raise UsageError(
                f"{self.runtime.processes.count} processes are too many for {self.classes} classes of "
                f"{len(real.indices)} images"
            )
        for part in self.runtime.pieces(mine, most):
            yield part, draw.apply(self.store.take(real.indices[part]), real.labels[part])

    def together(self, signals: Sequence[Tensor]) -> None:
        """Adds to `signals` of a piece those of the processes that it is shared with."""
        for signal in signals:
            self._shared[1].sum(signal)

    def draw(self, operations: str, *key: int) -> augment.Draw:
        """The Siamese augmentation of this `key`: for each class one operation and one set of parameters."""
        return augment.draw_siamese(operations, self.classes, self.size, self.streams.torch("augment", *key))

    def fresh_network(self, *key: int) -> Classifier:
        """A network initialised for this `key`, on the device, with statistics of real images where it needs any."""
        channels, height, width = self.store.shape[1:]
        with self.streams.ambient("network", *key):
            network = self.network.build((channels, height, width), self.classes)
        self.runtime.place(network)
        self.take_statistics(network, *key)
        return network

    def take_statistics(self, network: Classifier, *key: int) -> None:
        """Fixes the batch statistics of `network`, where it has any, at those of real images of every class."""
        if has_batch_statistics(network):
            per_class = max(1, 256 // self.classes)
            indices = [
                self.sampling(self.split, label, per_class, self.streams.numpy("statistics", label, *key))
                for label in range(self.classes)
            ]
            freeze_statistics(network, self.store.take(np.concatenate(indices)))

    def operations(self, strategy: str) -> str:
        """The augmentation `strategy` without what would change an image's class."""
        return augment.without(strategy, *(() if self.flips else ("flip",)))

    def train(self, network: Classifier, training: Training, *key: int) -> None:
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
        if not self._shared[1].first:
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
        share_gradient(self.runtime.processes, [self.synthetic.images])
        if stretch is not None and self.synthetic.images.grad is not None:
            self.synthetic.images.grad *= stretch
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class MethodBase(ABC):
    """A method: its hyper-parameters as fields (the paper's values are the defaults) and its step."""

    evaluation: ClassVar[Training] = Training()
    iterations: ClassVar[int]
    factor: ClassVar[int] = 1  # multi-formation, where the user says nothing
    init: ClassVar[str | None] = None  # None: real images, spread over the groups where the strategy uses them
    batch_real: ClassVar[Mapping[str, int]] = BATCH_REAL
    matches: ClassVar[bool] = True  # whether real and synthetic signals are matched, so that a strategy matters
    samples: ClassVar[bool] = True  # whether real mini-batches are drawn, so that a sampling matters
    uses_experts: ClassVar[bool] = False  # whether it needs networks trained on real images beforehand
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # the values that an option in words may have

    @classmethod
    def for_ipc(cls, ipc: int) -> Self:
        """The paper's values for `ipc` images per class."""
        return cls()

    def for_data(self, dataset: BiasedDataset, ipc: int) -> Self:
        """The method with what was left open filled in with the paper's values for `dataset`."""
        return self

    def loops(self) -> str:
        """What an iteration consists of, in words that follow "iterations", where that depends on `--ipc`."""
        return ""

    def objection(self, network: Classifier) -> str:
        """Why the method can do nothing with `network`; nothing if it can."""
        return ""

    def expert_training(self, problem: Problem) -> tuple[int, Training]:
        """How many experts of each target a method that `uses_experts` needs, and how they are trained."""
        return 0, Training()

    @abstractmethod
    def prepare(self, problem: Problem) -> None:
        """Sets up the optimisation before the first iteration."""

    @abstractmethod
    def work(self, problem: Problem) -> float:
        """Image passes (one image forward and backward) of an iteration; its progress must add up to this."""

    @abstractmethod
    def step(self, problem: Problem, iteration: int) -> Tensor:
        """One iteration: updates the synthetic images and returns this process's part of the loss, on the device."""

    def learned_rate(self, problem: Problem) -> float:
        """The learning rate that was learned for training on the synthetic set; 0 where none was."""
        return 0.0

    def with_options(self, options: dict[str, str]) -> Self:
        """The method with the hyper-parameters in `options` set; raises UsageError for a wrong name or value."""
        known: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values: dict[str, Any] = {}
        for name, text in options.items():
            if name not in known:
                raise unknown("option -O of this method", name, known)
            kind = type(known[name])
            try:
                values[name] = kind(text)
            except ValueError as error:
                raise UsageError(f"-O {name}={text}: expected {kind.__name__}, for example {known[name]}") from error
            if text not in self.choices.get(name, (text,)):
                raise UsageError(f"-O {name}={text}: this method has {name}={'|'.join(self.choices[name])}")
            if name == "augmentation":
                augment.stages(text)
            # Only a count that is off by default may be 0: there is no loop of no steps.
            least = 1 if kind is int and known[name] > 0 else 0
            if kind in (int, float) and not (least <= values[name] < float("inf")):
                raise UsageError(f"-O {name}={text}: expected a number of at least {least}")
        return replace(self, **values)


def interpolated(table: dict[int, int], ipc: int) -> int:
    """The entry of `table` for `ipc`, linear between its keys and constant beyond them."""
    return int(np.rint(np.interp(ipc, list(table), list(table.values()))))
