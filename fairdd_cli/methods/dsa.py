"""DSA: gradient matching with Siamese augmentation (Zhao & Bilen, ICML 2021)."""

from dataclasses import dataclass

from fairdd_cli.methods import gm
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.training import TrainingConfig
from fairdd_cli.training import augmentation as augment


@dataclass(frozen=True)
class Method(gm.Method):
    """Gradient matching under one augmentation for the real and synthetic images of a class, and in training."""

    augmentation: str = hyper(augment.FULL, "Siamese augmentation of real and synthetic images, and in training")

    title = "Gradient matching with differentiable Siamese augmentation"
    paper = "Zhao & Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021"
    citation = "arXiv:2102.08259"
    evaluation = TrainingConfig(epochs=1000)
