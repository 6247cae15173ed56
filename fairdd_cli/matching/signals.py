"""Signals of images, their embeddings or gradients, averaged by target.

Signals add up: that of a target is the weighted sum of those of the images assigned to it. So one pass over a batch
that is sorted by target gives the signals of all its targets, whatever their number.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairdd_cli.fairness import TargetWeights
from fairdd_cli.networks import Classifier

WEIGHTED = (nn.Conv2d, nn.Linear)  # the layers with a weight matrix

Transform = Callable[[Tensor], Tensor]  # embeddings float32 [n, D] -> what is averaged of them, float32 [n, D']


def layer_features(network: Classifier, images: Tensor) -> list[Tensor]:
    """The features [n, D] of every layer for each of `images` [n, C, H, W], flattened; the embedding is last.

    The features of a layer are what enters the next one with a weight matrix: those of a ConvNet's block are the
    block's output. Layers with the same input count once. Every layer must have a row for each image.
    """
    inputs: dict[nn.Module, list[Tensor]] = {}

    def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs.setdefault(layer, []).append(given[0])  # a layer may take the images in parts

    handles = [module.register_forward_pre_hook(keep) for module in network.modules() if isinstance(module, WEIGHTED)]
    try:
        embedded = network.embed(images)
    finally:
        for handle in handles:
            handle.remove()
    _, *later = {id(parts[0]): parts for parts in inputs.values()}.values()  # the first layer sees the images
    return [*(torch.cat([part.flatten(1) for part in parts]) for parts in later), embedded]


def characteristic(embedded: Tensor, frequencies: Tensor) -> Tensor:
    """What the characteristic function of `embedded` [n, D], scaled to length one, is the mean of (NCFM, CVPR 2025).

    At `frequencies` t [F, D] it is [n, 2F]: cos(t·x) and then sin(t·x) of each scaled embedding x.
    """
    phases = F.normalize(embedded, dim=1) @ frequencies.mT
    return torch.cat([phases.cos(), phases.sin()], dim=1)


def weighted_sums(features: Tensor, weights: TargetWeights) -> Tensor:
    """The weighted sum float32 [targets, D] of `features` [n, D] by target."""
    features = features.float()
    weight = torch.from_numpy(weights.weight).to(features.device, non_blocking=True)
    target = torch.from_numpy(weights.target).to(features.device, non_blocking=True)
    sums = features.new_zeros(weights.num_targets, features.shape[1])
    return sums.index_add(0, target, features * weight[:, None])


def gradients(
    network: Classifier,
    images: Tensor,
    labels: Tensor,
    weights: TargetWeights,
    differentiable: bool = False,
    layers: tuple[type[nn.Module], ...] = WEIGHTED,
    into: list[Tensor] | None = None,
) -> list[Tensor]:
    """The gradient of the weighted cross-entropy of each target with respect to the weight matrices of `layers`.

    One forward and one backward pass over `images` [n, C, H, W] (with `labels` int64 [n]) give the output
    gradients of every layer; a target's weight gradient is formed from them and the layer's inputs over its images
    alone. Biases and normalisation take no part. Returns float32 [targets, rows, columns] for each layer, a row
    an output, added to what is in `into` already if that is given. With `differentiable`, where every target must
    have an image, it can be differentiated with respect to the images.
    """
    with _recorded(network, layers) as calls:
        logits = network(images).float()
    weight = torch.from_numpy(weights.weight).to(logits.device, non_blocking=True)
    loss = (F.cross_entropy(logits, labels, reduction="none") * weight).sum()
    deltas = torch.autograd.grad(loss, [call.output for call in calls], create_graph=differentiable)
    segments = list(weights.segments())
    if differentiable:
        return [
            torch.stack([_weight_gradient(call.layer, call.input[segment], delta[segment]) for _, segment in segments])
            for call, delta in zip(calls, deltas, strict=True)
        ]
    with torch.no_grad():
        for number, (call, delta) in enumerate(zip(calls, deltas, strict=True)):
            for target, segment in segments:
                gradient = _weight_gradient(call.layer, call.input[segment], delta[segment])
                if into is None or number == len(into):
                    into = [*(into or []), gradient.new_zeros(weights.num_targets, *gradient.shape)]
                into[number][target] += gradient
    return into or []


@dataclass
class _Call:
    layer: nn.Module
    input: Tensor = field(repr=False)
    output: Tensor = field(repr=False)


@contextmanager
def _recorded(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[list[_Call]]:
    """A block in which the input and the output of every layer of these `kinds` is kept."""
    calls: list[_Call] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(_Call(layer, inputs[0], output))

    layers = [module for module in network.modules() if isinstance(module, kinds)]
    handles = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _weight_gradient(layer: nn.Module, images: Tensor, delta: Tensor) -> Tensor:
    """The gradient [rows, columns] of a layer's weight from its input and its output gradient."""
    images = images.to(delta.dtype)  # under autocast the layer saw its input in the precision of its output
    if isinstance(layer, nn.Conv2d):
        gradient: Tensor = torch.ops.aten.convolution_backward(
            delta,
            images,
            layer.weight.to(delta.dtype),
            None,
            layer.stride,
            layer.padding,
            layer.dilation,
            False,
            [0, 0],
            layer.groups,
            [False, True, False],
        )[1]
    else:
        gradient = delta.flatten(0, -2).mT @ images.flatten(0, -2)
    rows: Tensor = gradient.flatten(1).float()
    return rows
