"""CIFAR10-S: the python batches, the bias, and pickles that are not what they say."""

import os
import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_trees import made
from PIL import Image, ImageDraw

from fairdd_cli.datasets import cifar10_s
from fairdd_cli.datasets._corruption import corrupt
from fairdd_cli.datasets._groups import assign_biased_groups
from fairdd_cli.datasets._source import Request
from fairdd_cli.datasets.images.pickle import OPERATION_LIMIT
from fairdd_cli.errors import UsageError

PER_CLASS = 20


def batch(images: np.ndarray, labels: list[int], protocol: int = 2) -> bytes:
    return pickle.dumps({b"batch_label": b"x", b"labels": labels, b"data": images, b"filenames": []}, protocol)


def tree(root: Path, protocol: int = 2) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The six batches; returns (images, labels) of each."""
    root.mkdir(parents=True)
    rng, content = np.random.default_rng(0), {}
    for name in (name for names in cifar10_s.BATCHES.values() for name in names):
        labels = rng.permutation(np.repeat(np.arange(10), PER_CLASS))
        images = rng.integers(0, 256, (len(labels), 3072), np.uint8)
        (root / name).write_bytes(batch(images, labels.tolist(), protocol))
        content[name] = images.reshape(-1, 3, 32, 32), labels
    return content


@pytest.mark.parametrize(("below", "protocol"), [(".", 2), ("cifar-10-batches-py", 4)])
def test_layout_counts_and_pixels(tmp_path: Path, below: str, protocol: int) -> None:
    content = tree(tmp_path / "root" / below, protocol)
    dataset = made("cifar10-s", tmp_path / "data.h5", Request(root=tmp_path / "root"))
    assert dataset.class_names == cifar10_s.CLASSES
    assert dataset.protected_names == ("grey", "colour")
    assert dataset.train.count.tolist() == [[90, 10]] * 5 + [[10, 90]] * 5
    assert (dataset.test.count == PER_CLASS).all()
    assert (dataset.mean, dataset.std) == (cifar10_s.MEAN, cifar10_s.STD)
    images, labels = content["test_batch"]
    stored = dataset.test.images.all()
    assert np.array_equal(stored[dataset.test.protected == 1], images[np.argsort(labels, kind="stable")])
    greys = stored[dataset.test.protected == 0]
    assert (greys == greys[:, :1]).all()


def test_grey_is_the_luma_of_pillow() -> None:
    images = np.random.default_rng(1).integers(0, 256, (4, 3, 32, 32), np.uint8)
    for image, grey in zip(images, cifar10_s.grey(images), strict=True):
        assert np.array_equal(np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")), grey[0])


def by_pillow(image: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """An image [3, 32, 32] as COBRA's code corrupts it, one operation of Pillow or NumPy after the other."""

    def noisy(pixels: np.ndarray, mean: float, deviation: float) -> Image.Image:
        noise = generator.normal(mean, deviation, pixels.shape).astype(np.int16)
        return Image.fromarray(np.clip(pixels.astype(np.int16) + noise, 0, 255).astype(np.uint8))

    current = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    if severity >= 1:
        red, green, blue = current.split()
        current = Image.merge("RGB", (green, blue, red))
    if severity >= 2:
        ImageDraw.Draw(current).line((0, 0, 32, 32), fill=(255, 0, 0), width=2)
    if severity >= 3:
        ImageDraw.Draw(current).rectangle((2, 2, 6, 6), fill=(255, 0, 0))
    if severity >= 4:
        current = noisy(np.asarray(current), 2.5, 50)
        ImageDraw.Draw(current).line((0, 32, 32, 0), fill=(0, 255, 0), width=3)
    if severity >= 5:
        current = noisy(255 - np.asarray(current.transpose(Image.Transpose.ROTATE_270)), 2, 20)
    return np.asarray(current).transpose(2, 0, 1)


@pytest.mark.parametrize("severity", range(6))
def test_corruptions_are_those_of_the_public_code(severity: int) -> None:
    images = np.random.default_rng(2).integers(0, 256, (4, 3, 32, 32), np.uint8)
    before = images.copy()
    found = corrupt(images, severity, [np.random.default_rng(number) for number in range(4)])
    for number, image in enumerate(images):
        assert np.array_equal(found[number], by_pillow(image, severity, np.random.default_rng(number)))
    assert np.array_equal(images, before)


