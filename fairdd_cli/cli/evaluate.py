"""fairdd evaluate: what networks trained on a synthetic set are worth, in accuracy and fairness."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairdd_cli.cli.options import (
    Compile,
    Deterministic,
    Device,
    Every,
    Force,
    Precision,
    Quiet,
    Recipe,
    Residency,
    Restart,
    Seed,
    Verbose,
)
from fairdd_cli.cli.terminal import Terminal, counted, out
from fairdd_cli.errors import UsageError

if TYPE_CHECKING:
    from fairdd_cli.artifacts import Evaluation


def evaluate(
    synthetic: Annotated[
        str,
        typer.Argument(
            metavar="SYN",
            help="Synthetic set from distill, or a data set for the whole-data baseline; - is stdin.",
            show_default=False,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Data set with the test split. (default: where SYN says)"),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            metavar="NAME[:KEY=VALUE,…]",
            help="Network to train; repeatable. (default: the one that SYN was distilled with)",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="Networks trained of each kind.")] = 10,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            metavar="N",
            help="Epochs of training. (default: the method's: 1000, gm 300; whole data 30)",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            min=0,
            metavar="RATE",
            help="Learning rate. (default: the method's: 0.01, or what mtt learned)",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", min=1, metavar="N", help="Images of a step. (default: the method's: 256, idc, dream 64)"
        ),
    ] = None,
    augmentation: Annotated[
        str | None,
        typer.Option(
            "--augmentation",
            metavar="NAMES",
            help="Operations joined by _, of which each batch draws one, or none; + joins stages. "
            "(default: the method's: color_crop_cutout_flip_scale_rotate, idc, dream flip+color+crop_scale_rotate)",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write, .json or .h5; - is stdout. (default: runs/SYN.json)",
        ),
    ] = None,
    seed: Seed = 0,
    residency: Residency = "auto",
    device: Device = "auto",
    precision: Precision = "fp32",
    deterministic: Deterministic = False,
    compiles: Compile = "auto",
    checkpoint_every: Every = 60,
    restart: Restart = False,
    recipe: Recipe = None,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train networks on a synthetic set and count what they predict on the test split, group by group.

    Prints the path written. Example: fairdd evaluate data.gm-fairdd-ipc10.h5 --network convnet --seeds 3
    """
    if synthetic == "-" and output is None:
        raise UsageError("give -o FILE (or -o -) when the synthetic set comes from standard input")

    from fairdd_cli.artifacts import stem_of

    target = str(Path("runs") / f"{Path(stem_of(synthetic)).name}.json") if output is None else output
    if target != "-" and Path(target).suffix not in (".json", ".h5"):
        raise UsageError(f"-o {target}: an evaluation is written as .json or .h5")

    from dataclasses import replace

    from fairdd_cli.artifacts import check_target, kind_of, lock_output, read_dataset, read_synthetic, write_evaluation

    check_target(target, force, synthetic, *filter(None, [data]))
    whole = synthetic != "-" and kind_of(synthetic) == "fairdd/dataset"

    from fairdd_cli.evaluate import check_match, resolve_dataset_path, run_fingerprint, synthetic_data, whole_data
    from fairdd_cli.evaluate import evaluate as run
    from fairdd_cli.metrics import summarise
    from fairdd_cli.networks import parse_network
    from fairdd_cli.runtime import Checkpoints, open_runtime
    from fairdd_cli.training import augmentation as augment

    runtime = open_runtime(device, precision, deterministic, compiles)
    networks = [parse_network(text) for text in network or []]
    first = runtime.processes.is_main
    if runtime.processes.world_size > 1 and "-" in (synthetic, target):
        raise UsageError("processes that share a job cannot share its standard input or output; give files")
    with lock_output(target) if first else nullcontext(), Terminal(quiet or not first, verbose) as terminal:
        if whole:
            if data is not None:
                raise UsageError(f"'{synthetic}' is a data set and brings its own test split; leave out --data")
            dataset = read_dataset(synthetic)
            chosen = whole_data(dataset, runtime, residency)
        else:
            distilled = read_synthetic(synthetic)
            dataset = read_dataset(data or resolve_dataset_path(distilled))
            check_match(distilled, dataset)
            chosen = synthetic_data(distilled, runtime)
        given: dict[str, Any] = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch}
        training = replace(chosen.training, **{name: value for name, value in given.items() if value is not None})
        if augmentation is not None:
            training = replace(training, augmentation=augment.without(augmentation))
        chosen = replace(chosen, training=training)
        networks = networks or [parse_network(chosen.network)]
        options = run_fingerprint(chosen, dataset, networks, seeds, runtime)
        with Checkpoints(target, options, seed, checkpoint_every, restart, terminal.say, first) as checkpoints:
            evaluation = run(
                chosen, dataset, networks, seeds, seed, runtime, terminal, residency, terminal.detail, checkpoints
            )
            metrics = {name: summarise(table) for name, table in evaluation.confusion.items()}
            if first:
                write_evaluation(target, evaluation, metrics, force)
        terminal.stop()
        _say(terminal, evaluation, metrics)
    if target != "-" and first:
        out(target)


def _say(terminal: Terminal, evaluation: "Evaluation", metrics: dict[str, dict[str, Any]]) -> None:
    """A line for each network; how long they took; a caution where the test split is too small for them."""
    from fairdd_cli.reporting.notes import small_cells

    taken = f", {evaluation.seconds:.0f} s"
    for name, values in metrics.items():
        words = ", ".join(
            f"{label} {values[key]['mean']:.1f}"
            for label, key in (("accuracy", "accuracy"), ("DEO_M", "deo_max"), ("DEO_A", "deo_mean"))
            if values[key]["mean"] is not None
        )
        seeds = counted(len(evaluation.confusion[name]), "seed")
        terminal.say(f"{name}: {words} ({seeds}{taken if len(metrics) == 1 else ''})")
    if len(metrics) > 1:
        terminal.say(f"{len(metrics)} networks{taken}")
    sizes = next(iter(evaluation.confusion.values()))[0].sum(axis=-1)
    if caution := small_cells(sizes):
        terminal.say(caution)
