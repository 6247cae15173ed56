"""ConvNet, the network of the distillation literature (Zhao et al., Dataset Condensation, ICLR 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fairdd_cli.networks._base import (
    ACTIVATIONS,
    NORMS,
    POOLINGS,
    Classifier,
    check_range,
    check_size,
    choose,
    has_batch_norm,
)
from fairdd_cli.networks._blocks import NormActPool


class ConvBlocks(nn.Sequential):
    """Convolutions and their tails in turn.

    Where nothing is kept for a backward pass, a pair takes so few images at a time that its convolution puts out at
    most `most_values` for them, and its tail finds these in the cache. Later blocks have smaller maps and take more
    images.
    """

    def __init__(self, pairs: Sequence[tuple[nn.Conv2d, NormActPool]]) -> None:
        super().__init__(*(layer for pair in pairs for layer in pair))
        self._pairs = pairs
        self.most_values = 0  # no limit

    def forward(self, images: Tensor) -> Tensor:
        """The last block's output [N, width, H/2^depth, W/2^depth] where they pool."""
        for convolution, tail in self._pairs:
            count = 1
            if self.most_values and not torch.is_grad_enabled() and not has_batch_norm(tail):
                of_image = convolution.out_channels * images.shape[2] * images.shape[3]
                count = -(-len(images) // max(1, self.most_values // of_image))
            # In even parts: one image left over would be a case of its own for the compiler.
            found = [tail(convolution(part)) for part in images.tensor_split(max(1, count))]
            images = torch.cat(found) if len(found) > 1 else found[0]
        return images


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
        pairs = []
        for _ in range(depth):
            tail = NormActPool(
                choose("normalisation", norm, NORMS)(width),
                choose("activation", activation, ACTIVATIONS)(),
                pool(),
            )
            pairs.append((nn.Conv2d(channels, width, 3, padding=1), tail))
            channels = width
        self.features = ConvBlocks(pairs)
        self.classifier = nn.Linear(width * height * side, classes)

    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, width * H/2^depth * W/2^depth]: 2048 values for 32x32 images by default."""
        embedded: Tensor = self.features(images)
        return embedded.flatten(1)
