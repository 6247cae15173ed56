"""fairdd inspect: what a file is, where it comes from, and what is in it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairdd_cli.cli.options import Force, Quiet, Verbose
from fairdd_cli.cli.terminal import Terminal, product
from fairdd_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from fairdd_cli.artifacts import Artifact, BiasedDataset, Evaluation, SyntheticSet

WIDE = 50  # characters for the heads of the groups


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Any file of fairdd.", show_default=False)],
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="FILE.png",
            help="Save a grid of images, a row for each class (data set: a column for each group). (default: none)",
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show what a file is, its provenance, and its cells or counts.

    Example: fairdd inspect data.h5 --images data.png
    """
    from fairdd_cli.artifacts import BiasedDataset, Evaluation, SyntheticSet, check_target, read_any
    from fairdd_cli.inspect import warnings

    if images is not None:
        if Path(images).suffix.lower() != ".png":
            raise UsageError(f"--images {images}: the grid is written as .png")
        check_target(images, force)
    artifact = read_any(file)
    with Terminal(quiet, verbose) as terminal:
        product(_facts(artifact))
        if isinstance(artifact, BiasedDataset):
            product(_cell_table(artifact))
            for warning in warnings(artifact):
                terminal.say(f"warning: {warning}")
        elif isinstance(artifact, Evaluation):
            product(_metric_table(artifact))
        if images is not None:
            if isinstance(artifact, Evaluation):
                raise UsageError(f"'{file}' is an evaluation and holds no images")
            _save_grid(artifact, images, force)
            terminal.say(f"wrote {images}")
        elif isinstance(artifact, SyntheticSet):
            terminal.say("See the images with --images FILE.png", detail=True)


def _facts(artifact: "Artifact") -> "Table":
    """Attribute and value, one a line."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_header=False, title=Text(Path(artifact.path).name))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _described(artifact).items():
        table.add_row(Text(name), Text(str(value)))
    return table


def _described(artifact: "Artifact") -> dict[str, Any]:
    from fairdd_cli.artifacts import BiasedDataset, SyntheticSet

    if isinstance(artifact, BiasedDataset):
        shape = "x".join(map(str, artifact.shape))
        facts: dict[str, Any] = {
            "kind": "data set",
            "name": artifact.name,
            "images": f"{len(artifact.train):,} training, {len(artifact.test):,} test, {shape}",
            "bias ratio": f"{artifact.bias_ratio:.4g}",
            "mean, std": f"{_numbers(artifact.mean)}; {_numbers(artifact.std)}",
        }
        origin = artifact.history
    elif isinstance(artifact, SyntheticSet):
        shape = "x".join(map(str, artifact.images.shape[1:]))
        facts = {
            "kind": "synthetic set",
            "images": f"{len(artifact.images)}, {artifact.ipc} per class, factor {artifact.factor}, {shape}",
            "classes": ", ".join(artifact.class_names),
            "method": f"{artifact.method}, fairness {artifact.fairness}, {artifact.sampling} sampling",
            "network": artifact.network,
            "iterations": f"{artifact.iterations:,}",
            "evaluation": json.dumps(dict(artifact.evaluation)),
            "distilled from": f"{artifact.dataset} ({artifact.dataset_path or 'a pipe'})",
            "its digest": artifact.dataset_digest,
        }
        if len(artifact.history.loss):
            facts["loss"] = f"{artifact.history.loss[0]:.4g} -> {artifact.history.loss[-1]:.4g}"
            facts["time"] = f"{artifact.history.seconds[-1]:.1f} s"
        origin = artifact.origin
    else:
        facts = {
            "kind": "evaluation",
            "of": f"{artifact.method}, fairness {artifact.fairness}, ipc {artifact.ipc}, on {artifact.dataset}",
            "networks": ", ".join(artifact.confusion),
            "protocol": json.dumps(dict(artifact.protocol)),
            "time": f"{artifact.seconds:.1f} s, peak memory {artifact.peak_memory / 2**20:,.0f} MiB",
            "synthetic set": artifact.synthetic_digest or "none, trained on the whole data set",
            "data set": artifact.dataset_digest,
        }
        origin = artifact.origin
    made = f"{origin['generated_by']}, {origin['created']}"
    options = json.dumps(dict(artifact.options))
    return {**facts, "seed": artifact.seed, "options": options, "made by": made, "digest": artifact.digest}


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _cell_table(dataset: "BiasedDataset") -> "Table":
    """Training images of each cell, with the bias ratio of each class."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from fairdd_cli.inspect import class_bias

    # Many groups get numbers for heads and a legend, so that the counts fit a terminal.
    numbered = sum(len(name) + 2 for name in dataset.protected_names) > WIDE
    heads = [str(group) if numbered else name for group, name in enumerate(dataset.protected_names)]
    legend = ", ".join(f"{head} {name}" for head, name in zip(heads, dataset.protected_names, strict=True))
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title="Training images of each class and group",
        caption=Text(f"groups: {legend}") if numbered else None,
        caption_justify="left",
    )
    table.add_column("class", no_wrap=True)
    for head in heads:
        table.add_column(Text(head), justify="right", no_wrap=True)
    table.add_column("bias", justify="right", no_wrap=True)
    shares = class_bias(dataset.train.count)
    for name, counts, share in zip(dataset.class_names, dataset.train.count, shares, strict=True):
        table.add_row(Text(name), *(f"{count:,}" for count in counts), f"{share:.3f}")
    return table


def _metric_table(evaluation: "Evaluation") -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from fairdd_cli.metrics import summarise

    metrics = {name: summarise(table) for name, table in evaluation.confusion.items()}
    table = Table(box=box.SIMPLE_HEAD, title="Mean ± std over seeds, in percent")
    table.add_column("network")
    keys = list(next(iter(metrics.values())))
    for key in keys:
        table.add_column(key.replace("_", " "), justify="right")
    for name, values in metrics.items():
        cells = [values[key] for key in keys]
        words = ["-" if v["mean"] is None else f"{v['mean']:.1f} ± {v['std']:.1f}" for v in cells]
        table.add_row(Text(name), *words)
    return table


def _save_grid(artifact: "BiasedDataset | SyntheticSet", path: str, force: bool) -> None:
    """Writes the grid as PNG."""
    import io

    import numpy as np
    from PIL import Image

    from fairdd_cli.artifacts import BiasedDataset, write_bytes
    from fairdd_cli.inspect import examples, grid

    if isinstance(artifact, BiasedDataset):
        rows = examples(artifact)
    else:
        mean, std = (np.array(values)[:, None, None] for values in (artifact.mean, artifact.std))
        pixels = np.rint(np.clip(artifact.images * std + mean, 0, 1) * 255).astype(np.uint8)
        rows = [list(pixels[artifact.labels == label]) for label in range(len(artifact.class_names))]
    sheet = grid(rows)
    picture = Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet[..., :3])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue(), force)