def test_a_corrupted_group_instead_of_a_grey_one(tmp_path: Path) -> None:
    content = tree(tmp_path / "root")
    request = Request(root=tmp_path / "root", severity=4, bias_ratio=0.8)
    dataset = made("cifar10-s", tmp_path / "data.h5", request)
    assert dataset.protected_names == ("corrupted", "colour")
    assert dataset.options["severity"] == 4
    assert dataset.train.count.tolist() == [[80, 20]] * 5 + [[20, 80]] * 5
    images, labels = content["test_batch"]
    stored, order = dataset.test.images.all(), np.argsort(labels, kind="stable")
    assert np.array_equal(stored[dataset.test.protected == 1], images[order])
    corrupted = stored[dataset.test.protected == 0]
    assert not np.array_equal(corrupted[0], corrupted[1])
    assert (corrupted[:, :, 31, 0] == (0, 255, 0)).all()  # an end of the green line
    # An image's noise is its own, whatever other images are taken.
    fewer = made("cifar10-s", tmp_path / "fewer.h5", replace(request, test_per_cell=5))
    kept = {image.tobytes() for image in stored}
    assert all(image.tobytes() in kept for image in fewer.test.images.all())
    plain = made("cifar10-s", tmp_path / "plain.h5", replace(request, severity=0))
    assert np.array_equal(plain.test.images.all()[plain.test.protected == 0], images[order])
    with pytest.raises(UsageError, match="--severity 6 is out of range: it lies in 0 … 5"):
        made("cifar10-s", tmp_path / "x.h5", replace(request, severity=6))


def test_full_counts_are_those_of_the_table() -> None:
    labels = np.repeat(np.arange(10), 5000)
    protected = assign_biased_groups(labels, cifar10_s.MAJORITY_GROUP, 2, 0.9, np.random.default_rng(0))
    count = np.bincount(labels * 2 + protected).reshape(10, 2)
    assert count.tolist() == [[4500, 500]] * 5 + [[500, 4500]] * 5


class Exploit:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


HONEST = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (batch(HONEST[:, :100], [0, 1]), "expected uint8 rows of 3072"),
        (batch(HONEST, [0, 10]), "labels should be whole numbers"),
        (batch(HONEST.astype(np.float32), [0, 1]), "expected uint8"),
        (batch(HONEST, [0, 1])[:-50], "is not a batch"),
        (pickle.dumps([1, 2]), "is not a batch"),
        (pickle.dumps({b"data": np.array([os.system], object), b"labels": [0]}), "it names 'posix.system'"),
        (b"", "is not a batch"),
    ],
)
def test_broken_batches_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=reason) as caught:
        cifar10_s.read_batch(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
def test_no_pickle_runs_code(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Exploit(mark), b"labels": [0]}, protocol))
    with pytest.raises(UsageError, match="which no batch of CIFAR-10 does"):
        cifar10_s.read_batch(path)
    assert not mark.exists()


def bomb(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


BOMBS = {
    "a memo of four billion entries": bomb(b"]", b"r\xff\xff\xff\xff"),
    "bytes that are not there": bomb(b"\x8e" + (2**60).to_bytes(8, "little")),
    "a text encoded again and again": bomb(
        b"X" + (10**6).to_bytes(4, "little") + b"x" * 10**6 + b"q\x000",
        b"c_codecs\nencode\nq\x010",
        b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R0" * 2000,
    ),
    "a key that takes years to hash": bomb(b"}", b")", b"q\x00h\x00\x86" * 200, b"Ns"),
    "a list given to itself": bomb(b"]q\x00", b"(h\x00h\x00h\x00e" * 3),
    "millions of lists": bomb(b"]" * (OPERATION_LIMIT + 1)),
    "marks that are not there": bomb(b"e"),
    "a state for a list": bomb(b"]Nb"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_pickles_stay_small_tasks(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data_batch_1"
    path.write_bytes(BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="is not a batch of CIFAR-10"):
            cifar10_s.read_batch(path)
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_an_incomplete_tree_is_shown(tmp_path: Path) -> None:
    tree(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(UsageError, match=r"data_batch_2\s+found\n.*data_batch_3\s+missing"):
        made("cifar10-s", tmp_path / "data.h5", Request(root=tmp_path))


def test_a_failed_download_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets.utils

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets.utils, "download_and_extract_archive", offline)
    with pytest.raises(UsageError, match=r"could not be fetched into .*no route to host"):
        made("cifar10-s", tmp_path / "data.h5", Request(root=tmp_path, download=True))
