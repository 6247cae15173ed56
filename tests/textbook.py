"""The matching losses as a textbook writes them: loops over classes and groups, a backward pass for each target.

This is the oracle of the tests: slow, and simple enough to be seen right.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def authors_weights(golden: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The golden ConvNet's weights under our names: four modules in a row are a convolution and the block's tail."""
    found = {}
    for key in golden:
        if key.startswith("net.features."):
            _, _, number, kind = key.split(".")
            block, place = divmod(int(number), 4)
            name = f"features.{2 * block}" if place == 0 else f"features.{2 * block + 1}.{place - 1}"
            found[f"{name}.{kind}"] = torch.from_numpy(golden[key])
        elif key.startswith("net."):
            found[key.removeprefix("net.")] = torch.from_numpy(golden[key])
    return found


def group_members(protected: Tensor, fairness: str) -> list[Tensor]:
    """For each target that is a plain mean, the positions of its images."""
    if fairness == "vanilla":
        return [torch.arange(len(protected))]
    return [torch.nonzero(protected == group).flatten() for group in protected.unique()]


def dm_loss(
    network: nn.Module, real: list[Tensor], protected: list[Tensor], synthetic: list[Tensor], fairness: str
) -> Tensor:
    """Sum over classes and targets of the squared distance of mean embeddings; lists hold one tensor a class."""
    total = torch.zeros(())
    for images, groups, own in zip(real, protected, synthetic, strict=True):
        mean = network.embed(own).mean(dim=0)
        targets = [network.embed(images[members]).mean(dim=0) for members in group_members(groups, fairness)]
        if fairness == "barycenter":
            targets = [torch.stack(targets).mean(dim=0)]
        for target in targets:
            total = total + ((target.detach() - mean) ** 2).sum()
    return total


def weight_gradients(network: nn.Module, images: Tensor, label: int, differentiable: bool) -> list[Tensor]:
    """The gradient of the mean cross-entropy with respect to every weight matrix."""
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    loss = F.cross_entropy(network(images), torch.full((len(images),), label, device=images.device))
    return list(torch.autograd.grad(loss, weights, create_graph=differentiable))


def row_cosine_distance(real: Tensor, own: Tensor) -> Tensor:
    """The sum over rows of one minus the cosine (DC, ICLR 2021)."""
    row, mine = real.flatten(1), own.flatten(1)
    return (1 - (row * mine).sum(dim=1) / (row.norm(dim=1) * mine.norm(dim=1) + 1e-6)).sum()


def gm_loss(
    network: nn.Module, real: list[Tensor], protected: list[Tensor], synthetic: list[Tensor], fairness: str
) -> Tensor:
    """Sum over classes, targets, layers and rows of the cosine distance of gradients."""
    total = torch.zeros(())
    for label, (images, groups, own) in enumerate(zip(real, protected, synthetic, strict=True)):
        mine = weight_gradients(network, own, label, differentiable=True)
        targets = [
            weight_gradients(network, images[members], label, differentiable=False)
            for members in group_members(groups, fairness)
        ]
        if fairness == "barycenter":
            targets = [[torch.stack(layer).mean(dim=0) for layer in zip(*targets, strict=True)]]
        for target in targets:
            for layer, layer_mine in zip(target, mine, strict=True):
                total = total + row_cosine_distance(layer.detach(), layer_mine)
    return total


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, training: dict[str, float]) -> None:
    """Full-batch SGD with momentum and weight decay, the learning rate times 0.1 from halfway on."""
    velocity = [torch.zeros_like(parameter) for parameter in network.parameters()]
    for epoch in range(epochs):
        rate = training["learning_rate"] * (0.1 if epoch >= epochs / 2 else 1)
        loss = F.cross_entropy(network(images), labels)
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, speed, slope in zip(network.parameters(), velocity, slopes, strict=True):
                speed.mul_(training["momentum"]).add_(slope + training["weight_decay"] * parameter)
                parameter.sub_(rate * speed)
