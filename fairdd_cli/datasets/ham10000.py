"""HAM10000: dermatoscopic images of pigmented skin lesions by diagnosis, with sex or age protected.

Source: Tschandl, Rosendahl and Kittler, The HAM10000 Dataset (Scientific Data, 2018). Of many lesions there are several
images, which stay together in one split.
"""

from fairdd_cli.datasets._layout import Layout
from fairdd_cli.datasets._published import OPTIONS, SIZE, categories, folder_source
from fairdd_cli.datasets._source import Request, Source

__all__ = ["OPTIONS", "SIZE", "source"]

TARGET, PROTECTED = "dx", ("sex",)
TABLE = "HAM10000_metadata.csv"
DIAGNOSES = {"benign": ("nv", "bkl", "df", "vasc"), "malignant": ("mel", "bcc", "akiec")}
ATTRIBUTES = {"sex": "sex!=unknown", "age": 'age<60,!=""'}
LAYOUT = Layout(
    name="HAM10000",
    fetch="Get both parts of the images and the metadata from https://doi.org/10.7910/DVN/DBW86T",
    bases=(".", "HAM10000", "ham10000", "data"),
    entries={
        TABLE: (TABLE, "HAM10000_metadata.tab", "HAM10000_metadata"),
        "HAM10000_images_part_1/ISIC_*.jpg": ("ISIC_*.jpg", "*/ISIC_*.jpg"),
    },
)


def source(request: Request) -> Source:
    """7 classes (dx), or 2 with --target malignant; 2 groups by sex, or by age (below 60 or not); 3x64x64.

    The test split is drawn by lesion, with a fifth of the smallest cell in each cell. Rows whose sex, or age, is not
    known are left out.
    """
    table = LAYOUT.require(request.root, request.download)[TABLE]
    attributes = {**ATTRIBUTES, "malignant": categories("dx", DIAGNOSES, [table])}
    return folder_source(
        request, table.parent, TARGET, PROTECTED, attributes, csv=(table,), path="image_id", group_by="lesion_id"
    )
