"""What a method is, for people: its paper, its defaults and its hyper-parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairdd_cli.methods import METHODS
from fairdd_cli.methods._hyper import HyperParameter, hyper_parameters


@dataclass(frozen=True)
class MethodDescription:
    """A method as `fairdd list methods NAME` shows it. `evaluation` is the protocol that its sets are trained by."""

    name: str
    title: str
    paper: str
    citation: str
    iterations: int
    factor: int
    init: str | None  # None: balanced under a strategy that uses groups, else real
    batch_real: Mapping[str, int]  # by sampling; empty where no real batches are drawn
    uses_experts: bool
    evaluation: Mapping[str, Any]
    hyper_parameters: tuple[HyperParameter, ...]


def describe(name: str) -> MethodDescription:
    """The description of the method `name` (or one of its aliases); raises UsageError for an unknown one."""
    name = METHODS.canonical(name)
    method = METHODS.load(name).Method
    return MethodDescription(
        name=name,
        title=method.title,
        paper=method.paper,
        citation=method.citation,
        iterations=method.iterations,
        factor=method.factor,
        init=method.init,
        batch_real=dict(method.batch_real) if method.samples else {},
        uses_experts=method.uses_experts,
        evaluation=method.evaluation.to_json(),
        hyper_parameters=hyper_parameters(method),
    )
