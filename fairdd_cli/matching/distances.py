"""Distances between a target's signal and a synthetic signal, and how those of a class become one loss."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

EPSILON = 1e-6  # added to the denominator of a cosine, as in the public implementations


def l2(target: Tensor, synthetic: Tensor) -> Tensor:
    """The squared Euclidean distances [n] of pairs of signals [n, …]."""
    return (target - synthetic).square().flatten(1).sum(dim=1)


def l1(target: Tensor, synthetic: Tensor) -> Tensor:
    """The L1 distances [n] of pairs of signals [n, …]."""
    return (target - synthetic).abs().flatten(1).sum(dim=1)


def cosine(target: Tensor, synthetic: Tensor) -> Tensor:
    """The sums [n] over rows of 1 - cosine (DC, ICLR 2021, section 3.3) of pairs of signals [n, rows, columns]."""
    inner = (target * synthetic).sum(dim=-1)
    norms = target.norm(dim=-1) * synthetic.norm(dim=-1)
    distance: Tensor = (1 - inner / (norms + EPSILON)).sum(dim=1)
    return distance


DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"l2": l2, "l1": l1, "cosine": cosine}


def distances(name: str, target: Tensor, synthetic: Tensor, num_targets: Sequence[int]) -> Tensor:
    """The distances [all targets] of each `target` [all targets, …] to its class's `synthetic` signal [classes, …].

    `num_targets` [classes] says how many targets each class has; those of a class follow each other.
    """
    if len(num_targets) > 1:  # the signal of a single class is broadcast
        label = torch.arange(len(num_targets)).repeat_interleave(torch.tensor(num_targets))
        synthetic = synthetic[label.to(synthetic.device, non_blocking=True)]
    return DISTANCES[name](target, synthetic)


def reduce_over_targets(distances: Tensor, num_targets: Sequence[int], how: str) -> Tensor:
    """One loss of the `distances` [all targets]: the sum or max over the targets of each class, summed over classes."""
    if how == "sum":
        return distances.sum()
    return torch.stack([of_class.amax() for of_class in torch.split(distances, list(num_targets))]).sum()
