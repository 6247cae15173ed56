"""The one loop that optimises synthetic images, whatever the method, the strategy and the sampling."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import STREAM, BiasedDataset, History, Split, SyntheticSet, stem_of
from fairdd_cli.errors import DivergedError, UsageError, unknown
from fairdd_cli.fairness._base import find_strategy
from fairdd_cli.matching.experts import obtained
from fairdd_cli.matching.groups import noisy, parse_groups, pseudo
from fairdd_cli.matching.problem import Problem
from fairdd_cli.matching.sampling import SAMPLINGS
from fairdd_cli.matching.synthetic import INITS, Synthetic, initialise
from fairdd_cli.methods import METHODS
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.networks import NetworkSpec, fusible_values
from fairdd_cli.runtime import Checkpoints, ImageStore, Progress, Runtime, State, Stopwatch, Streams
from fairdd_cli.training import FeatureExtractor

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
    groups: str = "labels"
    group_noise: float = 0.0
    experts: str = ""  # their file; '' is beside the data set

    def options(self) -> dict[str, object]:
        """Every choice, for the file's record."""
        chosen = {name: getattr(self, name) for name in ("method", "fairness", "sampling", "init", "ipc", "factor")}
        rest: dict[str, object] = {"batch_real": self.batch_real} if self.hyper.samples else {}
        rest |= {"iterations": self.iterations, "network": str(self.network)}
        rest |= {"groups": self.groups, "group_noise": self.group_noise}
        return {**chosen, **rest, "hyper": asdict(self.hyper)}

    def expert_origin(self, dataset: BiasedDataset) -> dict[str, object]:
        """What experts depend on beside their training."""
        origin = {"dataset": dataset.name, "dataset_digest": dataset.digest, "network": str(self.network)}
        groups = {"groups": self.groups, "group_noise": self.group_noise}
        drawn = self.group_noise or parse_groups(self.groups)  # by the seed, which other experts don't depend on
        return {**origin, "fairness": self.fairness, **groups, "groups_seed": self.seed if drawn else None}


