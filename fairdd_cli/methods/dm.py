"""DM: distribution matching (Zhao & Bilen, Dataset Condensation with Distribution Matching, WACV 2023)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Self

from torch import Tensor

from fairdd_cli.fairness import class_means
from fairdd_cli.matching.distances import discrepancies, distances
from fairdd_cli.matching.real import RealBatch
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.signals import characteristic
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._embeddings import DistanceToTargets, distance_of_means, match_embeddings
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods._renamed import RENAMED
from fairdd_cli.networks import Classifier
from fairdd_cli.training import TrainingConfig
from fairdd_cli.training import augmentation as augment


@dataclass(frozen=True)
class Method(MethodBase):
    """Mean embeddings under a fresh random network ψ in each iteration, with Siamese augmentation A.

    Minimises over the synthetic images S

        L(S) = Σ_y Σ_t ‖ Σ_{x in B_yt} w(x) ψ(A_y(x)) - 1/|S_y| Σ_{s in S_y} ψ(A_y(s)) ‖²

    where B_yt are the images of target t in the real batch of class y and w their weights, which sum to one. `vanilla`
    has one target a class, its mean (DM, section 3). FairDD's synchronized matching has one for each protected group a:

        L(S) = Σ_y Σ_a ‖ 1/|B_ya| Σ_{x in B_ya} ψ(A_y(x)) - 1/|S_y| Σ_{s in S_y} ψ(A_y(s)) ‖²

    Other strategies may weigh the images or take the largest of a class's distances, and with `--match cells` the
    second mean is that of the images that stand for the group. COBRA (2026) takes the L1 distance and first trains ψ on
    S (`warmup_epochs`).

    Two distances compare the distributions of a target's weighted embeddings and of the synthetic ones, not their
    means: `m3d` is the maximum mean discrepancy under Gaussian kernels (M3D, AAAI 2024), scaled so that it pulls about
    as much as `l2`; `ncfm` compares characteristic functions of normalised embeddings (NCFM, CVPR 2025) at frequencies
    drawn from a standard Gaussian in each iteration, as the public settings do, not by the paper's sampling network.
    """

    learning_rate: float = hyper(1.0, "learning rate of the pixels")
    momentum: float = hyper(0.5, "momentum of the pixels")
    distance: str = hyper(
        "l2", "distance of embeddings: of means (l2 squared, l1 as in COBRA) or of distributions (m3d, ncfm)"
    )
    num_freqs: int = hyper(4096, "frequencies at which distance ncfm compares", source="public code")
    warmup_epochs: int = hyper(
        0, "training of the network on the synthetic set before it is used, as COBRA does", unit="epochs"
    )
    augmentation: str = hyper(augment.FULL, "Siamese augmentation of real and synthetic images")

    title = "Distribution matching: mean embeddings under random networks"
    paper = "Zhao & Bilen, Dataset Condensation with Distribution Matching, WACV 2023"
    citation = "arXiv:2110.04181"
    evaluation = TrainingConfig(epochs=1000)
    iterations = 20_000
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"distance": ("l2", "l1", "m3d", "ncfm")}
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
        synthetic = (1 + self.warmup_epochs) * run.num_classes * run.synthetic.per_class
        return run.real.images_per_step / 3 + synthetic + run.update_cost

    @property
    def reports_unbiased_loss(self) -> bool:
        """With the distance l2."""
        return self.distance == "l2"

    def step(self, run: Run, iteration: int) -> Tensor:
        """Moves the mean embedding of each class towards its targets."""
        network = run.networks.draw(iteration)
        if self.warmup_epochs:
            run.networks.train_on_synthetic(network, self.warmup(run), iteration)
        network.requires_grad_(False)
        augmentation = run.siamese_augmentation(self.augmentation, iteration)
        loss = match_embeddings(run, self.distance_between(run, network, augmentation, iteration), iteration)
        run.update_images(network, iteration)
        return loss

    def distance_between(
        self, run: Run, network: Classifier, augmentation: augment.AugmentationParams, iteration: int
    ) -> DistanceToTargets:
        """What gives the distance of the synthetic images to each target of a batch, and its noise."""

        @cache
        def frequencies(size: int) -> Tensor:
            return run.normal_draw("frequencies", iteration, shape=(self.num_freqs, size))

        def transform(embedded: Tensor) -> Tensor:
            return characteristic(embedded, frequencies(embedded.shape[1]))

        def of_characteristic_functions(batch: RealBatch) -> tuple[Tensor, Tensor]:
            target = run.signals.real_means(network, batch, augmentation, batch.weights, transform)  # [targets, 2F]
            synthetic = run.signals.synthetic_mean_embeddings(
                network, batch, augmentation, transform
            )  # [classes or cells, 2F]
            return distances(self.distance, target, synthetic, batch.num_targets), run.scalar()

        def of_samples(batch: RealBatch) -> tuple[Tensor, Tensor]:
            each = class_means(len(batch.indices), 1)  # of one image each
            real = run.signals.real_means(network, batch, augmentation, each)  # [B, D]
            synthetic, own = run.signals.each_synthetic_embedding(network, batch, augmentation)  # [images, D]
            return discrepancies(real, batch.weights, synthetic, own, batch.num_targets), run.scalar()

        if self.distance in ("l2", "l1"):
            return distance_of_means(run, network, augmentation, self.distance)
        return of_samples if self.distance == "m3d" else of_characteristic_functions

    def warmup(self, run: Run) -> TrainingConfig:
        """How the network is trained on the synthetic set before it is used."""
        augmentation = run.allowed_augmentations(self.augmentation)
        return TrainingConfig(epochs=self.warmup_epochs, augmentation=augmentation, lr_milestones=())
