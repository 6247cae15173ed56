"""Herding and k-center against plain implementations, and as methods: which real images they take of which cells."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Fairdd, resolved, write_toy

from fairdd_cli.artifacts import SyntheticSet, read_any
from fairdd_cli.distill import run_distillation
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import STRATEGIES
from fairdd_cli.matching.selection import Select, herding, k_center
from fairdd_cli.runtime import NullProgress, Streams, open_runtime

CELLS = np.array([[12, 3, 2], [2, 9, 1]])


def herded(points: np.ndarray, number: int) -> list[int]:
    """Of all points left, always the one with which the mean of those chosen is nearest to the mean of all."""
    chosen: list[int] = []
    for _ in range(number):
        errors = {
            index: np.linalg.norm(points[[*chosen, index]].mean(axis=0) - points.mean(axis=0))
            for index in range(len(points))
            if index not in chosen
        }
        chosen.append(min(errors, key=errors.__getitem__))
    return chosen


def centred(points: np.ndarray, number: int) -> list[int]:
    """The point nearest to the mean, then always the one whose nearest chosen point is farthest away."""
    chosen = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())]
    while len(chosen) < number:
        nearest = {
            index: min(np.linalg.norm(points[index] - points[other]) for other in chosen)
            for index in range(len(points))
            if index not in chosen
        }
        chosen.append(max(nearest, key=nearest.__getitem__))
    return chosen


@pytest.mark.parametrize("number", [1, 2, 7, 40])
@pytest.mark.parametrize(("select", "plain"), [(herding, herded), (k_center, centred)])
def test_the_same_points_as_in_a_plain_implementation(select: Select, plain: type, number: int) -> None:
    for seed in range(3):
        generator = Streams(seed).numpy("points")
        points = (generator.normal(size=(40, 5)) + 3).astype(np.float32)
        found = select(torch.from_numpy(points), number, generator)
        assert found.tolist() == plain(points.astype(np.float64), number)


@pytest.mark.parametrize("select", [herding, k_center])
def test_equal_points_are_taken_once_each(select: Select) -> None:
    points = torch.ones(6, 2)
    assert sorted(select(points, 6, Streams(0).numpy("points")).tolist()) == list(range(6))


def test_the_mean_of_herded_points_is_nearer_than_that_of_random_ones() -> None:
    generator = Streams(1).numpy("points")
    points = torch.from_numpy(generator.normal(size=(300, 4)))
    drawn = [torch.from_numpy(generator.permutation(300)[:10]) for _ in range(50)]

    def bias(chosen: torch.Tensor) -> float:
        return float((points[chosen].mean(dim=0) - points.mean(dim=0)).norm())

    assert bias(herding(points, 10, generator)) < min(map(bias, drawn))


def test_centres_are_no_nearer_to_each_other_than_any_point_is_to_one() -> None:
    """Which is why no other choice covers the points within less than half the radius."""
    generator = Streams(1).numpy("points")
    points = torch.from_numpy(generator.normal(size=(300, 4)))
    centres = points[k_center(points, 10, generator)]
    radius = torch.cdist(points, centres).min(dim=1).values.max()
    assert torch.pdist(centres).min() >= radius > 0


def sources(synthetic: SyntheticSet, images: np.ndarray) -> list[int]:
    """The positions in the training `images` uint8 [N, C, H, W] that the synthetic images are."""
    normalised = (images.astype(np.float32) / 255 - 0.5) / 0.25
    distance = np.abs(normalised[None] - synthetic.images[:, None]).max(axis=(2, 3, 4))
    assert (distance.min(axis=1) < 1e-4).all()
    return [int(index) for index in distance.argmin(axis=1)]


@pytest.mark.parametrize("fairness", STRATEGIES.names())
@pytest.mark.parametrize("method", ["herding", "kcenter"])
def test_real_images_are_taken_evenly_over_the_cells_where_groups_are_used(
    method: str, fairness: str, tmp_path: Path
) -> None:
    if fairness == "kde":
        pytest.skip("refused: it uses no groups")
    data = write_toy(tmp_path / "toy.h5", CELLS)
    chosen = resolved(method, fairness=fairness, ipc=4, network="convnet:width=4,depth=1", options={})
    synthetic = run_distillation(chosen, data, open_runtime("cpu"), NullProgress())
    taken = sources(synthetic, data.train.images.all())
    assert synthetic.labels.tolist() == [0] * 4 + [1] * 4 == data.train.labels[taken].tolist()
    assert (synthetic.method, synthetic.iterations, synthetic.options["init"]) == (method, 0, method)
    if fairness == "vanilla":
        assert len(set(taken)) == 8
        return
    for label in range(2):
        cells = np.bincount(data.train.protected[taken[4 * label : 4 * label + 4]], minlength=3)
        assert sorted(cells) == [1, 1, 2], cells
    assert len(set(taken)) >= 7  # the cell of one image may have to give two


def test_the_commands_make_judge_and_explain_a_coreset(fairdd: Fairdd, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", CELLS)
    small = ["--network", "convnet:width=4,depth=1"]
    done = fairdd("distill", "toy.h5", "--method", "herding", "--fair", "--ipc", 3, *small)
    assert done.stdout == "toy.herding-fairdd-ipc3.h5\n"
    again = fairdd("distill", "toy.h5", "--method", "herding", "--fair", "--ipc", 3, *small, "-o", "again.h5")
    made = [read_any(str(tmp_path / name.strip())) for name in (done.stdout, again.stdout)]
    assert made[0].digest == made[1].digest
    words = ["evaluate", "again.h5", "--seeds", 1, "--epochs", 1, *small, "-o", "e.json"]
    assert fairdd(*words).stdout == "e.json\n"
    assert "herding" in fairdd("report", "e.json").stdout
    shown = json.loads(fairdd("list", "methods", "kcenter", "--format", "json").stdout)
    assert (shown["init"], shown["citation"]) == ("kcenter", "arXiv:1708.00489")


@pytest.mark.parametrize("method", ["herding", "kcenter"])
def test_more_images_than_a_class_has_are_refused_in_a_line(method: str, fairdd: Fairdd, tmp_path: Path) -> None:
    write_toy(tmp_path / "toy.h5", CELLS)
    smallest = int(CELLS.sum(axis=1).min())
    label = int(CELLS.sum(axis=1).argmin())
    for ipc in (smallest + 1, 700):
        done = fairdd("distill", "toy.h5", "--method", method, "--ipc", ipc, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"fairdd: --ipc {ipc} with --factor 1 needs {ipc} images of each class, but class 'class {label}' of "
            f"'toy.h5' has {smallest}; lower it\n"
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.h5"]


@pytest.mark.parametrize("method", ["herding", "kcenter"])
def test_the_embedding_is_trained_as_long_as_asked_and_nothing_is_optimised(method: str, tmp_path: Path) -> None:
    data = write_toy(tmp_path / "toy.h5", np.full((2, 2), 40))
    found = []
    for epochs in ("1", "30"):
        words = {"ipc": 5, "network": "convnet:width=4,depth=1", "options": {"embedding_epochs": epochs}}
        watch = Watch()
        made = run_distillation(resolved(method, iterations=7, **words), data, open_runtime("cpu"), watch)
        assert watch.total == pytest.approx(int(epochs) * 160)
        assert (made.iterations, made.options["iterations"], len(made.history.loss)) == (0, 0, 0)
        assert made.options["hyper"] == {"embedding_epochs": int(epochs)}
        found.append(set(sources(made, data.train.images.all())))
    assert found[0] != found[1]
    with pytest.raises(UsageError, match="embedding_epochs=0: expected a number of at least 1"):
        resolved(method, ipc=1, options={"embedding_epochs": "0"})


class Watch(NullProgress):
    """Counts the work that begins."""

    total = 0.0

    def start(self, what: str, total: float) -> None:
        self.total += total
