"""A command's configuration out of a function's keywords, by the rules of the command line: names, types, limits.

`make_dataset`, `distill`, `evaluate`, `import_set` and `report` are such functions. Their keywords are the fields of
the command's configuration, but for what only a file or a terminal needs.
"""

import inspect
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from fairdd_cli.config import COMMANDS
from fairdd_cli.config._options import Option, assignments, check_text, options, overridden
from fairdd_cli.config.recipe import read_recipe
from fairdd_cli.errors import UsageError, unknown

Config = TypeVar("Config")
Function = TypeVar("Function", bound=Callable[..., Any])

# A function returns its result, which can be saved, and raises its errors.
OF_COMMANDS = frozenset({"output", "force", "verbose", "checkpoint_every", "restart"})
INDENT = " " * 4
WIDTH = 116  # columns of a docstring


def configure(config: type[Config], given: Mapping[str, Any], without: Iterable[str] = (), **arguments: Any) -> Config:
    """The `config` that the keywords `given` ask for, with the positional `arguments` as they are.

    Precedence: default < `recipe` < keyword. Raises UsageError for a keyword that is no option (naming the nearest),
    for a value that the command line would refuse, and where one is missing.
    """
    command = next(name for name, each in COMMANDS.items() if each is config)
    known = _keywords(config, (*without, *arguments))
    for name in given:
        if name not in known:
            raise unknown(f"option of {command}", name, known)
    values = {name: _value(known[name], value) for name, value in given.items()}
    if values.get("recipe") is not None:
        values = _with_recipe(values["recipe"], command, known, values)
    if missing := [name for name, entry in known.items() if entry.required and name not in values]:
        raise UsageError(f"{command} needs {' and '.join(f'{name}=…' for name in missing)}")
    return config(**arguments, **values)


def documented(config: type, without: Iterable[str] = ()) -> Callable[[Function], Function]:
    """Gives a function of `**options` the signature and the description of the options of `config`."""

    def decorate(function: Function) -> Function:
        own = inspect.signature(function)
        positional = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        known = _keywords(config, (*without, *(each.name for each in positional)))
        named = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if entry.required else entry.default,
                annotation=entry.type,
            )
            for name, entry in sorted(known.items(), key=lambda item: not item[1].required)
        ]
        function.__signature__ = own.replace(parameters=[*positional, *named])  # type: ignore[attr-defined]
        lines = [line for name, entry in known.items() for line in _described(name, entry)]
        text = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = "\n".join([text, "", "Options:", *lines])
        return function

    return decorate


def _keywords(config: type, without: Iterable[str]) -> dict[str, Option]:
    """The options of `config` that are keywords of its function: all but the arguments and those `without`."""
    left_out = OF_COMMANDS.union(without)
    return {name: entry for name, entry in options(config).items() if name not in left_out and not entry.is_argument}


def _described(name: str, entry: Option) -> list[str]:
    names = f" One of {', '.join(entry.names)}." if entry.names else ""
    default = entry.shown_default or (None if entry.required or entry.repeatable else entry.default)
    ending = "" if default is None else f" (default: {default})"
    words = f"{name}: {entry.help}{names}{ending}"
    return textwrap.wrap(words, WIDTH, initial_indent=INDENT, subsequent_indent=2 * INDENT)


def _with_recipe(recipe: str, command: str, known: Mapping[str, Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with those of the `recipe` where they say nothing, and its entries of a mapping before theirs."""
    found = {name: value for name, value in read_recipe(recipe, command).items() if name in known}
    for name in overridden(known, values):
        found.pop(name, None)
    merged = {name: _from_recipe(known[name], value) for name, value in found.items()}
    for name, value in values.items():
        merged[name] = {**merged.get(name, {}), **value} if known[name].base_type is Mapping else value
    return merged


def _from_recipe(entry: Option, value: Any) -> Any:
    return _value(entry, assignments(value) if entry.base_type is Mapping else value)


def _value(entry: Option, value: Any) -> Any:
    """`value` as the configuration holds it; raises UsageError for one that the option cannot take."""
    if value is None and entry.default is None:
        return None
    if entry.base_type is Mapping:
        if not isinstance(value, Mapping):
            raise _wrong(entry, "a dict", value)
        return {str(key).replace("-", "_"): _text(entry, each) for key, each in value.items()}
    if entry.base_type is tuple:
        several = value if isinstance(value, list | tuple) else [value]
        return tuple(entry.entry_type(_text(entry, each)) for each in several)
    return _single(entry, value)


def _single(entry: Option, value: Any) -> Any:
    if entry.base_type is bool:
        if not isinstance(value, bool):
            raise _wrong(entry, "True or False", value)
        return value
    if entry.names or entry.parse:
        return entry.read(_text(entry, value))
    if entry.base_type in (int, float):
        return _number(entry, value)
    return entry.base_type(_text(entry, value))


def _number(entry: Option, value: Any) -> int | float:
    whole = entry.base_type is int
    if not isinstance(value, Integral if whole else Real) or isinstance(value, bool):
        raise _wrong(entry, "a whole number" if whole else "a number", value)
    number: int | float = entry.base_type(value)
    if not whole and not math.isfinite(number):
        raise _wrong(entry, "a number", value)
    if limit := entry.exceeded(number):
        raise _wrong(entry, limit, value)
    return number


def _text(entry: Option, value: Any) -> str:
    """What would be typed for `value`: text, a path, a number, True or False; a list has commas between its entries."""
    if isinstance(value, list | tuple):
        return ",".join(_text(entry, each) for each in value)
    if not isinstance(value, str | Path | Real | os.PathLike):
        raise _wrong(entry, "text", value)
    check_text(entry, text := str(value))
    return text


def _wrong(entry: Option, expected: str, value: Any) -> UsageError:
    return UsageError(f"{entry.name}: expected {expected}, found {str(value)[:60]!r}")
