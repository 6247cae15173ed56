"""GM, also DC: gradient matching (Zhao, Mopuri & Bilen, Dataset Condensation with Gradient Matching, ICLR 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from fairdd_cli.matching.problem import Problem
from fairdd_cli.methods._base import interpolated
from fairdd_cli.methods._gradients import GradientMatching
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods._renamed import RENAMED
from fairdd_cli.training import TrainingConfig

OUTER = {1: 1, 10: 10, 20: 20, 30: 30, 40: 40, 50: 50, 51: 100}
INNER = {1: 1, 10: 50, 20: 25, 30: 20, 40: 15, 50: 10}


@dataclass(frozen=True)
class Method(GradientMatching):
    """Gradients of the classification loss, matched while a network is trained on the synthetic set."""

    outer_loop: int = hyper(10, "matching steps of an iteration")
    inner_loop: int = hyper(50, "training of the network on the synthetic set between matching steps", unit="epochs")
    lr_net: float = hyper(0.01, "learning rate of the network")

    title = "Gradient matching: gradients of the classification loss while a network is trained on the synthetic set"
    paper = "Zhao, Mopuri & Bilen, Dataset Condensation with Gradient Matching, ICLR 2021"
    citation = "arXiv:2006.05929"
    aliases: ClassVar[Mapping[str, str]] = {**GradientMatching.aliases, **RENAMED["gm"]}
    evaluation: ClassVar[TrainingConfig] = TrainingConfig(epochs=300, augmentation="")
    iterations = 1000

    @classmethod
    def for_ipc(cls, ipc: int) -> Self:
        """The paper's outer and inner loop, interpolated for an IPC that is not in its table."""
        return cls(outer_loop=interpolated(OUTER, ipc), inner_loop=interpolated(INNER, ipc))

    def loops(self) -> str:
        """The outer and the inner loop."""
        return f" of {self.outer_loop} matching steps with {self.inner_loop} epochs between them"

    def prepare(self, problem: Problem) -> None:
        """SGD with momentum on the pixels."""
        problem.optimise(self.learning_rate, self.momentum)

    def work(self, problem: Problem) -> float:
        """Real and synthetic images (twice backward) of each matching step, and the training between them."""
        synthetic = problem.classes * problem.synthetic.per_class
        matching = problem.real_images + 2 * synthetic
        return self.outer_loop * matching + (self.outer_loop - 1) * self.inner_loop * synthetic

    def step(self, problem: Problem, iteration: int) -> Tensor:
        """Trains a fresh network on the synthetic set and matches its gradients on the way."""
        network = problem.fresh_network(iteration)
        total = torch.zeros((), device=problem.runtime.device)
        for outer in range(self.outer_loop):
            if outer:
                problem.train(network, self.network_training(problem), iteration, outer)
                problem.take_statistics(network, iteration, outer)
            batches = [(classes, problem.real(classes, iteration, outer)) for classes in problem.pieces()]
            total += self.match(problem, network, batches, iteration, outer)
            problem.update()
        return total / self.outer_loop

    def network_training(self, problem: Problem) -> TrainingConfig:
        """How the network is trained between two matching steps."""
        return TrainingConfig(
            epochs=self.inner_loop,
            learning_rate=self.lr_net,
            momentum=0,
            weight_decay=0,
            augmentation=problem.operations(self.augmentation),
            lr_milestones=(),
        )
