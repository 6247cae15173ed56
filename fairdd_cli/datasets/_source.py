"""What a data set's file hands over: names, labels and protected values of every sample, and its pixels on demand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from fairdd_cli.errors import UsageError


@dataclass(frozen=True)
class Request:
    """The options of `fairdd make-dataset` that a data set may take; its OPTIONS name those that it does take."""

    seed: int = 0
    root: Path | None = None
    download: bool = False
    embedded: bool = False
    bias_ratio: float | None = None


class Pixels(Protocol):
    """The images of a split, decoded when they are asked for."""

    def blocks(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The images at `indices`, in that order, as uint8 blocks [n, C, H, W]."""
        ...


@dataclass(frozen=True)
class Samples:
    """One split: the label and the protected value of each sample, in any order, and their pixels."""

    labels: np.ndarray  # int64 [N]
    protected: np.ndarray  # int64 [N]
    pixels: Pixels


@dataclass(frozen=True)
class Source:
    """A data set before it is written. `shape` is (C, H, W); `mean` and `std` are per channel, in [0, 1] units."""

    class_names: Sequence[str]
    protected_names: Sequence[str]
    shape: tuple[int, int, int]
    mean: Sequence[float]
    std: Sequence[float]
    train: Samples
    test: Samples
    options: dict[str, object] = field(default_factory=dict)  # what shaped the content, for the file's record


def tied_groups(labels: np.ndarray, classes: int, bias_ratio: float, generator: np.random.Generator) -> np.ndarray:
    """Protected values int64 [N] that tie class c to group c, as FairDD's colour-biased sets do.

    int(`bias_ratio` * n_c) samples of class c, chosen at random, get group c; the rest is dealt out to the other
    groups in order, in chunks of ceil(rest / (classes - 1)).
    """
    if not 1 / classes <= bias_ratio <= 1:
        raise UsageError(
            f"--bias-ratio {bias_ratio:g} is out of range: with {classes} classes it lies in {1 / classes:g} … 1"
        )
    protected = np.empty(len(labels), np.int64)
    for label in range(classes):
        members = generator.permutation(np.flatnonzero(labels == label))
        tied = int(bias_ratio * len(members))
        chunk = max(1, -(-(len(members) - tied) // (classes - 1)))
        others = np.delete(np.arange(classes), label)
        protected[members[:tied]] = label
        protected[members[tied:]] = others[np.arange(len(members) - tied) // chunk]
    return protected
