"""BFFHQ: faces by age; nearly all the young are women and nearly all the old are men.

Source: Kim, Lee and Choo, BiaSwap (ICCV 2021), in the version with 0.5 % bias-conflicting images.
"""

import re
from pathlib import Path

import numpy as np

from fairdd_cli.datasets._layout import Layout
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets._splits import TEST, TRAIN
from fairdd_cli.datasets.images.files import OPTIONS, ImageTable, file_source, image_names

__all__ = ["OPTIONS", "source"]

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
NAME = re.compile(r".*_(?P<age>[01])_(?P<gender>[01])\.png")
AGES, GENDERS = ("young", "old"), ("female", "male")
PATTERNS = ("0.5pct/align/*/*.png", "0.5pct/conflict/*/*.png", "test/*.png")
TEST_FOLDER = "test"
LAYOUT = Layout(
    name="BFFHQ",
    fetch="Get bffhq.zip from https://github.com/kakaoenterprise/Learning-Debiased-Disentangled and unpack it.",
    bases=(".", "bffhq", "BFFHQ"),
    entries={pattern.replace("*.png", "*_AGE_GENDER.png"): (pattern,) for pattern in PATTERNS},
)


def source(request: Request) -> Source:
    """2 classes of age, 2 groups by gender, 3x64x64; the test split is cut to its smallest cell."""
    root = request.root or Path("data")
    found = LAYOUT.find(root)
    if found is None:
        raise LAYOUT.missing(root, request.download)
    folder = found["test/*_AGE_GENDER.png"].parents[1]
    return file_source(request, image_table(folder, image_names(folder, *PATTERNS)), MEAN, STD)


def image_table(folder: Path, names: list[str]) -> ImageTable:
    """The images as their `names` (paths below the `folder`) describe them; malformed ones are counted as left out."""
    matches = [(name, matched) for name in names if (matched := NAME.fullmatch(name))]
    return ImageTable(
        folder=folder,
        names=[name for name, _ in matches],
        labels=np.array([int(matched["age"]) for _, matched in matches], np.int64),
        protected=np.array([int(matched["gender"]) for _, matched in matches], np.int64),
        class_names=AGES,
        protected_names=GENDERS,
        part=np.array([TEST if Path(name).parts[0] == TEST_FOLDER else TRAIN for name, _ in matches]),
        left_out={"malformed name": len(names) - len(matches)},
    )
