"""The loss without the sampling noise of the real batches: unbiased, of no influence on the images, named in files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import Fairdd, resolved, write_toy

from fairdd_cli.artifacts import BiasedDataset, read_checkpoint, read_synthetic, synthetic, write_synthetic
from fairdd_cli.distill import run_distillation, start_run
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import STRATEGIES, find_strategy
from fairdd_cli.matching.distances import distances
from fairdd_cli.matching.noise import noise_weights
from fairdd_cli.matching.real import RealData
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import Checkpoints, NullProgress, open_runtime
from fairdd_cli.training import augmentation as augment

NETWORK = parse_network("convnet:width=8,depth=1")
CASES = [
    (name, sampling)
    for name in STRATEGIES.names()
    if find_strategy(name).reduce == "sum"
    for sampling in ("proportional", "balanced")
    if not (sampling == "balanced" and find_strategy(name).reweights_samples)
]


def plan(**words: object):  # type: ignore[no-untyped-def]
    words = {"ipc": 2, "iterations": 3, "network": NETWORK, "options": {"augmentation": ""}, **words}
    return resolved("dm", **words)  # type: ignore[arg-type]


@pytest.mark.parametrize(("fairness", "sampling"), CASES)
def test_on_average_it_is_the_distance_to_the_means_of_all_images(tmp_path: Path, fairness: str, sampling: str) -> None:
    """Over many batches of biased classes, one of whose cells is smaller than its share of a balanced batch."""
    dataset = write_toy(tmp_path / "toy.h5", np.array([[60, 12], [3, 50], [20, 20]]), side=4)
    chosen = plan(fairness=fairness, sampling=sampling, batch_real=30 if sampling == "proportional" else 8)
    run = start_run(chosen, dataset, open_runtime("cpu"), NullProgress())
    assert run.subtracts_noise
    network, none = run.networks.fresh(0), augment.sample_siamese("", 3, (4, 4), run.streams.torch("none"))
    everything, classes = np.arange(len(dataset.train)), slice(0, 3)
    embedded = run.real.embed(network, everything)
    own = run.signals.class_embeddings(network, classes, none).detach()

    def distance_to_all(groups: list[np.ndarray]) -> float:
        """The distance to the targets of all images of each class that belong to these groups, those in a batch."""
        indices = [
            np.flatnonzero((dataset.train.labels == label) & np.isin(dataset.train.protected, present))
            for label, present in enumerate(groups)
        ]
        whole = run.real.batch(classes, indices)
        target = torch.zeros(whole.weights.num_targets, embedded.shape[1])
        target.index_add_(
            0,
            torch.from_numpy(whole.weights.target),
            embedded[whole.indices] * torch.from_numpy(whole.weights.weight)[:, None],
        )
        if sampling == "balanced" and fairness == "vanilla":  # whose target is the mean of a batch with even cells
            target = torch.stack(
                [torch.stack([embedded[i[dataset.train.protected[i] == g]].mean(0) for g in (0, 1)]).mean(0)
                 for i in indices]
            )  # fmt: skip
        return float(distances("l2", target, own, whole.num_targets).sum())

    shown, noises, exact = [], [], []
    for number in range(300):
        batch = run.real.sample_batch(classes, number)
        target, noise = run.signals.real_mean_embeddings(network, batch, none)
        shown.append(float(distances("l2", target, own, batch.num_targets).sum() - noise))
        noises.append(float(noise))
        parts = np.split(batch.indices, np.flatnonzero(np.diff(batch.labels.numpy())) + 1)
        # A group that a batch lacks has no target in it: no noise, another sum.
        groups = [np.unique(dataset.train.protected[part]) for part in parts]
        exact.append(distance_to_all(groups if fairness in ("fairdd", "barycenter") else [np.array([0, 1])] * 3))
    error = np.array(shown) - np.array(exact)
    standard_error = error.std(ddof=1) / np.sqrt(len(error))
    # Weights over a random number of images of each group make a ratio, whose expectation is right to 1/n only.
    tolerance = 0.1 * np.mean(noises) if find_strategy(fairness).reweights_samples else 0
    assert abs(error.mean()) < 4 * standard_error + tolerance
    assert np.mean(noises) > 12 * standard_error, "with the noise left in, the test would fail"


def test_equal_weights_give_the_textbook_s_variance_of_a_mean() -> None:
    points = np.random.default_rng(0).normal(size=(7, 5))
    label, stratum, population = np.zeros(7, int), np.repeat([4, 9], [3, 4]), np.repeat([30, 5], [3, 4])
    weights = noise_weights(np.repeat([0.2, 0.1], [3, 4]), stratum, label, population)
    (first, second), total = (points[:3], points[3:]), 0.0
    for part, share, size in ((first, 0.6, 30), (second, 0.4, 5)):
        total += share**2 * (1 - len(part) / size) * part.var(axis=0, ddof=1).sum() / len(part)
    centres = np.stack([np.average(first, axis=0), np.average(second, axis=0)])[weights.stratum]
    assert (weights.weight * np.square(points - centres).sum(axis=1)).sum() == pytest.approx(total, rel=1e-6)


def test_a_single_image_is_taken_to_spread_like_the_other_cells_of_its_class() -> None:
    stratum = np.array([0, 1, 1, 2, 2, 2])
    population, label = np.full(6, 10**9), np.array([0, 0, 0, 0, 0, 0])
    alone = noise_weights(np.array([1, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3]), stratum, label, population)
    # Variances s² of the cells with two and three images, pooled with one and two degrees of freedom
    factor = np.bincount(alone.stratum, alone.weight) * [1, 1 / 2, 2 / 3]
    np.testing.assert_allclose(factor, [0, 1 / 2 + 1 / 3, 1 / 3 + 2 / 3], rtol=1e-6)
    known_whole = noise_weights(np.array([1, 0.5, 0.5]), np.array([0, 1, 1]), label[:3], np.array([1, 2, 2]))
    assert not known_whole.weight.any(), "no image of the cells is missing in the batch"
    nothing = noise_weights(np.ones(2), np.arange(2), np.zeros(2, int), np.full(2, 50))
    assert not nothing.weight.any()


@pytest.mark.parametrize("fairness", ["vanilla", "fairdd", "barycenter", "inverse"])
def test_the_images_are_those_of_a_run_that_does_not_measure_it(
    toy: BiasedDataset, fairness: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = plan(fairness=fairness, options={}, batch_real=12)
    measured = run_distillation(chosen, toy, open_runtime("cpu"), NullProgress())
    monkeypatch.setattr(RealData, "noise_known", False)
    plain = run_distillation(chosen, toy, open_runtime("cpu"), NullProgress())
    assert (measured.history.unbiased, plain.history.unbiased) == (True, False)
    assert np.array_equal(measured.images, plain.images)
    assert (measured.history.loss < plain.history.loss).all()


def test_the_number_of_images_at_a_time_changes_only_the_rounding(toy: BiasedDataset) -> None:
    losses = []
    for micro_batch in (0, 16, 3):
        runtime = open_runtime("cpu")
        runtime.micro_batch = micro_batch
        losses.append(
            run_distillation(plan(fairness="fairdd", batch_real=12), toy, runtime, NullProgress()).history.loss
        )
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "unbiased"),
    [
        (["--method", "dm"], True),
        (["--method", "dm", "--fair"], True),
        (["--method", "dm", "--fair", "--batch-real", 3], False),  # one image a cell has no spread
        (["--method", "dm", "--fairness", "groupdro"], False),  # the largest distance, not a sum
        (["--method", "dm", "-O", "distance=l1"], False),
        (["--method", "gm"], False),
    ],
)
def test_the_command_and_the_file_say_what_the_loss_is(
    fairdd: Fairdd, toy: BiasedDataset, tmp_path: Path, words: list[object], unbiased: bool
) -> None:
    common = ["--ipc", 1, "--iterations", 2, "--network", NETWORK, "-o", "s.h5"]
    said = fairdd("distill", toy.path, *words, *common).stderr
    name = "distance without sampling noise" if unbiased else "matching loss"
    assert f"\n{name} " in said
    with h5py.File(tmp_path / "s.h5") as file:
        assert file.attrs["history_loss"] == ("unbiased distance" if unbiased else "matching loss")
    assert read_synthetic(str(tmp_path / "s.h5")).history.unbiased == unbiased
    assert name in fairdd("inspect", "s.h5").stdout


def test_a_checkpoint_with_losses_of_the_old_kind_goes_on_with_them(toy: BiasedDataset) -> None:
    class Stop(BaseException):
        pass

    class StopAt(NullProgress):
        heard = 0

        def advance(self, amount: float, loss: float | None = None) -> None:
            self.heard += loss is not None
            if self.heard == 2:
                raise Stop

    output, chosen, runtime = toy.path + ".out", plan(batch_real=8), open_runtime("cpu")
    with pytest.raises(Stop), Checkpoints(output) as checkpoints:
        run_distillation(chosen, toy, runtime, StopAt(), checkpoints=checkpoints)
    assert "history.unbiased" in read_checkpoint(output + ".checkpoint").state
    with Checkpoints(output) as checkpoints:
        assert checkpoints.state is not None
        tensors = dict(checkpoints.state.tensors)
        tensors["history"] = tensors.pop("history.unbiased")  # as version 0.1.0 wrote it
        object.__setattr__(checkpoints.state, "tensors", tensors)
        made = run_distillation(chosen, toy, runtime, NullProgress(), checkpoints=checkpoints)
    assert not made.history.unbiased
    assert len(made.history.loss) == 3


def test_a_file_with_another_kind_of_loss_is_refused(
    toy: BiasedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run_distillation(plan(batch_real=8), toy, open_runtime("cpu"), NullProgress())
    with monkeypatch.context() as changed:
        changed.setattr(synthetic, "UNBIASED", "odd")
        write_synthetic(str(tmp_path / "s.h5"), made)
    with pytest.raises(UsageError, match="'history_loss' should be 'unbiased distance' or 'matching loss'"):
        read_synthetic(str(tmp_path / "s.h5"))
