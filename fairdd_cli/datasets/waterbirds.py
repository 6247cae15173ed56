"""Waterbirds: land and water birds; in training, 95 % of each kind stand before their own background.

Source: Sagawa et al., Distributionally Robust Neural Networks for Group Shifts (ICLR 2020); photographs of CUB-200-2011
and Places. Both archives in circulation are read: that of group DRO and that of WILDS.
"""

from fairdd_cli.datasets._layout import Layout
from fairdd_cli.datasets._published import OPTIONS, SIZE, folder_source
from fairdd_cli.datasets._source import Request, Source

__all__ = ["OPTIONS", "SIZE", "source"]

TARGET, PROTECTED = "y", ("place",)
TABLE = "metadata.csv"
ATTRIBUTES = {"y": "y=landbird:0,waterbird:1", "place": "place=land:0,water:1"}
LAYOUT = Layout(
    name="Waterbirds",
    fetch="Get waterbird_complete95_forest2water2.tar.gz from https://github.com/kohpangwei/group_DRO and unpack it.",
    bases=(
        ".",
        "waterbird_complete95_forest2water2",
        "waterbirds_v1.0",
        "waterbirds/waterbird_complete95_forest2water2",
    ),
    entries={TABLE: (TABLE,), "001.Black_footed_Albatross/*.jpg": ("[0-9]*.*/*.jpg",)},
)


def source(request: Request) -> Source:
    """2 classes of bird (y), 2 groups by place, 3x64x64; the published splits, the test split cut to its smallest cell.

    --holdout val takes the published validation images.
    """
    table = LAYOUT.require(request.root, request.download)[TABLE]
    return folder_source(
        request, table.parent, TARGET, PROTECTED, ATTRIBUTES, csv=(table,), path="img_filename", split="split"
    )
