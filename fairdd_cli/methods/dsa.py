"""DSA: gradient matching with Siamese augmentation (Zhao & Bilen, ICML 2021)."""

from dataclasses import dataclass

from fairdd_cli.methods import gm
from fairdd_cli.training import augmentation as augment
from fairdd_cli.training.loop import Training


@dataclass(frozen=True)
class Method(gm.Method):
    """Gradient matching under one augmentation for the real and synthetic images of a class, and in training."""

    augmentation: str = augment.FULL

    evaluation = Training(epochs=1000)
