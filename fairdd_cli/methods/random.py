"""Random real images: the baseline that learns nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fairdd_cli.matching.problem import Problem
from fairdd_cli.methods._base import MethodBase


@dataclass(frozen=True)
class Method(MethodBase):
    """The initial images as they are."""

    title = "Real images drawn at random: the baseline that optimises nothing"
    iterations = 0
    matches = False
    samples = False

    def prepare(self, problem: Problem) -> None:
        """Needs nothing."""

    def work(self, problem: Problem) -> float:
        """None."""
        return 0

    def step(self, problem: Problem, iteration: int) -> Tensor:
        """Changes nothing."""
        return torch.zeros((), device=problem.runtime.device)
