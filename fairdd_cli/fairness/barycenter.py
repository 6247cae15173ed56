"""Barycenter: the unweighted mean of the group means (COBRA, with the quadratic discrepancy)."""

import numpy as np

from fairdd_cli.fairness._base import Strategy, TargetWeights, group_targets


def mean_of_group_means(protected: np.ndarray, sample_weights: np.ndarray) -> TargetWeights:
    """One target in which every group present counts the same."""
    per_group = group_targets(protected, sample_weights)
    return TargetWeights(np.zeros_like(per_group.target), per_group.weight / per_group.num_targets, 1)


strategy = Strategy(
    title="one target a class: the unweighted mean of the group means",
    paper="COBRA, 2026 (barycenter under the quadratic discrepancy)",
    uses_groups=True,
    targets=mean_of_group_means,
)
