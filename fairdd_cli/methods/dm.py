"""DM: distribution matching (Zhao & Bilen, Dataset Condensation with Distribution Matching, WACV 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from fairdd_cli.fairness._base import class_means
from fairdd_cli.matching.problem import Problem
from fairdd_cli.matching.signals import distances, embeddings
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods._renamed import RENAMED
from fairdd_cli.training import TrainingConfig
from fairdd_cli.training import augmentation as augment


@dataclass(frozen=True)
class Method(MethodBase):
    """Mean embeddings under a fresh random network each iteration; squared distance to each target.

    COBRA (2026) takes the L1 distance (`distance`) and first trains the network on the synthetic set (`warmup_epochs`).
    """

    learning_rate: float = hyper(1.0, "learning rate of the pixels")
    momentum: float = hyper(0.5, "momentum of the pixels")
    distance: str = hyper("l2", "distance between mean embeddings: squared Euclidean, or L1 as COBRA takes it")
    warmup_epochs: int = hyper(
        0, "training of the network on the synthetic set before it is used, as COBRA does", unit="epochs"
    )
    augmentation: str = hyper(augment.FULL, "Siamese augmentation of real and synthetic images")

    title = "Distribution matching: mean embeddings under random networks"
    paper = "Zhao & Bilen, Dataset Condensation with Distribution Matching, WACV 2023"
    citation = "arXiv:2110.04181"
    evaluation = TrainingConfig(epochs=1000)
    iterations = 20_000
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"distance": ("l2", "l1")}
    aliases: ClassVar[Mapping[str, str]] = {**MethodBase.aliases, **RENAMED["dm"]}

    @classmethod
    def for_ipc(cls, ipc: int) -> Self:
        """The paper's learning rate."""
        return cls(learning_rate=1.0 if ipc <= 50 else 10.0)

    def prepare(self, problem: Problem) -> None:
        """SGD with momentum on the pixels."""
        problem.optimise(self.learning_rate, self.momentum)

    def work(self, problem: Problem) -> float:
        """Real images forward only, synthetic ones forward and backward."""
        return problem.real_images / 3 + (1 + self.warmup_epochs) * problem.classes * problem.synthetic.per_class

    def step(self, problem: Problem, iteration: int) -> Tensor:
        """Moves the mean embedding of each class towards its targets."""
        network = problem.fresh_network(iteration)
        operations = problem.operations(self.augmentation)
        if self.warmup_epochs:
            problem.train(
                network, TrainingConfig(epochs=self.warmup_epochs, augmentation=operations, lr_milestones=()), iteration
            )
            problem.take_statistics(network, iteration)
        network.requires_grad_(False)
        draw = problem.draw(operations, iteration)
        total = torch.zeros((), device=problem.runtime.device)
        for classes in problem.pieces():
            real = problem.real(classes, iteration)
            goal = torch.zeros((), device=problem.runtime.device)
            with torch.no_grad(), problem.runtime.autocast():
                for part, images in problem.parts(real, draw, problem.runtime.forward_batch(network)):
                    goal = goal + embeddings(network, images, real.weights[part])
            problem.together([goal])
            images, labels = problem.synthetic.training_images(classes)
            means = class_means(classes.stop - classes.start, problem.synthetic.per_class)
            with problem.runtime.autocast():
                found = embeddings(network, draw.apply(images, labels), means)
            apart = distances(self.distance, goal, found, real.targets)
            total += problem.gather(problem.total(apart, real.targets))
            problem.progress.advance(len(real.indices) / 3 + len(labels))
        problem.update()
        return total
