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
from fairdd_cli.metrics import summarise
from fairdd_cli.reporting import (
    Row,
    Section,
    arrange,
    as_csv,
    as_json,
    build_rows,
    latex,
    markdown,
    plain,
    read,
    sheets,
    with_intervals,
    with_published,
)
from fairdd_cli.reporting.outside_text import printable
from fairdd_cli.reporting.published import published_values
from fairdd_cli.runtime import Streams

HOSTILE = "[bold]$x_1$|<script>alert(1)</script>&\\cmd{},"


def rows_of(*paths: str) -> list[Row]:
    return build_rows(read(paths))


def sections_of(*paths: str) -> list[Section]:
    return arrange(rows_of(*paths))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 3, 2), (3, 2, 1, 0)])
def test_a_network_in_several_evaluations_counts_once(tmp_path: Path, order: tuple[int, ...]) -> None:
    two, five = (write(tmp_path / f"{seeds}.json", seeds=seeds) for seeds in (2, 5))
    both = evaluation(seeds=5)
    several = {**both.confusion, "mlp": confusion(np.full((3, 2), 0.4), seeds=5)}
    more = str(tmp_path / "more.json")
    write_evaluation(more, replace(both, confusion=several), {name: summarise(t) for name, t in several.items()})
    other = write(tmp_path / "other.json", seeds=3, seed=1)
    found = read([[two, five, more, other][number] for number in order])
    assert sum(run.seeds for run in found if run.setting.network == "convnet") == 5 + 3
    assert sum(run.seeds for run in found if run.setting.network == "mlp") == 5


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
        write(tmp_path / "f.json", options={"distill": {**distill, "experts": "sha256:" + "7" * 64}}),
        write(tmp_path / "g.json", options={"distill": distill, "distill_environment": {"precision": "bf16"}}),
        write(tmp_path / "d.json", dataset_digest="sha256:" + "e" * 64),
        write(tmp_path / "e.json", recall=np.full((2, 2), 0.7)),
    ]
    rows = rows_of(*paths)
    assert len(rows) == 7
    assert "experts=sha256:77777777…" in rows.pop(3).variant
    assert "distill precision=bf16" in rows.pop(3).variant
    assert "iterations=5000" in rows[1].variant
    assert "momentum=0.9" in rows[2].variant
    assert "seed" not in rows[2].variant
    assert [row.setting.dataset for row in rows] == ["toy dddddddd"] * 3 + ["toy eeeeeeee", "toy dddddddd"]
    assert [section.common["dataset"] for section in arrange(rows)] == ["toy dddddddd", "toy eeeeeeee"]
    assert {record["dataset"] for record in json.loads(as_json(arrange(rows)))} == {"toy"}


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
    (sheet,) = sheets(sections_of(*paths))
    assert "dm: no vanilla row with the same iterations and protocol" in sheet.notes[0]
    (sheet,) = sheets(sections_of(*pair(tmp_path)))
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
    assert fair.delta["accuracy"].points == pytest.approx(
        (fair.mean("accuracy") or 0) - (vanilla.mean("accuracy") or 0)
    )
    assert fair.delta["deo_max"].points < -40
    assert all(row.vanilla is None for row in others)


def test_the_vanilla_row_of_the_same_sampling_is_preferred(tmp_path: Path) -> None:
    balanced = write(tmp_path / "balanced.json", **UNFAIR, sampling="balanced", ipc=10)
    _, fair, _ = rows_of(*pair(tmp_path), balanced)
    assert fair.vanilla is not None
    assert fair.vanilla.setting.sampling == "balanced"
    assert fair.other_differences == ()


def test_what_else_differs_from_the_vanilla_row_is_said(tmp_path: Path) -> None:
    distill = {"method": "dm", "init": "balanced", "hyper": {"momentum": 0.5}, "batch_real": 40}
    paths = [write(tmp_path / "vanilla.json"), write(tmp_path / "fair.json", **FAIR, options={"distill": distill})]
    (section,) = sections_of(*paths)
    differs = "batch_real 40 (vanilla none), init balanced (vanilla real)"
    (sheet,) = sheets([section])
    assert f"; dm fairdd also differs in {differs}" in sheet.notes[0]
    (_, fair) = json.loads(as_json([section]))
    assert ", ".join(fair["unlike_vanilla"]) == differs


