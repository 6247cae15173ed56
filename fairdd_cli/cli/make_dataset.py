"""fairdd make-dataset: a biased data set out of a source of images."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fairdd_cli.cli.options import Force, Quiet, Recipe, Seed, Verbose, listing
from fairdd_cli.cli.terminal import Terminal, out
from fairdd_cli.datasets import DATASETS
from fairdd_cli.errors import UsageError


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
            help="Share of a class held by its majority group, from 1/classes to 1. (default: 0.9)",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="Keep N training images, same bias ratio. (default: all)"),
    ] = None,
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
    module = DATASETS.load(name)
    given: dict[str, Any] = {"root": root, "download": download, "embedded": embedded, "bias_ratio": bias_ratio}
    for option, value in given.items():
        if value not in (None, False) and option not in module.OPTIONS:
            raise UsageError(f"--{option.replace('_', '-')} does not apply to data set '{name}'")

    from fairdd_cli.artifacts import check_target, claimed
    from fairdd_cli.datasets._build import build
    from fairdd_cli.datasets._source import Request

    target = output or f"{name}.h5"
    check_target(target, force)
    with claimed(target), Terminal(quiet, verbose, unit="images") as terminal:
        source = module.source(Request(seed=seed, **given))
        dataset = build(name, source, target, seed=seed, limit=limit, progress=terminal, force=force)
        terminal.stop()
        terminal.say(
            f"{name}: {len(dataset.train):,} training and {len(dataset.test):,} test images, "
            f"{dataset.classes} classes x {dataset.groups} groups, bias ratio {dataset.bias_ratio:.3g}"
        )
    if target != "-":
        out(target)
