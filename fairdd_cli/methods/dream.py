"""DREAM: dataset distillation by representative matching (Liu et al., ICCV 2023)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from fairdd_cli.matching.real import RealBatch
from fairdd_cli.matching.run import Run
from fairdd_cli.matching.sampling import BATCH_REAL
from fairdd_cli.matching.selection import representatives
from fairdd_cli.methods import idc
from fairdd_cli.methods._hyper import hyper
from fairdd_cli.networks import Classifier


@dataclass(frozen=True)
class Method(idc.Method):
    """IDC whose real images are the ones nearest to the centres of their class, renewed every few steps.

    Clusters are formed within each cell where the strategy uses groups, or where the sampling balances the cells:
    the sampling says how many images of a cell take part, k-means says which.
    """

    interval: int = hyper(10, "matching steps that share their real images; 0: all", automatic="all of an iteration")
    pool: int = hyper(
        0, "most images of a cell, or of a class, that are clustered", unit="images", source="fairdd", automatic="all"
    )

    title = "IDC with representative real images: the nearest to the centres of k-means"
    paper = "Liu et al., DREAM: Efficient Dataset Distillation by Representative Matching, ICCV 2023"
    citation = "arXiv:2302.14416"
    init = "kmeans"
    batch_real: ClassVar[Mapping[str, int]] = {**BATCH_REAL, "proportional": 128}

    def real_batches(self, run: Run, network: Classifier, *key: int) -> Iterator[RealBatch]:
        """The real images that represent their classes in the embedding of `network`, for each chunk of classes."""
        embed = partial(run.real.embed, network)
        for classes in run.class_chunks():
            chosen = []
            for label in range(classes.start, classes.stop):
                generator = run.streams.numpy("clusters", label, *key)
                drawn = run.real.sample_indices(label, *key)
                chosen.append(representatives(run.real.split, drawn, run.real.by_cell, embed, generator, self.pool))
            yield run.real.batch(classes, chosen, *key)
        run.progress.advance(self.clustered(run) / 3)

    def cost_per_iteration(self, run: Run) -> float:
        """That of IDC, and every image to cluster forward only."""
        times = -(-self.inner_loop // (self.interval or self.inner_loop))
        return super().cost_per_iteration(run) + times * self.clustered(run) / 3

    def clustered(self, run: Run) -> int:
        """How many real images are embedded to choose from them."""
        count = run.real.split.count
        cells = count if run.real.by_cell else count.sum(axis=1)
        return int(np.minimum(cells, self.pool or len(run.real.split)).sum())
