"""Group maps: bases that all groups share, and for each group a small map that shows a base in it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.decodings._base import DecodingBase, SampleOfCells, Shape, Tables
from fairdd_cli.errors import UsageError

SMALLEST = 1e-3  # of the largest singular value of a map: what a group shows so faintly is not in its images
PER_CELL = 256  # real images of a cell that its mean is taken of


@dataclass(frozen=True)
class Decoding(DecodingBase):
    """A stored image is a base of `channels` channels; group g shows a base b as A_g * b + c_g.

    A_g is a convolution with a window of `kernel` x `kernel` pixels and c_g an image of `offset` x `offset` pixels,
    enlarged bilinearly: with one pixel each, as they are by default, the map is one of colours.

    So every base is there in every group, and a training set in which each is shown in a group drawn anew is even
    over the groups by construction. It is a factorisation in the manner of HaBa (Liu et al., NeurIPS 2022), whose
    small transformations belong to the protected groups here; nothing of this kind is published.

    The maps are fitted to the mean images m_yg of the cells: of all maps of colours and mean bases b_y, those that
    minimise Σ_yg ‖m_yg - A_g b_y - c_g‖². That is a principal component analysis with a row for each pixel of each
    class and a column for each channel in each group. A class shows the same things in every group if only the
    protected attribute differs, so the maps are those that the attribute makes. With a channel less, more bases fit:
    one channel is enough where groups are colours of grey images. What this leaves of a group's mean images, mean over
    the classes, is what c_g begins with where it has more than one pixel.

    With `learn` above 0 the maps are learned with the bases: each number of a map moves `learn` times as far in a step
    as a pixel that had the mean of the gradients of all pixels that the number acts on.
    """

    channels: int = 3
    kernel: int = 1
    offset: int = 1
    learn: float = 0.0

    title = "bases shared by all groups, and a small map for each group"
    paper = "fairdd; the factorisation is HaBa's (Liu et al., NeurIPS 2022), its condition on the group is new"
    by_group = True

    def check_options(self) -> None:
        """At least one channel and one pixel, a window with a middle, and a rate."""
        for name, value in (("channels", self.channels), ("kernel", self.kernel), ("offset", self.offset)):
            if value < 1:
                raise UsageError(f"decoding 'group-maps': {name}={value} should be at least 1")
        if self.kernel % 2 == 0:
            raise UsageError(f"decoding 'group-maps': kernel={self.kernel} should be odd")
        if not 0 <= self.learn < math.inf:
            raise UsageError(f"decoding 'group-maps': learn={self.learn:g} should be 0 or more")

    def check_shape(self, shape: Shape, ipc: int) -> None:
        """A base has no more channels than an image, and windows and offsets are no larger."""
        side = min(shape[1:])
        limits = (("channels", self.channels, shape[0]), ("kernel", self.kernel, side), ("offset", self.offset, side))
        for name, value, limit in limits:
            if value > limit:
                raise UsageError(f"decoding 'group-maps': {name}={value} is more than the {limit} of the images")

    def fit(self, shape: Shape, count: np.ndarray, sample: SampleOfCells) -> Tables:
        """The `matrix` [groups, C, channels * kernel²] and the `offset` [groups, C * offset²] of each group's map.

        Bases have the deviation 1 in each channel over the mean images. A cell without images counts as the mean of
        the class's other cells.
        """
        channels, groups = shape[0], count.shape[1]
        means = torch.zeros(*count.shape, *shape)
        for label, group, images in sample(PER_CELL):
            means[label, group] = images.mean(dim=0).cpu()
        present = torch.from_numpy(count > 0)[:, :, None, None, None]
        of_class = means.sum(dim=1, keepdim=True) / present.sum(dim=1, keepdim=True).clamp(min=1)
        columns = torch.where(present, means, of_class).permute(0, 3, 4, 1, 2).reshape(-1, groups * channels).double()
        colour = columns.mean(dim=0)
        columns -= colour
        where, size, directions = (each[..., : self.channels] for each in _svd(columns))
        matrix = (directions * (size / np.sqrt(len(columns)))).reshape(groups, channels, self.channels)
        around = self.kernel // 2
        left = (columns - (where * size) @ directions.T).reshape(-1, *shape[1:], groups, channels).mean(dim=0)
        offset = F.adaptive_avg_pool2d(left.permute(2, 3, 0, 1), self.offset) + colour.reshape(groups, channels, 1, 1)
        return {
            "matrix": F.pad(matrix[..., None, None], (around,) * 4).flatten(2).float().contiguous(),
            "offset": offset.flatten(1).float().contiguous(),
        }

    def table_forms(self, shape: Shape) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The maps of as many groups as there are."""
        return {
            "matrix": (torch.float32, (-1, shape[0], self.channels * self.kernel**2)),
            "offset": (torch.float32, (-1, shape[0] * self.offset**2)),
        }

    def tables_are_sound(self, tables: Tables, shape: Shape) -> bool:
        """Finite maps of the same groups."""
        finite = all(bool(table.isfinite().all()) for table in tables.values())
        return finite and len(tables["matrix"]) == len(tables["offset"])

    def stored_shape(self, shape: Shape) -> Shape:
        """A base."""
        return self.channels, shape[1], shape[2]

    def expand(self, stored: Tensor, shape: Shape, tables: Tables) -> Tensor:
        """The bases themselves."""
        return stored

    def compress(self, images: Tensor, tables: Tables) -> Tensor:
        """The bases themselves."""
        return images

    def show(self, bases: Tensor, groups: Tensor, tables: Tables) -> Tensor:
        """A_g * b + c_g."""
        groups = groups.to(bases.device, non_blocking=True)
        windows = F.unfold(bases, self.kernel, padding=self.kernel // 2)  # [n, channels * kernel², H * W]
        found = (tables["matrix"][groups] @ windows).reshape(len(bases), -1, *bases.shape[2:])
        return found + self._offsets(groups, found, tables)

    def strip(self, images: Tensor, groups: Tensor, tables: Tables) -> Tensor:
        """The base that the group's map of colours brings nearest to the image: by the pseudo-inverse of its matrix."""
        groups = groups.to(images.device, non_blocking=True)
        middle = tables["matrix"][..., self.kernel**2 // 2 :: self.kernel**2]
        inverse = torch.linalg.pinv(middle, rtol=SMALLEST)[groups]
        return torch.einsum("nkc,nchw->nkhw", inverse, images - self._offsets(groups, images, tables))

    def _offsets(self, groups: Tensor, images: Tensor, tables: Tables) -> Tensor:
        """c_g for each of `groups`, as large as `images`."""
        offsets = tables["offset"][groups].reshape(len(groups), -1, self.offset, self.offset)
        return F.interpolate(offsets, images.shape[2:], mode="bilinear", align_corners=False)

    def learning_rates(self, shape: Shape, shown: float) -> Mapping[str, float]:
        """A number of the matrix acts on every pixel that is shown, one of the offset on those around it."""
        pixels = shown * shape[1] * shape[2]
        rates = {"matrix": self.learn / pixels, "offset": self.learn * self.offset**2 / pixels}
        return rates if self.learn else {}


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U, S, V) with U S Vᵀ the `matrix`."""
    left, size, right = torch.linalg.svd(matrix, full_matrices=False)
    return left, size, right.T