def test_sections_are_grouped_sorted_and_marked(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.json", recall=0.5, method="gm"),
        write(tmp_path / "b.json", recall=0.9),
        write(tmp_path / "c.json", recall=0.7, dataset="another"),
    ]
    rows = rows_of(*paths)
    another, toy = arrange(rows)
    assert (another.common, toy.common) == ({"dataset": "another"}, {"dataset": "toy"})
    assert [row.setting.method for row in toy.rows] == ["dm", "gm"]
    assert [toy.is_best(row, "accuracy") for row in toy.rows] == [True, False]
    assert not another.is_best(another.rows[0], "accuracy")  # nothing to be better than
    (whole,) = arrange(rows, group_by=(), sort=("deo_mean", "accuracy"))
    found = [row.mean("deo_mean") or 0 for row in whole.rows]
    assert found == sorted(found)
    (turned,) = arrange(rows, group_by=(), sort=("accuracy",), reverse=True)
    assert [row.setting.method for row in turned.rows] == ["gm", "dm", "dm"]
    with pytest.raises(UsageError, match="did you mean 'deo_mean'"):
        arrange(rows, sort=("deo_men",))
    with pytest.raises(UsageError, match="did you mean 'method'"):
        arrange(rows, group_by=("metod",))


def test_rows_without_a_metric_come_last(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.json"), write(tmp_path / "b.json", recall=np.full((2, 2), 0.7))]
    (section,) = arrange(rows_of(*paths), sort=("demographic_parity_difference",))
    assert [row.mean("demographic_parity_difference") is None for row in section.rows] == [False, True]


def test_intervals_say_whether_fair_beats_vanilla(tmp_path: Path) -> None:
    same = write(tmp_path / "same.json", **UNFAIR, method="gm", images=500)
    alike = write(tmp_path / "alike.json", **UNFAIR, method="gm", images=499, fairness="barycenter")
    rows = with_intervals(rows_of(*pair(tmp_path), same, alike), 400, Streams(0).numpy)
    _, fair, _, unclear = rows
    assert fair.delta["accuracy"].verdict == fair.delta["deo_mean"].verdict == "better"
    assert unclear.delta["accuracy"].verdict == "unclear"
    for row in rows:
        for name, (low, high) in row.intervals.items():
            assert 0 <= low <= (row.mean(name) or 0) + 1e-9
            assert (row.mean(name) or 0) - 1e-9 <= high <= 100
    again = with_intervals(rows_of(pair(tmp_path)[1]), 400, Streams(0).numpy)
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
    (row,) = with_published(rows_of(path))
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
    assert not with_published(rows_of(write(tmp_path / "b.json")))[0].references


def test_the_published_table_is_whole() -> None:
    table = published_values()
    assert sum(map(len, table.values())) == 380
    assert ("cifar10-s", 0, "whole", "vanilla", "convnet") in table
    counts = {name: {line.test_images for line in lines} for (name, *_), lines in table.items()}
    assert (counts["c-mnist-fg"], counts["celeba"]) == ({10_000}, {None})
    assert all(line.source and line.metrics for lines in table.values() for line in lines)


def full(tmp_path: Path) -> list[Section]:
    """Sections in which everything that can be said is said."""
    paths = pair(tmp_path, dataset="c-fmnist-fg")
    rows = with_intervals(rows_of(*paths), 100, Streams(0).numpy)
    return arrange(with_published(rows))


def test_plain_text_fits_a_terminal(tmp_path: Path) -> None:
    text = plain(sheets(full(tmp_path), fold=True))
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("c-fmnist-fg, IPC 10, convnet, 3 seeds\n")
    assert "vs vanilla" in text
    assert "published [1]" in text
    assert plain(sheets(full(tmp_path), fold=True), ascii_only=True).isascii()


def test_a_spread_is_spoken_of_where_there_is_one(tmp_path: Path) -> None:
    alone = plain(sheets(sections_of(write(tmp_path / "one.json", seeds=1))))
    assert "In percent, of one seed" in alone
    assert "±" not in alone
    several = plain(sheets(sections_of(write(tmp_path / "two.json", seeds=2))))
    assert "Mean ± standard deviation over seeds, in percent" in several


def test_markdown_and_latex_mark_the_best(tmp_path: Path) -> None:
    (sheet,) = found = sheets(full(tmp_path))
    best = next(line.values[0] for line in sheet.lines if line.best[0])
    table = [line for line in markdown(found).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert f"**{best}**" in markdown(found)
    source = latex(found)
    assert f"\\textbf{{{best}}}".replace("±", "$\\pm$") in source
    rows = [line for line in source.splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in rows}) == 1
    numbered = [line for line in source.splitlines() if line.startswith("% [")]
    assert len(numbered) == len([note for note in sheet.notes if note.startswith("[")]) > 1
    assert all(f"published {{[}}{line[3]}{{]}}" in source for line in numbered)
    assert "bold: best" in source
    assert "* best" not in source
    words = " ".join(source.replace("\n% ", " ").split())
    assert "interval: 95 % bootstrap interval; !: a difference whose interval leaves out 0" in words


def test_json_and_csv_hold_everything(tmp_path: Path) -> None:
    sections = full(tmp_path)
    vanilla, fair = json.loads(as_json(sections))
    assert (vanilla["fairness"], fair["fairness"]) == ("vanilla", "fairdd")
    assert (
        fair["metrics"]["accuracy"]["per_seed"]
        == summarise(evaluation(0.8).confusion["convnet"])["accuracy"]["per_seed"]
    )
    assert fair["metrics"]["deo_max"]["vs_vanilla"]["verdict"] == "better"
    assert fair["published"][0]["accuracy"] == {"mean": 77.09, "std": None}
    lines = list(csv.DictReader(io.StringIO(as_csv(sections))))
    assert [line["published_source"][:5] for line in lines] == ["faird", "cobra", "faird", "cobra"]
    assert float(lines[2]["accuracy"]) == fair["metrics"]["accuracy"]["mean"]
    assert float(lines[2]["accuracy_vs_vanilla"]) == fair["metrics"]["accuracy"]["vs_vanilla"]["points"]
    assert lines[2]["accuracy_verdict"] == "better"


def test_empty_cells_are_told_and_a_metric_may_be_missing(tmp_path: Path) -> None:
    table = confusion(np.full((3, 2), 0.6))
    table[:, 1, 0] = 0
    path = write(tmp_path / "a.json", confusion={"convnet": table})
    assert "1 of 6 cells have no test image" in " ".join(plain(sheets(sections_of(path))).split())
    rows = build_rows(read([path]), "zero")
    assert rows[0].mean("worst_group_accuracy") == 0
    shown = plain(sheets(sections_of(path), ["accuracy", "demographic_parity_difference"]))
    assert shown.splitlines()[3].endswith(" -")
    assert "NaN" not in as_json(sections_of(path))


def test_names_from_files_stay_text(tmp_path: Path) -> None:
    hostile = {"dataset": HOSTILE, "method": HOSTILE, "network": HOSTILE}
    path = write(tmp_path / "a.json", **hostile)
    (section,) = sections_of(path)
    other = {"distill": {"init": HOSTILE, HOSTILE: "1"}}
    (both,) = sections = sections_of(path, write(tmp_path / "b.json", **hostile, fairness="fairdd", options=other))
    assert any(HOSTILE in words for words in both.rows[1].other_differences)
    assert HOSTILE in plain(sheets(sections))
    text = markdown(sheets(sections))
    assert "<script" not in text.replace("\\<", "")
    body = [line for line in latex(sheets(sections)).splitlines() if not line.startswith("%")]
    assert r"\textbackslash{}cmd\{\}" in body[4]
    assert r"\cmd" not in "".join(body)
    line, _ = csv.DictReader(io.StringIO(as_csv(sections)))
    assert line["method"] == section.rows[0].setting.method == HOSTILE
    assert printable("a\x1b[31m\n") == "a�[31m�"


def test_standard_input_is_read_once() -> None:
    with pytest.raises(UsageError, match="only once"):
        read(["-", "-"])


def test_many_files_are_read_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = pair(tmp_path)
    alone = rows_of(*paths)
    monkeypatch.setattr("fairdd_cli.reporting.results.PARALLEL_FROM", 2)
    together = rows_of(*paths)
    assert [row.metrics for row in alone] == [row.metrics for row in together]
    with pytest.raises(UsageError, match="does not exist"):
        read([*paths, str(tmp_path / "absent.json")])
