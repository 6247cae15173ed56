"""ResNet18 (He et al., Deep Residual Learning, CVPR 2016) in its form for small images.

As in Dataset Condensation (ICLR 2021) the stem is one 3x3 convolution without pooling, and normalisation is by
instance unless `norm=batch` says otherwise.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fairdd_cli.networks._base import NORMS, Classifier, check_range, check_size, choose

Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    """Two normalised 3x3 convolutions beside a shortcut: [N, `channels`, H, W] to [N, `width`, H/stride, W/stride]."""

    def __init__(self, channels: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            # Strided 1x1 convolutions crash when differentiated twice on a CPU in channels-last order (PyTorch 2.15):
            # the pooling of single pixels takes the stride, to the same result.
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(1, stride), nn.Conv2d(channels, width, 1, bias=False), norm(width)
            )

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.residual(maps) + self.shortcut(maps))


class Network(Classifier):
    """A stem and four stages of two residual blocks, `width` maps in the first, doubled in each that follows.

    11,173,962 parameters for 3x32x32 images and 10 classes. Raises UsageError for images under 8 pixels a side and
    for unknown options.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, width: int = 64, norm: str = "instance") -> None:
        super().__init__()
        check_range("resnet18", "width", width, 1024)
        check_size("resnet18", shape, 3)
        normalise = choose("normalisation", norm, NORMS)
        channels, *sides = shape
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False), normalise(width), nn.ReLU()]
        channels, smallest = width, min(sides)
        for stage in range(4):
            # Nothing is left of a map of one pixel once it is normalised: 8-pixel images are halved once less.
            stride = 2 if stage > 0 and smallest > 2 else 1
            smallest = -(-smallest // stride)
            layers.append(Block(channels, width << stage, stride, normalise))
            channels = width << stage
            layers.append(Block(channels, channels, 1, normalise))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, 8 * width], 512 values by default: the mean over the pixels of the last block's output."""
        embedded: Tensor = self.features(images)
        return embedded.mean((2, 3))
