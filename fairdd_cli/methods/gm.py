"""GM, also DC: gradient matching (Zhao, Mopuri & Bilen, Dataset Condensation with Gradient Matching, ICLR 2021)."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from fairdd_cli.fairness import class_means
from fairdd_cli.matching import cosine, gradients
from fairdd_cli.methods._base import MethodBase, Problem, interpolated
from fairdd_cli.networks import Classifier
from fairdd_cli.train import TensorImages, Training, fit

OUTER = {1: 1, 10: 10, 20: 20, 30: 30, 40: 40, 50: 50, 51: 100}
INNER = {1: 1, 10: 50, 20: 25, 30: 20, 40: 15, 50: 10}


@dataclass(frozen=True)
class Method(MethodBase):
    """Gradients of the classification loss, matched while a network is trained on the synthetic set."""

    learning_rate: float = 0.1  # of the pixels
    momentum: float = 0.5
    outer: int = 10  # matching steps of an iteration
    inner: int = 50  # epochs of training the network between two of them
    network_learning_rate: float = 0.01
    augmentation: str = ""

    evaluation: ClassVar[Training] = Training(epochs=300, augmentation="")
    iterations = 1000

    @classmethod
    def for_ipc(cls, ipc: int) -> Self:
        """The paper's outer and inner loop, interpolated for an IPC that is not in its table."""
        return cls(outer=interpolated(OUTER, ipc), inner=interpolated(INNER, ipc))

    def prepare(self, problem: Problem) -> None:
        """SGD with momentum on the pixels."""
        problem.optimise(self.learning_rate, self.momentum)

    def work(self, problem: Problem) -> float:
        """Real and synthetic images (twice backward) of each matching step, and the training between them."""
        synthetic = problem.classes * problem.synthetic.per_class
        matching = problem.real_images + 2 * synthetic
        return self.outer * matching + (self.outer - 1) * self.inner * synthetic

    def step(self, problem: Problem, iteration: int) -> Tensor:
        """Trains a fresh network on the synthetic set and matches its gradients on the way."""
        network = problem.fresh_network(iteration)
        total = torch.zeros((), device=problem.runtime.device)
        for outer in range(self.outer):
            if outer:
                self.train(problem, network, iteration, outer)
                problem.take_statistics(network, iteration, outer)
            total += self.match(problem, network, iteration, outer)
            problem.update()
        return total / self.outer

    def match(self, problem: Problem, network: Classifier, *key: int) -> Tensor:
        """The loss of all classes; its gradient is left in the synthetic images."""
        draw = problem.draw(problem.operations(self.augmentation), *key)
        total = torch.zeros((), device=problem.runtime.device)
        for classes in problem.pieces():
            real = problem.real(classes, *key)
            goals: list[Tensor] = []
            for part, images in problem.parts(real, draw):
                labels = problem.runtime.to_device(real.labels[part])
                with problem.runtime.arithmetic():
                    found = gradients(network, images, labels, real.assignment[part])
                goals = [a + b for a, b in zip(goals, found, strict=True)] if goals else found
            images, labels = problem.synthetic.training_images(classes)
            means = class_means(classes.stop - classes.start, problem.synthetic.per_class)
            with problem.runtime.arithmetic():
                mine = gradients(
                    network,
                    draw.apply(images, labels),
                    problem.runtime.to_device(labels),
                    means,
                    differentiable=True,
                )
            terms = [cosine(goal, own[real.class_of]) for goal, own in zip(goals, mine, strict=True)]
            total += problem.gather(torch.stack(terms).sum())
            problem.progress.advance(len(real.indices) + 2 * len(labels))
        return total

    def train(self, problem: Problem, network: Classifier, *key: int) -> None:
        """Trains `network` on the synthetic set as it is now."""
        with torch.no_grad():
            images, labels = problem.synthetic.training_images(slice(0, problem.classes))
        training = Training(
            epochs=self.inner,
            learning_rate=self.network_learning_rate,
            momentum=0,
            weight_decay=0,
            augmentation=problem.operations(self.augmentation),
            drops=(),
        )
        on_device = problem.runtime.to_device(labels)
        fit(network, TensorImages(images), on_device, training, problem.runtime, problem.streams, key, problem.progress)
