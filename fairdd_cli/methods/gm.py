"""GM, also DC: gradient matching (Zhao, Mopuri & Bilen, Dataset Condensation with Gradient Matching, ICLR 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from fairdd_cli.matching.run import Run
from fairdd_cli.methods._base import interpolated
from fairdd_cli.methods._gradients import GradientMatching
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods._renamed import RENAMED
from fairdd_cli.training import TrainingConfig

OUTER_LOOP = {1: 1, 10: 10, 20: 20, 30: 30, 40: 40, 50: 50, 51: 100}  # by images per class
INNER_LOOP = {1: 1, 10: 50, 20: 25, 30: 20, 40: 15, 50: 10}


@dataclass(frozen=True)
class Method(GradientMatching):
    """Gradients of the classification loss, matched while a network is trained on the synthetic set (DC, algorithm 1).

    Each iteration starts with a fresh network and alternates `outer_loop` matching steps, which move the synthetic
    images, with `inner_loop` epochs of training the network on them.
    """

    outer_loop: int = hyper(10, "matching steps of an iteration")
    inner_loop: int = hyper(50, "training of the network on the synthetic set between matching steps", unit="epochs")
    lr_net: float = hyper(0.01, "learning rate of the network")

    title = "Gradient matching: gradients of the classification loss while a network is trained on the synthetic set"
    paper = "Zhao, Mopuri & Bilen, Dataset Condensation with Gradient Matching, ICLR 2021"
    citation = "arXiv:2006.05929"
    evaluation: ClassVar[TrainingConfig] = TrainingConfig(epochs=300, augmentation="")
    iterations = 1000
    aliases: ClassVar[Mapping[str, str]] = {**GradientMatching.aliases, **RENAMED["gm"]}

    @classmethod
    def for_ipc(cls, ipc: int) -> Self:
        """The paper's outer and inner loop, interpolated for an IPC that is not in its table."""
        return cls(outer_loop=interpolated(OUTER_LOOP, ipc), inner_loop=interpolated(INNER_LOOP, ipc))

    def loops(self) -> str:
        """The outer and the inner loop."""
        return f" of {self.outer_loop} matching steps with {self.inner_loop} epochs between them"

    def prepare(self, run: Run) -> None:
        """SGD with momentum on the pixels."""
        run.synthetic.configure_optimizer(self.learning_rate, self.momentum)

    def cost_per_iteration(self, run: Run) -> float:
        """Real and synthetic images (twice backward) of each matching step, and the training between them."""
        synthetic = run.num_classes * run.synthetic.per_class
        matching = run.real.images_per_step + 2 * synthetic + run.update_cost
        return self.outer_loop * matching + (self.outer_loop - 1) * self.inner_loop * synthetic

    def step(self, run: Run, iteration: int) -> Tensor:
        """Trains a fresh network on the synthetic set and matches its gradients between the epochs."""
        network = run.networks.draw(iteration)
        loss = run.scalar(0)
        for outer in range(self.outer_loop):
            if outer:
                run.networks.train_on_synthetic(network, self.network_training(run), iteration, outer)
            real_batches = [run.real.sample_batch(classes, iteration, outer) for classes in run.class_chunks()]
            loss += self.match(run, network, real_batches, iteration, outer)
            run.update_images(network, iteration, outer)
        return loss / self.outer_loop

    def network_training(self, run: Run) -> TrainingConfig:
        """How the network is trained between two matching steps."""
        return TrainingConfig(
            epochs=self.inner_loop,
            learning_rate=self.lr_net,
            momentum=0,
            weight_decay=0,
            augmentation=run.allowed_augmentations(self.augmentation),
            lr_milestones=(),
        )
