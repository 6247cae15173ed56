"""From a source to a file: sampling of cells, what is unreadable, several processes, memory and disk."""

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_trees import flat, levels, made, table

from fairdd_cli.artifacts import FileImages, read_dataset
from fairdd_cli.datasets._source import Request
from fairdd_cli.datasets._splits import Cells, balanced_split, sample_cells
from fairdd_cli.datasets.images.parallel import AHEAD, ordered_fill
from fairdd_cli.errors import UsageError, WorkError
from fairdd_cli.make_dataset import ChannelHistogram, make
from fairdd_cli.runtime import ImageStore, NullProgress, open_runtime

EMBEDDED = Request(embedded=True)


def photographs(root: Path, per_cell: int) -> Request:
    """A folder with `per_cell` tiny images in each of four cells; that of row i has red i modulo 256."""
    rows = [[f"{i}.png", "ab"[i % 2], "xy"[i // 2 % 2]] for i in range(4 * per_cell)]
    for number, row in enumerate(rows):
        flat(root / "photos" / row[0], number % 256, (9, 9))
    csv = table(root / "labels.csv", [["file", "kind", "group"], *rows])
    return Request(root=root / "photos", csv=(csv,), target="kind", protected=("group",), size=8, workers=1)


# --- Cells ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.integers(0, 9))
def test_sample_cells_takes_as_many_of_each_cell_as_asked(cells: list[int], seed: int) -> None:
    sizes = np.bincount(cells, minlength=6)
    counts = np.minimum(sizes, seed)
    chosen = sample_cells(np.array(cells), counts, np.random.default_rng(seed))
    assert np.array_equal(np.bincount(np.array(cells)[chosen], minlength=6), counts)
    assert np.array_equal(chosen, np.unique(chosen))


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 9))
def test_equal_cells_are_as_large_as_the_smallest(first: int, second: int, seed: int) -> None:
    labels, protected = np.repeat([0, 0, 1, 1], [first, second, 9, 9]), np.repeat([0, 1, 0, 1], [first, second, 9, 9])
    chosen = balanced_split(Cells(labels, protected, "ab", "xy"), None, np.random.default_rng(seed))
    assert (np.bincount(labels[chosen] * 2 + protected[chosen]) == min(first, second)).all()


@settings(max_examples=5, deadline=None)
@given(st.integers(100, 5_999))
def test_limit_keeps_the_bias_ratio(tmp_path_factory: pytest.TempPathFactory, limit: int) -> None:
    dataset = made("c-fmnist-fg", tmp_path_factory.mktemp("limit") / "data.h5", EMBEDDED, limit)
    assert len(dataset.train) == limit
    assert dataset.bias_ratio == pytest.approx(0.9, abs=10 / limit)


@pytest.mark.parametrize("limit", [0, 6_001])
def test_limit_out_of_range(tmp_path: Path, limit: int) -> None:
    with pytest.raises(UsageError, match=f"--limit {limit} is out of range: the training split has 6,000"):
        made("c-fmnist-fg", tmp_path / "data.h5", EMBEDDED, limit)


def test_a_limit_that_loses_a_class_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"class '.*' has no image in the train split"):
        made("c-fmnist-fg", tmp_path / "data.h5", EMBEDDED, 5)


def test_test_per_cell(tmp_path: Path) -> None:
    dataset = made("c-fmnist-fg", tmp_path / "data.h5", replace(EMBEDDED, test_per_cell=7))
    assert (dataset.test.count == 7).all()
    with pytest.raises(UsageError, match=r"--test-per-cell 31 is out of range: .* has 30 images"):
        made("c-fmnist-fg", tmp_path / "data.h5", replace(EMBEDDED, test_per_cell=31))


# --- Unreadable images ----------------------------------------------------------------------------------------------


