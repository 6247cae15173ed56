"""Figures: they are drawn from anything a report may hold, and what they say is right. How they look was looked at."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from evaluations import confusion, pair, synthetic, write
from PIL import Image
from readable import problems

from fairdd_cli.artifacts import SyntheticSet
from fairdd_cli.errors import UsageError
from fairdd_cli.reporting import Row, build_rows, figures, read
from fairdd_cli.reporting.coverage_figure import coverage_figure
from fairdd_cli.reporting.figures import SUFFIXES, inline_svg, render
from fairdd_cli.reporting.group_coverage import ClassProjection
from fairdd_cli.reporting.recall_maps import describe_recall, recall_maps
from fairdd_cli.reporting.scatter import CROWD, describe_scatter, pareto, scatter
from fairdd_cli.reporting.synthetic_figures import image_grid, loss_curves
from fairdd_cli.runtime import Streams

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
from matplotlib.figure import Figure


def rows_of(*paths: str) -> list[Row]:
    return build_rows(read(paths))


def texts(figure: Figure) -> str:
    root = ET.fromstring(render(figure, ".svg"))  # noqa: S314  # our own output
    return " ".join(element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))


def test_the_pareto_front_is_what_nothing_beats() -> None:
    points = np.array([[50, 40], [60, 30], [55, 35], [70, 30], [80, 90], [40, 10]], float)
    assert pareto(points, True, False) == [4, 3, 5]
    assert pareto(points, True, True) == [4]
    assert pareto(points[:1], True, False) == [0]


def test_scatter_names_what_it_shows(tmp_path: Path) -> None:
    rows = rows_of(*pair(tmp_path), write(tmp_path / "c.json", dataset="other", method="gm", ipc=50, seeds=1))
    figure = scatter(rows)
    shown = texts(figure)
    for word in (
        "toy, convnet",
        "other, convnet",
        "dm",
        "gm",
        "vanilla",
        "fairdd",
        "IPC 50",
        "Accuracy (%)",
        "DEO_A (%)",
    ):
        assert word in shown
    assert "toy dm fairdd, IPC 10: +" in describe_scatter(rows)


def test_a_crowd_is_drawn_without_arrows(tmp_path: Path) -> None:
    rows = rows_of(*pair(tmp_path))
    few, many = scatter(rows), scatter(rows * (CROWD // 2 + 1))
    assert len(few.axes[0].texts) == 1
    assert len(many.axes[0].texts) == 0


def test_scatter_needs_its_metrics(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row has both"):
        scatter(rows_of(write(tmp_path / "a.json")), y="demographic_parity_difference")


def test_recall_maps_stand_side_by_side(tmp_path: Path) -> None:
    vanilla, fair = rows_of(*pair(tmp_path))
    figure = recall_maps([vanilla, fair])
    shown = texts(figure)
    for word in ("dm vanilla", "dm fairdd", "class 2", "group 1", "Recall (%)", "DEO_A"):
        assert word in shown
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), vanilla.recall())
    assert "class 0, group 1" in describe_recall([vanilla])


def test_recall_maps_of_many_classes_and_empty_cells(tmp_path: Path) -> None:
    table = confusion(np.full((30, 2), 0.5), seeds=1)
    table[:, 3, 1] = 0
    names = tuple(f"class {i}" for i in range(30))
    (row,) = rows_of(write(tmp_path / "a.json", confusion={"convnet": table}, class_names=names))
    assert np.isnan(row.recall()[3, 1])
    assert render(recall_maps([row]), ".png")


@pytest.mark.parametrize("channels", [1, 3])
def test_image_grid_shows_each_class(channels: int) -> None:
    made = synthetic(channels=channels)
    figure = image_grid([made])
    assert "class 2" in texts(figure)
    assert "first 10" in figure.axes[0].get_title(loc="left")
    sheet = figure.axes[0].images[0].get_array()
    expected = np.clip(made.images[12] * 0.25 + 0.5, 0, 1).transpose(1, 2, 0)
    np.testing.assert_allclose(sheet[9:17, :8], np.broadcast_to(expected, (8, 8, 3)), atol=1e-6)


def test_image_grids_stand_side_by_side_under_their_scores(tmp_path: Path) -> None:
    sets = [replace(synthetic(fairness), digest="sha256:" + 64 * fairness[0]) for fairness in ("vanilla", "fairdd")]
    vanilla = write(tmp_path / "vanilla.json", synthetic_digest=sets[0].digest)
    fair = write(tmp_path / "fair.json", synthetic_digest=sets[1].digest, recall=0.8, fairness="fairdd")
    rows = rows_of(vanilla, fair)
    left, right = image_grid(sets, rows).axes
    assert left.get_title(loc="left").startswith("toy dm vanilla")
    assert right.get_title(loc="left").startswith("toy dm fairdd")
    for axes, row in zip((left, right), rows, strict=True):
        accuracy, deo_mean = (row.mean(metric) for metric in ("accuracy", "deo_mean"))
        assert f"Accuracy↑ {accuracy:.1f}±" in axes.get_xlabel()
        assert f"DEO_A↓ {deo_mean:.1f}±" in axes.get_xlabel()
    assert len(left.get_yticks()) == 3
    assert len(right.get_yticks()) == 0  # the classes are named once
    assert image_grid(sets[:1], rows[1:]).axes[0].get_xlabel() == ""  # not evaluated
    other = write(tmp_path / "other.json", synthetic_digest=sets[1].digest, seed=1)
    assert "mean of 2 sets" in image_grid(sets[:1], rows_of(vanilla, other)).axes[0].get_xlabel()
    mlp = write(tmp_path / "mlp.json", synthetic_digest=sets[0].digest, network="mlp")
    lines = image_grid(sets[:1], rows_of(vanilla, mlp)).axes[0].get_xlabel().replace("\n", " ")
    assert "convnet" in lines
    assert "mlp" in lines


def test_loss_curves_need_a_history() -> None:
    figure = loss_curves([synthetic(), synthetic("fairdd")])
    assert "toy dm fairdd IPC 12" in texts(figure)
    assert "matching loss" in figure.axes[0].get_ylabel()
    with pytest.raises(UsageError, match="history"):
        loss_curves([])


def test_loss_curves_say_which_losses_hold_the_noise_of_their_batches() -> None:
    def unbiased(loss: np.ndarray) -> SyntheticSet:
        made = synthetic("fairdd")
        return replace(made, history=replace(made.history, loss=loss, unbiased=True))

    falling = unbiased(np.linspace(2, -0.01, 200))
    assert "distance without sampling noise" in loss_curves([falling]).axes[0].get_ylabel()
    both = loss_curves([synthetic(), falling])
    assert "without" not in both.axes[0].get_ylabel()
    assert "IPC 12: matching loss" in texts(both)
    assert "without sampling noise" in texts(both)
    for loss in (np.full(200, -0.1), np.zeros(200)):  # nothing left to learn from the start
        assert np.isfinite(loss_curves([unbiased(loss)]).axes[0].lines[0].get_ydata()).all()


def test_the_coverage_figure_colours_the_groups() -> None:
    points = np.random.default_rng(0).normal(size=(60, 2))
    shirt = ClassProjection("shirt", points, np.repeat([0, 1, 2], 20), points[:5], 0.4)
    coat = ClassProjection(
        "coat", points, np.repeat([0, 1], 30), points[:0], 0.25
    )  # without blue and without synthetic images
    figure = coverage_figure([coat, shirt], ("red", "pale yellow", "blue"), "toy")
    shown = texts(figure)
    for word in ("shirt", "coat", "red", "pale yellow", "blue", "synthetic", "toy", "40 % of variance"):
        assert word in shown
    red, yellow, blue = (figure.axes[1].collections[i].get_facecolor()[0][:3] for i in range(3))
    assert red[0] > 0.8 > 4 * red[2]
    assert min(yellow[:2]) > 0.9
    assert blue[2] > 0.8 > 2 * blue[1]
    assert render(coverage_figure([coat], ("a", "b")), ".png")
    assert len(coverage_figure([coat] * 7, ("a", "b")).axes) == 10


def test_every_kind_of_file_is_the_same_twice(tmp_path: Path) -> None:
    rows = rows_of(*pair(tmp_path))
    for suffix in SUFFIXES:
        assert render(scatter(rows), suffix) == render(scatter(rows), suffix)
    assert Image.open(io.BytesIO(render(scatter(rows), ".png"))).width > 900
    with pytest.raises(UsageError, match="not as"):
        render(scatter(rows), ".gif")


def test_names_from_files_are_not_formulas(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path / "a.json", dataset="$\\frac{$ \u6f22", class_names=("$x", "<b>&", "$y_1$")))
    assert "$\\frac{$" in texts(scatter(rows))
    assert "<b>&" in texts(recall_maps(rows))
    assert "<b>" not in inline_svg(recall_maps(rows), "one")


def test_inline_svgs_share_no_ids_and_follow_the_page(tmp_path: Path) -> None:
    rows = rows_of(*pair(tmp_path))
    found = [inline_svg(recall_maps(rows), name) for name in ("one", "two")]
    ids = [element.get("id") for text in found for element in ET.fromstring(text).iter() if element.get("id")]  # noqa: S314
    assert len(ids) == len(set(ids))
    assert "currentColor" in found[0]
    assert "<style" not in found[0]


LONG = "a name that somebody gave to this thing in all its length " * 2
WIDE = "W" * 90


def projection(name: str, groups: int) -> ClassProjection:
    points = Streams(0).numpy("points").normal(size=(4 * groups, 2))
    return ClassProjection(name, points, np.tile(np.arange(groups), 4), points[:5], 0.4)


@pytest.mark.parametrize("name", ["short", LONG, WIDE], ids=["short", "long", "wide"])
def test_names_are_neither_cut_nor_overprinted(name: str, tmp_path: Path) -> None:
    classes, groups = (tuple(f"{number}{name}" for number in range(count)) for count in (4, 3))
    given = {"recall": np.full((4, 3), 0.5), "class_names": classes, "protected_names": groups, "method": name}
    rows = rows_of(
        write(tmp_path / "vanilla.json", dataset=name, **given),
        write(tmp_path / "fair.json", dataset=name, fairness=name, **given),
        write(tmp_path / "other.json", dataset=f"other {name}", **given),
    )
    evaluated = {"class_names": classes, "dataset": name, "digest": rows[0].runs[0].evaluation.synthetic_digest}
    one = replace(synthetic(classes=4, ipc=1), **evaluated)
    other = replace(one, class_names=classes[::-1])
    projections = [projection(each, 3) for each in classes]
    for figure in (
        recall_maps(rows[:2]),
        scatter(rows),
        image_grid([one]),
        image_grid([one, one, other], rows),
        loss_curves([one] * 5),
        coverage_figure(projections, groups, name),
        coverage_figure(projections[:1], groups, name),
    ):
        assert problems(figure) == []


def test_a_long_name_is_measured_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    size = figures.text_size

    def counted(text: str, *rest: Any) -> tuple[float, float]:
        measured.append(text)
        return size(text, *rest)

    monkeypatch.setattr(figures, "text_size", counted)
    lines = figures.wrapped("x" * 10_000).split("\n")
    assert "".join(lines) == "x" * 10_000
    assert len(set(map(len, lines[:-1]))) == 1
    assert max(map(len, measured)) < 100
    assert len(measured) < 10 * len(lines)


def test_many_names_have_room(tmp_path: Path) -> None:
    classes, groups = (tuple(f"{kind} {number}" for number in range(60)) for kind in ("class", "group"))
    counts = np.ones((1, 60, 60, 60), np.int64)
    given = {"confusion": {"mlp": counts}, "class_names": classes, "protected_names": groups}
    assert problems(recall_maps(rows_of(write(tmp_path / "many.json", **given)))) == []
    methods = [
        {"method": f"method {i}", "fairness": f"strategy {i % 15}", "dataset": f"data {i % 5}"} for i in range(60)
    ]
    paths = [write(tmp_path / f"{number}.json", seeds=1, **each) for number, each in enumerate(methods)]
    assert problems(scatter(rows_of(*paths))) == []
    assert problems(coverage_figure([projection(each, 60) for each in classes[:6]], groups)) == []


def test_a_library_says_nothing_on_standard_error(tmp_path: Path) -> None:
    paths = pair(tmp_path, dataset="\u6f22\u5b57")  # of which the font has no glyphs
    words = ["report", *paths, "--plot", str(tmp_path / "a.png"), "--html", str(tmp_path / "a.html"), "--quiet"]
    unwritable = tmp_path / "file"
    unwritable.touch()  # where matplotlib would keep its fonts
    environment = {**os.environ, "MPLCONFIGDIR": str(unwritable)}
    command = [sys.executable, "-m", "fairdd_cli", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_matplotlib_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'fairdd\[plot\]'"):
        loss_curves([synthetic()])
