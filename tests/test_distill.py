"""The loop: every method under every strategy and sampling falls in loss, stays finite, and is what it says."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from conftest import resolved
from tiny import TINY

from fairdd_cli.artifacts import BiasedDataset, SyntheticSet
from fairdd_cli.distill import ResolvedConfig, check_config, run_distillation, start_run
from fairdd_cli.errors import DivergedError, UsageError
from fairdd_cli.fairness import STRATEGIES, class_means, concatenate, find_strategy
from fairdd_cli.matching.distances import distances
from fairdd_cli.matching.signals import weighted_sums
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import NullProgress, Runtime, Streams, open_runtime

NETWORK = parse_network("convnet:width=4,depth=2")


def plan(method: str, **changes: object) -> ResolvedConfig:
    choices: dict[str, object] = {
        "fairness": "vanilla", "ipc": 2, "factor": 1, "iterations": 3, "network": NETWORK, "options": {},
    }  # fmt: skip
    return resolved(method, **{**choices, **changes})  # type: ignore[arg-type]


def run(dataset: BiasedDataset, chosen: ResolvedConfig, micro_batch: int = 32) -> SyntheticSet:
    check_config(chosen, dataset)
    return run_distillation(chosen, dataset, Runtime(torch.device("cpu"), micro_batch=micro_batch), NullProgress())


@pytest.mark.parametrize("method", ["dm", "cafe", "gm", "dsa"])
def test_classes_one_by_one_or_together_give_the_same_images(toy: BiasedDataset, method: str) -> None:
    for fairness in STRATEGIES.names():
        options = dict(TINY[method])
        chosen = plan(method, fairness=fairness, options=options, batch_real=8)
        by_class, *others = (run(toy, chosen, micro_batch) for micro_batch in (1, 2, 0))  # 1, then 1 and 2, then 3
        for together in others:
            np.testing.assert_allclose(by_class.images, together.images, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("micro_batch", "expected"), [(1, [1, 1, 1]), (2, [1, 2]), (3, [3]), (32, [3]), (0, [3])])
def test_classes_are_matched_together_as_far_as_their_images_allow(
    toy: BiasedDataset, micro_batch: int, expected: list[int]
) -> None:
    runtime = Runtime(torch.device("cpu"), micro_batch=micro_batch)
    started = start_run(plan("dm", batch_real=8), toy, runtime, NullProgress())
    chunks = list(started.class_chunks())
    assert [chunk.stop - chunk.start for chunk in chunks] == expected
    assert [chunk.start for chunk in chunks] == [0, *(chunk.stop for chunk in chunks[:-1])]


def test_the_distance_to_the_group_targets_falls(toy: BiasedDataset) -> None:
    """The mean embeddings of the synthetic images come closer to those of the groups, under a network of their own."""
    with Streams(99).fork_rng("judge"):
        judge = NETWORK.build(toy.shape, toy.classes)

    def distance(synthetic: SyntheticSet) -> float:
        real = torch.from_numpy((toy.train.images.all() / 255 - 0.5) / 0.25).float()
        targets = [
            find_strategy("fairdd").assign_targets(toy.train.protected[toy.train.labels == label])
            for label in range(toy.classes)
        ]
        weights = concatenate(targets)
        target = weighted_sums(judge.embed(real), weights)
        own = weighted_sums(judge.embed(torch.from_numpy(synthetic.images)), class_means(toy.classes, 2))
        return distances("l2", target, own, [each.num_targets for each in targets]).sum().item()

    first = run(toy, plan("dm", fairness="fairdd", init="noise", iterations=0))
    last = run(toy, plan("dm", fairness="fairdd", init="noise", iterations=60, options={"augmentation": ""}))
    assert distance(last) < 0.8 * distance(first)


def test_the_file_says_what_was_run(toy: BiasedDataset) -> None:
    chosen = plan("gm", fairness="barycenter", ipc=3, factor=1, options={"outer_loop": "2", "inner_loop": "1"}, seed=5)
    synthetic = run(toy, chosen)
    assert (synthetic.method, synthetic.fairness, synthetic.sampling) == ("gm", "barycenter", "balanced")
    assert (synthetic.ipc, synthetic.iterations, synthetic.seed) == (3, 3, 5)
    assert synthetic.options["hyper"] == {**dataclasses.asdict(chosen.algorithm)}
    assert synthetic.evaluation["epochs"] == 300
    assert synthetic.evaluation["augmentation"] == ""
    assert synthetic.dataset_digest == toy.digest
    assert list(synthetic.history.iteration) == [0, 1, 2]
    assert list(synthetic.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_any_ipc_has_an_inner_and_outer_loop() -> None:
    loops = {}
    for ipc in (1, 3, 10, 15, 50, 100, 1000):
        algorithm = plan("gm", ipc=ipc).algorithm
        loops[ipc] = (algorithm.outer_loop, algorithm.inner_loop)  # type: ignore[attr-defined]
    assert loops[1] == (1, 1)
    assert loops[10] == (10, 50)
    assert loops[15] == (15, 38)
    assert loops[50] == (50, 10)
    assert loops[100] == loops[1000] == (100, 10)
    assert loops[3][0] == 3


def test_what_the_strategy_uses_decides_the_defaults() -> None:
    vanilla, fair = plan("dm"), plan("dm", fairness="fairdd")
    assert (vanilla.sampling, vanilla.init, vanilla.batch_real) == ("proportional", "real", 256)
    assert (fair.sampling, fair.init, fair.batch_real) == ("balanced", "balanced", 40)
    assert plan("dm", ipc=100).algorithm.learning_rate == 10  # type: ignore[attr-defined]
    assert plan("dc").method == "gm"


def test_a_divergence_stops_the_run_with_the_iteration_and_advice(toy: BiasedDataset) -> None:
    with pytest.raises(DivergedError, match=r"diverged at iteration \d+.*\n.*learning_rate"):
        run(toy, plan("dm", options={"learning_rate": "1e30"}, iterations=20))


def test_batch_normalised_networks_are_matched_with_frozen_statistics(toy: BiasedDataset) -> None:
    network = parse_network("convnet:width=4,depth=2,norm=batch")
    for method in ("dm", "gm"):
        options = dict(TINY[method])
        chosen = plan(method, fairness="fairdd", network=network, options=options)
        one, other = run(toy, chosen, 3), run(toy, chosen, 0)
        np.testing.assert_allclose(one.images, other.images, rtol=1e-3, atol=1e-4)


def test_a_plan_that_the_data_cannot_fulfil_is_refused(toy: BiasedDataset) -> None:
    with pytest.raises(UsageError, match="needs 15 images"):
        check_config(plan("dm", ipc=15), toy)
    with pytest.raises(UsageError, match="tiles"):
        check_config(plan("dm", ipc=1, factor=3), toy)
    with pytest.raises(UsageError, match="pixels"):
        check_config(plan("dm", network=parse_network("convnet:depth=5")), toy)


def test_ranks_without_an_image_are_refused_before_the_work(toy: BiasedDataset) -> None:
    chosen = plan("dm", batch_real=2, sampling="proportional")
    most = 2 * toy.classes
    check_config(chosen, toy, most)
    with pytest.raises(UsageError, match=rf"{most + 1} ranks are too many .*; start at most {most}"):
        check_config(chosen, toy, most + 1)
    check_config(plan("random"), toy, 1000)  # which draws no batches


@pytest.mark.parametrize(
    "options",
    [
        {"groups": "pseudo:4"},
        {"groups": "pseudo:9", "group_noise": 0.5},
        {"group_noise": 0.9},
        {"match": "cells", "decoding": "group-maps", "batch_real": 5},
        {},
    ],
    ids=str,
)
def test_no_run_that_passes_the_check_of_ranks_has_a_rank_without_an_image(
    options: dict[str, Any], toy: BiasedDataset
) -> None:
    chosen = plan("dm", fairness="fairdd", sampling="balanced", **{"batch_real": 7, **options})
    most = next(ranks - 1 for ranks in range(toy.classes + 1, 1000) if refused(chosen, toy, ranks))
    run = start_run(chosen, toy, open_runtime("cpu"), NullProgress())
    drawn = [len(run.real.sample_indices(label, step)) for label in range(toy.classes) for step in range(20)]
    assert most // toy.classes <= min(drawn)
    if not options:
        assert most // toy.classes == min(drawn)  # what is known is not guessed


def refused(chosen: ResolvedConfig, dataset: BiasedDataset, ranks: int) -> bool:
    """Whether so many ranks are too many."""
    try:
        check_config(chosen, dataset, ranks)
    except UsageError:
        return True
    return False


def test_fewer_large_images_pass_at_a_time() -> None:
    for side, expected in ((32, 2048), (64, 512), (2048, 1)):
        runtime = Runtime(torch.device("cuda"))
        runtime.set_image_size(side, side)
        assert runtime.forward_limit == expected
    for size, expected in (((28, 28), 32), ((32, 32), 32), ((64, 64), 8), ((128, 128), 4), ((1024, 1024), 4)):
        runtime = open_runtime("cpu")
        runtime.set_image_size(*size)
        assert runtime.micro_batch == expected
    runtime = open_runtime("cpu")
    mlp, convnet = (runtime.prepare_module(parse_network(name).build((3, 32, 32), 2)) for name in ("mlp", "convnet"))
    assert runtime.inference_batch(mlp) == 32
    assert runtime.inference_batch(convnet) == 128  # which divides them by itself
    short = Runtime(torch.device("meta"), micro_batch=32)  # another device, when its memory has run out
    assert short.inference_batch(short.prepare_module(parse_network("convnet").build((3, 32, 32), 2))) == 32
    halved = Runtime(torch.device("cpu"), micro_batch=2)  # memory ran out before
    halved.set_image_size(128, 128)
    assert halved.micro_batch == 2
    unlimited = Runtime(torch.device("cpu"))
    unlimited.set_image_size(128, 128)
    assert unlimited.full_batch


@pytest.mark.parametrize("method", ["dm", "gm"])
def test_half_precision_stays_near_full_precision(toy: BiasedDataset, method: str) -> None:
    chosen = plan(method, fairness="fairdd", iterations=1, options=dict(TINY[method]))
    start = run(toy, dataclasses.replace(chosen, iterations=0)).images
    full = run(toy, chosen).images
    half = run_distillation(chosen, toy, open_runtime("cpu", "bf16"), NullProgress()).images
    assert 0 < np.linalg.norm(half - full) < 0.2 * np.linalg.norm(full - start)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_a_gpu_gives_what_a_cpu_gives(toy: BiasedDataset) -> None:
    for method in ("dm", "gm", "dsa"):
        options = dict(TINY[method])
        chosen = plan(method, fairness="fairdd", options=options, iterations=2)
        check_config(chosen, toy)
        there = run_distillation(chosen, toy, open_runtime("cuda"), NullProgress())
        np.testing.assert_allclose(there.images, run(toy, chosen).images, rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("method", ["dm", "gm", "dsa", "idc"])
def test_a_deterministic_gpu_gives_the_same_bits(toy: BiasedDataset, method: str) -> None:
    options = dict(TINY[method])
    chosen = plan(method, fairness="fairdd", options=options, iterations=8, factor=None)
    try:
        one, other = (
            run_distillation(chosen, toy, open_runtime("cuda", deterministic=True), NullProgress()) for _ in range(2)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    assert np.array_equal(one.images, other.images)