def make_plan(
    method: str,
    *,
    fairness: str,
    ipc: int,
    network: NetworkSpec,
    options: dict[str, str],
    seed: int = 0,
    sampling: str | None = None,
    init: str | None = None,
    factor: int | None = None,
    batch_real: int | None = None,
    iterations: int | None = None,
    groups: str = "labels",
    group_noise: float = 0.0,
    experts: str = "",
) -> Plan:
    """The plan with the method's own values for what is None; raises UsageError for what is unknown or senseless.

    A strategy that uses groups starts from images of every group and samples the cells evenly; without groups both
    follow the data.
    """
    name = METHODS.canonical(method)
    hyper: MethodBase = METHODS.load(name).Method.for_ipc(ipc).with_options(options)
    strategy = find_strategy(fairness)
    fair = strategy.uses_groups
    if fairness != "vanilla" and not hyper.matches:
        raise UsageError(
            f"method '{name}' matches nothing, so --fairness {fairness} has no meaning for it; "
            "use --init balanced for a sample that is even over the groups"
        )
    even = fair and not strategy.reweights_samples and hyper.samples
    sampling = sampling or ("balanced" if even else "proportional")
    init = init or hyper.init or ("balanced" if fair else "real")
    if sampling not in SAMPLINGS:
        raise unknown("sampling", sampling, SAMPLINGS)
    if init not in INITS:
        raise unknown("initialisation", init, INITS)
    if sampling == "balanced" and strategy.reweights_samples:
        raise UsageError(
            f"--fairness {fairness} weighs images against how often their like occurs, which --sampling balanced has "
            "evened out already; use --sampling proportional, or --fairness barycenter"
        )
    if sampling != "proportional" and not hyper.samples:
        raise UsageError(f"method '{name}' draws no real batches, so --sampling {sampling} has no meaning for it")
    if batch_real and not hyper.samples:
        raise UsageError(f"method '{name}' draws no real batches, so --batch-real has no meaning for it")
    if experts and not hyper.uses_experts:
        raise UsageError(f"method '{name}' uses no experts, so --experts has no meaning for it")
    if (parse_groups(groups) or group_noise) and not fair and "balanced" not in (sampling, init):
        raise UsageError(
            f"nothing here looks at groups, so {'--group-noise' if group_noise else '--groups'} has no meaning: "
            "--fairness, --sampling and --init all leave them out"
        )
    return Plan(
        method=name,
        hyper=hyper,
        fairness=fairness,
        sampling=sampling,
        init=init,
        ipc=ipc,
        factor=factor or hyper.factor,
        batch_real=batch_real or hyper.batch_real[sampling],
        iterations=hyper.iterations if iterations is None else iterations,
        network=network,
        seed=seed,
        groups=groups,
        group_noise=group_noise,
        experts=experts,
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
    if plan.hyper.uses_experts and dataset.path == STREAM and not plan.experts:
        raise UsageError("give --experts FILE when the data set comes from standard input")
    if plan.factor > min(dataset.shape[1:]) // 4:
        raise UsageError(f"--factor {plan.factor} leaves tiles under 4 pixels of {dataset.shape[1]}x{dataset.shape[2]}")
    network = plan.network.build(dataset.shape, dataset.classes)  # which refuses images that it cannot take
    if reason := plan.hyper.objection(network):
        raise UsageError(f"method '{plan.method}' cannot use network '{plan.network}': {reason}")


def make_problem(
    plan: Plan,
    dataset: BiasedDataset,
    runtime: Runtime,
    progress: Progress,
    residency: str = "auto",
    log: Callable[[str], None] = lambda line: None,
    checkpoints: Checkpoints | None = None,
) -> Problem:
    """All that a method needs to begin `plan` on `dataset`, the first images and experts included."""
    streams, strategy = Streams(plan.seed), find_strategy(plan.fairness)
    runtime.set_image_size(*dataset.shape[1:])

    def described(split: Split) -> tuple[ImageStore, FeatureExtractor]:
        store = ImageStore(split.images, dataset.mean, dataset.std, runtime, residency)
        # By each process itself: clusters magnify the last bit in which shared sums differ.
        alone = runtime.without_group()
        return store, FeatureExtractor(alone, streams, split, store, plan.network, dataset.classes, progress)

    split = dataset.train
    if clusters := parse_groups(plan.groups):
        split = pseudo(split, clusters, described(split)[1], streams, runtime.broadcast)
    if plan.group_noise:
        split = noisy(split, plan.group_noise, streams)
    store, description = described(split)
    log(f"{runtime.describe()}; images in {store.residency}; {plan.options()}")
    start = (plan.init, split, store, dataset.classes, plan.ipc, plan.factor, streams)
    images = initialise(*start, description, by_cell=strategy.uses_groups)
    problem = Problem(
        runtime=runtime,
        streams=streams,
        split=split,
        store=store,
        synthetic=Synthetic(runtime.broadcast(runtime.to_device(images)), dataset.classes, plan.ipc, plan.factor),
        strategy=strategy,
        sampling=SAMPLINGS[plan.sampling],
        batch_real=plan.batch_real,
        network=plan.network,
        progress=progress,
        flips=dataset.mirror_keeps_class,
        sample_weights=runtime.broadcast(strategy.sample_weights(split, description)),
    )
    if plan.hyper.uses_experts:
        path = plan.experts or f"{stem_of(dataset.path)}.experts-{plan.fairness}.h5"
        experts, training = plan.hyper.expert_training(problem)
        problem.experts = obtained(path, plan.expert_origin(dataset), experts, training, problem, checkpoints)
    return problem


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
    plan = replace(plan, hyper=plan.hyper.for_data(dataset, plan.ipc))
    problem = make_problem(plan, dataset, runtime, progress, residency, log, checkpoints)
    passes = plan.iterations * plan.hyper.work(problem)
    log(runtime.decide_compiling(passes * fusible_values(problem.fresh_network(), dataset.shape)))
    processes, before = runtime.processes, problem.sent
    history = _optimise(plan, problem, checkpoints or Checkpoints())
    if processes.world_size > 1:
        sent = (problem.sent - before) / max(1, plan.iterations)
        log(f"{processes.world_size} processes; each summed {sent:,.0f} bytes a step with the others")
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
        learning_rate=plan.hyper.learned_rate(problem),
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        evaluation=evaluation.to_json(),
        dataset=dataset.name,
        dataset_path="" if dataset.path == STREAM else str(Path(dataset.path).absolute()),
        dataset_digest=dataset.digest,
        options={**plan.options(), **({"experts": problem.experts.digest} if plan.hyper.uses_experts else {})},
        seed=plan.seed,
    )


