"""fairdd make-dataset: a biased data set out of a source of images."""

from pathlib import Path
from typing import Annotated

import typer

from fairdd_cli.cli.options import Force, Quiet, Recipe, Seed, Verbose, listing
from fairdd_cli.cli.terminal import Terminal, out
from fairdd_cli.datasets import DATASETS


def make_dataset(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help=f"Which data set: {listing(DATASETS)}.",
            autocompletion=DATASETS.names,
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write; - is stdout. (default: NAME.h5)"),
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="DIR", help="Folder with the source's files. (default: data)")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the source into --root where it may be.")] = False,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Use the small real sample inside fairdd (6,000 + 3,000 images).")
    ] = False,
    bias_ratio: Annotated[
        float | None,
        typer.Option(
            "--bias-ratio",
            metavar="SHARE",
            help="Share of a class held by its majority group, from 1/groups to 1. (default: 0.9)",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Table with a row for each image (folder). (default: none)"),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="COLUMN",
            help="Column (folder) or attribute (celeba) to predict. (default: celeba: Attractive)",
        ),
    ] = None,
    protected: Annotated[
        list[str] | None,
        typer.Option(
            "--protected",
            metavar="COLUMN",
            help="Column or attribute not to be unfair to; repeat it to combine several into one by their product. "
            "(default: celeba: Male; utkface: race)",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="COLUMN",
            help="Column that says train, test or val, which is left out (folder). (default: draw a test split)",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", metavar="N", help="Side of the images, 8 to 1024 pixels. (default: 64)")
    ] = None,
    no_crop: Annotated[
        bool,
        typer.Option("--no-crop", help="Squeeze each image whole into the square; else its centre is kept (folder)."),
    ] = False,
    test_per_cell: Annotated[
        int | None,
        typer.Option(
            "--test-per-cell",
            min=1,
            metavar="N",
            help="Test images of each class and group. (default: as many as the smallest has; utkface: 100; "
            "folder without --split: a fifth of the smallest)",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="Keep N training images, same bias ratio. (default: all)"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, metavar="N", help="Processes that decode images. (default: one a core)"),
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out and count images that cannot be decoded.")
    ] = False,
    seed: Seed = 0,
    recipe: Recipe = None,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a biased data set file: images sorted by class and group, with a test split of equal cells.

    Prints the path written. Example: fairdd make-dataset c-fmnist-fg --embedded -o data.h5
    """
    name = DATASETS.canonical(name)

    from fairdd_cli.artifacts import check_target, lock_output
    from fairdd_cli.datasets._source import Request
    from fairdd_cli.make_dataset import make
    from fairdd_cli.reporting.cells import warnings

    path = f"{name}.h5" if output is None else output
    check_target(path, force)
    request = Request(
        seed=seed,
        root=root,
        download=download,
        embedded=embedded,
        bias_ratio=bias_ratio,
        csv=csv,
        target=target,
        protected=tuple(protected or ()),
        split=split,
        size=size,
        no_crop=no_crop,
        test_per_cell=test_per_cell,
        workers=workers,
        skip_unreadable=skip_unreadable,
    )
    with lock_output(path), Terminal(quiet, verbose, unit="images") as terminal:
        dataset = make(name, request, path, limit=limit, progress=terminal, force=force)
        terminal.stop()
        terminal.say(
            f"{name}: {len(dataset.train):,} training and {len(dataset.test):,} test images, "
            f"{dataset.classes} classes x {dataset.groups} groups, bias ratio {dataset.bias_ratio:.3g}"
        )
        for reason, count in dataset.options["left_out"].items():
            terminal.say(f"left out: {count:,} images ({reason})")
        for warning in warnings(dataset):
            terminal.say(f"warning: {warning}")
    if path != "-":
        out(path)
