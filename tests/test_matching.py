"""The fast matching against the golden values and against the textbook's loops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import textbook
import torch
from torch import Tensor

from fairdd_cli.fairness import class_means, concatenate, find_strategy
from fairdd_cli.matching.distances import distances
from fairdd_cli.matching.signals import gradients, weighted_sums
from fairdd_cli.networks import Classifier, parse_network
from fairdd_cli.runtime import Streams

GOLDEN = np.load(Path(__file__).parent / "golden" / "matching.npz")


def fast_loss(
    method: str,
    network: Classifier,
    real: list[Tensor],
    protected: list[Tensor],
    synthetic: list[Tensor],
    fairness: str,
    micro_batch: int,
) -> Tensor:
    """The loss of all classes together, the real images in micro-batches, as the methods compute it."""
    orders = [groups.argsort(stable=True) for groups in protected]
    images = torch.cat([part[order] for part, order in zip(real, orders, strict=True)])
    labels = torch.cat([torch.full((len(part),), label) for label, part in enumerate(real)])
    parts = [find_strategy(fairness).assign_targets(g[o].numpy()) for g, o in zip(protected, orders, strict=True)]
    weights, targets = concatenate(parts), [part.num_targets for part in parts]
    own, own_labels = torch.cat(synthetic), torch.arange(len(synthetic)).repeat_interleave(len(synthetic[0]))
    means = class_means(len(synthetic), len(synthetic[0]))
    pieces = [slice(start, start + micro_batch) for start in range(0, len(images), micro_batch)]
    if method == "dm":
        with torch.no_grad():
            goal = sum(weighted_sums(network.embed(images[piece]), weights[piece]) for piece in pieces)
        return distances("l2", goal, weighted_sums(network.embed(own), means), targets).sum()
    goals = None
    for piece in pieces:
        goals = gradients(network, images[piece], labels[piece], weights[piece], into=goals)
    mine = gradients(network, own, own_labels, means, differentiable=True)
    return sum(distances("cosine", goal, layer, targets).sum() for goal, layer in zip(goals, mine, strict=True))


TEXTBOOK: dict[str, Callable[..., Tensor]] = {"dm": textbook.dm_loss, "gm": textbook.gm_loss}


@pytest.mark.parametrize("fairness", ["vanilla", "fairdd"])
@pytest.mark.parametrize("method", ["dm", "gm"])
def test_agrees_with_the_golden_values(method: str, fairness: str) -> None:
    network = parse_network("convnet:width=8").build((3, 32, 32), 4)
    network.load_state_dict(textbook.authors_weights(GOLDEN))
    images = torch.from_numpy(GOLDEN["synthetic_images"]).requires_grad_()
    real, protected = (list(torch.from_numpy(GOLDEN[key])) for key in ("real_images", "real_groups"))
    loss = fast_loss(method, network, real, protected, list(images.view(4, 3, 3, 32, 32)), fairness, 7)
    (slope,) = torch.autograd.grad(loss, [images])
    expected = GOLDEN[f"{method}_{fairness}_grad"]
    assert loss.item() == pytest.approx(float(GOLDEN[f"{method}_{fairness}_loss"]), rel=1e-5)
    np.testing.assert_allclose(slope.numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


PROBLEMS = {  # (classes, IPC, for each class the sizes of its cells)
    "two classes, IPC 1": (2, 1, [[5, 3], [2, 6]]),
    "a cell of one image, a group missing": (3, 3, [[7, 1, 0], [1, 4, 2], [0, 0, 5]]),
    "ten classes and groups": (10, 3, [[3 if a == y else 1 for a in range(10)] for y in range(10)]),
}


@pytest.mark.parametrize("spec", ["convnet:width=4,depth=2", "convnet:width=4,depth=2,norm=none,pooling=max"])
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("fairness", ["vanilla", "fairdd", "barycenter"])
@pytest.mark.parametrize("method", TEXTBOOK)
def test_agrees_with_the_textbook(method: str, fairness: str, problem: str, spec: str) -> None:
    classes, ipc, cells = PROBLEMS[problem]
    streams = Streams(7)
    with streams.fork_rng("network"):
        network = parse_network(spec).build((3, 8, 8), classes)
    real, protected = [], []
    for label, sizes in enumerate(cells):
        groups = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        shuffled = groups[torch.randperm(len(groups), generator=streams.torch("order", label))]
        protected.append(shuffled)
        real.append(torch.randn(len(groups), 3, 8, 8, generator=streams.torch("real", label)))
    images = torch.randn(classes * ipc, 3, 8, 8, generator=streams.torch("synthetic")).requires_grad_()
    synthetic = list(images.view(classes, ipc, 3, 8, 8))
    expected = TEXTBOOK[method](network, real, protected, synthetic, fairness)
    (expected_slope,) = torch.autograd.grad(expected, [images])
    for micro_batch in (1, 4, 1000):
        found = fast_loss(method, network, real, protected, synthetic, fairness, micro_batch)
        (slope,) = torch.autograd.grad(found, [images])
        assert found.item() == pytest.approx(expected.item(), rel=1e-4)
        torch.testing.assert_close(slope, expected_slope, rtol=1e-4, atol=1e-4 * float(expected_slope.abs().max()))


def test_every_real_image_is_visited_once_whatever_the_number_of_groups() -> None:
    network = parse_network("convnet:width=4,depth=2").build((3, 8, 8), 1)
    images, labels = torch.randn(32, 3, 8, 8, generator=Streams(0).torch("images")), torch.zeros(32, dtype=torch.long)
    seen = []
    network.classifier.register_forward_hook(lambda layer, inputs, output: seen.append(len(output)))
    for groups in (1, 2, 32):
        seen.clear()
        gradients(network, images, labels, find_strategy("fairdd").assign_targets(np.arange(32) * groups // 32))
        assert sum(seen) == 32


def test_barycenter_and_fairdd_have_the_same_gradient_up_to_the_number_of_groups_under_dm() -> None:
    network = parse_network("convnet:width=4,depth=2").build((3, 8, 8), 1)
    streams = Streams(3)
    real = torch.randn(12, 3, 8, 8, generator=streams.torch("real"))
    groups = torch.tensor([0] * 8 + [1] * 3 + [2])
    slopes = {}
    for fairness in ("fairdd", "barycenter"):
        images = torch.randn(2, 3, 8, 8, generator=streams.torch("own")).requires_grad_()
        loss = fast_loss("dm", network, [real], [groups], [images], fairness, 5)
        (slopes[fairness],) = torch.autograd.grad(loss, [images])
    torch.testing.assert_close(slopes["fairdd"], 3 * slopes["barycenter"], rtol=1e-4, atol=1e-6)
