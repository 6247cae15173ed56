"""What tells the rows of a setting apart: in words where they are short, else by letters that notes explain."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Fairdd
from evaluations import FAIR, evaluation, write

from fairdd_cli.reporting import Section, arrange, as_csv, as_json, build_rows, latex, markdown, plain, read, sheets
from fairdd_cli.reporting.page import page

TRAINED = {"trained_networks": 3, "trained_sampling": "balanced", "experts": "sha256:" + "7" * 64}
TRAINED_WORDS = "iterations=300 trained_networks=3 trained_sampling=balanced"


def sections_of(folder: Path, *others: dict[str, Any]) -> list[Section]:
    """A fair row, and one for each of the `others`: what its set was distilled with besides."""
    options = evaluation().options
    paths = [write(folder / "0.json", **FAIR)]
    for number, other in enumerate(others, 1):
        more = {**options, "distill": {**options["distill"], **other}}
        iterations = other.get("iterations", evaluation().iterations)
        paths.append(write(folder / f"{number}.json", **FAIR, options=more, iterations=iterations))
    return arrange(build_rows(read(paths)))


def test_short_variants_stand_in_the_table(tmp_path: Path) -> None:
    (sheet,) = sheets(sections_of(tmp_path, {"iterations": 5000}), fold=True)
    place = sheet.columns.index("variant")
    assert [line.labels[place] for line in sheet.lines if line.is_row] == ["iterations=100", "iterations=5000"]
    assert len(sheet.notes) == 1


def test_long_variants_are_letters_in_every_text(tmp_path: Path) -> None:
    sections = sections_of(tmp_path, {"iterations": 300, **TRAINED}, {"iterations": 5000})
    (sheet,) = found = sheets(sections)
    place = sheet.columns.index("variant")
    assert [line.labels[place] for line in sheet.lines if line.is_row] == ["a", "b", "c"]
    assert sheet.notes[1:] == ("a: iterations=100", f"b: {TRAINED_WORDS}", "c: iterations=5000")
    for text in (plain(found), markdown(found), latex(found), page(sections, ["accuracy"])):
        lines = [line for line in text.splitlines() if "trained" in line]
        assert lines
        assert not any("fairdd" in line for line in lines if "details" not in line)  # not in a row of the table
        assert "b: iterations=300 " in text
    assert max(map(len, plain(sheets(sections, fold=True)).splitlines())) <= 80


def test_other_programs_get_the_variants_themselves(tmp_path: Path) -> None:
    sections = sections_of(tmp_path, {"iterations": 300, **TRAINED})
    assert json.loads(as_json(sections))[1]["variant"] == TRAINED_WORDS
    assert [line["variant"] for line in csv.DictReader(io.StringIO(as_csv(sections)))][1] == TRAINED_WORDS


def test_a_digest_is_named_only_where_nothing_else_differs(tmp_path: Path) -> None:
    (section,) = sections_of(tmp_path, TRAINED, {**TRAINED, "experts": "sha256:" + "8" * 64})
    words = [row.variant for row in section.rows]
    assert "experts=sha256:77777777… trained_networks=3" in words[1]
    assert "experts=sha256:88888888… trained_networks=3" in words[2]


def test_a_table_of_many_variants_has_enough_letters(tmp_path: Path) -> None:
    (section,) = sections_of(tmp_path, *({"init": f"{'x' * 20}{number}"} for number in range(30)))
    (sheet,) = sheets([section])
    place = sheet.columns.index("variant")
    letters = [line.labels[place] for line in sheet.lines if line.is_row]
    assert (letters[25], letters[26], letters[27]) == ("z", "aa", "ab")
    assert len(set(letters)) == 31


@pytest.mark.parametrize("width", [40, 80, 120])
def test_notes_are_as_wide_as_the_terminal(
    fairdd: Fairdd, tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections_of(tmp_path, {"iterations": 300, **TRAINED})
    monkeypatch.setenv("COLUMNS", str(width))
    text = fairdd("report", "0.json", "1.json", "--metric", "accuracy").stdout
    notes = text.rpartition("---\n")[2].splitlines()
    assert notes
    assert max(map(len, notes)) <= width
    assert len(notes) > 3 or width == 120
