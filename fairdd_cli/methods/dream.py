"""DREAM: dataset distillation by representative matching (Liu et al., ICCV 2023)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from fairdd_cli.matching.clusters import representatives
from fairdd_cli.matching.problem import Problem
from fairdd_cli.matching.sampling import BATCH_REAL, balanced
from fairdd_cli.methods import idc
from fairdd_cli.methods._gradients import Piece
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.networks import Classifier


@dataclass(frozen=True)
class Method(idc.Method):
    """IDC whose real images are the ones nearest to the centres of their class, renewed every few steps.

    Clusters are formed within each cell where the strategy uses groups, or where the sampling evens the cells:
    the sampling says how many images of a cell take part, k-means says which.
    """

    interval: int = hyper(10, "matching steps that share their real images", automatic="all of an iteration")
    pool: int = hyper(
        0, "most images of a cell, or of a class, that are clustered", unit="images", source="fairdd", automatic="all"
    )

    title = "IDC with representative real images: the nearest to the centres of k-means"
    paper = "Liu et al., DREAM: Efficient Dataset Distillation by Representative Matching, ICCV 2023"
    citation = "arXiv:2302.14416"
    init = "kmeans"
    batch_real: ClassVar[Mapping[str, int]] = {**BATCH_REAL, "proportional": 128}

    def batches(self, problem: Problem, network: Classifier, *key: int) -> Iterator[Piece]:
        """The real images that represent their classes in the eyes of `network`, for each of the problem's pieces."""
        look = partial(problem.embed, network)
        for classes in problem.pieces():
            chosen = []
            for label in range(classes.start, classes.stop):
                generator = problem.streams.numpy("clusters", label, *key)
                drawn = problem.drawn(label, *key)
                chosen.append(representatives(problem.split, drawn, self.by_cell(problem), look, generator, self.pool))
            yield classes, problem.batch(chosen)
        problem.progress.advance(self.clustered(problem) / 3)

    def work(self, problem: Problem) -> float:
        """That of IDC, and every image to cluster forward only."""
        times = -(-self.inner_loop // (self.interval or self.inner_loop))
        return super().work(problem) + times * self.clustered(problem) / 3

    def clustered(self, problem: Problem) -> int:
        """How many real images are looked at to choose from them."""
        cells = problem.split.count if self.by_cell(problem) else problem.split.count.sum(axis=1)
        return int(np.minimum(cells, self.pool or len(problem.split)).sum())

    def by_cell(self, problem: Problem) -> bool:
        """Whether each cell is clustered by itself rather than the whole class."""
        return problem.strategy.uses_groups or problem.sampling is balanced
