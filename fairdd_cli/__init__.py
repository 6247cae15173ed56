"""Distil a biased image data set into a few synthetic images per class that train accurate, fair models."""

import os
from typing import TYPE_CHECKING

from fairdd_cli.registry import Display, register_display
from fairdd_cli.system import __version__

if TYPE_CHECKING:
    from fairdd_cli.loading import LabelledImages, Loadable

__all__ = ["__version__", "load"]


def load(source: "str | os.PathLike[str] | Loadable", split: str = "train") -> "LabelledImages":
    """The images of a fairdd file as a `torch.utils.data.Dataset`, in the manner of torchvision.

    `source`, a path or what a verb returned, is a synthetic set, whose training images are decoded, or a data set, of
    which `split` chooses "train", "val" or "test". Entry i is (float32 tensor [C, H, W] in normalised units, int
    label); `classes`, `mean`, `std`, `images` [N, C, H, W] and `labels` [N] describe them all. Raises
    `fairdd_cli.errors.UsageError` for a file that is unsound or of another kind, and for an unknown split.
    """
    from fairdd_cli.loading import load as read  # noqa: PLC0415  # torch is slow to import, and help needs none of it

    return read(os.fspath(source) if isinstance(source, os.PathLike) else source, split)


def _load_display() -> Display:
    from fairdd_cli.reporting import display  # noqa: PLC0415  # only who looks at an artifact needs it

    return display


register_display(_load_display)
