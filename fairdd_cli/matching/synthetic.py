"""The synthetic set while it is optimised: how it starts, and how its stored images become training images."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.artifacts import Split
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness._base import Embed
from fairdd_cli.matching.clusters import representatives
from fairdd_cli.matching.sampling import balanced, proportional
from fairdd_cli.runtime import ImageStore, Streams


def decode(images: Tensor, factor: int) -> Tensor:
    """The training images [n * factor², C, H, W] in stored `images` [n, C, H, W]: multi-formation (IDC, ICML 2022).

    Each stored image is cut into factor x factor tiles and each tile enlarged bilinearly to the full size; the
    tiles of one stored image follow each other. Sides that `factor` does not divide leave a rim unused.
    """
    if factor == 1:
        return images
    count, channels, height, width = images.shape
    rows, cols = height // factor, width // factor
    tiles = images[:, :, : rows * factor, : cols * factor].reshape(count, channels, factor, rows, factor, cols)
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).reshape(count * factor**2, channels, rows, cols)
    return F.interpolate(tiles, size=(height, width), mode="bilinear", align_corners=False)


def encode(images: Tensor, factor: int) -> Tensor:
    """Stored images [n, C, H, W] whose tiles are `images` [n * factor², C, H, W] made smaller by averaging."""
    if factor == 1:
        return images
    total, channels, height, width = images.shape
    rows, cols = height // factor, width // factor
    tiles = F.interpolate(images, size=(rows, cols), mode="area")
    tiles = tiles.reshape(total // factor**2, factor, factor, channels, rows, cols).permute(0, 3, 1, 4, 2, 5)
    stored = images.new_zeros(total // factor**2, channels, height, width)
    stored[:, :, : rows * factor, : cols * factor] = tiles.reshape(-1, channels, rows * factor, cols * factor)
    return stored


def _real(split: Split, label: int, count: int, generator: np.random.Generator) -> np.ndarray:
    available = int(split.count[label].sum())
    if count > available:
        raise UsageError(f"--ipc asks for {count} images of class {label}, which has {available}; lower it")
    return generator.permutation(proportional(split, label, count, generator))


def _balanced(split: Split, label: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """As even a spread over the cells as `count` allows; which cells get one more is drawn."""
    groups = int((split.count[label] > 0).sum())
    drawn = balanced(split, label, groups * -(-count // groups), generator)  # a whole round more than needed
    rounds = generator.permuted(drawn.reshape(groups, -1), axis=1).T  # a row holds an image of every cell
    last = generator.permutation(rounds[-1])[: count - rounds[:-1].size]
    return np.concatenate([rounds[:-1].ravel(), last])


Draw = Callable[[Split, int, int, np.random.Generator], np.ndarray]
INITS: Mapping[str, Draw | None] = {"real": _real, "balanced": _balanced, "kmeans": _real, "noise": None}


class Synthetic:
    """The images [classes * ipc, C, H, W] in normalised units, class after class, as a leaf that takes gradients."""

    def __init__(self, images: Tensor, classes: int, ipc: int, factor: int) -> None:
        self.images = images.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.classes, self.ipc, self.factor = classes, ipc, factor
        self.labels = torch.arange(classes).repeat_interleave(ipc)

    @property
    def per_class(self) -> int:
        """Training images of a class."""
        return self.ipc * self.factor**2

    def training_images(self, classes: slice) -> tuple[Tensor, Tensor]:
        """The training images of consecutive `classes`, on the device, and their labels, on the host."""
        stored = self.images[classes.start * self.ipc : classes.stop * self.ipc]
        labels = torch.arange(classes.start, classes.stop).repeat_interleave(self.per_class)
        decoded = decode(stored, self.factor)
        return decoded.contiguous(memory_format=torch.channels_last), labels


def initialise(
    init: str,
    split: Split,
    store: ImageStore,
    classes: int,
    ipc: int,
    factor: int,
    streams: Streams,
    embed: Embed,
    by_cell: bool,
) -> Tensor:
    """The first images [classes * ipc, C, H, W]: real ones, real ones spread evenly over the cells, or noise N(0, 1).

    `kmeans` takes the real ones nearest to the centres of as many clusters of embedded images: of each class, or
    `by_cell` of each cell, evenly. With a `factor` above 1 every tile is a real image of its own, made smaller.
    Raises UsageError for more images than a class has.
    """
    draw = INITS["balanced" if init == "kmeans" and by_cell else init]
    _, channels, height, width = store.shape
    if draw is None:
        return torch.randn(classes * ipc, channels, height, width, generator=streams.torch("init"))
    tiles = ipc * factor**2
    short = [label for label in range(classes) if not split.count[label].any()]
    if short:
        raise UsageError(f"class {short[0]} has no training images to start from")
    drawn = [draw(split, label, tiles, streams.numpy("init", label)) for label in range(classes)]
    if init == "kmeans":
        drawn = [
            (generator := streams.numpy("init/clusters", label)).permutation(
                representatives(split, part, by_cell, embed, generator)
            )
            for label, part in enumerate(drawn)
        ]
    return encode(store.take(np.concatenate(drawn)), factor)
