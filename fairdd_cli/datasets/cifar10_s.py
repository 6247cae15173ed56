"""CIFAR10-S: objects in colour or in grey. Five classes are mostly grey, five mostly coloured.

Source: CIFAR-10 (Krizhevsky, 2009) in its python batches; the bias as in FairDD (NeurIPS 2025), corruptions instead of
grey as in COBRA (ICML 2026).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairdd_cli.datasets._corruption import SEVERITIES, corrupt
from fairdd_cli.datasets._groups import assign_biased_groups
from fairdd_cli.datasets._layout import Layout, fetching
from fairdd_cli.datasets._source import Request, Samples, Source
from fairdd_cli.datasets.images.pickle import ENCODE, read_pickle
from fairdd_cli.errors import UsageError, first_line
from fairdd_cli.runtime import Streams

OPTIONS = frozenset({"root", "download", "bias_ratio", "severity", "test_groups", "test_per_cell"})
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GROUPS = ("grey", "colour")
CORRUPTED_GROUPS = ("corrupted", "colour")
MEAN = (0.48905, 0.48451, 0.46715)
STD = (0.24278, 0.24082, 0.25098)
BIAS_RATIO = 0.9
MAJORITY_GROUP = (0,) * 5 + (1,) * 5  # classes 0…4 are mostly grey, the others mostly coloured
BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
SHAPE = (3, 32, 32)
NAMES = frozenset(  # what a batch's pickle would call
    {
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.ndarray",
        "numpy.dtype",
        ENCODE,
    }
)
LIMIT = 2**26  # bytes of one batch; the real ones have 31 million
BLOCK = 2048  # images changed at a time
LAYOUT = Layout(
    name="CIFAR-10",
    fetch="Give --download, or --root with the python version of CIFAR-10 unpacked.",
    bases=(".", "cifar-10-batches-py"),
    entries={
        f"cifar-10-batches-py/{batch}": (batch, f"cifar-10-batches-py/{batch}")
        for batches in BATCHES.values()
        for batch in batches
    },
)


def source(request: Request) -> Source:
    """10 classes, groups grey and colour, 3x32x32; 50,000 training images, and every test image both ways.

    With --severity the first group is not grey but corrupted: 0 leaves its images as they are, so that only the sizes
    of the groups differ, and 5 makes them as different as COBRA's study does.
    """
    if request.severity is not None and request.severity not in SEVERITIES:
        raise UsageError(f"--severity {request.severity} is out of range: it lies in 0 … {max(SEVERITIES)}")
    bias_ratio = BIAS_RATIO if request.bias_ratio is None else request.bias_ratio
    root = request.root or Path("data")
    files = LAYOUT.find(root)
    if files is None and request.download:
        _download(root)
        files = LAYOUT.find(root)
    if files is None:
        raise LAYOUT.missing(root)
    batches = {path.name: read_batch(path) for path in files.values()}
    images, labels = (np.concatenate([batches[name][part] for name in BATCHES["train"]]) for part in (0, 1))
    streams = Streams(request.seed)
    generator = streams.numpy("bias/train")
    protected = assign_biased_groups(labels, MAJORITY_GROUP, len(GROUPS), bias_ratio, generator)
    test_images, test_labels = batches["test_batch"]
    twice = np.repeat(np.arange(len(GROUPS)), len(test_labels))

    def pixels(split: str, images: np.ndarray, protected: np.ndarray) -> ChangedOrColour:
        def change(images: np.ndarray, samples: np.ndarray) -> np.ndarray:
            if request.severity is None:
                return grey(images)
            generators = [streams.numpy(f"corruption/{split}", int(sample)) for sample in samples]
            return corrupt(images, request.severity, generators)

        return ChangedOrColour(images, protected, change)

    return Source(
        class_names=CLASSES,
        protected_names=GROUPS if request.severity is None else CORRUPTED_GROUPS,
        shape=SHAPE,
        mean=MEAN,
        std=STD,
        train=Samples(labels, protected, pixels("train", images, protected)),
        test=Samples(
            np.tile(test_labels, 2),
            twice,
            pixels("test", test_images, twice),
            source=np.tile(np.arange(len(test_labels)), 2),
        ),
        options={
            "bias_ratio": bias_ratio,
            **({} if request.severity is None else {"severity": request.severity}),
        },
    )


def grey(images: np.ndarray) -> np.ndarray:
    """`images` [N, 3, H, W] with their luma (ITU-R 601, rounded) in all three channels."""
    weights = np.array((19595, 38470, 7471), np.uint32)[:, None, None]  # 0.299, 0.587, 0.114 in 16-bit fractions
    luma = ((images * weights).sum(axis=1, keepdims=True) + 2**15) >> 16
    return np.repeat(luma.astype(np.uint8), 3, axis=1)


@dataclass(frozen=True)
class ChangedOrColour:
    """Images of which those of the first group are changed as they are asked for. Sample i is image i modulo M.

    `change` makes of images uint8 [n, 3, 32, 32], and the numbers of their samples [n], the changed ones.
    """

    images: np.ndarray  # uint8 [M, 3, 32, 32]
    protected: np.ndarray  # int64 [N]
    change: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def blocks(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The images at `indices` as uint8 blocks [n, 3, 32, 32]."""
        for start in range(0, len(indices), BLOCK):
            where = indices[start : start + BLOCK]
            block = self.images[where % len(self.images)]
            first = np.flatnonzero(self.protected[where] == 0)
            if len(first):
                block[first] = self.change(block[first], where[first])
            yield block


