"""Networks, one file an architecture, and the NAME:key=value specification that chooses one.

A file `NAME.py` holds one class `Network(Classifier)` whose constructor takes the image shape (C, H, W), the
number of classes and, keyword-only with defaults, the options that a specification may set. `torchvision:NAME` is a
classification network of torchvision.
"""

import inspect
from dataclasses import dataclass
from types import ModuleType

from fairdd_cli.networks._base import Classifier, freeze_batch_norm, has_batch_norm
from fairdd_cli.networks._blocks import fusible_values
from fairdd_cli.registry import NETWORKS, Specification, parse_options

__all__ = [
    "NETWORKS",
    "Classifier",
    "NetworkSpec",
    "freeze_batch_norm",
    "fusible_values",
    "has_batch_norm",
    "parse_network",
    "torchvision_networks",
]

TORCHVISION = "torchvision"


@dataclass(frozen=True)
class NetworkSpec(Specification):
    """An architecture and the options that differ from its defaults."""

    def build(self, shape: tuple[int, int, int], classes: int) -> Classifier:
        """A freshly initialised `Classifier` for images of `shape` (C, H, W); UsageError where they don't fit."""
        family, _, member = self.name.partition(":")
        if family == TORCHVISION:
            theirs: Classifier = _load_torchvision().Network(shape, classes, name=member)
            return theirs
        network: Classifier = NETWORKS.load(self.name).Network(shape, classes, **self.options)
        return network


def _load_torchvision() -> ModuleType:
    from fairdd_cli.networks import _torchvision as module  # noqa: PLC0415  # takes a second, and few runs need it

    return module


def torchvision_networks() -> list[str]:
    """The torchvision networks that can be used, each as a specification `torchvision:NAME`, sorted."""
    return [f"{TORCHVISION}:{name}" for name in _load_torchvision().names()]


def parse_network(text: str) -> NetworkSpec:
    """The specification in `text`: NAME, NAME:key=value,key=value or torchvision:NAME.

    Raises UsageError, which names what is unknown in it.
    """
    name, _, rest = text.partition(":")
    if name == TORCHVISION:
        return NetworkSpec(f"{TORCHVISION}:{_load_torchvision().canonical(rest)}")
    constructor = NETWORKS.load(name).Network.__init__
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(constructor).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    name = NETWORKS.canonical(name)  # one spelling for one network
    return NetworkSpec(name, parse_options("network", name, rest, defaults))
