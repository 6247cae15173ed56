"""The one loop that optimises synthetic images, whatever the method, the strategy and the sampling.

In a notebook, `distill` is all of it; the command reads, locks and writes files around its steps.
"""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import STREAM, BiasedDataset, History, SyntheticSet, as_dataset
from fairdd_cli.config import DistillConfig
from fairdd_cli.config.distill import VALIDATE_NETWORKS
from fairdd_cli.config.keywords import configure, documented
from fairdd_cli.errors import DivergedError, UsageError
from fairdd_cli.matching.groups import group_names
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.synthetic import momentum_of
from fairdd_cli.matching.validation import Validation
from fairdd_cli.methods._renamed import with_current_names
from fairdd_cli.methods._resolved import ResolvedConfig, default_init, default_sampling, resolve_config
from fairdd_cli.methods._start import check_config, expert_spec, start_run, use_experts
from fairdd_cli.networks import fusible_values
from fairdd_cli.runtime import Checkpoints, ImageStore, Progress, Runtime, State, Stopwatch, open_runtime, show_progress
from fairdd_cli.training import TrainingConfig

__all__ = [
    "ResolvedConfig",
    "check_config",
    "current_fingerprint",
    "default_init",
    "default_sampling",
    "distill",
    "expert_spec",
    "resolve_config",
    "run_distillation",
    "run_fingerprint",
    "start_run",
    "use_experts",
]

HISTORY_POINTS = 1000  # losses kept of a run, at most about twice as many


@documented(DistillConfig)
def distill(data: BiasedDataset | str | os.PathLike[str], **options: Any) -> SyntheticSet:
    """Distils `data`, a data set or the path of its file, into a few images per class.

    The images are those of `fairdd distill` with the same options, on the same machine and number of threads, and no
    file is written, but for experts and trained networks, which a data set without a file keeps in
    `experts="FILE.h5"`. Raises `UsageError` for an option that is unknown or does not fit,
    `WorkError` where it diverges or memory runs out.

        distill(data, method="dm", fairness="fairdd", ipc=10, network="convnet:width=32", hyper={"learning_rate": 1})
    """
    dataset = as_dataset(data)
    config = resolve_config(configure(DistillConfig, options, data=dataset.path))
    runtime = open_runtime(config.device, config.precision, config.deterministic, config.compile)
    check_config(config, dataset)
    with show_progress(config.quiet) as progress:
        return run_distillation(config, dataset, runtime, progress, config.residency).in_memory()


def run_distillation(
    config: ResolvedConfig,
    dataset: BiasedDataset,
    runtime: Runtime,
    progress: Progress,
    residency: str = "auto",
    log: Callable[[str], None] = lambda line: None,
    checkpoints: Checkpoints | None = None,
) -> SyntheticSet:
    """Runs `config`, which `check_config` accepted, on `dataset`, from the state of `checkpoints` if that has one.

    Raises WorkError when it diverges.
    """
    config = replace(config, algorithm=config.algorithm.for_data(dataset, config.ipc))
    run = start_run(config, dataset, runtime, progress, residency, log)
    use_experts(run, config, dataset, checkpoints)
    passes = config.iterations * config.algorithm.cost_per_iteration(run)
    log(runtime.decide_compiling(passes * fusible_values(run.networks.fresh(), dataset.shape)))
    processes, before = runtime.processes, run.bytes_reduced
    evaluation = config.algorithm.evaluation
    evaluation = replace(evaluation, augmentation=run.allowed_augmentations(evaluation.augmentation))
    validation = _validation(config, run, dataset, evaluation, residency)
    history = _optimise(config, run, checkpoints or Checkpoints(), validation, log)
    kept_iteration = validation.keep() if validation else None
    if processes.world_size > 1:
        reduced = (run.bytes_reduced - before) / max(1, config.iterations)
        log(f"{processes.world_size} processes; each all-reduced {reduced:,.0f} bytes a step")
    stands_for_groups = run.match_cells and not run.synthetic.codec.num_groups
    return SyntheticSet(
        images=run.synthetic.images.detach().cpu().numpy(),
        labels=run.synthetic.labels.numpy(),
        groups=run.synthetic.groups.numpy() if stands_for_groups else None,
        protected_names=group_names(config.groups, dataset.protected_names),
        decoding=str(config.decoding),
        shape=dataset.shape,
        tables={name: table.cpu().numpy() for name, table in run.synthetic.codec.tables.items()},
        history=history,
        method=config.method,
        fairness=config.fairness,
        sampling=config.sampling,
        ipc=config.ipc,
        iterations=config.iterations,
        network=str(config.network),
        factor=config.factor,
        learning_rate=config.algorithm.learned_rate(run),
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        evaluation=evaluation.to_json(),
        dataset=dataset.name,
        dataset_path="" if dataset.path in (STREAM, "") else str(Path(dataset.path).absolute()),
        dataset_digest=dataset.digest,
        options={**config.record(), **({"experts": run.experts.digest} if config.needs_experts else {})},
        seed=config.seed,
        environment=runtime.facts(),
        kept_iteration=kept_iteration,
    )


