"""Vanilla: the mean over the real batch of a class, as the distillation methods do by themselves."""

import numpy as np

from fairdd_cli.fairness._base import Strategy, TargetWeights, single_target


def batch_mean(protected: np.ndarray, sample_weights: np.ndarray) -> TargetWeights:
    """One target, the plain mean of the batch."""
    return single_target(np.full(len(protected), 1 / len(protected), np.float32))


strategy = Strategy(
    title="one target a class: the mean of the real batch",
    paper="as in DC (Zhao et al., ICLR 2021) and DM (Zhao & Bilen, WACV 2023)",
    uses_groups=False,
    targets=batch_mean,
)
