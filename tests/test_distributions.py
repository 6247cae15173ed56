"""Distances between distributions, and the features of all layers: dm's m3d and ncfm, and cafe."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import textbook_methods as textbook
import torch
from conftest import resolved
from torch import Tensor

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.distill import check_config, start_run
from fairdd_cli.errors import UsageError
from fairdd_cli.matching import distances
from fairdd_cli.matching.networks import Networks
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.signals import layer_features
from fairdd_cli.matching.synthetic import SyntheticImages
from fairdd_cli.methods import cafe
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.networks import Classifier, parse_network
from fairdd_cli.runtime import NullProgress, Runtime, Streams

NETWORK = parse_network("convnet:width=4,depth=2")
FAIRNESS = ["vanilla", "fairdd", "barycenter", "groupdro"]
IPC = 2


def started(
    dataset: BiasedDataset, method: str, fairness: str, micro_batch: int = 0, **options: str
) -> tuple[MethodBase, Run]:
    """A run of `method` on random images, prepared."""
    chosen = resolved(
        method, fairness=fairness, init="noise", ipc=IPC, batch_real=9, network=NETWORK, options=dict(options)
    )
    run = start_run(chosen, dataset, Runtime(torch.device("cpu"), micro_batch=micro_batch), NullProgress())
    chosen.algorithm.prepare(run)
    return chosen.algorithm, run


def lists(run: Run, *key: int) -> tuple[list[Tensor], list[Tensor]]:
    """The images and the protected values of the real batch of each class."""
    drawn = [run.real.sample_indices(label, *key) for label in range(run.num_classes)]
    return (
        [run.real.store.take(indices) for indices in drawn],
        [torch.from_numpy(run.real.split.protected[indices]) for indices in drawn],
    )


def own(images: Tensor) -> list[Tensor]:
    return list(images.unflatten(0, (-1, IPC)))


@pytest.mark.parametrize("inner_weight", ["0.01", "0"])
@pytest.mark.parametrize("fairness", FAIRNESS)
def test_cafe_agrees_with_the_textbook(toy: BiasedDataset, fairness: str, inner_weight: str) -> None:
    for micro_batch in (0, 1, 2, 7):
        algorithm, run = started(toy, "cafe", fairness, micro_batch, inner_weight=inner_weight)
        assert isinstance(algorithm, cafe.Method)
        network = run.networks.fresh(0)
        loss = algorithm.match(run, network, 0, 0)
        images = run.synthetic.images.detach().clone().requires_grad_()
        real, protected = lists(run, 0, 0)
        expected = textbook.cafe_loss(network, real, protected, own(images), fairness, float(inner_weight))
        (slope,) = torch.autograd.grad(expected, [images])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        torch.testing.assert_close(run.synthetic.images.grad, slope, rtol=1e-4, atol=1e-5 * float(slope.abs().max()))


@pytest.mark.parametrize("distance", ["m3d", "ncfm"])
@pytest.mark.parametrize("fairness", FAIRNESS)
def test_distances_between_distributions_agree_with_the_textbook(
    toy: BiasedDataset, fairness: str, distance: str
) -> None:
    options = {"distance": distance, "num_freqs": "7", "augmentation": "", "momentum": "0"}
    for micro_batch in (0, 1, 2, 7):
        algorithm, run = started(toy, "dm", fairness, micro_batch, **options)
        network = run.networks.fresh(3)
        images = run.synthetic.images.detach().clone().requires_grad_()
        size = network.embed(images[:1]).shape[1]
        frequencies = torch.randn(7, size, generator=run.streams.torch("frequencies", 3))
        expected = torch.zeros(())
        for real, protected, mine in zip(*lists(run, 3), own(images), strict=True):
            targets = textbook.target_weights(protected, fairness)
            points, embedded = network.embed(real).detach(), network.embed(mine)
            if distance == "m3d":
                found = [textbook.m3d(weights, points, embedded) for weights in targets]
            else:
                found = [textbook.ncfm(weights, points, embedded, frequencies) for weights in targets]
            expected = expected + (max(found) if fairness == "groupdro" else sum(found))
        (slope,) = torch.autograd.grad(expected, [images])
        loss = algorithm.step(run, 3)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
        moved = images.detach() - run.synthetic.images.detach()  # the learning rate is 1
        torch.testing.assert_close(moved, slope, rtol=1e-3, atol=1e-3 * float(slope.abs().max()))


@pytest.mark.parametrize("fairness", ["inverse", "kde"])
@pytest.mark.parametrize("distance", ["m3d", "ncfm"])
def test_a_distance_between_distributions_sees_the_sample_weights(
    toy: BiasedDataset, fairness: str, distance: str
) -> None:
    losses = []
    for strategy in ("vanilla", fairness):
        algorithm, run = started(toy, "dm", strategy, distance=distance, num_freqs="64")
        losses.append(algorithm.step(run, 0).item())
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_m3d_sees_a_shift_as_the_distance_of_means_does_and_more_than_that() -> None:
    points, weight = torch.randn(40, 1000, generator=Streams(4).torch("points")), torch.full((40,), 1 / 40)
    for gap in (0.01, 0.03):
        found = distances.m3d(points, weight, points + gap, weight).item()
        assert found == pytest.approx(1000 * gap**2, rel=0.2)
    assert distances.m3d(points, weight, points, weight).item() == pytest.approx(0, abs=0.01)
    narrow, wide = 0.1 * torch.eye(4) - 0.025, torch.eye(4) - 0.25  # of the same mean
    quarter = torch.full((4,), 0.25)
    assert distances.m3d(narrow, quarter, wide, quarter) > 0.05
    assert distances.l2(narrow.mean(0)[None], wide.mean(0)[None]).item() == pytest.approx(0, abs=1e-6)


def test_distances_of_a_sample_from_itself_have_a_finite_gradient() -> None:
    points, weight = torch.randn(40, 5, generator=Streams(4).torch("points")), torch.full((40,), 1 / 40)
    for same in (points, points[:1].expand(40, 5)):
        moving = same.clone().requires_grad_()
        found = distances.m3d(same, weight, moving, weight)
        signals = [torch.cat([p.cos(), p.sin()], dim=1).mean(0)[None] for p in (same, moving)]
        (slope,) = torch.autograd.grad(found + distances.ncfm(signals[0], signals[1]).sum(), [moving])
        assert torch.isfinite(slope).all()


NETWORKS = {  # the sizes of the features of each layer, for images 3x32x32
    "convnet:width=4": [4 * 16 * 16, 4 * 8 * 8, 4 * 4 * 4],
    "convnet:width=4,depth=1": [4 * 16 * 16],
    "mlp": [128, 128],
}


@pytest.mark.parametrize("spec", [*NETWORKS, "lenet", "alexnet", "vgg11", "resnet18", "vit"])
def test_every_network_has_features_of_layers(spec: str) -> None:
    with Streams(2).fork_rng("network"):
        network = parse_network(spec).build((3, 32, 32), 4).eval()
    images = torch.randn(3, 3, 32, 32, generator=Streams(2).torch("images"))
    with torch.no_grad():
        found = layer_features(network, images)
        torch.testing.assert_close(found[-1], network.embed(images))
        for one, other in zip(found, layer_features(network, images[1:2]), strict=True):
            torch.testing.assert_close(one[1:2], other, rtol=1e-3, atol=1e-3)
        Runtime(torch.device("cpu"), micro_batch=1).prepare_module(network)  # blocks take images in parts
        for one, other in zip(found, layer_features(network, images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert all(torch.isfinite(each).all() and len(each) == 3 for each in found)
    sizes = [each.shape[1] for each in found]
    assert sizes == NETWORKS.get(spec, sizes)


def test_cafe_refuses_layers_that_have_no_row_for_each_image(toy: BiasedDataset) -> None:
    chosen = resolved("cafe", fairness="fairdd", ipc=1, network=parse_network("torchvision:swin_v2_t"), options={})
    with pytest.raises(UsageError, match="none for each image"):
        check_config(chosen, toy)


class Counted(NullProgress):
    """Progress that adds up."""

    total = 0.0

    def advance(self, amount: float, loss: float | None = None) -> None:
        self.total += amount


ENDS: dict[str, tuple[dict[str, str], Callable[[int], float], int, int]] = {
    # (options, the accuracy when it is measured for the nth time, matching steps, epochs)
    "at their limits": ({"lambda_1": "0", "lambda_2": "1"}, lambda n: n % 2, 12, 11 * 11),
    "matching settles": ({"lambda_1": "0.1", "lambda_2": "1"}, lambda n: 0.5, 10, 9 * 11),
    "training moves": ({"lambda_1": "0", "lambda_2": "0.1"}, lambda n: n % 2, 12, 11 * 10),
    "nothing moves": ({"lambda_1": "0", "lambda_2": "0.1"}, lambda n: 0.5, 12, 11 * 11),
}


@pytest.mark.parametrize("case", ENDS)
def test_cafe_s_loops_end_by_the_accuracy_and_progress_adds_up(
    toy: BiasedDataset, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, accuracy, steps, epochs = ENDS[case]
    algorithm, run = started(toy, "cafe", "fairdd", outer_loop="12", inner_loop="11", query="4", **options)
    run.progress = run.networks.progress = progress = Counted()
    calls, counts = iter(range(10_000)), {"steps": 0, "epochs": 0}
    train = Networks.train_on_synthetic

    def counted_training(networks: Networks, network: Classifier, training: object, *key: int) -> None:
        counts["epochs"] += training.epochs  # type: ignore[attr-defined]
        train(networks, network, training, *key)  # type: ignore[arg-type]

    def counted_step(images: SyntheticImages, *options: object) -> None:
        counts["steps"] += 1
        images.images.grad = None

    monkeypatch.setattr(Networks, "accuracy_on_real", lambda *_: float(accuracy(next(calls))))
    monkeypatch.setattr(Networks, "train_on_synthetic", counted_training)
    monkeypatch.setattr(SyntheticImages, "optimizer_step", counted_step)
    algorithm.step(run, 0)
    assert (counts["steps"], counts["epochs"]) == (steps, epochs)
    assert progress.total == pytest.approx(algorithm.cost_per_iteration(run))


def test_the_accuracy_on_real_images_is_that_of_the_images_drawn(toy: BiasedDataset) -> None:
    _, run = started(toy, "cafe", "fairdd")
    network = run.networks.fresh(0)
    indices = run.real.indices_of_all_classes("query", 6, 5)
    assert np.unique(run.real.split.labels[indices]).tolist() == list(range(toy.classes))
    with torch.no_grad():
        predicted = network(run.real.store.take(indices)).argmax(dim=1).numpy()
    expected = (predicted == run.real.split.labels[indices]).mean()
    assert run.networks.accuracy_on_real(network, 6, 5) == pytest.approx(expected)


def test_cafe_halves_its_learning_rate_where_it_was_published(
    toy: BiasedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm, run = started(toy, "cafe", "fairdd", outer_loop="1")
    factors: list[float] = []
    monkeypatch.setattr(SyntheticImages, "optimizer_step", lambda _, lr_factor, *more: factors.append(lr_factor))
    for iteration in (0, 1199, 1200, 1600, 1800, 1999):
        algorithm.step(run, iteration)
    assert factors == [1, 1, 1 / 2, 1 / 4, 1 / 8, 1 / 8]


def test_a_factor_of_the_learning_rate_counts_for_one_step(toy: BiasedDataset) -> None:
    moves = []
    _, run = started(toy, "dm", "fairdd", momentum="0", learning_rate="2")
    for factor in (1, 0.25, 1):
        before = run.synthetic.images.detach().clone()
        run.synthetic.accumulate_gradients([torch.ones_like(before)])
        run.synthetic.optimizer_step(factor)
        moves.append((before - run.synthetic.images.detach()).mean().item())
    assert moves == pytest.approx([2, 0.5, 2], rel=1e-5)


def test_cafe_takes_dc_s_loops_as_upper_limits() -> None:
    found = cafe.Method.for_ipc(30)
    assert (found.outer_loop, found.inner_loop) == (30, 20)
    assert dataclasses.replace(found, lambda_1=0.0).matching_may_end is False
