"""The recipes of the paper: all of them load, and are what the script beside them writes."""

import importlib.util
from pathlib import Path

import pytest
import typer

from fairdd_cli.cli import app
from fairdd_cli.cli.options import read_recipe
from fairdd_cli.distill import make_plan
from fairdd_cli.networks import parse_network

FOLDER = Path(__file__).parent.parent / "recipes" / "paper"
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "config.yaml")  # that is snakemake's
COMMANDS = typer.main.get_command(app)


def sections(path: Path) -> dict[str, dict[str, object]]:
    """What each subcommand takes from the recipe at `path`, checked as the command line checks it."""
    parent = typer.Context(COMMANDS, info_name="fairdd")
    found = {}
    for name, command in COMMANDS.commands.items():  # type: ignore[attr-defined]
        context = typer.Context(command, parent=parent, info_name=name)
        found[name] = read_recipe(path, context)
    return found


def test_every_cell_of_tables_1_and_2_has_its_recipe() -> None:
    names = {path.stem for path in FILES if path.parent.name == "tables-1-2"}
    assert len(names) == 8 * 3 * 5
    assert {"c-mnist-fg-dm-ipc10", "bffhq-dream-ipc100", "celeba-random-ipc50"} <= names


def test_the_files_are_what_the_script_writes() -> None:
    specification = importlib.util.spec_from_file_location("make_recipes", FOLDER / "make_recipes.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    import sys

    sys.modules["make_recipes"] = module
    specification.loader.exec_module(module)
    written = {recipe.name: recipe.text() for recipe in module.recipes()}
    assert written == {str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8") for path in FILES}


@pytest.mark.parametrize("folder", sorted({path.parent.name for path in FILES}))
def test_every_recipe_loads_and_makes_a_plan(folder: str) -> None:
    for path in FILES:
        if path.parent.name != folder:
            continue
        opening = path.read_text(encoding="utf-8").splitlines()
        assert any(line.startswith("#     fairdd distill") and str(path.name) in line for line in opening)
        assert any(line.startswith("# Cost:") for line in opening)
        assert any(line.startswith("# Published") for line in opening)
        found = sections(path)
        chosen = {name.replace("-", "_"): value for name, value in found["distill"].items()}
        options = dict(item.split("=") for item in chosen.pop("option", []))  # type: ignore[union-attr, attr-defined]
        plan = {
            "fairness": "fairdd" if chosen["method"] != "random" else "vanilla",
            "sampling": None,
            "factor": None,
            "batch_real": None,
            "seed": 0,
            **chosen,
        }
        plan["network"] = parse_network(str(plan["network"]))
        made = make_plan(plan.pop("method"), options=options, **plan)  # type: ignore[arg-type]
        assert made.sampling == "proportional"  # as in the paper, though not the default of a fair strategy
        assert made.iterations == chosen["iterations"]
        for network in found["evaluate"]["network"]:  # type: ignore[attr-defined]
            parse_network(network)
