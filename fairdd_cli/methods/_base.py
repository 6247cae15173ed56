"""What a method must say of itself."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from fairdd_cli.artifacts import BiasedDataset
from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.sampling import BATCH_REAL
from fairdd_cli.networks import Classifier
from fairdd_cli.registry import parse_number
from fairdd_cli.training import TrainingConfig
from fairdd_cli.training import augmentation as augment


@dataclass(frozen=True)
class MethodBase(ABC):
    """A method: its hyper-parameters as fields (the paper's values are the defaults) and its step."""

    title: ClassVar[str] = ""  # what it does, in a line
    paper: ClassVar[str] = ""
    citation: ClassVar[str] = ""  # where the paper is found
    evaluation: ClassVar[TrainingConfig] = TrainingConfig()
    iterations: ClassVar[int]
    factor: ClassVar[int] = 1  # multi-formation, where the user says nothing
    init: ClassVar[str | None] = None  # None: real images, spread over the groups where the strategy uses them
    batch_real: ClassVar[Mapping[str, int]] = BATCH_REAL
    matches: ClassVar[bool] = True  # whether real and synthetic signals are matched, so that a strategy matters
    samples: ClassVar[bool] = True  # whether real mini-batches are drawn, so that a sampling matters
    selects_by_cell: ClassVar[bool] = False  # whether its init chooses real images, within cells if groups are used
    needs_pixels: ClassVar[bool] = False  # whether what is stored must be images: its steps are in pixels
    uses_experts: ClassVar[bool] = False  # whether it needs networks trained on real images beforehand
    draws_experts: ClassVar[bool] = False  # whether these are the networks that it matches in, the same for all targets
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})  # the values of an option in words
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({"lr_img": "learning_rate"})  # other names of options

    @classmethod
    def for_ipc(cls, ipc: int) -> Self:
        """The paper's values for `ipc` images per class."""
        return cls()

    def for_data(self, dataset: BiasedDataset, ipc: int) -> Self:
        """The method with what was left open filled in with the paper's values for `dataset`."""
        return self

    def loops(self) -> str:
        """What an iteration consists of, in words that follow "iterations", where that depends on `--ipc`."""
        return ""

    def unsupported_reason(self, network: Classifier) -> str:
        """Why the method can do nothing with `network`; nothing if it can."""
        return ""

    def expert_training(self, dataset: BiasedDataset) -> tuple[int, TrainingConfig]:
        """How many experts a method that `uses_experts` needs, and how they are trained.

        They are so many for each target, unless it `draws_experts`.
        """
        return 0, TrainingConfig()

    @abstractmethod
    def prepare(self, run: Run) -> None:
        """Sets up the optimisation before the first iteration."""

    @abstractmethod
    def cost_per_iteration(self, run: Run) -> float:
        """Image passes (one image forward and backward) of an iteration; its progress must add up to this."""

    @abstractmethod
    def step(self, run: Run, iteration: int) -> Tensor:
        """One iteration: updates the synthetic images and returns the loss (this rank's part of it)."""

    @property
    def feature_epochs(self) -> int:
        """Epochs that the network is trained whose embeddings an initialisation chooses images by."""
        return 1

    @property
    def reports_unbiased_loss(self) -> bool:
        """Whether its loss sums squared Euclidean distances to mean embeddings of real batches.

        The loss that it reports is then without their sampling noise, which `RunSignals.real_mean_embeddings` tells.
        The gradient is the same with it and without.
        """
        return False

    def learned_rate(self, run: Run) -> float:
        """The learning rate that was learned for training on the synthetic set; 0 where none was."""
        return 0.0

    def with_options(self, options: dict[str, str]) -> Self:
        """The method with the hyper-parameters in `options` set; of two names for the same one the later counts.

        Raises UsageError for a wrong name or value.
        """
        known: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        zero_allowed = {field.name for field in fields(self) if field.metadata.get("automatic")}
        values: dict[str, Any] = {}
        for given, text in options.items():
            name = self.aliases.get(given, given)
            if name not in known:
                raise unknown("option -O of this method", given, known)
            kind = type(known[name])
            try:
                values[name] = text if kind is str else parse_number(text, kind)
            except ValueError as error:
                raise UsageError(f"-O {given}={text}: expected {kind.__name__}, for example {known[name]}") from error
            if text not in self.choices.get(name, (text,)):
                raise UsageError(f"-O {given}={text}: this method has {given}={'|'.join(self.choices[name])}")
            if name == "augmentation":
                augment.stages(text)
            # A count may be 0 only where that has a meaning: there is no loop of no steps.
            least = 1 if kind is int and known[name] > 0 and name not in zero_allowed else 0
            if kind in (int, float) and not (least <= values[name] < float("inf")):
                raise UsageError(f"-O {given}={text}: expected a number of at least {least}")
        chosen = replace(self, **values)
        chosen.check_options()
        return chosen

    def check_options(self) -> None:
        """Raises UsageError for hyper-parameters that do not go together."""
        return


def interpolated(table: dict[int, int], ipc: int) -> int:
    """The entry of `table` for `ipc`, linear between its keys and constant beyond them."""
    return int(np.rint(np.interp(ipc, list(table), list(table.values()))))
