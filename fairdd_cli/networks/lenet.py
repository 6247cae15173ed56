"""LeNet-5 (LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998), with ReLU."""

from torch import Tensor, nn

from fairdd_cli.networks._base import Classifier


class Network(Classifier):
    """Two 5x5 convolutions of 6 and 16 maps, each with ReLU and 2x2 max pooling, then layers of 120 and 84 units.

    62,006 parameters for 3x32x32 images and 10 classes. Images of any size: those under 32 pixels a side stand
    in the middle of a 32-pixel square of zeros, as the paper's 28-pixel digits do.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, *sides = shape
        top, left = (max(0, 32 - side) // 2 for side in sides)
        bottom, right = (max(0, 32 - side) - before for side, before in zip(sides, (top, left), strict=True))
        rows, columns = ((max(32, side) - 4) // 2 for side in sides)
        rows, columns = (rows - 4) // 2, (columns - 4) // 2
        self.features = nn.Sequential(
            nn.ZeroPad2d((left, right, top, bottom)),
            nn.Conv2d(channels, 6, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * rows * columns, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(84, classes)

    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, 84], the output of the last hidden layer."""
        embedded: Tensor = self.features(images)
        return embedded
