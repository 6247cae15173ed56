"""CAFE: features of every layer (Wang et al., CAFE: Learning to Condense Dataset by Aligning Features, CVPR 2022)."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch.nn.functional as F
from torch import Tensor

from fairdd_cli.matching.distances import distances
from fairdd_cli.matching.real import RealBatch
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.signals import weighted_sums
from fairdd_cli.methods._base import MethodBase, interpolated
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods.gm import INNER_LOOP, OUTER_LOOP
from fairdd_cli.networks import Classifier
from fairdd_cli.training import TrainingConfig

MILESTONES = (1200, 1600, 1800)  # iterations from which the learning rate is halved
WATCHED = 10  # the latest accuracies that decide whether a loop ends early


@dataclass(frozen=True)
class Method(MethodBase):
    """Mean features of every layer, and real images classified by the synthetic class centres.

    A matching step under a network whose layers l have features f_l, the embedding f last, has the loss

        L(S) = Σ_y Σ_t ( Σ_l ‖ Σ_{x in B_y,t} w(x) f_l(x) - f̄_l(S_y) ‖² + β |B_y| Σ_{x in B_y,t} w(x) H(x, y) )

    over classes y and targets t, with the weights w of the images B_y,t of a target, the synthetic means f̄_l(S_y), and
    the cross-entropy H(x, y) of the logits f(x)·f̄(S_c) over classes c. With one target a class this is CAFE's alignment
    of layers and its discrimination loss, summed over the real batch with β = `inner_weight`, as in the public code.

    A fresh network in each iteration is trained on S between matching steps. Matching ends early once its accuracy on
    real images varied by less than `lambda_1` over ten steps, training once it varied by more than `lambda_2` over ten
    epochs (dynamic bi-level optimisation); DC's loops are the upper limits, where the public code has none.
    """

    learning_rate: float = hyper(0.1, "learning rate of the pixels, halved after 1200, 1600 and 1800 iterations")
    momentum: float = hyper(0.5, "momentum of the pixels", source="public code")
    inner_weight: float = hyper(0.01, "weight of the discrimination loss")
    outer_loop: int = hyper(10, "most matching steps of an iteration", source="public code")
    inner_loop: int = hyper(
        50, "longest training of the network between matching steps", unit="epochs", source="public code"
    )
    lambda_1: float = hyper(
        0.05, "matching ends when the accuracy varied by less; 0: never before outer_loop steps", source="public code"
    )
    lambda_2: float = hyper(
        0.05, "training ends when the accuracy varied by more; 1: never before inner_loop epochs", source="public code"
    )
    query: int = hyper(128, "real images of a class that the accuracy is measured on", source="public code")
    lr_net: float = hyper(0.01, "learning rate of the network", source="public code")
    augmentation: str = hyper("", "Siamese augmentation of real and synthetic images", automatic="none")

    title = "Feature alignment: mean features of every layer, and real images classified by synthetic class centres"
    paper = "Wang et al., CAFE: Learning to Condense Dataset by Aligning Features, CVPR 2022"
    citation = "arXiv:2203.01531"
    evaluation: ClassVar[TrainingConfig] = TrainingConfig(epochs=1000, augmentation="")
    iterations = 2000
    aliases: ClassVar[Mapping[str, str]] = {**MethodBase.aliases, "batch_query": "query"}

    @classmethod
    def for_ipc(cls, ipc: int) -> Self:
        """DC's outer and inner loop as upper limits, interpolated for an IPC that is not in its table."""
        return cls(outer_loop=interpolated(OUTER_LOOP, ipc), inner_loop=interpolated(INNER_LOOP, ipc))

    def loops(self) -> str:
        """The outer and the inner loop."""
        return f" of up to {self.outer_loop} matching steps with up to {self.inner_loop} epochs between them"

    def unsupported_reason(self, network: Classifier) -> str:
        """The features of a layer need a row for each image."""
        return "" if network.rows_are_images else "cafe matches features of layers that have none for each image here"

    def prepare(self, run: Run) -> None:
        """SGD with momentum on the pixels."""
        run.synthetic.configure_optimizer(self.learning_rate, self.momentum)

    # Whether the accuracy can end a loop before its limit, so that it must be measured

    @property
    def matching_may_end(self) -> bool:
        """Whether matching can end before `outer_loop` steps."""
        return self.lambda_1 > 0 and self.outer_loop > WATCHED

    @property
    def training_may_end(self) -> bool:
        """Whether training can end before `inner_loop` epochs."""
        return self.lambda_2 < 1 and self.inner_loop > WATCHED

    def cost_of_matching(self, run: Run) -> float:
        """Real images forward; synthetic ones, with the discrimination loss for their centres and its gradient, too."""
        synthetic = run.num_classes * run.synthetic.per_class
        measured = self.query * run.num_classes / 3 if self.matching_may_end else 0
        matched = run.real.images_per_step / 3 + (3 if self.inner_weight else 1) * synthetic
        return matched + measured + run.update_cost

    def cost_of_epoch(self, run: Run) -> float:
        """The synthetic images, and the real ones of the accuracy forward."""
        measured = self.query * run.num_classes / 3 if self.training_may_end else 0
        return run.num_classes * run.synthetic.per_class + measured

    def cost_per_iteration(self, run: Run) -> float:
        """That of loops that reach their limits; what an early end saves is counted as done."""
        trained = (self.outer_loop - 1) * self.inner_loop * self.cost_of_epoch(run)
        return self.outer_loop * self.cost_of_matching(run) + trained

    def step(self, run: Run, iteration: int) -> Tensor:
        """Matches the features of a fresh network, trained on the synthetic set between the matching steps."""
        network = run.networks.draw(iteration)
        loss, accuracies, steps = run.scalar(0), deque[float](maxlen=WATCHED), 0
        lr_factor = 0.5 ** sum(iteration >= milestone for milestone in MILESTONES)
        for outer in range(self.outer_loop):
            if outer:
                self.train(run, network, iteration, outer)
            network.requires_grad_(False)
            loss += self.match(run, network, iteration, outer)
            run.update_images(network, iteration, outer, lr_factor=lr_factor)
            steps += 1
            if self.matching_may_end:
                accuracies.append(self.accuracy(run, network, iteration, outer, 0))
                if len(accuracies) == WATCHED and max(accuracies) - min(accuracies) < self.lambda_1:
                    break
        skipped = self.cost_of_matching(run) + self.inner_loop * self.cost_of_epoch(run)
        run.advance((self.outer_loop - steps) * skipped)
        return loss / steps

    def train(self, run: Run, network: Classifier, *key: int) -> None:
        """Trains `network` on the synthetic set until its accuracy has changed, at most `inner_loop` epochs."""
        network.requires_grad_(True)
        if not self.training_may_end:
            run.networks.train_on_synthetic(network, self.network_training(run, self.inner_loop), *key)
            return
        accuracies, epochs = deque[float](maxlen=WATCHED), 0
        while epochs < self.inner_loop:
            epochs += 1
            run.networks.train_on_synthetic(network, self.network_training(run, 1), *key, epochs)
            accuracies.append(self.accuracy(run, network, *key, epochs))
            if len(accuracies) == WATCHED and max(accuracies) - min(accuracies) > self.lambda_2:
                break
        skipped = (self.inner_loop - epochs) * self.cost_of_epoch(run)
        run.advance(skipped)

    def network_training(self, run: Run, epochs: int) -> TrainingConfig:
        """How the network is trained between two matching steps."""
        return TrainingConfig(
            epochs=epochs,
            learning_rate=self.lr_net,
            momentum=0,
            weight_decay=0,
            augmentation=run.allowed_augmentations(self.augmentation),
            lr_milestones=(),
        )

    def accuracy(self, run: Run, network: Classifier, *key: int) -> float:
        """The accuracy of `network`, between 0 and 1, on `query` real images of each class, drawn for this `key`."""
        run.advance(self.query * run.num_classes / 3)
        return run.networks.accuracy_on_real(network, self.query, *key)

    def match(self, run: Run, network: Classifier, *key: int) -> Tensor:
        """The loss of all classes; its gradient is accumulated in the synthetic images.

        The discrimination loss of a class depends on the centres of all. Classes are matched a few at a time, so it is
        differentiated with respect to the centres first, and these with respect to the images after.
        """
        augmentation = run.siamese_augmentation(self.augmentation, *key)
        loss = run.scalar(0)
        shared = (run.signals.class_centres(network, augmentation, *key),) if self.inner_weight else ()  # [classes, D]
        for classes in run.class_chunks():
            batch = run.real.sample_batch(classes, *key)
            target, embedded = run.signals.real_layers(network, batch, augmentation)  # [targets, F], [B, D]
            synthetic = run.signals.synthetic_layers(network, batch, augmentation)  # [classes or cells, F]
            distance = distances("l2", target, synthetic, batch.num_targets)
            for centres in shared:
                distance = distance + self.inner_weight * self.discrimination(run, batch, embedded, centres)
            loss += run.accumulate_gradient(run.reduce_loss(distance, batch.num_targets), *shared)
        for centres in shared:
            pull = run.all_reduced_gradient(centres)
            for classes in run.class_chunks():
                embedded = run.signals.class_embeddings(network, classes, augmentation, *key)
                run.accumulate_gradient((embedded * pull[classes]).sum())
        return loss

    def discrimination(self, run: Run, batch: RealBatch, embedded: Tensor, centres: Tensor) -> Tensor:
        """The weighted mean cross-entropy [targets] of real images under `centres`, times the images of their class."""
        labels = run.beside_images(batch.labels)
        sizes = run.beside_images(batch.labels.bincount()[batch.labels])
        entropy = F.cross_entropy(embedded @ centres.mT, labels, reduction="none") * sizes
        return weighted_sums(entropy[:, None], batch.weights)[:, 0]
