"""What another package builds on to add a method, a strategy, a data set, a network or a metric.

It names a module of its own in the Python entry-point group `fairdd_cli.methods`, `fairdd_cli.fairness`,
`fairdd_cli.datasets`, `fairdd_cli.networks` or `fairdd_cli.metrics`; the entry's name is what the command line takes.
Such a module holds a class `Method(MethodBase)`, a `strategy: Strategy`, a function `source(request: Request) ->
Source` with `OPTIONS`, a class `Network(Classifier)`, or a `metric: Metric`. `recipes/extension` is an example with all
five.
"""

from fairdd_cli.datasets._source import Pixels, Request, Samples, Source
from fairdd_cli.fairness import Strategy, TargetWeights
from fairdd_cli.matching.run import Run
from fairdd_cli.methods._base import MethodBase
from fairdd_cli.metrics import Confusion, Metric
from fairdd_cli.networks import Classifier

__all__ = [
    "Classifier",
    "Confusion",
    "MethodBase",
    "Metric",
    "Pixels",
    "Request",
    "Run",
    "Samples",
    "Source",
    "Strategy",
    "TargetWeights",
]
