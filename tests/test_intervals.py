"""Bootstrap intervals: they have the spread that theory gives, and stay honest where cells are small."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from evaluations import confusion, pair, write

from fairdd_cli.metrics import METRICS, Confusion
from fairdd_cli.reporting import (
    Row,
    arrange,
    as_csv,
    build_rows,
    intervals,
    latex,
    markdown,
    plain,
    read,
    sheets,
    with_intervals,
)
from fairdd_cli.reporting.intervals import interval, replicates, standard_errors
from fairdd_cli.reporting.labels import interval_ends
from fairdd_cli.reporting.page import page
from fairdd_cli.runtime.streams import Streams

NAMES = list(METRICS)


def generator() -> np.random.Generator:
    return Streams(0).numpy("test")


def table_of(correct: np.ndarray, total: int) -> np.ndarray:
    """A table [seeds, classes, groups, classes] of two classes with so many `correct` of `total` in each cell."""
    table = np.zeros((*correct.shape, 2), np.int64)
    for label in range(2):
        table[:, label, :, label] = correct[:, label]
        table[:, label, :, 1 - label] = total - correct[:, label]
    return table


def test_replicates_spread_as_binomial_draws_do() -> None:
    found = replicates(table_of(np.full((1, 2, 1), 300), 400), 20_000, generator(), ["accuracy"])["accuracy"]
    assert found.mean() == pytest.approx(0.75, abs=2e-3)
    assert found.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 800), rel=0.03)


def test_seeds_that_share_images_do_not_hide_their_noise() -> None:
    spreads = [
        replicates(table_of(np.full((seeds, 2, 2), 60), 100), 4000, generator(), ["accuracy"])["accuracy"].std()
        for seeds in (1, 10)
    ]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.1)


def test_replicates_vary_with_the_seeds() -> None:
    correct = np.tile(np.array([0, 10**6] * 5).reshape(10, 1, 1), (1, 2, 1))
    found = replicates(table_of(correct, 10**6), 4000, generator(), ["accuracy"])["accuracy"]
    assert found.std() == pytest.approx(0.5 / np.sqrt(10), rel=0.1)


def test_replicates_of_the_whole_table_are_those_of_multinomial_draws() -> None:
    table = np.array([[[[50, 30, 20]], [[10, 80, 10]], [[1, 39, 60]]]]) * 5
    table = np.repeat(table, 2, axis=2)  # two groups alike, so that gaps are noise
    names = ["sufficiency_gap_mean", "false_positive_rate_gap_max"]
    sample = replicates(table, 4000, generator(), names)
    drawn = Confusion.of(generator().multinomial(500, table[0] / 500, size=(4000, 3, 2)))
    for name in names:
        assert sample[name].mean() == pytest.approx(METRICS[name](drawn).mean(), rel=0.1)
        assert sample[name].std() == pytest.approx(METRICS[name](drawn).std(), rel=0.1)


def test_replicates_are_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    table = confusion(np.full((3, 2), 0.6))
    whole = replicates(table, 50, generator(), NAMES)
    assert set(whole) == {name for name in NAMES if METRICS[name].applies(3)}
    assert all(values.shape == (50,) and np.isfinite(values).all() for values in whole.values())
    monkeypatch.setattr("fairdd_cli.reporting.intervals.CHUNK", 1)
    assert replicates(table, 50, generator(), NAMES)["accuracy"].shape == (50,)


def test_an_interval_is_about_its_estimate() -> None:
    low, high = interval(10.0, np.random.default_rng(0).normal(50, 1, 100_000), 0.95)
    assert (low, high) == pytest.approx((10 - 1.96, 10 + 1.96), abs=0.05)


def test_standard_errors_are_those_of_shares() -> None:
    table = table_of(np.array([[[80, 50], [70, 90]]]), 100)
    errors = standard_errors(table, 10_000, generator(), ["accuracy", "worst_group_accuracy", "deo_max"])
    smoothed = (np.array([80, 50, 70, 90]) + 0.5) / 101
    variances = smoothed * (1 - smoothed) / 100
    assert errors["accuracy"] == pytest.approx(np.sqrt(variances.sum()) / 4, rel=0.02)
    assert errors["worst_group_accuracy"] == pytest.approx(np.sqrt(variances[1]), rel=0.02)
    assert errors["deo_max"] == pytest.approx(np.sqrt(variances[0] + variances[1]), rel=0.02)


def test_a_worst_recall_that_cells_share_is_not_less_certain_for_each_of_them() -> None:
    one, many = (
        standard_errors(table_of(np.zeros((1, 2, groups)), 30), 2000, generator(), ["worst_group_accuracy"])
        for groups in (1, 40)
    )
    deviation = np.sqrt(0.5 / 31 * (1 - 0.5 / 31) / 30)
    assert deviation * 0.5 < one["worst_group_accuracy"] < many["worst_group_accuracy"] < 4 * deviation


def test_standard_errors_are_computed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    table = confusion(np.full((3, 2), 0.6))
    whole = standard_errors(table, 50, generator(), NAMES)
    assert all(error > 0 for error in whole.values())
    sizes = []
    one = intervals.per_seed

    def counted(sample: Confusion, names: list[str]) -> dict[str, np.ndarray]:
        sizes.append(len(sample.correct))
        return one(sample, names)

    monkeypatch.setattr(intervals, "per_seed", counted)
    monkeypatch.setattr(intervals, "CHUNK", 7 * table.size)
    assert standard_errors(table, 50, generator(), NAMES) == pytest.approx(whole)
    assert max(sizes) == 7


def rows_of(table: np.ndarray, folder) -> list[Row]:
    return build_rows(read([write(folder / "one.json", recall=np.zeros(table.shape[1:3]), confusion={"mlp": table})]))


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("recall", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("groups", [2, 10])
def test_a_few_images_never_give_a_certain_value(images: int, recall: float, groups: int, tmp_path) -> None:
    table = confusion(np.full((10, groups), recall), seeds=1, images=images)
    (row,) = with_intervals(rows_of(table, tmp_path), 200, Streams(0).numpy)
    for name, (low, high) in row.intervals.items():
        assert f"{low:.1f}" != f"{high:.1f}", name
        assert 0 <= low <= (row.mean(name) or 0) + 1e-9
        assert (row.mean(name) or 0) - 1e-9 <= high <= 100


@pytest.mark.parametrize("images", [30, 500])
@pytest.mark.parametrize("worst", [0.0, 1.0])
def test_no_interval_has_no_width_where_all_seeds_agree(images: int, worst: float, tmp_path) -> None:
    recall = np.full((10, 10), 0.6)
    recall[0, 0] = worst
    table = confusion(recall, seeds=2, images=images)
    table[:] = table[0]
    (row,) = with_intervals(rows_of(table, tmp_path), 200, Streams(0).numpy)
    for name, (low, high) in row.intervals.items():
        assert f"{low:.1f}" != f"{high:.1f}", name
    if worst == 0.0:
        assert row.mean("worst_group_accuracy") == 0
        assert 0.1 < row.intervals["worst_group_accuracy"][1] < 350 / images  # "rule of three": 300 / images


@pytest.mark.parametrize("recall", [0.0, 1.0])
def test_an_interval_narrower_than_a_tenth_is_shown_with_the_digits_that_tell_its_ends_apart(
    recall: float, tmp_path: Path
) -> None:
    table = confusion(np.full((10, 2), recall), seeds=2, images=1000)
    rows = with_intervals(rows_of(table, tmp_path), 200, Streams(0).numpy, names=["accuracy"])
    low, high = rows[0].intervals["accuracy"]
    assert 0 < high - low < 0.05
    shown = interval_ends((low, high))
    assert shown[0] != shown[1]
    assert float(shown[0]) == pytest.approx(low, abs=0.01)
    assert float(shown[1]) == pytest.approx(high, abs=0.01)
    sections = arrange(rows, (), ())
    texts = [make(sheets(sections, ["accuracy"])) for make in (plain, markdown, latex)]
    assert all(re.search(rf"{shown[0]}(…|\\ldots{{}}){shown[1]}", text) for text in texts)
    assert f"{shown[0]} to {shown[1]}" in page(sections, ["accuracy"])
    (line,) = csv.DictReader(io.StringIO(as_csv(sections)))
    assert (float(line["accuracy_low"]), float(line["accuracy_high"])) == (low, high)


def test_ends_of_an_interval_have_one_decimal_where_that_is_enough() -> None:
    assert interval_ends((0.0, 0.06)) == ("0.0", "0.1")
    assert interval_ends((12.34, 56.78)) == ("12.3", "56.8")
    assert interval_ends((99.9612, 99.9688)) == ("99.96", "99.97")
    assert interval_ends((50.0, 50.0)) == ("50.0", "50.0")  # certain, as far as the counts say


@pytest.mark.parametrize("images", [1, 3, 20, 100])
def test_accuracy_and_worst_recall_are_covered(images: int) -> None:
    recall = np.array([[0.9, 0.8, 0.7, 0.6], [0.85, 0.95, 0.9, 0.8]])
    rng, truth, covered = np.random.default_rng(images), recall.mean(), []
    for _ in range(150):
        table = table_of(rng.binomial(images, recall)[None], images)
        estimate = float(METRICS["accuracy"](Confusion.of(table)).mean())
        low, high = interval(estimate, replicates(table, 200, generator(), ["accuracy"])["accuracy"], 0.95)
        covered.append(low <= truth <= high)
    assert np.mean(covered) > 0.88  # 95 % with 150 simulations and 200 replicates of a discrete estimate


def test_intervals_say_whether_fair_beats_vanilla(tmp_path) -> None:
    same = write(tmp_path / "same.json", recall=np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.5]]), method="gm", images=500)
    (first,) = with_intervals(build_rows(read([same])), 400, Streams(0).numpy)
    paths = pair(tmp_path)
    _, fair, again = with_intervals(build_rows(read([*paths, same])), 400, Streams(0).numpy)
    assert fair.delta["accuracy"].verdict == fair.delta["deo_mean"].verdict == "better"
    assert again.intervals == first.intervals  # a row's draws are its own
    (some,) = with_intervals(build_rows(read([same])), 400, Streams(0).numpy, names=["deo_max"])
    assert set(some.intervals) == {"deo_max"}
