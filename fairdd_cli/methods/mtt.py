"""MTT: matching training trajectories (Cazenavette et al., Dataset Distillation by Matching …, CVPR 2022)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.errors import UsageError
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.state import allowed_augmentations
from fairdd_cli.matching.synthetic import taken
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods._renamed import RENAMED
from fairdd_cli.training import TrainingConfig, set_parameters
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
    """SGD on synthetic images leads from an expert's parameters to where epochs on real images led the expert.

    Minimises over the synthetic images and the step size

        L = Σ_t ‖ θ_N - θ*_t,e+M ‖² / ‖ θ*_t,e - θ*_t,e+M ‖²

    (MTT, section 3.3) where θ*_t,e are an expert's parameters after e epochs on the images of target t, and θ_N those
    after `syn_steps` steps of SGD from θ*_t,e on synthetic images; M is `expert_epochs`. Vanilla MTT has one target.

    The step size is `lr_init * softplus(x) / softplus(1)` with a learned x that starts at 1, so that it stays
    positive. Its published learning rate, divided by the square of the slope there, moves it by the same at first;
    large moves stay in proportion, where a logarithm would make them explosive. All targets share the one step
    size, which therefore follows the mean of their gradients.
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
                "that are matched (once 'ahead'), as in MTT's code; write -O train_epochs=… and -O expert_epochs=…"
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

    def expert_training(self, dataset: BiasedDataset) -> tuple[int, TrainingConfig]:
        """Plain SGD with augmentation."""
        training = TrainingConfig(
            epochs=self.train_epochs,
            learning_rate=self.lr_teacher,
            momentum=0,
            weight_decay=0,
            augmentation=allowed_augmentations(self.augmentation, dataset.mirror_keeps_class),
            lr_milestones=(),
        )
        return self.num_experts, training

    def prepare(self, run: Run) -> None:
        """SGD with momentum on the pixels and on what the step size is made of."""
        run.synthetic.configure_optimizer(self.learning_rate, self.momentum)
        run.state["step"] = run.scalar(1)
        run.state["step_momentum"] = run.scalar(0)

    def step_size(self, run: Run) -> Tensor:
        """The step size as it is now."""
        return self.lr_init * F.softplus(run.state["step"]) / SOFTPLUS

    def cost_per_iteration(self, run: Run) -> float:
        """Each unrolled step forward, backward, and both backward again, for each target."""
        size = run.num_classes * run.synthetic.per_class
        return run.experts.targets * self.syn_steps * 3 * min(self.batch_syn, size)

    def step(self, run: Run, iteration: int) -> Tensor:
        """Trains on the synthetic images from a point of each target's expert, and compares where that leads."""
        draw = run.streams.numpy("mtt", iteration)
        expert, start_epoch = int(draw.integers(run.experts.experts)), int(draw.integers(self.max_start_epoch))
        network = run.networks.fresh(iteration)
        network.eval()

        def distance(target: int) -> Tensor:
            start = run.expert_parameters(target, expert, start_epoch)  # θ*_t
            end = run.expert_parameters(target, expert, start_epoch + self.expert_epochs)  # θ*_t+M
            set_parameters(network, start)
            run.networks.calibrate_batch_norm(network, iteration, target)
            batches = self.synthetic_batches(run, iteration, target)
            student = run.unrolled_sgd(network, start, batches, self.step_size(run))  # θ_t+N
            return (student - end).square().sum() / (start - end).square().sum()

        learned = run.state["step"].requires_grad_()
        loss, gradient = run.accumulate_gradient_by_target(distance, run.experts.targets, learned)
        run.synthetic.optimizer_step()
        with torch.no_grad():
            velocity = run.state["step_momentum"].mul_(self.momentum).add_(gradient)
            learned.sub_(self.lr_lr / (self.lr_init * SLOPE) ** 2 * velocity).clamp_(min=LEAST)
        learned.requires_grad_(False)
        return loss

    def synthetic_batches(self, run: Run, *key: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Augmented synthetic images [B, C, H, W] and labels for each unrolled step, all of the images in turn."""
        images, labels = run.synthetic.decoded_images(slice(0, run.num_classes), *key)
        policy, size = run.allowed_augmentations(self.augmentation), min(self.batch_syn, len(labels))
        order = torch.empty(0, dtype=torch.long)
        for number in range(self.syn_steps):
            if len(order) < size:
                order = torch.randperm(len(labels), generator=run.streams.torch("mtt/order", *key, number))
            batch, order = order[:size], order[size:]
            generator = run.streams.torch("mtt/augment", *key, number)
            augmentation = augment.sample_per_image(policy, size, run.real.shape[1:], generator)
            yield augmentation.apply(taken(images, batch), torch.arange(size)), labels[batch]

    def learned_rate(self, run: Run) -> float:
        """The step size."""
        return float(self.step_size(run))
