"""From a source to a file: samples are sorted by cell first, then decoded and written in that order, block by block.

In a notebook, `make_dataset` keeps them in memory instead.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import fields, replace
from typing import Any

import numpy as np

from fairdd_cli.artifacts import (
    ArrayChunks,
    BiasedDataset,
    MemoryImages,
    Split,
    check_space,
    collect_dataset,
    majority_share,
    write_dataset,
)
from fairdd_cli.config import MakeDatasetConfig, options
from fairdd_cli.config.keywords import configure, documented
from fairdd_cli.datasets import DATASETS
from fairdd_cli.datasets._source import Request, Samples, Source
from fairdd_cli.datasets._splits import (
    BALANCING,
    SAME_UNIT,
    Cells,
    balanced_split,
    hold_out,
    per_cell_of,
    sample_cells,
)
from fairdd_cli.datasets.tables.values import control_character
from fairdd_cli.errors import UsageError
from fairdd_cli.runtime import Progress, Streams, show_progress

GIVEN = "val"  # --holdout val: the validation images that the source sets apart
OVERHEAD = 2**20  # bytes of a file besides its arrays, generously
LEAST_DEVIATION = 1 / 255  # of a channel that is the same everywhere; it is divided by


class UnreadableImagesError(UsageError):
    """Some images could not be decoded; `names` are theirs."""

    def __init__(self, unreadable: dict[str, str], total: int) -> None:
        first = ", ".join(f"'{name}' ({reason})" for name, reason in list(unreadable.items())[:3])
        more = ", …" if len(unreadable) > 3 else ""
        super().__init__(
            f"{len(unreadable):,} of {total:,} images cannot be read: {first}{more}",
            "Repair or remove them, or leave them out with --skip-unreadable.",
        )
        self.names = frozenset(unreadable)


@documented(MakeDatasetConfig)
def make_dataset(dataset: str, **options: Any) -> BiasedDataset:
    """Makes the biased data set called `dataset` in memory; its `save` writes the file that the command would write.

    Raises `UsageError` for an option that is unknown or does not fit, and for sources that are missing or unsound.

        make_dataset("c-fmnist-fg", embedded=True)
        make_dataset("folder", root="images", csv="labels.csv", target="diagnosis", protected="sex")
    """
    config = configure(MakeDatasetConfig, options, dataset=_known(dataset))
    with show_progress(config.quiet) as progress:
        request = request_of(config, lambda remark: progress.say(f"note: {remark}"))
        return make(config.dataset, request, None, limit=config.limit, progress=progress)


def _known(name: str) -> str:
    return str(options(MakeDatasetConfig)["dataset"].read(name))


def request_of(config: MakeDatasetConfig, say: Callable[[str], None] = lambda remark: None) -> Request:
    """What `config` asks of a data set; `say` tells the user what was noticed in its source."""
    asked = {entry.name for entry in fields(Request)} & {entry.name for entry in fields(MakeDatasetConfig)}
    return Request(**{name: getattr(config, name) for name in asked}, say=say)


def dataset_name(name: str, request: Request) -> str:
    """What the data set is called: as --name says, else as the source `name` says of one's own data, else `name`."""
    if request.name is not None:
        if not request.name.strip() or (harmful := control_character(request.name)):
            raise UsageError(f"--name should be text, found {harmful if request.name.strip() else 'nothing'}")
        return request.name
    own = getattr(DATASETS.load(name), "default_name", None)
    return (own(request) if own else "") or name


def make(
    name: str,
    request: Request,
    path: str | None,
    *,
    limit: int | None = None,
    progress: Progress,
    force: bool = False,
) -> BiasedDataset:
    """Makes the data set `name` as the `request` asks and writes it to `path`, or keeps it in memory; see `build`.

    With `skip_unreadable`, images that cannot be decoded are left out as if they had never been there: the splits
    are drawn anew without them, and the file records their number.
    """
    module = DATASETS.load(name)
    request.check(name, module.OPTIONS)
    while True:
        source = module.source(request)
        try:
            return build(name, source, path, request=request, limit=limit, progress=progress, force=force)
        except UnreadableImagesError as error:
            if not request.skip_unreadable:
                raise
            # What was noticed was said the first time.
            request = replace(request, left_out=request.left_out | error.names, say=lambda remark: None)


