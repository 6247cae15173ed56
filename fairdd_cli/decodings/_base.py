"""What a decoding must say of itself, and multi-formation, which goes with every one of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

Tables = Mapping[str, Tensor]  # what all stored images share, by name; every number of it counts as stored
Shape = tuple[int, int, int]  # (C, H, W)
# Called with a number: for each cell that has images, in order, its label, its group and at most so many of its real
# images, float32 [n, C, H, W] in normalised units, drawn at random.
SampleOfCells = Callable[[int], Iterator[tuple[int, int, Tensor]]]


@dataclass(frozen=True)
class DecodingBase(ABC):
    """A way to store training images: more of them than there is room for, made from fewer numbers each.

    Its fields are the options of its specification. Images are in normalised units.
    """

    title: ClassVar[str] = ""  # what it does, in a line
    paper: ClassVar[str] = ""
    by_group: ClassVar[bool] = False  # whether every stored image can be shown in every group
    stores_pixels: ClassVar[bool] = False  # whether what is stored has the values of pixels, so that it has limits

    def check_options(self) -> None:
        """Raises UsageError for options out of range."""
        return

    def check_shape(self, shape: Shape, ipc: int) -> None:
        """Raises UsageError where images of `shape` or so few of them cannot be stored so."""
        return

    def fit(self, shape: Shape, count: np.ndarray, sample: SampleOfCells) -> Tables:
        """The tables for real images of `shape`, of which each cell has as many as `count` [classes, groups] says."""
        return {}

    def table_forms(self, shape: Shape) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The dtype and the shape of each table for images of `shape`; -1 stands for any size above 0."""
        return {}

    def tables_are_sound(self, tables: Tables, shape: Shape) -> bool:
        """Whether the values of `tables` of the right forms can be used."""
        return True

    @abstractmethod
    def stored_shape(self, shape: Shape) -> Shape:
        """What a stored image of `shape` (C, H, W) looks like, without multi-formation."""

    @abstractmethod
    def expand(self, stored: Tensor, shape: Shape, tables: Tables) -> Tensor:
        """Images [n, C', H, W] of `stored` ones [n, …]; C' are those of `shape`, or bases that a group colours."""

    @abstractmethod
    def compress(self, images: Tensor, tables: Tables) -> Tensor:
        """The stored form [n, …] of images [n, C', H, W]: the nearest in squares."""

    def show(self, bases: Tensor, groups: Tensor, tables: Tables) -> Tensor:
        """The `bases` [n, C', H, W] in the `groups` int64 [n], where the decoding is `by_group`."""
        return bases

    def strip(self, images: Tensor, groups: Tensor, tables: Tables) -> Tensor:
        """The bases [n, C', H, W] nearest to `images` of `groups` int64 [n], where the decoding is `by_group`."""
        return images

    def learning_rates(self, shape: Shape, shown: float) -> Mapping[str, float]:
        """How fast each table is learned, in learning rates of the pixels, where a step shows `shown` images a group.

        Tables that are not named stay as they were fitted.
        """
        return {}

    def per_class(self, ipc: int, shape: Shape) -> int:
        """Stored images of a class in the room of `ipc` plain ones."""
        return max(1, ipc * int(np.prod(shape)) // int(np.prod(self.stored_shape(shape))))
