"""A small vision transformer (Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021).

It averages its tokens and has fixed sine-cosine positions (Beyer et al., Better Plain ViT Baselines, 2022): no
weight then stands outside the linear and convolution layers, and one definition serves every image size.
"""

import math

import torch
from torch import Tensor, nn

from fairdd_cli.errors import UsageError
from fairdd_cli.networks._base import Classifier, check_range

HEADS = 4


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Sine-cosine codes [rows * columns, width] of the places of a grid, in row order; width a multiple of 4."""
    frequencies = 10_000 ** -(torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (y, x)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


class Attention(nn.Module):
    """Multi-head self-attention over tokens [N, T, `width`].

    It is written out because gradient matching differentiates twice, which fused kernels don't allow.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        split = self.qkv(tokens).unflatten(2, (3, HEADS, -1))  # [N, T, 3, heads, D]
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        attended: Tensor = self.project((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        return attended


class Block(nn.Module):
    """Attention, then a perceptron four times as wide, each on normalised tokens [N, T, `width`] and added to them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(width), Attention(width))
        self.perceive = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        attended: Tensor = tokens + self.attend(tokens)
        perceived: Tensor = attended + self.perceive(attended)
        return perceived


class Network(Classifier):
    """`depth` transformer blocks of 4 heads over patches of an eighth of the longer side: at most 64 tokens.

    404,362 parameters for 3x32x32 images and 10 classes. Images of any size: zeros fill the last row and column of
    patches. Raises UsageError for a depth outside 1…8 and for a width that 4 doesn't divide.
    """

    codes: Tensor

    def __init__(self, shape: tuple[int, int, int], classes: int, *, depth: int = 2, width: int = 128) -> None:
        super().__init__()
        check_range("vit", "depth", depth, 8)
        check_range("vit", "width", width, 4096)
        if width % HEADS:
            raise UsageError(f"network 'vit' needs a width that its {HEADS} heads divide; found width={width}")
        channels, height, side = shape
        patch = math.ceil(max(height, side) / 8)
        rows, columns = math.ceil(height / patch), math.ceil(side / patch)
        self.patches = nn.Sequential(
            nn.ZeroPad2d((0, columns * patch - side, 0, rows * patch - height)),
            nn.Conv2d(channels, width, patch, patch),
        )
        self.register_buffer("codes", positions(rows, columns, width), persistent=False)
        self.features = nn.Sequential(*(Block(width) for _ in range(depth)), nn.LayerNorm(width))
        self.classifier = nn.Linear(width, classes)

    def embed(self, images: Tensor) -> Tensor:
        """The embedding [N, width], the mean of the last block's normalised tokens."""
        tokens: Tensor = self.patches(images).flatten(2).transpose(1, 2)
        embedded: Tensor = self.features(tokens + self.codes)
        return embedded.mean(1)
