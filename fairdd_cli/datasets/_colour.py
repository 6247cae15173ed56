"""Colour-biased MNIST and Fashion-MNIST (FairDD, NeurIPS 2025): class c is correlated with colour c."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fairdd_cli.datasets._groups import assign_biased_groups
from fairdd_cli.datasets._source import ALL_GROUPS, Request, Samples, Source
from fairdd_cli.datasets.images.idx import MNIST, GreyFamily, load_grey
from fairdd_cli.runtime import Streams

OPTIONS = frozenset({"root", "download", "embedded", "bias_ratio", "test_groups", "test_per_cell"})
BIAS_RATIO = 0.9
FETCH = "Give --download, or --root with the IDX files, plain or .gz."
COLOURS = {
    "red": (255, 0, 0),
    "orange": (255, 128, 0),
    "yellow": (255, 255, 0),
    "pale yellow": (255, 255, 128),
    "green": (0, 255, 0),
    "cyan": (0, 255, 255),
    "blue": (0, 0, 255),
    "violet": (128, 0, 255),
    "magenta": (255, 0, 255),
    "white": (255, 255, 255),
}
DIGITS = tuple(map(str, range(10)))
GARMENTS = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
SIDE, CORNER = 32, 4  # a 28x28 image fills rows and columns 4…31 of a black 32x32 square
BLOCK = 2048  # images coloured at a time


def foreground_palette(colour: np.ndarray) -> np.ndarray:
    """uint8 [256, colours, 3]: for each grey value, the `colour` [colours, 3] in proportion to it, on black."""
    grey = np.arange(256)[:, None, None]
    return np.asarray(grey * colour // 255, np.uint8)


def background_palette(colour: np.ndarray) -> np.ndarray:
    """uint8 [256, colours, 3]: the `colour` in proportion to 255 - grey, over a wrapped white.

    The published data were made in 8-bit arithmetic, where the white share 255 * grey wraps to -grey modulo 256
    and so does the sum; besides, full channels come out one lower for grey 65…127. Results are comparable with
    the published ones only on the same pixels, so both are kept.
    """
    grey = np.arange(256)[:, None, None]
    lower = (colour == 255) & (grey >= 65) & (grey <= 127)
    return np.asarray(((255 - grey) * colour // 255 - grey - lower) % 256, np.uint8)


def threshold_palette(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """uint8 [256, colours, 3]: `below` (both [colours, 3]) for grey values under 128 and `above` for the others."""
    grey = np.arange(256)[:, None, None]
    return np.where(grey < 128, below, above).astype(np.uint8)


_COLOUR = np.array(list(COLOURS.values()))
_BLACK = np.zeros_like(_COLOUR)
PALETTES = {
    "mnist-fg": threshold_palette(_BLACK, _COLOUR),
    "mnist-bg": threshold_palette(_COLOUR, _BLACK),
    "fmnist-fg": foreground_palette(_COLOUR),
    "fmnist-bg": background_palette(_COLOUR),
}


def colourise(grey: np.ndarray, colour: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """uint8 [N, 3, 32, 32] from `grey` [N, 28, 28] and the `colour` index [N] of each image."""
    square = np.zeros((len(grey), SIDE, SIDE), np.uint8)
    square[:, CORNER:, CORNER:] = grey
    images = np.empty((len(grey), 3, SIDE, SIDE), np.uint8)
    for channel in range(3):
        images[:, channel] = palette[square, colour[:, None, None], channel]
    return images


@dataclass(frozen=True)
class ColouredPixels:
    """Grey images that are coloured as they are asked for; sample i shows image i modulo their number."""

    grey: np.ndarray  # uint8 [M, 28, 28]
    colour: np.ndarray  # int64 [N]
    palette: np.ndarray  # uint8 [256, colours, 3]

    def blocks(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The images at `indices` as uint8 blocks [n, 3, 32, 32]."""
        for start in range(0, len(indices), BLOCK):
            block = indices[start : start + BLOCK]
            yield colourise(self.grey[block % len(self.grey)], self.colour[block], self.palette)


def coloured_source(request: Request, family: GreyFamily, palette: str, class_names: tuple[str, ...]) -> Source:
    """The source of a colour-biased set: training biased by the ratio asked for, test with equal cells.

    With the test groups "all", every test image is there in every colour.
    """
    bias_ratio = BIAS_RATIO if request.bias_ratio is None else request.bias_ratio
    grey = load_grey(family, request.root, request.download, request.embedded)
    streams, groups = Streams(request.seed), len(COLOURS)

    def split(name: str, ratio: float, every_group: bool) -> Samples:
        labels, source = grey[name].labels, None
        if every_group:
            protected = np.repeat(np.arange(groups), len(labels))
            source = np.tile(np.arange(len(labels)), groups)
            labels = labels[source]
        else:
            protected = assign_biased_groups(labels, range(groups), groups, ratio, streams.numpy(f"bias/{name}"))
        pixels = ColouredPixels(grey[name].images, protected, PALETTES[palette])
        return Samples(labels, protected, pixels, source=source)

    return Source(
        class_names=class_names,
        protected_names=tuple(COLOURS),
        shape=(3, SIDE, SIDE),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        train=split("train", bias_ratio, every_group=False),
        test=split("test", 1 / groups, every_group=request.test_groups == ALL_GROUPS),
        mirror_keeps_class=family is not MNIST,
        image_kind="grey",
        options={
            "bias_ratio": bias_ratio,
            "embedded": request.embedded,
            **({"test_groups": ALL_GROUPS} if request.test_groups == ALL_GROUPS else {}),
        },
    )
