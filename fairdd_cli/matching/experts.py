"""Experts: networks trained on real images, made on first use and kept in a file; mtt, dance, --trained-networks."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Experts, check_target, lock_output, read_experts, remove_parts, write_experts
from fairdd_cli.errors import UsageError
from fairdd_cli.matching.real import RealData
from fairdd_cli.matching.run import Run
from fairdd_cli.networks import fusible_values
from fairdd_cli.runtime import Checkpoints, State
from fairdd_cli.training import (
    Subset,
    TrainingConfig,
    even_shares,
    fit,
    parameter_vector,
    set_parameters,
    systematic_resample,
)

Part = tuple[tuple[int, int], Checkpoints]  # (target, expert) and where it is kept while all of them are made
Weighted = tuple[np.ndarray, np.ndarray]  # image indices int64 [n] and their weights [n], which sum to one


@dataclass(frozen=True)
class ExpertSpec:
    """Which experts a run needs: `number` of each target, trained by `training`, in the file `path`.

    `origin` says from which data and by which options they must be made, `targets` on which images each is trained.
    With `ends_only` the file holds their parameters before and after training, not those after each epoch.
    """

    path: str
    origin: Mapping[str, Any]
    number: int
    training: TrainingConfig
    targets: Callable[[RealData], list[Weighted]]
    ends_only: bool = False

    @property
    def required(self) -> dict[str, Any]:
        """What a file of such experts says of itself."""
        training = {f"expert_{key}": value for key, value in self.training.to_json().items()}
        return {**self.origin, "experts": self.number, **training}

    def exists(self) -> bool:
        """Whether the file is there."""
        return os.path.exists(self.path)  # noqa: PTH110  # not for a name too long, at which Path's raises

    def check(self) -> None:
        """Raises UsageError where the file was made otherwise or, if it is not there, cannot be written."""
        if self.exists():
            self.read()
            return
        try:
            check_target(self.path, force=True)
        except UsageError as error:
            raise UsageError(f"{error}; name the file of the experts with --experts") from error

    def read(self) -> Experts:
        """The experts in the file; raises UsageError where they were made otherwise."""
        experts = read_experts(self.path)
        for name, value in self.required.items():
            if experts.provenance.get(name) != value:
                raise UsageError(
                    f"the experts in '{self.path}' were made with {name} {_shown(experts.provenance.get(name))}, but "
                    f"this run needs {_shown(value)}; name another file with --experts, and they are made"
                )
        return experts


def load_or_train_experts(spec: ExpertSpec, run: Run, checkpoints: Checkpoints | None = None) -> Experts:
    """The experts of `spec`: those in its file, or trained now and written there.

    While they are trained, each is kept in a checkpoint of its own, if the run has `checkpoints`.
    """
    processes, device = run.runtime.processes, run.runtime.device
    missing = torch.tensor(float(processes.is_main and not spec.exists()), device=device)
    if processes.all_reduce(missing):
        targets = spec.targets(run.real)
        parameters = len(parameter_vector(run.networks.fresh()))
        kept = 2 if spec.ends_only else spec.training.epochs + 1
        shape = (len(targets) * spec.number, kept, parameters)
        keys = [(target, expert) for target in range(len(targets)) for expert in range(spec.number)]
        child = (checkpoints or Checkpoints()).child
        with lock_output(spec.path) if processes.is_main else nullcontext():
            parts = [
                (key, child(f"{spec.path}.{key[0]}-{key[1]}", {**spec.required, "part": list(key)})) for key in keys
            ]
            trajectories = train_trajectories(targets, parts, spec.training, run, spec.ends_only)
            if processes.is_main:
                write_experts(spec.path, spec.required, run.streams.seed, len(targets), shape, trajectories)
            else:
                deque(trajectories, maxlen=0)
            float(processes.all_reduce(torch.zeros((), device=device)))  # all ranks wait until the file is there
    experts = spec.read()
    if processes.is_main:
        names = [f"{target}-{expert}" for target in range(experts.targets) for expert in range(experts.experts)]
        remove_parts(spec.path, names)  # a run that was killed may have left some
    return experts


def _shown(value: object) -> str:
    return str(value)[:60]


def expert_targets(real: RealData) -> list[Weighted]:
    """For each target of the strategy the images that its experts are trained on, over all classes, and their weights.

    A class counts by its size, and its images by the strategy's weights for the whole class. A class with fewer
    targets than another gives its own in turn.
    """
    split = real.split
    of_class = []
    for label in range(real.num_classes):
        members = split.start[label, 0] + np.arange(split.count[label].sum())
        targets = real.strategy.assign_targets(split.protected[members], real.sample_weights[members])
        of_class.append((members, targets))
    by_target = []
    for target in range(max(targets.num_targets for _, targets in of_class)):
        indices, weights = [], []
        for members, targets in of_class:
            of_target = targets.target == target % targets.num_targets
            indices.append(members[of_target])
            weights.append(targets.weight[of_target] * len(members) / len(split))
        by_target.append((np.concatenate(indices), np.concatenate(weights).astype(np.float64)))
    return by_target


def all_images(real: RealData) -> list[Weighted]:
    """All training images, as they are."""
    return [(np.arange(len(real.split)), np.full(len(real.split), 1 / len(real.split)))]


def even_cells(real: RealData) -> list[Weighted]:
    """All training images, weighted so that the cells of a class count the same, and classes by their size."""
    return [(np.arange(len(real.split)), even_shares(real.split))]


def train_trajectories(
    targets: list[Weighted], parts: Sequence[Part], training: TrainingConfig, run: Run, ends_only: bool = False
) -> Iterator[np.ndarray]:
    """The trajectory float32 [1, epochs + 1, parameters] of each of `parts`, or its two ends [1, 2, parameters]."""
    sizes = [len(targets[target][0]) for (target, _), _ in parts]
    done = [checkpoints.state.done if checkpoints.state else 0 for _, checkpoints in parts]
    values = training.epochs * sum(sizes) * fusible_values(run.networks.fresh(), run.real.store.shape[1:])
    run.runtime.decide_compiling(values)
    left = sum(size * (training.epochs - epochs) for size, epochs in zip(sizes, done, strict=True))
    per_rank = left / run.runtime.processes.world_size
    run.progress.start(f"{len(parts)} experts of {training.epochs} epochs", per_rank)
    processes, device = run.runtime.processes, run.runtime.device
    kept = [0, training.epochs] if ends_only else list(range(training.epochs + 1))
    for start in range(0, len(parts), processes.world_size):
        one_a_rank = parts[start : start + processes.world_size]
        trajectory = torch.zeros(len(kept), len(parameter_vector(run.networks.fresh())), device=device)
        if processes.rank < len(one_a_rank):
            key, checkpoints = one_a_rank[processes.rank]
            trajectory = _trajectory(*targets[key[0]], key, training, run, checkpoints)[kept]
        for owner in range(len(one_a_rank)):
            own = trajectory.clone() if processes.rank == owner else torch.zeros_like(trajectory)
            yield processes.all_reduce(own).cpu().numpy()[None]


def _trajectory(
    indices: np.ndarray,
    weights: np.ndarray,
    key: tuple[int, int],
    training: TrainingConfig,
    run: Run,
    checkpoints: Checkpoints,
) -> Tensor:
    """The parameters [epochs + 1, P] of an expert before and after each epoch; continues from `checkpoints`.

    Momentum, where there is any, begins anew with each epoch.
    """
    alone = run.runtime.without_group()
    network = run.networks.fresh(key[1])
    points = [parameter_vector(network)]
    if checkpoints.state:
        done = checkpoints.state.done
        checkpoints.check({"points": torch.zeros(done + 1, len(points[0]))}, training.epochs)
        points = list(checkpoints.state.tensors["points"].to(alone.device))
        set_parameters(network, points[-1])
    try:
        for epoch in range(len(points) - 1, training.epochs):
            sampled = indices[systematic_resample(weights, run.streams.numpy("experts", *key, epoch))]
            labels = alone.to_device(run.real.split.labels[sampled])
            images = Subset(run.real.store, sampled)
            this_epoch = replace(training, epochs=1, learning_rate=training.learning_rate_at(epoch), lr_milestones=())
            fit(network, images, labels, this_epoch, alone, run.streams, (*key, epoch), run.progress)
            points.append(parameter_vector(network))
            checkpoints.update(State(epoch + 1, 0.0, {"points": torch.stack(points)}))
    finally:
        checkpoints.write()  # a finished one, too, until all of them are in their file
    return torch.stack(points)
