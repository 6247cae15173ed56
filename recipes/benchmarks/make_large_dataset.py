"""Writes a data set file that is larger than memory should be: what distill and evaluate need --residency disk for.

    python recipes/benchmarks/make_large_dataset.py --gigabytes 6 -o large.h5

Two classes, two groups, bias ratio 0.9, generated images of 3x64x64. Takes about a minute for 6 GB, and no more
memory than for 1 GB.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fairdd_cli.artifacts import check_target
from fairdd_cli.datasets._source import Request, Samples, Source
from fairdd_cli.make_dataset import build
from fairdd_cli.runtime import NullProgress, Streams

SHAPE = (3, 64, 64)
BLOCK = 1024  # images made at a time
TEST_PER_CELL = 250


@dataclass(frozen=True)
class Blobs:
    """Images whose left half tells the class, whose right half tells the group, and that are noise otherwise."""

    labels: np.ndarray
    protected: np.ndarray
    streams: Streams

    def blocks(self, indices: np.ndarray) -> Iterator[np.ndarray]:
        """The images at `indices` as uint8 blocks."""
        for start in range(0, len(indices), BLOCK):
            where = indices[start : start + BLOCK]
            images = self.streams.numpy("noise", start).integers(0, 128, (len(where), *SHAPE), np.uint8)
            images[:, 0, :, :32] += (100 * self.labels[where]).astype(np.uint8)[:, None, None]
            images[:, 2, :, 32:] += (100 * self.protected[where]).astype(np.uint8)[:, None, None]
            yield images


def samples(counts: np.ndarray, streams: Streams) -> Samples:
    """`counts` [2, 2] samples of each cell."""
    labels, protected = np.divmod(np.repeat(np.arange(4), counts.ravel()), 2)
    return Samples(labels, protected, Blobs(labels, protected, streams))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=6.0)
    parser.add_argument("-o", "--output", default="large.h5")
    options = parser.parse_args()
    check_target(options.output, force=False)
    per_class = int(options.gigabytes * 1e9 / np.prod(SHAPE)) // 2
    majority = int(0.9 * per_class)
    biased = np.array([[majority, per_class - majority], [per_class - majority, majority]])
    source = Source(
        class_names=("dark", "red"),
        protected_names=("plain", "blue"),
        shape=SHAPE,
        mean=(0.25,) * 3,
        std=(0.15,) * 3,
        train=samples(biased, Streams(0)),
        test=samples(np.full((2, 2), TEST_PER_CELL), Streams(1)),
    )
    start = time.perf_counter()
    build("large", source, options.output, request=Request(), limit=None, progress=NullProgress(), force=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"{options.output}: {2 * per_class:,} images in {time.perf_counter() - start:.0f} s, peak {peak:,.0f} MB")


if __name__ == "__main__":
    main()
