"""Herding: real images whose mean embedding is that of their class, a coreset."""

from dataclasses import dataclass

from fairdd_cli.methods._selection import CoresetMethod


@dataclass(frozen=True)
class Method(CoresetMethod):
    """Real images chosen one after another so that their mean embedding comes nearest to that of the class.

    The embedding is that of a network trained on the real images. Under a strategy that uses groups, images are chosen
    within each cell, evenly over the cells of a class.
    """

    title = "Coreset: real images whose mean embedding is nearest to their class's"
    paper = "Rebuffi et al., iCaRL: Incremental Classifier and Representation Learning, CVPR 2017"
    citation = "arXiv:1611.07725"
    init = "herding"