def run_fingerprint(config: ResolvedConfig, dataset: BiasedDataset, runtime: Runtime) -> dict[str, object]:
    """All that the outcome of `config` on `dataset` depends on, but for its seed: what a checkpoint is of."""
    machine = {"device": runtime.device.type, "precision": runtime.precision, "compile": runtime.compiles}
    return {"command": "distill", "data set": dataset.digest, **config.record(), **machine}


def current_fingerprint(stored: dict[str, object]) -> dict[str, object]:
    """The fingerprint `stored` by an earlier version under the names that hyper-parameters have now."""
    hyper, method = stored.get("hyper"), stored.get("method")
    if isinstance(hyper, dict) and isinstance(method, str):
        stored["hyper"] = with_current_names(method, hyper)
    return stored


def _validation(
    config: ResolvedConfig, run: Run, dataset: BiasedDataset, evaluation: TrainingConfig, residency: str
) -> Validation | None:
    """The validations of `run` that `config` asks for, if any."""
    if config.validate is None:
        return None
    split = dataset.validation()
    return Validation(
        run=run,
        split=split,
        store=ImageStore(split.images, dataset.mean, dataset.std, run.runtime, residency),
        iterations=config.iterations,
        every=config.validate,
        networks=config.validate_networks or VALIDATE_NETWORKS,
        training=replace(evaluation, epochs=config.validate_epochs or evaluation.epochs),
        learned_rate=partial(config.algorithm.learned_rate, run),
        keeps_best=config.keep == "best",
    )


