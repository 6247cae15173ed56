"""Makes the sample of Fashion-MNIST inside the package: the first images of each class, recompressed.

    python recipes/benchmarks/make_sample.py /usr/share/datasets/fashion-mnist

The folder holds the four IDX files (Debian: package dataset-fashion-mnist). Takes a few seconds.
"""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np

from fairdd_cli.datasets.images.idx import FILES, SAMPLE, read_idx

PER_CLASS = {"train": 600, "test": 300}


def main(folder: Path) -> None:
    SAMPLE.mkdir(exist_ok=True)
    for split, count in PER_CLASS.items():
        labels = read_idx(folder, FILES[split, "labels"], 1)
        kept = np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(10)]))
        for what, dimensions in (("images", 3), ("labels", 1)):
            array = read_idx(folder, FILES[split, what], dimensions)[kept]
            header = bytes((0, 0, 8, dimensions)) + struct.pack(f">{dimensions}I", *array.shape)
            target = SAMPLE / f"{FILES[split, what]}.gz"
            target.write_bytes(gzip.compress(header + array.tobytes(), 9, mtime=0))
            print(target, f"{len(array)} entries, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
