"""How a network is trained, and how files store it."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch

from fairdd_cli.errors import UsageError
from fairdd_cli.networks import Classifier
from fairdd_cli.training import augmentation as augment

MAXIMUM = 10**6  # epochs, and images of a batch, that a file may ask for
# Files store these fields under the names that they had in version 0.1.0.
STORED = {"batch_size": "batch", "lr_milestones": "drops", "lr_gamma": "drop_factor"}
FIELDS = {stored: name for name, stored in STORED.items()}
NUMBERS = ("learning_rate", "momentum", "weight_decay", "lr_gamma", "cutmix")
COUNTS = ("epochs", "batch_size")


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained: SGD whose learning rate is multiplied by `lr_gamma` at each of `lr_milestones`.

    `lr_milestones` are shares of the epochs. `augmentation` is the policy, of which each batch draws one operation ('':
    none). `cutmix` is the probability that a batch is mixed. The defaults are those of DM and DSA for evaluation.
    """

    epochs: int = 1000
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 256
    augmentation: str = augment.FULL
    lr_milestones: tuple[float, ...] = (0.5,)
    lr_gamma: float = 0.1
    cutmix: float = 0.0

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of `epoch` (counted from 0)."""
        passed = sum(epoch >= milestone * self.epochs for milestone in self.lr_milestones)
        return self.learning_rate * self.lr_gamma**passed

    def optimizer(self, network: Classifier) -> torch.optim.SGD:
        """A fresh optimiser of the parameters of `network`."""
        return torch.optim.SGD(network.parameters(), self.learning_rate, self.momentum, weight_decay=self.weight_decay)

    def to_json(self) -> dict[str, Any]:
        """The protocol as it is stored in files."""
        values = {**asdict(self), "lr_milestones": list(self.lr_milestones)}
        return {STORED.get(name, name): value for name, value in values.items()}

    @staticmethod
    def from_json(stored: dict[str, Any], where: str) -> "TrainingConfig":
        """The protocol stored in the file `where`; raises UsageError where it is not one."""
        default = TrainingConfig()
        values = {FIELDS.get(name, name): value for name, value in stored.items() if name not in STORED}
        milestones = values.get("lr_milestones", [])
        numbers = [values.get(name, 0) for name in NUMBERS]
        sound = (
            len(values) == len(stored)
            and not set(values) - set(asdict(default))
            and isinstance(milestones, list)
            and all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in [*numbers, *milestones])
            and all(type(values.get(name, 1)) is int and 1 <= values.get(name, 1) <= MAXIMUM for name in COUNTS)
            and values.get("cutmix", 0) <= 1
            and isinstance(values.get("augmentation", ""), str)
        )
        if not sound:
            raise UsageError(f"'{where}': its evaluation protocol is not one that this fairdd knows")
        augment.stages(values.get("augmentation", ""))
        return TrainingConfig(**{**values, "lr_milestones": tuple(milestones)})
