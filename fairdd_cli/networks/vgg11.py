"""VGG11 (Simonyan & Zisserman, 2015) for small images, normalised as in Dataset Condensation (ICLR 2021)."""

from torch import Tensor, nn

from fairdd_cli.networks._base import NORMS, Classifier, check_range, check_size, choose

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # the convolutions' maps, in units of `width`


class Network(Classifier):
    """Eight 3x3 convolutions of 64 to 512 maps, each normalised, with ReLU; five 2x2 max poolings; one linear layer.

    9,231,114 parameters for 3x32x32 images and 10 classes. Raises UsageError for images under 8 pixels a side and
    for unknown options.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, width: int = 64, norm: str = "instance") -> None:
        super().__init__()
        check_range("vgg11", "width", width, 1024)
        check_size("vgg11", shape, 3)
        normalise = choose("normalisation", norm, NORMS)
        channels, height, side = shape
        layers: list[nn.Module] = []
        for stage, factors in enumerate(STAGES, start=1):
            for factor in factors:
                layers += [nn.Conv2d(channels, factor * width, 3, padding=1), normalise(factor * width), nn.ReLU()]
                channels = factor * width
            # Nothing is left of a map of one pixel once it is normalised: small images skip poolings, except the
            # last one, and poolings round up, so that 28 pixels are halved as often as 32.
            if min(height, side) > 2 or stage == len(STAGES):
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                height, side = -(-height // 2), -(-side // 2)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels * height * side, classes)

    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, 8 * width * H/32 * W/32]: 512 values for 32x32 images by default."""
        embedded: Tensor = self.features(images)
        return embedded.flatten(1)
