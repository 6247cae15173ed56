"""Splits: which samples are for training, validation and test, equal in size in every cell and without a leak."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairdd_cli.errors import UsageError
from fairdd_cli.registry import parse_number

TRAIN, TEST, VAL = 0, 1, 2
SPLIT_CODES = {
    **dict.fromkeys(("train", "training", "0"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev", "id_val", "1"), VAL),
    **dict.fromkeys(("test", "testing", "2"), TEST),
}
BALANCING = "of the test split, for cells of one size"  # why images are left out
SAME_UNIT = "from the same {} as held-out images"


@dataclass(frozen=True)
class Cells:
    """The cell (label y, protected a) of each sample, as one number y * groups + a, and what the cells are called."""

    labels: np.ndarray  # int64 [N]
    protected: np.ndarray  # int64 [N]
    class_names: Sequence[str]
    protected_names: Sequence[str]

    @property
    def numbers(self) -> np.ndarray:
        """int64 [N]."""
        return np.asarray(self.labels * len(self.protected_names) + self.protected)

    @property
    def sizes(self) -> np.ndarray:
        """How many samples each cell has, int64 [classes * groups]."""
        return np.bincount(self.numbers, minlength=len(self.class_names) * len(self.protected_names))

    def name(self, cell: int) -> str:
        """The words for a cell: (class, group)."""
        label, group = divmod(cell, len(self.protected_names))
        return f"({self.class_names[label]}, {self.protected_names[group]})"

    def at(self, positions: np.ndarray) -> "Cells":
        """Those of the samples at `positions`."""
        return Cells(self.labels[positions], self.protected[positions], self.class_names, self.protected_names)


def split_code(word: str) -> int | None:
    """TRAIN, VAL or TEST for what tables call them; None for any other word. 0, 1 and 2 may be written as 0.0 …"""
    return SPLIT_CODES.get(word.casefold().removesuffix(".0"))


def sample_cells(cells: np.ndarray, counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions, sorted, of `counts[cell]` samples of each cell, drawn without replacement.

    `cells` [N] holds the number of each sample's cell; each must hold as many as are wanted.
    """
    order = generator.permutation(len(cells))
    order = order[np.argsort(cells[order], kind="stable")]
    sizes = np.bincount(cells, minlength=len(counts))
    place = np.arange(len(cells)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its cell
    return np.sort(order[place < np.repeat(counts, sizes)])


def balanced_split(
    cells: Cells, per_cell: int | None, generator: np.random.Generator, split: str = "test"
) -> np.ndarray:
    """Positions, sorted, of `per_cell` samples of each cell, or of as many as the smallest has.

    Raises UsageError, naming the smallest cell, where one has none or fewer than `per_cell`.
    """
    sizes = cells.sizes
    smallest = int(sizes.argmin())
    if sizes[smallest] == 0:
        others = f" (and {np.sum(sizes == 0) - 1} more)" if np.sum(sizes == 0) > 1 else ""
        raise UsageError(
            f"the cell {cells.name(smallest)}{others} has no {split} image, and a group that is not tested cannot be "
            "compared: add images, merge or leave out values, or choose another attribute"
        )
    if per_cell is not None and not 1 <= per_cell <= sizes[smallest]:
        raise UsageError(
            f"--test-per-cell {per_cell} is out of range: the smallest cell, {cells.name(smallest)}, has "
            f"{sizes[smallest]:,} images to test on"
        )
    return sample_cells(
        cells.numbers, np.full(len(sizes), sizes[smallest] if per_cell is None else per_cell), generator
    )


def hold_out(
    cells: Cells, units: np.ndarray | None, per_cell: int, generator: np.random.Generator, split: str = "test"
) -> tuple[np.ndarray, np.ndarray]:
    """(positions of `per_cell` samples of each cell, those of all samples that are left to train on), both sorted.

    Where `units` int64 [N] says whom or what each sample shows (a patient, a lesion), nobody who is held out is
    trained on: units are drawn at random, those of the smallest cells first, until they fill every cell. Their
    images beyond that are in neither part. Raises UsageError where a cell has too few.
    """
    if units is None:
        held = balanced_split(cells, per_cell, generator, split)
        return held, np.setdiff1d(np.arange(len(cells.labels)), held)
    balanced_split(cells, per_cell, generator, split)  # for its errors
    numbers, sizes = cells.numbers, cells.sizes
    rank = generator.permutation(units.max() + 1)
    chosen = np.zeros(units.max() + 1, bool)
    for cell in np.argsort(sizes, kind="stable"):
        members = units[numbers == cell]
        missing = per_cell - int(chosen[members].sum())
        if missing > 0:
            free, count = np.unique(members[~chosen[members]], return_counts=True)
            order = np.argsort(rank[free])
            needed = int(np.searchsorted(np.cumsum(count[order]), missing)) + 1
            chosen[free[order[:needed]]] = True
    candidates = np.flatnonzero(chosen[units])
    held = candidates[balanced_split(cells.at(candidates), per_cell, generator, split)]
    return held, np.flatnonzero(~chosen[units])


def check_no_leak(units: np.ndarray, part: np.ndarray, unit_names: Sequence[str], column: str) -> None:
    """Raises UsageError where a unit has samples in training and in another part."""
    trained = np.zeros(len(unit_names), bool)
    trained[units[part == TRAIN]] = True
    both = np.unique(units[(part != TRAIN) & trained[units]])
    if len(both):
        raise UsageError(
            f"--group-by {column}: {len(both):,} of them, '{unit_names[both[0]][:40]}' first, have images in training "
            "and in another split; leave out --split to have one drawn, or --group-by to take it as it is"
        )


def per_cell_of(text: str, smallest: int, option: str) -> int:
    """How many samples of each cell a SHARE of the `smallest` cell or a number says; UsageError for anything else."""
    try:
        number = parse_number(text.removesuffix("%"), float) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if 0 < number < 1:
        return max(1, int(number * smallest))
    if not number.is_integer() or number < 1 or text.endswith("%"):
        raise UsageError(f"{option} '{text}' should be a share of the smallest cell, such as 0.1, or a number per cell")
    return int(number)
