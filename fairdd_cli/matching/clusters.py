"""Clusters of embedded images, by k-means."""

import numpy as np
import torch
from torch import Tensor

ROUNDS = 10  # of Lloyd's algorithm; the centres hardly move after them


def kmeans(points: Tensor, clusters: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm: the centres [clusters, D] of `points` [n, D], and the squared distances [n, clusters] to them.

    The first centres are points drawn without replacement; `clusters` must not exceed n.
    """
    first = torch.from_numpy(generator.choice(len(points), clusters, replace=False, shuffle=False))
    centres = points[first.to(points.device, non_blocking=True)]
    for _ in range(ROUNDS):
        nearest = squared_distances(points, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add(0, nearest, points)
        count = torch.bincount(nearest, minlength=clusters)[:, None]
        centres = torch.where(count > 0, sums / count.clamp(min=1), centres)
    return centres, squared_distances(points, centres)


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """[n, clusters] between `points` [n, D] and `centres` [clusters, D]."""
    return points.square().sum(1, keepdim=True) - 2 * points @ centres.mT + centres.square().sum(1)
