"""Colour-biased MNIST: the digit is coloured, on black."""

from fairdd_cli.datasets._colour import BIAS_RATIO, DIGITS, FETCH, OPTIONS, coloured_source
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets.images.idx import MNIST

__all__ = ["BIAS_RATIO", "FETCH", "OPTIONS", "source"]


def source(request: Request) -> Source:
    """10 classes, 10 colours as groups, 3x32x32."""
    return coloured_source(request, MNIST, "mnist-fg", DIGITS)
