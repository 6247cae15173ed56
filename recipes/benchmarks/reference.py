"""What bench.py compares with: steps of matching and of training as a plain implementation computes them.

Class by class and group by group, a forward pass and, for gradients, a backward pass each; no compiled kernels, no
micro-batches.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Signal = Callable[[nn.Module, Tensor, int, bool], list[Tensor]]


def mean_embedding(network: nn.Module, images: Tensor, label: int, differentiable: bool) -> list[Tensor]:
    """DM's signal: the mean embedding [D] of `images`."""
    with torch.set_grad_enabled(differentiable):
        return [network.embed(images).mean(dim=0)]


def gradients(dimensions: tuple[int, ...]) -> Signal:
    """The signal of DC and IDC: the gradients of the weights with so many dimensions."""

    def signal(network: nn.Module, images: Tensor, label: int, differentiable: bool) -> list[Tensor]:
        weights = [weight for weight in network.parameters() if weight.ndim in dimensions]
        loss = F.cross_entropy(network(images), torch.full((len(images),), label, device=images.device))
        return list(torch.autograd.grad(loss, weights, create_graph=differentiable))

    return signal


def cosine(real: Tensor, synthetic: Tensor) -> Tensor:
    """DC's distance: one minus the cosine, summed over the rows."""
    similarity = F.cosine_similarity(real.flatten(1), synthetic.flatten(1), dim=1, eps=1e-6)
    return (1 - similarity).sum()


STEPS: dict[str, tuple[Signal, Callable[[Tensor, Tensor], Tensor]]] = {
    "dm": (mean_embedding, lambda real, synthetic: (real - synthetic).square().sum()),
    "gm": (gradients((2, 4)), cosine),
    "dsa": (gradients((2, 4)), cosine),
    "idc": (gradients((4,)), lambda real, synthetic: (real - synthetic).abs().sum()),
}


def loss(
    method: str, network: nn.Module, real: list[Tensor], groups: list[Tensor], synthetic: list[Tensor], fair: bool
) -> Tensor:
    """The matching loss of one step; the lists hold the images (or protected values) of a class each."""
    signal, distance = STEPS[method]
    total = torch.zeros(())
    for label, (images, protected, own) in enumerate(zip(real, groups, synthetic, strict=True)):
        matched = signal(network, own, label, True)
        parts = [images[protected == group] for group in protected.unique()] if fair else [images]
        for part in parts:
            for target, mean in zip(signal(network, part, label, False), matched, strict=True):
                total = total + distance(target.detach(), mean)
    return total


def train_epoch(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """An epoch of SGD in batches of 256; its learning rate of 0 leaves the network as it is."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.9, weight_decay=5e-4)
    for part, answers in zip(images.split(256), labels.split(256), strict=True):
        optimizer.zero_grad()
        F.cross_entropy(network(part), answers).backward()
        optimizer.step()
