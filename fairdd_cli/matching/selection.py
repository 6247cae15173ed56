"""Which real images of a class or cell to take, by their embeddings: k-means, herding and k-center."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Split
from fairdd_cli.fairness import Embed
from fairdd_cli.matching.clusters import kmeans, squared_distances

# From points [n, D], a number up to n and a generator to the positions int64 [number] of the chosen points.
Select = Callable[[Tensor, int, np.random.Generator], Tensor]


def nearest_to_centres(points: Tensor, number: int, generator: np.random.Generator) -> Tensor:
    """The point nearest to each of `number` centres of k-means (DREAM, Liu et al., ICCV 2023)."""
    _, distance = kmeans(points, number, generator)
    return distance.argmin(dim=0)


def herding(points: Tensor, number: int, generator: np.random.Generator) -> Tensor:
    """`number` points one after another, each the one that brings their mean nearest to the mean of all points.

    Herding (Welling, ICML 2009) without repetition, as in iCaRL (Rebuffi et al., CVPR 2017, algorithm 4).
    Draws nothing.
    """
    points = points.double()
    mean, norms, total = points.mean(dim=0), points.square().sum(dim=1), torch.zeros_like(points[0])
    chosen = torch.zeros(number, dtype=torch.int64, device=points.device)
    for step in range(number):
        # ‖mean - (total + x) / (step + 1)‖² for every point x, but for a constant and a factor
        distance = norms - 2 * points @ ((step + 1) * mean - total)
        distance[chosen[:step]] = torch.inf
        chosen[step] = distance.argmin()
        total = total + points[chosen[step : step + 1]].squeeze(0)
    return chosen


def k_center(points: Tensor, number: int, generator: np.random.Generator) -> Tensor:
    """`number` points one after another: the one nearest to the mean, then always the one farthest from those chosen.

    Greedy k-center (Sener & Savarese, ICLR 2018, algorithm 1). Draws nothing.
    """
    points = points.double()
    chosen = torch.zeros(number, dtype=torch.int64, device=points.device)
    chosen[0] = squared_distances(points, points.mean(dim=0, keepdim=True))[:, 0].argmin()
    nearest = torch.full_like(points[:, 0], torch.inf)
    for step in range(1, number):
        last = chosen[step - 1 : step]
        nearest = torch.minimum(nearest, squared_distances(points, points[last])[:, 0])
        nearest[chosen[:step]] = -torch.inf  # equal points are different images: none is taken twice
        chosen[step] = nearest.argmax()
    return chosen


def representatives(
    split: Split,
    drawn: np.ndarray,
    by_cell: bool,
    embed: Embed,
    generator: np.random.Generator,
    pool: int = 0,
    select: Select = nearest_to_centres,
) -> np.ndarray:
    """As many images as were `drawn` of one class, from the same cells, but the ones that `select` chooses.

    It chooses among the embedded images of each cell (of the whole class, without `by_cell`). A cell smaller than
    the number asked of it is taken whole, repeatedly. With a `pool` it chooses among at most that many images of a
    cell, drawn at random. Returns int64 [len(drawn)], sorted.
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
            members = members[select(embed(members), int(asked[cell]), generator).cpu().numpy()]
        chosen.append(np.resize(members, asked[cell]))
    return np.sort(np.concatenate(chosen))
