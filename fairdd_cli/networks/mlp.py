"""MLP, the perceptron of the distillation literature (Zhao et al., Dataset Condensation, ICLR 2021)."""

from torch import Tensor, nn

from fairdd_cli.networks._base import Classifier, check_range


class Network(Classifier):
    """Three linear layers, `width` units in each of the two hidden ones, with ReLU between; images of any size.

    411,146 parameters for 3x32x32 images and 10 classes. Raises UsageError for a width outside 1…4096.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, *, width: int = 128) -> None:
        super().__init__()
        check_range("mlp", "width", width, 4096)
        channels, height, side = shape
        self.features = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * side, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(width, classes)

    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, width], the output of the second hidden layer."""
        embedded: Tensor = self.features(images)
        return embedded
