"""The rows of a report: evaluations pooled over seeds, each beside the vanilla row of its setting.

A row is one setting: data set, method, fairness, sampling, IPC and network, on one data file and with one protocol.
What differs between two rows of a setting (iterations, epochs, initialisation, …) is their `variant`. Several data
sets of one name are called by name and digest.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fairdd_cli.metrics import Confusion, per_seed, summaries
from fairdd_cli.reporting.results import Run, Setting

STORED = ("numbers", "equivalent_ipc")  # of a synthetic set, in its evaluations
CHUNK = 2**21  # cells whose metrics are computed at a time: 16 MiB an array


@dataclass(frozen=True)
class Difference:
    """A row's mean minus that of its vanilla row, in points, and whether it is beyond its bootstrap interval."""

    points: float
    interval: tuple[float, float] | None = None
    better: bool | None = None  # None: not beyond the interval, or none was asked for

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `unclear`."""
        return "unclear" if self.better is None else "better" if self.better else "worse"


@dataclass(frozen=True)
class FairFloor:
    """What a fair classifier of the row's recalls would score, in percent: see `fair_floor`.

    `excess` is the row's value above that, in points, `p_value` that of the permutation test. `paired`: permuted were
    the groups of the two images of each pair, not those of all images of a class.
    """

    expected: float
    excess: float
    p_value: float
    permutations: int
    paired: bool = False


@dataclass(frozen=True)
class Reference:
    """Published values of a row's setting in percent, and what differs between their setting and the row's."""

    source: str
    metrics: Mapping[str, tuple[float, float | None]]  # mean, standard deviation
    differs: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """The pooled seeds of one setting, with metrics as `metrics.summary` gives them (percent)."""

    setting: Setting
    runs: tuple[Run, ...]
    table: np.ndarray  # unsigned [seeds, classes, groups, classes]
    metrics: Mapping[str, Mapping[str, Any]]
    variant: str = ""
    vanilla: "Row | None" = field(default=None, repr=False)
    other_differences: tuple[str, ...] = ()  # to the vanilla row, besides fairness and sampling
    delta: Mapping[str, Difference] = field(default_factory=dict)  # to the vanilla row
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    confidence_level: float = 0.0  # of the intervals, a fraction
    fair_floors: Mapping[str, FairFloor] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()

    @property
    def seeds(self) -> int:
        """How many networks were trained."""
        return len(self.table)

    @property
    def outcomes(self) -> np.ndarray | None:
        """The outcomes of the pairs of test images, int64 [seeds, classes, 3]; None unless all runs know them."""
        known = [run.outcomes for run in self.runs if run.outcomes is not None]
        return np.concatenate(known) if len(known) == len(self.runs) else None

    @property
    def details(self) -> Mapping[str, str]:
        """What the result depends on besides the setting."""
        return self.runs[0].details

    @property
    def dataset(self) -> str:
        """The data set's own name, which others may share."""
        return self.runs[0].evaluation.dataset

    @property
    def iterations(self) -> int:
        """How long the synthetic set was distilled."""
        return self.runs[0].evaluation.iterations

    @property
    def stored(self) -> dict[str, float]:
        """The `numbers` that the synthetic set stores and the `equivalent_ipc`, as far as its evaluation says so."""
        stored = self.runs[0].evaluation.options.get("stored")
        known = stored if isinstance(stored, dict) else {}
        return {name: known[name] for name in STORED if isinstance(known.get(name), int | float)}

    @property
    def cell_sizes(self) -> np.ndarray:
        """The test images of each cell, int64 [classes, groups]."""
        return np.asarray(self.table[0].sum(axis=-1, dtype=np.int64))

    @property
    def test_images(self) -> int:
        """How many images each network was tested on."""
        return int(self.cell_sizes.sum())

    @property
    def name(self) -> str:
        """The row in a few words."""
        parts = (self.setting.method, self.setting.fairness, self.variant)
        return " ".join(filter(None, parts))

    def mean(self, metric: str) -> float | None:
        """The mean of `metric` over seeds in percent; None where it does not exist."""
        value = self.metrics.get(metric, {}).get("mean")
        return None if value is None else float(value)

    def recall(self) -> np.ndarray:
        """The recall table in percent, mean over seeds, float64 [classes, groups]; NaN for an empty cell."""
        return 100 * Confusion.of(self.table.sum(axis=0, dtype=np.int64)).recall


def build_rows(runs: Sequence[Run], empty_cells: str = "skip") -> list[Row]:
    """The rows of `runs`: seeds of the same setting, data and details pooled, each row with its vanilla row."""
    pooled: dict[object, list[Run]] = defaultdict(list)
    for run in _with_distinct_names(runs):
        pooled[run.setting, run.table.shape[1:], run.evaluation.dataset_digest, run.fingerprint].append(run)
    rows = _rows([tuple(group) for group in pooled.values()], empty_cells)
    return _with_vanilla(_with_variants(rows))


