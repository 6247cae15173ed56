"""Names are text: what the file system and a table allow goes the whole way, and nothing of it steers a terminal."""

import contextlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import write_toy
from evaluations import write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_trees import flat, table
from mutants import sealed
from typer.testing import CliRunner

from fairdd_cli.artifacts import read_dataset, read_evaluation, read_synthetic
from fairdd_cli.cli import app
from fairdd_cli.errors import HARMFUL

TRICKY = (
    "a\u00a0b",
    "\u3000",
    "x\u200dy",
    "\U0001f469\u200d\U0001f4bb",
    "[bold]",
    "=1+1",
    "<b>&",
    "\u202eabc",
    "-rf",
    "'\"",
)
HOSTILE = "\x1b[31mred\x07 \x9b2J \0 [bold]x[/bold]\u202e"
# What a table allows: no control characters and line breaks, and no spaces around, which it takes off.
letters = st.characters(exclude_categories=sorted(HARMFUL | {"Zs"}), exclude_characters="\ufeff")
labels = st.one_of(st.sampled_from(TRICKY[2:]), st.text(letters, min_size=1, max_size=12))
# What the file system allows; a surrogate stands for a byte that is no UTF-8.
folders = st.one_of(
    st.sampled_from([*TRICKY, "two\nlines", "\x1b[31m", "caf\udce9", "tab\t"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40),
).filter(lambda name: name not in (".", ".."))


def run(*words: object, folder: Path) -> str:
    """What the program says in `folder` when given these words, which it must take."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def harmful(text: str) -> set[str]:
    """The control characters in what was said."""
    return {letter for letter in text if ord(letter) < 32 or 127 <= ord(letter) < 160} - {"\n"}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(folders, st.lists(labels, min_size=2, max_size=3, unique_by=str.casefold), labels)
def test_every_name_goes_the_whole_way(
    tmp_path_factory: pytest.TempPathFactory, folder: str, classes: list[str], group: str
) -> None:
    place = tmp_path_factory.mktemp("names") / folder
    place.mkdir()
    rows = [
        [f"{y}{a}{i}.png", name, value]
        for y, name in enumerate(classes)
        for a, value in enumerate((group, f"not {group}"))
        for i in range(4)
    ]
    for name, *_ in rows:
        flat(place / name, 9)
    table(place / "labels.csv", [["file", "y", "a"], *rows])
    columns = ["--path", "file", "--target", "y", "--protected", "a"]
    options = ["--root", ".", "--csv", "labels.csv", *columns, "--size", 8, "--test-per-cell", 1, "-o", "data.h5"]
    said = run("make-dataset", "folder", *options, folder=place)
    network = ["--network", "convnet:width=4,depth=1"]
    distilled = ["--method", "dm", "--fair", "--ipc", 1, "--iterations", 1, *network, "-o", "s.h5"]
    said += run("distill", "data.h5", *distilled, folder=place)
    said += run("evaluate", "s.h5", "--seeds", 1, "--epochs", 1, "-o", "e.json", folder=place)
    said += run("report", "e.json", "--html", "page.html", folder=place)
    for file in ("data.h5", "s.h5", "e.json"):
        said += run("inspect", file, folder=place)
    said += run("verify", "data.h5", "s.h5", "e.json", folder=place)
    assert not harmful(said)
    named = read_dataset(str(place / "data.h5")).class_names  # a value that says nothing alone has its column's name
    assert {name.removeprefix("y=") for name in named} == set(classes)
    assert read_evaluation(str(place / "e.json")).class_names == read_synthetic(str(place / "s.h5")).class_names


def test_hostile_names_are_read_and_shown_as_text(tmp_path: Path) -> None:
    hostile = (HOSTILE, "two\nlines", "c")
    write(tmp_path / "e.json", class_names=hostile, dataset=HOSTILE)
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 3))
    with h5py.File(tmp_path / "toy.h5", "r+") as file:
        file.attrs["class_names"] = [HOSTILE.replace("\0", ""), "b"]
        file.attrs["protected_names"] = [HOSTILE.replace("\0", "") * 5, "b"]
        file.attrs["name"] = HOSTILE.replace("\0", "")
        sealed(file)
    assert read_evaluation(str(tmp_path / "e.json")).class_names == hostile
    said = "".join(run("inspect", name, folder=tmp_path) for name in ("e.json", "toy.h5"))
    for form in ("table", "markdown", "csv", "latex"):
        said += run("report", "e.json", "--format", form, folder=tmp_path)
    said += run("verify", "e.json", "toy.h5", folder=tmp_path)
    assert "[bold]x[/bold]" in said
    assert not harmful(said.replace("\r\n", "\n"))
    assert "\u202e" not in said
