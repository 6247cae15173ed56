"""ConvNet, the network of the distillation literature (Zhao et al., Dataset Condensation, ICLR 2021)."""

from torch import Tensor, nn

from fairdd_cli.networks._base import ACTIVATIONS, NORMS, POOLINGS, Classifier, check_range, check_size, choose
from fairdd_cli.networks._fused import Tail


class Network(Classifier):
    """`depth` blocks of 3x3 convolution, normalisation, activation and 2x2 pooling, then one linear layer.

    320,010 parameters for 3x32x32 images and 10 classes; the embedding is the last block's output, flattened.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        width: int = 128,
        depth: int = 3,
        activation: str = "relu",
        norm: str = "instance",
        pooling: str = "average",
    ) -> None:
        super().__init__()
        check_range("convnet", "width", width, 4096)
        check_range("convnet", "depth", depth, 8)
        channels, height, side = shape
        pool = choose("pooling", pooling, POOLINGS)
        if pooling != "none":
            check_size("convnet", shape, depth)
            height, side = height >> depth, side >> depth
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1),
                Tail(
                    choose("normalisation", norm, NORMS)(width),
                    choose("activation", activation, ACTIVATIONS)(),
                    pool(),
                ),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * height * side, classes)

    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, width * H/2^depth * W/2^depth]: 2048 values for 32x32 images by default."""
        embedded: Tensor = self.features(images)
        return embedded.flatten(1)
