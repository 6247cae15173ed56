"""The synthetic images while they are optimised: their decoding into training images, their optimiser, their state."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.runtime import ImageStore, Processes, all_reduce_gradients


def decode(images: Tensor, factor: int) -> Tensor:
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


def encode(images: Tensor, factor: int) -> Tensor:
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


class SyntheticImages:
    """The images [classes * ipc, C, H, W] in normalised units, class after class, as a leaf that takes gradients.

    `store` holds the real images, whose range of values they share; `processes` optimise them together.
    """

    def __init__(
        self, images: Tensor, classes: int, ipc: int, factor: int, store: ImageStore, processes: Processes
    ) -> None:
        self.images = images.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        self.classes, self.ipc, self.factor = classes, ipc, factor
        self.labels = torch.arange(classes).repeat_interleave(ipc)
        self.optimizer = torch.optim.SGD([self.images], lr=1.0)  # a method sets its learning rate and momentum
        self._store, self._processes = store, processes
        self._gradient_scale: Tensor | None = None

    @property
    def per_class(self) -> int:
        """Training images of a class."""
        return self.ipc * self.factor**2

    def training_images(self, classes: slice) -> tuple[Tensor, Tensor]:
        """The training images of consecutive `classes`, on the device, and their labels, on the host."""
        stored = self.images[classes.start * self.ipc : classes.stop * self.ipc]
        labels = torch.arange(classes.start, classes.stop).repeat_interleave(self.per_class)
        decoded = decode(stored, self.factor)
        return decoded.contiguous(memory_format=torch.channels_last), labels

    def configure_optimizer(self, learning_rate: float, momentum: float, unit_pixels: bool = False) -> None:
        """SGD with `momentum`; with `unit_pixels` its `learning_rate` is that of pixels in [0, 1], not normalised."""
        for group in self.optimizer.param_groups:
            group["lr"], group["momentum"] = learning_rate, momentum
        self._gradient_scale = self._store.inv_std_squared if unit_pixels else None

    def accumulate_gradient(self, gradient: Tensor) -> None:
        """Adds `gradient` to that of the images."""
        self.images.grad = gradient if self.images.grad is None else self.images.grad + gradient

    def optimizer_step(self, lr_factor: float = 1.0) -> None:
        """Moves the images along the gradient that all ranks accumulated since the last step.

        `lr_factor` multiplies the learning rate of this step.
        """
        all_reduce_gradients(self._processes, [self.images])
        if self._gradient_scale is not None and self.images.grad is not None:
            self.images.grad *= self._gradient_scale
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * lr_factor
        self.optimizer.step()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)

    def clamp(self) -> None:
        """Moves what has left the range between black and white back to its limits."""
        with torch.no_grad():
            self.images.clamp_(self._store.low, self._store.high)

    def snapshot(self) -> dict[str, Tensor]:
        """Copies of the images and of their momentum, where there is any."""
        live = {"images": self.images}
        momentum = self.optimizer.state[self.images].get("momentum_buffer")
        if momentum is not None:
            live["momentum"] = momentum
        return {name: tensor.detach().clone() for name, tensor in live.items()}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Goes back to a `snapshot`."""
        with torch.no_grad():
            self.images.copy_(snapshot["images"])
        self.images.grad = None
        self.optimizer.state.clear()
        if "momentum" in snapshot:
            momentum = snapshot["momentum"].to(self.images.device, copy=True)
            self.optimizer.state[self.images]["momentum_buffer"] = momentum
