"""Names that come from files are text in every output, whatever they hold, and never without end."""

import csv
import io
import json
import resource
from pathlib import Path

import numpy as np
import pytest
from conftest import Fairdd, write_toy
from evaluations import FAIR, UNFAIR, evaluation, pair, write

from fairdd_cli.artifacts import write_evaluation
from fairdd_cli.errors import LONGEST_LINE, UsageError
from fairdd_cli.reporting import arrange, as_csv, as_json, build_rows, latex, markdown, plain, read, sheets
from fairdd_cli.reporting.notes import notes
from fairdd_cli.reporting.outside_text import LONGEST, bounded, printable
from fairdd_cli.reporting.page import page


def test_only_what_could_harm_is_replaced() -> None:
    assert printable("a\x1b[31m\n\u202e\x9b\udcff") == "a\ufffd[31m\ufffd\ufffd\ufffd\ufffd"
    kept = "caf\u00e9 \u00a0\u3000 \U0001f469\u200d\U0001f52c \u0645\u200c"
    assert printable(kept) == kept


def test_a_long_name_still_differs_from_others() -> None:
    one, other = bounded("x" * 500 + "1"), bounded("x" * 500 + "2")
    assert len(one) == len(other) == LONGEST
    assert one != other


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\u00a0=1+1"])
def test_a_spreadsheet_takes_no_name_for_a_formula(formula: str, tmp_path: Path) -> None:
    rows = build_rows(read([write(tmp_path / "a.json", method=formula)]))
    (line,) = csv.DictReader(io.StringIO(as_csv(arrange(rows))))
    assert line["method"] == f"'{formula}"
    assert float(line["accuracy"]) == pytest.approx(rows[0].mean("accuracy"))