def build(
    name: str, source: Source, path: str | None, *, request: Request, limit: int | None, progress: Progress, force: bool
) -> BiasedDataset:
    """Writes `source` to `path` and returns the data set's description (without images); without `path` returns it all.

    A validation split is held out of the training images before `limit` keeps that many of them, each cell in its
    proportion, so that the bias ratio stays. Raises WorkError, before any image is decoded, where the disk has too
    little room, and UnreadableImagesError, after all were tried, where some could not be decoded.
    """
    streams, left_out = Streams(request.seed), Counter(source.left_out)
    chosen = _choose(source, request, limit, streams, left_out)
    splits = {split: _sorted_split(split, samples, order, source) for split, (samples, order) in chosen.items()}
    total = sum(map(len, splits.values()))
    if path is not None:
        check_space(path, total * int(np.prod(source.shape) + 24) + OVERHEAD)
    dataset = BiasedDataset(
        name=dataset_name(name, request),
        class_names=tuple(source.class_names),
        protected_names=tuple(source.protected_names),
        mean=tuple(map(float, source.mean or ())),
        std=tuple(map(float, source.std or ())),
        bias_ratio=majority_share(splits["train"].count),
        train=splits["train"],
        test=splits["test"],
        val=splits.get("val"),
        mirror_keeps_class=source.mirror_keeps_class,
        image_kind=source.image_kind,
        options={
            "data_set": name,
            "limit": limit,
            "test_per_cell": request.test_per_cell,
            "left_out": {reason: count for reason, count in left_out.items() if count},
            **({"holdout": request.holdout} if request.holdout else {}),
            **source.options,
        },
        seed=request.seed,
    )
    histogram = ChannelHistogram(source.shape[0])

    def finalize(dataset: BiasedDataset) -> BiasedDataset:
        if source.unreadable:
            raise UnreadableImagesError(dict(source.unreadable), total)
        return dataset if dataset.mean else replace(dataset, mean=histogram.mean(), std=histogram.std())

    progress.start(f"making {dataset.name}" if path is None else f"writing {path}", total)
    with ExitStack() as stack:
        chunks = {}
        for split, (samples, order) in chosen.items():
            measured = histogram if split == "train" and not dataset.mean else None
            parts = _reported(samples.pixels.blocks(order), progress, measured)
            chunks[split] = ArrayChunks((len(order), *source.shape), "uint8", stack.enter_context(closing(parts)))
        if path is None:
            return collect_dataset(dataset, chunks, finalize)
        digest = write_dataset(path, dataset, chunks, force, finalize)
    return replace(finalize(dataset), path=path, digest=digest)


def _choose(
    source: Source, request: Request, limit: int | None, streams: Streams, left_out: Counter[str]
) -> dict[str, tuple[Samples, np.ndarray]]:
    """The samples of each split and the order, by cell, in which those that are taken are written.

    The reasons for others to be left out, and their numbers, go to `left_out`.
    """
    train, test = _by_cell(source.train, source), _by_cell(source.test, source)
    chosen = {"train": (source.train, train)}
    if request.holdout == GIVEN:
        if source.val is None:
            raise UsageError(f"--holdout {GIVEN}: the source sets no validation images apart; give a share or a number")
        val = _by_cell(source.val, source)
        kept = val[balanced_split(_cells(source.val, source, val), None, streams.numpy("holdout"), "validation")]
        left_out["of the validation split, for cells of one size"] += len(val) - len(kept)
        chosen["val"] = (source.val, kept)
    else:
        left_out["validation"] += len(source.val.labels) if source.val else 0
    if request.holdout not in (None, GIVEN):
        cells = _cells(source.train, source, train)
        per_cell = per_cell_of(request.holdout, int(cells.sizes.min()), "--holdout")
        if per_cell >= cells.sizes.min() > 0:
            raise UsageError(
                f"--holdout {request.holdout} leaves nothing to train on in the cell "
                f"{cells.name(int(cells.sizes.argmin()))}, which has {cells.sizes.min():,} training images"
            )
        units = None if source.train.units is None else source.train.units[train]
        val, rest = hold_out(cells, units, per_cell, streams.numpy("holdout"), "training")
        left_out[SAME_UNIT.format(source.train.unit)] += len(train) - len(val) - len(rest)
        chosen |= {"train": (source.train, train[rest]), "val": (source.train, train[val])}
    if limit is not None:
        train = chosen["train"][1]
        kept = _proportional_subset(_cells(source.train, source, train), limit, streams.numpy("limit"))
        chosen["train"] = (source.train, train[kept])
    if request.test_per_cell is not None:
        kept = test[
            balanced_split(_cells(source.test, source, test), request.test_per_cell, streams.numpy("test per cell"))
        ]
        left_out[BALANCING] += len(test) - len(kept)
        test = kept
    return {**chosen, "test": (source.test, test)}


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


def _cells(samples: Samples, source: Source, order: np.ndarray) -> Cells:
    return Cells(samples.labels[order], samples.protected[order], source.class_names, source.protected_names)


def _by_cell(samples: Samples, source: Source) -> np.ndarray:
    everything = np.arange(len(samples.labels))
    return np.argsort(_cells(samples, source, everything).numbers, kind="stable")


def _proportional_subset(cells: Cells, limit: int, generator: np.random.Generator) -> np.ndarray:
    """`limit` positions, drawn from each cell in proportion to its size (largest remainders round up)."""
    total = len(cells.labels)
    if not 1 <= limit <= total:
        raise UsageError(f"--limit {limit} is out of range: the training split has {total:,} images")
    share = cells.sizes * limit / total
    kept = np.floor(share).astype(np.int64)
    kept[np.argsort(kept - share, kind="stable")[: limit - kept.sum()]] += 1
    return sample_cells(cells.numbers, kept, generator)


def _sorted_split(name: str, samples: Samples, order: np.ndarray, source: Source) -> Split:
    """The split called `name` in the given order, without images; UsageError where a class has none."""
    nowhere = MemoryImages(np.empty((0, *source.shape), np.uint8))
    classes, groups = len(source.class_names), len(source.protected_names)
    result = Split.sorted_by_cell(nowhere, samples.labels[order], samples.protected[order], classes, groups)
    if samples.source is not None:
        _, numbers = np.unique(samples.source[order], return_inverse=True)  # of those that are left, without gaps
        result = replace(result, source=numbers.astype(np.int64))
    empty = np.flatnonzero(result.count.sum(axis=1) == 0)
    if len(empty):
        raise UsageError(f"class '{source.class_names[empty[0]]}' has no image in the {name} split")
    return result


def _reported(
    parts: Iterator[np.ndarray], progress: Progress, histogram: ChannelHistogram | None
) -> Generator[np.ndarray, None, None]:
    for part in parts:
        if histogram:
            histogram.add(part)
        yield part
        progress.advance(len(part))
