"""Makes held-out data of MNIST's family: its last 10,000 training images in the place of the test images.

    python recipes/best/hold_out.py /usr/share/datasets/fashion-mnist held/fmnist
    fairdd make-dataset c-fmnist-fg --root held/fmnist -o held/c-fmnist-fg.h5

What is chosen on such a data set has not seen a test image. The other data sets hold out by `make-dataset --holdout`.
"""

import argparse
import gzip
import struct
from pathlib import Path

HELD_OUT = 10_000
KINDS = (("images-idx3-ubyte", 16, 28 * 28), ("labels-idx1-ubyte", 8, 1))  # name, bytes of the head, bytes of an entry


def content_of(folder: Path, name: str) -> bytes:
    """The bytes of the file `name` in `folder`, gzipped or not."""
    plain = folder / name
    return plain.read_bytes() if plain.exists() else gzip.decompress(plain.with_name(f"{name}.gz").read_bytes())


def main() -> None:
    """Divides the training files of SOURCE into training and test files of DESTINATION."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    arguments = parser.parse_args()
    arguments.destination.mkdir(parents=True, exist_ok=True)
    for kind, head, size in KINDS:
        content = content_of(arguments.source, f"train-{kind}")
        entries = content[head:]
        cut = len(entries) - HELD_OUT * size
        for part, of_part in (("train", entries[:cut]), ("t10k", entries[cut:])):
            count = struct.pack(">I", len(of_part) // size)
            (arguments.destination / f"{part}-{kind}").write_bytes(content[:4] + count + content[8:head] + of_part)


if __name__ == "__main__":
    main()
