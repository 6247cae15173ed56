"""fairdd evaluate: what networks trained on a synthetic set are worth, in accuracy and fairness."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairdd_cli.cli.terminal import Terminal, counted, end_killed_command, print_path
from fairdd_cli.config import EvaluateConfig
from fairdd_cli.errors import UsageError

if TYPE_CHECKING:
    from fairdd_cli.artifacts import Evaluation


def evaluate(config: EvaluateConfig) -> None:
    """Train networks on a synthetic set and count what they predict on the test split, group by group.

    Prints the path written. Example: fairdd evaluate data.gm-fairdd-ipc10.h5 --network convnet --seeds 3
    """
    if config.synthetic == "-" and config.output is None:
        raise UsageError("give -o FILE (or -o -) when the synthetic set comes from standard input")

    from fairdd_cli.artifacts import is_stream, stem_of

    marks = [config.split] * (config.split != "test") + [config.sampling] * (config.sampling != "proportional")
    default = str(Path("runs") / f"{'.'.join([Path(stem_of(config.synthetic)).name, *marks])}.json")
    target = default if config.output is None else config.output
    if not is_stream(target) and Path(target).suffix not in (".json", ".h5"):
        raise UsageError(f"-o {target}: an evaluation is written as .json or .h5")

    from fairdd_cli.artifacts import check_target, kind_of, lock_output, write_evaluation

    complete = check_target(target, config.force, config.synthetic, *filter(None, [config.data]))
    if config.synthetic != "-":
        kind_of(config.synthetic)  # which refuses what is no file of fairdd, before torch is loaded

    from fairdd_cli.evaluate import open_inputs, prepare_input, run_evaluation, run_fingerprint
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
        trained_on, dataset = open_inputs(config.synthetic, config.data)
        check_target(target, config.force, dataset.path)  # which the synthetic set may have named
        chosen = prepare_input(config, trained_on, dataset, runtime)
        networks = networks or [parse_network(chosen.network)]
        fingerprint = run_fingerprint(chosen, dataset, networks, config.seeds, runtime)
        kept = (target, fingerprint, config.seed, config.checkpoint_every, config.restart)
        with Checkpoints(*kept, terminal.say, first) as checkpoints:
            evaluation = run_evaluation(
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
            metrics = evaluation.metrics()
            if first:
                write_evaluation(target, evaluation, metrics, config.force)
        terminal.stop()
        _say(terminal, evaluation, metrics)
    if first:
        print_path(target)


def _say(terminal: Terminal, evaluation: "Evaluation", metrics: dict[str, dict[str, Any]]) -> None:
    """A line for each network; how long they took; a caution where the test split is too small for them."""
    from fairdd_cli.metrics import labelled
    from fairdd_cli.reporting.notes import small_cells

    taken = f", {evaluation.seconds:.0f} s"
    for name, values in metrics.items():
        words = labelled({metric: found["mean"] for metric, found in values.items()})
        seeds = counted(len(evaluation.confusion[name]), "seed")
        terminal.say(f"{name}: {words} ({seeds}{taken if len(metrics) == 1 else ''})")
    if len(metrics) > 1:
        terminal.say(f"{len(metrics)} networks{taken}")
    if caution := small_cells(evaluation.cell_sizes, evaluation.split):
        terminal.say(caution)
