"""Matching by cell, in trained networks and with cross-entropy: against plain loops, and through the command."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Fairdd, resolved, write_toy
from textbook import weight_gradients
from torch import Tensor

from fairdd_cli.artifacts import BiasedDataset, read_experts, read_synthetic
from fairdd_cli.decodings import DECODINGS
from fairdd_cli.distill import ResolvedConfig, check_config, run_distillation, start_run, use_experts
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import STRATEGIES, find_strategy
from fairdd_cli.matching.experts import all_images, even_cells
from fairdd_cli.matching.run import Run
from fairdd_cli.methods import METHODS
from fairdd_cli.runtime import NullProgress, Runtime
from fairdd_cli.training import parameter_vector

NETWORK = "convnet:width=4,depth=2"
RUNTIME = Runtime(torch.device("cpu"), micro_batch=5)
TRAINED = {"trained_networks": 2, "trained_epochs": 2}
MATCHING = [
    name
    for name in METHODS.names()
    if (method := METHODS.load(name).Method).matches and (method.draws_experts or not method.uses_experts)
]
SHORT = {
    "dm": {},
    "dance": {"num_experts": "2", "train_epochs": "2"},
    "cafe": {"outer_loop": "1"},
    "gm": {"outer_loop": "2", "inner_loop": "1"},
    "dsa": {"outer_loop": "2", "inner_loop": "1"},
    "idc": {"inner_loop": "2", "real_per_step": "20"},
    "dream": {"inner_loop": "2", "real_per_step": "20", "interval": "2"},
}

BETWEEN_DISTRIBUTIONS = {  # dm's other distances, each with one of the decodings where every strategy is crossed
    "tiles": {"distance": "ncfm", "num_freqs": "16"},
    "group-maps": {"distance": "m3d"},
}


@pytest.fixture
def even(tmp_path: Path) -> BiasedDataset:
    """Three classes and two groups, all cells with images."""
    return write_toy(tmp_path / "even.h5", np.array([[14, 5], [4, 12], [8, 10]]))


def plan(method: str = "dm", **words: object) -> ResolvedConfig:
    options = {"fairness": "fairdd", "ipc": 4, "iterations": 2, "batch_real": 8, **words}
    return resolved(method, network=NETWORK, **{"options": SHORT[method], **options})  # type: ignore[arg-type]


def begun(chosen: ResolvedConfig, dataset: BiasedDataset) -> Run:
    check_config(chosen, dataset)
    run = start_run(chosen, dataset, RUNTIME, NullProgress())
    use_experts(run, chosen, dataset)
    chosen.algorithm.for_data(dataset, chosen.ipc).prepare(run)
    return run


def of_cells(run: Run) -> dict[tuple[int, int], Tensor]:
    """The synthetic images of each (class, group), differentiable."""
    images, labels = run.synthetic.decoded_images(slice(0, run.num_classes))
    groups = run.synthetic.groups
    found = {}
    for label in range(run.num_classes):
        for group in range(run.real.split.count.shape[1]):
            members = torch.nonzero((labels == label) & (groups == group)).flatten()
            found[label, group] = images[members]
    return found


@pytest.mark.parametrize("factor", [1, 2])
def test_dm_moves_the_mean_of_each_cell_to_that_of_its_group(even: BiasedDataset, factor: int) -> None:
    chosen = plan(match="cells", factor=factor, options={"augmentation": "", "learning_rate": "3", "momentum": "0"})
    run = begun(chosen, even)
    network, synthetic = run.networks.fresh(0), of_cells(run)
    loss = torch.zeros(())
    for label in range(even.classes):
        drawn = run.real.sample_indices(label, 0)
        for group in range(even.groups):
            real = run.real.store.take(drawn[even.train.protected[drawn] == group])
            target = network.embed(real).mean(dim=0).detach()
            loss = loss + (target - network.embed(synthetic[label, group]).mean(dim=0)).square().sum()
    (gradient,) = torch.autograd.grad(loss, [run.synthetic.images])
    before, expected = run.synthetic.images.detach().clone(), loss.item()
    found = chosen.algorithm.step(run, 0)
    noise = found.item() - expected
    assert noise < 0  # what the sampling of the real images adds is taken off the loss that is shown
    torch.testing.assert_close(run.synthetic.images.detach(), before - 3 * gradient, rtol=1e-4, atol=1e-5)


def test_gm_matches_the_gradient_of_each_cell(even: BiasedDataset) -> None:
    chosen = plan(
        "gm", match="cells", options={"outer_loop": "1", "learning_rate": "0.3", "momentum": "0", "distance": "l2"}
    )
    run = begun(chosen, even)
    network, synthetic = run.networks.fresh(0), of_cells(run)
    loss = torch.zeros(())
    for label in range(even.classes):
        drawn = run.real.sample_indices(label, 0, 0)
        for group in range(even.groups):
            real = run.real.store.take(drawn[even.train.protected[drawn] == group])
            targets = weight_gradients(network, real, label, differentiable=False)
            own = weight_gradients(network, synthetic[label, group], label, differentiable=True)
            loss = loss + sum((a - b).square().sum() for a, b in zip(targets, own, strict=True))
    (gradient,) = torch.autograd.grad(loss, [run.synthetic.images])
    before = run.synthetic.images.detach().clone()
    assert chosen.algorithm.step(run, 0).item() == pytest.approx(loss.item(), rel=1e-4)
    torch.testing.assert_close(run.synthetic.images.detach(), before - 0.3 * gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("decoding", ["tiles", "group-maps:kernel=3,offset=2,learn=1"])
@pytest.mark.parametrize("method", MATCHING)
def test_every_method_takes_every_ingredient(even: BiasedDataset, method: str, decoding: str) -> None:
    if decoding != "tiles" and METHODS.load(method).Method.needs_pixels:
        with pytest.raises(UsageError, match="steps in pixels"):
            plan(method, decoding=decoding)
        return
    trained = {} if METHODS.load(method).Method.draws_experts else TRAINED
    words = {**trained, "decoding": decoding, "match": "cells", "cross_entropy": 0.3, "init": "balanced"}
    chosen = plan(method, **words)
    check_config(chosen, even)
    made = run_distillation(chosen, even, RUNTIME, NullProgress())
    start = run_distillation(plan(method, **{**words, "iterations": 0}), even, RUNTIME, NullProgress())
    assert np.isfinite(made.images).all()
    assert not np.array_equal(made.images, start.images)
    assert all(not np.array_equal(table, start.tables[name]) for name, table in made.tables.items())
    assert made.options["match"] == "cells"
    assert str(made.options["experts"]).startswith("sha256:")


@pytest.mark.parametrize("fairness", STRATEGIES.names())
@pytest.mark.parametrize("method", ["dm", "gm"])
def test_every_strategy_takes_every_ingredient_or_says_why_not(even: BiasedDataset, method: str, fairness: str) -> None:
    start = run_distillation(plan(method, fairness=fairness, iterations=0), even, RUNTIME, NullProgress())
    for decoding in DECODINGS.names():
        words = {**TRAINED, "fairness": fairness, "decoding": decoding, "cross_entropy": 0.3}
        words["options"] = BETWEEN_DISTRIBUTIONS.get(decoding, {}) if method == "dm" else SHORT[method]
        made = run_distillation(plan(method, **words), even, RUNTIME, NullProgress())
        assert np.isfinite(made.images).all()
        assert made.images.shape != start.images.shape or not np.array_equal(made.images, start.images)
        assert (made.fairness, made.groups is None) == (fairness, True)
        if not find_strategy(fairness).targets_are_groups:
            with pytest.raises(UsageError, match=f"a target for each group, which {fairness} has not; use --fair"):
                plan(method, **words, match="cells")
            continue
        by_cell = run_distillation(plan(method, **words, match="cells"), even, RUNTIME, NullProgress())
        assert np.isfinite(by_cell.images).all()
        assert not np.array_equal(by_cell.images, made.images)


def test_groupdro_by_cell_moves_the_images_of_the_worst_group_alone(even: BiasedDataset) -> None:
    options = {"augmentation": "", "learning_rate": "3", "momentum": "0"}
    chosen = plan(fairness="groupdro", match="cells", init="balanced", options=options)
    run = begun(chosen, even)
    network, synthetic, before = run.networks.fresh(0), of_cells(run), run.synthetic.images.detach().clone()
    worst = []
    for label in range(even.classes):
        drawn = run.real.sample_indices(label, 0)
        distances = []
        for group in range(even.groups):
            real = run.real.store.take(drawn[even.train.protected[drawn] == group])
            distance = network.embed(real).mean(dim=0) - network.embed(synthetic[label, group]).mean(dim=0)
            distances.append(distance.square().sum().item())
        worst.append(int(np.argmax(distances)))
    chosen.algorithm.step(run, 0)
    moved = (run.synthetic.images.detach() - before).flatten(1).norm(dim=1) > 0
    groups = run.synthetic.groups
    assert groups is not None
    expected = groups.reshape(even.classes, -1) == torch.tensor(worst)[:, None]
    assert moved.tolist() == expected.flatten().tolist()


def test_a_set_that_was_matched_by_cell_says_which_group_each_image_stands_for(even: BiasedDataset) -> None:
    made = run_distillation(plan(match="cells", factor=2), even, RUNTIME, NullProgress())
    assert made.groups is not None
    assert np.bincount(made.groups.reshape(3, 16)[0]).tolist() == [8, 8]
    assert made.protected_names == even.protected_names
    assert run_distillation(plan(factor=2), even, RUNTIME, NullProgress()).groups is None


def test_networks_lie_between_the_start_and_the_end_of_a_trained_one(even: BiasedDataset) -> None:
    run = begun(plan(**TRAINED), even)
    assert run.networks.trained is not None
    trajectories = [
        [torch.from_numpy(run.networks.trained.parameters(0, each, epoch)) for epoch in (0, -1)] for each in (0, 1)
    ]
    shares, seen = [], set()
    for key in range(12):
        found = parameter_vector(run.networks.draw(key))
        residuals = []
        for start, end in trajectories:
            share = float((found - start) @ (end - start) / (end - start).square().sum())
            residuals.append((float((found - start - share * (end - start)).norm()), share))
        nearest = int(np.argmin([residual for residual, _ in residuals]))
        assert residuals[nearest][0] < 1e-3
        seen.add(nearest)
        shares.append(residuals[nearest][1])
    assert seen == {0, 1}
    assert 0 <= min(shares) < 0.4
    assert 0.6 < max(shares) <= 1


def test_trained_networks_see_the_cells_as_their_sampling_says(even: BiasedDataset) -> None:
    run = begun(plan(), even)
    count = even.train.count
    evenly = np.repeat(count.sum(axis=1, keepdims=True) / 2, 2, axis=1)
    for targets, expected in ((even_cells, evenly), (all_images, count)):
        ((indices, weights),) = targets(run.real)
        assert len(indices) == len(even.train)
        share = np.zeros((3, 2))
        np.add.at(share, (even.train.labels[indices], even.train.protected[indices]), weights)
        np.testing.assert_allclose(share, expected / len(even.train))


def test_trained_networks_are_made_once_and_only_used_where_they_fit(even: BiasedDataset, tmp_path: Path) -> None:
    run_distillation(plan(**TRAINED), even, RUNTIME, NullProgress())
    path = tmp_path / "even.networks-balanced.h5"
    made = read_experts(str(path))
    assert (made.experts, made.shape[1]) == (2, 2)  # before and after training
    before = path.read_bytes()
    run_distillation(plan(**TRAINED, match="cells", init="balanced"), even, RUNTIME, NullProgress())
    assert path.read_bytes() == before
    with pytest.raises(UsageError, match="made with experts 2, but this run needs 3"):
        check_config(plan(trained_networks=3, trained_epochs=2), even)
    run_distillation(plan(**TRAINED, trained_sampling="proportional"), even, RUNTIME, NullProgress())
    assert (tmp_path / "even.networks-proportional.h5").exists()


def test_trained_networks_are_given_a_name_where_that_of_the_data_set_is_long(tmp_path: Path) -> None:
    long = write_toy(tmp_path / f"{'a' * 245}.h5", np.array([[9, 3], [2, 9]]))
    with pytest.raises(UsageError, match="File name too long; name the file of the experts with --experts"):
        check_config(plan(**TRAINED), long)
    check_config(plan(**TRAINED, experts=str(tmp_path / "networks.h5")), long)


@pytest.mark.parametrize("share", [0.3, 2.0])
def test_the_cross_entropy_pulls_with_its_share_of_the_norm(even: BiasedDataset, share: float) -> None:
    options = {"augmentation": "", "learning_rate": "1", "momentum": "0"}
    plain, both = (begun(plan(**TRAINED, options=options, cross_entropy=each), even) for each in (0.0, share))
    for run in (plain, both):
        plan(**TRAINED, options=options).algorithm.step(run, 0)
    start = begun(plan(options=options), even).synthetic.images.detach()
    matched = start - plain.synthetic.images.detach()
    pulled = plain.synthetic.images.detach() - both.synthetic.images.detach()
    assert float(pulled.norm() / matched.norm()) == pytest.approx(share, rel=1e-4)


def test_the_cross_entropy_is_that_of_a_plain_loop(even: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(plan(**TRAINED, cross_entropy=1.0), even)
    network = run.networks.draw(0)
    monkeypatch.setattr(Run, "allowed_augmentations", lambda *_: "")
    images, labels = run.synthetic.decoded_images(slice(0, 3))
    (expected,) = torch.autograd.grad(F.cross_entropy(network(images), labels), [run.synthetic.images])
    seen: list[list[Tensor]] = []
    monkeypatch.setattr(type(run.synthetic), "optimizer_step", lambda _, __, auxiliary, ___: seen.append(auxiliary))
    run.update_images(network, 0)
    torch.testing.assert_close(seen[0][0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("decoding", ["tiles", "frequency", "group-maps", "group-maps:kernel=3,offset=2,learn=1"])
def test_a_run_with_every_ingredient_goes_on_from_a_snapshot(even: BiasedDataset, decoding: str) -> None:
    chosen = plan(**TRAINED, match="cells", cross_entropy=0.3, decoding=decoding, init="balanced")
    one, other = begun(chosen, even), begun(chosen, even)
    for iteration in range(3):
        chosen.algorithm.step(one, iteration)
        if iteration == 1:
            other.restore(one.snapshot())
    chosen.algorithm.step(other, 2)
    torch.testing.assert_close(other.snapshot(), one.snapshot(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--match", "cells"], "needs a strategy with a target for each group, which vanilla has not"),
        (["--fairness", "barycenter", "--match", "cells"], "which barycenter has not; use --fair"),
        (["--fair", "--match", "cells"], "none of the 1 training images of class"),
        (["--fair", "--cross-entropy", "0.3"], "give --trained-networks, such as 3"),
        (
            ["--fair", "--method", "mtt", "--trained-networks", "2"],
            "mtt, which matches in no networks of its own choice",
        ),
        (["--fair", "--method", "mtt", "--match", "cells"], "mtt, which matches no part of a class"),
        (["--method", "random", "--trained-networks", "2"], "random, which matches in no networks"),
        (["--method", "dance", "--trained-networks", "2"], "dance, which trains its own: -O num_experts"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    fairdd: Fairdd, toy: BiasedDataset, words: list[str], said: str
) -> None:
    done = fairdd("distill", toy.path, "--method", "dm", "--ipc", 1, "--network", NETWORK, *words, check=False)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert len(done.stderr.strip().splitlines()) <= 3


def test_the_command_runs_every_ingredient(fairdd: Fairdd, even: BiasedDataset, tmp_path: Path) -> None:
    words = ["--match", "cells", "--trained-networks", 1, "--trained-epochs", 1, "--cross-entropy", 0.3]
    common = ["--method", "dm", "--fair", "--ipc", 2, "--iterations", 2, "--network", NETWORK]
    fairdd("distill", "even.h5", *common, *words, "-o", "s.h5")
    made = read_synthetic(str(tmp_path / "s.h5"))
    assert made.options["cross_entropy"] == 0.3
    assert (tmp_path / "even.networks-balanced.h5").exists()
    fairdd("verify", "s.h5", "even.networks-balanced.h5")
    again = fairdd("distill", "even.h5", *common, *words, "-o", "again.h5")
    assert again.stdout.strip() == "again.h5"
    np.testing.assert_array_equal(read_synthetic(str(tmp_path / "again.h5")).images, made.images)


def test_the_best_recipe_runs_by_its_name(fairdd: Fairdd, toy: BiasedDataset, tmp_path: Path) -> None:
    short = ["--iterations", 1, "--trained-networks", 1, "--network", NETWORK, "-o", "best.h5"]
    fairdd("distill", toy.path, "--recipe", "best", "--ipc", 1, *short)
    made = read_synthetic(str(tmp_path / "best.h5"))
    assert (made.method, made.fairness, made.factor, made.options["match"]) == ("dm", "fairdd", 2, "cells")
    assert made.options["cross_entropy"] == 0.3
    coloured = Path(__file__).parent.parent / "recipes" / "best" / "coloured.yaml"
    fairdd("distill", toy.path, "--recipe", coloured, "--ipc", 1, *short, "--force")
    assert read_synthetic(str(tmp_path / "best.h5")).decoding == "group-maps:channels=1"
