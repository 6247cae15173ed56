"""The file name is the registry: what a folder holds is what the toolkit offers.

A module `datasets/c_fmnist_fg.py` is the data set `c-fmnist-fg`; files that start with an underscore are
shared helpers. Another package adds its own through the Python entry-point group of the registry. Listing the
names imports nothing, so that `--help` and shell completion stay quick.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Protocol

from fairdd_cli.errors import UsageError, unknown


@dataclass(frozen=True)
class Registry:
    """The modules of `package` by name, with `aliases`, and what other packages register under `package`.

    Each of them `holds` something of that name.
    """

    kind: str
    package: str
    holds: str
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def _modules(self) -> dict[str, str]:
        folder = Path(__file__).parent.joinpath(*self.package.split(".")[1:])
        own = {
            path.stem.replace("_", "-"): f"{self.package}.{path.stem}"
            for path in folder.glob("*.py")
            if not path.stem.startswith("_")
        }
        others = {entry.name: entry.value for entry in entry_points(group=self.package)}
        return {**others, **own}

    def names(self) -> list[str]:
        """Every name on offer, sorted."""
        return sorted(self._modules)

    def canonical(self, name: str) -> str:
        """`name` with its alias resolved; raises UsageError, naming the nearest, for an unknown one."""
        name = self.aliases.get(name, name)
        if name not in self._modules:
            raise unknown(self.kind, name, self._modules)
        return name

    def load(self, name: str) -> ModuleType:
        """The module behind `name` (or one of its aliases); raises UsageError where it is no such module."""
        target = self._modules[self.canonical(name)]
        try:
            module = import_module(target)
        except ImportError as error:
            raise UsageError(f"{self.kind} '{name}' cannot be loaded from '{target}': {error}") from error
        if not hasattr(module, self.holds):
            raise UsageError(f"{self.kind} '{name}' cannot be loaded from '{target}', which has no '{self.holds}'")
        return module


METHODS = Registry("method", "fairdd_cli.methods", "Method", aliases={"dc": "gm"})
STRATEGIES = Registry("fairness strategy", "fairdd_cli.fairness", "strategy")
DATASETS = Registry("data set", "fairdd_cli.datasets", "source")
NETWORKS = Registry("network", "fairdd_cli.networks", "Network")
DECODINGS = Registry("decoding", "fairdd_cli.decodings", "Decoding")


@dataclass(frozen=True)
class Specification:
    """An entry of a registry and the options that differ from its defaults: NAME or NAME:key=value,key=value."""

    name: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __str__(self) -> str:
        listed = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}:{listed}" if listed else self.name


WHOLE = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
LARGEST = 2**63 - 1  # what a file can hold


def parse_number(text: str, of_type: type) -> Any:
    """The int or float that `text` is, in digits as a person types them; raises ValueError for anything else.

    Python's own reading takes more: `1_0` for 10, digits of other scripts, `infinity` and `nan`.
    """
    if not (WHOLE if of_type is int else NUMBER).fullmatch(text):
        raise ValueError(text)
    number = of_type(text)
    if not (abs(number) <= LARGEST if of_type is int else math.isfinite(number)):
        raise ValueError(text)
    return number


def parse_options(kind: str, name: str, text: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options in `text` (key=value,key=value) that differ from the `defaults`, each of its default's type.

    Raises UsageError, which names what is unknown or wrong.
    """
    options: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        if not defaults:
            raise UsageError(f"{kind} '{name}' takes no options; found '{item}'")
        if key not in defaults:
            raise unknown(f"option of {kind} '{name}'", key, defaults)
        of_type = type(defaults[key])
        try:
            if not value:
                raise ValueError(item)
            options[key] = value if of_type is str else parse_number(value, of_type)
        except ValueError as error:
            form = "WORD" if of_type is str else "NUMBER"
            raise UsageError(f"{kind} '{name}': '{item}' should read {key}={form}") from error
    return {key: options[key] for key in defaults if key in options and options[key] != defaults[key]}


class Display(Protocol):
    """What is made of artifacts for people: files know nothing of metrics and of reports."""

    def as_text(self, artifact: Any) -> str:
        """The artifact in lines of text."""
        ...

    def as_html(self, artifact: Any) -> str:
        """The artifact as HTML."""
        ...

    def metrics_of(self, evaluation: Any) -> dict[str, dict[str, Any]]:
        """For each network of an evaluation its metrics, as `fairdd_cli.metrics.summarise` gives them."""
        ...


_displays: list[Callable[[], Display]] = []


def register_display(load: Callable[[], Display]) -> None:
    """Has artifacts shown by what `load` returns, which is called when somebody looks at one."""
    _displays[:] = [load]


def display() -> Display:
    """What the package's front door registered."""
    return _displays[0]()
