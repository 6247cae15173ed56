"""DANCE: embeddings under middle encoders, calibration by experts (Zhang et al., DANCE: Dual-View …, IJCAI 2024)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.sampling import BATCH_REAL
from fairdd_cli.matching.state import allowed_augmentations
from fairdd_cli.methods import idc
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._embeddings import distance_of_means, match_embeddings
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.training import TrainingConfig

HIGH_RESOLUTION = 128  # the side of an image from which the published values are others


@dataclass(frozen=True)
class Method(MethodBase):
    """Mean embeddings under middle encoders, and synthetic images that experts classify rightly.

    Experts are networks trained on the real images beforehand. In each iteration one of them is drawn with parameters
    θ_0 before and θ_T after its training. The matching step minimises the loss of DM

        L(S) = Σ_y Σ_t ‖ Σ_{x in B_y,t} w(x) ψ(A(x)) - 1/|S_y| Σ_{s in S_y} ψ(A(s)) ‖²

    whose ψ is the embedding of the middle encoder with the parameters (1 - u) θ_0 + u θ_T, u ~ U(0, 1); B_y,t are the
    images of target t in the real batch of class y and w their weights. The calibration step after it minimises

        Σ_y 1/|S_y| Σ_{s in S_y} H(A'(s), y)

    with the cross-entropy H under the expert, θ_T, and an augmentation A' drawn anew for each class. Both steps have
    the same learning rate and momentum. The loss that is shown is that of matching.
    """

    learning_rate: float = hyper(
        0.0,
        "learning rate of the pixels",
        unit="pixels in [0, 1]",
        source="public code",
        automatic="0.01 (images of 128 pixels and more: 0.1) times ipc",
    )
    momentum: float = hyper(0.5, "momentum of the pixels", source="public code")
    augmentation: str = hyper(
        "color+crop+cutout", "Siamese augmentation of real and synthetic images", source="public code"
    )
    iter_calib: int = hyper(
        1, "calibration steps after each matching step; 0: none", source="public code", automatic="none"
    )
    num_experts: int = hyper(5, "experts, the same for all targets", source="public code")
    train_epochs: int = hyper(
        0,
        "training of an expert",
        unit="epochs",
        source="public code",
        automatic="60 (images of 128 pixels and more: 80)",
    )
    lr_teacher: float = hyper(0.01, "learning rate of the experts", source="public code")

    title = "Distribution matching under networks between the start and the end of experts, which also classify the set"
    paper = "Zhang et al., DANCE: Dual-View Distribution Alignment for Dataset Condensation, IJCAI 2024"
    citation = "arXiv:2406.01063"
    evaluation: ClassVar[TrainingConfig] = replace(idc.Method.evaluation, epochs=1500)
    iterations = 10_000
    factor = 2
    batch_real: ClassVar[Mapping[str, int]] = {**BATCH_REAL, "proportional": 128}
    uses_experts = True
    draws_experts = True
    reports_unbiased_loss = True
    aliases: ClassVar[Mapping[str, str]] = {
        **MethodBase.aliases,
        "mom_img": "momentum",
        "num_premodel": "num_experts",
        "pretrain_epochs": "train_epochs",
    }

    def for_data(self, dataset: BiasedDataset, ipc: int) -> Self:
        """The published values for images of this size."""
        high = min(dataset.shape[1:]) >= HIGH_RESOLUTION
        return replace(
            self,
            learning_rate=self.learning_rate or (0.1 if high else 0.01) * ipc,
            train_epochs=self.train_epochs or (80 if high else 60),
        )

    def expert_training(self, dataset: BiasedDataset) -> tuple[int, TrainingConfig]:
        """SGD with CutMix whose learning rate drops twice."""
        training = TrainingConfig(
            epochs=self.for_data(dataset, ipc=1).train_epochs,
            learning_rate=self.lr_teacher,
            batch_size=64,
            augmentation=allowed_augmentations("color+crop", dataset.mirror_keeps_class),
            lr_milestones=(2 / 3, 5 / 6),
            lr_gamma=0.2,
            cutmix=0.5,
        )
        return self.num_experts, training

    def prepare(self, run: Run) -> None:
        """SGD on pixels in [0, 1] whose joint steps amount to the published ones, class after class."""
        run.synthetic.configure_class_steps(self.learning_rate, self.momentum)

    def cost_per_iteration(self, run: Run) -> float:
        """Real images forward only, synthetic ones forward and backward in each step."""
        synthetic = (1 + self.iter_calib) * run.num_classes * run.synthetic.per_class
        return run.real.images_per_step / 3 + synthetic + run.update_cost

    def step(self, run: Run, iteration: int) -> Tensor:
        """Matches under a middle encoder and calibrates by the expert that it belongs to."""
        run.synthetic.clamp()
        middle = run.networks.draw(iteration).requires_grad_(False)
        augmentation = run.siamese_augmentation(self.augmentation, iteration)
        loss = match_embeddings(run, distance_of_means(run, middle, augmentation, "l2"), iteration)
        run.update_images(middle, iteration)
        expert = run.networks.draw(iteration, at_end=True).requires_grad_(False)
        for number in range(self.iter_calib):
            augmentation = run.siamese_augmentation(self.augmentation, iteration, number)
            for classes in run.class_chunks():
                run.accumulate_gradient(run.synthetic_cross_entropy(expert, classes, augmentation, iteration, number))
            run.synthetic.optimizer_step()
        return loss
