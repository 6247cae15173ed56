"""What the methods that match gradients share: one matching step over all classes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fairdd_cli.matching.distances import distances
from fairdd_cli.matching.real import RealBatch
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.signals import WEIGHTED
from fairdd_cli.matching.synthetic import SyntheticBatch
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.networks import Classifier


@dataclass(frozen=True)
class GradientMatching(MethodBase):
    """The gradients of the classification loss on real and on synthetic images.

    A matching step under a network with parameters θ has the loss

        L(S) = Σ_y Σ_t Σ_l D(∇_θl Σ_{x in B_y,t} w(x) loss(x, y), ∇_θl 1/|S_y| Σ_{s in S_y} loss(s, y))

    over classes y, targets t and layers l, with the cross-entropy as loss and the weights w of the images B_y,t of a
    target (DC, ICLR 2021, section 3.3, with one target a class). D is the sum over output rows of 1 - cosine, or a
    squared or absolute difference.
    """

    learning_rate: float = hyper(0.1, "learning rate of the pixels")
    momentum: float = hyper(0.5, "momentum of the pixels")
    distance: str = hyper("cosine", "distance between gradients, layer by layer")
    augmentation: str = hyper("", "Siamese augmentation of real and synthetic images", automatic="none")

    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"distance": ("cosine", "l2", "l1")}
    layers: ClassVar[tuple[type[nn.Module], ...]] = WEIGHTED  # whose weights' gradients are matched

    def match(self, run: Run, network: Classifier, real_batches: Iterable[RealBatch], *key: int) -> Tensor:
        """The loss of the classes in `real_batches`; its gradient is accumulated in the synthetic images."""
        augmentation = run.siamese_augmentation(self.augmentation, *key)
        loss = run.scalar(0)
        for batch in real_batches:
            targets = run.signals.real_gradients(network, batch, augmentation, self.layers)
            synthetic = self.synthetic_batch(run, batch, *key)
            synthetics = run.signals.synthetic_gradients(network, synthetic, augmentation, self.layers)
            by_layer = [
                distances(self.distance, target, of_synthetic, batch.num_targets)
                for target, of_synthetic in zip(targets, synthetics, strict=True)
            ]
            loss += run.accumulate_gradient(run.reduce_loss(torch.stack(by_layer).sum(dim=0), batch.num_targets))
        return loss

    def synthetic_batch(self, run: Run, batch: RealBatch, *key: int) -> SyntheticBatch:
        """The synthetic images to match with `batch`."""
        return run.signals.synthetic_batch(batch)
