"""What the strategies that reweight images share."""

import numpy as np

from fairdd_cli.fairness._base import TargetWeights, single_target


def weighted_mean(protected: np.ndarray, sample_weights: np.ndarray) -> TargetWeights:
    """One target, the mean of the batch weighted by `sample_weights` [n]."""
    return single_target(sample_weights / sample_weights.sum())
