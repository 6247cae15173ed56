"""fairdd list: the methods, strategies, decodings, data sets, networks and metrics on offer."""

import json
from typing import TYPE_CHECKING, Any

from fairdd_cli.cli.terminal import literal, out, product
from fairdd_cli.config import ListConfig
from fairdd_cli.config.catalogue import KINDS

if TYPE_CHECKING:
    from rich.table import Table


def list_entries(config: ListConfig) -> None:
    """List methods, fairness strategies, decodings, data sets, networks and metrics, or describe one of them.

    Examples: fairdd list; fairdd list methods; fairdd list methods dm; fairdd list networks convnet
    """
    from fairdd_cli.cli.entries import describe, titles

    if config.kind is not None and config.name is not None:
        entry = describe(config.kind, config.name)
        if config.format == "json":
            out(json.dumps(entry, indent=1))
        else:
            _show(entry)
        return
    listed = {kind: titles(kind) for kind in ([config.kind] if config.kind else KINDS)}
    if config.format == "json":
        out(json.dumps(listed, indent=1))
        return
    for kind, entries in listed.items():
        table = _table(kind)
        for name, title in entries.items():
            table.add_row(literal(name), literal(title))
        product(table)


def _table(title: str) -> "Table":
    """A table of two columns, names and words, under a `title`."""
    from rich import box
    from rich.table import Table

    table = Table(title=literal(title), title_justify="left", show_header=False, box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _show(entry: dict[str, Any]) -> None:
    """The facts of an entry, one a line, and the hyper-parameters of a method."""
    parameters = entry.pop("hyper_parameters", [])
    name = entry.pop("name")
    table = _table(name)
    for key, value in entry.items():
        if value not in ("", None, [], {}):
            table.add_row(literal(key.replace("_", " ")), literal(_words(value)))
    product(table)
    if parameters:
        table = _table(f"Hyper-parameters of {name}, set with -O NAME=VALUE")
        for each in parameters:
            table.add_row(literal(each["name"]), literal(_parameter(each)))
        product(table)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={entry}" for key, entry in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _parameter(facts: dict[str, Any]) -> str:
    """A hyper-parameter in words: its meaning, its default with unit and source, other names."""
    from fairdd_cli.cli.entries import default_words

    parts = [f"{facts['meaning']}; default {default_words(facts)} ({facts['source']})"]
    if facts["choices"]:
        parts.append(f"one of {', '.join(facts['choices'])}")
    if facts["old_names"]:
        parts.append(f"also called {', '.join(facts['old_names'])}")
    return "; ".join(parts)
