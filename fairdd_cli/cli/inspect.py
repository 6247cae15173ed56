"""fairdd inspect: what a file is, where it comes from, and what is in it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairdd_cli.cli.tables import cell_tables, tables
from fairdd_cli.cli.terminal import Terminal, literal, print_path, product, width
from fairdd_cli.config import InspectConfig
from fairdd_cli.errors import UsageError, one_line

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from fairdd_cli.artifacts import Artifact, BiasedDataset, Evaluation, SyntheticSet


def inspect(config: InspectConfig) -> None:
    """Show what a file is, its provenance, and its cells or counts; give a synthetic set to other programs.

    Examples: fairdd inspect data.h5 --images data.png; fairdd inspect SYN --export images.npz
    """
    from fairdd_cli.artifacts import (
        BiasedDataset,
        SyntheticSet,
        check_export,
        check_target,
        lock_output,
        made_by_this_command,
        read_any,
    )

    targets = [target for target in (config.images, config.embedding, config.export) if target]
    if made_by_this_command(*targets):  # by a run that was killed: it may be made again
        config = replace(config, force=True)
    if config.images is not None:
        if Path(config.images).suffix.lower() != ".png":
            raise UsageError(f"--images {config.images}: the grid is written as .png")
        check_target(config.images, config.force)
    if config.export is not None:
        check_export(config.export, config.force)
    if config.embedding is not None:
        _check_figure(config.embedding, config.force)
    elif config.data is not None or config.class_name is not None:
        raise UsageError("--data and --class say what --embedding shows: give that, too, or leave them out")
    artifact = read_any(config.file)
    _check_kind(artifact, config.file, config.images, config.embedding, config.export)
    with ExitStack() as locks, Terminal(config.quiet, config.verbose, unit="images") as terminal:
        for target in targets:
            locks.enter_context(lock_output(target))
        if config.export is None:  # the one line of a path is for the next program
            _show(artifact, terminal)
        if config.images is not None and isinstance(artifact, BiasedDataset | SyntheticSet):
            _save_grid(artifact, config.images, config.force)
            terminal.wrote(config.images)
        if isinstance(artifact, SyntheticSet):
            if config.embedding is not None:
                _save_embedding(artifact, config, terminal)
                terminal.wrote(config.embedding)
            if config.export is not None:
                _export(artifact, config.export, terminal, config.force)


def _check_kind(artifact: "Artifact", file: str, images: str | None, embedding: str | None, export: str | None) -> None:
    """Raises UsageError, before anything is shown, for what cannot be made of such a `file`."""
    from fairdd_cli.artifacts import BiasedDataset, SyntheticSet

    for option, given in (("--embedding", embedding), ("--export", export)):
        if given is not None and not isinstance(artifact, SyntheticSet):
            raise UsageError(f"{option} is for synthetic sets, as fairdd distill writes them; '{file}' is not one")
    if images is not None and not isinstance(artifact, BiasedDataset | SyntheticSet):
        raise UsageError(f"--images is for data sets and synthetic sets; '{file}' holds no images")


def _show(artifact: "Artifact", terminal: Terminal) -> None:
    """The tables of an artifact, and a warning for each of its weaknesses."""
    from fairdd_cli.artifacts import BiasedDataset, Evaluation, SyntheticSet
    from fairdd_cli.reporting.cells import warnings
    from fairdd_cli.reporting.notes import small_cells

    product(_facts(artifact))
    if isinstance(artifact, BiasedDataset):
        for part in cell_tables(artifact, width()):
            product(part)
        for warning in warnings(artifact):
            terminal.say(f"warning: {warning}")
    elif isinstance(artifact, Evaluation):
        for part in _metric_tables(artifact):
            product(part)
        if caution := small_cells(artifact.cell_sizes, artifact.split):
            terminal.say(caution)
    elif isinstance(artifact, SyntheticSet):
        terminal.say("See the images with --images FILE.png", detail=True)


def _check_figure(path: str, force: bool) -> None:
    """Raises UsageError, before anything is computed, for a figure that could not be drawn or written."""
    from fairdd_cli.artifacts import check_target
    from fairdd_cli.reporting.figures import SUFFIXES, require

    require()
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UsageError(f"--embedding {path}: figures are written as {', '.join(SUFFIXES)}")
    check_target(path, force)


def _save_embedding(synthetic: "SyntheticSet", config: InspectConfig, terminal: Terminal) -> None:
    from fairdd_cli.artifacts import read_dataset, write_bytes
    from fairdd_cli.evaluate import check_match, resolve_dataset_path
    from fairdd_cli.reporting.coverage_figure import coverage_figure
    from fairdd_cli.reporting.figures import label_of, render
    from fairdd_cli.reporting.group_coverage import PANELS, class_projections, find_class
    from fairdd_cli.runtime import open_runtime

    path = config.embedding or ""
    labels = [*range(len(synthetic.class_names))][:PANELS]
    if config.class_name is not None:
        labels = [find_class(config.class_name, synthetic.class_names)]
    dataset = read_dataset(config.data or resolve_dataset_path(synthetic))
    check_match(synthetic, dataset)
    if config.class_name is None and len(labels) < dataset.classes:
        terminal.say(f"the figure shows the first {len(labels)} of {dataset.classes} classes; --class chooses another")
    projections = class_projections(synthetic, dataset, labels, open_runtime(config.device), terminal)
    terminal.stop()
    figure = coverage_figure(projections, dataset.protected_names, label_of(synthetic))
    write_bytes(path, render(figure, Path(path).suffix.lower()), config.force)


def _export(synthetic: "SyntheticSet", path: str, terminal: Terminal, force: bool) -> None:
    """Writes what others read; says what it is on standard error and where on standard output."""
    from fairdd_cli.artifacts import write_export
    from fairdd_cli.loading import as_export

    given = as_export(synthetic)
    write_export(path, given, force)
    shape = "x".join(map(str, given.images.shape[1:]))
    terminal.say(f"wrote {len(given.images)} training images of {len(given.class_names)} classes, {shape}")
    if synthetic.factor > 1:
        terminal.say(
            f"each of the {len(synthetic.images)} stored images was decoded into {synthetic.factor**2} "
            f"(multi-formation, factor {synthetic.factor})"
        )
    print_path(path)


def _facts(artifact: "Artifact") -> "Table":
    """Attribute and value, one a line."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_header=False, title=literal(one_line(Path(artifact.path).name)))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _described(artifact).items():
        table.add_row(literal(name), literal(one_line(str(value))))
    return table


