"""What users can type, and what they find in a file, is explained where they look: in the README or in the help."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fairdd_cli.artifacts import dataset, evaluation, experts, read_evaluation, synthetic
from fairdd_cli.artifacts._hdf5 import Schema, with_header
from fairdd_cli.cli import app
from fairdd_cli.config.report import FIGURES, FORMATS
from fairdd_cli.datasets import DATASETS
from fairdd_cli.fairness import STRATEGIES
from fairdd_cli.matching.initialisation import INITS
from fairdd_cli.matching.sampling import SAMPLINGS
from fairdd_cli.methods import METHODS
from fairdd_cli.metrics import METRICS
from fairdd_cli.networks import NETWORKS
from fairdd_cli.system import __version__
from fairdd_cli.verify import verify

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "recipes" / "guide"
README = "\n".join(page.read_text() for page in (ROOT / "README.md", *sorted(GUIDE.glob("*.md"))))
COMMANDS = typer.main.get_command(app).commands
SCHEMAS = [module.SCHEMA for module in (dataset, synthetic, evaluation, experts)]
COMMON = (*with_header("", {}), "options", "seed", "digest")  # what every file carries
NAMES = {
    "method": [*METHODS.names(), *METHODS.aliases],
    "strategy": STRATEGIES.names(),
    "sampling": list(SAMPLINGS),
    "first images": list(INITS),
    "network": NETWORKS.names(),
    "data set": DATASETS.names(),
    "format of a report": list(FORMATS),
    "picture of a report": list(FIGURES),
}
OPTIONS = [
    (name, parameter) for name, command in COMMANDS.items() for parameter in command.params if parameter.name != "help"
]


def in_code(text: str) -> set[str]:
    """The words that `text` sets as code, in lines and in blocks."""
    spans = re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)
    return {word for pair in spans for word in re.split(r"[\s,:{}()\[\]=|\"]+", "".join(pair)) if word}


def undocumented(names: Iterable[str], text: str) -> list[str]:
    """Those of `names` that `text` does not set as code."""
    known = in_code(text)
    return [name for name in names if name not in known]


def shown(parameter: Any) -> str:
    """How an option or argument is typed."""
    return parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_and_explains_itself(name: str) -> None:
    assert f"fairdd {name}" in README
    text = COMMANDS[name].help
    assert len(text.split("\n\n")[0]) > 20
    assert f"fairdd {name}" in text, "its help should hold an example"
    assert COMMANDS[name].short_help


@pytest.mark.parametrize(("name", "parameter"), OPTIONS, ids=[f"{name} {shown(entry)}" for name, entry in OPTIONS])
def test_every_option_has_a_help_that_names_its_default(name: str, parameter: Any) -> None:
    text = (getattr(parameter, "help", "") or "").strip()
    assert len(text) > 10, f"fairdd {name} {shown(parameter)} has no help"
    assert not getattr(parameter, "hidden", False)
    optional = shown(parameter).startswith("-") and not getattr(parameter, "required", False)
    if optional and getattr(parameter, "default", None) is None:
        assert "(default: " in text or "repeatable" in text.lower(), f"fairdd {name} {shown(parameter)}: {text}"


@pytest.mark.parametrize("name", COMMANDS)
def test_options_that_the_readme_shows_exist(name: str) -> None:
    known = {spelling for entry in COMMANDS[name].params for spelling in (*entry.opts, *entry.secondary_opts)}
    calls = re.findall(rf"fairdd {name}\b([^|$\n`]*)", README.replace("\\\n", " "))
    used = {word for call in calls for word in re.findall(r"(?<!\S)--?[a-zA-Z][\w-]*", call)}
    assert used <= known | {"--help"}


@pytest.mark.parametrize("kind", NAMES)
def test_every_name_on_offer_is_in_the_readme(kind: str) -> None:
    assert not undocumented(NAMES[kind], README)


def test_every_option_of_report_is_in_the_readme() -> None:
    names = [shown(entry) for name, entry in OPTIONS if name == "report" and shown(entry).startswith("--")]
    assert not undocumented(names, README)


def test_every_metric_is_in_the_readme() -> None:
    assert not undocumented(METRICS, README)


@pytest.mark.parametrize("schema", SCHEMAS, ids=[schema.kind for schema in SCHEMAS])
def test_every_attribute_and_array_of_a_file_is_in_the_readme(schema: Schema) -> None:
    page = (GUIDE / "files.md").read_text(encoding="utf-8")
    text = page.split(f"\n### `{schema.kind}`\n")[1].split("\n#")[0]
    assert not undocumented([*schema.attributes, *schema.optional_attributes], text)
    assert not undocumented(COMMON, page)
    arrays = [*schema.arrays, *(name for group in schema.optional_arrays for name in group)]
    assert not undocumented(list(shown_arrays(arrays)), text)


def shown_arrays(names: Iterable[str]) -> Iterator[str]:
    """The arrays of a file as its tree shows them: the group, and the array within it."""
    for name in names:
        # A group within a group has a line of its own, but for the cells of a split.
        group, slash, rest = name.partition("/") if "/cells/" in name else name.rpartition("/")
        yield from (f"{group}/", rest.replace("*", "NAME")) if slash else (name,)


@pytest.mark.parametrize("script", ["make_tables.py", "make_results.py"])
def test_tables_are_those_of_the_code_and_of_the_evaluations(script: str) -> None:
    program = [sys.executable, str(ROOT / "recipes" / script), "--check"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), f"{done.stdout} {done.stderr}: run python recipes/{script}"


def test_the_evaluations_behind_the_results_are_sound_and_small() -> None:
    files = sorted((ROOT / "recipes" / "paper" / "results").glob("*.json"))
    assert files
    assert sum(path.stat().st_size for path in files) < 5e6
    assert [finding.problem for finding in verify([*map(str, files)])] == [""] * len(files)
    for path in files:
        found, (setting, name, cell) = read_evaluation(str(path)), path.stem.split(".")
        assert setting in ("paper", "ours", "best", "whole")
        assert (name, cell.partition("-")[0]) == (found.dataset, found.method)


def test_the_version_is_that_of_the_changelog_and_of_the_citation() -> None:
    heading = next(line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if "## " in line)
    assert heading == f"## {__version__}"
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_every_link_within_the_guide_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *GUIDE.glob("*.md"), *(ROOT / "recipes").glob("*.md")):
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert ":" in link or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_test_sees_what_is_missing() -> None:
    text = "uses `--init real` and\n```\nfairdd verify data.h5\n```\nbut noise only in prose"
    assert undocumented(["--init", "real", "verify", "noise"], text) == ["noise"]
