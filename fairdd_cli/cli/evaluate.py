"""fairdd evaluate: what networks trained on a synthetic set are worth, in accuracy and fairness."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairdd_cli.cli.terminal import Terminal, counted, end_killed_command, print_path
from fairdd_cli.config.evaluate import PROTOCOL, EvaluateConfig
from fairdd_cli.errors import UsageError

if TYPE_CHECKING:
    from fairdd_cli.artifacts import BiasedDataset, Evaluation
    from fairdd_cli.evaluate import EvaluationInput
    from fairdd_cli.runtime import Runtime


def evaluate(config: EvaluateConfig) -> None:
    """Train networks on a synthetic set and count what they predict on the test split, group by group.

    Prints the path written. Example: fairdd evaluate data.gm-fairdd-ipc10.h5 --network convnet --seeds 3
    """
    if config.synthetic == "-" and config.output is None:
        raise UsageError("give -o FILE (or -o -) when the synthetic set comes from standard input")

    from fairdd_cli.artifacts import is_stream, stem_of

    split = "" if config.split == "test" else f".{config.split}"
    default = str(Path("runs") / f"{Path(stem_of(config.synthetic)).name}{split}.json")
    target = default if config.output is None else config.output
    if not is_stream(target) and Path(target).suffix not in (".json", ".h5"):
        raise UsageError(f"-o {target}: an evaluation is written as .json or .h5")

    from fairdd_cli.artifacts import check_target, kind_of, lock_output, write_evaluation

    complete = check_target(target, config.force, config.synthetic, *filter(None, [config.data]))
    whole = config.synthetic != "-" and kind_of(config.synthetic) == "fairdd/dataset"

    from fairdd_cli.evaluate import evaluate as run
    from fairdd_cli.evaluate import run_fingerprint
    from fairdd_cli.metrics import summarise
    from fairdd_cli.networks import parse_network
    from fairdd_cli.runtime import Checkpoints, open_runtime

    runtime = open_runtime(config.device, config.precision, config.deterministic, config.compile)
    networks = [parse_network(text) for text in config.network]
    first = runtime.processes.is_main
    if complete:
        if first:
            end_killed_command(target, config.quiet)
        return
    if runtime.processes.world_size > 1 and "-" in (config.synthetic, target):
        raise UsageError("the ranks of a job cannot share its standard input or output; give files")
    with (
        lock_output(target) if first else nullcontext(),
        Terminal(config.quiet or not first, config.verbose) as terminal,
    ):
        dataset, chosen = _inputs(config, whole, runtime)
        networks = networks or [parse_network(chosen.network)]
        fingerprint = run_fingerprint(chosen, dataset, networks, config.seeds, runtime)
        kept = (target, fingerprint, config.seed, config.checkpoint_every, config.restart)
        with Checkpoints(*kept, terminal.say, first) as checkpoints:
            evaluation = run(
                chosen,
                dataset,
                networks,
                config.seeds,
                config.seed,
                runtime,
                terminal,
                config.residency,
                terminal.detail,
                checkpoints,
            )
            metrics = {name: summarise(table) for name, table in evaluation.confusion.items()}
            if first:
                write_evaluation(target, evaluation, metrics, config.force)
        terminal.stop()
        _say(terminal, evaluation, metrics)
    if first:
        print_path(target)


def _inputs(config: EvaluateConfig, whole: bool, runtime: "Runtime") -> "tuple[BiasedDataset, EvaluationInput]":
    """The data set to test on, and what to train on with the protocol that the options ask for."""
    from fairdd_cli.artifacts import read_dataset, read_synthetic
    from fairdd_cli.evaluate import check_match, resolve_dataset_path, synthetic_data, whole_data
    from fairdd_cli.training import augmentation as augment

    if whole:
        if config.data is not None:
            raise UsageError(f"'{config.synthetic}' is a data set and brings its own test split; leave out --data")
        dataset = read_dataset(config.synthetic)
        chosen = whole_data(dataset, runtime, config.residency)
    else:
        distilled = read_synthetic(config.synthetic)
        dataset = read_dataset(config.data or resolve_dataset_path(distilled))
        check_match(distilled, dataset)
        chosen = synthetic_data(distilled, runtime)
    given = {field: getattr(config, name) for name, field in PROTOCOL.items() if getattr(config, name) is not None}
    if "augmentation" in given:
        given["augmentation"] = augment.without(given["augmentation"])
    return dataset, replace(chosen, training=replace(chosen.training, **given), split=config.split)


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