def _per_class(synthetic: "SyntheticSet") -> str:
    """How many stored images a class has, in words."""
    counts = {int((synthetic.labels == label).sum()) for label in range(len(synthetic.class_names))}
    return str(*counts) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _described(artifact: "Artifact") -> dict[str, Any]:
    from fairdd_cli.artifacts import BiasedDataset, Experts, SyntheticSet
    from fairdd_cli.metrics import in_words

    if isinstance(artifact, Experts):
        _, epochs, parameters = artifact.shape
        made = f"{artifact.experts} for each of {artifact.targets} targets, {epochs - 1} epochs"
        trajectories = f"{made}, {parameters:,} parameters"
        return {"kind": "experts", "trajectories": trajectories, **artifact.provenance, "digest": artifact.digest}
    if isinstance(artifact, BiasedDataset):
        shape = "x".join(map(str, artifact.shape))
        held_out = f"{len(artifact.val):,} validation, " if artifact.val else ""
        facts: dict[str, Any] = {
            "kind": "data set",
            "name": artifact.name,
            "images": f"{len(artifact.train):,} training, {held_out}{len(artifact.test):,} test, {shape}",
            "bias ratio": f"{artifact.bias_ratio:.4g}",
            "mean, std": f"{_numbers(artifact.mean)}; {_numbers(artifact.std)}",
        }
        origin = artifact.provenance
    elif isinstance(artifact, SyntheticSet):
        shape = "x".join(map(str, artifact.shape))
        facts = {
            "kind": "synthetic set",
            "images": f"{len(artifact.images)}, {_per_class(artifact)} per class, factor {artifact.factor}, {shape}",
            "stored": f"{artifact.stored_numbers:,} numbers ({artifact.decoding}): "
            f"IPC {artifact.equivalent_ipc:.4g} of plain images",
            "classes": ", ".join(artifact.class_names),
            "method": f"{artifact.method}, fairness {artifact.fairness}, {artifact.sampling} sampling",
            "network": artifact.network,
            "iterations": f"{artifact.iterations:,}",
            "evaluation": json.dumps(dict(artifact.evaluation)),
            "distilled from": f"{artifact.dataset} ({artifact.dataset_path or 'a pipe'})",
            "its digest": artifact.dataset_digest,
        }
        if len(artifact.history.loss):
            facts[artifact.history.what] = f"{artifact.history.loss[0]:.4g} -> {artifact.history.loss[-1]:.4g}"
            facts["time"] = f"{artifact.history.seconds[-1]:.1f} s"
        if (validation := artifact.history.validation) is not None:
            position = validation.position(artifact.kept_iteration)
            kept, best = (in_words(validation.correct[n], validation.total) for n in (position, validation.best))
            facts["validation"] = (
                f"{kept} after {validation.iteration[position]:,} iterations, kept; best of "
                f"{len(validation.iteration)}: {best} after {validation.iteration[validation.best]:,}"
            )
        origin = artifact.provenance
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
        origin = artifact.provenance
    made = f"{origin['generated_by']}, {origin['created']}"
    options = json.dumps(dict(artifact.options))
    return {**facts, "seed": artifact.seed, "options": options, "made by": made, "digest": artifact.digest}


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _metric_tables(evaluation: "Evaluation") -> "Iterator[Table | Text]":
    """Mean and deviation of every metric of each network: as many tables as the metrics need room."""
    from rich.text import Text

    from fairdd_cli.metrics import summarise
    from fairdd_cli.reporting.labels import caption, mean_std, metric_title

    networks = {name: summarise(counts) for name, counts in evaluation.confusion.items()}
    seeds = len(next(iter(evaluation.confusion.values())))

    def shown(metric: str) -> list[str]:
        found = [each[metric] for each in networks.values()]
        return [mean_std(values["mean"], values["std"] if seeds > 1 else None) for values in found]

    columns = [(metric_title(metric), shown(metric)) for metric in next(iter(networks.values()))]
    yield Text(f"\n{caption(seeds)}", style="italic")
    yield from tables("network", list(networks), columns, width())


def _save_grid(artifact: "BiasedDataset | SyntheticSet", path: str, force: bool) -> None:
    """Writes the grid as PNG."""
    import io

    from PIL import Image

    from fairdd_cli.artifacts import BiasedDataset, write_bytes
    from fairdd_cli.reporting.cells import examples, grid, visible

    if isinstance(artifact, BiasedDataset):
        rows = examples(artifact)
    else:
        images = visible(artifact)
        rows = [list(images[artifact.labels == label]) for label in range(len(artifact.class_names))]
    sheet = grid(rows)
    picture = Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet[..., :3])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue(), force)
