"""Tiles: plain images, of which multi-formation makes several each."""

from dataclasses import dataclass

from torch import Tensor

from fairdd_cli.decodings._base import DecodingBase, Shape, Tables


@dataclass(frozen=True)
class Decoding(DecodingBase):
    """A stored image is an image; `--factor` cuts it into tiles that are enlarged (IDC, section 4)."""

    title = "images as they are, cut into factor x factor enlarged tiles"
    paper = "Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022"
    stores_pixels = True

    def stored_shape(self, shape: Shape) -> Shape:
        """That of an image."""
        return shape

    def expand(self, stored: Tensor, shape: Shape, tables: Tables) -> Tensor:
        """The stored images themselves."""
        return stored

    def compress(self, images: Tensor, tables: Tables) -> Tensor:
        """The images themselves."""
        return images
