"""Colour-biased Fashion-MNIST: the background is coloured, the garment white."""

from fairdd_cli.datasets._colour import BIAS_RATIO, FETCH, GARMENTS, OPTIONS, coloured_source
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets.images.idx import FASHION

__all__ = ["BIAS_RATIO", "FETCH", "OPTIONS", "source"]


def source(request: Request) -> Source:
    """10 classes, 10 colours as groups, 3x32x32."""
    return coloured_source(request, FASHION, "fmnist-bg", GARMENTS)
