"""Samples by cell: intersectional groups, and how equal or smaller numbers of each cell are drawn."""

from collections.abc import Sequence

import numpy as np

from fairdd_cli.errors import UsageError

BALANCING = "of the test split, for cells of one size"  # why images are left out


def intersectional_groups(attributes: Sequence[tuple[np.ndarray, Sequence[str]]]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Several protected attributes as one, their product: (values int64 [N], names such as "female & necktie").

    Each attribute is (values [N], names). Combinations that no sample has are no groups. Raises UsageError where
    all samples belong to one group, or there are none.
    """
    product = np.zeros(len(attributes[0][0]), np.int64)
    names = [""]
    for values, own in attributes:
        product = product * len(own) + values
        names = [f"{name} & {more}" if name else more for name in names for more in own]
    present, protected = np.unique(product, return_inverse=True)
    if not len(present):
        raise UsageError("not one of the images can be used: all were left out")
    if len(present) == 1:
        raise UsageError(f"all images belong to one group, '{names[present[0]]}'; choose another protected attribute")
    return protected.astype(np.int64), tuple(names[index] for index in present)


def sample_cells(cells: np.ndarray, counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions, sorted, of `counts[cell]` samples of each cell, drawn without replacement.

    `cells` [N] holds the number of each sample's cell; each must hold as many as are wanted.
    """
    order = generator.permutation(len(cells))
    order = order[np.argsort(cells[order], kind="stable")]
    sizes = np.bincount(cells, minlength=len(counts))
    place = np.arange(len(cells)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its cell
    return np.sort(order[place < np.repeat(counts, sizes)])


def balanced_test_split(
    labels: np.ndarray,
    protected: np.ndarray,
    class_names: Sequence[str],
    protected_names: Sequence[str],
    per_cell: int | None,
    generator: np.random.Generator,
) -> np.ndarray:
    """Positions, sorted, of `per_cell` samples of each (label, protected) pair, or of as many as the smallest has.

    Raises UsageError, naming the smallest cell, where one has none or fewer than `per_cell`.
    """
    groups = len(protected_names)
    cells = labels * groups + protected
    sizes = np.bincount(cells, minlength=len(class_names) * groups)
    smallest = int(sizes.argmin())
    name = f"({class_names[smallest // groups]}, {protected_names[smallest % groups]})"
    if sizes[smallest] == 0:
        others = f" (and {np.sum(sizes == 0) - 1} more cells)" if np.sum(sizes == 0) > 1 else ""
        raise UsageError(
            f"the cell {name}{others} has no test image, and a group that is not tested cannot be compared: "
            "add images, or choose another target or protected attribute"
        )
    if per_cell is not None and not 1 <= per_cell <= sizes[smallest]:
        raise UsageError(
            f"--test-per-cell {per_cell} is out of range: the smallest cell, {name}, has {sizes[smallest]:,} images "
            "to test on"
        )
    return sample_cells(cells, np.full(len(sizes), sizes[smallest] if per_cell is None else per_cell), generator)
