"""Colour-biased MNIST and Fashion-MNIST: the pixels against the golden values, the layouts, the bias."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_trees import made

from fairdd_cli.datasets._colour import COLOURS, PALETTES, colourise
from fairdd_cli.datasets._groups import assign_biased_groups
from fairdd_cli.datasets._source import Request
from fairdd_cli.datasets.images.idx import FILES
from fairdd_cli.errors import UsageError

GOLDEN = np.load(Path(__file__).parent / "golden" / "colouring.npz")


@pytest.mark.parametrize("palette", PALETTES)
def test_colouring_is_exact(palette: str) -> None:
    images = colourise(GOLDEN["raw"], GOLDEN["colour_index"], PALETTES[palette])
    assert np.array_equal(images.transpose(0, 2, 3, 1), GOLDEN[palette.replace("-", "_")])


def test_colours_are_those_of_the_map() -> None:
    assert np.array_equal(list(COLOURS.values()), GOLDEN["colour_map"])


@given(st.integers(10, 400), st.floats(0.1, 1), st.integers(0, 99))
def test_bias_ties_each_class_to_its_colour(size: int, ratio: float, seed: int) -> None:
    labels = np.repeat(np.arange(10), size)
    protected = assign_biased_groups(labels, range(10), 10, ratio, np.random.default_rng(seed))
    count = np.histogram2d(labels, protected, [np.arange(11)] * 2)[0].astype(int)
    assert (np.diag(count) == int(ratio * size)).all()
    rest = size - int(ratio * size)
    assert count[~np.eye(10, dtype=bool)].max() <= -(-rest // 9)


def idx_tree(folder: Path, packed: bool, per_class: dict[str, int]) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in per_class.items():
        labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), count))
        for what, array in (("labels", labels), ("images", rng.integers(0, 256, (len(labels), 28, 28), np.uint8))):
            header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            content = header + array.tobytes()
            path = folder / f"{FILES[split, what]}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize(
    ("name", "folder", "packed"),
    [
        ("c-mnist-fg", "MNIST/raw", False),
        ("c-mnist-bg", ".", True),
        ("c-fmnist-fg", "FashionMNIST/raw", True),
        ("c-fmnist-bg", "raw", False),
    ],
)
def test_layouts(tmp_path: Path, name: str, folder: str, packed: bool) -> None:
    idx_tree(tmp_path / "root" / folder, packed, {"train": 50, "test": 30})
    dataset = made(name, tmp_path / "data.h5", Request(root=tmp_path / "root"))
    assert dataset.shape == (3, 32, 32)
    assert (dataset.mean, dataset.std) == ((0.5,) * 3, (0.5,) * 3)
    assert dataset.protected_names == tuple(COLOURS)
    assert (np.diag(dataset.train.count) == 45).all()
    assert (dataset.test.count == 3).all()
    assert dataset.bias_ratio == 0.9


def test_full_counts_are_those_of_the_table() -> None:
    train = assign_biased_groups(np.repeat(np.arange(10), 6000), range(10), 10, 0.9, np.random.default_rng(0))
    test = assign_biased_groups(np.repeat(np.arange(10), 1000), range(10), 10, 0.1, np.random.default_rng(0))
    assert np.bincount(train[:6000], minlength=10)[0] == 5400
    assert (np.bincount(test + 10 * np.repeat(np.arange(10), 1000)) == 100).all()


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    folder = idx_tree(tmp_path / "root", False, {"train": 2, "test": 2})
    path = folder / FILES["train", "images"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match=r"train-images.* is truncated"):
        made("c-mnist-fg", tmp_path / "data.h5", Request(root=folder))


def test_a_missing_source_names_every_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--root DIR.*--download.*--embedded"):
        made("c-fmnist-fg", tmp_path / "data.h5", Request(root=tmp_path))


@pytest.mark.parametrize("ratio", [0.05, 1.1, float("nan")])
def test_bias_ratio_out_of_range(tmp_path: Path, ratio: float) -> None:
    with pytest.raises(UsageError, match="out of range"):
        made("c-fmnist-fg", tmp_path / "data.h5", Request(embedded=True, bias_ratio=ratio))
