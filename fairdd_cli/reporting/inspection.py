"""What a data set's cells tell: how biased each class is, which cells are too small, and what they look like."""

from collections.abc import Sequence

import numpy as np

from fairdd_cli.artifacts import BiasedDataset

TINY_TRAIN = 10  # fewer training images than that and a group's signal is that of a few images
TINY_TEST = 30  # fewer test images than that and one prediction moves a recall, and so DEO, by over three points
NAMED = 3  # cells that a warning names
VISIBLE = 64  # pixels that a side of an image in a grid should have
GAP = 2  # pixels between the images of a grid


def class_bias(count: np.ndarray) -> np.ndarray:
    """The bias ratio of each class [classes]: the share of its majority group in `count` [classes, groups]."""
    shares: np.ndarray = count.max(axis=1) / np.maximum(1, count.sum(axis=1))
    return shares


def warnings(dataset: BiasedDataset) -> list[str]:
    """A line for each thing about the cells that will make results meaningless or shaky; none where all is well."""
    train, test = dataset.train.count, dataset.test.count
    return gaps(dataset) + _warned(
        dataset,
        ((train > 0) & (train < TINY_TRAIN), f"with fewer than {TINY_TRAIN} training images, whose signal is noise"),
        ((test > 0) & (test < TINY_TEST), f"with fewer than {TINY_TEST} test images, where DEO jumps by points"),
    )


def gaps(dataset: BiasedDataset) -> list[str]:
    """Those of the `warnings` that are of cells without any image."""
    return _warned(
        dataset,
        (dataset.train.count == 0, "without a training image, so that nothing of them can be distilled"),
        (dataset.test.count == 0, "without a test image, so that their group cannot be compared"),
    )


def _warned(dataset: BiasedDataset, *found: tuple[np.ndarray, str]) -> list[str]:
    return [
        f"{np.sum(cells)} of {cells.size} cells {how}: {_names(cells, dataset)}" for cells, how in found if cells.any()
    ]


def _names(cells: np.ndarray, dataset: BiasedDataset) -> str:
    """The names of the first of the `cells` (bool [classes, groups]) that are set."""
    where = np.argwhere(cells)
    names = [f"({dataset.class_names[y]}, {dataset.protected_names[a]})" for y, a in where[:NAMED]]
    return ", ".join(names + ["…"] * (len(where) > NAMED))


def examples(dataset: BiasedDataset) -> list[list[np.ndarray | None]]:
    """The first training image, uint8 [C, H, W], of each cell: a row for each class, a column for each group."""
    split = dataset.train
    return [
        [split.images.take(np.array([start]))[0] if count else None for start, count in zip(*row, strict=True)]
        for row in zip(split.start, split.count, strict=True)
    ]


def grid(rows: Sequence[Sequence[np.ndarray | None]]) -> np.ndarray:
    """Rows of images, uint8 [C, h, w], on one white sheet, uint8 [H, W, C]; None leaves its place empty.

    Small images are enlarged by a whole number, so that they can be looked at.
    """
    channels, height, width = next(image.shape for row in rows for image in row if image is not None)
    times = max(1, VISIBLE // min(height, width))
    down, across = height * times + GAP, width * times + GAP
    sheet = np.full((len(rows) * down + GAP, max(map(len, rows)) * across + GAP, channels), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            if image is not None:
                enlarged = image.repeat(times, axis=1).repeat(times, axis=2)
                place = sheet[GAP + y * down :, GAP + x * across :]
                place[: height * times, : width * times] = enlarged.transpose(1, 2, 0)
    return sheet
