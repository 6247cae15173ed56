"""What a data set's file hands over: names, labels and protected values of every sample, and its pixels on demand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import numpy as np

from fairdd_cli.errors import UsageError

ALL_GROUPS = "all"  # --test-groups all: every test image in every group, where we render the groups
EVERYWHERE = frozenset({"seed", "name", "holdout", "left_out", "say"})  # done with any source


@dataclass(frozen=True)
class Request:
    """The options of `fairdd make-dataset` that a data set may take; its OPTIONS name those that it does take.

    Each has the name of its option. `left_out` names the images to pass over, which an earlier attempt found
    unreadable. `say` tells the user what was noticed in the source.
    """

    seed: int = 0
    root: Path | None = None
    download: bool = False
    embedded: bool = False
    bias_ratio: float | None = None
    severity: int | None = None
    csv: tuple[Path, ...] = ()
    path: str | None = None
    target: str | None = None
    protected: tuple[str, ...] = ()
    split: str | None = None
    group_by: str | None = None
    join: tuple[str, ...] = ()
    holdout: str | None = None
    test_groups: str = "paper"
    name: str | None = None
    size: int | None = None
    no_crop: bool = False
    test_per_cell: int | None = None
    workers: int | None = None
    skip_unreadable: bool = False
    left_out: frozenset[str] = frozenset()
    say: Callable[[str], None] = lambda remark: None

    def check(self, name: str, taken: frozenset[str]) -> None:
        """Raises UsageError where an option is set that the data set `name` does not take."""
        for option in fields(self):
            if option.name in taken | EVERYWHERE or getattr(self, option.name) == option.default:
                continue
            takes = ", ".join(sorted(map(_spelled, taken)))
            raise UsageError(f"{_spelled(option.name)} does not apply to data set '{name}', which takes {takes}")


def _spelled(option: str) -> str:
    return "--" + option.replace("_", "-")


class Pixels(Protocol):
    """The images of a split, decoded when they are asked for."""

    def blocks(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The images at `indices`, in that order, as uint8 blocks [n, C, H, W], each valid until the next."""
        ...


@dataclass(frozen=True)
class Samples:
    """One split: the label and the protected value of each sample, in any order, and their pixels.

    `units` number whom or what each sample shows, where several may show the same; `unit` is the word for one.
    `source` numbers what each test sample was made from, where the same is shown in several groups.
    """

    labels: np.ndarray  # int64 [N]
    protected: np.ndarray  # int64 [N]
    pixels: Pixels
    units: np.ndarray | None = None  # int64 [N]
    unit: str = ""
    source: np.ndarray | None = None  # int64 [N]


@dataclass(frozen=True)
class Source:
    """A data set before it is written. `shape` is (C, H, W).

    `mean` and `std` are per channel, in [0, 1] units; where they are None, those of the training images are
    taken. `val` holds the validation images that the source itself sets apart, used if asked for.
    `mirror_keeps_class` and `image_kind` are those of BiasedDataset. `options` and `left_out` (how many images, by
    reason) are for the file's record. `unreadable` (reason by name) fills while pixels are decoded.
    """

    class_names: Sequence[str]
    protected_names: Sequence[str]
    shape: tuple[int, int, int]
    mean: Sequence[float] | None
    std: Sequence[float] | None
    train: Samples
    test: Samples
    val: Samples | None = None
    mirror_keeps_class: bool = True
    image_kind: str = "natural"
    options: Mapping[str, object] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
