"""IDC: efficient synthetic-data parameterization (Kim et al., Dataset Condensation via Efficient …, ICML 2022)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.fairness import plain_means
from fairdd_cli.matching.real import RealBatch
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.sampling import BATCH_REAL
from fairdd_cli.matching.synthetic import SyntheticBatch, taken
from fairdd_cli.methods._gradients import GradientMatching
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods._renamed import RENAMED
from fairdd_cli.networks import Classifier
from fairdd_cli.training import TrainingConfig


@dataclass(frozen=True)
class Method(GradientMatching):
    """Multi-formation, and gradients of the convolutions matched while a network is trained on real images.

    Options that are 0 or empty stand for the published values, which depend on the data.

    The published code visits class after class with one momentum for all of them, so that the momentum of a class's
    step moves it on while the others are visited. Here all classes step together, by as much: see `prepare`.
    """

    learning_rate: float = hyper(
        0.0,
        "learning rate of the pixels",
        unit="pixels in [0, 1]",
        automatic="5e-3, grey digits and garments 1e-4, times ipc/10 and height*width/32^2",
    )
    distance: str = hyper(
        "", "distance between gradients of the convolutions", automatic="l2, grey digits and garments l1"
    )
    augmentation: str = hyper("color+crop+cutout", "Siamese augmentation of real and synthetic images")
    inner_loop: int = hyper(100, "matching steps of an iteration")
    batch_syn_max: int = hyper(128, "largest synthetic batch of a class in a matching step", unit="images")
    real_per_step: int = hyper(
        0,
        "real images that the network is trained on after each matching step",
        unit="images",
        automatic="2000, grey digits and garments 500",
    )
    interval: int = hyper(
        1,
        "matching steps that share their real images; 0: all",
        source="public code",
        automatic="all of an iteration",
    )

    title = "Gradient matching with multi-formation, while a network is trained on real images"
    paper = "Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022"
    citation = "arXiv:2205.14959"
    evaluation = TrainingConfig(
        batch_size=64,
        augmentation="flip+color+crop_scale_rotate",
        lr_milestones=(2 / 3, 5 / 6),
        lr_gamma=0.2,
        cutmix=0.5,
    )
    iterations = 2000
    factor = 2
    batch_real: ClassVar[Mapping[str, int]] = {**BATCH_REAL, "proportional": 64}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"distance": ("l2", "l1", "cosine")}
    aliases: ClassVar[Mapping[str, str]] = {**GradientMatching.aliases, **RENAMED["idc"]}
    layers = (nn.Conv2d,)
    needs_pixels = True
    network_training: ClassVar[TrainingConfig] = TrainingConfig(
        epochs=1, batch_size=64, augmentation="color+crop", lr_milestones=(), cutmix=0.5
    )

    def for_data(self, dataset: BiasedDataset, ipc: int) -> Self:
        """The published values for grey-level digits and garments, however coloured, or for natural images."""
        grey = dataset.image_kind == "grey"
        rate = (1e-4 if grey else 5e-3) * ipc / 10 * dataset.shape[1] * dataset.shape[2] / 32**2
        return replace(
            self,
            learning_rate=self.learning_rate or rate,
            distance=self.distance or ("l1" if grey else "l2"),
            real_per_step=self.real_per_step or (500 if grey else 2000),
        )

    def unsupported_reason(self, network: Classifier) -> str:
        """Refuses a network without convolutions."""
        has_convolutions = any(isinstance(module, nn.Conv2d) for module in network.modules())
        return "" if has_convolutions else "it matches the gradients of convolutions, and the network has none; use gm"

    def prepare(self, run: Run) -> None:
        """SGD on pixels in [0, 1] whose joint steps amount to the published ones, class after class."""
        run.synthetic.configure_class_steps(self.learning_rate, self.momentum)

    def cost_per_iteration(self, run: Run) -> float:
        """Real and synthetic images (twice backward) of each matching step, and the training between them."""
        synthetic = run.num_classes * min(self.batch_syn_max, run.synthetic.per_class)
        matching = run.real.images_per_step + 2 * synthetic + run.update_cost
        return self.inner_loop * (matching + min(self.real_per_step, len(run.real.split)))

    def step(self, run: Run, iteration: int) -> Tensor:
        """Trains a fresh network on real images and matches its gradients after each part of the training."""
        run.synthetic.clamp()
        network = run.networks.draw(iteration)
        optimizer = self.network_training.optimizer(network)
        real_batches: list[RealBatch] = []
        loss = run.scalar(0)
        for inner in range(self.inner_loop):
            if not real_batches or (self.interval and inner % self.interval == 0):
                real_batches = list(self.real_batches(run, network, iteration, inner))
            loss += self.match(run, network, real_batches, iteration, inner)
            run.update_images(network, iteration, inner)
            run.networks.train_on_real(network, self.network_training, self.real_per_step, optimizer, iteration, inner)
        return loss / self.inner_loop

    def real_batches(self, run: Run, network: Classifier, *key: int) -> Iterator[RealBatch]:
        """The real images to match, for each chunk of classes."""
        for classes in run.class_chunks():
            yield run.real.sample_batch(classes, *key)

    def synthetic_batch(self, run: Run, batch: RealBatch, *key: int) -> SyntheticBatch:
        """At most `batch_syn_max` synthetic images of each target, drawn at random."""
        synthetic, most = run.signals.synthetic_batch(batch), self.batch_syn_max
        sizes = np.bincount(synthetic.weights.target)
        if sizes.max() <= most:
            return synthetic
        chosen = [
            start
            + run.streams.numpy("synthetic", batch.classes.start + number, *key).choice(size, min(size, most), False)
            for number, (start, size) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True))
        ]
        indices = torch.from_numpy(np.concatenate(chosen))
        images, labels = taken(synthetic.images, indices), synthetic.labels[indices]
        return SyntheticBatch(images, labels, plain_means(np.minimum(sizes, most)))
