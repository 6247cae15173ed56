"""KDE: images are reweighted by the inverse of a kernel density estimate; needs no protected labels."""

import numpy as np

from fairdd_cli.artifacts import Split
from fairdd_cli.fairness._base import Embed, Strategy
from fairdd_cli.fairness._reweighting import weighted_mean

REFERENCES = 1000  # images of a class that the density is estimated from: the cost stays linear in the class's size


def inverse_density(split: Split, embed: Embed) -> np.ndarray:
    """Sample weights float64 [N], the inverse of the density of an image's class around its embedding.

    The density is the mean of Gaussian kernels centred at evenly spaced images of the class. The bandwidth is half
    the median distance between these images, so that the many similar images set the scale, not the few others.
    """
    weights = np.empty(len(split))
    for label in np.unique(split.labels):
        members = np.flatnonzero(split.labels == label)
        evenly = np.linspace(0, len(members) - 1, min(REFERENCES, len(members))).astype(int)
        references = embed(members[evenly]).cpu().numpy()
        bandwidth = max(float(np.median(_squared_distances(references, references))) / 4, 1e-12)  # squared
        for start in range(0, len(members), REFERENCES):
            part = members[start : start + REFERENCES]
            squared = _squared_distances(embed(part).cpu().numpy(), references)
            kernels = np.exp(-squared / (2 * bandwidth)).sum(axis=1)
            # At most the weight of a reference that is far from all others.
            weights[part] = len(references) / kernels.clip(min=1)
    return weights


def _squared_distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Float64 [n, m] between float32 [n, D] and [m, D]."""
    points, others = points.astype(np.float64), others.astype(np.float64)
    distances: np.ndarray = (points**2).sum(1, keepdims=True) - 2 * points @ others.T + (others**2).sum(1)
    return distances.clip(0)


strategy = Strategy(
    title="one target a class: the mean weighted by the inverse density in an embedding; no group labels",
    paper="Cui et al., Mitigating Bias in Dataset Distillation, ICML 2024",
    uses_groups=False,
    targets=weighted_mean,
    sample_weights=inverse_density,
)