def _optimise(
    config: ResolvedConfig,
    run: Run,
    checkpoints: Checkpoints,
    validation: Validation | None,
    log: Callable[[str], None],
) -> History:
    algorithm, progress = config.algorithm, run.progress
    algorithm.prepare(run)
    if not config.iterations:
        return History(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    label = f"{config.method} {config.fairness} ipc {config.ipc}"
    every = max(1, config.iterations // HISTORY_POINTS)
    state = _start(config, run, checkpoints, every, validation)
    recorded_as = _history_name(run)
    # Points (iteration, loss, seconds) are only ever added: the columns that a state holds never change.
    points = state.tensors[recorded_as].shape[1]
    history = torch.zeros(3, config.iterations // every + 2, dtype=torch.float64)
    history[:, :points] = state.tensors[recorded_as]
    experts = _expert_digest(config, run)
    processes = run.runtime.processes
    work = (config.iterations - state.done) * algorithm.cost_per_iteration(run) / processes.world_size
    work += validation.cost if validation else 0
    progress.start(f"{label}, {config.iterations:,} iterations", work)
    watch = Stopwatch(state.seconds)
    last_finite = state  # of those that were checked
    checkpoints.update(state)

    def validated(state: State) -> State:
        """The `state` with its validation, where one is due."""
        if validation is None or not validation.due(state.done):
            return state
        words = validation.validate(state.done)
        progress.note(f"validation: {words}")
        log(f"validation after {state.done:,} iterations: {words}")
        state = State(state.done, watch.seconds(), {**state.tensors, **validation.tensors()})
        checkpoints.update(state)
        return state

    state = validated(state)
    for iteration in range(state.done, config.iterations):
        loss = run.runtime.retry_on_oom(
            run.real.images_per_step,
            partial(algorithm.step, run, iteration),
            partial(run.restore, state.tensors),
        )
        recorded = iteration % every == 0 or iteration == config.iterations - 1
        if recorded:
            value = float(processes.all_reduce(loss))
            if not math.isfinite(value) or not run.synthetic.finite:
                checkpoints.update(last_finite)
                raise DivergedError(
                    f"{label} diverged at iteration {iteration}: the loss is {value}; no output was written.",
                    "Lower the step size (-O learning_rate=…) or choose another --seed, and give --restart.",
                )
            history[:, points] = torch.tensor([iteration, value, watch.seconds()], dtype=torch.float64)
            points += 1
            progress.advance(0, value)
        kept = {**experts, **(validation.tensors() if validation else {})}
        state = State(iteration + 1, watch.seconds(), {**run.snapshot(), **kept, recorded_as: history[:, :points]})
        last_finite = state if recorded else last_finite
        checkpoints.update(state)
        state = validated(state)
    columns = history[:, :points].numpy().copy()
    validations = validation.history if validation else None
    return History(columns[0].astype(np.int64), columns[1], columns[2], run.subtracts_noise, validations)


def _history_name(run: Run) -> str:
    """What a checkpoint calls the history of `run`: "history" is one of losses with their noise."""
    return "history.unbiased" if run.subtracts_noise else "history"


def _start(
    config: ResolvedConfig, run: Run, checkpoints: Checkpoints, every: int, validation: Validation | None
) -> State:
    """The state to start from: that of `checkpoints`, to which `run` is brought, or the very first."""
    experts, found = _expert_digest(config, run), checkpoints.state
    if found is not None and "history" in found.tensors:
        run.subtracts_noise = False  # of version 0.1.0: one history has losses of one kind
    beside = {**experts, **(validation.tensors() if validation else {})}
    first = State(0, 0.0, {**run.snapshot(), **beside, _history_name(run): torch.zeros(3, 0, dtype=torch.float64)})
    if found is None:
        return first
    last = config.iterations - 1
    points = -(-found.done // every) + (found.done > last and last % every > 0)
    expected = {**first.tensors, _history_name(run): torch.zeros(3, points, dtype=torch.float64)}
    momenta = {momentum_of(name): leaf for name, leaf in run.synthetic.leaves.items()}
    expected |= {name: leaf for name, leaf in momenta.items() if name in found.tensors}
    if validation:
        expected |= validation.expected(found.tensors, found.done)
    checkpoints.check(expected, config.iterations)
    if any(not torch.equal(found.tensors[name], digest) for name, digest in experts.items()):
        raise UsageError(
            f"'{checkpoints.path}' is the checkpoint of a run with other experts than '{run.experts.path}' has.",
            "Give that run's with --experts to continue it, or give --restart to discard it.",
        )
    run.restore(found.tensors)
    if validation:
        validation.restore(found.tensors)
    return found


def _expert_digest(config: ResolvedConfig, run: Run) -> dict[str, Tensor]:
    """What a checkpoint says of the experts that the run uses, if any: the digest of their file, letter by letter."""
    if not config.needs_experts:
        return {}
    return {"experts": torch.tensor(list(run.experts.digest.encode()), dtype=torch.uint8)}
