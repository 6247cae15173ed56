"""Clusters of embedded images: which images stand for a cell best, and groups where none were labelled."""

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Split
from fairdd_cli.fairness._base import Embed

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


def representatives(
    split: Split, drawn: np.ndarray, by_cell: bool, embed: Embed, generator: np.random.Generator, pool: int = 0
) -> np.ndarray:
    """As many images as were `drawn` of one class, from the same cells, but the ones that stand for them best.

    The images of each cell (of the whole class, without `by_cell`) are clustered, with as many clusters as images
    were drawn of it, and the image nearest to each centre is taken: DREAM (Liu et al., ICCV 2023). A cell smaller
    than that is taken whole, repeatedly. With a `pool` at most so many images of it, drawn at random, are
    clustered. Returns int64 [len(drawn)], sorted.
    """
    label = int(split.labels[drawn[0]])
    count = split.count[label] if by_cell else split.count[label].sum(keepdims=True)
    start = split.start[label]
    asked = np.bincount(split.protected[drawn], minlength=len(count)) if by_cell else np.array([len(drawn)])
    chosen = []
    for cell in np.flatnonzero(asked):
        members = start[cell] + np.arange(count[cell])
        if pool and len(members) > max(pool, asked[cell]):
            members = generator.choice(members, max(pool, int(asked[cell])), replace=False, shuffle=False)
        if asked[cell] < len(members):
            _, distance = kmeans(embed(members), int(asked[cell]), generator)
            members = members[distance.argmin(dim=0).cpu().numpy()]
        chosen.append(np.resize(members, asked[cell]))
    return np.sort(np.concatenate(chosen))
