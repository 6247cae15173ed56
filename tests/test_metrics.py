"""The metrics agree with fairlearn, with the authors' code, and with plain loops; empty cells are not numbers."""

import json
from pathlib import Path

import fairlearn.metrics
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, precision_score

from fairdd_cli import metrics
from fairdd_cli.errors import UsageError
from fairdd_cli.metrics import Confusion

GOLDEN = Path(__file__).parent / "golden"


def table_of(label, protected, prediction, classes, groups):
    confusion = np.zeros((1, classes, groups, classes), np.int64)
    np.add.at(confusion[0], (label, protected, prediction), 1)
    return confusion


def samples(seed, classes, groups, count=400):
    rng = np.random.default_rng(seed)
    label, protected = rng.integers(0, classes, count), rng.integers(0, groups, count)
    # every cell has at least one image
    label[: classes * groups] = np.repeat(np.arange(classes), groups)
    protected[: classes * groups] = np.tile(np.arange(groups), classes)
    prediction = np.where(rng.random(count) < 0.6, label, rng.integers(0, classes, count))
    return label, protected, prediction


def frame(metric, label, prediction, protected, **more):
    return fairlearn.metrics.MetricFrame(
        metrics=metric, y_true=label, y_pred=prediction, sensitive_features=protected, **more
    )


@pytest.mark.parametrize("number", range(4))
def test_golden(number):
    golden = np.load(GOLDEN / f"deo_{number}.npz")
    confusion = table_of(
        golden["label"], golden["group"], golden["prediction"], int(golden["classes"]), int(golden["groups"])
    )
    assert bool(Confusion.of(confusion).empty) == bool(golden["empty_cell"])
    assert metrics.accuracy(confusion) == pytest.approx(float(golden["accuracy"]), rel=1e-5)
    assert metrics.deo_max(confusion, "zero") == pytest.approx(float(golden["deo_m"]), rel=1e-5)
    assert metrics.deo_mean(confusion, "zero") == pytest.approx(float(golden["deo_a"]), rel=1e-5)


@pytest.mark.parametrize("classes, groups", [(2, 2), (2, 5), (3, 4), (10, 10)])
def test_fairlearn(classes, groups):
    label, protected, prediction = samples(classes * groups, classes, groups)
    confusion = table_of(label, protected, prediction, classes, groups)
    by_class = frame(accuracy_score, label, prediction, protected, control_features=label)
    assert metrics.deo_max(confusion) == pytest.approx(by_class.difference().max())
    assert metrics.deo_mean(confusion) == pytest.approx(by_class.difference().mean())
    assert metrics.worst_group_accuracy(confusion) == pytest.approx(by_class.by_group.min())
    assert metrics.balanced_accuracy(confusion) == pytest.approx(by_class.by_group.mean())
    by_group = frame(accuracy_score, label, prediction, protected)
    assert metrics.accuracy(confusion) == pytest.approx(by_group.overall)
    assert metrics.group_accuracy_gap(confusion) == pytest.approx(by_group.difference())


@pytest.mark.parametrize("classes, groups", [(2, 2), (3, 4), (10, 5)])
def test_fairlearn_sufficiency_and_false_positives(classes, groups):
    label, protected, prediction = samples(7 * classes + groups, classes, groups, count=900)
    confusion = table_of(label, protected, prediction, classes, groups)

    def precision_of(y_true, y_pred):
        return precision_score(y_true, y_pred, zero_division=np.nan)

    precisions, rates = [], []
    for c in range(classes):
        is_label, is_predicted = (label == c).astype(int), (prediction == c).astype(int)
        precisions.append(frame(precision_of, is_label, is_predicted, protected).difference())
        rates.append(frame(fairlearn.metrics.false_positive_rate, is_label, is_predicted, protected).difference())
    assert metrics.sufficiency_gap_max(confusion) == pytest.approx(max(precisions))
    assert metrics.sufficiency_gap_mean(confusion) == pytest.approx(np.mean(precisions))
    assert metrics.false_positive_rate_gap_max(confusion) == pytest.approx(max(rates))
    assert metrics.false_positive_rate_gap_mean(confusion) == pytest.approx(np.mean(rates))


@pytest.mark.parametrize("groups", [2, 3])
def test_fairlearn_two_classes(groups):
    label, protected, prediction = samples(groups, 2, groups)
    confusion = table_of(label, protected, prediction, 2, groups)
    arguments = {"y_true": label, "y_pred": prediction, "sensitive_features": protected}
    assert metrics.deo_max(confusion) == pytest.approx(fairlearn.metrics.equalized_odds_difference(**arguments))
    assert metrics.deo_mean(confusion) == pytest.approx(
        fairlearn.metrics.equalized_odds_difference(**arguments, agg="mean")
    )
    assert metrics.demographic_parity_difference(confusion) == pytest.approx(
        fairlearn.metrics.demographic_parity_difference(**arguments)
    )


def precision(counts, c):
    """Of a group's images (label, prediction) that are predicted as class c, the share that is of it."""
    return counts[c, c] / counts[:, c].sum() if counts[:, c].sum() else None


