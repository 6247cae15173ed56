"""The one loop that optimises synthetic images, whatever the method, the strategy and the sampling."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fairdd_cli.artifacts import STREAM, BiasedDataset, History, SyntheticSet
from fairdd_cli.checkpoints import Checkpoints, State
from fairdd_cli.errors import UsageError, WorkError, unknown
from fairdd_cli.fairness import STRATEGIES
from fairdd_cli.methods import METHODS
from fairdd_cli.methods._base import MethodBase, Problem
from fairdd_cli.networks import NetworkSpec
from fairdd_cli.runtime import ImageStore, Progress, Runtime, Stopwatch, Streams
from fairdd_cli.sampling import BATCH_REAL, SAMPLINGS
from fairdd_cli.synthetic import INITS, Synthetic, initialise

HISTORY_POINTS = 1000  # losses kept of a run, at most about twice as many


@dataclass(frozen=True)
class Plan:
    """What to distil, and how. Built by `make_plan`, which fills in what the user left open."""

    method: str
    hyper: MethodBase
    fairness: str
    sampling: str
    init: str
    ipc: int
    factor: int
    batch_real: int
    iterations: int
    network: NetworkSpec
    seed: int

    def options(self) -> dict[str, object]:
        """Every choice, for the file's record."""
        chosen = {name: getattr(self, name) for name in ("method", "fairness", "sampling", "init", "ipc", "factor")}
        rest = {"batch_real": self.batch_real, "iterations": self.iterations, "network": str(self.network)}
        return {**chosen, **rest, "hyper": asdict(self.hyper)}


def make_plan(
    method: str,
    *,
    fairness: str,
    sampling: str | None,
    init: str | None,
    ipc: int,
    factor: int,
    batch_real: int | None,
    iterations: int | None,
    network: NetworkSpec,
    seed: int,
    options: dict[str, str],
) -> Plan:
    """The plan with the method's own values for what is None; raises UsageError for what is unknown or senseless.

    A strategy that uses groups starts from images of every group and samples the cells evenly; without groups both
    follow the data.
    """
    name = METHODS.canonical(method)
    hyper: MethodBase = METHODS.load(name).Method.for_ipc(ipc).with_options(options)
    if fairness not in STRATEGIES:
        raise unknown("fairness strategy", fairness, STRATEGIES)
    fair = STRATEGIES[fairness].uses_groups
    if fairness != "vanilla" and not hyper.matches:
        raise UsageError(
            f"method '{name}' matches nothing, so --fairness {fairness} has no meaning for it; "
            "use --init balanced for a sample that is even over the groups"
        )
    sampling = sampling or ("balanced" if fair else "proportional")
    init = init or ("balanced" if fair else "real")
    if sampling not in SAMPLINGS:
        raise unknown("sampling", sampling, SAMPLINGS)
    if init not in INITS:
        raise unknown("initialisation", init, INITS)
    return Plan(
        method=name,
        hyper=hyper,
        fairness=fairness,
        sampling=sampling,
        init=init,
        ipc=ipc,
        factor=factor,
        batch_real=batch_real or BATCH_REAL[sampling],
        iterations=hyper.iterations if iterations is None else iterations,
        network=network,
        seed=seed,
    )


def check_plan(plan: Plan, dataset: BiasedDataset) -> None:
    """Raises UsageError where `plan` asks of `dataset` what it doesn't have."""
    smallest = int(dataset.train.count.sum(axis=1).min())
    label = int(dataset.train.count.sum(axis=1).argmin())
    images = plan.ipc * plan.factor**2
    if images > smallest:
        raise UsageError(
            f"--ipc {plan.ipc} with --factor {plan.factor} needs {images} images of each class, but "
            f"class '{dataset.class_names[label]}' of '{dataset.path}' has {smallest}; lower it"
        )
    if plan.factor > min(dataset.shape[1:]) // 4:
        raise UsageError(f"--factor {plan.factor} leaves tiles under 4 pixels of {dataset.shape[1]}x{dataset.shape[2]}")
    plan.network.build(dataset.shape, dataset.classes)  # refuses images that it cannot take


