"""Distances between a target's signal and a synthetic signal, and how those of a class become one loss."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fairdd_cli.fairness import TargetWeights

EPSILON = 1e-6  # added to the denominator of a cosine, as in the public implementations
TINY = 1e-12  # keeps a root differentiable at 0
NCFM_SCALE = 300  # of the public code
M3D_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the public code, as multiples of the mean squared distance


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


def ncfm(target: Tensor, synthetic: Tensor) -> Tensor:
    """The distances [n] of pairs of characteristic functions [n, 2F], real parts first (NCFM, CVPR 2025, section 3.2).

    It is the mean over frequencies of the root of half the squared difference of the amplitudes and half of what the
    phases add to the squared difference, times `NCFM_SCALE`.
    """
    (real, imaginary), (own_real, own_imaginary) = target.chunk(2, dim=1), synthetic.chunk(2, dim=1)
    amplitude, own_amplitude = (
        (x.square() + y.square() + TINY).sqrt() for x, y in ((real, imaginary), (own_real, own_imaginary))
    )
    by_phase = 2 * (amplitude * own_amplitude - real * own_real - imaginary * own_imaginary)
    squared = (amplitude - own_amplitude).square() / 2 + by_phase.clamp(min=TINY) / 2
    return NCFM_SCALE * squared.sqrt().mean(dim=1)


def m3d(real: Tensor, real_weight: Tensor, synthetic: Tensor, synthetic_weight: Tensor) -> Tensor:
    """The squared maximum mean discrepancy of two weighted samples [n, D], [m, D] of embeddings (M3D, AAAI 2024).

    The weights of each sample sum to one. The kernel is the sum of Gaussians exp(-d²/b) whose bandwidths b are the
    mean squared distance d² of two of all these embeddings, times each of `M3D_BANDWIDTHS`. The result is scaled so
    that it pulls a synthetic embedding as much as `l2` does where all distances are alike, as in many dimensions.
    """
    both, weight = torch.cat([real, synthetic]), torch.cat([real_weight, -synthetic_weight])
    norms = both.square().sum(dim=1)
    squared = (norms[:, None] + norms - 2 * both @ both.mT).clamp(min=0)
    count = len(both)
    bandwidth = (squared.detach().sum() / (count**2 - count)).clamp(min=TINY)
    kernel = sum(torch.exp(-squared / (bandwidth * each)) for each in M3D_BANDWIDTHS)
    discrepancy: Tensor = weight @ kernel @ weight
    slope = sum(math.exp(-1 / each) / each for each in M3D_BANDWIDTHS)  # of the kernel at d² = 1, if that is the mean
    return discrepancy * bandwidth / (2 * slope)


DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"l2": l2, "l1": l1, "cosine": cosine, "ncfm": ncfm}


def distances(name: str, target: Tensor, synthetic: Tensor, num_targets: Sequence[int]) -> Tensor:
    """The distances [all targets] of each `target` [all targets, …] to its class's `synthetic` signal [classes, …].

    `num_targets` [classes] says how many targets each class has; those of a class follow each other. As many
    synthetic signals as targets belong to one each.
    """
    if 1 < len(synthetic) < len(target):  # the signal of a single class is broadcast
        label = torch.arange(len(num_targets)).repeat_interleave(torch.tensor(num_targets))
        synthetic = synthetic[label.to(synthetic.device, non_blocking=True)]
    return DISTANCES[name](target, synthetic)


def discrepancies(
    real: Tensor, weights: TargetWeights, synthetic: Tensor, own: TargetWeights, num_targets: Sequence[int]
) -> Tensor:
    """The discrepancy [all targets] (`m3d`) of each target's real images to the synthetic images of its class.

    `real` [n, D] are the embeddings of the images that `weights` assigns to targets, `synthetic` [m, D] those of the
    images that `own` assigns to the classes, or to as many targets; `num_targets` [classes] is as for `distances`.
    """
    weight = torch.from_numpy(weights.weight).to(real.device, non_blocking=True)
    own_weight = torch.from_numpy(own.weight).to(real.device, non_blocking=True)
    parts = [part for _, part in own.segments()]
    if own.num_targets < weights.num_targets:  # of a class, for all of its targets
        parts = [part for part, count in zip(parts, num_targets, strict=True) for _ in range(count)]
    found = [
        m3d(real[part], weight[part], synthetic[parts[target]], own_weight[parts[target]])
        for target, part in weights.segments()
    ]
    return torch.stack(found)


def reduce_over_targets(distances: Tensor, num_targets: Sequence[int], how: str) -> Tensor:
    """One loss of the `distances` [all targets]: the sum or max over the targets of each class, summed over classes."""
    if how == "sum":
        return distances.sum()
    return torch.stack([of_class.amax() for of_class in torch.split(distances, list(num_targets))]).sum()
