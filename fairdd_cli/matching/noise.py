"""The sampling noise of a real batch: what the spread of its images adds to a squared distance to their mean.

With the mean m of a batch, the mean μ of all images that it was drawn from and any s,

    E ‖m - s‖² = ‖μ - s‖² + tr Var(m)

and the last term says nothing of s. It is estimated without bias from the spread within the batch. A batch is drawn
without replacement within strata: n of the N images of a stratum with weights u that sum to one there and share W of
the target contribute

    W² (1 - n/N) Σu² / (1 - Σu²) Σ_i u_i ‖e_i - Σ_j u_j e_j‖²

to tr Var(m), for equal weights the textbook's W² (1 - n/N) s²/n with the sample variance s² (Cochran, Sampling
Techniques, 3rd edition, sections 2.6 and 5.3). Where a stratum is drawn from with replacement, n/N counts as 0.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fairdd_cli.fairness import TargetWeights


@dataclass(frozen=True)
class NoiseWeights:
    """Weights under which the spread about the strata's means adds up to the noise of a batch, over all its targets.

    Images [n] of which each belongs to a `stratum` (0 … strata - 1, not decreasing). Within a stratum, `weight` is
    proportional to the image's weight in its target.
    """

    stratum: np.ndarray  # int64 [n]
    weight: np.ndarray  # float32 [n]
    strata: int

    def __getitem__(self, part: slice) -> TargetWeights:
        return TargetWeights(self.stratum[part], self.weight[part], self.strata)

    @cached_property
    def inverse_totals(self) -> np.ndarray:
        """One over the sum of each stratum's weights, float32 [strata]; 0 where that is 0."""
        totals = np.bincount(self.stratum, self.weight, self.strata)
        return np.divide(1, totals, out=np.zeros(self.strata), where=totals > 0).astype(np.float32)


def noise_weights(weight: np.ndarray, stratum: np.ndarray, label: np.ndarray, population: np.ndarray) -> NoiseWeights:
    """The weights for images [n], sorted by class and stratum, with these weights in their targets.

    `stratum` (any integers, not decreasing) tells the strata apart, and `population` [n] is the number of images that
    an image's stratum was drawn from. A single image has no spread: its stratum is taken to spread like those of its
    class that have more images, pooled by their degrees of freedom. Where none has, nothing is subtracted.
    """
    starts = np.flatnonzero(np.diff(stratum, prepend=stratum[0] - 1))
    number = np.repeat(np.arange(len(starts)), np.diff([*starts, len(stratum)]))
    count, strata = np.bincount(number).astype(np.float64), len(starts)
    total = np.bincount(number, weight)
    share = np.where(total[number] > 0, weight / np.where(total > 0, total, 1)[number], 1 / count[number])
    concentration = np.bincount(number, share**2)  # Σu², 1 for a single image
    drawn_from = population[starts]
    unseen = np.where(count <= drawn_from, 1 - count / drawn_from, 1)
    variance_factor = total**2 * unseen * concentration  # of the variance of the stratum's images
    alone = concentration > 1 - 1e-6
    freedom = np.where(alone, 0, count - 1)
    classes = label[starts]
    of_alone, of_others = (
        np.bincount(classes, values)[classes] for values in (np.where(alone, variance_factor, 0), freedom)
    )
    pooled = np.divide(of_alone * freedom, of_others, out=np.zeros(strata), where=of_others > 0)
    factor = np.where(alone, 0, variance_factor + pooled) / np.where(alone, 1, 1 - concentration)
    return NoiseWeights(number, (factor[number] * share).astype(np.float32), strata)
