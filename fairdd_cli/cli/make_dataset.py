"""fairdd make-dataset: a biased data set out of a source of images."""

from pathlib import Path
from typing import Annotated

import typer

from fairdd_cli.cli.options import Force, Quiet, Recipe, Seed, Verbose, listing
from fairdd_cli.cli.tables import cell_tables
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
        list[Path] | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Table with a row for each image: CSV of any kind, or Parquet; repeatable (folder). "
            "(default: the folders' names tell all)",
        ),
    ] = None,
    path: Annotated[
        str | None,
        typer.Option(
            "--path",
            metavar="COLUMN",
            help="Column with the images' paths or names (folder). (default: the one that leads to files)",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "--target-from",
            metavar="COLUMN[…]",
            help="Attribute (celeba) to predict, or column (folder), with conditions: sex=female,male  age<20,<40  "
            "race=White,other:*  sex!=unknown  findings~Effusion  path:1 (first folder). "
            "(default: celeba: Attractive)",
        ),
    ] = None,
    protected: Annotated[
        list[str] | None,
        typer.Option(
            "--protected",
            "--protected-from",
            metavar="COLUMN[…]",
            help="Attribute or column not to be unfair to, with conditions as for --target; repeat it for "
            "intersectional groups. (default: celeba: Male; utkface: race)",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="COLUMN|SHARE",
            help="Column that says train, val, test or 0, 1, 2; or share of the smallest cell to draw for testing "
            "(folder). (default: 0.2)",
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            metavar="COLUMN",
            help="Patient, lesion or the like, of which no two splits share one (folder). (default: none)",
        ),
    ] = None,
    join: Annotated[
        list[str] | None,
        typer.Option(
            "--join",
            metavar="FILE:KEY[=COLUMN]",
            help="Second table, joined by its column KEY and COLUMN of the first (folder). (default: none)",
        ),
    ] = None,
    holdout: Annotated[
        str | None,
        typer.Option(
            "--holdout",
            metavar="SHARE|N|val",
            help="Hold out validation images: a share of the smallest training cell or N of each cell; val: those that "
            "--split marks. (default: none)",
        ),
    ] = None,
    test_groups: Annotated[
        str,
        typer.Option(
            "--test-groups",
            metavar="paper|all",
            help="Test split of colour-biased sets: the paper's, or every test image in every group.",
        ),
    ] = "paper",
    data_name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="What the data set is called. (default: NAME; folder: the table's or folder's)",
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

    from dataclasses import replace

    from fairdd_cli.artifacts import check_target, lock_output
    from fairdd_cli.datasets._source import Request
    from fairdd_cli.make_dataset import dataset_name, make
    from fairdd_cli.reporting.cells import warnings

    request = Request(
        seed=seed,
        root=root,
        download=download,
        embedded=embedded,
        bias_ratio=bias_ratio,
        csv=tuple(csv or ()),
        path=path,
        target=target,
        protected=tuple(protected or ()),
        split=split,
        group_by=group_by,
        join=tuple(join or ()),
        holdout=holdout,
        test_groups=test_groups,
        name=data_name,
        size=size,
        no_crop=no_crop,
        test_per_cell=test_per_cell,
        workers=workers,
        skip_unreadable=skip_unreadable,
    )
    title = dataset_name(name, request)
    target_path = f"{title.replace('/', '-')}.h5" if output is None else output
    check_target(target_path, force)
    with lock_output(target_path), Terminal(quiet, verbose, unit="images") as terminal:
        request = replace(request, say=lambda remark: terminal.say(f"note: {remark}"))
        dataset = make(name, request, target_path, limit=limit, progress=terminal, force=force)
        terminal.stop()
        held_out = f"{len(dataset.val):,} validation, " if dataset.val else ""
        terminal.say(
            f"{title}: {len(dataset.train):,} training, {held_out}{len(dataset.test):,} test images, "
            f"{dataset.classes} classes x {dataset.groups} groups, bias ratio {dataset.bias_ratio:.3g}"
        )
        for reason, count in dataset.options["left_out"].items():
            terminal.say(f"left out: {count:,} images ({reason})")
        for warning in warnings(dataset):
            terminal.say(f"warning: {warning}")
        for part in cell_tables(dataset, terminal.width):
            terminal.show(part)
    if target_path != "-":
        out(target_path)
