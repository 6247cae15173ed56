"""The fair floor: permutations keep what they should, and the test has its size and its power."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from evaluations import FAIR, confusion, evaluation, pair, write
from scipy import stats

from fairdd_cli.metrics import METRICS, Confusion
from fairdd_cli.reporting import build_rows, read, with_fair_floors
from fairdd_cli.reporting.fair_floor import affordable, permuted
from fairdd_cli.reporting.notes import notes
from fairdd_cli.reporting.results import runs_of, without_duplicates
from fairdd_cli.reporting.rows import FairFloor, Row
from fairdd_cli.runtime.streams import Streams


def floors_of(table: np.ndarray, folder: Path, permutations: int = 99, seed: int = 0) -> dict[str, FairFloor]:
    given = {"recall": np.zeros(table.shape[1:3]), "confusion": {"mlp": table}}
    rows = build_rows(read([write(folder / "one.json", **given)]))
    return dict(with_fair_floors(rows, permutations, Streams(seed).numpy)[0].fair_floors)


def test_permutations_keep_the_recall_of_every_class_and_the_cells() -> None:
    table = confusion(np.array([[0.9, 0.2, 0.5], [0.1, 0.8, 0.6]]), seeds=4, images=40)
    table[:, 0, 1] //= 2  # cells of different sizes
    sample = permuted(table, 200, Streams(0).numpy("test"))
    observed = Confusion.of(table)
    assert sample.shape == (200, 4, 2, 3)
    assert (sample.sum(axis=-1) == observed.correct.sum(axis=-1)).all()
    assert (sample <= observed.total.max(axis=0)).all()
    assert (sample >= 0).all()
    order = sample.sum(axis=-1)[0, :, 0].argsort()
    assert (np.diff(sample[:, order, 0], axis=1) >= 0).all()  # stronger seeds get right what weaker ones do


def test_permutations_are_hypergeometric() -> None:
    table = np.array([[[[30, 10], [15, 5], [3, 17]], [[0, 9], [0, 9], [0, 9]]]])
    sample = permuted(table, 20_000, Streams(0).numpy("test"))[:, 0, 0]
    expected = stats.multivariate_hypergeom([40, 20, 20], 48)
    assert sample.mean(axis=0) == pytest.approx(expected.mean(), rel=0.02)
    assert np.cov(sample.T) == pytest.approx(expected.cov(), rel=0.1)


@pytest.mark.parametrize(
    ("recall", "images", "groups", "deo_max", "deo_mean"),
    [(0.75, 100, 10, 19, 12.5), (0.93, 100, 10, 12, 7.3), (0.4, 500, 2, 5.7, 2.4)],
)
def test_the_floor_is_that_of_a_fair_classifier(
    recall: float, images: int, groups: int, deo_max: float, deo_mean: float, tmp_path: Path
) -> None:
    spread = np.random.default_rng(0).normal(recall, 0.08, (10, 1)).clip(0.3, 0.99)
    table = confusion(np.repeat(spread, groups, axis=1), seeds=2, images=images)
    floors = floors_of(table, tmp_path)
    assert floors["deo_max"].expected == pytest.approx(deo_max, abs=2.5)
    assert floors["deo_mean"].expected == pytest.approx(deo_mean, abs=1.2)


def simulated_p_values(recall: np.ndarray, folder: Path, count: int, seeds: int, dependent: bool) -> np.ndarray:
    """p-values of DEO_M and DEO_A, [count, 2]: seeds that get the same images right, or none in common."""
    rng = np.random.default_rng(1)
    p_values = []
    for number in range(count):
        if dependent:
            luck = rng.random((*recall.shape, 60))
            correct = np.stack([(luck < recall[..., None] - 0.02 * seed).sum(axis=-1) for seed in range(seeds)])
        else:
            correct = rng.binomial(60, recall, (seeds, *recall.shape))
        table = np.stack(
            [np.stack([correct[:, 0], 60 - correct[:, 0]], -1), np.stack([60 - correct[:, 1], correct[:, 1]], -1)], 1
        )
        floors = floors_of(table, folder, 99, number)
        p_values.append([floors["deo_max"].p_value, floors["deo_mean"].p_value])
    return np.array(p_values)


@pytest.mark.parametrize("dependent", [True, False])
def test_a_fair_classifier_is_rejected_as_seldom_as_stated(dependent: bool, tmp_path: Path) -> None:
    fair = np.repeat([[0.8], [0.6]], 4, axis=1)
    p_values = simulated_p_values(fair, tmp_path, 120, 3, dependent)
    for level in (0.05, 0.2):
        rejected = (p_values <= level).mean(axis=0)
        assert (rejected <= stats.binom.ppf(0.9999, 120, level) / 120).all()
        if dependent:  # else the test is on the safe side
            assert (rejected >= stats.binom.ppf(0.0001, 120, level) / 120).all()


def test_an_unfair_classifier_is_found(tmp_path: Path) -> None:
    unfair = np.array([[0.8, 0.8, 0.8, 0.4], [0.6, 0.6, 0.6, 0.6]])
    assert (simulated_p_values(unfair, tmp_path, 40, 3, dependent=True) <= 0.05).mean(axis=0).min() >= 0.9


def test_floors_are_of_the_row_alone_and_say_the_excess(tmp_path: Path) -> None:
    paths = pair(tmp_path)
    vanilla, fair = with_fair_floors(build_rows(read(paths)), 200, Streams(0).numpy)
    (alone,) = with_fair_floors(build_rows(read(paths[1:])), 200, Streams(0).numpy)
    assert alone.fair_floors == fair.fair_floors
    assert set(fair.fair_floors) == {name for name, metric in METRICS.items() if metric.recall_gap}
    for name, floor in vanilla.fair_floors.items():
        assert floor.expected + floor.excess == pytest.approx(vanilla.mean(name))
        assert floor.p_value == pytest.approx(1 / 201)
    assert fair.fair_floors["deo_mean"].p_value > 0.05


def test_empty_cells_are_treated_as_the_report_treats_them(tmp_path: Path) -> None:
    table = confusion(np.full((3, 2), 0.6), images=40)
    table[:, 1, 0] = 0
    rows = build_rows(read([write(tmp_path / "a.json", confusion={"mlp": table})]), "zero")
    zero = with_fair_floors(rows, 50, Streams(0).numpy, "zero")[0].fair_floors["deo_max"]
    assert zero.expected > 45
    assert floors_of(table, tmp_path)["deo_max"].expected < 25


def test_long_computations_are_left_out(tmp_path: Path) -> None:
    rows = build_rows(read([write(tmp_path / "a.json", **FAIR)]))
    assert affordable(rows) == affordable(rows * 1000) == 200
    assert affordable(rows * 10_000) == 0


def paired_row(correct: np.ndarray, paired: bool = True) -> Row:
    """The row of two classes whose predictions for the pairs are `correct`, bool [seeds, classes, pairs, 2]."""
    label = np.arange(2)[None, :, None, None]
    predicted = np.where(correct, label, 1 - label)
    joint = np.zeros((len(correct), 2, 2, 2), np.int64)
    for seed, classes in enumerate(predicted):
        for number, pairs in enumerate(classes):
            np.add.at(joint[seed, number], tuple(pairs.T), 1)
    table = np.stack([joint.sum(axis=3), joint.sum(axis=2)], axis=2)
    made = evaluation(np.zeros((2, 2)), confusion={"mlp": table}, pairs={"mlp": joint} if paired else {})
    (row,) = build_rows(runs_of(made.in_memory()))
    return row


def floors_of_row(row: Row, permutations: int = 99, seed: int = 0) -> dict[str, FairFloor]:
    return dict(with_fair_floors([row], permutations, Streams(seed).numpy)[0].fair_floors)


def test_permutations_of_pairs_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(3)
    first = rng.random((2, 4, 2)) < 0.6  # [classes, pairs, groups]
    second = first.copy()
    second[0, 0] = (True, False)  # the second seed has one pair more that differs, or as many
    correct = np.stack([first, second])
    scores = []
    for swaps in product((False, True), repeat=8):
        swap = np.reshape(swaps, (1, 2, 4, 1))
        recall = np.where(swap, correct[..., ::-1], correct).mean(axis=2)
        scores.append(np.abs(recall[..., 0] - recall[..., 1]).max(axis=1).mean())
    observed = np.abs(np.diff(correct.mean(axis=2), axis=2)).max(axis=1).mean()
    floor = floors_of_row(paired_row(correct), 20_000)["deo_max"]
    assert floor.paired
    assert floor.expected == pytest.approx(100 * np.mean(scores), abs=0.7)
    assert floor.p_value == pytest.approx(np.mean(np.array(scores) >= observed - 1e-9), abs=0.02)


def paired_p_values(gap: float, count: int, seeds: int, dependent: bool = True) -> np.ndarray:
    """p-values of DEO_M and DEO_A with and without pairs, [count, 2, 2], of recalls 0.7 and 0.7 - `gap`.

    Both images of a pair share their luck four times in five; so do the seeds, or they have none in common.
    """
    rng = np.random.default_rng(4)
    p_values = []
    for number in range(count):
        own = rng.random((seeds, 2, 400, 2))
        own = np.where(rng.random((seeds, 2, 400, 1)) < 0.8, own[..., :1], own)
        if dependent:
            own = np.broadcast_to(own[:1], own.shape)
        correct = own < np.array([0.7, 0.7 - gap])
        floors = [floors_of_row(paired_row(correct, paired), 99, number) for paired in (True, False)]
        p_values.append([[floor[name].p_value for name in ("deo_max", "deo_mean")] for floor in floors])
    return np.array(p_values)


@pytest.mark.parametrize(("seeds", "dependent"), [(1, True), (3, True), (3, False)])
def test_pairs_reject_a_fair_classifier_as_seldom_as_stated(seeds: int, dependent: bool) -> None:
    p_values = paired_p_values(0.0, 150, seeds, dependent)
    for level in (0.05, 0.2):
        paired, unpaired = (p_values <= level).mean(axis=0)
        assert (paired <= stats.binom.ppf(0.9999, 150, level) / 150).all()
        if dependent:  # else the test is on the safe side
            assert (paired >= stats.binom.ppf(0.0001, 150, level) / 150 - 0.02).all()  # equal scores are common
        assert (unpaired <= paired).all()


def test_pairs_find_a_small_gap_that_the_test_without_them_misses() -> None:
    paired, unpaired = (paired_p_values(0.04, 40, 1) <= 0.05).mean(axis=0)
    assert paired.min() >= 0.6
    assert (unpaired <= paired - 0.4).all()


def test_pairs_are_used_where_all_runs_of_a_row_have_them() -> None:
    rng = np.random.default_rng(5)
    every = [paired_row(rng.random((2, 2, 60, 2)) < 0.7, paired) for paired in (True, True, False)]
    runs = [row.runs[0] for row in every]
    pooled = {size: build_rows(runs[:size])[0] for size in (2, 3)}
    assert [row.seeds for row in pooled.values()] == [4, 6]
    for size, paired in ((2, True), (3, False)):
        (row,) = with_fair_floors([pooled[size]], 50, Streams(0).numpy)
        assert {floor.paired for floor in row.fair_floors.values()} == {paired}
        said = notes([row])[0]
        assert ("of the two images of each pair" if paired else "within each class") in said


def test_an_evaluation_with_pairs_replaces_the_same_without() -> None:
    correct = np.random.default_rng(6).random((2, 2, 60, 2)) < 0.7
    runs = [paired_row(correct, paired).runs[0] for paired in (True, False)]
    for order in (runs, runs[::-1]):
        (run,) = without_duplicates([order])
        assert run.outcomes is not None
