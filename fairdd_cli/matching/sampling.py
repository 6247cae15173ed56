"""How real images are drawn from the cells of a class. The cost does not depend on the size of the data set."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from torch import Tensor

from fairdd_cli.artifacts import Split
from fairdd_cli.runtime import ImageStore, Streams

Sampling = Callable[[Split, int, int, np.random.Generator], np.ndarray]


def proportional(split: Split, label: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Indices int64 [min(size, n)] of images of the class `label` drawn at random without replacement, sorted.

    A minority cell gets few of them or none, as in the public implementations.
    """
    start, count = int(split.start[label, 0]), int(split.count[label].sum())
    return np.sort(start + generator.choice(count, min(size, count), replace=False, shuffle=False))


def balanced(split: Split, label: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Indices int64 of as many images from every cell of the class `label`, sorted.

    All together they are `size`, or a few less where the cells cannot share that evenly, but at least one a cell. A
    cell smaller than its share is drawn from with replacement.
    """
    present = np.flatnonzero(split.count[label])
    share = max(1, size // len(present))
    drawn = [
        split.start[label, group]
        + np.sort(generator.choice(n := int(split.count[label, group]), share, replace=share > n, shuffle=False))
        for group in present
    ]
    return np.concatenate(drawn)


def fewest_drawn(sampling: str, available: int, size: int, groups: range) -> int:
    """The fewest images that `sampling` draws of a class of `available` ones where as many of its groups as in `groups`
    have images, for a batch `size`.

    Pseudo groups and corrupted ones are not known before the work begins, only how many there may be.
    """
    if sampling == "proportional":
        return min(size, available)
    return min(max(1, size // present) * present for present in groups)


def sample_of_cells(
    split: Split, store: ImageStore, streams: Streams, per_cell: int
) -> Iterator[tuple[int, int, Tensor]]:
    """Label, group and at most `per_cell` images [n, C, H, W] of each cell that has any, drawn at random."""
    for cell, (label, group) in enumerate(np.ndindex(*split.count.shape)):
        if count := int(split.count[label, group]):
            chosen = streams.numpy("decoding", cell).choice(count, min(per_cell, count), replace=False)
            yield label, group, store.take(split.start[label, group] + np.sort(chosen))


SAMPLINGS: Mapping[str, Sampling] = {"proportional": proportional, "balanced": balanced}

# Images of a class in a real batch where neither the method nor the user says otherwise: the paper's number, and that
# which was soonest fair and accurate on held-out images (recipes/BENCHMARKS.md), four of each cell with ten groups.
BATCH_REAL: Mapping[str, int] = {"proportional": 256, "balanced": 40}
