"""Validation: what the synthetic set is worth while it is distilled, by quick networks tested on held-out images.

Nothing of it reaches the distillation: every draw has a key of its own, and the images are only read. Each validation
trains networks of the same initialisations with the same order and augmentation, so that two of them differ by what
the images have become and not by their draws.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from fairdd_cli.artifacts import Split, ValidationHistory
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.synthetic import MOMENTUM
from fairdd_cli.metrics import in_words
from fairdd_cli.runtime import ImageStore
from fairdd_cli.training import TrainingConfig, Trials, decoded_images

CORRECT, BEST = "validation", "best."  # what a checkpoint calls the counts, and starts the names of the best state with


@dataclass
class Validation:
    """The validations of a `run` of `iterations`: before the first, after every `every` of them, and after the last.

    `networks` networks are trained as `training` says, at the learning rate that the method has learned if it learns
    any (else 0), and tested on `split`, whose images are in `store`. With `keeps_best` the state of the run with the
    highest score stays at hand.
    """

    run: Run
    split: Split
    store: ImageStore
    iterations: int
    every: int
    networks: int
    training: TrainingConfig
    learned_rate: Callable[[], float]
    keeps_best: bool
    correct: Tensor = field(init=False)  # int64 [V, networks, classes, groups], test images of each cell
    best: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.correct = torch.zeros(0, self.networks, *self.split.count.shape, dtype=torch.int64)

    def due(self, done: int) -> bool:
        """Whether the set is to be validated after `done` iterations, and has not been yet."""
        return len(self.correct) < self._points(done)

    @property
    def cost(self) -> float:
        """Image passes, on this rank, of the validations that are still to come."""
        missing = self._points(self.iterations) - len(self.correct)
        return missing * self.networks * self._trials().cost / self.run.runtime.processes.world_size

    @property
    def history(self) -> ValidationHistory:
        """The results so far."""
        done = np.minimum(np.arange(len(self.correct)) * self.every, self.iterations)
        return ValidationHistory(done, self.correct.numpy(), self.split.count)

    def validate(self, done: int) -> str:
        """Validates the set as it is after `done` iterations; returns the result in words."""
        trials, runtime = self._trials(), self.run.runtime
        counts = torch.zeros(self.correct.shape[1:], dtype=torch.int64)
        for number in range(runtime.processes.rank, self.networks, runtime.processes.world_size):
            table = trials.test(trials.train(self.run.networks.spec, number))
            counts[number] = table.diagonal(dim1=0, dim2=2).T  # [groups, classes] before
        counts = runtime.processes.all_reduce(runtime.to_device(counts)).cpu()
        self.correct = torch.cat([self.correct, counts[None]])
        if self.keeps_best and self.history.best == len(self.correct) - 1:
            self.best = self._state()
        return in_words(counts.numpy(), self.split.count)

    def keep(self) -> int:
        """Brings the run to the state to write, and returns after how many iterations that was."""
        if not self.keeps_best:
            return self.iterations
        self.run.restore(self.best)
        return int(self.history.iteration[self.history.best])

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        return {CORRECT: self.correct, **{BEST + name: tensor for name, tensor in self.best.items()}}

    def expected(self, stored: Mapping[str, Tensor], done: int) -> dict[str, Tensor]:
        """Tensors like those in a checkpoint after `done` iterations, whether these were validated yet or not."""
        points = self._points(done)
        if len(stored.get(CORRECT, ())) == points - 1 and self._points(done - 1) < points:
            points -= 1
        state = {BEST + name: tensor for name, tensor in self._state().items()}
        counts = self.correct.new_zeros(points, *self.correct.shape[1:])
        return {CORRECT: counts, **(state if self.keeps_best and points else {})}

    def restore(self, stored: Mapping[str, Tensor]) -> None:
        """Goes on from the `stored` tensors of a checkpoint."""
        self.correct = stored[CORRECT]
        self.best = {name.removeprefix(BEST): tensor for name, tensor in stored.items() if name.startswith(BEST)}

    def _state(self) -> dict[str, Tensor]:
        """A copy of the run's state that is enough to write it, without what only another step would need."""
        return {name: tensor for name, tensor in self.run.snapshot().items() if not name.startswith(MOMENTUM)}

    def _points(self, done: int) -> int:
        """Validations in `done` iterations."""
        if done < 0:
            return 0
        return done // self.every + 1 + (done == self.iterations and done % self.every > 0)

    def _trials(self) -> Trials:
        run = self.run
        images = decoded_images(run.synthetic.codec, run.synthetic.images.detach())
        labels = run.synthetic.labels.repeat_interleave(run.synthetic.codec.factor**2)
        rate = self.learned_rate() or self.training.learning_rate
        return Trials(
            images,
            run.runtime.to_device(labels),
            replace(self.training, learning_rate=rate),
            self.split,
            self.store,
            run.runtime,
            run.streams.child("validation"),
            run.progress,
        )
