"""K-center: real images from which no other image of their class is far, a coreset."""

from dataclasses import dataclass

from fairdd_cli.methods._selection import CoresetMethod


@dataclass(frozen=True)
class Method(CoresetMethod):
    """Real images chosen one after another, each the farthest in embedding from those chosen before.

    The embedding is that of a network trained on the real images. Under a strategy that uses groups, images are chosen
    within each cell, evenly over the cells of a class.
    """

    title = "Coreset: real images from which no image of their class is far in embedding"
    paper = "Sener & Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach, ICLR 2018"
    citation = "arXiv:1708.00489"
    init = "kcenter"