def false_positive_rate(counts, c):
    """Of a group's images (label, prediction) of other classes, the share that is predicted as class c."""
    negatives = counts.sum() - counts[c].sum()
    return (counts[:, c].sum() - counts[c, c]) / negatives if negatives else None


def loop(confusion):
    """The metrics of one table [classes, groups, classes], as one would write them down."""
    classes, groups = confusion.shape[:2]
    recall = {
        (y, a): confusion[y, a, y] / confusion[y, a].sum()
        for y in range(classes)
        for a in range(groups)
        if confusion[y, a].sum()
    }
    rows = [[recall[y, a] for a in range(groups) if (y, a) in recall] for y in range(classes)]
    gaps = [max(row) - min(row) for row in rows if row]
    hits = [sum(confusion[y, a, y] for y in range(classes)) for a in range(groups)]
    shares = [hits[a] / confusion[:, a].sum() for a in range(groups) if confusion[:, a].sum()]
    if not recall:
        return dict.fromkeys(metrics.METRICS)
    found = {
        "accuracy": sum(hits) / confusion.sum(),
        "deo_max": max(gaps),
        "deo_mean": sum(gaps) / len(gaps),
        "worst_group_accuracy": min(recall.values()),
        "group_accuracy_gap": max(shares) - min(shares),
        "balanced_accuracy": sum(recall.values()) / len(recall),
    }
    for name, rate in (("sufficiency_gap", precision), ("false_positive_rate_gap", false_positive_rate)):
        rates = [[rate(confusion[:, a], c) for a in range(groups)] for c in range(classes)]
        present = [[value for value in row if value is not None] for row in rates]
        spreads = [max(row) - min(row) for row in present if row]
        found[f"{name}_max"] = max(spreads) if spreads else None
        found[f"{name}_mean"] = sum(spreads) / len(spreads) if spreads else None
    ones = [confusion[:, a, 1].sum() / confusion[:, a].sum() for a in range(groups) if confusion[:, a].sum()]
    return {**found, "demographic_parity_difference": max(ones) - min(ones)}


tables = st.tuples(st.integers(1, 3), st.integers(2, 4), st.integers(1, 4)).flatmap(
    lambda size: hnp.arrays(np.int64, (*size, size[1]), elements=st.sampled_from([0, 0, 0, 1, 2, 7]))
)


@given(tables)
def test_every_table_agrees_with_the_loop(confusion):
    found = metrics.summarise(confusion)
    json.dumps(found, allow_nan=False)
    assert ("demographic_parity_difference" in found) == (confusion.shape[1] == 2)
    for seed, table in enumerate(confusion):
        expected = loop(table)
        for name, values in found.items():
            value = expected[name]
            assert values["per_seed"][seed] == (value if value is None else pytest.approx(100 * value))


def test_summary_is_in_percent_over_seeds():
    assert metrics.summary(np.array([0.5, 0.7])) == {
        "mean": pytest.approx(60),
        "std": pytest.approx(np.std([50, 70], ddof=1)),
        "per_seed": pytest.approx([50, 70]),
    }
    assert metrics.summary(np.array([0.25])) == {"mean": 25.0, "std": 0.0, "per_seed": [25.0]}
    assert metrics.summary(np.array([np.nan, 0.5])) == {"mean": 50.0, "std": 0.0, "per_seed": [None, 50.0]}


def test_empty_cells_are_left_out_or_zero():
    confusion = np.array([[[[9, 1], [0, 0]], [[5, 5], [2, 8]]]])
    assert Confusion.of(confusion).empty == [(0, 1)]
    assert Confusion.of(confusion).smaller_than(11) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    np.testing.assert_array_equal(Confusion.of(confusion).recall, [[[0.9, np.nan], [0.5, 0.8]]])
    assert metrics.deo_max(confusion) == pytest.approx(0.3)
    assert metrics.deo_max(confusion, "zero") == pytest.approx(0.9)
    assert metrics.worst_group_accuracy(confusion, "zero") == 0
    assert metrics.summarise(confusion, "zero")["deo_max"]["mean"] == pytest.approx(90)
    with pytest.raises(UsageError, match="did you mean 'zero'"):
        metrics.deo_max(confusion, "zeros")


def test_cells_are_enough_for_the_metrics_that_say_so():
    label, protected, prediction = samples(0, 2, 4)
    whole = Confusion.of(table_of(label, protected, prediction, 2, 4))
    cells = Confusion(whole.correct, whole.total)
    for name, metric in metrics.METRICS.items():
        if metric.uses == "cells":
            assert np.array_equal(metric(cells), metric(whole)), name
        else:
            with pytest.raises(ValueError, match="whole table"):
                metric(cells)


def test_small_counts_are_computed_as_large_ones_are():
    label, protected, prediction = samples(0, 3, 4)
    confusion = table_of(label, protected, prediction, 3, 4)
    assert metrics.summarise(confusion.astype(np.uint8)) == metrics.summarise(confusion)


def test_a_line_of_text_has_the_metrics_that_exist_under_their_labels() -> None:
    assert metrics.labelled({"accuracy": 70.04, "deo_max": None, "deo_mean": 1.0}) == "Accuracy 70.0, DEO_A 1.0"
