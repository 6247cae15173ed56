"""Test images that are there in both groups: the data set names them, an evaluation counts their predictions."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Fairdd
from evaluations import write
from image_trees import made
from test_datasets_cifar10_s import tree

from fairdd_cli.artifacts import BiasedDataset, Evaluation, read_dataset, read_evaluation
from fairdd_cli.datasets._source import Request
from fairdd_cli.errors import UsageError
from fairdd_cli.evaluate import run_evaluation, whole_data
from fairdd_cli.networks import parse_network
from fairdd_cli.runtime import Checkpoints, NullProgress, State, open_runtime
from fairdd_cli.training import TrainingConfig

NETWORKS = ("convnet:width=4,depth=1", "mlp:width=8")
SOURCE = "test/source"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of CIFAR-10 of 20 images of each class in each batch."""
    path = tmp_path_factory.mktemp("cifar") / "root"
    tree(path)
    return path


@pytest.fixture
def dataset(root: Path, tmp_path: Path) -> BiasedDataset:
    """cifar10-s of these: 200 test images, each grey and in colour."""
    return made("cifar10-s", tmp_path / "data.h5", Request(root=root))


def without_source(path: str, target: Path) -> str:
    """The data set at `path` as it was written before: without the sources of test images."""
    shutil.copy(path, target)
    with h5py.File(target, "r+") as file:
        del file[SOURCE]
    return str(target)


