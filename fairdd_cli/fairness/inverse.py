"""Inverse: images are reweighted by the inverse size of their cell."""

import numpy as np

from fairdd_cli.artifacts import Split
from fairdd_cli.fairness._base import Embed, Strategy
from fairdd_cli.fairness._reweighting import weighted_mean


def inverse_cell_size(split: Split, embed: Embed) -> np.ndarray:
    """Sample weights float64 [N] under which every cell of a class counts the same."""
    weights: np.ndarray = 1 / split.count[split.labels, split.protected]
    return weights


strategy = Strategy(
    title="one target a class: the mean weighted by the inverse size of an image's cell",
    paper="inverse-frequency reweighting, a baseline of FairDD, NeurIPS 2025",
    uses_groups=True,
    targets=weighted_mean,
    sample_weights=inverse_cell_size,
)
