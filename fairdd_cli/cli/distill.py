"""fairdd distill: a few synthetic images per class out of a biased data set."""

from contextlib import nullcontext
from typing import TYPE_CHECKING

from fairdd_cli.cli.terminal import Terminal, counted, duration, end_killed_command, print_path
from fairdd_cli.config import DistillConfig
from fairdd_cli.errors import UsageError

if TYPE_CHECKING:
    from fairdd_cli.artifacts import SyntheticSet


def distill(config: DistillConfig) -> None:
    """Distil a data set into N synthetic images per class.

    Prints the path written. Example: fairdd distill --method gm --fair --ipc 10 data.h5
    """
    if config.data == "-" and config.output is None:
        raise UsageError("give -o FILE (or -o -) when the data set comes from standard input")

    from fairdd_cli.artifacts import check_readable, check_target, lock_output, read_dataset, stem_of, write_synthetic

    if config.data != "-":
        check_readable(config.data)
    default = f"{stem_of(config.data)}.{config.method}-{config.strategy}-ipc{config.ipc}.h5"
    target = default if config.output is None else config.output
    complete = check_target(target, config.force, config.data, *filter(None, [config.experts]))

    from fairdd_cli.distill import (
        check_config,
        current_fingerprint,
        expert_spec,
        resolve_config,
        run_distillation,
        run_fingerprint,
    )
    from fairdd_cli.reporting.notes import small_cells
    from fairdd_cli.runtime import Checkpoints, open_runtime

    resolved = resolve_config(config)
    runtime = open_runtime(config.device, config.precision, config.deterministic, config.compile)
    first = runtime.processes.is_main
    if complete:
        if first:
            end_killed_command(target, config.quiet)
        return
    if runtime.processes.world_size > 1 and "-" in (config.data, target):
        raise UsageError("the ranks of a job cannot share its standard input or output; give files")
    with (
        lock_output(target) if first else nullcontext(),
        Terminal(config.quiet or not first, config.verbose) as terminal,
    ):
        dataset = read_dataset(config.data)
        check_config(resolved, dataset, runtime.processes.world_size)
        if resolved.needs_experts:
            check_target(target, config.force, expert_spec(resolved, dataset).path)
        method, batches = resolved.algorithm, ""
        if method.samples:
            batches = f"{resolved.sampling} batches of {resolved.batch_real} per class, "
        terminal.say(
            f"{resolved.method} {resolved.fairness}: {counted(config.ipc, 'image')} for each of {dataset.classes} "
            f"classes of {dataset.name}; {batches}{counted(resolved.iterations, 'iteration')}{method.loops()}"
        )
        if config.validate is not None and (caution := small_cells(dataset.validation().count, "validation")):
            terminal.say(caution)
        fingerprint = run_fingerprint(resolved, dataset, runtime)
        kept = (target, fingerprint, config.seed, config.checkpoint_every, config.restart)
        with Checkpoints(*kept, terminal.say, first, current_fingerprint) as checkpoints:
            shown = (terminal, config.residency, terminal.detail)
            synthetic = run_distillation(resolved, dataset, runtime, *shown, checkpoints)
            if first:
                write_synthetic(target, synthetic, config.force)
        terminal.stop()
        _say(terminal, synthetic)
    if first:
        print_path(target)


def _say(terminal: Terminal, synthetic: "SyntheticSet") -> None:
    """How the loss fell, how long that took, and what the validations found, if there were any."""
    from fairdd_cli.metrics import in_words

    losses = synthetic.history.loss
    if len(losses):
        tenth = max(1, len(losses) // 10)  # single losses scatter: each belongs to another network
        begun, ended, seconds = losses[:tenth].mean(), losses[-tenth:].mean(), synthetic.history.seconds[-1]
        words = f"{begun:.4g} -> {ended:.4g} (first and last tenth) in {duration(seconds)}"
        terminal.say(f"{synthetic.history.what} {words}")
    if (validation := synthetic.history.validation) is not None:
        position = validation.position(synthetic.kept_iteration)
        first_scores, kept_scores = (in_words(validation.correct[n], validation.total) for n in (0, position))
        terminal.say(
            f"validation: {first_scores} at the start; "
            f"{kept_scores} after {counted(synthetic.kept_iteration or 0, 'iteration')}, kept"
        )