def task(plan: Plan, dataset: BiasedDataset, runtime: Runtime) -> dict[str, object]:
    """All that the outcome of `plan` on `dataset` depends on, but for its seed: what a checkpoint is of."""
    machine = {"device": runtime.device.type, "precision": runtime.precision, "compile": runtime.compiles}
    return {"command": "distill", "data set": dataset.digest, **plan.options(), **machine}


def _optimise(plan: Plan, problem: Problem, checkpoints: Checkpoints) -> History:
    hyper, progress = plan.hyper, problem.progress
    hyper.prepare(problem)
    if not plan.iterations:
        return History(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    label = f"{plan.method} {plan.fairness} ipc {plan.ipc}"
    every = max(1, plan.iterations // HISTORY_POINTS)
    state = _start(plan, problem, checkpoints, every)
    # Points (iteration, loss, seconds) are only ever added: the columns that a state holds never change.
    points = state.tensors["history"].shape[1]
    history = torch.zeros(3, plan.iterations // every + 2, dtype=torch.float64)
    history[:, :points] = state.tensors["history"]
    experts = _experts(plan, problem)
    processes = problem.runtime.processes
    work = (plan.iterations - state.done) * hyper.work(problem) / processes.world_size
    progress.start(f"{label}, {plan.iterations:,} iterations", work)
    watch = Stopwatch(state.seconds)
    sound = state  # the latest that was looked at and found to be finite
    checkpoints.update(state)
    for iteration in range(state.done, plan.iterations):
        loss = problem.runtime.retry_on_oom(
            problem.real_images,
            partial(hyper.step, problem, iteration),
            partial(problem.restore, state.tensors),
        )
        looked_at = iteration % every == 0 or iteration == plan.iterations - 1
        if looked_at:
            value = float(processes.all_reduce(loss))
            if not math.isfinite(value) or not torch.isfinite(problem.synthetic.images).all():
                checkpoints.update(sound)
                raise DivergedError(
                    f"{label} diverged at iteration {iteration}: the loss is {value}; no output was written.\n"
                    "Lower the step size (-O learning_rate=…) or choose another --seed, and give --restart."
                )
            history[:, points] = torch.tensor([iteration, value, watch.seconds()], dtype=torch.float64)
            points += 1
            progress.advance(0, value)
        state = State(iteration + 1, watch.seconds(), {**problem.snapshot(), **experts, "history": history[:, :points]})
        sound = state if looked_at else sound
        checkpoints.update(state)
    columns = history[:, :points].numpy().copy()
    return History(columns[0].astype(np.int64), columns[1], columns[2])


def _start(plan: Plan, problem: Problem, checkpoints: Checkpoints, every: int) -> State:
    """The state to start from: that of `checkpoints`, to which `problem` is brought, or the very first."""
    experts = _experts(plan, problem)
    first = State(0, 0.0, {**problem.snapshot(), **experts, "history": torch.zeros(3, 0, dtype=torch.float64)})
    if checkpoints.state is None:
        return first
    found, last = checkpoints.state, plan.iterations - 1
    points = -(-found.done // every) + (found.done > last and last % every > 0)
    expected = {**first.tensors, "history": torch.zeros(3, points, dtype=torch.float64)}
    if "momentum" in found.tensors:
        expected["momentum"] = first.tensors["images"]
    checkpoints.check(expected, plan.iterations)
    if any(not torch.equal(found.tensors[name], digest) for name, digest in experts.items()):
        raise UsageError(
            f"'{checkpoints.path}' is the checkpoint of a run with other experts than '{problem.experts.path}' has.\n"
            "Give that run's with --experts to continue it, or give --restart to discard it."
        )
    problem.restore(found.tensors)
    return found


def _experts(plan: Plan, problem: Problem) -> dict[str, Tensor]:
    """What a checkpoint says of the experts that the run uses, if any: the digest of their file, letter by letter."""
    if not plan.hyper.uses_experts:
        return {}
    return {"experts": torch.tensor(list(problem.experts.digest.encode()), dtype=torch.uint8)}
