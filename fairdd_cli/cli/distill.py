"""fairdd distill: a few synthetic images per class out of a biased data set."""

from contextlib import nullcontext
from typing import Annotated

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
    assignments,
    from_recipe,
    is_typed,
    listing,
)
from fairdd_cli.cli.terminal import Terminal, counted, duration, out
from fairdd_cli.errors import UsageError
from fairdd_cli.fairness import STRATEGIES
from fairdd_cli.methods import METHODS


def distill(
    context: typer.Context,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Data set file from make-dataset; - is stdin.", show_default=False)
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            metavar="NAME",
            help=f"What is matched: {listing(METHODS)} (dc is gm).",
            autocompletion=METHODS.names,
            show_default=False,
        ),
    ],
    ipc: Annotated[int, typer.Option("--ipc", min=1, metavar="N", help="Synthetic images per class.")],
    fair: Annotated[bool, typer.Option("--fair", help="Short for --fairness fairdd.")] = False,
    fairness: Annotated[
        str | None,
        typer.Option(
            "--fairness",
            metavar="NAME",
            help=f"What of the groups is matched: {listing(STRATEGIES)}. (default: vanilla)",
        ),
    ] = None,
    sampling: Annotated[
        str | None,
        typer.Option(
            "--sampling",
            metavar="NAME",
            help="How real batches are drawn: proportional or balanced over the groups. "
            "(default: balanced with fairdd, barycenter, groupdro, else proportional)",
        ),
    ] = None,
    batch_real: Annotated[
        int | None,
        typer.Option(
            "--batch-real",
            min=1,
            metavar="N",
            help="Real images of a class in a batch. (default: 256 proportional, idc 64, dream 128; 40 balanced)",
        ),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="NAME",
            help="First images: real, balanced (real, even over the groups), kmeans (real, the most representative) or "
            "noise. (default: dream: kmeans; balanced with a fairness strategy that uses groups; else real)",
        ),
    ] = None,
    factor: Annotated[
        int | None,
        typer.Option(
            "--factor",
            min=1,
            metavar="N",
            help="Multi-formation: N x N training images inside each stored one. (default: idc, dream 2; else 1)",
        ),
    ] = None,
    groups: Annotated[
        str,
        typer.Option(
            "--groups",
            metavar="WHAT",
            help="labels: those of the data; pseudo[:K]: K clusters of each class, found without labels.",
        ),
    ] = "labels",
    group_noise: Annotated[
        float,
        typer.Option(
            "--group-noise", min=0, max=1, metavar="P", help="Replace a share P of the protected labels at random."
        ),
    ] = 0.0,
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations",
            min=0,
            metavar="N",
            help="Optimisation steps. (default: the paper's: dm 20000, gm, dsa 1000, idc, dream 2000, mtt 5000)",
        ),
    ] = None,
    experts: Annotated[
        str | None,
        typer.Option(
            "--experts",
            metavar="FILE",
            help="Expert trajectories of mtt; made on first use. (default: DATA.experts-FAIRNESS.h5)",
        ),
    ] = None,
    network: Annotated[
        str,
        typer.Option("--network", metavar="NAME[:KEY=VALUE,…]", help="Network to match in: convnet:width=32,depth=3."),
    ] = "convnet",
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            metavar="KEY=VALUE",
            help="Set a hyper-parameter of the method; repeatable. (default: the paper's)",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write; - is stdout. (default: DATA.METHOD-FAIRNESS-ipcN.h5)",
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
    """Distil a data set into N synthetic images per class.

    Prints the path written. Example: fairdd distill --method gm --fair --ipc 10 data.h5
    """
    if fair and fairness not in (None, "fairdd"):
        typed = {name for name in ("fair", "fairness") if is_typed(context, name)}
        if len(typed) != 1:  # else the other one is a recipe's
            raise UsageError(f"--fair means --fairness fairdd, but --fairness {fairness} was given too")
        fairness = "fairdd" if "fair" in typed else fairness
    fairness = fairness or ("fairdd" if fair else "vanilla")
    method = METHODS.canonical(method)
    if data == "-" and output is None:
        raise UsageError("give -o FILE (or -o -) when the data set comes from standard input")

    from fairdd_cli.artifacts import check_readable, check_target, lock_output, read_dataset, stem_of, write_synthetic

    if data != "-":
        check_readable(data)
    target = f"{stem_of(data)}.{method}-{fairness}-ipc{ipc}.h5" if output is None else output
    check_target(target, force, data)

    from fairdd_cli.distill import check_plan, make_plan, task
    from fairdd_cli.distill import distill as run
    from fairdd_cli.networks import parse_network
    from fairdd_cli.runtime import Checkpoints, open_runtime

    plan = make_plan(
        method,
        fairness=fairness,
        sampling=sampling,
        init=init,
        ipc=ipc,
        factor=factor,
        batch_real=batch_real,
        iterations=iterations,
        network=parse_network(network),
        seed=seed,
        options={**assignments(from_recipe(context, "option")), **assignments(option or [])},
        groups=groups,
        group_noise=group_noise,
        experts=experts or "",
    )
    runtime = open_runtime(device, precision, deterministic, compiles)
    first = runtime.processes.is_main
    if runtime.processes.world_size > 1 and "-" in (data, target):
        raise UsageError("processes that share a job cannot share its standard input or output; give files")
    with lock_output(target) if first else nullcontext(), Terminal(quiet or not first, verbose) as terminal:
        dataset = read_dataset(data)
        check_plan(plan, dataset)
        batches = f"{plan.sampling} batches of {plan.batch_real} a class, " if plan.hyper.samples else ""
        terminal.say(
            f"{method} {fairness}: {counted(ipc, 'image')} for each of {dataset.classes} classes of {dataset.name}; "
            f"{batches}{counted(plan.iterations, 'iteration')}{plan.hyper.loops()}"
        )
        options = task(plan, dataset, runtime)
        with Checkpoints(target, options, seed, checkpoint_every, restart, terminal.say, first) as checkpoints:
            synthetic = run(plan, dataset, runtime, terminal, residency, terminal.detail, checkpoints)
            if first:
                write_synthetic(target, synthetic, force)
        terminal.stop()
        losses = synthetic.history.loss
        if len(losses):
            tenth = max(1, len(losses) // 10)  # single losses scatter: each belongs to another network
            begun, ended, seconds = losses[:tenth].mean(), losses[-tenth:].mean(), synthetic.history.seconds[-1]
            terminal.say(f"loss {begun:.4g} -> {ended:.4g} (first and last tenth) in {duration(seconds)}")
    if target != "-" and first:
        out(target)
