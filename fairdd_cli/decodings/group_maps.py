"""Group maps: bases that all groups share, and for each group a small map that shows a base in it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.decodings._base import DecodingBase, SampleOfCells, Shape, Tables
from fairdd_cli.errors import UsageError

SMALLEST = 1e-3  # of the largest singular value of a map: what a group shows so faintly is not in its images
PER_CELL = 256  # real images of a cell that its mean is taken of


@dataclass(frozen=True)
class Decoding(DecodingBase):
    """A stored image is a base of `channels` channels; group g shows a base b as A_g b + c_g, pixel by pixel.

    So every base is there in every group, and a training set in which each is shown in a group drawn anew is even
    over the groups by construction. It is a factorisation in the manner of HaBa (Liu et al., NeurIPS 2022), whose
    small transformations belong to the protected groups here; nothing of this kind is published.

    The maps are fitted to the mean images m_yg of the cells: of all maps and mean bases b_y, those that minimise
    Σ_yg ‖m_yg - A_g b_y - c_g‖². That is a principal component analysis with a row for each pixel of each class and
    a column for each channel in each group. A class shows the same things in every group if only the protected
    attribute differs, so the maps are those that the attribute makes. With a channel less, more bases fit:
    one channel is enough where groups are colours of grey images.
    """

    channels: int = 3

    title = "bases shared by all groups, and a small colour map for each group"
    paper = "fairdd; the factorisation is HaBa's (Liu et al., NeurIPS 2022), its condition on the group is new"
    by_group = True

    def check_options(self) -> None:
        """At least one channel."""
        if self.channels < 1:
            raise UsageError(f"decoding 'group-maps': channels={self.channels} should be at least 1")

    def check_shape(self, shape: Shape, ipc: int) -> None:
        """A base has no more channels than an image."""
        if self.channels > shape[0]:
            raise UsageError(
                f"decoding 'group-maps': channels={self.channels} is more than the {shape[0]} of the images"
            )

    def fit(self, shape: Shape, count: np.ndarray, sample: SampleOfCells) -> Tables:
        """The `matrix` [groups, C, channels] and the `offset` [groups, C] of each group's map.

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
        offset = columns.mean(dim=0)
        _, size, directions = torch.linalg.svd(columns - offset, full_matrices=False)
        scaled = directions[: self.channels] * (size[: self.channels, None] / np.sqrt(len(columns)))
        return {
            "matrix": scaled.reshape(self.channels, groups, channels).permute(1, 2, 0).float().contiguous(),
            "offset": offset.reshape(groups, channels).float(),
        }

    def table_forms(self, shape: Shape) -> Mapping[str, tuple[torch.dtype, tuple[int, ...]]]:
        """The maps of as many groups as there are."""
        return {
            "matrix": (torch.float32, (-1, shape[0], self.channels)),
            "offset": (torch.float32, (-1, shape[0])),
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
        """A_g b + c_g."""
        groups = groups.to(bases.device, non_blocking=True)
        matrix, offset = tables["matrix"][groups], tables["offset"][groups]
        return torch.einsum("nck,nkhw->nchw", matrix, bases) + offset[:, :, None, None]

    def strip(self, images: Tensor, groups: Tensor, tables: Tables) -> Tensor:
        """The base that the group's map brings nearest to the image: by the pseudo-inverse of its matrix."""
        groups = groups.to(images.device, non_blocking=True)
        inverse = torch.linalg.pinv(tables["matrix"], rtol=SMALLEST)[groups]
        return torch.einsum("nkc,nchw->nkhw", inverse, images - tables["offset"][groups][:, :, None, None])