def test_the_file_says_which_test_images_are_the_same(dataset: BiasedDataset) -> None:
    pairs = dataset.test.pairs()
    assert pairs is not None
    assert np.array_equal(np.sort(pairs.ravel()), np.arange(400))
    assert np.array_equal(dataset.test.protected[pairs], np.tile([0, 1], (200, 1)))
    images = dataset.test.images.all().astype(float)
    luma = (images * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(axis=1)
    assert np.abs(luma[pairs[:, 0]] - luma[pairs[:, 1]]).max() < 1
    assert dataset.train.source is None


def test_a_data_set_is_the_same_with_and_without_it(dataset: BiasedDataset, tmp_path: Path) -> None:
    old = read_dataset(without_source(dataset.path, tmp_path / "old.h5"))
    assert old.digest == dataset.digest
    assert old.test.source is None
    assert old.test.pairs() is None


def test_part_of_the_test_images_keeps_their_sources(root: Path, tmp_path: Path) -> None:
    part = made("cifar10-s", tmp_path / "part.h5", Request(root=root, test_per_cell=12, holdout="0.2"))
    whole = made("cifar10-s", tmp_path / "whole.h5", Request(root=root))
    assert part.test.source is not None
    assert whole.test.source is not None
    assert part.validation().pairs() is None  # a training image is there once
    assert part.test.pairs() is None  # drawn in each cell for itself: some without the other
    known = {image.tobytes(): source for image, source in zip(whole.test.images.all(), whole.test.source, strict=True)}
    sources = np.array([known[image.tobytes()] for image in part.test.images.all()])
    assert np.array_equal(np.unique(sources, return_inverse=True)[1], part.test.source)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda source: source[:-1], "has 399 entries for 400 images"),
        (lambda source: source + 1, "must number the sources from 0 on without gaps"),
        (lambda source: source - 1, "must number the sources from 0 on without gaps"),
        (lambda source: source * 2**40, "must number the sources from 0 on without gaps"),
        (lambda source: np.roll(source, 1), "gives one source several labels"),
        (lambda source: np.concatenate([source[:1], source[:1], source[2:]]), "without gaps|twice in a group"),
        (lambda source: np.arange(400) // 2, "shows a source twice in a group"),
        (lambda source: source.astype(float), "should be int64 with 1 dimensions"),
    ],
)
def test_other_sources_are_refused(
    dataset: BiasedDataset, spoil: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    with h5py.File(dataset.path, "r+") as file:
        source = spoil(file[SOURCE][()])
        del file[SOURCE]
        file[SOURCE] = source
    with pytest.raises(UsageError, match=reason):
        read_dataset(dataset.path)


def evaluated(dataset: BiasedDataset, checkpoints: Checkpoints | None = None, seeds: int = 2) -> Evaluation:
    """Two networks, hardly trained on the training images."""
    runtime = open_runtime("cpu")
    data = replace(whole_data(dataset, runtime), training=TrainingConfig(epochs=1))
    networks = [parse_network(name) for name in NETWORKS]
    return run_evaluation(data, dataset, networks, seeds, 5, runtime, NullProgress(), checkpoints=checkpoints)


def test_an_evaluation_counts_what_a_loop_counts(dataset: BiasedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    predicted = []
    monkeypatch.setattr(
        "fairdd_cli.training.trials.predict",
        lambda network, images, count, runtime, progress: (
            predicted.append((images.take(np.arange(count)).flatten(1).sum(dim=1) * 1000).long().numpy() % 10)
            or predicted[-1]
        ),
    )
    found = evaluated(dataset, seeds=1)
    expected = np.zeros((10, 10, 10), int)
    split = dataset.test
    assert split.source is not None
    for grey in np.flatnonzero(split.protected == 0):
        for colour in np.flatnonzero((split.protected == 1) & (split.source == split.source[grey])):
            expected[split.labels[grey], predicted[0][grey], predicted[0][colour]] += 1
    assert expected.sum() == 200
    assert np.array_equal(found.pairs[NETWORKS[0]][0], expected)


@pytest.mark.parametrize("suffix", [".json", ".h5"])
def test_files_hold_pairs_that_add_up_to_the_confusion(dataset: BiasedDataset, tmp_path: Path, suffix: str) -> None:
    made = evaluated(dataset).in_memory()
    path = str(tmp_path / f"e{suffix}")
    made.save(path)
    found = read_evaluation(path)
    assert found.digest == made.digest
    for name in NETWORKS:
        assert np.array_equal(found.pairs[name], made.pairs[name])
        margins = np.stack([found.pairs[name].sum(axis=3), found.pairs[name].sum(axis=2)], axis=2)
        assert np.array_equal(margins, found.confusion[name])
    assert replace(made, pairs={}).in_memory().digest != made.digest


def test_a_data_set_without_sources_is_evaluated_as_before(dataset: BiasedDataset, tmp_path: Path) -> None:
    old = read_dataset(without_source(dataset.path, tmp_path / "old.h5"))
    without = evaluated(old)
    assert without.pairs == {}
    for name, table in evaluated(dataset).confusion.items():
        assert np.array_equal(without.confusion[name], table)
    without.save(tmp_path / "e.json")
    assert "pairs" not in json.loads((tmp_path / "e.json").read_text())


def test_pairs_that_do_not_add_up_are_refused(fairdd: Fairdd, tmp_path: Path) -> None:
    pairs = np.zeros((1, 3, 3, 3), np.int64)
    pairs[:, np.arange(3), np.arange(3), np.arange(3)] = 9
    pairs[:, 0, 0, 1] = 1
    confusion = np.stack([pairs.sum(axis=3), pairs.sum(axis=2)], axis=2)
    wrong = "the pairs of 'mlp' do not add up to its confusion table"
    for given, reason in (
        (pairs.swapaxes(2, 3), wrong),
        (pairs * 2, wrong),
        (pairs[:, :2], r"have shape \(1, 2, 3, 3\), expected \(1, 3, 3, 3\) of two groups"),
        (pairs - 5, "are not counts"),
    ):
        with pytest.raises(UsageError, match=reason):
            read_evaluation(write(tmp_path / "wrong.json", confusion={"mlp": confusion}, pairs={"mlp": given}))
    with pytest.raises(UsageError, match="'pairs' and 'confusion' hold different networks"):
        read_evaluation(write(tmp_path / "wrong.json", confusion={"mlp": confusion}, pairs={"convnet": pairs}))
    write(tmp_path / "right.json", confusion={"mlp": confusion}, pairs={"mlp": pairs})
    write(tmp_path / "wrong.json", confusion={"mlp": confusion}, pairs={"mlp": pairs * 2})
    assert "sound" in fairdd("verify", "right.json").stdout
    found = fairdd("verify", "wrong.json", check=False)
    assert found.returncode
    assert "do not add up" in " ".join(found.stdout.split())


def test_an_evaluation_continues_with_its_pairs_and_an_older_one_without(
    dataset: BiasedDataset, tmp_path: Path
) -> None:
    whole = evaluated(dataset)
    states: list[State] = []

    class Recorded(Checkpoints):
        def update(self, state: State) -> None:
            states.append(state)

    evaluated(dataset, Recorded())
    assert [state.done for state in states] == [0, 1, 2, 3, 4]
    for keeps in (True, False):
        checkpoints = Checkpoints()
        tensors = {name: tensor for name, tensor in states[3].tensors.items() if keeps or name == "counts"}
        checkpoints.state = replace(states[3], tensors=tensors)
        found = evaluated(dataset, checkpoints)
        for name, table in whole.confusion.items():
            assert np.array_equal(found.confusion[name], table)
            assert not keeps or np.array_equal(found.pairs[name], whole.pairs[name])
        assert keeps or found.pairs == {}


def test_the_command_keeps_pairs_and_the_report_uses_them(dataset: BiasedDataset, fairdd: Fairdd) -> None:
    fairdd("evaluate", "data.h5", "--epochs", 1, "--seeds", 2, "--network", NETWORKS[0], "-o", "e.json")
    (row,) = json.loads(fairdd("report", "e.json", "--format", "json").stdout)
    assert row["metrics"]["deo_max"]["fair_floor"]["paired"] is True
    said = " ".join(fairdd("report", "e.json").stdout.split())
    assert "permutations of the groups of the two images of each pair" in said
