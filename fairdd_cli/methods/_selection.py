"""What the methods share that choose real images and optimise nothing."""

from dataclasses import dataclass

from torch import Tensor

from fairdd_cli.matching.run import Run
from fairdd_cli.methods._base import MethodBase


@dataclass(frozen=True)
class SelectionMethod(MethodBase):
    """The initial images as they are."""

    iterations = 0
    matches = False
    samples = False

    def prepare(self, run: Run) -> None:
        """Needs nothing."""

    def cost_per_iteration(self, run: Run) -> float:
        """None."""
        return 0

    def step(self, run: Run, iteration: int) -> Tensor:
        """Changes nothing."""
        return run.scalar(0)