def _with_distinct_names(runs: Sequence[Run]) -> Iterator[Run]:
    """`runs`, with a part of the data set's digest after its name where others of that name have another."""
    digests: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        digests[run.setting.dataset].add(run.evaluation.dataset_digest)
    for run in runs:
        name = run.setting.dataset
        if len(digests[name]) > 1:
            name += f" {run.evaluation.dataset_digest.removeprefix('sha256:')[:8]}"
        yield replace(run, setting=run.setting._replace(dataset=name))


def _rows(groups: list[tuple[Run, ...]], empty_cells: str) -> list[Row]:
    """A row for each of the `groups`; tables of one shape are computed together, which makes 10,000 rows quick."""
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        by_shape[group[0].table.shape[1:]].append(index)
    rows: dict[int, Row] = {}
    for indices in by_shape.values():
        tables = [_pooled(groups[index]) for index in indices]
        values = _values(np.concatenate(tables), empty_cells)
        lengths = [len(table) for table in tables]
        listed = {name: summaries(part, lengths) for name, part in values.items()}
        for place, (index, table) in enumerate(zip(indices, tables, strict=True)):
            metrics = {name: parts[place] for name, parts in listed.items()}
            rows[index] = Row(groups[index][0].setting, groups[index], table, metrics)
    return [rows[index] for index in range(len(groups))]


def _pooled(runs: tuple[Run, ...]) -> np.ndarray:
    return runs[0].table if len(runs) == 1 else np.concatenate([run.table for run in runs])


def _values(table: np.ndarray, empty_cells: str) -> dict[str, np.ndarray]:
    """The metrics [seeds] of many tables, a chunk of them at a time."""
    step = max(1, CHUNK // max(1, int(np.prod(table.shape[1:3]))))
    starts = range(0, len(table), step)
    parts = [per_seed(Confusion.of(table[start : start + step], empty_cells)) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _with_variants(rows: list[Row]) -> list[Row]:
    same: dict[Setting, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        same[row.setting].append(index)
    named = list(rows)
    for indices in same.values():
        details = [rows[index].details for index in indices]
        keys = sorted({key for each in details for key in each})
        differing = _without_digests([key for key in keys if len({each.get(key) for each in details}) > 1], details)
        for index, each in zip(indices, details, strict=True):
            words = " ".join(f"{key}={_shortened(each[key])}" for key in differing if key in each)
            named[index] = replace(rows[index], variant=words)
    return named


def _without_digests(differing: list[str], details: list[Mapping[str, str]]) -> list[str]:
    """The `differing` keys without those of digests, such as the experts', where the others tell rows apart as well.

    A digest says only that something differs.
    """

    def told_apart(keys: list[str]) -> int:
        return len({tuple(each.get(key) for key in keys) for each in details})

    others = [key for key in differing if not any(each.get(key, "").startswith("sha256:") for each in details)]
    return others if told_apart(others) == told_apart(differing) else differing


def _shortened(value: str) -> str:
    """`value`, a digest by its first figures."""
    return f"{value[:15]}…" if value.startswith("sha256:") else value


def _with_vanilla(rows: list[Row]) -> list[Row]:
    """Each row with the vanilla row of the same data, method, IPC, network, iterations and protocol, if any.

    Of several, the one that agrees in sampling, and then in most other options, is taken.
    """

    def key(row: Row) -> tuple[object, ...]:
        required = {k: v for k, v in row.details.items() if k == "iterations" or k.startswith("evaluation ")}
        setting, digest = row.setting, row.runs[0].evaluation.dataset_digest
        where = (setting.dataset, setting.method, setting.ipc, setting.network)
        return (where, digest, row.table.shape[1:], json.dumps(required, sort_keys=True))

    candidates: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.setting.fairness == "vanilla":
            candidates[key(row)].append(row)

    def paired(row: Row) -> Row:
        vanillas = candidates.get(key(row)) if row.setting.fairness != "vanilla" else None
        if not vanillas:
            return row

        def agreement(other: Row) -> tuple[bool, int]:
            return other.setting.sampling == row.setting.sampling, len(other.details.items() & row.details.items())

        vanilla = max(vanillas, key=agreement)
        delta = {
            name: Difference(own - other)
            for name in row.metrics
            if (own := row.mean(name)) is not None and (other := vanilla.mean(name)) is not None
        }
        return replace(row, vanilla=vanilla, delta=delta, other_differences=_other_differences(row, vanilla))

    return [paired(row) for row in rows]


def _other_differences(row: Row, vanilla: Row) -> tuple[str, ...]:
    """In what, besides fairness and sampling, `row` differs from its `vanilla` row."""
    own, other = row.details, vanilla.details
    return tuple(
        f"{key} {own.get(key, 'none')} (vanilla {other.get(key, 'none')})"
        for key in sorted({*own, *other})
        if own.get(key) != other.get(key)
    )


def pairs(rows: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Rows whose recall is worth comparing: each with its vanilla row; without any pair, the first row alone."""
    return [(row.vanilla, row) for row in rows if row.vanilla is not None] or [tuple(rows[:1])]
