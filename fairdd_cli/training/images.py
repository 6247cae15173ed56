"""What networks are trained on: images that are taken by index."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class TrainingImages(Protocol):
    """Images that are taken by index, normalised and on the device."""

    def take(self, indices: np.ndarray) -> Tensor:
        """float32 [len(indices), C, H, W]."""
        ...


@dataclass(frozen=True)
class TensorImages:
    """Images that are a tensor on the device already."""

    tensor: Tensor

    def take(self, indices: np.ndarray) -> Tensor:
        """The images at `indices`."""
        return self.tensor[torch.from_numpy(indices).to(self.tensor.device, non_blocking=True)]


@dataclass(frozen=True)
class Subset:
    """Those of other `images` at `indices`, numbered from 0."""

    images: TrainingImages
    indices: np.ndarray  # int64 [n]

    def take(self, indices: np.ndarray) -> Tensor:
        """The images at `indices` of the subset."""
        return self.images.take(self.indices[indices])
