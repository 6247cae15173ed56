"""The options of `fairdd inspect`."""

from dataclasses import dataclass

from fairdd_cli.config import _shared as shared
from fairdd_cli.config._options import argument, option


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Which file to look at, and what to make of it."""

    file: str = argument("Any file of fairdd.", "FILE")
    images: str | None = option(
        "Save a grid of images, a row for each class (data set: a column for each group).",
        default=None,
        metavar="FILE.png",
        default_text="none",
    )
    export: str | None = option(
        "Write a synthetic set's training images for other programs and print only the path: a folder of PNG, "
        ".npz, .safetensors, or .pt with the tuple (images, labels).",
        default=None,
        metavar="DIR|FILE",
        default_text="none",
    )
    embedding: str | None = option(
        "Save a figure, .png, .svg or .pdf, of how a synthetic set covers the groups of each class.",
        default=None,
        metavar="FILE",
        default_text="none",
    )
    data: str | None = option(
        "Data set for --embedding.", default=None, metavar="DATA", default_text="where the file says"
    )
    class_name: str | None = option(
        "Class, or its number, for --embedding.", default=None, flag="--class", metavar="NAME", default_text="all"
    )
    device: str = shared.device()
    recipe: str | None = shared.recipe()
    force: bool = shared.force()
    quiet: bool = shared.quiet()
    verbose: bool = shared.verbose()
