"""What a perfectly fair classifier would score: the floor of DEO, and a permutation test of the value above it.

The largest gap between the recalls of ten groups of 100 test images each is never 0, however fair a classifier is:
it is the range of ten noisy shares. A classifier is fair in the sense of DEO (equalised odds) where its predictions
do not depend on the group within a class. Under that hypothesis the group labels of the test images of a class can
be permuted: each permutation gives a table with the same cells, the same recall of every class, and a DEO that is
noise alone. Their mean is the *fair floor*; what a row has above it is its *excess*; and the share of permutations
that reach the row's DEO is the p-value of the permutation test (Good, Permutation, Parametric and Bootstrap Tests of
Hypotheses, 2005; Phipson & Smyth, 2010, for the one added to both counts).

A permutation is one draw for all seeds, since they share the test images. Counts don't tell which images two seeds
have in common among those that they get right; as in `intervals`, images are taken as ordered by difficulty, which
makes the seeds depend on each other as much as the counts allow. The floor of each seed is exact whatever they have
in common; the p-value of their mean is then rather too large than too small.

Where every test image is there in both of two groups (CIFAR10-S), the groups are permuted within each pair, as in
McNemar's test (1947): the two outcomes of a pair are swapped with probability 1/2. Pairs with equal outcomes change
nothing, and of those with one image right the number that is right in the first group is binomial. The images of a pair
mostly share their outcome, so that far less is noise than if they were independent. This takes the pairs that newer
evaluations hold. From older ones, and with more than two groups, the groups are permuted within the class. That takes
the images as independent, and so gives an upper bound of the floor and of the p-value.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fairdd_cli.metrics import METRICS, Confusion, per_seed
from fairdd_cli.reporting.rows import FairFloor, Row

PERMUTATIONS = 200  # of each row where a report chooses
MOST_DRAWS = 2 * 10**7  # hypergeometric draws that a report makes without being asked: about three seconds
CHUNK = 2**22  # counts drawn at a time: 32 MiB
LARGEST_CLASS = 10**9  # test images of a class, the limit of numpy's hypergeometric draws
TOLERANCE = 1e-9  # by which two fractions may differ that are the same but for rounding


def permuted(table: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """The correct predictions after permuting the groups within each class, int64 [count, seeds, classes, groups].

    `table` is [seeds, classes, groups, classes]. Images are divided into those that all seeds get right, those that
    all but the weakest do, and so on; each part is dealt out to the groups, a multivariate hypergeometric draw.
    """
    confusion = Confusion.of(table)
    seeds, classes, groups = confusion.correct.shape
    correct = confusion.correct.sum(axis=-1)  # [seeds, classes]
    order = correct.argsort(axis=0)
    rank = order.argsort(axis=0)
    parts = np.diff(np.take_along_axis(correct, order, axis=0), axis=0, prepend=0)  # [seeds, classes]
    room = np.broadcast_to(confusion.total.max(axis=0), (count, classes, groups)).copy()
    dealt = np.zeros((seeds, count, classes, groups), np.int64)
    for part in range(seeds):
        left = np.broadcast_to(parts[part], (count, classes)).copy()
        others = room.sum(axis=-1)
        for group in range(groups):
            others -= room[..., group]
            share = generator.hypergeometric(room[..., group], others, left)
            dealt[part, ..., group] = share
            left -= share
        room -= dealt[part]
    cumulative = dealt.cumsum(axis=0)  # the part that the weakest seed gets right, every other one does as well
    return np.take_along_axis(cumulative, rank[:, None, :, None], axis=0).swapaxes(0, 1)


def permuted_pairs(outcomes: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """The correct predictions after swapping the outcomes within pairs at random, int64 [count, seeds, classes, 2].

    `outcomes` [seeds, classes, 3] counts the pairs that are right in both groups, in the first only and in the second
    only. A swap is one for all seeds. Pairs that differ in one seed are taken to do so in each seed that has more of
    them, which makes the seeds depend on each other as much as the counts allow.
    """
    both, differing = outcomes[..., 0], outcomes[..., 1:].sum(axis=-1)  # [seeds, classes]
    order = differing.argsort(axis=0)
    rank = order.argsort(axis=0)
    parts = np.diff(np.take_along_axis(differing, order, axis=0), axis=0, prepend=0)
    drawn = generator.binomial(parts, 0.5, (count, *parts.shape)).cumsum(axis=1)
    first = np.take_along_axis(drawn, rank[None], axis=1)
    return np.stack([both + first, both + differing - first], axis=-1)


def draws(row: Row, permutations: int = PERMUTATIONS) -> int:
    """How many draws the floor of `row` takes."""
    return permutations * int(np.prod(row.table.shape[:3]))


def affordable(rows: Sequence[Row]) -> int:
    """How many permutations a report makes of each of the `rows` unless it is told: 0 where they would take long."""
    return PERMUTATIONS if sum(map(draws, rows)) <= MOST_DRAWS else 0


def with_fair_floors(
    rows: Sequence[Row], count: int, stream: Callable[[str], np.random.Generator], empty_cells: str = "skip"
) -> list[Row]:
    """`rows` with the fair floor of every metric that compares the groups' recalls, from `count` permutations each.

    `stream` gives the generator of a name; a row's name is its own, whatever other rows there are.
    """
    return [_with_fair_floors(row, count, stream, empty_cells) for row in rows]


def _with_fair_floors(row: Row, count: int, stream: Callable[[str], np.random.Generator], empty_cells: str) -> Row:
    names = [name for name, metric in METRICS.items() if metric.recall_gap and row.mean(name) is not None]
    confusion = Confusion.of(row.table)
    total = confusion.total.max(axis=0)
    if not names or total.sum(axis=-1).max() >= LARGEST_CLASS or (confusion.total != total).any():
        return row
    generator = stream(f"fair floor {json.dumps([row.setting, sorted(run.evaluation.digest for run in row.runs)])}")
    step, outcomes = max(1, CHUNK // confusion.total.size), row.outcomes
    parts = []
    for start in range(0, count, step):
        size = min(step, count - start)
        if outcomes is None:
            correct = permuted(row.table, size, generator)
        else:
            correct = permuted_pairs(outcomes, size, generator)
        sample = Confusion(correct, np.broadcast_to(total, correct.shape), None, empty_cells)
        parts.append({name: values.mean(axis=1) for name, values in per_seed(sample, names).items()})
    floors = {}
    for name in names:
        scores, value = np.concatenate([part[name] for part in parts]), (row.mean(name) or 0.0) / 100
        reached = int(np.sum(scores >= value - TOLERANCE))
        expected = float(100 * scores.mean())
        p_value = (1 + reached) / (1 + count)
        floors[name] = FairFloor(expected, 100 * value - expected, p_value, count, outcomes is not None)
    return replace(row, fair_floors=floors)
