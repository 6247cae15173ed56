"""The rows of a report in sections, sorted, with the best of each column."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fairdd_cli.errors import unknown
from fairdd_cli.metrics import METRICS
from fairdd_cli.reporting.results import Setting
from fairdd_cli.reporting.rows import Row


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
        without_value = [row for row in ordered if name in METRICS and row.mean(name) is None]
        with_value = [row for row in ordered if name not in METRICS or row.mean(name) is not None]
        descending = (name in METRICS and METRICS[name].higher_is_better) != reverse
        ordered = sorted(with_value, key=partial(_column, name=name), reverse=descending) + without_value
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in sorted(ordered, key=lambda row: tuple(_column(row, name) for name in group_by)):
        groups[tuple(_column(row, name) for name in group_by)].append(row)
    return [_section(key, group_by, group) for key, group in groups.items()]


def _section(key: tuple[object, ...], group_by: Sequence[str], rows: list[Row]) -> Section:
    best = {}
    for name, metric in METRICS.items():
        means = [round(mean, 1) for row in rows if (mean := row.mean(name)) is not None]
        if len(set(means)) > 1:
            best[name] = max(means) if metric.higher_is_better else min(means)
    return Section({name: str(value) for name, value in zip(group_by, key, strict=True)}, tuple(rows), best)


def _usual_order(row: Row) -> tuple[object, ...]:
    setting = row.setting
    is_strategy = setting.fairness != "vanilla"
    return (
        setting.dataset,
        setting.network,
        setting.ipc,
        setting.method,
        is_strategy,
        setting.fairness,
        setting.sampling,
    )


def _column(row: Row, name: str) -> Any:
    if name == "seeds":
        return row.seeds
    return row.mean(name) if name in METRICS else getattr(row.setting, name)
