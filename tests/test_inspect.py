"""What inspect tells of a data set's cells."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import write_toy
from evaluations import confusion, write
from image_trees import flat, made, table
from typer.testing import CliRunner

from fairdd_cli.artifacts import BiasedDataset, MemoryImages, Split
from fairdd_cli.cli import app
from fairdd_cli.datasets._source import Request
from fairdd_cli.metrics import summarise
from fairdd_cli.reporting.cells import GAP, class_bias, examples, grid, warnings
from fairdd_cli.reporting.labels import mean_std


def dataset_of(train: list[list[int]], test: list[list[int]]) -> BiasedDataset:
    """A data set with these cell tables; the images of cell i have level i."""
    splits = {}
    for name, count in (("train", np.array(train)), ("test", np.array(test))):
        cells = np.repeat(np.arange(count.size), count.ravel())
        images = np.broadcast_to(cells.astype(np.uint8)[:, None, None, None], (len(cells), 3, 4, 4))
        labels, protected = np.divmod(cells, count.shape[1])
        splits[name] = Split.sorted_by_cell(MemoryImages(images), labels, protected, *count.shape)
    names = {"class_names": ("cat", "dog"), "protected_names": ("day", "night")}
    return BiasedDataset(
        name="x", **names, mean=(0.5,) * 3, std=(0.5,) * 3, bias_ratio=1.0, **splits, options={}, seed=0
    )


def test_bias_of_each_class() -> None:
    assert class_bias(np.array([[9, 1], [2, 2], [0, 0]])).tolist() == [0.9, 0.5, 0]


def test_sound_cells_give_no_warning() -> None:
    assert warnings(dataset_of([[90, 10], [10, 90]], [[30, 30], [30, 30]])) == []


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([[90, 0], [10, 90]], [[30, 30], [30, 30]], r"1 of 4 cells without a training image.*: \(cat, night\)$"),
        ([[90, 9], [1, 90]], [[30, 30], [30, 30]], r"2 of 4 cells with fewer than 10 training.*\(cat, night\), \(dog"),
        ([[90, 10], [10, 90]], [[30, 30], [0, 30]], r"1 of 4 cells without a test image.*: \(dog, day\)$"),
        ([[90, 10], [10, 90]], [[1, 2], [3, 4]], r"4 of 4 cells with fewer than 30 test images.*, …$"),
    ],
)
def test_empty_and_tiny_cells_are_named(train: list[list[int]], test: list[list[int]], expected: str) -> None:
    (line,) = warnings(dataset_of(train, test))
    assert re.search(expected, line)


@pytest.mark.parametrize("groups", [3, 12, 40])
@pytest.mark.parametrize("columns", [40, 80, 132])
def test_every_count_can_be_read_in_a_terminal(
    groups: int, columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = 1000 + np.arange(2 * groups).reshape(2, groups)
    write_toy(tmp_path / "data.h5", counts, side=1)
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "data.h5"), "-q"]).stdout
    assert max(map(len, shown.splitlines())) <= columns
    for label, row in enumerate(counts):
        lines = [line.split() for line in shown.splitlines() if line.startswith(f" class {label} ")]
        assert [word for line in lines for word in line[2:]][:-1] == [f"{count:,}" for count in row]


@pytest.mark.parametrize("columns", [40, 80])
def test_every_metric_can_be_read_in_a_terminal(columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = {name: confusion(np.full((2, 3), 0.7), seeds=3) for name in ("convnet:width=8", "mlp", "resnet18")}
    write(tmp_path / "e.json", recall=np.full((2, 3), 0.7), confusion=networks)
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "e.json")]).stdout
    assert max(map(len, shown.splitlines())) <= columns
    for name, counts in networks.items():
        words = [word for line in shown.splitlines() if line.startswith(f" {name} ") for word in line.split()[1:]]
        assert words == [mean_std(each["mean"], each["std"]) for each in summarise(counts).values()]


def test_empty_cells_are_told_when_a_data_set_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[f"{y}{a}{i}.png", f"t{y}", f"p{a}"] for y in range(2) for a in range(2) for i in range(2 if y > a else 9)]
    for name, *_ in rows:
        flat(tmp_path / name, 9)
    labels = table(tmp_path / "labels.csv", [["file", "t", "p"], *rows])
    words = ["folder", "--root", tmp_path, "--csv", labels, "--target", "t", "--protected", "p", "--test-per-cell", 2]
    done = CliRunner().invoke(app, ["make-dataset", *map(str, words), "-o", str(tmp_path / "data.h5")])
    assert "warning: 1 of 4 cells without a training image, so that nothing of them can be" in done.output
    assert "(t1, p0)" in done.output


def test_the_grid_has_a_place_for_each_cell() -> None:
    rows = examples(dataset_of([[5, 0], [5, 5]], [[1, 1], [1, 1]]))
    assert rows[0][1] is None
    sheet = grid(rows)
    assert sheet.shape == (2 * (64 + GAP) + GAP, 2 * (64 + GAP) + GAP, 3)
    centres = sheet[GAP + 32 :: 64 + GAP, GAP + 32 :: 64 + GAP, 0]
    assert centres[:2, :2].tolist() == [[0, 255], [2, 3]]


def test_the_embedded_sample_in_a_grid(tmp_path: Path) -> None:
    dataset = made("c-fmnist-fg", tmp_path / "data.h5", Request(embedded=True))
    assert grid(examples(dataset)).shape == (10 * 66 + 2, 10 * 66 + 2, 3)
    (line,) = warnings(dataset)
    assert line.startswith("90 of 100 cells with fewer than 10 training images")
