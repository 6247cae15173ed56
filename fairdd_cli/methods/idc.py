"""IDC: efficient synthetic-data parameterization (Kim et al., Dataset Condensation via Efficient …, ICML 2022)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.matching.problem import Problem
from fairdd_cli.matching.sampling import BATCH_REAL
from fairdd_cli.methods._gradients import GradientMatching, Piece
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.methods._renamed import RENAMED
from fairdd_cli.networks import Classifier
from fairdd_cli.training import Subset, TrainingConfig, fit


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
        "matching steps that share their real images",
        source="public code",
        automatic="all of an iteration",
    )

    title = "Gradient matching with multi-formation, while a network is trained on real images"
    paper = "Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022"
    citation = "arXiv:2205.14959"
    aliases: ClassVar[Mapping[str, str]] = {**GradientMatching.aliases, **RENAMED["idc"]}
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
    layers = (nn.Conv2d,)
    network_training: ClassVar[TrainingConfig] = TrainingConfig(
        epochs=1, batch_size=64, augmentation="color+crop", lr_milestones=(), cutmix=0.5
    )

    def for_data(self, dataset: BiasedDataset, ipc: int) -> Self:
        """The published values for grey-level digits and garments, however coloured, or for natural images."""
        plain = dataset.image_kind == "grey"
        rate = (1e-4 if plain else 5e-3) * ipc / 10 * dataset.shape[1] * dataset.shape[2] / 32**2
        return replace(
            self,
            learning_rate=self.learning_rate or rate,
            distance=self.distance or ("l1" if plain else "l2"),
            real_per_step=self.real_per_step or (500 if plain else 2000),
        )

    def objection(self, network: Classifier) -> str:
        """Refuses a network without convolutions."""
        found = any(isinstance(module, nn.Conv2d) for module in network.modules())
        return "" if found else "it matches the gradients of convolutions, and the network has none; use gm"

    def prepare(self, problem: Problem) -> None:
        """SGD on the pixels whose joint steps amount to the published ones, class after class.

        With momentum m, a gradient that is followed by steps without one moves 1 + m + m² + … times the learning
        rate until its class's turn comes again, and m to the number of classes of its momentum is left by then.
        The learning rate is that of pixels in [0, 1], which normalisation stretches: `update` is told how much.
        """
        moved = sum(self.momentum**turn for turn in range(problem.classes))
        problem.optimise(self.learning_rate * moved, self.momentum**problem.classes)

    def work(self, problem: Problem) -> float:
        """Real and synthetic images (twice backward) of each matching step, and the training between them."""
        matching = problem.real_images + 2 * problem.classes * min(self.batch_syn_max, problem.synthetic.per_class)
        return self.inner_loop * (matching + min(self.real_per_step, len(problem.split)))

    def step(self, problem: Problem, iteration: int) -> Tensor:
        """Trains a fresh network on real images and matches its gradients on the way."""
        problem.clamp()
        network = problem.fresh_network(iteration)
        optimizer = self.network_training.optimizer(network)
        batches: list[Piece] = []
        total = torch.zeros((), device=problem.runtime.device)
        for inner in range(self.inner_loop):
            if not batches or (self.interval and inner % self.interval == 0):
                batches = list(self.batches(problem, network, iteration, inner))
            total += self.match(problem, network, batches, iteration, inner)
            problem.update(problem.store.inv_std_squared)
            self.train(problem, network, optimizer, iteration, inner)
            problem.take_statistics(network, iteration, inner)
        return total / self.inner_loop

    def batches(self, problem: Problem, network: Classifier, *key: int) -> Iterator[Piece]:
        """The real images to match, for each of the problem's pieces."""
        for classes in problem.pieces():
            yield classes, problem.real(classes, *key)

    def synthetic_images(self, problem: Problem, classes: slice, *key: int) -> tuple[Tensor, Tensor]:
        """At most `batch_syn_max` training images of each class, drawn at random."""
        images, labels = problem.synthetic.training_images(classes)
        every = problem.synthetic.per_class
        if every <= self.batch_syn_max:
            return images, labels
        chosen = [
            position * every + problem.streams.numpy("synthetic", label, *key).choice(every, self.batch_syn_max, False)
            for position, label in enumerate(range(classes.start, classes.stop))
        ]
        kept = torch.from_numpy(np.concatenate(chosen))
        return images[kept.to(images.device, non_blocking=True)], labels[kept]

    def train(self, problem: Problem, network: Classifier, optimizer: torch.optim.SGD, *key: int) -> None:
        """Trains `network` on some real images."""
        order = problem.streams.numpy("network/real", *key).permutation(len(problem.split))[: self.real_per_step]
        labels = problem.runtime.to_device(problem.split.labels[order])
        fit(
            network,
            Subset(problem.store, order),
            labels,
            self.network_training,
            problem.runtime,
            problem.streams,
            key,
            problem.progress,
            optimizer,
        )
