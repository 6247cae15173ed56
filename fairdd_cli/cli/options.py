"""Options that several commands share, each declared once, and recipes, which set the options of a command."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from fairdd_cli.errors import UsageError, unknown
from fairdd_cli.registry import Registry

RECIPE_LIMIT = 2**20  # bytes


def _load_recipe(context: typer.Context, value: Path | None) -> Path | None:
    """Makes the recipe's section for this command its defaults: built-in default < recipe < command line."""
    if value is not None:
        context.meta["recipe"] = read_recipe(value, context)
        context.default_map = {**(context.default_map or {}), **context.meta["recipe"]}
    return value


def read_recipe(path: Path, context: typer.Context) -> dict[str, Any]:
    """The options of the running command in the YAML file at `path`, by parameter name.

    A recipe has a section for each subcommand, with keys spelled as the options. Raises UsageError for a file
    that is missing or no such mapping, and for a key that is not an option, naming the nearest.
    """
    import yaml

    try:
        with path.open(encoding="utf-8") as stream:
            content = yaml.safe_load(stream.read(RECIPE_LIMIT))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--recipe: '{path}' cannot be read as YAML: {str(error).splitlines()[0]}") from error
    commands = context.parent.command.commands if context.parent else {}  # type: ignore[attr-defined]
    if not isinstance(content, dict) or not all(isinstance(each, dict | type(None)) for each in content.values()):
        raise UsageError(f"--recipe: '{path}' should hold a section of options for each of {', '.join(commands)}")
    for section in content:
        if section not in commands:
            raise unknown(f"section of recipe '{path}'", str(section), commands)
    known = {
        spelling.lstrip("-"): parameter
        for parameter in context.command.params
        for spelling in (*parameter.opts, parameter.name or "")
    }
    longest = sorted({max(parameter.opts, key=len).lstrip("-") for parameter in context.command.params})
    defaults: dict[str, Any] = {}
    for key, value in (content.get(context.command.name or "") or {}).items():
        if key not in known or key in ("recipe", "help"):
            raise unknown(
                f"option in the section '{context.command.name}' of recipe '{path}'",
                str(key),
                [name for name in longest if name not in ("recipe", "help")],
            )
        defaults[known[key].name or ""] = _as_typed(value, multiple=getattr(known[key], "multiple", False))
    return defaults


def _as_typed(value: object, multiple: bool) -> object:
    """`value` as it would be typed.

    A mapping becomes key=value words, one value of a repeatable option a list, a list of any other one its commas.
    """
    if isinstance(value, dict):
        return [f"{key}={entry}" for key, entry in value.items()]
    if multiple:
        return [str(entry) for entry in (value if isinstance(value, list) else [value])]
    return ",".join(map(str, value)) if isinstance(value, list) else value


def from_recipe(context: typer.Context, parameter: str) -> list[str]:
    """What the recipe, if there is one, gives for a repeatable `parameter`."""
    found: list[str] = context.meta.get("recipe", {}).get(parameter, [])
    return found


def is_typed(context: typer.Context, parameter: str) -> bool:
    """Whether `parameter` was given on the command line, rather than in a recipe or not at all."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def assignments(items: list[str]) -> dict[str, str]:
    """The `-O key=value` words as a mapping; raises UsageError for one that is not of that form."""
    pairs = {}
    for item in items:
        matched = re.fullmatch(r"([A-Za-z_][\w-]*)=(.*)", item)
        if not matched:
            raise UsageError(f"-O '{item}' should read key=value")
        pairs[matched[1].replace("-", "_")] = matched[2]
    return pairs


def listing(registry: Registry) -> str:
    """The names of `registry`, for help texts and completion."""
    return ", ".join(registry.names())


Device = Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu, cuda or cuda:N.")]
Precision = Annotated[str, typer.Option("--precision", help="fp32, or less exact: bf16, and on a GPU tf32.")]
Recipe = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="FILE.yaml",
        callback=_load_recipe,
        is_eager=True,
        help="Take defaults from this command's section of a YAML file. (default: none)",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show the traceback of an error.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Key of every random draw: the same seed, the same file.")]
Every = Annotated[
    float,
    typer.Option(
        "--checkpoint-every",
        min=0,
        metavar="SECONDS",
        help="How often the state is saved beside the output; the same command run again continues from it.",
    ),
]
Restart = Annotated[bool, typer.Option("--restart", help="Discard the checkpoint of an interrupted run.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="On a GPU, use only algorithms that give the same bits every time.")
]
Compile = Annotated[
    str,
    typer.Option(
        "--compile", help="Whether networks are compiled: auto (where that pays for the run's length), on or off."
    ),
]
Residency = Annotated[
    str, typer.Option("--residency", help="Where the images stay: auto, device, memory or disk (read batch by batch).")
]
