"""How a bias is laid on samples whose protected attribute we render: each class is correlated with one group."""

from collections.abc import Sequence

import numpy as np

from fairdd_cli.errors import UsageError


def assign_biased_groups(
    labels: np.ndarray, majority_group: Sequence[int], groups: int, bias_ratio: float, generator: np.random.Generator
) -> np.ndarray:
    """Protected values int64 [N] that correlate each class with its `majority_group`, as in FairDD's data sets.

    int(`bias_ratio` * n_c) samples of class c, chosen at random, are bias-aligned: they get the majority group of
    their class. The rest is dealt out to the other groups in order, in chunks of ceil(rest / (groups - 1)). Raises
    UsageError for a ratio that so many groups cannot have.
    """
    if not 1 / groups <= bias_ratio <= 1:
        raise UsageError(
            f"--bias-ratio {bias_ratio:g} is out of range: with {groups} groups it lies in {1 / groups:g} … 1"
        )
    protected = np.empty(len(labels), np.int64)
    for label, majority in enumerate(majority_group):
        members = generator.permutation(np.flatnonzero(labels == label))
        aligned = int(bias_ratio * len(members))
        conflicting = len(members) - aligned
        chunk = max(1, -(-conflicting // (groups - 1)))
        others = np.delete(np.arange(groups), majority)
        protected[members[:aligned]] = majority
        protected[members[aligned:]] = others[np.arange(conflicting) // chunk]
    return protected
