"""CelebA: faces with 40 yes-or-no attributes, any of which may be the target or protected.

Source: Liu et al., Deep Learning Face Attributes in the Wild (ICCV 2015), aligned and cropped images.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fairdd_cli.datasets._groups import intersectional_groups
from fairdd_cli.datasets._layout import Layout
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets._splits import TEST, TRAIN, VAL
from fairdd_cli.datasets.images.files import OPTIONS as FILE_OPTIONS
from fairdd_cli.datasets.images.files import SIZE, ImageTable, file_source
from fairdd_cli.errors import UsageError, unknown

__all__ = ["OPTIONS", "SIZE", "source"]

OPTIONS = FILE_OPTIONS | {"target", "protected"}
TARGET, PROTECTED = "Attractive", ("Male",)
MEAN = (0.5063, 0.4258, 0.3832)
STD = (0.2676, 0.2453, 0.2410)
PARTS = {"0": TRAIN, "1": VAL, "2": TEST}
VALUES = {"-1": 0, "0": 0, "1": 1}
NICKNAMES = {"gender": "male", "necktie": "wearing_necktie"}
NAMES = {"male": ("female", "male"), "young": ("old", "young"), "no_beard": ("beard", "no beard")}
ADJECTIVES = {"attractive", "bald", "blurry", "chubby", "smiling", "mouth_slightly_open"}
IMAGES, ATTRIBUTES, PARTITION = (
    "img_align_celeba/*.jpg",
    "list_attr_celeba.txt or .csv",
    "list_eval_partition.txt or .csv",
)
LAYOUT = Layout(
    name="CelebA",
    fetch="Get img_align_celeba.zip and both lists from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    bases=(".", "celeba", "CelebA", "celebA"),
    entries={
        IMAGES: tuple(
            f"{folder}/*.jpg"
            for folder in ("img_align_celeba", "img_align_celeba/img_align_celeba", "Img/img_align_celeba")
        ),
        **{
            f"{stem}.txt or .csv": tuple(
                f"{folder}{stem}.{form}" for folder in ("", f"{own}/") for form in ("txt", "csv")
            )
            for stem, own in (("list_attr_celeba", "Anno"), ("list_eval_partition", "Eval"))
        },
    },
)


def source(request: Request) -> Source:
    """2 classes, 2 groups (or each combination of several attributes), centre crop 178, 3x64x64; official partition.

    --holdout val takes the official validation images.
    """
    found = LAYOUT.require(request.root, request.download)
    folder = found[IMAGES].parent
    table = image_table(folder, found[ATTRIBUTES], found[PARTITION], request.target, request.protected)
    present = {entry.name for entry in os.scandir(folder)}
    missing = [name for name in table.names if name not in present]
    if missing:
        raise UsageError(
            f"{len(missing):,} of {len(table.names):,} images are not in '{folder}', '{missing[0]}' first: "
            "unpack img_align_celeba.zip whole"
        )
    return file_source(request, table, MEAN, STD)


def image_table(
    folder: Path, attributes: Path, partition: Path, target: str | None, protected: Sequence[str]
) -> ImageTable:
    """The images as the two lists describe them; UsageError where the lists are not sound."""
    header, rows = _read_attributes(attributes)
    chosen = [_find(name, header, attributes) for name in (target or TARGET, *(protected or PROTECTED))]
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"'{header[chosen[0]]}' can't be both --target and --protected, nor any attribute twice")
    parts = dict(_partition(partition))
    names: list[str] = []
    values: list[list[int]] = []
    for number, (name, *cells) in rows:
        part = parts.pop(name, None)
        if part is None:
            raise UsageError(f"'{attributes}' row {number}: '{name}' is not in '{partition}', or stands here twice")
        if Path(name).name != name or len(cells) != len(header) or any(cells[k] not in VALUES for k in chosen):
            raise UsageError(
                f"'{attributes}' row {number}: expected a file name and {len(header)} values of -1 or 1, "
                f"found '{name}' and {len(cells)} values"
            )
        names.append(name)
        values.append([PARTS[part], *(VALUES[cells[column]] for column in chosen)])
    if parts:
        raise UsageError(f"'{attributes}' lacks {len(parts):,} images of '{partition}', '{next(iter(parts))}' first")
    table = np.array(values, np.int64).reshape(len(names), 1 + len(chosen))
    keys = [header[column] for column in chosen]
    groups, group_names = intersectional_groups([(table[:, 2 + k], value_names(key)) for k, key in enumerate(keys[1:])])
    return ImageTable(
        folder=folder,
        names=names,
        labels=table[:, 1],
        protected=groups,
        class_names=value_names(keys[0]),
        protected_names=group_names,
        part=table[:, 0],
        options={"target": keys[0], "protected": keys[1:]},
    )


def value_names(attribute: str) -> tuple[str, str]:
    """What people call the two values of an attribute: ("no necktie", "necktie") for Wearing_Necktie."""
    key = attribute.lower()
    words = key.removeprefix("wearing_").replace("_", " ")
    return NAMES.get(key) or (f"{'not' if key in ADJECTIVES else 'no'} {words}", words)


def _find(name: str, header: Sequence[str], path: Path) -> int:
    """The column of the attribute that people call `name`."""
    known = [attribute.lower() for attribute in header]
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    key = NICKNAMES.get(key, key)
    if key not in known:
        raise unknown(f"attribute of '{path.name}'", name, header)
    return known.index(key)


def _read_attributes(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """(attribute names, the numbered rows of image name and values) of an attribute list, .txt or .csv."""
    rows = _rows(path)
    _, first = next(rows, (1, [""]))
    if path.suffix == ".csv":
        return first[1:], rows
    # The first line of the .txt form is the number of images, the second the header, without a name for the images.
    _, header = next(rows, (2, [""]))
    if len(first) != 1 or not first[0].isdecimal():
        raise UsageError(f"'{path}' row 1: expected the number of images, found '{' '.join(first)[:60]}'")
    return header, rows


def _partition(path: Path) -> Iterator[tuple[str, str]]:
    for number, row in _rows(path):
        if number == 1 and path.suffix == ".csv":
            continue
        if len(row) != 2 or row[1] not in ("0", "1", "2"):
            raise UsageError(f"'{path}' row {number}: expected an image and 0, 1 or 2, found '{' '.join(row)[:60]}'")
        yield row[0], row[1]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The numbered rows of a list, empty ones left out."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            split = csv.reader(stream) if path.suffix == ".csv" else (line.split() for line in stream)
            for number, row in enumerate(split, start=1):
                if row:
                    yield number, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"'{path}' cannot be read: {error}") from error
