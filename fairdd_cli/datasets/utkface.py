"""UTKFace: faces by age, with race or gender protected.

Source: Zhang, Song and Qi, Age Progression/Regression by Conditional Adversarial Autoencoder (CVPR 2017).
"""

import re
from pathlib import Path

import numpy as np

from fairdd_cli.datasets._groups import intersectional_groups
from fairdd_cli.datasets._layout import Layout
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets.images.files import OPTIONS as FILE_OPTIONS
from fairdd_cli.datasets.images.files import SIZE, ImageTable, file_source, image_names
from fairdd_cli.errors import UsageError, unknown

__all__ = ["OPTIONS", "SIZE", "source"]

OPTIONS = FILE_OPTIONS | {"protected"}
MEAN = (0.61359, 0.47225, 0.40703)
STD = (0.25493, 0.23054, 0.22835)
PROTECTED = ("race",)
TEST_PER_CELL = 100
NAME = re.compile(r"(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_\d+\.jpg(\.chip\.jpg)?")
AGES, BOUNDS = ("under 20", "20-39", "40 and over"), (20, 40)
OTHER_RACE = 4  # everyone whom the collection puts in none of the four
GROUPS = {"race": ("White", "Black", "Asian", "Indian"), "gender": ("male", "female")}
IMAGES = "AGE_GENDER_RACE_TIME.jpg"
LAYOUT = Layout(
    name="UTKFace",
    fetch="Get the aligned and cropped faces (for research only) from https://susanqq.github.io/UTKFace/ and put "
    "them in one folder.",
    bases=(".", "UTKFace", "utkface", "crop_part1"),
    entries={IMAGES: ("[0-9]*_[01]_[0-4]_*.jpg",)},
)


def source(request: Request) -> Source:
    """3 classes of age, 4 groups by race (or 2 by gender), 3x64x64; 100 test images of each cell are drawn."""
    found = LAYOUT.require(request.root, request.download)
    folder = found[IMAGES].parent
    return file_source(
        request, image_table(folder, image_names(folder, "*.jpg"), request.protected), MEAN, STD, TEST_PER_CELL
    )


def image_table(folder: Path, names: list[str], protected: tuple[str, ...] = ()) -> ImageTable:
    """The images whose `names` tell age, gender and race; others, and those of race 4, are counted as left out."""
    protected = protected or PROTECTED
    for attribute in protected:
        if attribute not in GROUPS:
            raise unknown("protected attribute of UTKFace", attribute, GROUPS)
    if len(set(protected)) < len(protected):
        raise UsageError("--protected names an attribute twice")
    matches = [(name, matched) for name in names if (matched := NAME.fullmatch(name))]
    kept = [(name, matched) for name, matched in matches if int(matched["race"]) != OTHER_RACE]
    values = {key: np.array([int(matched[key]) for _, matched in kept], np.int64) for key in ("age", *GROUPS)}
    groups, group_names = intersectional_groups([(values[attribute], GROUPS[attribute]) for attribute in protected])
    return ImageTable(
        folder=folder,
        names=[name for name, _ in kept],
        labels=np.digitize(values["age"], BOUNDS).astype(np.int64),
        protected=groups,
        class_names=AGES,
        protected_names=group_names,
        options={"protected": list(protected)},
        left_out={"malformed name": len(names) - len(matches), "race 4": len(matches) - len(kept)},
    )
