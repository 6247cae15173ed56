"""From a source to a file: samples are sorted by cell first, then decoded and written in that order, block by block."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import numpy as np

from fairdd_cli.artifacts import (
    ArrayChunks,
    BiasedDataset,
    MemoryImages,
    Split,
    check_space,
    majority_share,
    write_dataset,
)
from fairdd_cli.datasets import DATASETS
from fairdd_cli.datasets._cells import BALANCING, balanced_test_split, sample_cells
from fairdd_cli.datasets._source import Request, Samples, Source
from fairdd_cli.errors import UsageError
from fairdd_cli.runtime import Progress, Streams

OVERHEAD = 2**20  # bytes of a file besides its arrays, generously
LEAST_DEVIATION = 1 / 255  # of a channel that is the same everywhere; it is divided by


class UnreadableImagesError(UsageError):
    """Some images could not be decoded; `names` are theirs."""

    def __init__(self, unreadable: dict[str, str], total: int) -> None:
        first = ", ".join(f"'{name}' ({reason})" for name, reason in list(unreadable.items())[:3])
        more = ", …" if len(unreadable) > 3 else ""
        super().__init__(
            f"{len(unreadable):,} of {total:,} images cannot be read: {first}{more}\n"
            "Repair or remove them, or leave them out with --skip-unreadable."
        )
        self.names = frozenset(unreadable)


def make(
    name: str,
    request: Request,
    path: str,
    *,
    limit: int | None = None,
    progress: Progress,
    force: bool = False,
) -> BiasedDataset:
    """Makes the data set `name` as the `request` asks and writes it to `path`; see `build`.

    With `skip_unreadable`, images that cannot be decoded are left out as if they had never been there: the splits
    are drawn anew without them, and the file records their number.
    """
    module = DATASETS.load(name)
    request.check(name, module.OPTIONS)
    while True:
        source = module.source(request)
        try:
            return build(name, source, path, request=request, limit=limit, progress=progress, force=force)
        except UnreadableImagesError as found:
            if not request.skip_unreadable:
                raise
            request = replace(request, left_out=request.left_out | found.names)


def build(
    name: str, source: Source, path: str, *, request: Request, limit: int | None, progress: Progress, force: bool
) -> BiasedDataset:
    """Writes `source` to `path` and returns the data set's description (without images).

    `limit` keeps that many training images, each cell in its proportion, so that the bias ratio stays. Raises
    WorkError, before any image is decoded, where the disk has too little room, and UnreadableImagesError, after
    all were tried, where some could not be decoded.
    """
    groups = len(source.protected_names)
    streams = Streams(request.seed)
    orders = {"train": _by_cell(source.train, groups), "test": _by_cell(source.test, groups)}
    if limit is not None:
        orders["train"] = _proportional_subset(orders["train"], source.train, groups, limit, streams)
    left_out = dict(source.left_out)
    if request.test_per_cell is not None:
        kept = _balanced_subset(orders["test"], source, request.test_per_cell, streams)
        left_out[BALANCING] = left_out.get(BALANCING, 0) + len(orders["test"]) - len(kept)
        orders["test"] = kept
    splits = {split: _sorted_split(split, order, source) for split, order in orders.items()}
    total = sum(map(len, orders.values()))
    check_space(path, total * int(np.prod(source.shape) + 16) + OVERHEAD)
    dataset = BiasedDataset(
        name=name,
        class_names=tuple(source.class_names),
        protected_names=tuple(source.protected_names),
        mean=tuple(map(float, source.mean or ())),
        std=tuple(map(float, source.std or ())),
        bias_ratio=majority_share(splits["train"].count),
        train=splits["train"],
        test=splits["test"],
        mirror_keeps_class=source.mirror_keeps_class,
        image_kind=source.image_kind,
        options={
            "data_set": name,
            "limit": limit,
            "test_per_cell": request.test_per_cell,
            "left_out": {reason: count for reason, count in left_out.items() if count},
            **source.options,
        },
        seed=request.seed,
    )
    levels = ChannelHistogram(source.shape[0])

    def finalize(dataset: BiasedDataset) -> BiasedDataset:
        if source.unreadable:
            raise UnreadableImagesError(dict(source.unreadable), total)
        return dataset if dataset.mean else replace(dataset, mean=levels.mean(), std=levels.std())

    progress.start(f"writing {path}", total)
    with ExitStack() as stack:
        blocks = {}
        for split, order in orders.items():
            measured = levels if split == "train" and not dataset.mean else None
            parts = _reported(getattr(source, split).pixels.blocks(order), progress, measured)
            blocks[split] = ArrayChunks((len(order), *source.shape), "uint8", stack.enter_context(closing(parts)))
        digest = write_dataset(path, dataset, blocks, force, finalize)
    return replace(finalize(dataset), path=path, digest=digest)


class ChannelHistogram:
    """How often each channel takes each of the 256 levels: exact, and as small for a million images as for one."""

    def __init__(self, channels: int) -> None:
        self._count = np.zeros((channels, 256), np.int64)
        self._level = np.arange(256) / 255

    def add(self, block: np.ndarray) -> None:
        """Counts the levels of a uint8 block [n, C, H, W]."""
        for channel in range(len(self._count)):
            self._count[channel] += np.bincount(block[:, channel].ravel(), minlength=256)

    def mean(self) -> tuple[float, ...]:
        """Each channel's mean, in [0, 1] units."""
        return tuple(float(np.average(self._level, weights=count)) for count in self._count)

    def std(self) -> tuple[float, ...]:
        """Each channel's deviation, in [0, 1] units."""
        spread = (
            np.average((self._level - mean) ** 2, weights=count)
            for mean, count in zip(self.mean(), self._count, strict=True)
        )
        return tuple(max(float(np.sqrt(variance)), LEAST_DEVIATION) for variance in spread)


