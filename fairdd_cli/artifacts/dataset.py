"""BiasedDataset: a training split in which a group dominates each class, and a test split with equal cells."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from fairdd_cli.artifacts._container import Container, json_attribute, open_container
from fairdd_cli.artifacts._hdf5 import Attributes, Schema, array_entry, identity, sealed
from fairdd_cli.artifacts._input import InputFile
from fairdd_cli.artifacts._lock import check_target
from fairdd_cli.artifacts._shown import ShowsItself
from fairdd_cli.artifacts._writer import ArrayChunks, write
from fairdd_cli.errors import UsageError

SPLITS = ("train", "test")
OPTIONAL_SPLITS = ("val",)
IMAGE_KINDS = ("grey", "natural")
LARGEST_IMAGE = 2**26  # bytes
SOURCE = "test/source"
SMALLEST_STD = 1e-6  # a smaller one makes numbers that no network can take


def _split_arrays(split: str) -> dict[str, tuple[str, int]]:
    return {
        f"{split}/images": ("uint8", 4),
        f"{split}/labels": ("int64", 1),
        f"{split}/protected": ("int64", 1),
        f"{split}/cells/start": ("int64", 2),
        f"{split}/cells/count": ("int64", 2),
    }


SCHEMA = Schema(
    kind="fairdd/dataset",
    attributes={
        "name": str,
        "class_names": list,
        "protected_names": list,
        "mean": list,
        "std": list,
        "bias_ratio": float,
    },
    arrays={name: form for split in SPLITS for name, form in _split_arrays(split).items()},
    optional_attributes={"mirror_keeps_class": bool, "image_kind": str},
    optional_arrays=(*(_split_arrays(split) for split in OPTIONAL_SPLITS), {SOURCE: ("int64", 1)}),
)


class Images(Protocol):
    """uint8 images [N, C, H, W], wherever they are."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images [len(indices), C, H, W] at `indices`."""
        ...

    def all(self) -> np.ndarray:
        """Every image, in memory."""
        ...


@dataclass(frozen=True)
class MemoryImages:
    """Images held in an array."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self.array.shape

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`."""
        return np.asarray(self.array[indices])

    def all(self) -> np.ndarray:
        """Every image."""
        return self.array


