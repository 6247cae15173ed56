"""The synthetic images while they are optimised: their decoding, their optimiser, their state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.decodings import Codec
from fairdd_cli.fairness import TargetWeights, class_means, plain_means
from fairdd_cli.runtime import ImageStore, Processes, Streams, all_reduce_gradients

MOMENTUM = "momentum"  # how the names of momentum begin in a snapshot


@dataclass(frozen=True)
class SyntheticBatch:
    """Decoded images [n, C, H, W] of consecutive classes with their labels int64 [n], on the host, by target."""

    images: Tensor
    labels: Tensor
    weights: TargetWeights


def taken(images: Tensor, indices: Tensor) -> Tensor:
    """The `images` [n, …] at `indices` int64 [m], which are on the host."""
    return images[indices.to(images.device, non_blocking=True)]


class SyntheticImages:
    """The stored images [classes * n, C', H', W'], class after class, as a leaf that takes gradients.

    `codec` decodes those of a class into `per_class` images to train on. `groups` int64 [decoded images], on the host,
    says which group each of them stands for; those that can be shown in every group are shown in one drawn for a key.
    What the `codec` learns with them are its tables, leaves of their own, which its tables here share memory with.
    `store` holds the real images, whose range of values they share; `processes` optimise them together.
    """

    def __init__(
        self,
        images: Tensor,
        groups: Tensor,
        classes: int,
        codec: Codec,
        store: ImageStore,
        streams: Streams,
        processes: Processes,
    ) -> None:
        self.images = images.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.groups, self.classes = groups, classes
        self.stored_per_class = len(images) // classes
        self.labels = torch.arange(classes).repeat_interleave(self.stored_per_class)
        shown = len(images) * codec.factor**2 / max(1, codec.num_groups)
        rates = {"images": 1.0, **codec.decoding.learning_rates(codec.shape, shown)}
        tables = {name: table.detach().clone().requires_grad_(name in rates) for name, table in codec.tables.items()}
        self._differentiable = replace(codec, tables=tables)
        self.codec = replace(codec, tables={name: table.detach() for name, table in tables.items()})
        self.leaves = {name: self.images if name == "images" else tables[name] for name in rates}
        # A method sets learning rate and momentum.
        self.optimizer = torch.optim.SGD(
            [{"params": [leaf], "relative": rates[name]} for name, leaf in self.leaves.items()], lr=1.0
        )
        self._store, self._streams, self._processes = store, streams, processes
        self._gradient_scale: Tensor | None = None

    @property
    def per_class(self) -> int:
        """Decoded images of a class."""
        return self.stored_per_class * self.codec.factor**2

    @property
    def finite(self) -> bool:
        """Whether the images, and what is learned with them, are all finite."""
        return all(bool(torch.isfinite(leaf).all()) for leaf in self.leaves.values())

    def decoded_images(self, classes: slice, *key: int) -> tuple[Tensor, Tensor]:
        """The decoded images of consecutive `classes`, on the device, and their labels, on the host.

        Those that can be shown in every group are shown in one drawn for `key`, all groups equally often.
        """
        labels = torch.arange(classes.start, classes.stop).repeat_interleave(self.per_class)
        groups = None
        if self.codec.num_groups:
            drawn = [
                self._turns(label, range(self.codec.num_groups), key) for label in range(classes.start, classes.stop)
            ]
            groups = torch.from_numpy(np.concatenate(drawn))
        return self._decoded(classes, groups=groups), labels

    def batch_of_classes(self, classes: slice, *key: int) -> SyntheticBatch:
        """The decoded images of `classes`; the target of each class is their mean."""
        images, labels = self.decoded_images(classes, *key)
        return SyntheticBatch(images, labels, class_means(classes.stop - classes.start, self.per_class))

    def batch_of_cells(self, classes: slice, groups_of: Sequence[Sequence[int]], *key: int) -> SyntheticBatch:
        """The decoded images of `classes` that stand for `groups_of` [classes] each, by class and group.

        The target of each cell is the mean of its images. Those that can be shown in every group are divided evenly.
        """
        positions, shown, sizes = [], [], []
        for place, (label, groups) in enumerate(zip(range(classes.start, classes.stop), groups_of, strict=True)):
            own = slice(label * self.per_class, (label + 1) * self.per_class)
            of = self._turns(label, groups, key) if self.codec.num_groups else self.groups[own].numpy()
            members = [np.flatnonzero(of == group) for group in groups]
            positions += [place * self.per_class + each for each in members]
            shown += [np.full(len(each), group) for each, group in zip(members, groups, strict=True)]
            sizes += [len(each) for each in members]
        order = torch.from_numpy(np.concatenate(positions))
        labels = torch.arange(classes.start, classes.stop).repeat_interleave(self.per_class)[order]
        groups_shown = torch.from_numpy(np.concatenate(shown)) if self.codec.num_groups else None
        return SyntheticBatch(self._decoded(classes, order, groups_shown), labels, plain_means(np.array(sizes)))

    def _decoded(self, classes: slice, order: Tensor | None = None, groups: Tensor | None = None) -> Tensor:
        """The decoded images of `classes`, in this `order`, each in its group of `groups` where it has to be shown."""
        stored = self.images[classes.start * self.stored_per_class : classes.stop * self.stored_per_class]
        bases = self._differentiable.bases(stored)
        if order is not None:
            bases = taken(bases, order)
        return self._differentiable.show(bases, groups).contiguous(memory_format=torch.channels_last)

    def _turns(self, label: int, groups: Sequence[int], key: tuple[int, ...]) -> np.ndarray:
        """One of `groups` for each decoded image of the class `label`: in turn, in an order drawn for `key`."""
        order = self._streams.numpy("synthetic/groups", label, *key).permutation(self.per_class)
        return np.asarray(groups)[order % len(groups)]

    def configure_optimizer(self, learning_rate: float, momentum: float, unit_pixels: bool = False) -> None:
        """SGD with `momentum`; with `unit_pixels` its `learning_rate` is that of pixels in [0, 1], not normalised.

        What is not stored as pixels has no channel of its own, and steps by the mean over the channels.
        """
        for group in self.optimizer.param_groups:
            group["lr"], group["momentum"] = learning_rate * group["relative"], momentum
        scale = self._store.inv_std_squared
        scale = scale if self.codec.decoding.stores_pixels else scale.mean()
        self._gradient_scale = scale if unit_pixels else None

    def configure_class_steps(self, learning_rate: float, momentum: float) -> None:
        """SGD on pixels in [0, 1] whose joint steps amount to those of a code that steps class after class.

        Such a code has one momentum m for all classes. A gradient that is followed by steps without one moves
        1 + m + m² + … times the learning rate until its class's turn comes again, and m to the number of classes of its
        momentum is left by then.
        """
        moved = sum(momentum**turn for turn in range(self.classes))
        self.configure_optimizer(learning_rate * moved, momentum**self.classes, unit_pixels=True)

    def gradients(self, loss: Tensor, *shared: Tensor) -> list[Tensor]:
        """The gradients of `loss` with respect to each of `leaves` and of `shared`."""
        return list(torch.autograd.grad(loss, [*self.leaves.values(), *shared]))

    def accumulate_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Adds `gradients`, one for each of `leaves`, to theirs."""
        for leaf, gradient in zip(self.leaves.values(), gradients, strict=True):
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient

    def optimizer_step(
        self, lr_factor: float = 1.0, auxiliary: Sequence[Tensor] | None = None, share: float = 0.0
    ) -> None:
        """Moves the images, and what is learned with them, along the gradients that all ranks accumulated.

        `lr_factor` multiplies the learning rate of this step. The `auxiliary` gradients, one for each of `leaves` and
        the same on all ranks, are added so that the images' has that `share` of the other one's norm.
        """
        all_reduce_gradients(self._processes, list(self.leaves.values()))
        if auxiliary is not None and self.images.grad is not None:
            scale = share * self.images.grad.norm() / auxiliary[0].norm().clamp(min=torch.finfo(torch.float32).tiny)
            self.accumulate_gradients([scale * gradient for gradient in auxiliary])
        if self._gradient_scale is not None and self.images.grad is not None:
            self.images.grad *= self._gradient_scale
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * lr_factor
        self.optimizer.step()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)

    def clamp(self) -> None:
        """Moves pixels that have left the range between black and white back to its limits."""
        if self.codec.decoding.stores_pixels:
            with torch.no_grad():
                self.images.clamp_(self._store.low, self._store.high)

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of the images, of what is learned with them, and of the momentum of each that has one."""
        live = dict(self.leaves)
        for name, leaf in self.leaves.items():
            momentum = self.optimizer.state[leaf].get("momentum_buffer")
            if momentum is not None:
                live[momentum_of(name)] = momentum
        return {name: tensor.detach().clone() for name, tensor in live.items()}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Goes back to a `snapshot`."""
        self.optimizer.state.clear()
        for name, leaf in self.leaves.items():
            with torch.no_grad():
                leaf.copy_(snapshot[name])
            leaf.grad = None
            if momentum_of(name) in snapshot:
                momentum = snapshot[momentum_of(name)].to(leaf.device, copy=True)
                self.optimizer.state[leaf]["momentum_buffer"] = momentum


def momentum_of(leaf: str) -> str:
    """What a snapshot calls the momentum of one of the leaves."""
    return MOMENTUM if leaf == "images" else f"{MOMENTUM}.{leaf}"
