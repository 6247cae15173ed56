"""Data sets that are image files: their splits, and their pixels, decoded in parallel."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from fairdd_cli.datasets._source import Request, Samples, Source
from fairdd_cli.datasets._splits import (
    BALANCING,
    SAME_UNIT,
    TEST,
    TRAIN,
    VAL,
    Cells,
    balanced_split,
    check_no_leak,
    hold_out,
    per_cell_of,
)
from fairdd_cli.datasets.images.decode import Geometry, decode_all
from fairdd_cli.datasets.images.parallel import ordered_fill
from fairdd_cli.errors import UsageError
from fairdd_cli.runtime import Streams
from fairdd_cli.system import usable_cores

OPTIONS = frozenset({"root", "download", "size", "test_per_cell", "workers", "skip_unreadable"})
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
    """The files below `folder` that match one of the `patterns`, relative to it and sorted; hidden ones left out."""
    files = (path for pattern in patterns for path in folder.glob(pattern) if not path.name.startswith("."))
    return sorted(str(path.relative_to(folder)) for path in files)


@dataclass(frozen=True)
class ImageTable:
    """Image files and what is known of each. `part` says TRAIN, VAL or TEST; where None, a test split is drawn.

    `units` number what may be shown by several images, each called a `unit`, with their `unit_names`.
    """

    folder: Path
    names: Sequence[str]  # relative to the folder
    labels: np.ndarray  # int64 [N]
    protected: np.ndarray  # int64 [N]
    class_names: Sequence[str]
    protected_names: Sequence[str]
    part: np.ndarray | None = None
    units: np.ndarray | None = None  # int64 [N]
    unit: str = ""
    unit_names: Sequence[str] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def cells(self, chosen: np.ndarray) -> Cells:
        """The cells of the `chosen` images."""
        return Cells(self.labels[chosen], self.protected[chosen], self.class_names, self.protected_names)


def file_source(
    request: Request,
    table: ImageTable,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    test_per_cell: int | None = None,
    test_share: str | None = None,
) -> Source:
    """The source of a `table` of image files, with equal test cells.

    A test split that is drawn has `test_per_cell` images of each cell, or the `test_share` (a fifth) of the smallest
    one; the rest is for training. A given one is cut to its smallest cell. Raises UsageError where a cell has no test
    image.
    """
    size = SIZE if request.size is None else request.size
    workers = usable_cores() if request.workers is None else request.workers
    if size not in SIZES:
        raise UsageError(
            f"--size {size} is out of range: images may have {SIZES.start} to {SIZES.stop - 1} pixels a side"
        )
    if workers < 1:
        raise UsageError(f"--workers {workers} is out of range: at least 1 process decodes")
    if table.part is not None and table.units is not None:
        check_no_leak(table.units, table.part, table.unit_names, table.unit)
    readable = np.array([name not in request.left_out for name in table.names], bool)
    generator = Streams(request.seed).numpy("test split")
    if table.part is None:
        parts = _drawn_split(
            table, np.flatnonzero(readable), request.test_per_cell or test_per_cell, test_share, generator
        )
    else:
        parts = {part: np.flatnonzero(readable & (table.part == part)) for part in (TRAIN, VAL, TEST)}
        if not len(parts[TEST]):
            raise UsageError(
                "no image belongs to the test split, so that nothing could be evaluated; to test on validation images, "
                "write --split 'COLUMN=train,test:val', or leave out --split to have a test split drawn"
            )
        parts[TEST] = parts[TEST][balanced_split(table.cells(parts[TEST]), None, generator)]
    unreadable: dict[str, str] = {}

    def samples(chosen: np.ndarray) -> Samples:
        names = [table.names[index] for index in chosen]
        pixels = FilePixels(table.folder, names, Geometry(size, crop=not request.no_crop), workers, unreadable)
        units = None if table.units is None else table.units[chosen]
        return Samples(table.labels[chosen], table.protected[chosen], pixels, units, table.unit)

    unused = int(readable.sum()) - sum(map(len, parts.values()))
    return Source(
        class_names=table.class_names,
        protected_names=table.protected_names,
        shape=(3, size, size),
        mean=mean,
        std=std,
        train=samples(parts[TRAIN]),
        test=samples(parts[TEST]),
        val=samples(parts[VAL]) if len(parts[VAL]) else None,
        options={"size": size, **table.options},
        left_out={
            **table.left_out,
            "unreadable": int(np.sum(~readable)),
            (BALANCING if table.part is not None else SAME_UNIT.format(table.unit)): unused,
        },
        unreadable=unreadable,
    )


def _drawn_split(
    table: ImageTable,
    readable: np.ndarray,
    per_cell: int | None,
    share: str | None,
    generator: np.random.Generator,
) -> dict[int, np.ndarray]:
    """Indices into the table for each part, of those that are `readable`."""
    cells = table.cells(readable)
    if per_cell is None:
        smallest = int(cells.sizes.min())
        per_cell = max(1, smallest // 5) if share is None else per_cell_of(share, smallest, "--split")
    units = None if table.units is None else table.units[readable]
    test, train = hold_out(cells, units, per_cell, generator)
    return {TRAIN: readable[train], TEST: readable[test], VAL: readable[:0]}
