"""From a configuration to a Typer command: its options, with defaults from a recipe, and the configuration back."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import typer

from fairdd_cli.config._options import Option, assignments, check_text, options, overridden

Config = TypeVar("Config")


def as_command(config: type[Config], run: Callable[[Config], None]) -> Callable[..., None]:
    """`run` as a function that Typer makes a command of: a parameter for each option of `config`."""
    known = options(config)

    def command(context: typer.Context, **values: Any) -> None:
        run(config(**_given(context, known, values)))

    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    parameters += [_parameter(entry) for entry in known.values()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    command.__doc__, command.__name__ = run.__doc__, run.__name__
    return command


def _parameter(entry: Option) -> inspect.Parameter:
    """The parameter of a function that Typer makes the option `entry` of."""
    has_rules = bool(entry.names or entry.parse or entry.is_number)
    kind: Any = list[entry.entry_type] if entry.repeatable else str if has_rules else entry.base_type  # type: ignore[name-defined]
    metavar = f"[{'|'.join(entry.names)}]" if entry.names else "NUMBER" if entry.is_number else None
    common: dict[str, Any] = {"help": entry.description, "metavar": entry.metavar or metavar}
    if entry.names:
        common["autocompletion"] = lambda incomplete: [each for each in entry.names if each.startswith(incomplete)]
    if has_rules:
        common["parser"] = lambda text: entry.read(str(text))
    common["show_default"] = not entry.required and not entry.shown_default
    if entry.name == "recipe":
        common |= {"callback": _load_recipe, "is_eager": True}
    # Typer takes None for what may be left out, of whatever type.
    default = inspect.Parameter.empty if entry.required else None if entry.repeatable else entry.default
    information = typer.Argument(**common) if entry.is_argument else typer.Option(*entry.flags, **common)
    annotation = Annotated[kind | None if default is None else kind, information]  # type: ignore[valid-type]
    return inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _load_recipe(context: typer.Context, value: str | None) -> str | None:
    """Makes the recipe's section for this command its defaults: built-in default < recipe < command line."""
    if value is not None:
        from fairdd_cli.config.recipe import read_recipe

        context.meta["recipe"] = read_recipe(value, context.command.name or "")
        context.default_map = {**(context.default_map or {}), **context.meta["recipe"]}
    return value


def _given(context: typer.Context, known: Mapping[str, Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a configuration: `values` as Typer parsed them, one by one before those of the recipe."""
    recipe = context.meta.get("recipe", {})
    typed = set(_typed(context, known))
    given: dict[str, Any] = {}
    for name, value in values.items():
        entry = known[name]
        words = value if isinstance(value, list | tuple) else [value]
        check_text(entry, *(word for word in words if isinstance(word, str)))
        if entry.base_type is Mapping:
            given[name] = {**assignments(recipe.get(name, [])), **assignments(value or [])}
        elif entry.repeatable:
            given[name] = tuple(value or ())
        else:
            given[name] = value
    for name in overridden(known, typed):
        given[name] = known[name].default
    return given


def _typed(context: typer.Context, known: Mapping[str, Option]) -> Iterator[str]:
    """The options that were given on the command line, rather than in a recipe or not at all."""
    for name in known:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            yield name
