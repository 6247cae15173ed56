"""Dance: against a plain loop, its experts, and its published values."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import textbook_methods as textbook
import torch
from conftest import Fairdd, resolved, write_toy
from torch import Tensor

from fairdd_cli.artifacts import BiasedDataset, read_experts
from fairdd_cli.distill import ResolvedConfig, check_config, run_distillation, start_run, use_experts
from fairdd_cli.errors import UsageError
from fairdd_cli.matching.run import Run
from fairdd_cli.methods import dance
from fairdd_cli.methods._start import expert_spec
from fairdd_cli.runtime import NullProgress, Runtime, Streams
from fairdd_cli.training import TrainingConfig, parameter_vector

NETWORK = "convnet:width=4,depth=2"
SHORT = {"num_experts": "2", "train_epochs": "3"}
PLAIN = {**SHORT, "augmentation": "", "learning_rate": "0.05"}
RUNTIME = Runtime(torch.device("cpu"), micro_batch=5)


def plan(options: dict[str, str], **words: object) -> ResolvedConfig:
    return resolved("dance", network=NETWORK, options=options, **{"ipc": 2, "batch_real": 12, **words})


def begun(chosen: ResolvedConfig, dataset: BiasedDataset) -> Run:
    check_config(chosen, dataset)
    run = start_run(chosen, dataset, RUNTIME, NullProgress())
    use_experts(run, chosen, dataset)
    chosen.algorithm.for_data(dataset, chosen.ipc).prepare(run)
    return run


@pytest.mark.parametrize("iter_calib", [0, 1, 2])
@pytest.mark.parametrize("fairness", ["vanilla", "fairdd", "barycenter"])
def test_it_steps_as_far_as_the_published_loop_class_by_class(
    toy: BiasedDataset, fairness: str, iter_calib: int
) -> None:
    iterations, ipc, factor = 4, 2, 2
    toy = dataclasses.replace(toy, std=(0.2, 0.25, 0.35))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (toy.mean, toy.std))
    options = {**PLAIN, "learning_rate": "2e-3", "iter_calib": str(iter_calib)}
    chosen = plan(options, fairness=fairness, init="noise", factor=factor)
    run = begun(chosen, toy)
    run.subtracts_noise = False
    pixels = 0.2 + 0.6 * torch.rand(toy.classes * ipc, 3, 8, 8, generator=Streams(1).torch("pixels"))
    with torch.no_grad():
        run.synthetic.images.copy_((pixels - mean) / std)
    real: list[list[tuple[Tensor, Tensor]]] = []
    for iteration in range(iterations):
        drawn = [run.real.sample_indices(label, iteration) for label in range(toy.classes)]
        real.append([(run.real.store.take(i), torch.from_numpy(toy.train.protected[i])) for i in drawn])
    losses, seen = textbook.dance_steps(
        [(run.networks.draw(key), run.networks.draw(key, at_end=True)) for key in range(iterations)],
        pixels.view(toy.classes, ipc, 3, 8, 8),
        (mean, std),
        real,
        {"learning_rate": 2e-3, "momentum": 0.5, "iter_calib": iter_calib},
        factor,
        fairness,
    )
    states = []
    for iteration in range(iterations):
        states.append(run.synthetic.images.detach() * std + mean)
        assert chosen.algorithm.step(run, iteration).item() == pytest.approx(losses[iteration], rel=1e-3)
    for state, expected in zip(states, seen, strict=True):
        torch.testing.assert_close(state, torch.cat(expected), rtol=1e-3, atol=1e-5)
    assert (states[-1] - pixels).abs().max() > 1e-4


def test_an_iteration_calibrates_by_the_expert_of_its_middle_encoder(toy: BiasedDataset) -> None:
    run = begun(plan(SHORT), toy)
    ends = [[torch.from_numpy(run.experts.parameters(0, which, epoch)) for epoch in (0, -1)] for which in (0, 1)]
    seen = set()
    for key in range(8):
        middle, expert = (parameter_vector(run.networks.draw(key, at_end=at_end)) for at_end in (False, True))
        (which,) = (number for number, (_, end) in enumerate(ends) if torch.equal(expert, end))
        start, end = ends[which]
        share = float((middle - start) @ (end - start) / (end - start).square().sum())
        torch.testing.assert_close(middle, torch.lerp(start, end, share), rtol=0, atol=1e-5)
        assert 0 <= share <= 1
        seen.add(which)
    assert seen == {0, 1}


def test_calibration_lets_the_expert_classify_the_images(toy: BiasedDataset) -> None:
    found = {}
    for count in ("0", "3"):
        chosen = plan({**PLAIN, "iter_calib": count}, fairness="fairdd")
        run = begun(chosen, toy)
        for iteration in range(6):
            chosen.algorithm.step(run, iteration)
        experts = [run.networks.draw(key, at_end=True) for key in range(4)]
        plain = run.siamese_augmentation("", 0)
        entropies = [run.synthetic_cross_entropy(each, slice(0, toy.classes), plain, 0) for each in experts]
        found[count] = float(torch.stack(entropies).sum().detach())
    assert found["3"] < found["0"]


def test_experts_see_the_groups_as_the_real_batches_do(toy: BiasedDataset) -> None:
    for words, sampling in (
        ({}, "proportional"),
        ({"fairness": "fairdd"}, "balanced"),
        ({"fairness": "fairdd", "sampling": "proportional"}, "proportional"),
        ({"fairness": "inverse"}, "proportional"),
        ({"trained_sampling": "balanced"}, "balanced"),
        ({"fairness": "fairdd", "trained_sampling": "proportional"}, "proportional"),
    ):
        chosen = plan(SHORT, **words)
        assert chosen.record()["trained_sampling"] == sampling
        assert Path(expert_spec(chosen, toy).path).name == f"{Path(toy.path).stem}.networks-dance-{sampling}.h5"


def test_experts_are_trained_as_published_and_kept_before_and_after(tmp_path: Path) -> None:
    data = write_toy(tmp_path / "grey.h5", np.array([[14, 5], [4, 12]]))
    number, training = dance.Method().expert_training(data)
    assert (number, training) == (
        5,
        TrainingConfig(60, 0.01, 0.9, 5e-4, 64, "color+crop", (2 / 3, 5 / 6), 0.2, cutmix=0.5),
    )
    assert [training.learning_rate_at(epoch) for epoch in (39, 40, 50)] == pytest.approx([0.01, 0.002, 0.0004])
    run_distillation(plan(SHORT, iterations=1), data, RUNTIME, NullProgress())
    made = read_experts(str(tmp_path / "grey.networks-dance-proportional.h5"))
    assert made.shape[:2] == (2, 2)
    with pytest.raises(UsageError, match="made with experts 2, but this run needs 3"):
        check_config(plan({**SHORT, "num_experts": "3"}), data)


def test_the_learning_rate_of_an_expert_drops_in_its_epochs(toy: BiasedDataset) -> None:
    def ends(number: int, rate: str) -> np.ndarray:
        folder = Path(toy.path).parent
        chosen = plan({**SHORT, "lr_teacher": rate}, experts=str(folder / f"{number}.h5"))
        run = begun(chosen, toy)
        return run.experts.parameters(0, 0, -1) - run.experts.parameters(0, 0, 0)

    slow, fast = ends(0, "1e-4"), ends(1, "2e-4")
    assert np.linalg.norm(fast) / np.linalg.norm(slow) == pytest.approx(2, rel=0.1)


def test_its_values_are_the_published_ones_for_the_size_of_the_images(tmp_path: Path, toy: BiasedDataset) -> None:
    large = write_toy(tmp_path / "large.h5", np.array([[2, 2], [2, 2]]), side=128)
    for data, ipc, rate, epochs in ((toy, 10, 0.1, 60), (toy, 50, 0.5, 60), (large, 10, 1.0, 80)):
        found = dance.Method().for_data(data, ipc)
        assert (found.learning_rate, found.train_epochs) == (pytest.approx(rate), epochs)
    chosen = plan({}, batch_real=None)
    assert (chosen.factor, chosen.batch_real, chosen.iterations) == (2, 128, 10_000)
    assert (dance.Method.evaluation.epochs, dance.Method.evaluation.cutmix) == (1500, 0.5)


@pytest.mark.parametrize("decoding", ["tiles", "frequency", "group-maps"])
def test_it_goes_on_from_a_snapshot_under_every_decoding(toy: BiasedDataset, decoding: str) -> None:
    chosen = plan({**SHORT, "learning_rate": "0.05"}, fairness="fairdd", decoding=decoding, factor=1)
    one, other = begun(chosen, toy), begun(chosen, toy)
    start = one.synthetic.images.detach().clone()
    for iteration in range(3):
        chosen.algorithm.step(one, iteration)
        if iteration == 1:
            other.restore(one.snapshot())
    chosen.algorithm.step(other, 2)
    assert not torch.equal(one.synthetic.images, start)
    torch.testing.assert_close(other.snapshot(), one.snapshot(), rtol=0, atol=0)


def test_the_command_makes_its_experts_and_uses_them_again(fairdd: Fairdd, toy: BiasedDataset) -> None:
    words = ["-O", "num_experts=1", "-O", "pretrain_epochs=1", "--iterations", 2, "--network", NETWORK]
    for match in ("class", "cells"):
        fairdd("distill", toy.path, "--method", "dance", "--fair", "--ipc", 2, "--match", match, *words, "--force")
    path = Path(toy.path).with_suffix("")
    before = Path(f"{path}.networks-dance-balanced.h5").read_bytes()
    fairdd("verify", f"{path}.networks-dance-balanced.h5", f"{path}.dance-fairdd-ipc2.h5")
    fairdd("distill", toy.path, "--method", "dance", "--fair", "--ipc", 1, *words)
    assert Path(f"{path}.networks-dance-balanced.h5").read_bytes() == before
