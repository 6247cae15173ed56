"""BFFHQ: faces by age; nearly all the young are women and nearly all the old are men.

Source: Kim, Lee and Choo, BiaSwap (ICCV 2021), with 0.5 % of bias-conflicting training images, or with 1, 2 or 5 %, as
Lee et al., Learning Debiased Representation via Disentangled Feature Augmentation (NeurIPS 2021), published them.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from fairdd_cli.datasets._layout import Layout
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets._splits import TEST, TRAIN, VAL
from fairdd_cli.datasets.images.files import OPTIONS as FILE_OPTIONS
from fairdd_cli.datasets.images.files import SIZE, ImageTable, file_source, image_names
from fairdd_cli.errors import UsageError

__all__ = ["OPTIONS", "SIZE", "source"]

OPTIONS = FILE_OPTIONS | {"bias_ratio"}
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
NAME = re.compile(r".*_(?P<age>[01])_(?P<gender>[01])\.png")
AGES, GENDERS = ("young", "old"), ("female", "male")
BIAS_RATIO = 0.995
FETCH = "Get bffhq.zip from https://github.com/kakaoenterprise/Learning-Debiased-Disentangled and unpack it."
TRAINING = {0.995: "0.5pct", 0.99: "1pct", 0.98: "2pct", 0.95: "5pct"}  # the folder by bias ratio
PARTS = {"test": TEST, "valid": VAL}


def source(request: Request) -> Source:
    """2 classes of age, 2 groups by gender, 3x64x64; the test split is cut to its smallest cell.

    --bias-ratio 0.995, 0.99, 0.98 or 0.95 chooses the training images; --holdout val takes the published validation
    images.
    """
    ratio = BIAS_RATIO if request.bias_ratio is None else request.bias_ratio
    if ratio not in TRAINING:
        raise UsageError(
            f"--bias-ratio {ratio:g} is not one that BFFHQ was published with, which are "
            f"{', '.join(map(str, TRAINING))}"
        )
    patterns = (f"{TRAINING[ratio]}/align/*/*.png", f"{TRAINING[ratio]}/conflict/*/*.png", "test/*.png")
    entries = {pattern.replace("*.png", "*_AGE_GENDER.png"): (pattern,) for pattern in patterns}
    layout = Layout(
        name="BFFHQ",
        fetch=FETCH,
        bases=(".", "bffhq", "BFFHQ"),
        entries=entries,
    )
    folder = layout.require(request.root, request.download)["test/*_AGE_GENDER.png"].parents[1]
    table = image_table(folder, image_names(folder, *patterns, "valid/*.png"))
    return file_source(request, replace(table, options={"bias_ratio": ratio}), MEAN, STD)


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
        part=np.array([PARTS.get(Path(name).parts[0], TRAIN) for name, _ in matches]),
        left_out={"malformed name": len(names) - len(matches)},
    )
