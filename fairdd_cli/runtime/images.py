"""The images of a split on the device, in memory or on disk, normalised when they are taken."""

import numpy as np
import torch

from fairdd_cli.artifacts import Images
from fairdd_cli.errors import unknown
from fairdd_cli.runtime.device import Runtime
from fairdd_cli.runtime.memory import available_memory

RESIDENCIES = ("auto", "device", "memory", "disk")


class ImageStore:
    """The uint8 images of a split, kept on the device, in memory or on disk, and normalised as they are taken.

    `inv_std_squared` [C, 1, 1] is 1 / std²: the factor between squared distances of normalised pixels and of pixels in
    [0, 1]. `low` and `high` [C, 1, 1] are black and white in normalised units.
    """

    def __init__(
        self,
        images: Images,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        runtime: Runtime,
        residency: str = "auto",
    ) -> None:
        if residency not in RESIDENCIES:
            raise unknown("residency", residency, RESIDENCIES)
        self.shape, self.views = images.shape, 1
        self._runtime = runtime
        self.residency = _choose_residency(int(np.prod(images.shape)), runtime) if residency == "auto" else residency
        self._images: Images | torch.Tensor = images
        if self.residency == "device":
            self._images = runtime.to_device(torch.from_numpy(images.all()))
        elif self.residency == "memory":
            self._images = torch.from_numpy(images.all())
        # (x / 255 - mean) / std in one multiplication and one addition
        scale = 1 / (255 * np.array(std, np.float64))
        shift = -np.array(mean, np.float64) / np.array(std, np.float64)
        self._scale = runtime.to_device(torch.tensor(scale, dtype=torch.float32)[:, None, None])
        self.inv_std_squared = (255 * self._scale).square()
        self._shift = runtime.to_device(torch.tensor(shift, dtype=torch.float32)[:, None, None])
        self.low, self.high = self._shift, 255 * self._scale + self._shift

    def take(self, indices: np.ndarray) -> torch.Tensor:
        """The images at `indices`, float32 [len(indices), C, H, W] in normalised units, on the device."""
        if isinstance(self._images, torch.Tensor):
            where = torch.from_numpy(indices)
            raw = self._images[where.to(self._images.device, non_blocking=True)]
        else:
            raw = torch.from_numpy(self._images.take(indices))
        images = self._runtime.to_device(raw).to(torch.float32) * self._scale + self._shift
        return images.to(memory_format=torch.channels_last)


def _choose_residency(size: int, runtime: Runtime) -> str:
    """Where `size` bytes of images fit with room to spare: on the device, in memory, or only on disk."""
    if runtime.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(runtime.device)
        if size < free // 2:
            return "device"
    return "memory" if size < available_memory() // 3 else "disk"