def _by_cell(samples: Samples, groups: int) -> np.ndarray:
    return np.argsort(samples.labels * groups + samples.protected, kind="stable")


def _proportional_subset(order: np.ndarray, samples: Samples, groups: int, limit: int, streams: Streams) -> np.ndarray:
    """`limit` entries of `order`, drawn from each cell in proportion to its size (largest remainders round up)."""
    if not 1 <= limit <= len(order):
        raise UsageError(f"--limit {limit} is out of range: the training split has {len(order):,} images")
    cells = (samples.labels * groups + samples.protected)[order]
    share = np.bincount(cells) * limit / len(order)
    kept = np.floor(share).astype(np.int64)
    kept[np.argsort(kept - share, kind="stable")[: limit - kept.sum()]] += 1
    subset: np.ndarray = order[sample_cells(cells, kept, streams.numpy("limit"))]
    return subset


def _balanced_subset(order: np.ndarray, source: Source, per_cell: int, streams: Streams) -> np.ndarray:
    """`per_cell` entries of each cell of the test split's `order`."""
    labels, protected = source.test.labels[order], source.test.protected[order]
    chosen = balanced_test_split(
        labels, protected, source.class_names, source.protected_names, per_cell, streams.numpy("test per cell")
    )
    subset: np.ndarray = order[chosen]
    return subset


def _sorted_split(split: str, order: np.ndarray, source: Source) -> Split:
    """The `split` in the given order, without images; UsageError where a class has none."""
    samples: Samples = getattr(source, split)
    nowhere = MemoryImages(np.empty((0, *source.shape), np.uint8))
    classes, groups = len(source.class_names), len(source.protected_names)
    result = Split.sorted_by_cell(nowhere, samples.labels[order], samples.protected[order], classes, groups)
    empty = np.flatnonzero(result.count.sum(axis=1) == 0)
    if len(empty):
        raise UsageError(f"class '{source.class_names[empty[0]]}' has no image in the {split} split")
    return result


def _reported(
    parts: Iterator[np.ndarray], progress: Progress, levels: ChannelHistogram | None
) -> Generator[np.ndarray, None, None]:
    for part in parts:
        if levels:
            levels.add(part)
        yield part
        progress.advance(len(part))
