"""Data sets that are image files: their splits, and their pixels, decoded in parallel."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from fairdd_cli.datasets._cells import BALANCING, balanced_test_split
from fairdd_cli.datasets._decode import Geometry, decode_all
from fairdd_cli.datasets._parallel import ordered_fill
from fairdd_cli.datasets._source import Request, Samples, Source
from fairdd_cli.errors import UsageError
from fairdd_cli.runtime import Streams
from fairdd_cli.system import usable_cores

OPTIONS = frozenset({"root", "download", "size", "test_per_cell", "workers", "skip_unreadable"})
TRAIN, TEST = 0, 1
SIZE = 64
SIZES = range(8, 1025)
TASK_IMAGES, TASK_BYTES = 64, 2**22  # decoded by a process at a time: at most that many, and that many bytes
ENOUGH = 1024  # images that are worth another process: to start one takes as long as to decode several hundred


@dataclass(frozen=True)
class FilePixels:
    """Images that are decoded from files as they are asked for; the reason of each that fails goes to `unreadable`."""

    folder: Path
    names: Sequence[str]
    geometry: Geometry
    workers: int
    unreadable: dict[str, str]

    def blocks(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The images at `indices` as uint8 blocks [n, 3, size, size]; those that cannot be read are black."""
        side = self.geometry.size
        length = max(1, min(TASK_IMAGES, TASK_BYTES // (3 * side**2)))
        tasks = [indices[start : start + length] for start in range(0, len(indices), length)]
        paths = ([f"{self.folder}/{self.names[index]}" for index in task] for task in tasks)
        workers = min(self.workers, -(-len(indices) // ENOUGH))
        decoded = ordered_fill(partial(decode_all, geometry=self.geometry), paths, (length, 3, side, side), workers)
        for task, (images, faults) in zip(tasks, decoded, strict=True):
            self.unreadable.update({self.names[task[position]]: reason for position, reason in faults.items()})
            yield images[: len(task)]


def image_names(folder: Path, *patterns: str) -> list[str]:
    """The files below `folder` that match one of the `patterns`, relative to it and sorted."""
    return sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern))


@dataclass(frozen=True)
class ImageTable:
    """Image files and what is known of each. `part` says TRAIN or TEST; where it is None, a test split is drawn."""

    folder: Path
    names: Sequence[str]  # relative to the folder
    labels: np.ndarray  # int64 [N]
    protected: np.ndarray  # int64 [N]
    class_names: Sequence[str]
    protected_names: Sequence[str]
    part: np.ndarray | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


def file_source(
    request: Request,
    table: ImageTable,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    test_per_cell: int | None = None,
) -> Source:
    """The source of a `table` of image files, with equal test cells.

    A test split that is drawn has `test_per_cell` images of each cell, or a fifth of the smallest one; the rest
    is for training. A given one is cut to its smallest cell. Raises UsageError where a cell has no test image.
    """
    size = SIZE if request.size is None else request.size
    workers = usable_cores() if request.workers is None else request.workers
    if size not in SIZES:
        raise UsageError(
            f"--size {size} is out of range: images may have {SIZES.start} to {SIZES.stop - 1} pixels a side"
        )
    if workers < 1:
        raise UsageError(f"--workers {workers} is out of range: at least 1 process decodes")
    readable = np.array([name not in request.left_out for name in table.names], bool)
    unreadable: dict[str, str] = {}
    splits = {}
    found = _split(table, np.flatnonzero(readable), request, test_per_cell)
    for split, chosen in found.items():
        names = [table.names[index] for index in chosen]
        pixels = FilePixels(table.folder, names, Geometry(size, crop=not request.no_crop), workers, unreadable)
        splits[split] = Samples(table.labels[chosen], table.protected[chosen], pixels)
    return Source(
        class_names=table.class_names,
        protected_names=table.protected_names,
        shape=(3, size, size),
        mean=mean,
        std=std,
        train=splits["train"],
        test=splits["test"],
        options={"size": size, **table.options},
        left_out={
            **table.left_out,
            "unreadable": int(np.sum(~readable)),
            BALANCING: 0 if table.part is None else int(np.sum(table.part[readable] == TEST)) - len(found["test"]),
        },
        unreadable=unreadable,
    )


def _split(
    table: ImageTable, readable: np.ndarray, request: Request, test_per_cell: int | None
) -> dict[str, np.ndarray]:
    """Indices into the table for each split."""
    if table.part is None:
        candidates, per_cell = readable, request.test_per_cell or test_per_cell
        if per_cell is None:
            cells = table.labels[readable] * len(table.protected_names) + table.protected[readable]
            sizes = np.bincount(cells, minlength=len(table.class_names) * len(table.protected_names))
            per_cell = max(1, int(sizes.min()) // 5)
    else:
        candidates, per_cell = readable[table.part[readable] == TEST], None
        if not len(candidates):
            raise UsageError("no image belongs to the test split, so that nothing could be evaluated")
    test = candidates[
        balanced_test_split(
            table.labels[candidates],
            table.protected[candidates],
            table.class_names,
            table.protected_names,
            per_cell,
            Streams(request.seed).numpy("test split"),
        )
    ]
    train = np.setdiff1d(readable, test) if table.part is None else readable[table.part[readable] == TRAIN]
    return {"train": train, "test": test}