@dataclass(frozen=True)
class FileImages:
    """Images that stay in their file, from the byte `offset` on; each is read when it is asked for.

    Raises WorkError where bytes are missing.
    """

    file: InputFile
    offset: int
    shape: tuple[int, ...]

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`, read in the order in which they lie; WorkError where the file has lost them."""
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        rows = images.reshape(len(indices), -1)
        for row in np.argsort(indices, kind="stable"):
            self.file.read_into(rows[row].data, self.offset + int(indices[row]) * rows.shape[1])
        return images

    def all(self) -> np.ndarray:
        """Every image."""
        images = np.empty(self.shape, np.uint8)
        self.file.read_into(images.reshape(-1).data, self.offset)
        return images


@dataclass(frozen=True)
class Split:
    """Samples sorted by cell: those of (label y, protected a) are `start[y, a] : start[y, a] + count[y, a]`.

    Where a source (a photograph, a digit) is shown in several groups, `source` numbers it, from 0 on without gaps.
    """

    images: Images
    labels: np.ndarray  # int64 [N]
    protected: np.ndarray  # int64 [N]
    start: np.ndarray  # int64 [classes, groups]
    count: np.ndarray  # int64 [classes, groups]
    source: np.ndarray | None = None  # int64 [N]

    def __len__(self) -> int:
        return len(self.labels)

    def pairs(self) -> np.ndarray | None:
        """The positions int64 [N / 2, 2] of the images of each source, that in the first and that in the second group.

        None unless there are two groups and every source is shown once in each.
        """
        if self.source is None or self.count.shape[1] != 2 or len(self) % 2:
            return None
        pairs = np.lexsort((self.protected, self.source)).reshape(-1, 2)
        source, protected = self.source[pairs], self.protected[pairs]
        complete = (source[:, 0] == source[:, 1]).all() and (protected == (0, 1)).all()
        return pairs if complete else None

    @staticmethod
    def sorted_by_cell(images: Images, labels: np.ndarray, protected: np.ndarray, classes: int, groups: int) -> "Split":
        """The split of samples that stand sorted by (label, protected) already."""
        start, count = cell_ranges(labels, protected, classes, groups)
        return Split(images, labels, protected, start, count)


def cell_ranges(labels: np.ndarray, protected: np.ndarray, classes: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(start, count), both int64 [classes, groups], of samples sorted by (label, protected)."""
    count = np.bincount(labels * groups + protected, minlength=classes * groups).astype(np.int64)
    start = np.cumsum(count) - count
    return start.reshape(classes, groups), count.reshape(classes, groups)


@dataclass(frozen=True, repr=False)
class BiasedDataset(ShowsItself):
    """A data set as `fairdd make-dataset` writes it.

    `mean` and `std` (per channel, for values in [0, 1]) normalise the images; `options` say how it was made.
    `val` is a balanced split held out of the training images, for choosing hyper-parameters. `image_kind` is "grey"
    for grey-level images, however coloured (digits, garments), and else "natural".
    """

    name: str
    class_names: tuple[str, ...]
    protected_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bias_ratio: float  # share of the training images that belong to the majority group of their class
    train: Split
    test: Split
    options: Mapping[str, Any]
    seed: int
    val: Split | None = None
    mirror_keeps_class: bool = True  # a mirrored digit is another digit or none
    image_kind: str = "natural"
    path: str = ""
    digest: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)  # created, generated_by

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.protected_names)

    def validation(self) -> Split:
        """The validation split; raises UsageError where there is none."""
        if self.val is None:
            raise UsageError(
                f"{self.where} has no validation split; make one with 'fairdd make-dataset … --holdout 0.1'"
            )
        return self.val

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def splits(self) -> dict[str, Split]:
        """The splits that it has, by name: train, test, and val where one was held out."""
        found = {name: getattr(self, name) for name in (*SPLITS, *OPTIONAL_SPLITS)}
        return {name: split for name, split in found.items() if split is not None}

    def save(self, path: str | os.PathLike[str], force: bool = False) -> None:
        """Writes it to the file `path`, as `fairdd make-dataset` does; UsageError where that exists, unless `force`."""
        check_target(os.fspath(path), force)
        every = {name: split.images.all() for name, split in self.splits().items()}
        chunks = {name: ArrayChunks(images.shape, "uint8", [images]) for name, images in every.items()}
        write_dataset(os.fspath(path), self, chunks, force)

    def _in_memory(self) -> str:
        return f"data set {self.name}"


def majority_share(count: np.ndarray) -> float:
    """The bias ratio of a cell table [classes, groups]: the share of samples in the majority group of their class."""
    return float(count.max(axis=1).sum() / max(1, count.sum()))


def write_dataset(
    path: str,
    dataset: BiasedDataset,
    chunks: Mapping[str, ArrayChunks],
    force: bool = True,
    finalize: Callable[[BiasedDataset], BiasedDataset] = lambda dataset: dataset,
) -> str:
    """Writes `dataset` to `path` with the images of each split from `chunks`; returns the digest.

    `finalize` is called once all images have passed: it returns the description with what only they tell (their
    mean and deviation), or raises, and no file is left.
    """
    arrays: dict[str, np.ndarray | ArrayChunks] = dict(_arrays(dataset, chunks))
    return write(path, SCHEMA.kind, lambda: _attributes(finalize(dataset)), arrays, force)


def collect_dataset(
    dataset: BiasedDataset,
    chunks: Mapping[str, ArrayChunks],
    finalize: Callable[[BiasedDataset], BiasedDataset] = lambda dataset: dataset,
) -> BiasedDataset:
    """`dataset` with the images from `chunks` in memory, and with the digest that its file would have.

    `finalize` as for `write_dataset`.
    """
    images = {name: np.empty(each.shape, each.dtype) for name, each in chunks.items()}
    for name, each in chunks.items():
        start = 0
        for chunk in each.chunks:
            images[name][start : start + len(chunk)] = chunk
            start += len(chunk)
    filled = {name: replace(split, images=MemoryImages(images[name])) for name, split in dataset.splits().items()}
    dataset = finalize(replace(dataset, **filled))  # type: ignore[arg-type]
    entries = {name: array_entry(array) for name, array in _arrays(dataset, images).items()}
    return replace(dataset, **identity(sealed(SCHEMA.kind, _attributes(dataset), entries)))


Stored = TypeVar("Stored")


def _arrays(dataset: BiasedDataset, images: Mapping[str, Stored]) -> dict[str, Stored | np.ndarray]:
    """The arrays of a file, with the `images` of each split as they are given."""
    arrays: dict[str, Stored | np.ndarray] = {}
    for name, split in dataset.splits().items():
        arrays |= {
            f"{name}/images": images[name],
            f"{name}/labels": split.labels,
            f"{name}/protected": split.protected,
            f"{name}/cells/start": split.start,
            f"{name}/cells/count": split.count,
        }
    if dataset.test.source is not None:
        arrays[SOURCE] = dataset.test.source
    return arrays


def _attributes(dataset: BiasedDataset) -> Attributes:
    return {
        "name": dataset.name,
        "class_names": list(dataset.class_names),
        "protected_names": list(dataset.protected_names),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "bias_ratio": dataset.bias_ratio,
        "mirror_keeps_class": dataset.mirror_keeps_class,
        "image_kind": dataset.image_kind,
        "options": json.dumps(dict(dataset.options), sort_keys=True),
        "seed": dataset.seed,
    }


def read_dataset(path: str) -> BiasedDataset:
    """The data set at `path` (`-`: standard input); raises UsageError unless it is sound. Images stay in the file."""
    container = open_container(path, SCHEMA)
    attributes = container.attributes
    for name in ("class_names", "protected_names"):
        if not attributes[name] or not all(isinstance(entry, str) for entry in attributes[name]):
            raise container.fail(f"attribute '{name}' should be a list of names")
    channels = container.shape("train/images")[1]
    for name in ("mean", "std"):
        values = attributes[name]
        if len(values) != channels or not all(isinstance(value, float) for value in values):
            raise container.fail(f"attribute '{name}' should be one number for each of {channels} channels")
    if min(attributes["mean"]) < 0 or max(attributes["mean"]) > 1:
        raise container.fail("attribute 'mean' must lie in 0…1")
    if min(attributes["std"]) < SMALLEST_STD or max(attributes["std"]) > 1:
        raise container.fail(f"attribute 'std' must lie in {SMALLEST_STD}…1")
    if not 0 <= attributes["bias_ratio"] <= 1:
        raise container.fail("attribute 'bias_ratio' must lie in 0…1")
    present = [name for name in OPTIONAL_SPLITS if container.names(f"{name}/")]
    splits = {name: _read_split(container, name) for name in (*SPLITS, *present)}
    if len({split.images.shape[1:] for split in splits.values()}) > 1:
        raise container.fail(f"the images of {', '.join(splits)} differ in size")
    options = json_attribute(container, "options")
    facts = {**_facts_of_0_1_0(attributes["name"], options), **attributes}
    if facts["image_kind"] not in IMAGE_KINDS:
        raise container.fail(f"attribute 'image_kind' must be one of {', '.join(IMAGE_KINDS)}")
    return BiasedDataset(
        name=attributes["name"],
        class_names=tuple(attributes["class_names"]),
        protected_names=tuple(attributes["protected_names"]),
        mean=tuple(attributes["mean"]),
        std=tuple(attributes["std"]),
        bias_ratio=attributes["bias_ratio"],
        train=splits["train"],
        test=splits["test"],
        val=splits.get("val"),
        mirror_keeps_class=facts["mirror_keeps_class"],
        image_kind=facts["image_kind"],
        options=options,
        seed=attributes["seed"],
        path=path,
        digest=attributes["digest"],
        provenance={name: attributes[name] for name in ("created", "generated_by")},
    )


def _facts_of_0_1_0(name: str, options: Mapping[str, Any]) -> Attributes:
    """What files of version 0.1.0 say of their images only by the data set's name and an option."""
    return {
        "mirror_keeps_class": options.get("mirror", True) is not False,
        "image_kind": "grey" if "mnist" in name else "natural",
    }


def _read_split(container: Container, name: str) -> Split:
    classes, groups = (len(container.attributes[key]) for key in ("class_names", "protected_names"))
    for key in ("start", "count"):
        if container.shape(f"{name}/cells/{key}") != (classes, groups):
            raise container.fail(f"'{name}/cells/{key}' should have shape ({classes}, {groups})")
    labels, protected = (container.array(f"{name}/{key}") for key in ("labels", "protected"))
    shape = container.shape(f"{name}/images")
    if min(shape) < 1 or math.prod(shape[1:]) > LARGEST_IMAGE:
        raise container.fail(f"'{name}/images' has shape {shape}; images have 1 to {LARGEST_IMAGE:,} values")
    if not len(labels) == len(protected) == shape[0]:
        raise container.fail(f"'{name}' has {shape[0]} images, {len(labels)} labels and {len(protected)} protected")
    for array, values, limit in (("labels", labels, classes), ("protected", protected, groups)):
        if values.min() < 0 or values.max() >= limit:
            raise container.fail(f"'{name}/{array}' must lie in 0…{limit - 1}")
    if (np.diff(labels * groups + protected) < 0).any():
        raise container.fail(f"'{name}' is not sorted by cell")
    start, count = cell_ranges(labels, protected, classes, groups)
    for array, expected in (("start", start), ("count", count)):
        if not np.array_equal(container.array(f"{name}/cells/{array}"), expected):
            raise container.fail(f"'{name}/cells/{array}' disagrees with the labels")
    images: Images
    if isinstance(container.file, InputFile):
        images = FileImages(container.file, container.offset(f"{name}/images"), shape)
    else:
        images = MemoryImages(container.array(f"{name}/images", limited=False))
    source = container.array(SOURCE) if f"{name}/source" in container.names() else None
    if source is not None and (reason := _unsound_source(source, labels, protected)):
        raise container.fail(f"'{SOURCE}' {reason}")
    return Split(images, labels, protected, start, count, source)


def _unsound_source(source: np.ndarray, labels: np.ndarray, protected: np.ndarray) -> str:
    """What is wrong with the `source` of images with these `labels` and `protected`: '' where nothing is."""
    if len(source) != len(labels):
        return f"has {len(source)} entries for {len(labels)} images"
    if source.min() < 0 or source.max() >= len(source) or not np.bincount(source).all():
        return "must number the sources from 0 on without gaps"
    order = np.lexsort((protected, source))
    same = np.diff(source[order]) == 0
    if (np.diff(labels[order])[same] != 0).any():
        return "gives one source several labels"
    if (np.diff(protected[order])[same] == 0).any():
        return "shows a source twice in a group"
    return ""
