"""From stored images to training images and back: a decoding with its tables, and multi-formation."""

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.artifacts import SyntheticSet
from fairdd_cli.decodings._base import DecodingBase, Shape, Tables
from fairdd_cli.errors import UsageError
from fairdd_cli.registry import DECODINGS, Specification, parse_options


@dataclass(frozen=True)
class Codec:
    """A decoding with its tables, multi-formation included: from stored images to training images and back."""

    decoding: DecodingBase
    shape: Shape
    factor: int
    tables: Tables

    def bases(self, stored: Tensor) -> Tensor:
        """The images [n * factor², C', H, W] in `stored` ones [n, …]: training images, or bases to show in a group."""
        return cut_tiles(self.decoding.expand(stored, self.shape, self.tables), self.factor)

    def show(self, bases: Tensor, groups: Tensor | None) -> Tensor:
        """The training images [n, C, H, W] that `bases` are, or are in `groups` int64 [n]."""
        return bases if groups is None else self.decoding.show(bases, groups, self.tables)

    def encode(self, images: Tensor, groups: Tensor) -> Tensor:
        """Stored images whose training images are nearest to `images` [n * factor², C, H, W] of `groups` int64."""
        bases = self.decoding.strip(images, groups, self.tables)
        return self.decoding.compress(join_tiles(bases, self.factor), self.tables)

    @property
    def stored_shape(self) -> Shape:
        """The shape of a stored image."""
        return self.decoding.stored_shape(self.shape)

    @property
    def num_groups(self) -> int:
        """Groups that every stored image can be shown in; 0 where it is always shown as it is."""
        return len(next(iter(self.tables.values()))) if self.decoding.by_group else 0


@dataclass(frozen=True)
class ShownInGroups:
    """Training images: `bases` [N, C', H, W], each with a view in every group."""

    codec: Codec
    bases: Tensor

    @property
    def views(self) -> int:
        """One for each group."""
        return self.codec.num_groups

    def take(self, indices: np.ndarray) -> Tensor:
        """The images float32 [n, C, H, W] at `indices`: index i * views + g is base i in group g."""
        base, group = (torch.from_numpy(each) for each in np.divmod(indices, self.views))
        return self.codec.show(self.bases[base.to(self.bases.device, non_blocking=True)], group)


def parse_decoding(text: str) -> Specification:
    """The specification in `text`: NAME or NAME:key=value; raises UsageError, which names what is unknown in it."""
    name, _, rest = text.partition(":")
    defaults = {field.name: field.default for field in fields(DECODINGS.load(name).Decoding)}
    name = DECODINGS.canonical(name)
    return Specification(name, parse_options("decoding", name, rest, defaults))


def load_decoding(specification: Specification) -> DecodingBase:
    """The decoding that `specification` names; raises UsageError for options out of range."""
    decoding: DecodingBase = DECODINGS.load(specification.name).Decoding(**specification.options)
    decoding.check_options()
    return decoding


def stored_codec(synthetic: SyntheticSet, device: torch.device | None = None) -> Codec:
    """The codec of a synthetic set that was read; raises UsageError where its tables don't fit its decoding."""
    decoding = load_decoding(parse_decoding(synthetic.decoding))
    tables = {name: torch.from_numpy(table).to(device) for name, table in synthetic.tables.items()}
    forms = decoding.table_forms(synthetic.shape)
    sound = tables.keys() == forms.keys() and all(
        tables[name].dtype == dtype
        and len(sizes) == tables[name].dim()
        and all(
            found > 0 and expected in (-1, found) for expected, found in zip(sizes, tables[name].shape, strict=True)
        )
        for name, (dtype, sizes) in forms.items()
    )
    codec = Codec(decoding, synthetic.shape, synthetic.factor, tables)
    if (
        not sound
        or not decoding.tables_are_sound(tables, synthetic.shape)
        or codec.stored_shape != synthetic.images.shape[1:]
    ):
        raise UsageError(
            f"'{synthetic.path}' is not a sound synthetic set: its tables are not those of '{synthetic.decoding}'"
        )
    return codec


def cut_tiles(images: Tensor, factor: int) -> Tensor:
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


def join_tiles(images: Tensor, factor: int) -> Tensor:
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
