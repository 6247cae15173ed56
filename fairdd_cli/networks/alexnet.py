"""AlexNet for small images, as in the distillation literature (Zhao & Bilen, Siamese Augmentation, ICML 2021).

The original is Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks (2012).
"""

import math

from torch import Tensor, nn

from fairdd_cli.networks._base import Classifier, check_size


class Network(Classifier):
    """Five convolutions of 128, 192, 256, 192 and 192 maps with ReLU, three 2x2 max poolings, one linear layer.

    1,872,202 parameters for 3x32x32 images and 10 classes. Poolings round up, so that 28 pixels leave 4 as 32 do.
    Raises UsageError for images under 8 pixels a side.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        check_size("alexnet", shape, 3)
        channels, height, side = shape
        self.features = nn.Sequential(
            nn.Conv2d(channels, 128, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(128, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(192, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 192, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(192, 192, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        )
        self.classifier = nn.Linear(192 * math.ceil(height / 8) * math.ceil(side / 8), classes)

    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, 192 * H/8 * W/8]: 3072 values for 32x32 images."""
        embedded: Tensor = self.features(images)
        return embedded.flatten(1)
