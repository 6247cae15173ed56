"""What the methods share that choose real images and optimise nothing."""

from dataclasses import dataclass

from torch import Tensor

from fairdd_cli.matching.run import Run
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.methods._hyper import hyper


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


@dataclass(frozen=True)
class CoresetMethod(SelectionMethod):
    """The images that its initialisation chooses by their embeddings in a network trained on the real ones."""

    embedding_epochs: int = hyper(1, "Training of the network that embeds the images", unit="epochs", source="fairdd")

    selects_by_cell = True

    @property
    def feature_epochs(self) -> int:
        """As the hyper-parameter says."""
        return self.embedding_epochs
