"""CheXpert: chest radiographs by finding, with sex protected, or sex and race.

Source: Irvin et al., CheXpert (AAAI 2019); the six groups by sex and race as in SubpopBench (ICML 2023), with the
demographic data that the authors published later.
"""

from fairdd_cli.datasets._layout import Layout
from fairdd_cli.datasets._published import OPTIONS, SIZE, categories, folder_source
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.errors import UsageError

__all__ = ["OPTIONS", "SIZE", "source"]

TARGET, PROTECTED = "No Finding", ("sex",)
TABLES = ("train.csv", "valid.csv")
PEOPLE = "CHEXPERT DEMO.csv"
PATIENT = "path:-2"  # …/patient00001/study1/view1_frontal.jpg
FINDINGS = {"finding": ("0", ""), "no finding": ("1",)}  # what is empty was not mentioned in the report
ATTRIBUTES = {"sex": "Sex!=Unknown", "race": "PRIMARY_RACE=White:White*,Black:Black*,other race:*"}
LAYOUT = Layout(
    name="CheXpert",
    fetch="Get CheXpert-v1.0-small (or the full size) from https://stanfordmlgroup.github.io/competitions/chexpert",
    bases=(".", "CheXpert-v1.0-small", "CheXpert-v1.0", "chexpert"),
    entries={
        **{name: (name,) for name in TABLES},
        "train/patient*/study*/*.jpg": ("train/patient*/study*/*.jpg",),
    },
)


def source(request: Request) -> Source:
    """2 classes (No Finding), 2 groups by sex, 3x64x64; --protected sex --protected race gives 6 groups.

    The training and the small validation images are taken together, and a test split is drawn by patient, with a fifth
    of the smallest cell in each cell. A --target of another finding is a column with conditions, such as
    "Edema=no:0,yes:1"; other rows (-1 is uncertain, an empty cell was not mentioned) are left out and counted.
    """
    found = LAYOUT.require(request.root, request.download)
    tables = tuple(found[name] for name in TABLES)
    root = tables[0].parent
    join: tuple[str, ...] = ()
    if "race" in (request.target, *request.protected):
        if not (root / PEOPLE).is_file():
            raise UsageError(
                f"the race of CheXpert's patients is expected in '{root / PEOPLE}', which is not there; save the sheet "
                "'CHEXPERT DEMO.xlsx' of the demographic data as CSV (UTF-8) under this name"
            )
        join = (f"{root / PEOPLE}:PATIENT={PATIENT}",)
    attributes = {**ATTRIBUTES, "No Finding": categories("No Finding", FINDINGS, tables)}
    return folder_source(
        request, root, TARGET, PROTECTED, attributes, csv=tables, path="Path", group_by=PATIENT, join=join
    )
