"""MTT: matching training trajectories (Cazenavette et al., Dataset Distillation by Matching …, CVPR 2022)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.errors import UsageError
from fairdd_cli.matching.problem import Problem
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods._renamed import RENAMED
from fairdd_cli.networks import Classifier
from fairdd_cli.runtime import Runtime
from fairdd_cli.training import TrainingConfig, functional_call, set_parameters
from fairdd_cli.training import augmentation as augment

SOFTPLUS = math.log1p(math.e)  # softplus(1)
LEAST = -10.0  # of x: softplus keeps all below it so close to 0 that it would round to it in the end
LONGEST = 3  # the most expert_epochs of a published setting
SLOPE = 1 / (1 + math.exp(-1)) / SOFTPLUS  # of softplus(x) / softplus(1) at 1

# The published values for 1, 10 and 50 images of 10 classes, each by the most images per class that it is taken for.
PUBLISHED: Mapping[float, Mapping[str, float]] = {
    5: {"syn_steps": 50, "max_start_epoch": 2, "learning_rate": 100.0, "lr_lr": 1e-7, "lr_init": 1e-2},
    30: {"syn_steps": 30, "max_start_epoch": 20, "learning_rate": 100.0, "lr_lr": 1e-5, "lr_init": 1e-3},
    math.inf: {"syn_steps": 30, "max_start_epoch": 40, "learning_rate": 1000.0, "lr_lr": 1e-5, "lr_init": 1e-3},
}


@dataclass(frozen=True)
class Method(MethodBase):
    """From where an expert stood, some steps on synthetic images lead to where it went in epochs on real ones.

    The step size is learned too, as `lr_init * softplus(x) / softplus(1)` with x from 1 on, so that it stays
    positive. Its published learning rate, divided by the square of the slope there, moves it by the same at first;
    large moves stay in proportion, where a logarithm would make them explosive. All targets share the one step
    size, which therefore follows the mean of their slopes.
    """

    learning_rate: float = hyper(100.0, "learning rate of the pixels")
    lr_lr: float = hyper(1e-5, "learning rate of the learned step size")
    lr_init: float = hyper(1e-3, "learned step size at the start")
    momentum: float = hyper(0.5, "momentum of the pixels and of the step size")
    syn_steps: int = hyper(30, "unrolled SGD steps on synthetic images")
    expert_epochs: int = hyper(2, "training of an expert that the unrolled steps should amount to", unit="epochs")
    max_start_epoch: int = hyper(20, "an expert's epoch at the start is below this", unit="epochs")
    batch_syn: int = hyper(256, "largest synthetic batch of an unrolled step", unit="images", source="public code")
    augmentation: str = hyper(augment.FULL, "augmentation in unrolled steps and in the training of experts")
    num_experts: int = hyper(100, "experts for each target")
    train_epochs: int = hyper(50, "training of an expert", unit="epochs")
    lr_teacher: float = hyper(0.01, "learning rate of the experts", source="public code")

    title = "Trajectory matching: SGD steps on synthetic images lead where experts went on real ones"
    paper = "Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022"
    citation = "arXiv:2203.11932"
    aliases: ClassVar[Mapping[str, str]] = {**MethodBase.aliases, **RENAMED["mtt"]}
    evaluation: ClassVar[TrainingConfig] = TrainingConfig(epochs=1000)
    iterations = 5000
    samples = False
    uses_experts = True

    @classmethod
    def for_ipc(cls, ipc: int) -> Self:
        """The published values for the nearest number of images per class."""
        return cls(**PUBLISHED[next(most for most in PUBLISHED if ipc <= most)])  # type: ignore[arg-type]

    def with_options(self, options: dict[str, str]) -> Self:
        """Refuses `expert_epochs` where it can only be meant as in version 0.1.0, in which it was `train_epochs`."""
        value, current = options.get("expert_epochs", ""), {"train_epochs", *RENAMED["mtt"].values()}
        among_old = any(name in options for name in RENAMED["mtt"])
        too_long = value.isdecimal() and int(value) > LONGEST and not current & set(options) - {"expert_epochs"}
        if value and (among_old or too_long):
            raise UsageError(
                f"-O expert_epochs={value}: an expert's training is train_epochs long now, and expert_epochs are those "
                "that are matched (once 'ahead'),\nas in MTT's code; write -O train_epochs=… and -O expert_epochs=…"
            )
        return super().with_options(options)

    def check_options(self) -> None:
        """Raises UsageError where the step size is not positive or experts end before they are matched."""
        if not self.lr_init > 0:
            raise UsageError(f"-O lr_init={self.lr_init}: the step size must be above 0")
        if not 0 < self.max_start_epoch <= self.train_epochs - self.expert_epochs + 1:
            raise UsageError(
                f"-O train_epochs={self.train_epochs} is too few: matching starts at one of the first "
                f"{self.max_start_epoch} epochs (-O max_start_epoch) and takes {self.expert_epochs} (-O expert_epochs)"
            )

    def expert_training(self, problem: Problem) -> tuple[int, TrainingConfig]:
        """Plain SGD with augmentation."""
        training = TrainingConfig(
            epochs=self.train_epochs,
            learning_rate=self.lr_teacher,
            momentum=0,
            weight_decay=0,
            augmentation=problem.operations(self.augmentation),
            lr_milestones=(),
        )
        return self.num_experts, training

    def prepare(self, problem: Problem) -> None:
        """SGD with momentum on the pixels and on what the step size is made of."""
        problem.optimise(self.learning_rate, self.momentum)
        device = problem.runtime.device
        problem.state["step"] = torch.ones((), device=device)
        problem.state["step_momentum"] = torch.zeros((), device=device)

    def step_size(self, problem: Problem) -> Tensor:
        """The step size as it is now."""
        return self.lr_init * F.softplus(problem.state["step"]) / SOFTPLUS

    def work(self, problem: Problem) -> float:
        """Each unrolled step forward, backward, and both backward again, for each target."""
        size = problem.classes * problem.synthetic.per_class
        return problem.experts.targets * self.syn_steps * 3 * min(self.batch_syn, size)

    def step(self, problem: Problem, iteration: int) -> Tensor:
        """Trains on the synthetic images from a point of each target's expert, and compares where that leads.

        Targets are shared out over the processes.
        """
        processes = problem.runtime.processes
        experts, images = problem.experts, problem.synthetic.images
        generator = problem.streams.numpy("mtt", iteration)
        expert, start = int(generator.integers(experts.experts)), int(generator.integers(self.max_start_epoch))
        step = problem.state["step"].requires_grad_()
        network = problem.fresh_network(iteration)
        network.eval()
        mine = processes.shard(experts.targets)
        distances, slopes = torch.zeros(experts.targets, device=step.device), []
        for target in range(mine.start, mine.stop):
            here, goal = (
                problem.runtime.to_device(experts.parameters(target, expert, epoch))
                for epoch in (start, start + self.expert_epochs)
            )
            set_parameters(network, here)
            problem.take_statistics(network, iteration, target)  # those of the expert, where it normalises by any
            steps = self.batches(problem, iteration, target)
            there = unroll(network, here, steps, self.step_size(problem), problem.runtime)
            distance = (there - goal).square().sum() / (here - goal).square().sum()
            slopes.append(torch.autograd.grad(distance, [images, step]))  # one graph in memory at a time
            distances[target] = distance.detach()
        processes.all_reduce(distances).requires_grad_()
        total = problem.total(distances, [experts.targets])
        (shares,) = torch.autograd.grad(total, [distances])
        images.grad, slope = torch.zeros_like(images), torch.zeros_like(step)
        for part, (pixels, of_step) in zip(shares[mine], slopes, strict=True):
            images.grad += part * pixels
            slope += part * of_step / experts.targets
        processes.all_reduce(slope)
        problem.update()
        with torch.no_grad():
            velocity = problem.state["step_momentum"].mul_(self.momentum).add_(slope)
            step.sub_(self.lr_lr / (self.lr_init * SLOPE) ** 2 * velocity).clamp_(min=LEAST)
        step.requires_grad_(False)
        return total.detach() / processes.world_size

    def batches(self, problem: Problem, *key: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Augmented synthetic images [B, C, H, W] and labels for each syn_steps step, all of them in turn."""
        images, labels = problem.synthetic.training_images(slice(0, problem.classes))
        operations, size = problem.operations(self.augmentation), min(self.batch_syn, len(labels))
        queue = torch.empty(0, dtype=torch.long)
        for number in range(self.syn_steps):
            if len(queue) < size:
                queue = torch.randperm(len(labels), generator=problem.streams.torch("mtt/order", *key, number))
            taken, queue = queue[:size], queue[size:]
            draws = problem.streams.torch("mtt/augment", *key, number)
            draw = augment.sample_per_image(operations, size, problem.size, draws)
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
        with runtime.autocast():
            logits = functional_call(network, parameters, images)
        loss = F.cross_entropy(logits.float() if logits.dtype.itemsize < 4 else logits, labels)
        (slope,) = torch.autograd.grad(loss, [parameters], create_graph=True)
        parameters = parameters - step * slope
    return parameters
