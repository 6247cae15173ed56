"""Corruptions of small images by severity: each level does what the levels below it do, and more.

Source: Moslemi et al., Fair Dataset Distillation via Cross-Group Barycenter Alignment (COBRA, ICML 2026), whose public
code makes the groups of CIFAR10-S differ by as much as a severity says.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SEVERITIES = range(6)
RED, GREEN = (255, 0, 0), (0, 255, 0)
PATCH = slice(2, 7)  # rows and columns of the red square


def corrupt(images: np.ndarray, severity: int, generators: Sequence[np.random.Generator]) -> np.ndarray:
    """`images` uint8 [N, 3, S, S], corrupted; image i draws its noise from generator i.

    1: red, green and blue become green, blue and red. 2: a red line from corner to corner. 3: a red square in a corner.
    4: Gaussian noise (mean 2.5, deviation 50 grey levels), and a green line from corner to corner. 5: turned clockwise
    by 90°, inverted, and Gaussian noise (mean 2, deviation 20). 0 changes nothing.
    """
    side = images.shape[2]
    images = images.copy()
    if severity >= 1:
        images = images[:, [1, 2, 0]]
    if severity >= 2:
        _paint(images, _line(side, (0, 0, side, side), width=2), RED)
    if severity >= 3:
        images[:, :, PATCH, PATCH] = np.array(RED, np.uint8)[:, None, None]
    if severity >= 4:
        images = _with_noise(images, 2.5, 50, generators)
        _paint(images, _line(side, (0, side, side, 0), width=3), GREEN)
    if severity >= 5:
        images = 255 - np.rot90(images, k=-1, axes=(2, 3))
        images = _with_noise(images, 2, 20, generators)
    return images


def _line(side: int, ends: tuple[int, int, int, int], width: int) -> np.ndarray:
    """Which pixels of a square image a line covers, bool [side, side]."""
    square = Image.new("L", (side, side))
    ImageDraw.Draw(square).line(ends, fill=255, width=width)
    return np.asarray(square) > 0


def _paint(images: np.ndarray, where: np.ndarray, colour: tuple[int, int, int]) -> None:
    for channel, level in enumerate(colour):
        images[:, channel, where] = level


def _with_noise(
    images: np.ndarray, mean: float, deviation: float, generators: Sequence[np.random.Generator]
) -> np.ndarray:
    height_width_channels = (*images.shape[2:], images.shape[1])
    noise = [generator.normal(mean, deviation, height_width_channels).astype(np.int16) for generator in generators]
    return np.clip(images + np.stack(noise).transpose(0, 3, 1, 2), 0, 255).astype(np.uint8)
