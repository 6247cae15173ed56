"""Small trees of images in the layouts of the published sources, drawn here."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fairdd_cli.artifacts import BiasedDataset, read_dataset
from fairdd_cli.datasets._source import Request
from fairdd_cli.make_dataset import make
from fairdd_cli.runtime import NullProgress


def made(name: str, path: Path, request: Request, limit: int | None = None) -> BiasedDataset:
    """The data set as it reads after it was made."""
    make(name, request, str(path), limit=limit, progress=NullProgress(), force=True)
    return read_dataset(str(path))


def flat(path: Path, level: int, size: tuple[int, int] = (12, 16)) -> Path:
    """An image file of one colour, by which a test knows it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 255 - level, 128)).save(path, quality=95)
    return path


def levels(dataset: BiasedDataset, split: str = "train") -> np.ndarray:
    """The red of each image's centre."""
    images = getattr(dataset, split).images.all()
    return images[:, 0, images.shape[2] // 2, images.shape[3] // 2].astype(int)


def table(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    """A CSV of `rows`, the header first."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, delimiter=delimiter).writerows(rows)
    return path


def celeba(root: Path, people: Sequence[tuple[int, dict[str, int]]], form: str = "txt", images: bool = True) -> Path:
    """CelebA with one face for each (part, attributes that are 1) of `people`; of n images, i has red 255 i / n."""
    names = ["Attractive", "Male", "Wearing_Necktie", "Young"]
    rows = [
        (f"{number:06d}.jpg", part, *(1 if on.get(name) else -1 for name in names))
        for number, (part, on) in enumerate(people, start=1)
    ]
    root.mkdir(parents=True, exist_ok=True)
    if form == "csv":
        table(root / "list_attr_celeba.csv", [["image_id", *names], *([row[0], *row[2:]] for row in rows)])
        table(root / "list_eval_partition.csv", [["image_id", "partition"], *(row[:2] for row in rows)])
    else:
        lines = [
            str(len(rows)),
            " ".join(names) + " ",
            *(f"{row[0]} {' '.join(f'{v:2}' for v in row[2:])}" for row in rows),
        ]
        (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
        (root / "list_eval_partition.txt").write_text("".join(f"{row[0]} {row[1]}\n" for row in rows))
    if images:
        for number, row in enumerate(rows, start=1):
            flat(root / "img_align_celeba" / row[0], 255 * number // len(rows), (178, 218))
    return root