def test_unreadable_images_stop_the_command_with_their_number(tmp_path: Path) -> None:
    request = photographs(tmp_path, 10)
    for name, content in (("3.png", b""), ("4.png", b"x"), ("5.png", b"y"), ("17.png", b"z")):
        (tmp_path / "photos" / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"4 of 40 images cannot be read: .*\.png' \(.*\), …\n.*--skip-unreadable"):
        made("folder", tmp_path / "data.h5", request)
    assert not list(tmp_path.glob("*data.h5*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_images_are_left_out_and_counted(tmp_path: Path, workers: int) -> None:
    request = replace(photographs(tmp_path, 600 if workers > 1 else 20), workers=workers)
    bad = [0, 1, 2, 3, 13, 22]
    for number in bad:
        (tmp_path / "photos" / f"{number}.png").write_bytes(b"")
    dataset = made("folder", tmp_path / "data.h5", replace(request, skip_unreadable=True))
    assert dataset.options["left_out"] == {"unreadable": 6}
    assert len(dataset.train) + len(dataset.test) == 4 * (600 if workers > 1 else 20) - 6
    assert len(np.unique(dataset.test.count)) == 1
    assert levels(dataset).min() >= 0
    for number in bad:
        (tmp_path / "photos" / f"{number}.png").unlink()
    rows = (tmp_path / "labels.csv").read_text().splitlines()
    (tmp_path / "labels.csv").write_text("\n".join(r for r in rows if r.split(".")[0] not in map(str, bad)) + "\n")
    without = made("folder", tmp_path / "without.h5", request)
    for split in ("train", "test"):
        assert np.array_equal(getattr(dataset, split).images.all(), getattr(without, split).images.all())


# --- Processes ------------------------------------------------------------------------------------------------------


def test_the_file_is_the_same_whatever_the_number_of_processes(tmp_path: Path) -> None:
    request = photographs(tmp_path, 700)
    digests = {made("folder", tmp_path / "data.h5", replace(request, workers=n)).digest for n in (1, 2, 3)}
    assert len(digests) == 1


def double(task: int, array: np.ndarray) -> int:
    array[:] = task
    return 2 * task


def die(task: int, array: np.ndarray) -> None:
    os._exit(task)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_more_than_a_few_arrays_are_under_way(workers: int) -> None:
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    for number, (array, result) in enumerate(ordered_fill(double, tasks(), (2, 3), workers)):
        assert result == 2 * number
        assert array.tolist() == [[number] * 3] * 2
        assert len(taken) <= number + 1 + AHEAD * workers
    assert len(taken) == 40


def test_a_process_that_dies_is_an_error_in_words() -> None:
    with pytest.raises(WorkError, match="one of 2 decoding processes died"):
        list(ordered_fill(die, [1, 1], (1,), 2))


def test_stopping_half_way_ends_the_processes() -> None:
    results = ordered_fill(double, iter(range(1000)), (1,), 2)
    next(results)
    assert len(multiprocessing.active_children()) == 2
    results.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


# --- Memory and disk ------------------------------------------------------------------------------------------------


def test_too_little_disk_is_said_before_anything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**7))
    with pytest.raises(WorkError, match=r"it needs 28\.91 MB, and 10\.00 MB are free in "):
        made("c-fmnist-fg", tmp_path / "data.h5", EMBEDDED)
    assert not list(tmp_path.iterdir())


@given(st.integers(0, 2**32))
def test_levels_tell_mean_and_deviation(seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (6, 3, 4, 5), np.uint8)
    levels = ChannelHistogram(3)
    levels.add(images[:2])
    levels.add(images[2:])
    assert levels.mean() == pytest.approx((images / 255).mean(axis=(0, 2, 3)))
    assert levels.std() == pytest.approx((images / 255).std(axis=(0, 2, 3)))


def test_progress_counts_every_image(tmp_path: Path) -> None:
    class Watch(NullProgress):
        total = done = 0.0

        def start(self, what: str, total: float) -> None:
            self.total = total

        def advance(self, amount: float, loss: float | None = None) -> None:
            self.done += amount

    watch = Watch()
    make("c-fmnist-fg", EMBEDDED, str(tmp_path / "data.h5"), limit=1_000, progress=watch)
    assert watch.total == watch.done == 4_000


def test_on_disk_a_batch_reads_its_own_images_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = made("c-fmnist-fg", tmp_path / "data.h5", EMBEDDED)
    wanted = np.array([5_000, 3, 3, 77])
    expected = dataset.train.images.all()[wanted]
    read: list[int] = []

    def counted(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        read.append(sum(map(len, buffers)))
        return preadv(descriptor, buffers, offset)

    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", counted)
    monkeypatch.setattr(FileImages, "all", lambda self: pytest.fail("the whole split was read"))
    store = ImageStore(dataset.train.images, dataset.mean, dataset.std, open_runtime("cpu"), "disk")
    batch = store.take(wanted)
    assert sum(read) == len(wanted) * 3 * 32 * 32
    assert np.allclose(batch.numpy(), (expected / 255 - 0.5) / 0.5, atol=1e-6)


def test_a_file_that_shrank_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    images = made("c-fmnist-fg", path, EMBEDDED).test.images
    os.truncate(path, path.stat().st_size // 4)
    with pytest.raises(WorkError, match="changed while it was in use"):
        images.take(np.array([images.shape[0] - 1]))
    with pytest.raises(UsageError):
        read_dataset(str(path))
