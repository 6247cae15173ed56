"""Defaults that depend on the method or on the strategy, for help texts.

They are read from `defaults.json`, since asking the methods themselves means importing torch.
`recipes/make_defaults.py` makes that file from the methods and strategies, and a test compares the two.
"""

import json
from collections.abc import Callable
from functools import cache, reduce
from importlib import resources
from typing import Any

from fairdd_cli.registry import METHODS


@cache
def stored() -> dict[str, dict[str, Any]]:
    """What the file holds: by kind ("methods", "strategies") and name, the defaults."""
    content: dict[str, dict[str, Any]] = json.loads(
        resources.files("fairdd_cli.config").joinpath("defaults.json").read_text(encoding="utf-8")
    )
    return content


def per_method(*path: str) -> Callable[[], str]:
    """The defaults at `path` of all methods in words, those of other packages included; asked when help is shown."""
    return lambda: _words(path)


def _words(path: tuple[str, ...]) -> str:
    groups: dict[str, list[str]] = {}
    for name, defaults in stored()["methods"].items():
        value: Any = reduce(lambda inner, key: inner and inner[key], path, defaults)
        if value is not None:
            groups.setdefault(str(value) or "none", []).append(name)
    if others := [name for name in METHODS.names() if name not in stored()["methods"]]:
        groups["the method's own"] = others
    by_size = sorted(groups.items(), key=lambda group: len(group[1]))
    parts = [f"{', '.join(names)} {value}" for value, names in by_size]
    if (
        len(by_size[-1][1]) > sum(len(names) for names in groups.values()) / 2
    ):  # the rule, of which the others are exceptions
        parts[-1] = f"else {by_size[-1][0]}" if len(by_size) > 1 else by_size[-1][0]
    return "; ".join(parts)


def strategies_with(key: str, value: object) -> str:
    """The strategies whose default for `key` is `value`, in words."""
    return ", ".join(name for name, values in stored()["strategies"].items() if values[key] == value)
