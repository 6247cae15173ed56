"""The cells of a data set: how biased each class is, which cells are too small, and what they look like."""

from collections.abc import Sequence

import numpy as np

from fairdd_cli.artifacts import BiasedDataset, SyntheticSet, pixels
from fairdd_cli.metrics import FEW_TEST_IMAGES

FEW_TRAINING_IMAGES = 10  # in a cell; with fewer, its signal is that of a few images
NAMED = 3  # cells that a warning names
SHORTEST_SIDE = 64  # pixels that a side of an image in a grid should have
GAP = 2  # pixels between the images of a grid


def class_bias(count: np.ndarray) -> np.ndarray:
    """The bias ratio of each class [classes]: the share of its majority group in `count` [classes, groups]."""
    shares: np.ndarray = count.max(axis=1) / np.maximum(1, count.sum(axis=1))
    return shares


def warnings(dataset: BiasedDataset) -> list[str]:
    """A line for each thing about the cells that makes results meaningless or noisy; none where all is well."""
    train, test = dataset.train.count, dataset.test.count
    few_train = (train > 0) & (train < FEW_TRAINING_IMAGES)
    few_test = (test > 0) & (test < FEW_TEST_IMAGES)
    problems = (
        (train == 0, "without a training image, so that nothing of them can be distilled"),
        (test == 0, "without a test image, so that their group cannot be compared"),
        (few_train, f"with fewer than {FEW_TRAINING_IMAGES} training images, whose signal is noise"),
        (few_test, f"with fewer than {FEW_TEST_IMAGES} test images, where DEO jumps by points"),
    )
    return [
        f"{np.sum(cells)} of {cells.size} cells {how}: {_names(cells, dataset)}"
        for cells, how in problems
        if cells.any()
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


def visible(synthetic: SyntheticSet) -> np.ndarray:
    """The images uint8 [M, C, H, W] of a synthetic set: the stored ones, decoded where they are not plain."""
    images = synthetic.images
    if not synthetic.is_plain:
        from fairdd_cli.loading import shown_images  # noqa: PLC0415  # which needs torch; plain images don't

        images = shown_images(synthetic)
    return pixels(images, synthetic.mean, synthetic.std)


def grid(rows: Sequence[Sequence[np.ndarray | None]]) -> np.ndarray:
    """Rows of images, uint8 [C, h, w], on one white sheet, uint8 [H, W, C]; None leaves its place empty.

    Small images are enlarged by a whole number, so that they can be looked at.
    """
    channels, height, width = next(image.shape for row in rows for image in row if image is not None)
    times = max(1, SHORTEST_SIDE // min(height, width))
    down, across = height * times + GAP, width * times + GAP
    sheet = np.full((len(rows) * down + GAP, max(map(len, rows)) * across + GAP, channels), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            if image is not None:
                enlarged = image.repeat(times, axis=1).repeat(times, axis=2)
                place = sheet[GAP + y * down :, GAP + x * across :]
                place[: height * times, : width * times] = enlarged.transpose(1, 2, 0)
    return sheet
