"""What networks are trained on: images that are taken by index."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.decodings import Codec, ShownInGroups


class TrainingImages(Protocol):
    """Images that are taken by index, normalised and on the device.

    Where an image has several `views`, index i * views + v is view v of image i, and an epoch has one of each image.
    """

    @property
    def views(self) -> int:
        """Views of each image."""
        ...

    def take(self, indices: np.ndarray) -> Tensor:
        """float32 [len(indices), C, H, W]."""
        ...


@dataclass(frozen=True)
class TensorImages:
    """Images that are a tensor on the device already."""

    tensor: Tensor
    views: int = 1

    def take(self, indices: np.ndarray) -> Tensor:
        """The images at `indices`."""
        return self.tensor[torch.from_numpy(indices).to(self.tensor.device, non_blocking=True)]


@dataclass(frozen=True)
class Subset:
    """Those of other `images` at `indices`, numbered from 0."""

    images: TrainingImages
    indices: np.ndarray  # int64 [n]
    views: int = 1

    def take(self, indices: np.ndarray) -> Tensor:
        """The images at `indices` of the subset."""
        return self.images.take(self.indices[indices])


def decoded_images(codec: Codec, stored: Tensor) -> TrainingImages:
    """What networks are trained on of `stored` images: decoded, with a view in every group where they have that."""
    bases = codec.bases(stored).contiguous(memory_format=torch.channels_last)
    return ShownInGroups(codec, bases) if codec.num_groups else TensorImages(bases)
