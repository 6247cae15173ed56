"""Protected groups: assigned with a bias, where we render the attribute, or made of several attributes."""

from collections.abc import Sequence

import numpy as np

from fairdd_cli.errors import UsageError

GROUP_LIMIT = 1000


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


def intersectional_groups(attributes: Sequence[tuple[np.ndarray, Sequence[str]]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Several protected attributes as one: (groups int64 [N], names such as "female & necktie").

    Each attribute is (values [N], names). Combinations that no sample has are no groups. Raises UsageError where
    all samples belong to one group, or there are none, or there are more than GROUP_LIMIT groups.
    """
    groups, names = np.zeros(len(attributes[0][0]), np.int64), [""]
    if not len(groups):
        raise UsageError("not one of the images can be used: all were left out")
    for values, own in attributes:
        present, groups = np.unique(groups * len(own) + values, return_inverse=True)
        pairs = [divmod(int(code), len(own)) for code in present]
        names = [f"{names[first]} & {own[second]}" if names[first] else own[second] for first, second in pairs]
        if len(names) > GROUP_LIMIT:
            raise UsageError(
                f"the protected attributes make more than {GROUP_LIMIT:,} groups; merge some of their values"
            )
    if len(names) == 1:
        raise UsageError(f"all images belong to one group, '{names[0]}'; choose another protected attribute")
    return groups.astype(np.int64), tuple(names)
