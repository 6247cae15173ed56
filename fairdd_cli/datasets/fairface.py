"""FairFace: faces by age, gender and race, any of which may be the target or protected.

Source: Kärkkäinen and Joo, FairFace (WACV 2021). A spreadsheet turned the ages 3-9 and 10-19 of some copies of its
tables into dates; they are read as what they were.
"""

from fairdd_cli.datasets._layout import Layout
from fairdd_cli.datasets._published import OPTIONS, SIZE, categories, folder_source
from fairdd_cli.datasets._source import Request, Source

__all__ = ["OPTIONS", "SIZE", "source"]

TARGET, PROTECTED = "gender", ("race",)
TABLES = ("fairface_label_train.csv", "fairface_label_val.csv")
AGES = {
    **{age: (age,) for age in ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")},
    "3-9": ("3-9", "03-Sep"),
    "10-19": ("10-19", "Oct-19"),
}
LAYOUT = Layout(
    name="FairFace",
    fetch="Get the images (one margin) and both label files from https://github.com/joojs/fairface",
    bases=(".", "fairface", "FairFace"),
    entries={
        **{name: (name,) for name in TABLES},
        **{f"{part}/*.jpg": (f"{part}/*.jpg", f"*/{part}/*.jpg") for part in ("train", "val")},
    },
)


def source(request: Request) -> Source:
    """2 classes of gender, 7 groups by race, 3x64x64; the test split is the published validation split.

    It is cut to its smallest cell. The column age has nine ranges, of which small ones are better merged.
    """
    found = LAYOUT.require(request.root, request.download)
    tables = tuple(found[name] for name in TABLES)
    attributes = {"age": categories("age", AGES, tables)}
    split = "path:-1=train,test:val"
    return folder_source(request, tables[0].parent, TARGET, PROTECTED, attributes, csv=tables, path="file", split=split)
