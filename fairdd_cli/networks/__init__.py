"""Networks, one file an architecture, and the NAME:key=value specification that chooses one.

A file `NAME.py` holds one class `Network(Classifier)` whose constructor takes the image shape (C, H, W), the
number of classes and, keyword-only with defaults, the options that a specification may set. `torchvision:NAME` is a
classification network of torchvision.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any

from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.networks._base import Classifier, freeze_batch_norm, has_batch_norm
from fairdd_cli.networks._blocks import fusible_values
from fairdd_cli.registry import NETWORKS

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
class NetworkSpec:
    """An architecture and the options that differ from its defaults."""

    name: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        listed = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}:{listed}" if listed else self.name

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
    known = {
        parameter.name: parameter
        for parameter in inspect.signature(constructor).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    options: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, _, value = item.partition("=")
        if not known:
            raise UsageError(f"network '{name}' takes no options; found '{item}'")
        if key not in known:
            raise unknown(f"option of network '{name}'", key, known)
        kind = type(known[key].default)
        try:
            if not value:
                raise ValueError(item)
            options[key] = kind(value)
        except ValueError as error:
            form = "WORD" if kind is str else "NUMBER"
            raise UsageError(f"network '{name}': '{item}' should read {key}={form}") from error
    differing = {key: options[key] for key in known if key in options and options[key] != known[key].default}
    return NetworkSpec(NETWORKS.canonical(name), differing)  # one spelling for one network
