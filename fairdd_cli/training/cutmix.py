"""CutMix (Yun et al., ICCV 2019)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class CutMix:
    """The `box` of each image of a batch is taken from its `partner`.

    The image's own label has the weight `own_weight` (the paper's lambda), the share of the image outside the box; the
    partner's label has the rest.
    """

    partner: Tensor  # int64 [B]
    box: tuple[slice, slice]
    own_weight: float

    def images(self, images: Tensor) -> Tensor:
        """The mixed images [B, C, H, W]."""
        rows, cols = self.box
        mixed = images.clone()
        mixed[:, :, rows, cols] = images[self.partner.to(images.device, non_blocking=True), :, rows, cols]
        return mixed


def sample_cutmix(
    probability: float, batch: int, size: tuple[int, int], generator: np.random.Generator
) -> CutMix | None:
    """With `probability` a mix of `batch` images of `size` (H, W); the box's share and centre are uniform."""
    if generator.random() >= probability:
        return None
    sides = np.sqrt(generator.random()) * np.array(size)
    centre = generator.random(2) * np.array(size)
    low, high = (np.clip(centre + step * sides / 2, 0, size).astype(int) for step in (-1, 1))
    own_weight = 1 - float(np.prod(high - low)) / (size[0] * size[1])
    partner = torch.from_numpy(generator.permutation(batch))
    return CutMix(partner, (slice(low[0], high[0]), slice(low[1], high[1])), own_weight)
