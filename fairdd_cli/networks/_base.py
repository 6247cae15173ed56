"""What every network shares: the classifier on top of an embedding, and the choices of its layers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from fairdd_cli.errors import UsageError, unknown

Choice = TypeVar("Choice")


class Classifier(nn.Module, ABC):
    """A network that embeds images [N, C, H, W] as [N, D] and classifies the embedding.

    Weight matrices belong to `nn.Conv2d` and `nn.Linear` modules that are called once in a pass: gradient
    matching reads their inputs and output gradients. Where a layer's input has not one row for each image,
    `rows_are_images` is False and gradients cannot be matched.
    """

    classifier: nn.Module
    rows_are_images = True

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, D] of `images` [N, C, H, W]."""

    def forward(self, images: Tensor) -> Tensor:
        """The logits [N, classes] of `images` [N, C, H, W]."""
        logits: Tensor = self.classifier(self.embed(images))
        return logits


def choose(what: str, name: str, known: Mapping[str, Choice]) -> Choice:
    """The entry of `known` called `name`; raises UsageError, naming the nearest, where there is none."""
    if name not in known:
        raise unknown(what, name, known)
    return known[name]


def upcast(values: Tensor) -> Tensor:
    """`values` in fp32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class GroupNorm(nn.GroupNorm):
    """Group normalisation in fp32 at least, whatever the rest is in.

    bf16 has too few digits for moments. On a GPU autocast sees to that; on a CPU it does not, and is slow, too.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] normalised."""
        return super().forward(upcast(maps))


def instance_norm(channels: int) -> nn.Module:
    """Normalises each channel of each image: group normalisation with one channel a group, affine."""
    return GroupNorm(channels, channels)


NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: GroupNorm(1, channels),
    "instance": instance_norm,
    "group": lambda channels: GroupNorm(math.gcd(4, channels), channels),  # as near to 4 as divides
}
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leakyrelu": lambda: nn.LeakyReLU(0.01),
    "sigmoid": nn.Sigmoid,
    "swish": nn.SiLU,
}
POOLINGS: Mapping[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "max": lambda: nn.MaxPool2d(2),
    "average": lambda: nn.AvgPool2d(2),
}


def check_range(network: str, option: str, value: int, most: int) -> None:
    """Raises UsageError where the `option` of a `network` lies outside 1…`most`."""
    if not 1 <= value <= most:
        raise UsageError(f"network '{network}' needs {option} 1…{most}; found {option}={value}")


def has_batch_norm(network: nn.Module) -> bool:
    """Whether `network` normalises by the statistics of a batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def freeze_batch_norm(network: nn.Module, images: Tensor) -> None:
    """Gives batch-normalised layers the statistics of `images` and fixes them, so that samples no longer mix.

    Without this the signal of one class would depend on which other classes share its forward pass.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = 1.0  # nothing of what was before
        layer.train()
    with torch.no_grad():
        network(images)
    for layer in layers:
        layer.eval()


def check_size(network: str, shape: tuple[int, int, int], halvings: int) -> None:
    """Raises UsageError where images of `shape` (C, H, W) are too small to be halved `halvings` times."""
    if min(shape[1:]) < 2**halvings:
        raise UsageError(
            f"network '{network}' halves the resolution {halvings} times and needs at least "
            f"{2**halvings} pixels a side; these are {shape[1]}x{shape[2]}"
        )