def test_a_bracket_after_the_end_of_a_line_is_text_in_latex(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.json", method=f"[{number}mm]\\input{{x}}") for number in range(2)]
    source = latex(sheets(arrange(build_rows(read(paths)))))
    lines = [line for line in source.splitlines() if "mm" in line]
    assert len(lines) == 2
    for line in lines:
        assert line.split(" & ")[1].startswith("{[}")
        assert "\\input" not in line


def test_markdown_shows_entities_and_marks_as_they_are(tmp_path: Path) -> None:
    rows = build_rows(read([write(tmp_path / "a.json", method="&lt;b&gt; *x* [y](z)")]))
    assert r"\&lt;b\&gt; \*x\* \[y\](z)" in markdown(sheets(arrange(rows)))


def test_no_escape_of_a_file_or_its_name_reaches_a_terminal(fairdd: Fairdd, tmp_path: Path) -> None:
    name = "\x1b]0;owned\x07\u202ename.json"
    write(tmp_path / name, class_names=("\x1b[2J", "b", "c"), dataset="\x1b[31mred")
    for words in (["report", name], ["inspect", name], ["verify", name]):
        done = fairdd(*words, check=False)
        assert done.returncode in (0, 2)
        shown = done.stdout + done.stderr
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert "\u202e" not in shown


def test_a_line_break_in_a_name_or_value_ends_no_line(fairdd: Fairdd, tmp_path: Path) -> None:
    write(tmp_path / "two\nlines.json", dataset="three\nlines")
    (tmp_path / "a\rb.h5").write_text("no data")
    (tmp_path / "r\n.yaml").write_text('distill: {ipc: "1\\n2"}')
    for words in (
        ["inspect", "absent\nfile.h5"],
        ["inspect", "a\rb.h5"],
        ["distill", "absent\nfile.h5", "--method", "dm", "--ipc", "1"],
        ["evaluate", "absent\nfile.h5"],
        ["report", "absent\nfile.json"],
        ["distill", "d.h5", "--method", "dm", "--recipe", "r\n.yaml"],
        ["make-dataset", "folder", "--root", "a\nb", "--target", "x", "--protected", "y"],
    ):
        done = fairdd(*words, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    for words in (["inspect", "two\nlines.json"], ["verify", "two\nlines.json"]):
        done = fairdd(*words)
        assert r"two\nlines.json" in done.stdout + done.stderr
    assert "wrote page\\n.html\n" in fairdd("report", "two\nlines.json", "--html", "page\n.html").stderr


def test_an_error_ends_whatever_a_file_holds() -> None:
    error = UsageError("'a.yaml': expected a number, found " + "9" * 10**6 + "; write one", "See --help.")
    first, second = str(error).split("\n")
    assert len(first) < LONGEST_LINE + 5
    assert first.startswith("'a.yaml': expected a number, found 999")
    assert first.endswith("9; write one")
    assert second == "See --help."


def test_many_networks_with_long_names_stay_small(tmp_path: Path) -> None:
    table = np.ones((1, 2, 1, 2), np.int64)
    tables = {f"mlp:{number}": table for number in range(200)}
    long = "x" * 100_000
    options = {"distill": {"init": long, "hyper": {long: long}}, "networks": []}
    path = tmp_path / "a.json"
    given = {"confusion": tables, "method": long, "dataset": long, "class_names": (long, "b"), "options": options}
    write_evaluation(str(path), evaluation(recall=np.full((2, 1), 0.5), **given), {})
    assert path.stat().st_size < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = build_rows(read([str(path)]))
    assert len(rows) == 200
    sections = arrange(rows)
    texts = [plain(sheets(sections, fold=True)), as_json(sections), as_csv(sections), page(sections, ["accuracy"])]
    assert max(map(len, texts)) < 2**22
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # in kB


def test_options_without_end_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", options={"distill": {f"option {number}": number for number in range(5000)}})
    with pytest.raises(UsageError, match=r"has 5,\d+ options; a report takes up to 1,000"):
        read([path])


def test_environments_are_compared(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", **UNFAIR, environment={"device": "cpu", "torch": "2.13", "precision": "fp32"})
    other = write(tmp_path / "b.json", **FAIR, environment={"device": "cuda", "torch": "2.14", "precision": "fp32"})
    less = write(tmp_path / "c.json", **FAIR, environment={"device": "cuda", "torch": "2.14", "precision": "bf16"})
    older = write(tmp_path / "d.json", **FAIR, seed=1)  # of a version that did not record it
    rows = build_rows(read([first, other, less, older]))
    assert [(row.seeds, row.variant) for row in rows] == [(3, ""), (6, ""), (3, "evaluation precision=bf16")]
    said = "; ".join(notes(rows))
    assert "networks were trained in different environments: device cpu (3), cuda (6); torch 2.13 (3), 2.14 (6)" in said
    assert rows[1].vanilla is rows[0]
    assert rows[2].vanilla is None  # less precise than any vanilla row
    assert "environments" not in "; ".join(notes(build_rows(read([first]))))


def test_small_cells_are_cautioned_against_everywhere(fairdd: Fairdd, tmp_path: Path) -> None:
    few, enough = pair(tmp_path, images=29), write(tmp_path / "enough.json", images=30)
    caution = "caution: 6 of 6 cells have fewer than 30 test images (the smallest 29)"
    for words in ([], ["--format", "markdown"], ["--format", "latex"]):
        text = fairdd("report", *few, *words).stdout
        assert caution in " ".join(text.replace("\n% ", " ").split())
    assert "caution" not in fairdd("report", enough).stdout
    fairdd("report", *few, "--html", "page.html")
    assert caution[1:] in (tmp_path / "page.html").read_text()
    assert json.loads(fairdd("report", *few, "--format", "json").stdout)[0]["smallest_cell"] == 29
    write_toy(tmp_path / "toy.h5", np.full((2, 2), 6))  # two test images a cell
    done = fairdd("evaluate", "toy.h5", "--network", "mlp", "--epochs", 1, "--seeds", 1, "-o", "e.json")
    for each in (done, fairdd("inspect", "e.json")):
        assert "caution: 4 of 4 cells have fewer than 30 test images (the smallest 2)" in each.stderr
    assert "caution" not in fairdd("inspect", enough).stderr
    held_out = write(tmp_path / "val.json", images=29, options={"split": "val"})
    assert caution.replace("test", "validation") in " ".join(fairdd("report", held_out).stdout.split())
    done = fairdd("make-dataset", "c-fmnist-fg", "--embedded", "--limit", 200, "--test-per-cell", 2, "-o", "few.h5")
    assert "warning: 100 of 100 cells with fewer than 30 test images" in done.stderr
