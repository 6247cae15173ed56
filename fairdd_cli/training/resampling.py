"""How often an image is drawn for an epoch: by a weight for each, or even over the groups of its class."""

import numpy as np

from fairdd_cli.artifacts import Split


def even_shares(split: Split) -> np.ndarray:
    """A weight for each image of `split` (float64 [N], sum 1): cells of a class weigh the same, a class its size."""
    of_class, present = split.count.sum(axis=1), (split.count > 0).sum(axis=1)
    share = of_class[:, None] / len(split) / np.maximum(present, 1)[:, None] / np.maximum(split.count, 1)
    shares: np.ndarray = share[split.labels, split.protected]
    return shares


def systematic_resample(weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions int64 [n] in `weights` [n], each as often as its weight says, up to one: systematic resampling.

    Equal weights give every position once, an ordinary epoch.
    """
    edges = np.cumsum(weights) / weights.sum()
    points = (generator.random() + np.arange(len(weights))) / len(weights)
    return np.searchsorted(edges, points, side="right").clip(max=len(weights) - 1)
