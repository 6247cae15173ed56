"""The recipes of the paper: all of them load, and are what the script beside them writes."""

import subprocess
import sys
from pathlib import Path

import pytest

from fairdd_cli.config import DistillConfig, assignments
from fairdd_cli.config.recipe import read_recipe
from fairdd_cli.distill import resolve_config
from fairdd_cli.networks import parse_network

FOLDER = Path(__file__).parent.parent / "recipes" / "paper"
FILES = sorted(FOLDER.glob("*/*.yaml"))


def test_every_cell_of_tables_1_and_2_has_its_recipe() -> None:
    names = {path.stem for path in FILES if path.parent.name == "tables-1-2"}
    assert len(names) == 8 * 3 * 5
    assert {"c-mnist-fg-dm-ipc10", "bffhq-dream-ipc100", "celeba-random-ipc50"} <= names


def test_the_files_are_what_the_script_writes() -> None:
    program = [sys.executable, str(FOLDER / "make_recipes.py"), "--check"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), f"{done.stdout} {done.stderr}"


@pytest.mark.parametrize("folder", sorted({path.parent.name for path in FILES}))
def test_every_recipe_loads_and_makes_a_plan(folder: str) -> None:
    for path in FILES:
        if path.parent.name != folder:
            continue
        opening = path.read_text(encoding="utf-8").splitlines()
        assert any(line.startswith("#     fairdd distill") and str(path.name) in line for line in opening)
        assert any(line.startswith("# Cost:") for line in opening)
        assert any(line.startswith("# Published") for line in opening)
        chosen = read_recipe(str(path), "distill")
        hyper = assignments(chosen.pop("hyper", []))
        fairness = "fairdd" if chosen["method"] != "random" else "vanilla"
        made = resolve_config(DistillConfig(data="data.h5", hyper=hyper, **{"fairness": fairness, **chosen}))
        assert made.sampling == "proportional"  # as in the paper, though not the default of a fair strategy
        assert made.iterations == chosen["iterations"]
        for network in read_recipe(str(path), "evaluate")["network"]:
            parse_network(network)
