"""MetaShift: photographs of cats and dogs, taken indoors or outdoors.

Source: Liang and Zou, MetaShift (ICLR 2022), in the folders of its cat-or-dog task; photographs of Visual Genome.
"""

from fairdd_cli.datasets._layout import Layout
from fairdd_cli.datasets._published import OPTIONS, SIZE, folder_source
from fairdd_cli.datasets._source import Request, Source

__all__ = ["OPTIONS", "SIZE", "source"]

TARGET, PROTECTED = "animal", ("place",)
ATTRIBUTES = {
    "animal": "path:-1=cat:cat(*),dog:dog(*)",
    "place": "path:-1=indoor:*(indoor),outdoor:*(outdoor)",
}
FOLDERS = ("train/cat/cat(indoor)", "train/dog/dog(outdoor)", "test/cat/cat(outdoor)", "test/dog/dog(indoor)")
LAYOUT = Layout(
    name="MetaShift (cats and dogs)",
    fetch="Make it from Visual Genome with https://github.com/Weixin-Liang/MetaShift, or get metashift.tar.gz that "
    "SubpopBench (https://github.com/YyzHarry/SubpopBench) downloads.",
    bases=(
        ".",
        "MetaShift-Cat-Dog-indoor-outdoor",
        "metashift",
        "metashift/MetaShift-Cat-Dog-indoor-outdoor",
    ),
    entries={f"{folder}/*.jpg": (f"{folder}/*.jpg",) for folder in FOLDERS},
)


def source(request: Request) -> Source:
    """2 classes (animal), 2 groups by place, 3x64x64; the folders' own train and test, one place each, are not used.

    As in SubpopBench, all images are taken together and a test split is drawn: a fifth of the smallest cell in each
    cell. A photograph that lies in several folders stays in one split.
    """
    root = LAYOUT.require(request.root, request.download)[f"{FOLDERS[0]}/*.jpg"].parents[3]
    return folder_source(request, root, TARGET, PROTECTED, ATTRIBUTES, group_by="path:name")
