"""Idc, dream and mtt against the textbook; every method under every strategy and sampling."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import textbook_methods as textbook
import torch
from conftest import resolved, write_toy
from tiny import TINY
from torch import Tensor
from typer.testing import CliRunner

from fairdd_cli import load
from fairdd_cli.artifacts import BiasedDataset, SyntheticSet, read_experts
from fairdd_cli.cli import app
from fairdd_cli.decodings import cut_tiles
from fairdd_cli.distill import ResolvedConfig, check_config, run_distillation, start_run, use_experts
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import STRATEGIES, find_strategy
from fairdd_cli.matching.experts import expert_targets, train_trajectories
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.sampling import SAMPLINGS
from fairdd_cli.matching.unrolling import unrolled_sgd
from fairdd_cli.methods import METHODS, idc
from fairdd_cli.networks import Classifier, freeze_batch_norm, parse_network
from fairdd_cli.runtime import Checkpoints, ImageStore, NullProgress, Runtime, State, Streams
from fairdd_cli.training import TrainingConfig, set_parameters, systematic_resample

NETWORK = parse_network("convnet:width=4,depth=2")
RUNTIME = Runtime(torch.device("cpu"), micro_batch=32)
OPTIONS = {
    **TINY,
    "idc": {**TINY["idc"], "inner_loop": "3", "learning_rate": "0.02"},
    "dream": {**TINY["dream"], "inner_loop": "3", "learning_rate": "0.02"},
    "mtt": {
        **TINY["mtt"],
        "syn_steps": "4",
        "lr_lr": "0",
        "lr_init": "0.02",
        "learning_rate": "3",
        "lr_teacher": "0.02",
    },
}
MATCHING = [name for name in METHODS.names() if METHODS.load(name).Method.matches]


def plan(method: str, **changes: object) -> ResolvedConfig:
    choices: dict[str, object] = {
        "fairness": "vanilla", "ipc": 2, "batch_real": 12, "iterations": 3, "network": NETWORK,
        "options": dict(OPTIONS[method]),
    }  # fmt: skip
    if method == "mtt":
        choices["batch_real"] = None
    return resolved(method, **{**choices, **changes})  # type: ignore[arg-type]


def run(dataset: BiasedDataset, chosen: ResolvedConfig) -> SyntheticSet:
    check_config(chosen, dataset)
    return run_distillation(chosen, dataset, RUNTIME, NullProgress())


def run_of(chosen: ResolvedConfig, dataset: BiasedDataset, images: Tensor, runtime: Runtime = RUNTIME) -> Run:
    """What `distill` hands to the method of `chosen`, with the synthetic `images` given."""
    chosen = dataclasses.replace(chosen, algorithm=chosen.algorithm.for_data(dataset, chosen.ipc))
    started = start_run(dataclasses.replace(chosen, init="noise"), dataset, runtime, NullProgress())
    use_experts(started, chosen, dataset)
    with torch.no_grad():
        started.synthetic.images.copy_(images)
    return started


def judged(chosen: ResolvedConfig, dataset: BiasedDataset, images: np.ndarray) -> float:
    """The loss of `images`, held still, over draws that no run has seen."""
    algorithm = chosen.algorithm.for_data(dataset, chosen.ipc)
    started = run_of(chosen, dataset, torch.from_numpy(images))
    algorithm.prepare(started)
    started.synthetic.configure_optimizer(0, 0)
    return sum(float(algorithm.step(started, draw)) for draw in range(1000, 1003))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> BiasedDataset:
    """Two classes and two groups, shared by the tests that only read it and by the experts beside it."""
    return write_toy(tmp_path_factory.mktemp("small") / "toy.h5", np.array([[14, 4], [3, 11]]))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("fairness", STRATEGIES.names())
@pytest.mark.parametrize("method", MATCHING)
def test_the_loss_falls_and_the_file_says_what_was_run(
    small: BiasedDataset, method: str, fairness: str, sampling: str
) -> None:
    weighs, samples = find_strategy(fairness).reweights_samples, method != "mtt"
    if sampling == "balanced" and (weighs or not samples):
        with pytest.raises(UsageError, match="already reweights" if weighs else "draws no real batches"):
            plan(method, fairness=fairness, sampling=sampling)
        return
    chosen = plan(
        method,
        fairness=fairness,
        sampling=sampling,
        init="noise",
        iterations=6 if "inner_loop" in OPTIONS[method] else 12,
    )
    before = run(small, dataclasses.replace(chosen, iterations=0))
    after = run(small, chosen)
    assert np.isfinite(after.images).all()
    assert not np.array_equal(before.images, after.images)
    assert judged(chosen, small, after.images) < judged(chosen, small, before.images)
    assert (after.method, after.fairness, after.sampling) == (method, fairness, sampling)
    assert after.factor == METHODS.load(method).Method.factor
    assert (after.learning_rate > 0) == (method == "mtt")
    assert after.options["hyper"] == dataclasses.asdict(chosen.algorithm.for_data(small, 2))


@pytest.mark.parametrize("method", ["gm", "idc", "dm"])
@pytest.mark.parametrize("factor", [1, 2])
def test_multi_formation_gives_every_method_the_textbook_s_images(
    small: BiasedDataset, method: str, factor: int
) -> None:
    images = torch.randn(4, 3, 8, 8, generator=Streams(0).torch("images"))
    torch.testing.assert_close(cut_tiles(images, factor), textbook.decode(images, factor) if factor > 1 else images)
    chosen = plan(method, factor=factor, iterations=1)
    started = run_of(chosen, small, images)
    found, labels = started.synthetic.decoded_images(slice(1, 2))
    torch.testing.assert_close(found, textbook.decode(images[2:], factor) if factor > 1 else images[2:])
    assert labels.tolist() == [1] * 2 * factor**2
    assert run(small, chosen).factor == factor


@pytest.mark.parametrize("fairness", ["vanilla", "fairdd", "barycenter"])
@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_idc_steps_jointly_as_far_as_the_published_loop_class_by_class(
    toy: BiasedDataset, distance: str, fairness: str
) -> None:
    steps, ipc, factor = 4, 2, 2
    toy = dataclasses.replace(toy, std=(0.2, 0.25, 0.35))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (toy.mean, toy.std))
    chosen = plan("idc", fairness=fairness, factor=factor, options={})
    algorithm = idc.Method(learning_rate=2e-3, inner_loop=steps, distance=distance, augmentation="", real_per_step=1)
    pixels = 0.2 + 0.6 * torch.rand(toy.classes * ipc, 3, 8, 8, generator=Streams(1).torch("pixels"))
    started = run_of(chosen, toy, (pixels - mean) / std, Runtime(torch.device("cpu"), micro_batch=5))
    real: list[list[tuple[Tensor, Tensor]]] = []
    for inner in range(steps):
        drawn = [started.real.sample_indices(label, 0, inner) for label in range(toy.classes)]
        real.append([(started.real.store.take(i), torch.from_numpy(toy.train.protected[i])) for i in drawn])
    losses, seen = textbook.idc_steps(
        started.networks.fresh(0),
        pixels.view(toy.classes, ipc, 3, 8, 8),
        (mean, std),
        real,
        {"learning_rate": 2e-3, "momentum": 0.5},
        factor,
        fairness,
        distance,
    )
    algorithm.prepare(started)
    states, network = [], started.networks.fresh(0)
    for inner in range(steps):
        states.append(started.synthetic.images.detach() * std + mean)
        batches = [started.real.sample_batch(classes, 0, inner) for classes in started.class_chunks()]
        loss = algorithm.match(started, network, batches, 0, inner)
        assert loss.item() == pytest.approx(losses[inner], rel=1e-3)
        started.synthetic.optimizer_step()
    for state, expected in zip(states, seen, strict=True):
        torch.testing.assert_close(state, torch.cat(expected), rtol=1e-3, atol=1e-5)
    assert (states[-1] - pixels).abs().max() > 1e-4


def test_idc_takes_the_published_values_for_the_data(tmp_path: Path, small: BiasedDataset) -> None:
    garments = dataclasses.replace(small, name="garments", image_kind="grey")
    faces = write_toy(tmp_path / "faces.h5", np.array([[2, 2], [2, 2]]), side=64)
    algorithm = METHODS.load("idc").Method()
    found = algorithm.for_data(garments, 10)
    assert (found.learning_rate, found.distance, found.real_per_step) == (pytest.approx(1e-4 / 16), "l1", 500)
    found = algorithm.for_data(faces, 50)
    assert (found.learning_rate, found.distance, found.real_per_step) == (pytest.approx(5e-3 * 5 * 4), "l2", 2000)
    assert dataclasses.replace(algorithm, learning_rate=1.0, distance="l1").for_data(faces, 50).learning_rate == 1
    with pytest.raises(UsageError, match="convolutions"):
        check_config(plan("idc", network=parse_network("mlp")), small)


def double(network: Classifier) -> Classifier:
    return network.double()


def smooth_network() -> Classifier:
    with Streams(5).fork_rng("network"):
        return double(parse_network("convnet:width=3,depth=2,activation=swish").build((3, 8, 8), 3))


def unrolled_batches(images: Tensor) -> list[tuple[Tensor, Tensor]]:
    labels = torch.arange(6) % 3
    return [(images[part], labels[part]) for part in (slice(0, 4), slice(2, 6), slice(0, 6))]


def test_mtt_unrolls_the_training_of_a_network() -> None:
    images = torch.randn(6, 3, 8, 8, generator=Streams(2).torch("images"), dtype=torch.float64)
    start = torch.cat([parameter.detach().flatten() for parameter in smooth_network().parameters()])
    step = torch.tensor(0.3, dtype=torch.float64)
    found = unrolled_sgd(smooth_network(), start, unrolled_batches(images), step, RUNTIME)
    torch.testing.assert_close(found, textbook.trained(smooth_network(), unrolled_batches(images), 0.3))


def test_mtt_s_gradient_agrees_with_finite_differences() -> None:
    streams, network = Streams(2), smooth_network()
    images = torch.randn(6, 3, 8, 8, generator=streams.torch("images"), dtype=torch.float64).requires_grad_()
    step = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    start = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    goal = start + 0.1 * torch.randn(len(start), generator=streams.torch("goal"), dtype=torch.float64)

    def loss(pixels: Tensor, size: Tensor) -> Tensor:
        there = unrolled_sgd(network, start, unrolled_batches(pixels), size, RUNTIME)
        return (there - goal).square().sum() / (start - goal).square().sum()

    slope, step_slope = torch.autograd.grad(loss(images, step), [images, step])
    tiny = 1e-5
    for _ in range(4):
        way = torch.randn(images.shape, generator=streams.torch("way", _), dtype=torch.float64)
        difference = loss(images + tiny * way, step) - loss(images - tiny * way, step)
        assert (slope * way).sum().item() == pytest.approx(difference.item() / (2 * tiny), rel=1e-5)
    difference = loss(images, step + tiny) - loss(images, step - tiny)
    assert step_slope.item() == pytest.approx(difference.item() / (2 * tiny), rel=1e-5)


def test_mtt_s_step_size_stays_positive_and_is_what_evaluation_trains_with(small: BiasedDataset) -> None:
    for rate in ("1e-6", "1e-2"):
        options = {**OPTIONS["mtt"], "lr_lr": rate}
        found = run(small, plan("mtt", iterations=3, options=options))
        assert 0 < found.learning_rate < float("inf")
        assert found.learning_rate != 0.02


@pytest.mark.parametrize("method", ["idc", "dream", "mtt"])
def test_a_run_goes_on_from_a_snapshot_as_if_it_had_not_stopped(small: BiasedDataset, method: str) -> None:
    options = {**OPTIONS[method], **({"lr_lr": "1e-5"} if method == "mtt" else {})}
    chosen = plan(method, options=options, init="noise", iterations=3)
    algorithm = chosen.algorithm.for_data(small, 2)
    started = torch.randn(4, 3, 8, 8, generator=Streams(3).torch("images"))

    def fresh() -> Run:
        begun = run_of(chosen, small, started)
        algorithm.prepare(begun)
        return begun

    one, other = fresh(), fresh()
    for iteration in range(3):
        algorithm.step(one, iteration)
        if iteration == 1:
            other.restore(one.snapshot())
    algorithm.step(other, 2)
    torch.testing.assert_close(other.snapshot(), one.snapshot(), rtol=0, atol=0)


def test_mtt_unrolls_with_the_expert_s_own_statistics(small: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = plan("mtt", network=parse_network("convnet:width=4,depth=2,norm=batch"))
    chosen = dataclasses.replace(chosen, experts=str(Path(small.path).with_name("normalised.h5")))
    images = ImageStore(small.train.images, small.mean, small.std, RUNTIME).take(np.arange(len(small.train)))
    unrolled = []

    def watched(network: Classifier, here: Tensor, *others: object) -> Tensor:
        expert = chosen.network.build(small.shape, small.classes)
        set_parameters(expert, here)
        freeze_batch_norm(expert, images)
        for name, statistics in expert.named_buffers():
            torch.testing.assert_close(network.get_buffer(name), statistics, rtol=1e-4, atol=1e-5)
        unrolled.append(len(list(expert.buffers())))
        return unrolled_sgd(network, here, *others)  # type: ignore[arg-type]

    monkeypatch.setattr("fairdd_cli.matching.run.unrolled_sgd", watched)
    run(small, chosen)
    assert unrolled == [6, 6, 6]


def test_experts_that_are_resumed_decide_about_compiling_alike(
    small: BiasedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = run_of(plan("mtt"), small, torch.zeros(4, 3, 8, 8))
    asked: list[float] = []
    monkeypatch.setattr(Runtime, "decide_compiling", lambda _, values: asked.append(values))
    parameters = sum(each.numel() for each in started.networks.fresh().parameters())
    for done in (0, 3):
        kept = Checkpoints()
        kept.state = State(done, 0.0, {"points": torch.zeros(done + 1, parameters)})
        parts = [((0, 0), kept)]
        list(train_trajectories(expert_targets(started.real), parts, TrainingConfig(epochs=4), started))
    assert asked[0] == asked[1] > 0


def test_experts_are_made_once_and_refused_for_another_run(small: BiasedDataset, tmp_path: Path) -> None:
    path = tmp_path / "experts.h5"
    first = run(small, plan("mtt", fairness="fairdd", experts=str(path)))
    made = path.stat().st_mtime_ns
    again = run(small, plan("mtt", fairness="fairdd", experts=str(path)))
    np.testing.assert_array_equal(first.images, again.images)
    assert path.stat().st_mtime_ns == made
    experts = read_experts(str(path))
    assert (experts.targets, experts.experts, experts.shape[1]) == (2, 1, 4)
    assert first.options["experts"] == experts.digest
    shown = CliRunner().invoke(app, ["inspect", str(path)]).stdout
    assert re.search(r"1 for each of 2 targets, 3 epochs, [\d,]+ parameters", " ".join(shown.split()))
    with pytest.raises(UsageError, match="holds no images"):
        load(str(path))
    assert not np.array_equal(experts.parameters(0, 0, 0), experts.parameters(0, 0, 1))
    for changes, named in (
        ({"fairness": "vanilla"}, "fairness"),
        ({"network": parse_network("convnet:width=3,depth=2")}, "network"),
        ({"options": {**OPTIONS["mtt"], "lr_teacher": "0.5"}}, "expert_learning_rate"),
    ):
        with pytest.raises(UsageError, match=f"were made with {named}"):
            run(small, plan("mtt", **{"fairness": "fairdd", "experts": str(path), **changes}))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match="truncated"):
        run(small, plan("mtt", fairness="fairdd", experts=str(path)))


def test_experts_see_the_images_that_the_strategy_weighs(toy: BiasedDataset) -> None:
    def targets(fairness: str) -> list[tuple[np.ndarray, np.ndarray]]:
        return expert_targets(run_of(plan("mtt", fairness=fairness), toy, torch.zeros(6, 3, 8, 8)).real)

    ((indices, weights),) = targets("vanilla")
    assert sorted(indices) == list(range(len(toy.train)))
    np.testing.assert_allclose(weights, 1 / len(toy.train), rtol=1e-6)
    fair = targets("fairdd")
    assert len(fair) == 4
    for indices, weights in fair[:2]:
        assert len(np.unique(toy.train.protected[indices])) == 1
        per_class = np.bincount(toy.train.labels[indices], weights)
        np.testing.assert_allclose(per_class, toy.train.count.sum(1) / len(toy.train), rtol=1e-6)
    assert sorted(systematic_resample(np.ones(7), Streams(0).numpy("spread"))) == list(range(7))
    drawn = np.bincount(systematic_resample(np.array([1.0, 1.0, 6.0, 0.0]), Streams(0).numpy("spread")), minlength=4)
    assert drawn[2] == 3
    assert drawn[3] == 0


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "a strategy for what matches nothing": (
        lambda: resolved("random", fairness="kde", ipc=1, network=NETWORK, options={}),
        "matches nothing",
    ),
    "a strategy without groups for a coreset": (
        lambda: resolved("herding", fairness="kde", ipc=1, network=NETWORK, options={}),
        "which matches nothing; choose a strategy that uses groups",
    ),
    "another start for a coreset": (
        lambda: resolved("kcenter", init="noise", ipc=1, network=NETWORK, options={}),
        "--init noise contradicts method kcenter, which chooses its images itself",
    ),
    "a distance that a method doesn't have": (
        lambda: plan("dm", options={"distance": "cosine"}),
        "distance=l2|l1|m3d|ncfm",
    ),
    "experts for what uses none": (lambda: plan("dm", experts="x.h5"), "uses no experts"),
    "groups that nothing looks at": (lambda: plan("dm", groups="pseudo"), "has no effect"),
    "too few expert epochs": (lambda: plan("mtt", groups="pseudo:1", fairness="fairdd"), "at least 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_with_the_reason(case: str) -> None:
    refused, reason = REFUSED[case]
    with pytest.raises(UsageError) as error:
        refused()
    assert reason in str(error.value)
