"""What the methods that match gradients share: one matching step over all classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fairdd_cli.fairness._base import class_means
from fairdd_cli.matching.problem import Problem, RealBatch
from fairdd_cli.matching.signals import WEIGHTED, distances, gradients
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.networks import Classifier

Piece = tuple[slice, RealBatch]  # consecutive classes and their real images


@dataclass(frozen=True)
class GradientMatching(MethodBase):
    """The gradients of the classification loss on real and on synthetic images, `distance` apart."""

    learning_rate: float = hyper(0.1, "learning rate of the pixels")
    momentum: float = hyper(0.5, "momentum of the pixels")
    distance: str = hyper("cosine", "distance between gradients, layer by layer")
    augmentation: str = hyper("", "Siamese augmentation of real and synthetic images", automatic="none")

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"distance": ("cosine", "l2", "l1")}
    layers: ClassVar[tuple[type[nn.Module], ...]] = WEIGHTED  # whose weights' gradients are matched

    def match(self, problem: Problem, network: Classifier, batches: Sequence[Piece], *key: int) -> Tensor:
        """The loss of all classes; its gradient is left in the synthetic images.

        `batches` are the classes of each of the problem's pieces with their real images.
        """
        draw = problem.draw(problem.operations(self.augmentation), *key)
        total = torch.zeros((), device=problem.runtime.device)
        for classes, real in batches:
            goals: list[Tensor] | None = None
            for part, images in problem.parts(real, draw):
                labels = problem.runtime.to_device(real.labels[part])
                with problem.runtime.autocast():
                    goals = gradients(network, images, labels, real.weights[part], layers=self.layers, into=goals)
            problem.together(goals or [])
            images, labels = self.synthetic_images(problem, classes, *key)
            means = class_means(classes.stop - classes.start, len(labels) // (classes.stop - classes.start))
            with problem.runtime.autocast():
                mine = gradients(
                    network,
                    draw.apply(images, labels),
                    problem.runtime.to_device(labels),
                    means,
                    differentiable=True,
                    layers=self.layers,
                )
            apart = [
                distances(self.distance, goal, own, real.targets) for goal, own in zip(goals or [], mine, strict=True)
            ]
            total += problem.gather(problem.total(torch.stack(apart).sum(dim=0), real.targets))
            problem.progress.advance(len(real.indices) + 2 * len(labels))
        return total

    def synthetic_images(self, problem: Problem, classes: slice, *key: int) -> tuple[Tensor, Tensor]:
        """The training images of `classes` to match, equally many of each class, and their labels."""
        return problem.synthetic.training_images(classes)
