"""DM: distribution matching (Zhao & Bilen, Dataset Condensation with Distribution Matching, WACV 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from fairdd_cli.matching.distances import distances
from fairdd_cli.matching.run import Run
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods._renamed import RENAMED
from fairdd_cli.training import TrainingConfig
from fairdd_cli.training import augmentation as augment


@dataclass(frozen=True)
class Method(MethodBase):
    """Mean embeddings under a fresh random network ψ in each iteration, with Siamese augmentation A.

    Minimises over the synthetic images S

        L(S) = Σ_y Σ_t ‖ Σ_{x in B_y,t} w(x) ψ(A(x)) - 1/|S_y| Σ_{s in S_y} ψ(A(s)) ‖²

    where B_y,t are the images of target t in the real batch of class y and w their weights, which sum to one (DM,
    section 3, with one target a class, its mean; FairDD's synchronized matching has one for each protected group).
    COBRA (2026) takes the L1 distance and first trains ψ on S (`warmup_epochs`).
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
        """The paper's learning rate: 1 up to 50 images per class, 10 above."""
        return cls(learning_rate=1.0 if ipc <= 50 else 10.0)

    def prepare(self, run: Run) -> None:
        """SGD with momentum on the pixels."""
        run.synthetic.configure_optimizer(self.learning_rate, self.momentum)

    def cost_per_iteration(self, run: Run) -> float:
        """Real images forward only, synthetic ones forward and backward."""
        return run.real.images_per_step / 3 + (1 + self.warmup_epochs) * run.num_classes * run.synthetic.per_class

    @property
    def squared_distances(self) -> bool:
        """With the distance l2."""
        return self.distance == "l2"

    def step(self, run: Run, iteration: int) -> Tensor:
        """Moves the mean embedding of each class towards its targets."""
        network = run.networks.fresh(iteration)
        if self.warmup_epochs:
            run.networks.train_on_synthetic(network, self.warmup(run), iteration)
        network.requires_grad_(False)
        augmentation = run.siamese_augmentation(self.augmentation, iteration)
        loss = run.scalar(0)
        for classes in run.class_chunks():
            real_batch = run.real.sample_batch(classes, iteration)
            target, noise = run.real_embeddings(network, real_batch, augmentation)  # [targets, D], []
            synthetic = run.synthetic_embeddings(network, classes, augmentation)  # [classes, D]
            distance = distances(self.distance, target, synthetic, real_batch.num_targets)  # [targets]
            loss += run.backward(run.reduce_loss(distance, real_batch.num_targets)) - noise
        run.synthetic.optimizer_step()
        return loss

    def warmup(self, run: Run) -> TrainingConfig:
        """How the network is trained on the synthetic set before it is used."""
        augmentation = run.allowed_augmentations(self.augmentation)
        return TrainingConfig(epochs=self.warmup_epochs, augmentation=augmentation, lr_milestones=())
