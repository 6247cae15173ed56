"""The fair floor: permutations keep what they should, and the test has its size and its power."""

from pathlib import Path

import numpy as np
import pytest
from evaluations import FAIR, confusion, pair, write
from scipy import stats

from fairdd_cli.metrics import METRICS, Confusion
from fairdd_cli.reporting import build_rows, read, with_fair_floors
from fairdd_cli.reporting.fair_floor import affordable, permuted
from fairdd_cli.reporting.rows import FairFloor
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