def _download(root: Path) -> None:
    import torchvision.datasets as published  # noqa: PLC0415  # slow to import and needed only here
    from torchvision.datasets.utils import download_and_extract_archive  # noqa: PLC0415

    archive = published.CIFAR10
    with fetching("CIFAR-10", root):
        # The class itself would unpickle the batches; the files, checked by the archive's checksum, are enough.
        download_and_extract_archive(archive.url, str(root), filename=archive.filename, md5=archive.tgz_md5)


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 [N, 3, 32, 32], labels int64 [N]) of a python batch; raises UsageError where it is none."""
    try:
        if path.stat().st_size > LIMIT:
            raise ValueError(f"it has more than {LIMIT:,} bytes")
        with path.open("rb") as stream:
            return _checked(read_pickle(stream.read(), NAMES))
    except Exception as error:  # a pickle that was tampered with makes its reader raise anything
        raise UsageError(f"'{path}' is not a batch of CIFAR-10: {first_line(error)}") from error


def _checked(content: Any) -> tuple[np.ndarray, np.ndarray]:
    """The arrays in a batch as it was read; any exception where they are not as published."""
    entries = {key if isinstance(key, bytes) else key.encode(): value for key, value in content.items()}
    _, shape, kind, fortran, raw = entries[b"data"].state
    labels = entries[b"labels"]
    if not (isinstance(labels, list) and isinstance(shape, tuple) and all(type(size) is int for size in shape)):
        raise ValueError("expected a list of labels and an array's shape")
    if shape != (len(labels), int(np.prod(SHAPE))) or kind.arguments[0] not in (b"u1", "u1"):
        raise ValueError(f"expected uint8 rows of {np.prod(SHAPE)} for {len(labels)} labels, found {shape[:4]}")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2's strings are bytes
    if not isinstance(raw, bytes) or len(raw) != shape[0] * shape[1]:
        raise ValueError("its array is truncated")
    if not labels or not all(type(label) is int and 0 <= label < len(CLASSES) for label in labels):
        raise ValueError(f"its labels should be whole numbers in 0…{len(CLASSES) - 1}")
    rows = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
    return rows.reshape(-1, *SHAPE), np.array(labels, np.int64)
