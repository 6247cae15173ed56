"""Evaluations as the rows of a table: pooled over seeds, compared with vanilla and with the published values.

A row is one setting: data set, method, fairness, sampling, IPC and network, on one data file and with one
protocol. What tells two rows of a setting apart (iterations, epochs, initialisation, …) is their `variant`. Several
data sets of one name are called by name and digest.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from fairdd_cli.errors import unknown
from fairdd_cli.metrics import METRICS, Cells, per_seed, recall_table, summaries
from fairdd_cli.reporting.intervals import interval, replicates
from fairdd_cli.reporting.results import Run, Setting


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
    cells: Cells  # int64 [seeds, classes, groups]
    metrics: Mapping[str, Mapping[str, Any]]
    variant: str = ""
    vanilla: "Row | None" = field(default=None, repr=False)
    unlike_vanilla: tuple[str, ...] = ()  # what differs besides fairness and sampling
    versus: Mapping[str, Difference] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    coverage: float = 0.0  # of the intervals, as a share
    references: tuple[Reference, ...] = ()

    @property
    def seeds(self) -> int:
        """How many networks were trained."""
        return int(self.cells.total.shape[0])

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
    def test_images(self) -> int:
        """How many images each network was tested on."""
        return int(self.cells.total[0].sum())

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
        return 100 * recall_table(Cells(self.cells.correct.sum(axis=0), self.cells.total.sum(axis=0)))


def build(runs: Sequence[Run], empty_cells: str = "skip") -> list[Row]:
    """The rows of `runs`: seeds of the same setting, data and details pooled, each row with its vanilla row."""
    pooled: dict[tuple[Setting, str], list[Run]] = defaultdict(list)
    for run in _told_apart(runs):
        shape = run.cells.total.shape[1:]
        pooled[run.setting, json.dumps([shape, run.evaluation.dataset_digest, run.details], sort_keys=True)].append(run)
    rows = _rows([tuple(group) for group in pooled.values()], empty_cells)
    return _with_vanilla(_with_variants(rows))


def _told_apart(runs: Sequence[Run]) -> Iterator[Run]:
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
        by_shape[group[0].cells.total.shape[1:]].append(index)
    rows: dict[int, Row] = {}
    for indices in by_shape.values():
        tables = [Cells(*(np.concatenate(part) for part in _parts(groups[index]))) for index in indices]
        values = per_seed(Cells(*(np.concatenate(part) for part in zip(*tables, strict=True))), empty_cells)
        lengths = [table.total.shape[0] for table in tables]
        found = {name: summaries(part, lengths) for name, part in values.items()}
        for place, (index, table) in enumerate(zip(indices, tables, strict=True)):
            metrics = {name: parts[place] for name, parts in found.items()}
            rows[index] = Row(groups[index][0].setting, groups[index], table, metrics)
    return [rows[index] for index in range(len(groups))]


def _parts(group: tuple[Run, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [run.cells.correct for run in group], [run.cells.total for run in group]


def _with_variants(rows: list[Row]) -> list[Row]:
    same: dict[Setting, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        same[row.setting].append(index)
    named = list(rows)
    for indices in same.values():
        details = [rows[index].details for index in indices]
        keys = sorted({key for found in details for key in found})
        telling = [key for key in keys if len({found.get(key) for found in details}) > 1]
        for index, found in zip(indices, details, strict=True):
            words = " ".join(f"{key}={found[key]}" for key in telling if key in found)
            named[index] = replace(rows[index], variant=words)
    return named


def _with_vanilla(rows: list[Row]) -> list[Row]:
    """Each row with the vanilla row of the same data, method, IPC, network, iterations and protocol, if any.

    Of several, the one that agrees in sampling, and then in most other options, is taken.
    """

    def key(row: Row) -> tuple[object, ...]:
        told = {k: v for k, v in row.details.items() if k == "iterations" or k.startswith("evaluation ")}
        setting, digest = row.setting, row.runs[0].evaluation.dataset_digest
        where = (setting.dataset, setting.method, setting.ipc, setting.network)
        return (where, digest, row.cells.total.shape[1:], json.dumps(told, sort_keys=True))

    candidates: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row.setting.fairness == "vanilla":
            candidates[key(row)].append(row)

    def paired(row: Row) -> Row:
        found = candidates.get(key(row)) if row.setting.fairness != "vanilla" else None
        if not found:
            return row

        def agreement(other: Row) -> tuple[bool, int]:
            return other.setting.sampling == row.setting.sampling, len(other.details.items() & row.details.items())

        vanilla = max(found, key=agreement)
        versus = {
            name: Difference(here - there)
            for name in row.metrics
            if (here := row.mean(name)) is not None and (there := vanilla.mean(name)) is not None
        }
        return replace(row, vanilla=vanilla, versus=versus, unlike_vanilla=_unlike(row, vanilla))

    return [paired(row) for row in rows]


def _unlike(row: Row, vanilla: Row) -> tuple[str, ...]:
    """In what, besides fairness and sampling, `row` is not like its `vanilla` row."""
    here, there = row.details, vanilla.details
    return tuple(
        f"{key} {here.get(key, 'none')} (vanilla {there.get(key, 'none')})"
        for key in sorted({*here, *there})
        if here.get(key) != there.get(key)
    )


def with_intervals(
    rows: Sequence[Row],
    count: int,
    stream: Callable[[str], np.random.Generator],
    confidence: float = 0.95,
    empty_cells: str = "skip",
) -> list[Row]:
    """`rows` with bootstrap intervals (see `bootstrap`) of means and differences, from `count` replicates each.

    `stream` gives the generator of a name; a row's name is its own, whatever other rows there are. The rows of a
    difference are resampled apart, as though they had been tested on different images: on the safe side again.
    """
    drawn: dict[int, dict[str, np.ndarray]] = {}

    def samples(row: Row) -> dict[str, np.ndarray]:
        if id(row.cells) not in drawn:
            name = json.dumps([row.setting, sorted(run.evaluation.digest for run in row.runs)])
            found = replicates(row.cells, count, stream(f"bootstrap {name}"), empty_cells)
            drawn[id(row.cells)] = {metric: 100 * values for metric, values in found.items()}
        return drawn[id(row.cells)]

    def widened(row: Row) -> Row:
        own = samples(row)
        intervals = {}
        for name in own:
            if (mean := row.mean(name)) is not None:
                low, high = interval(mean, own[name], confidence)
                intervals[name] = (max(0.0, low), min(100.0, high))
        if row.vanilla is None:
            return replace(row, intervals=intervals, coverage=confidence)
        base, versus = samples(row.vanilla), {}
        for name, difference in row.versus.items():
            low, high = interval(difference.points, own[name] - base[name], confidence)
            clear = low > 0 or high < 0
            better = (difference.points > 0) == METRICS[name].higher_is_better if clear else None
            versus[name] = Difference(difference.points, (low, high), better)
        return replace(row, intervals=intervals, coverage=confidence, versus=versus)

    return [widened(row) for row in rows]


@dataclass(frozen=True)
class Section:
    """Rows that stand together, what they have in common, and the best of them for each metric."""

    common: Mapping[str, str]
    rows: tuple[Row, ...]
    best: Mapping[str, float]

    def is_best(self, row: Row, metric: str) -> bool:
        """Whether no row of the section is better, and some are worse, at the precision that is shown."""
        mean = row.mean(metric)
        return mean is not None and round(mean, 1) == self.best.get(metric)


def arrange(
    rows: Sequence[Row], group_by: Sequence[str] = ("dataset",), sort: Sequence[str] = (), reverse: bool = False
) -> list[Section]:
    """`rows` in sections by the columns `group_by`, each sorted by the columns or metrics `sort`, best first.

    Without `sort`: by data set, network, IPC and method, vanilla before the other strategies. Rows that lack a
    metric come last. Raises UsageError for an unknown name.
    """
    for name in group_by:
        if name not in Setting._fields:
            raise unknown("column to group by", name, Setting._fields)
    for name in sort:
        if name not in (*Setting._fields, "seeds", *METRICS):
            raise unknown("column to sort by", name, (*Setting._fields, "seeds", *METRICS))
    ordered = sorted(rows, key=_usual_order)
    for name in reversed(sort):
        lacking = [row for row in ordered if name in METRICS and row.mean(name) is None]
        present = [row for row in ordered if name not in METRICS or row.mean(name) is not None]
        descending = (name in METRICS and METRICS[name].higher_is_better) != reverse
        ordered = sorted(present, key=partial(_column, name=name), reverse=descending) + lacking
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in sorted(ordered, key=lambda row: tuple(_column(row, name) for name in group_by)):
        groups[tuple(_column(row, name) for name in group_by)].append(row)
    return [_section(key, group_by, group) for key, group in groups.items()]


def pairs(rows: Sequence[Row]) -> list[tuple[Row, ...]]:
    """Rows whose recall is worth comparing: each with its vanilla row; without any pair, the first row alone."""
    return [(row.vanilla, row) for row in rows if row.vanilla is not None] or [tuple(rows[:1])]


def _section(key: tuple[object, ...], group_by: Sequence[str], rows: list[Row]) -> Section:
    best = {}
    for name, metric in METRICS.items():
        means = [round(mean, 1) for row in rows if (mean := row.mean(name)) is not None]
        if len(set(means)) > 1:
            best[name] = max(means) if metric.higher_is_better else min(means)
    return Section({name: str(value) for name, value in zip(group_by, key, strict=True)}, tuple(rows), best)


def _usual_order(row: Row) -> tuple[object, ...]:
    setting = row.setting
    plain = setting.fairness != "vanilla"
    return (setting.dataset, setting.network, setting.ipc, setting.method, plain, setting.fairness, setting.sampling)


def _column(row: Row, name: str) -> Any:
    if name == "seeds":
        return row.seeds
    return row.mean(name) if name in METRICS else getattr(row.setting, name)
