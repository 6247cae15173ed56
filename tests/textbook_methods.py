"""Multi-formation, IDC's class-by-class loop and MTT's unrolled training as a textbook writes them: plain loops."""

import torch
import torch.nn.functional as F
from textbook import group_members
from torch import Tensor, nn


def decode(images: Tensor, factor: int) -> Tensor:
    """Each tile of each image, enlarged to the whole size."""
    _, _, height, width = images.shape
    rows, cols = height // factor, width // factor
    found = []
    for image in images:
        for i in range(factor):
            for j in range(factor):
                tile = image[:, i * rows : (i + 1) * rows, j * cols : (j + 1) * cols]
                found.append(F.interpolate(tile[None], size=(height, width), mode="bilinear", align_corners=False)[0])
    return torch.stack(found)


def convolution_gradients(network: nn.Module, images: Tensor, label: int, differentiable: bool) -> list[Tensor]:
    """The gradient of the mean cross-entropy with respect to every convolution's weight."""
    weights = [parameter for parameter in network.parameters() if parameter.ndim == 4]
    loss = F.cross_entropy(network(images), torch.full((len(images),), label, device=images.device))
    return list(torch.autograd.grad(loss, weights, create_graph=differentiable))


def idc_class_loss(
    network: nn.Module, real: Tensor, protected: Tensor, own: Tensor, label: int, fairness: str, distance: str
) -> Tensor:
    """Sum over targets and layers of the squared or absolute differences of gradients."""
    mine = convolution_gradients(network, own, label, differentiable=True)
    targets = [
        convolution_gradients(network, real[members], label, differentiable=False)
        for members in group_members(protected, fairness)
    ]
    if fairness == "barycenter":
        targets = [[torch.stack(layer).mean(dim=0) for layer in zip(*targets, strict=True)]]
    total = torch.zeros(())
    for target in targets:
        for layer, layer_mine in zip(target, mine, strict=True):
            difference = layer.detach() - layer_mine
            total = total + (difference.abs().sum() if distance == "l1" else (difference**2).sum())
    return total


def idc_steps(
    network: nn.Module,
    pixels: Tensor,
    normalise: tuple[Tensor, Tensor],
    real: list[list[tuple[Tensor, Tensor]]],
    options: dict[str, float],
    factor: int,
    fairness: str,
    distance: str,
) -> tuple[list[float], list[list[Tensor]]]:
    """The published loop on `pixels` [classes, ipc, C, H, W] in [0, 1]: class by class, one momentum for all of them.

    `real` holds, for each step and class, images and protected values. Returns the loss of each step, and each
    class's pixels when its turn came.
    """
    pixels = pixels.clone().requires_grad_()
    optimizer = torch.optim.SGD([pixels], lr=options["learning_rate"], momentum=options["momentum"])
    losses, seen = [], []
    for batches in real:
        losses.append(0.0)
        seen.append([])
        for label, (images, protected) in enumerate(batches):
            seen[-1].append(pixels[label].detach().clone())
            own = decode((pixels[label] - normalise[0]) / normalise[1], factor)
            loss = idc_class_loss(network, images, protected, own, label, fairness, distance)
            optimizer.zero_grad(set_to_none=False)
            loss.backward()
            optimizer.step()
            losses[-1] += loss.item()
    return losses, seen


def trained(network: nn.Module, batches: list[tuple[Tensor, Tensor]], step: float) -> Tensor:
    """The parameters of `network`, in one vector, after a step of SGD on each batch."""
    optimizer = torch.optim.SGD(network.parameters(), lr=step)
    for images, labels in batches:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
