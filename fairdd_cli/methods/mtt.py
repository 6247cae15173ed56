"""MTT: matching training trajectories (Cazenavette et al., Dataset Distillation by Matching …, CVPR 2022)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.errors import UsageError
from fairdd_cli.matching.problem import Problem
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.networks import Classifier
from fairdd_cli.runtime.device import Runtime
from fairdd_cli.training import augmentation as augment
from fairdd_cli.training.loop import Training, call_with, set_parameters

SOFTPLUS = math.log1p(math.e)  # softplus(1)
LEAST = -10.0  # of x: softplus keeps all below it so close to 0 that it would round to it in the end
SLOPE = 1 / (1 + math.exp(-1)) / SOFTPLUS  # of softplus(x) / softplus(1) at 1

# By the most images per class that they are for: the published values for 1, 10 and 50 images of 10 classes.
PUBLISHED = {
    5: {"unrolled": 50, "ahead": 2, "max_start": 2, "learning_rate": 100.0, "step_rate": 1e-7, "first_step": 1e-2},
    30: {"unrolled": 30, "ahead": 2, "max_start": 20, "learning_rate": 100.0, "step_rate": 1e-5, "first_step": 1e-3},
    0: {"unrolled": 30, "ahead": 2, "max_start": 40, "learning_rate": 1000.0, "step_rate": 1e-5, "first_step": 1e-3},
}


@dataclass(frozen=True)
class Method(MethodBase):
    """From where an expert stood, some steps on synthetic images lead to where it went in epochs on real ones.

    The step size is learned too, as `first_step * softplus(x) / softplus(1)` with x from 1 on, so that it stays
    positive. Its published learning rate, divided by the square of the slope there, moves it by the same at first;
    large moves stay in proportion, where a logarithm would make them explosive. All targets share the one step
    size, which therefore follows the mean of their slopes.
    """

    learning_rate: float = 100.0  # of the pixels
    step_rate: float = 1e-5  # learning rate of the step size
    first_step: float = 1e-3  # step size at the start
    momentum: float = 0.5  # of both
    unrolled: int = 30  # steps on synthetic images
    ahead: int = 2  # epochs of the expert that they should amount to
    max_start: int = 20  # the expert's epoch at the start is below this
    batch: int = 256  # synthetic images of a step, at most
    augmentation: str = augment.FULL
    experts: int = 100  # for each target
    expert_epochs: int = 50
    expert_learning_rate: float = 0.01

    evaluation: ClassVar[Training] = Training(epochs=1000)
    iterations = 5000
    samples = False
    uses_experts = True

    @classmethod
    def for_ipc(cls, ipc: int) -> Self:
        """The published values for the nearest number of images per class."""
        return cls(**PUBLISHED[next(limit for limit in PUBLISHED if ipc <= limit or limit == 0)])  # type: ignore[arg-type]

    def expert_training(self, problem: Problem) -> tuple[int, Training]:
        """Plain SGD with augmentation."""
        training = Training(
            epochs=self.expert_epochs,
            learning_rate=self.expert_learning_rate,
            momentum=0,
            weight_decay=0,
            augmentation=problem.operations(self.augmentation),
            drops=(),
        )
        return self.experts, training

    def prepare(self, problem: Problem) -> None:
        """SGD with momentum on the pixels and on what the step size is made of."""
        if not self.first_step > 0:
            raise UsageError(f"-O first_step={self.first_step}: the step size must be above 0")
        if not 0 < self.max_start <= self.expert_epochs - self.ahead + 1:
            raise UsageError(
                f"-O expert_epochs={self.expert_epochs} is too few: experts start at one of {self.max_start} epochs "
                f"(-O max_start) and go {self.ahead} ahead (-O ahead)"
            )
        problem.optimise(self.learning_rate, self.momentum)
        device = problem.runtime.device
        problem.state["step"] = torch.ones((), device=device)
        problem.state["step_momentum"] = torch.zeros((), device=device)

    def step_size(self, problem: Problem) -> Tensor:
        """The step size as it is now."""
        return self.first_step * F.softplus(problem.state["step"]) / SOFTPLUS

    def work(self, problem: Problem) -> float:
        """Each unrolled step forward, backward, and both backward again, for each target."""
        size = problem.classes * problem.synthetic.per_class
        return problem.experts.targets * self.unrolled * 3 * min(self.batch, size)

    def step(self, problem: Problem, iteration: int) -> Tensor:
        """Trains on the synthetic images from a point of each target's expert, and compares where that leads.

        Targets are shared out over the processes.
        """
        processes = problem.runtime.processes
        experts, images = problem.experts, problem.synthetic.images
        generator = problem.streams.numpy("mtt", iteration)
        expert, start = int(generator.integers(experts.experts)), int(generator.integers(self.max_start))
        step = problem.state["step"].requires_grad_()
        network = problem.fresh_network(iteration)
        network.eval()
        mine = processes.share(experts.targets)
        distances, slopes = torch.zeros(experts.targets, device=step.device), []
        for target in range(mine.start, mine.stop):
            here, goal = (
                problem.runtime.to_device(experts.parameters(target, expert, epoch))
                for epoch in (start, start + self.ahead)
            )
            set_parameters(network, here)
            problem.take_statistics(network, iteration, target)  # those of the expert, where it normalises by any
            steps = self.batches(problem, iteration, target)
            there = unroll(network, here, steps, self.step_size(problem), problem.runtime)
            distance = (there - goal).square().sum() / (here - goal).square().sum()
            slopes.append(torch.autograd.grad(distance, [images, step]))  # one graph in memory at a time
            distances[target] = distance.detach()
        processes.sum(distances).requires_grad_()
        total = problem.total(distances, [experts.targets])
        (shares,) = torch.autograd.grad(total, [distances])
        images.grad, slope = torch.zeros_like(images), torch.zeros_like(step)
        for part, (pixels, of_step) in zip(shares[mine], slopes, strict=True):
            images.grad += part * pixels
            slope += part * of_step / experts.targets
        processes.sum(slope)
        problem.update()
        with torch.no_grad():
            velocity = problem.state["step_momentum"].mul_(self.momentum).add_(slope)
            step.sub_(self.step_rate / (self.first_step * SLOPE) ** 2 * velocity).clamp_(min=LEAST)
        step.requires_grad_(False)
        return total.detach() / processes.count

    def batches(self, problem: Problem, *key: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Augmented synthetic images [B, C, H, W] and labels for each unrolled step, all of them in turn."""
        images, labels = problem.synthetic.training_images(slice(0, problem.classes))
        operations, size = problem.operations(self.augmentation), min(self.batch, len(labels))
        queue = torch.empty(0, dtype=torch.long)
        for number in range(self.unrolled):
            if len(queue) < size:
                queue = torch.randperm(len(labels), generator=problem.streams.torch("mtt/order", *key, number))
            taken, queue = queue[:size], queue[size:]
            draws = problem.streams.torch("mtt/augment", *key, number)
            draw = augment.draw_single(operations, size, problem.size, draws)
            picked = draw.apply(images[taken.to(images.device, non_blocking=True)], torch.arange(size))
            yield picked, problem.runtime.to_device(labels[taken])
            problem.progress.advance(3 * size)

    def learned_rate(self, problem: Problem) -> float:
        """The step size."""
        return float(self.step_size(problem))


def unroll(
    network: Classifier, start: Tensor, batches: Iterable[tuple[Tensor, Tensor]], step: Tensor, runtime: Runtime
) -> Tensor:
    """The parameters [P] after an SGD step of size `step` on each of `batches`, from the parameters `start` [P].

    They can be differentiated with respect to the images and the step size. `network` lends its form.
    """
    parameters = start.clone().requires_grad_()
    for images, labels in batches:
        with runtime.arithmetic():
            logits = call_with(network, parameters, images)
        loss = F.cross_entropy(logits.float() if logits.dtype.itemsize < 4 else logits, labels)
        (slope,) = torch.autograd.grad(loss, [parameters], create_graph=True)
        parameters = parameters - step * slope
    return parameters
