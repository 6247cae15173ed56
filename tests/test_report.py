"""Rows of evaluations: pooling, pairing, sorting, intervals, published values, and every text format of them."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluations import FAIR, UNFAIR, confusion, evaluation, pair, write

from fairdd_cli.artifacts import write_evaluation
from fairdd_cli.errors import UsageError
from fairdd_cli.metrics import Cells, cells, summarise
from fairdd_cli.reporting import published
from fairdd_cli.reporting import results as runs
from fairdd_cli.reporting import table as report
from fairdd_cli.reporting import text as formats
from fairdd_cli.reporting.intervals import interval, replicates
from fairdd_cli.reporting.table import Row, Section
from fairdd_cli.runtime.device import Streams

HOSTILE = "[bold]$x_1$|<script>alert(1)</script>&\\cmd{},"


def rows_of(*paths: str) -> list[Row]:
    return report.build(runs.read(paths))


def sections_of(*paths: str) -> list[Section]:
    return report.arrange(rows_of(*paths))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 3, 2), (3, 2, 1, 0)])
def test_a_network_in_several_evaluations_counts_once(tmp_path: Path, order: tuple[int, ...]) -> None:
    two, five = (write(tmp_path / f"{seeds}.json", seeds=seeds) for seeds in (2, 5))
    both = evaluation(seeds=5)
    several = {**both.confusion, "mlp": confusion(np.full((3, 2), 0.4), seeds=5)}
    more = str(tmp_path / "more.json")
    write_evaluation(more, replace(both, confusion=several), {name: summarise(t) for name, t in several.items()})
    other = write(tmp_path / "other.json", seeds=3, seed=1)
    found = runs.read([[two, five, more, other][number] for number in order])
    assert sum(len(run.cells.total) for run in found if run.setting.network == "convnet") == 5 + 3
    assert sum(len(run.cells.total) for run in found if run.setting.network == "mlp") == 5


def test_a_row_is_what_summarise_says(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", seeds=4)
    (row,) = rows_of(path)
    assert row.setting == ("toy", "dm", "vanilla", "proportional", 10, "convnet")
    assert row.metrics == summarise(evaluation(seeds=4).confusion["convnet"])
    assert (row.seeds, row.test_images, row.vanilla) == (4, 300, None)


def test_seeds_of_several_files_and_forms_are_pooled(tmp_path: Path) -> None:
    tables = [confusion(np.full((3, 2), 0.6), seeds=2, seed=seed) for seed in range(3)]
    paths = [
        write(tmp_path / f"{seed}.{'h5' if seed else 'json'}", confusion={"convnet": table}, seed=seed)
        for seed, table in enumerate(tables)
    ]
    (row,) = rows_of(*paths, paths[0])  # a file given twice counts once
    assert row.seeds == 6
    assert row.metrics == summarise(np.concatenate(tables))


def test_what_depends_on_other_things_stays_apart(tmp_path: Path) -> None:
    distill = evaluation().options["distill"]
    paths = [
        write(tmp_path / "a.json"),
        write(tmp_path / "b.json", iterations=5000),
        write(tmp_path / "c.json", options={"distill": {**distill, "hyper": {"momentum": 0.9}, "seed": 3}}),
        write(tmp_path / "d.json", dataset_digest="sha256:" + "e" * 64),
        write(tmp_path / "e.json", recall=np.full((2, 2), 0.7)),
    ]
    rows = rows_of(*paths)
    assert len(rows) == 5
    assert "iterations=5000" in rows[1].variant
    assert "momentum=0.9" in rows[2].variant
    assert "seed" not in rows[2].variant
    assert [row.setting.dataset for row in rows] == ["toy dddddddd"] * 3 + ["toy eeeeeeee", "toy dddddddd"]
    assert [section.common["dataset"] for section in report.arrange(rows)] == ["toy dddddddd", "toy eeeeeeee"]
    assert {record["dataset"] for record in json.loads(formats.as_json(report.arrange(rows)))} == {"toy"}


def test_hyper_parameters_under_old_and_new_names_are_the_same_setting(tmp_path: Path) -> None:
    old, new = {"outer": 2, "inner": 3}, {"outer_loop": 2, "inner_loop": 3}
    for name, hyper in (("old", old), ("new", new), ("other", {**new, "inner_loop": 4})):
        options = {"distill": {"method": "gm", "hyper": hyper}}
        write(tmp_path / f"{name}.json", method="gm", options=options, seed=len(name))
    assert len(rows_of(str(tmp_path / "old.json"), str(tmp_path / "new.json"))) == 1
    assert len(rows_of(str(tmp_path / "old.json"), str(tmp_path / "other.json"))) == 2


def test_sets_with_learned_rates_are_pooled_and_compared(tmp_path: Path) -> None:
    protocol = evaluation().protocol
    paths = [
        write(
            tmp_path / f"{number}.json",
            **given,
            method="mtt",
            synthetic_digest=f"sha256:{number}",
            protocol={**protocol, "learning_rate": rate},
            options={"learned_rate": rate},
        )
        for number, (rate, given) in enumerate([(0.011, UNFAIR), (0.012, UNFAIR), (0.013, FAIR)])
    ]
    vanilla, fair = rows_of(*paths)
    assert (vanilla.seeds, vanilla.details["evaluation learning_rate"]) == (6, "learned")
    assert fair.vanilla is not None
    chosen = {"protocol": {**protocol, "learning_rate": 0.5}, "options": {"learned_rate": 0.014}}
    (other,) = rows_of(write(tmp_path / "chosen.json", **FAIR, method="mtt", **chosen))
    assert other.details["evaluation learning_rate"] == "0.5"


def test_rows_that_cannot_be_compared_are_told(tmp_path: Path) -> None:
    paths = [write(tmp_path / "vanilla.json", **UNFAIR), write(tmp_path / "fair.json", **FAIR, iterations=7)]
    (sheet,) = formats.sheets(sections_of(*paths))
    assert "dm: no vanilla row as long and evaluated alike" in sheet.notes[0]
    (sheet,) = formats.sheets(sections_of(*pair(tmp_path)))
    assert "no vanilla row" not in sheet.notes[0]


def test_every_network_is_a_row(tmp_path: Path) -> None:
    tables = {"convnet": confusion(np.full((3, 2), 0.6)), "mlp": confusion(np.full((3, 2), 0.5))}
    assert [row.setting.network for row in rows_of(write(tmp_path / "a.json", confusion=tables))] == ["convnet", "mlp"]


def test_a_fair_row_is_compared_with_the_vanilla_row_of_its_setting(tmp_path: Path) -> None:
    paths = [
        *pair(tmp_path),
        write(tmp_path / "other-data.json", **UNFAIR, dataset_digest="sha256:" + "e" * 64),
        write(tmp_path / "other-ipc.json", **FAIR, ipc=50),
        write(tmp_path / "other-iterations.json", **FAIR, iterations=7),
    ]
    vanilla, fair, *others = rows_of(*paths)
    assert fair.vanilla is not None
    assert fair.vanilla.setting == vanilla.setting
    assert fair.versus["accuracy"].points == pytest.approx(
        (fair.mean("accuracy") or 0) - (vanilla.mean("accuracy") or 0)
    )
    assert fair.versus["deo_max"].points < -40
    assert all(row.vanilla is None for row in others)


def test_the_vanilla_row_of_the_same_sampling_is_preferred(tmp_path: Path) -> None:
    balanced = write(tmp_path / "balanced.json", **UNFAIR, sampling="balanced", ipc=10)
    _, fair, _ = rows_of(*pair(tmp_path), balanced)
    assert fair.vanilla is not None
    assert fair.vanilla.setting.sampling == "balanced"
    assert fair.unlike_vanilla == ()


def test_what_else_differs_from_the_vanilla_row_is_said(tmp_path: Path) -> None:
    distill = {"method": "dm", "init": "balanced", "hyper": {"momentum": 0.5}, "batch_real": 40}
    paths = [write(tmp_path / "vanilla.json"), write(tmp_path / "fair.json", **FAIR, options={"distill": distill})]
    (section,) = sections_of(*paths)
    differs = "batch_real 40 (vanilla none), init balanced (vanilla real)"
    (sheet,) = formats.sheets([section])
    assert f"; dm fairdd also has {differs}" in sheet.notes[0]
    (_, fair) = json.loads(formats.as_json([section]))
    assert ", ".join(fair["unlike_vanilla"]) == differs


def test_sections_are_grouped_sorted_and_marked(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.json", recall=0.5, method="gm"),
        write(tmp_path / "b.json", recall=0.9),
        write(tmp_path / "c.json", recall=0.7, dataset="another"),
    ]
    rows = rows_of(*paths)
    another, toy = report.arrange(rows)
    assert (another.common, toy.common) == ({"dataset": "another"}, {"dataset": "toy"})
    assert [row.setting.method for row in toy.rows] == ["dm", "gm"]
    assert [toy.is_best(row, "accuracy") for row in toy.rows] == [True, False]
    assert not another.is_best(another.rows[0], "accuracy")  # nothing to be better than
    (whole,) = report.arrange(rows, group_by=(), sort=("deo_mean", "accuracy"))
    found = [row.mean("deo_mean") or 0 for row in whole.rows]
    assert found == sorted(found)
    (turned,) = report.arrange(rows, group_by=(), sort=("accuracy",), reverse=True)
    assert [row.setting.method for row in turned.rows] == ["gm", "dm", "dm"]
    with pytest.raises(UsageError, match="did you mean 'deo_mean'"):
        report.arrange(rows, sort=("deo_men",))
    with pytest.raises(UsageError, match="did you mean 'method'"):
        report.arrange(rows, group_by=("metod",))


def test_rows_without_a_metric_come_last(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.json"), write(tmp_path / "b.json", recall=np.full((2, 2), 0.7))]
    (section,) = report.arrange(rows_of(*paths), sort=("demographic_parity_difference",))
    assert [row.mean("demographic_parity_difference") is None for row in section.rows] == [False, True]


def test_replicates_spread_as_binomial_draws_do() -> None:
    table = Cells(np.full((1, 1, 1), 300), np.full((1, 1, 1), 400))
    found = replicates(table, 20_000, Streams(0).numpy("test"))["accuracy"]
    assert found.mean() == pytest.approx(0.75, abs=1e-3)
    assert found.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.03)


def test_seeds_that_share_images_do_not_hide_their_noise() -> None:
    one = Cells(np.full((1, 2, 2), 60), np.full((1, 2, 2), 100))
    ten = Cells(np.full((10, 2, 2), 60), np.full((10, 2, 2), 100))
    spread = [replicates(c, 4000, Streams(0).numpy("test"))["accuracy"].std() for c in (one, ten)]
    assert spread[0] == pytest.approx(spread[1], rel=0.1)


def test_replicates_vary_with_the_seeds() -> None:
    correct = np.array([0, 1000] * 5).reshape(10, 1, 1) * 1000
    found = replicates(Cells(correct, np.full((10, 1, 1), 10**6)), 4000, Streams(0).numpy("test"))["accuracy"]
    assert found.std() == pytest.approx(0.5 / np.sqrt(10), rel=0.1)


def test_replicates_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    table = cells(confusion(np.full((3, 2), 0.6)))
    whole = replicates(table, 50, Streams(0).numpy("test"))
    assert all(values.shape == (50,) and np.isfinite(values).all() for values in whole.values())
    monkeypatch.setattr("fairdd_cli.reporting.intervals.CHUNK", 1)
    assert replicates(table, 50, Streams(0).numpy("test"))["accuracy"].shape == (50,)


def test_an_interval_is_about_its_estimate() -> None:
    low, high = interval(10.0, np.random.default_rng(0).normal(50, 1, 100_000), 0.95)
    assert (low, high) == pytest.approx((10 - 1.96, 10 + 1.96), abs=0.05)


def test_intervals_say_whether_fair_beats_vanilla(tmp_path: Path) -> None:
    same = write(tmp_path / "same.json", **UNFAIR, method="gm", images=500)
    alike = write(tmp_path / "alike.json", **UNFAIR, method="gm", images=499, fairness="barycenter")
    rows = report.with_intervals(rows_of(*pair(tmp_path), same, alike), 400, Streams(0).numpy)
    _, fair, _, unclear = rows
    assert fair.versus["accuracy"].verdict == fair.versus["deo_mean"].verdict == "better"
    assert unclear.versus["accuracy"].verdict == "unclear"
    for row in rows:
        for name, (low, high) in row.intervals.items():
            assert 0 <= low <= (row.mean(name) or 0) + 1e-9
            assert (row.mean(name) or 0) - 1e-9 <= high <= 100
    again = report.with_intervals(rows_of(pair(tmp_path)[1]), 400, Streams(0).numpy)
    assert again[0].intervals == fair.intervals  # a row's draws are its own


def test_published_values_stand_beside_with_what_differs(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        **{**FAIR, "recall": np.full((10, 10), 0.7)},
        dataset="c-fmnist-fg",
        images=10,
        iterations=500,
        options={"distill": {"network": "convnet:width=32", "batch_real": 40, "init": "real"}},
        network="convnet:width=16",
    )
    (row,) = published.beside(rows_of(path))
    ours, other = row.references
    assert ours.source == "fairdd-neurips2025-tables-1-2"
    assert other.source == "cobra-authors-runs-2026"
    assert ours.metrics == {"accuracy": (77.09, None), "deo_max": (26.87, None), "deo_mean": (16.38, None)}
    assert ours.differs == (
        "iterations 500 (published 20,000)",
        "batch_real 40 (published 256)",
        "evaluation epochs 300 (published 1,000)",
        "3 networks (published 10)",
        "network convnet:width=16 (published convnet)",
        "sampling balanced (published proportional)",
        "distilled with convnet:width=32 (published convnet)",
        "1,000 test images (published 10,000)",
    )
    assert not published.beside(rows_of(write(tmp_path / "b.json")))[0].references


def test_the_published_table_is_whole() -> None:
    table = published.table()
    assert sum(map(len, table.values())) == 380
    assert ("cifar10-s", 0, "whole", "vanilla", "convnet") in table
    assert all(line.source and line.metrics for lines in table.values() for line in lines)


def full(tmp_path: Path) -> list[Section]:
    """Sections in which everything that can be said is said."""
    paths = pair(tmp_path, dataset="c-fmnist-fg")
    rows = report.with_intervals(rows_of(*paths), 100, Streams(0).numpy)
    return report.arrange(published.beside(rows))


def test_plain_text_fits_a_terminal(tmp_path: Path) -> None:
    text = formats.plain(formats.sheets(full(tmp_path), fold=True))
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("c-fmnist-fg, IPC 10, convnet, 3 seeds\n")
    assert "vs vanilla" in text
    assert "published [1]" in text
    assert formats.plain(formats.sheets(full(tmp_path), fold=True), ascii_only=True).isascii()


def test_a_spread_is_spoken_of_where_there_is_one(tmp_path: Path) -> None:
    alone = formats.plain(formats.sheets(sections_of(write(tmp_path / "one.json", seeds=1))))
    assert "In percent, of one seed" in alone
    assert "±" not in alone
    several = formats.plain(formats.sheets(sections_of(write(tmp_path / "two.json", seeds=2))))
    assert "Mean ± standard deviation over seeds, in percent" in several


def test_markdown_and_latex_mark_the_best(tmp_path: Path) -> None:
    (sheet,) = sheets = formats.sheets(full(tmp_path))
    best = next(line.values[0] for line in sheet.lines if line.best[0])
    table = [line for line in formats.markdown(sheets).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert f"**{best}**" in formats.markdown(sheets)
    latex = formats.latex(sheets)
    assert f"\\textbf{{{best}}}".replace("±", "$\\pm$") in latex
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in rows}) == 1
    numbered = [line for line in latex.splitlines() if line.startswith("% [")]
    assert len(numbered) == len(sheet.notes) - 1 > 1
    assert all(f"published {line[2:5]}" in latex for line in numbered)
    assert "bold: best" in latex
    assert "* best" not in latex
    assert "interval: 95 % bootstrap interval; !: a difference whose interval leaves out 0" in latex


def test_json_and_csv_hold_everything(tmp_path: Path) -> None:
    sections = full(tmp_path)
    vanilla, fair = json.loads(formats.as_json(sections))
    assert (vanilla["fairness"], fair["fairness"]) == ("vanilla", "fairdd")
    assert (
        fair["metrics"]["accuracy"]["per_seed"]
        == summarise(evaluation(0.8).confusion["convnet"])["accuracy"]["per_seed"]
    )
    assert fair["metrics"]["deo_max"]["vs_vanilla"]["verdict"] == "better"
    assert fair["published"][0]["accuracy"] == {"mean": 77.09, "std": None}
    lines = list(csv.DictReader(io.StringIO(formats.as_csv(sections))))
    assert [line["published_source"][:5] for line in lines] == ["faird", "cobra", "faird", "cobra"]
    assert float(lines[2]["accuracy"]) == fair["metrics"]["accuracy"]["mean"]
    assert float(lines[2]["accuracy_vs_vanilla"]) == fair["metrics"]["accuracy"]["vs_vanilla"]["points"]
    assert lines[2]["accuracy_verdict"] == "better"


def test_empty_cells_are_told_and_a_metric_may_be_missing(tmp_path: Path) -> None:
    table = confusion(np.full((3, 2), 0.6))
    table[:, 1, 0] = 0
    path = write(tmp_path / "a.json", confusion={"convnet": table})
    assert "1 of 6 cells have no test image" in formats.plain(formats.sheets(sections_of(path)))
    rows = report.build(runs.read([path]), "zero")
    assert rows[0].mean("worst_group_accuracy") == 0
    shown = formats.plain(formats.sheets(sections_of(path), ["accuracy", "demographic_parity_difference"]))
    assert shown.splitlines()[3].endswith(" -")
    assert "NaN" not in formats.as_json(sections_of(path))


def test_names_from_files_stay_text(tmp_path: Path) -> None:
    hostile = {"dataset": HOSTILE, "method": HOSTILE, "network": HOSTILE}
    path = write(tmp_path / "a.json", **hostile)
    (section,) = sections_of(path)
    other = {"distill": {"init": HOSTILE, HOSTILE: "1"}}
    (both,) = sections = sections_of(path, write(tmp_path / "b.json", **hostile, fairness="fairdd", options=other))
    assert any(HOSTILE in words for words in both.rows[1].unlike_vanilla)
    assert HOSTILE in formats.plain(formats.sheets(sections))
    table = formats.markdown(formats.sheets(sections))
    assert "<script" not in table.replace("\\<", "")
    body = [line for line in formats.latex(formats.sheets(sections)).splitlines() if not line.startswith("%")]
    assert r"\textbackslash{}cmd\{\}" in body[4]
    assert r"\cmd" not in "".join(body)
    line, _ = csv.DictReader(io.StringIO(formats.as_csv(sections)))
    assert line["method"] == section.rows[0].setting.method == HOSTILE
    assert runs.clean("a\x1b[31m\n") == "a�[31m�"


def test_standard_input_is_read_once() -> None:
    with pytest.raises(UsageError, match="only once"):
        runs.read(["-", "-"])


def test_many_files_are_read_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = pair(tmp_path)
    alone = rows_of(*paths)
    monkeypatch.setattr("fairdd_cli.reporting.results.MANY", 2)
    together = rows_of(*paths)
    assert [row.metrics for row in alone] == [row.metrics for row in together]
    with pytest.raises(UsageError, match="does not exist"):
        runs.read([*paths, str(tmp_path / "absent.json")])
