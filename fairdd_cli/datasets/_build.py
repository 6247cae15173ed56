"""From a source to a file: samples are sorted by cell first, then decoded and written in that order, block by block."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fairdd_cli.artifacts import BiasedDataset, Blocks, MemoryImages, Split, majority_share, write_dataset
from fairdd_cli.datasets._source import Samples, Source
from fairdd_cli.errors import UsageError
from fairdd_cli.runtime import Progress, Streams


def build(
    name: str, source: Source, path: str, *, seed: int, limit: int | None, progress: Progress, force: bool
) -> BiasedDataset:
    """Writes `source` to `path` and returns the data set's description (without images).

    `limit` keeps that many training images, each cell in its proportion, so that the bias ratio stays.
    """
    classes, groups = len(source.class_names), len(source.protected_names)
    orders = {split: _by_cell(getattr(source, split), groups) for split in ("train", "test")}
    if limit is not None:
        orders["train"] = _limited(orders["train"], source.train, groups, limit, Streams(seed))
    splits, blocks = {}, {}
    progress.start(f"writing {path}", sum(map(len, orders.values())))
    for split, order in orders.items():
        samples: Samples = getattr(source, split)
        if not len(order):
            raise UsageError(f"data set '{name}': the {split} split is empty")
        blocks[split] = Blocks((len(order), *source.shape), "uint8", _watched(samples.pixels.blocks(order), progress))
        nowhere = MemoryImages(np.empty((0, *source.shape), np.uint8))
        splits[split] = Split.sorted_by_cell(nowhere, samples.labels[order], samples.protected[order], classes, groups)
    dataset = BiasedDataset(
        name=name,
        class_names=tuple(source.class_names),
        protected_names=tuple(source.protected_names),
        mean=tuple(map(float, source.mean)),
        std=tuple(map(float, source.std)),
        bias_ratio=majority_share(splits["train"].count),
        train=splits["train"],
        test=splits["test"],
        options={"data_set": name, "limit": limit, **source.options},
        seed=seed,
    )
    digest = write_dataset(path, dataset, blocks, force)
    return replace(dataset, path=path, digest=digest)


def _by_cell(samples: Samples, groups: int) -> np.ndarray:
    return np.argsort(samples.labels * groups + samples.protected, kind="stable")


def _limited(order: np.ndarray, samples: Samples, groups: int, limit: int, streams: Streams) -> np.ndarray:
    """`limit` entries of `order`, drawn from each cell in proportion to its size (largest remainders round up)."""
    if not 1 <= limit <= len(order):
        raise UsageError(f"--limit {limit} is out of range: the training split has {len(order)} images")
    cells, starts, counts = np.unique((samples.labels * groups + samples.protected)[order], True, False, True)
    share = counts * limit / len(order)
    kept = np.floor(share).astype(int)
    kept[np.argsort(kept - share, kind="stable")[: limit - kept.sum()]] += 1
    drawn = [
        start + np.sort(streams.numpy("limit", int(cell)).choice(count, keep, replace=False))
        for cell, start, count, keep in zip(cells, starts, counts, kept, strict=True)
    ]
    chosen: np.ndarray = order[np.concatenate(drawn)]
    return chosen


def _watched(parts: Iterator[np.ndarray], progress: Progress) -> Iterator[np.ndarray]:
    for part in parts:
        yield part
        progress.advance(len(part))
