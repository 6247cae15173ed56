"""What methods beside DM and GM compute, as a textbook writes it in plain loops.

IDC's multi-formation and class-by-class loop, DANCE's two steps, MTT's unrolled training, CAFE's features of all
layers, and the distances between distributions.
"""

import math

import torch
import torch.nn.functional as F
from textbook import dm_loss, group_members
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


def dance_steps(
    networks: list[tuple[nn.Module, nn.Module]],
    pixels: Tensor,
    normalise: tuple[Tensor, Tensor],
    real: list[list[tuple[Tensor, Tensor]]],
    options: dict[str, float],
    factor: int,
    fairness: str,
) -> tuple[list[float], list[list[Tensor]]]:
    """The published loop on `pixels` [classes, ipc, C, H, W] in [0, 1]: class by class, one momentum for all of them.

    `networks` holds a middle encoder and its expert for each iteration, `real` images and protected values for each
    iteration and class. Returns the matching loss of each iteration, and each class's pixels when its turn came.
    """
    pixels = pixels.clone().requires_grad_()
    optimizer = torch.optim.SGD([pixels], lr=options["learning_rate"], momentum=options["momentum"])

    def shown(label: int) -> Tensor:
        return decode((pixels[label] - normalise[0]) / normalise[1], factor)

    def move(loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()

    losses, seen = [], []
    for (middle, expert), batches in zip(networks, real, strict=True):
        losses.append(0.0)
        seen.append([])
        for label, (images, protected) in enumerate(batches):
            seen[-1].append(pixels[label].detach().clone())
            loss = dm_loss(middle, [images], [protected], [shown(label)], fairness)
            losses[-1] += loss.item()
            move(loss)
        for _ in range(int(options["iter_calib"])):
            for label in range(len(batches)):
                own = shown(label)
                move(F.cross_entropy(expert(own), torch.full((len(own),), label)))
    return losses, seen


def trained(network: nn.Module, batches: list[tuple[Tensor, Tensor]], step: float) -> Tensor:
    """The parameters of `network`, in one vector, after a step of SGD on each batch."""
    optimizer = torch.optim.SGD(network.parameters(), lr=step)
    for images, labels in batches:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def target_weights(protected: Tensor, fairness: str) -> list[Tensor]:
    """The weight of each image for each target."""
    members = group_members(protected, fairness)
    targets = [torch.zeros(len(protected)) for _ in members]
    for weights, positions in zip(targets, members, strict=True):
        weights[positions] = 1 / len(positions)
    return [torch.stack(targets).mean(dim=0)] if fairness == "barycenter" else targets


def blocks(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The output of each block of a ConvNet, whose modules are convolutions and tails in turn."""
    found, modules = [], list(network.features)
    for convolution, tail in zip(modules[::2], modules[1::2], strict=True):
        images = tail(convolution(images))
        found.append(images)
    return found


def cafe_loss(
    network: nn.Module,
    real: list[Tensor],
    protected: list[Tensor],
    synthetic: list[Tensor],
    fairness: str,
    inner_weight: float,
) -> Tensor:
    """Squared distances of mean features of all blocks, and real images classified by the synthetic class centres."""
    centres = [blocks(network, own)[-1].flatten(1).mean(dim=0) for own in synthetic]
    total = torch.zeros(())
    for label, (images, groups, own) in enumerate(zip(real, protected, synthetic, strict=True)):
        losses = []
        for weights in target_weights(groups, fairness):
            loss = torch.zeros(())
            for block, mine in zip(blocks(network, images), blocks(network, own), strict=True):
                target = sum(weight * each for weight, each in zip(weights, block.detach(), strict=True))
                loss = loss + ((target - mine.mean(dim=0)) ** 2).sum()
            for weight, embedded in zip(weights, blocks(network, images)[-1].flatten(1).detach(), strict=True):
                scores = torch.stack([embedded @ centre for centre in centres])
                entropy = -torch.log_softmax(scores, dim=0)[label]
                loss = loss + inner_weight * len(images) * weight * entropy
            losses.append(loss)
        total = total + (max(losses) if fairness == "groupdro" else sum(losses))
    return total


def m3d(weights: Tensor, real: Tensor, own: Tensor) -> Tensor:
    """The maximum mean discrepancy of two samples by five Gaussian kernels, pair by pair, scaled as ours."""
    present = weights > 0
    weights, points = torch.cat([weights[present], torch.full((len(own),), -1 / len(own))]), [*real[present], *own]
    distances = [[((one - other) ** 2).sum() for other in points] for one in points]
    mean = sum(d.item() for row in distances for d in row) / (len(points) ** 2 - len(points))
    total = torch.zeros(())
    for one, row in zip(weights, distances, strict=True):
        for other, d in zip(weights, row, strict=True):
            for factor in (1 / 4, 1 / 2, 1, 2, 4):
                total = total + one * other * torch.exp(-d / (mean * factor))
    pull = sum(factor * math.exp(-factor) for factor in (4, 2, 1, 1 / 2, 1 / 4))
    return total * mean / (2 * pull)


def ncfm(weights: Tensor, real: Tensor, own: Tensor, frequencies: Tensor) -> Tensor:
    """The distance of characteristic functions, frequency by frequency, with complex numbers."""
    total = torch.zeros(())
    for frequency in frequencies:
        of_real, of_own = torch.zeros((), dtype=torch.complex64), torch.zeros((), dtype=torch.complex64)
        for weight, x in zip(weights, real, strict=True):
            of_real = of_real + weight * torch.exp(1j * (frequency @ (x / x.norm())))
        for x in own:
            of_own = of_own + torch.exp(1j * (frequency @ (x / x.norm()))) / len(own)
        amplitude = (of_real.abs() - of_own.abs()) ** 2
        phase = 2 * of_real.abs() * of_own.abs() * (1 - torch.cos(of_real.angle() - of_own.angle()))
        total = total + 300 * torch.sqrt(amplitude / 2 + phase / 2)
    return total / len(frequencies)
