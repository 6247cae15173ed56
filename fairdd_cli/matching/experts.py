"""Experts for trajectory matching: networks trained on real images, made on first use and kept in a file."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Experts, lock_output, read_experts, remove_parts, write_experts
from fairdd_cli.errors import UsageError
from fairdd_cli.matching.problem import Problem
from fairdd_cli.networks import fusible_values
from fairdd_cli.runtime import Checkpoints, State
from fairdd_cli.training import Subset, TrainingConfig, fit, parameter_vector, set_parameters

Part = tuple[tuple[int, int], Checkpoints]  # (target, expert) and where it is kept while all of them are made
Weighted = tuple[np.ndarray, np.ndarray]  # image indices int64 [n] and their weights [n], which sum to one


def obtained(
    path: str,
    origin: Mapping[str, Any],
    experts: int,
    training: TrainingConfig,
    problem: Problem,
    checkpoints: Checkpoints | None = None,
) -> Experts:
    """The experts in the file `path`, made now if there is none: `experts` for each target, by `training`.

    `origin` says of what data and by which options they must be. Raises UsageError where those in the file were
    made otherwise. While they are made, each is kept in a checkpoint of its own, if the run has `checkpoints`.
    """
    wanted = {**origin, "experts": experts, **{f"expert_{key}": value for key, value in training.to_json().items()}}
    processes = problem.runtime.processes
    device = problem.runtime.device
    if processes.all_reduce(torch.tensor(float(processes.is_main and not Path(path).exists()), device=device)):
        targets = expert_targets(problem)
        parameters = len(parameter_vector(problem.fresh_network()))
        shape = (len(targets) * experts, training.epochs + 1, parameters)
        every = [(target, expert) for target in range(len(targets)) for expert in range(experts)]
        beside = (checkpoints or Checkpoints()).child
        with lock_output(path) if processes.is_main else nullcontext():
            parts = [(key, beside(f"{path}.{key[0]}-{key[1]}", {**wanted, "part": list(key)})) for key in every]
            made = _trajectories(targets, parts, training, problem)
            if processes.is_main:
                write_experts(path, wanted, problem.streams.seed, len(targets), shape, made)
            else:
                deque(made, maxlen=0)
            float(processes.all_reduce(torch.zeros((), device=device)))  # waited for: the file is there from here on
    found = read_experts(path)
    if processes.is_main:
        names = [f"{target}-{expert}" for target in range(found.targets) for expert in range(found.experts)]
        remove_parts(path, names)  # a run that was killed may have left some
    for name, value in wanted.items():
        if found.provenance.get(name) != value:
            raise UsageError(
                f"the experts in '{path}' were made with {name} {_shown(found.provenance.get(name))}, but this run "
                f"needs {_shown(value)}; name another file with --experts, and they are made"
            )
    return found


def _shown(value: object) -> str:
    return str(value)[:60]


def expert_targets(problem: Problem) -> list[Weighted]:
    """For each target of the strategy the images that its experts are trained on, over all classes, and their weights.

    A class counts by its size, and its images by the strategy's weights for the whole class. A class with fewer
    targets than another gives its own in turn.
    """
    split = problem.split
    of_class = []
    for label in range(problem.classes):
        members = split.start[label, 0] + np.arange(split.count[label].sum())
        targets = problem.strategy.assign_targets(split.protected[members], problem.sample_weights[members])
        of_class.append((members, targets))
    found = []
    for target in range(max(targets.num_targets for _, targets in of_class)):
        indices, weights = [], []
        for members, targets in of_class:
            of_target = targets.target == target % targets.num_targets
            indices.append(members[of_target])
            weights.append(targets.weight[of_target] * len(members) / len(split))
        found.append((np.concatenate(indices), np.concatenate(weights).astype(np.float64)))
    return found


def spread(weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions int64 [n] in `weights` [n], each as often as its weight says, up to one: systematic resampling.

    Equal weights give every position once, an ordinary epoch.
    """
    edges = np.cumsum(weights) / weights.sum()
    points = (generator.random() + np.arange(len(weights))) / len(weights)
    return np.searchsorted(edges, points, side="right").clip(max=len(weights) - 1)


def _trajectories(
    targets: list[Weighted], parts: Sequence[Part], training: TrainingConfig, problem: Problem
) -> Iterator[np.ndarray]:
    """The trajectory float32 [1, epochs + 1, parameters] of each of `parts`."""
    sizes = [len(targets[target][0]) for (target, _), _ in parts]
    done = [kept.state.done if kept.state else 0 for _, kept in parts]
    values = training.epochs * sum(sizes) * fusible_values(problem.fresh_network(), problem.store.shape[1:])
    problem.runtime.decide_compiling(values)
    left = sum(size * (training.epochs - epochs) for size, epochs in zip(sizes, done, strict=True))
    shared = left / problem.runtime.processes.world_size
    problem.progress.start(f"{len(parts)} experts of {training.epochs} epochs", shared)
    processes, device = problem.runtime.processes, problem.runtime.device
    for start in range(0, len(parts), processes.world_size):
        at_a_time = parts[start : start + processes.world_size]
        mine = torch.zeros(training.epochs + 1, len(parameter_vector(problem.fresh_network())), device=device)
        if processes.rank < len(at_a_time):
            key, checkpoints = at_a_time[processes.rank]
            mine = _trajectory(*targets[key[0]], key, training, problem, checkpoints)
        for owner in range(len(at_a_time)):
            whole = processes.all_reduce(mine.clone() if processes.rank == owner else torch.zeros_like(mine))
            yield whole.cpu().numpy()[None]


def _trajectory(
    indices: np.ndarray,
    weights: np.ndarray,
    key: tuple[int, int],
    training: TrainingConfig,
    problem: Problem,
    checkpoints: Checkpoints,
) -> Tensor:
    """The parameters [epochs + 1, P] of an expert before and after each epoch; continues from `checkpoints`.

    Momentum, where there is any, begins anew with each epoch.
    """
    one, alone = replace(training, epochs=1), problem.runtime.without_group()
    network = problem.fresh_network(key[1])
    points = [parameter_vector(network)]
    if checkpoints.state:
        done = checkpoints.state.done
        checkpoints.check({"points": torch.zeros(done + 1, len(points[0]))}, training.epochs)
        points = list(checkpoints.state.tensors["points"].to(alone.device))
        set_parameters(network, points[-1])
    try:
        for epoch in range(len(points) - 1, training.epochs):
            drawn = indices[spread(weights, problem.streams.numpy("experts", *key, epoch))]
            labels = alone.to_device(problem.split.labels[drawn])
            images = Subset(problem.store, drawn)
            fit(network, images, labels, one, alone, problem.streams, (*key, epoch), problem.progress)
            points.append(parameter_vector(network))
            checkpoints.update(State(epoch + 1, 0.0, {"points": torch.stack(points)}))
    finally:
        checkpoints.write()  # a finished one, too, until all of them are in their file
    return torch.stack(points)
