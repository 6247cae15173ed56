"""The options of `fairdd make-dataset`."""

from dataclasses import dataclass
from pathlib import Path

from fairdd_cli.config import _shared as shared
from fairdd_cli.config._options import argument, option
from fairdd_cli.registry import DATASETS

TEST_GROUPS = ("paper", "all")
OF_DATASET = "that of the data set: see 'fairdd list datasets NAME'"


@dataclass(frozen=True, kw_only=True)
class MakeDatasetConfig:
    """Which data set to make, and of what; None where the data set has a value of its own, or none."""

    dataset: str = argument(
        "Data set. See 'fairdd list datasets'.", "NAME", choices=DATASETS.names, kind="data set", affects="result"
    )
    output: str | None = option(
        "Where to write; - is stdout.", "-o", default=None, metavar="FILE", default_text="NAME.h5"
    )
    root: Path | None = option("Folder with the source's files.", default=None, metavar="DIR", default_text="data")
    download: bool = option("Download the source into --root, where its licence allows that.", default=False)
    embedded: bool = option("Use the small real sample inside fairdd (6,000 + 3,000 images).", default=False)
    bias_ratio: float | None = option(
        "Bias ratio: the share of a class held by its majority group, from 1/groups to 1 (bffhq: 0.995, 0.99, 0.98, "
        "0.95).",
        default=None,
        metavar="SHARE",
        default_text=OF_DATASET,
        affects="result",
    )
    severity: int | None = option(
        "Corrupt the first group, 0 (not at all) to 5, instead of turning it grey, as in COBRA's study (cifar10-s).",
        default=None,
        metavar="N",
        minimum=0,
        default_text="grey",
        affects="result",
    )
    csv: tuple[Path, ...] = option(
        "Table with a row for each image: CSV of any kind, or Parquet; repeatable (folder).",
        default=(),
        metavar="FILE",
        default_text="the folders' names tell all",
    )
    path: str | None = option(
        "Column with the images' paths or names (folder).",
        default=None,
        metavar="COLUMN",
        default_text="the one that leads to files",
    )
    target: str | None = option(
        "Target attribute, what a classifier predicts: a name, or a column of the table with conditions: "
        "sex=female,male  age<20,<40  race=White,other:*  sex!=unknown  findings~Effusion  path:1 (first folder).",
        "--target-from",
        default=None,
        metavar="COLUMN[…]",
        default_text=OF_DATASET,
        affects="result",
    )
    protected: tuple[str, ...] = option(
        "Protected attribute, with conditions as for --target; repeat it for intersectional groups.",
        "--protected-from",
        default=(),
        metavar="COLUMN[…]",
        default_text=OF_DATASET,
        affects="result",
    )
    split: str | None = option(
        "Column that says train, val, test or 0, 1, 2; or share of the smallest cell to draw for testing "
        "(sets with a table).",
        default=None,
        metavar="COLUMN|SHARE",
        default_text="0.2",
        affects="result",
    )
    group_by: str | None = option(
        "Patient, lesion or the like, of which no two splits share one (folder).",
        default=None,
        metavar="COLUMN",
        default_text="none",
        affects="result",
    )
    join: tuple[str, ...] = option(
        "Second table, joined by its column KEY and COLUMN of the first (folder).",
        default=(),
        metavar="FILE:KEY[=COLUMN]",
        default_text="none",
        affects="result",
    )
    holdout: str | None = option(
        "Hold out validation images: a share of the smallest training cell or N of each cell; val: those that "
        "the source sets apart.",
        default=None,
        metavar="SHARE|N|val",
        default_text="none",
        affects="result",
    )
    test_groups: str = option(
        "Test split of colour-biased sets: the paper's, or every test image in every group.",
        default="paper",
        choices=TEST_GROUPS,
        affects="result",
    )
    name: str | None = option(
        "Name of the data set.",
        default=None,
        metavar="NAME",
        default_text="NAME; folder: the table's or folder's",
        affects="result",
    )
    size: int | None = option(
        "Side of the images, 8 to 1024 pixels.", default=None, metavar="N", default_text=OF_DATASET, affects="result"
    )
    no_crop: bool = option(
        "Resize each image whole to the square instead of cropping its centre (sets with a table).",
        default=False,
        affects="result",
    )
    test_per_cell: int | None = option(
        "Test images of each class and group.",
        default=None,
        metavar="N",
        minimum=1,
        default_text=f"{OF_DATASET}; else as many as the smallest has, or a fifth of that where no split is given",
        affects="result",
    )
    limit: int | None = option(
        "Keep N training images, with the same bias ratio.",
        default=None,
        metavar="N",
        minimum=1,
        default_text="all",
        affects="result",
    )
    workers: int | None = option(
        "Processes that decode images.", default=None, metavar="N", minimum=1, default_text="one per core"
    )
    skip_unreadable: bool = option("Leave out and count images that cannot be decoded.", default=False)
    seed: int = shared.seed()
    recipe: str | None = shared.recipe()
    force: bool = shared.force()
    quiet: bool = shared.quiet()
    verbose: bool = shared.verbose()