def distill(
    plan: Plan,
    dataset: BiasedDataset,
    runtime: Runtime,
    progress: Progress,
    residency: str = "auto",
    log: Callable[[str], None] = lambda line: None,
    checkpoints: Checkpoints | None = None,
) -> SyntheticSet:
    """Runs `plan`, which `check_plan` accepted, on `dataset`, from the state of `checkpoints` if that has one.

    Raises WorkError when it diverges.
    """
    streams = Streams(plan.seed)
    store = ImageStore(dataset.train.images, dataset.mean, dataset.std, runtime, residency)
    log(f"{runtime.describe()}; images in {store.residency}; {plan.options()}")
    images = initialise(plan.init, dataset.train, store, dataset.classes, plan.ipc, plan.factor, streams)
    flips = bool(dataset.options.get("mirror", True))
    problem = Problem(
        runtime=runtime,
        streams=streams,
        split=dataset.train,
        store=store,
        synthetic=Synthetic(runtime.to_device(images), dataset.classes, plan.ipc, plan.factor),
        strategy=STRATEGIES[plan.fairness],
        sampling=SAMPLINGS[plan.sampling],
        batch_real=plan.batch_real,
        network=plan.network,
        progress=progress,
        flips=flips,
    )
    history = _optimise(plan, problem, checkpoints or Checkpoints())
    evaluation = replace(plan.hyper.evaluation, augmentation=problem.operations(plan.hyper.evaluation.augmentation))
    return SyntheticSet(
        images=problem.synthetic.images.detach().cpu().numpy(),
        labels=problem.synthetic.labels.numpy(),
        history=history,
        method=plan.method,
        fairness=plan.fairness,
        sampling=plan.sampling,
        ipc=plan.ipc,
        iterations=plan.iterations,
        network=str(plan.network),
        factor=plan.factor,
        learning_rate=0.0,
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        evaluation=evaluation.to_json(),
        dataset=dataset.name,
        dataset_path="" if dataset.path == STREAM else str(Path(dataset.path).absolute()),
        dataset_digest=dataset.digest,
        options=plan.options(),
        seed=plan.seed,
    )


def task(plan: Plan, dataset: BiasedDataset, runtime: Runtime) -> dict[str, object]:
    """All that the outcome of `plan` on `dataset` depends on, but for its seed: what a checkpoint is of."""
    machine = {"device": runtime.device.type, "precision": runtime.precision}
    return {"command": "distill", "data set": dataset.digest, **plan.options(), **machine}


def _optimise(plan: Plan, problem: Problem, checkpoints: Checkpoints) -> History:
    if not plan.iterations:
        return History(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    hyper, progress = plan.hyper, problem.progress
    hyper.prepare(problem)
    label = f"{plan.method} {plan.fairness} ipc {plan.ipc}"
    every = max(1, plan.iterations // HISTORY_POINTS)
    state = _start(plan, problem, checkpoints, every)
    # Points (iteration, loss, seconds) are only ever added: the columns that a state holds never change.
    points = state.tensors["history"].shape[1]
    history = torch.zeros(3, plan.iterations // every + 2, dtype=torch.float64)
    history[:, :points] = state.tensors["history"]
    progress.start(f"{label}, {plan.iterations:,} iterations", (plan.iterations - state.done) * hyper.work(problem))
    watch = Stopwatch(state.seconds)
    sound = state  # the latest that was looked at and found to be finite
    checkpoints.keep(state)
    for iteration in range(state.done, plan.iterations):
        loss = problem.runtime.within_memory(
            problem.real_images,
            partial(hyper.step, problem, iteration),
            partial(problem.restore, state.tensors),
        )
        looked_at = iteration % every == 0 or iteration == plan.iterations - 1
        if looked_at:
            value = float(loss)
            if not math.isfinite(value) or not torch.isfinite(problem.synthetic.images).all():
                checkpoints.keep(sound)
                raise WorkError(
                    f"{label} diverged at iteration {iteration}: the loss is {value}; no output was written.\n"
                    "Lower the step size (-O learning_rate=…) or choose another --seed."
                )
            history[:, points] = torch.tensor([iteration, value, watch.seconds()], dtype=torch.float64)
            points += 1
            progress.advance(0, value)
        state = State(iteration + 1, watch.seconds(), {**problem.snapshot(), "history": history[:, :points]})
        sound = state if looked_at else sound
        checkpoints.keep(state)
    columns = history[:, :points].numpy().copy()
    return History(columns[0].astype(np.int64), columns[1], columns[2])


def _start(plan: Plan, problem: Problem, checkpoints: Checkpoints, every: int) -> State:
    """The state to start from: that of `checkpoints`, to which `problem` is brought, or the very first."""
    first = State(0, 0.0, {**problem.snapshot(), "history": torch.zeros(3, 0, dtype=torch.float64)})
    if checkpoints.state is None:
        return first
    found, last = checkpoints.state, plan.iterations - 1
    points = -(-found.done // every) + (found.done > last and last % every > 0)
    expected = {**first.tensors, "history": torch.zeros(3, points, dtype=torch.float64)}
    if "momentum" in found.tensors:
        expected["momentum"] = first.tensors["images"]
    checkpoints.check(expected, plan.iterations)
    problem.restore(found.tensors)
    return found
