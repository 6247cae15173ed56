"""Frequency: images as their most varied coefficients of the cosine transform (FreD, NeurIPS 2023)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.decodings._base import DecodingBase, SampleOfCells, Shape, Tables
from fairdd_cli.errors import UsageError

PER_CELL = 64  # real images of each cell whose coefficients are compared: thousands in all


@dataclass(frozen=True)
class Decoding(DecodingBase):
    """A stored image is a `share` of the coefficients of the 2-D cosine transform; the others are zero.

    Kept are those whose variance over the real images is greatest, the same for all images. FreD chooses them for
    each class by explained variance; here every cell weighs the same, so that no group's texture is cut off.
    """

    share: float = 0.25

    title = "the coefficients of the cosine transform that vary most, so that more images fit"
    paper = "Shin et al., Frequency Domain-based Dataset Distillation, NeurIPS 2023"

    def check_options(self) -> None:
        """A share of the coefficients."""
        if not 0 < self.share <= 1:
            raise UsageError(f"decoding 'frequency': share={self.share:g} should be above 0 and at most 1")

    def fit(self, shape: Shape, count: np.ndarray, sample: SampleOfCells) -> Tables:
        """The `positions` int64 [K] of the coefficients to keep among all C * H * W of them."""
        total = square = torch.zeros(())
        cells = 0
        for _, _, images in sample(PER_CELL):
            coefficients = cosine_transform(images).flatten(1)
            total = total + coefficients.mean(dim=0)
            square = square + coefficients.square().mean(dim=0)
            cells += 1
        variance = square / cells - (total / cells).square()
        return {"positions": variance.topk(self.kept(shape)).indices.sort().values}

    def kept(self, shape: Shape) -> int:
        """How many coefficients of an image are stored."""
        return max(1, math.floor(self.share * math.prod(shape)))

    def table_forms(self, shape: Shape) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The positions."""
        return {"positions": (torch.int64, (self.kept(shape),))}

    def tables_are_sound(self, tables: Tables, shape: Shape) -> bool:
        """Positions rise and lie within an image."""
        positions = tables["positions"]
        return bool(positions[0] >= 0 and positions[-1] < int(np.prod(shape)) and (positions.diff() > 0).all())

    def stored_shape(self, shape: Shape) -> Shape:
        """A row of coefficients."""
        return 1, 1, self.kept(shape)

    def expand(self, stored: Tensor, shape: Shape, tables: Tables) -> Tensor:
        """The inverse transform of the coefficients."""
        coefficients = stored.new_zeros(len(stored), int(np.prod(shape)))
        coefficients = coefficients.index_copy(1, tables["positions"], stored.flatten(1))
        return inverse_cosine_transform(coefficients.reshape(len(stored), *shape))

    def compress(self, images: Tensor, tables: Tables) -> Tensor:
        """The kept coefficients; the transform is orthonormal, so these are nearest in squares."""
        return cosine_transform(images).flatten(1)[:, None, None, tables["positions"]]


def cosine_matrix(size: int, like: Tensor) -> Tensor:
    """The orthonormal DCT-II [size, size]: row k has the values of the k-th cosine."""
    points, rates = torch.arange(size, dtype=torch.float64) + 0.5, torch.arange(size, dtype=torch.float64)
    matrix = (math.pi / size * rates[:, None] * points).cos() * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(like.dtype).to(like.device)


def cosine_transform(images: Tensor) -> Tensor:
    """The coefficients [n, C, H, W] of `images` [n, C, H, W] in each channel."""
    return cosine_matrix(images.shape[2], images) @ images.contiguous() @ cosine_matrix(images.shape[3], images).T


def inverse_cosine_transform(coefficients: Tensor) -> Tensor:
    """The images [n, C, H, W] with these `coefficients`."""
    rows, cols = (cosine_matrix(size, coefficients) for size in coefficients.shape[2:])
    return rows.T @ coefficients @ cols
