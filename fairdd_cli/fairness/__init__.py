"""Fairness strategies, one file each; a file `NAME.py` holds a `strategy`, an instance of `Strategy` (`_base.py`).

A strategy says which targets the synthetic images of a class are matched to. Every target is a weighted mean over
the class's real batch, and every image of the batch belongs to one target, so a strategy gives each image a target
and a weight. A method computes a distance for each target and never asks which strategy it runs.
"""

from fairdd_cli.fairness._base import (
    Embed,
    Strategy,
    TargetWeights,
    class_means,
    concatenate,
    find_strategy,
    plain_means,
)
from fairdd_cli.registry import STRATEGIES

__all__ = [
    "STRATEGIES",
    "Embed",
    "Strategy",
    "TargetWeights",
    "class_means",
    "concatenate",
    "find_strategy",
    "plain_means",
]
