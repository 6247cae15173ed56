"""A report's sections as sheets of text, the same for every text format: title, headings, lines and notes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairdd_cli.reporting.labels import (
    ALWAYS,
    SHOWN,
    caption,
    column_title,
    interval_ends,
    mean_std,
    metric_title,
    p_value,
    signed,
    table_labels,
    title_of,
    value_of,
    varying_columns,
)
from fairdd_cli.reporting.notes import explain_remarks, notes
from fairdd_cli.reporting.rows import Row
from fairdd_cli.reporting.sections import Section


@dataclass(frozen=True)
class Line:
    """A line of a sheet: a row itself, or a remark on the row above it."""

    labels: tuple[str, ...]
    values: tuple[str, ...]
    best: tuple[bool, ...]
    is_row: bool = True


@dataclass(frozen=True)
class Sheet:
    """A section as text."""

    title: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]  # on all of it, on each variant, and the footnotes

    def widths(self) -> list[int]:
        """The characters that each column needs."""
        lines = [(*line.labels, *line.values) for line in self.lines]
        return [max(map(len, column)) for column in zip((*self.columns, *self.metrics), *lines, strict=True)]


def sheets(sections: Sequence[Section], metrics: Sequence[str] = SHOWN, fold: bool = False) -> list[Sheet]:
    """A sheet for each section. With `fold`, columns that are the same in all its rows move into the title."""
    return [_sheet(section, metrics, fold) for section in sections]


def _sheet(section: Section, metrics: Sequence[str], fold: bool) -> Sheet:
    rows, variants = table_labels(section.rows)
    used, common = varying_columns(rows)
    columns = [name for name in used if name in ALWAYS or not fold or name not in common]
    lines: list[Line] = []
    footnotes: list[str] = []
    for row, words in zip(section.rows, rows, strict=True):
        values = tuple(value_of(row, name) for name in metrics)
        best = tuple(section.is_best(row, name) for name in metrics)
        lines.append(Line(tuple(words[name] for name in columns), values, best))
        for label, entries in _remarks(row, metrics, footnotes):
            if any(entries):
                placed = tuple(label if name == "fairness" else "" for name in columns)
                lines.append(Line(placed, entries, (False,) * len(entries), is_row=False))
    said = [caption(max(row.seeds for row in section.rows))]
    said += ["* best of the column"] if section.best else []
    return Sheet(
        title=", ".join(title_of(name, rows[0][name]) for name in (common if fold else section.common)),
        columns=tuple(column_title(name) for name in columns),
        metrics=tuple(metric_title(name) for name in metrics),
        lines=tuple(lines),
        notes=(
            "; ".join([*said, *explain_remarks(section.rows), *notes(section.rows)]) + ".",
            *variants,
            *(f"[{number}] {note}" for number, note in enumerate(footnotes, 1)),
        ),
    )


def _remarks(row: Row, metrics: Sequence[str], footnotes: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Label of each remark on a row and an entry for each metric; sources are appended to the footnotes."""
    intervals = [row.intervals.get(name) for name in metrics]
    yield "interval", tuple("…".join(interval_ends(ends)) if ends else "" for ends in intervals)
    floors = [row.fair_floors.get(name) for name in metrics]
    yield "fair floor", tuple(f"{floor.expected:.1f}" if floor else "" for floor in floors)
    yield "excess", tuple(signed(floor.excess) if floor else "" for floor in floors)
    yield "p-value", tuple(p_value(floor.p_value) if floor else "" for floor in floors)
    deltas = [row.delta.get(name) for name in metrics]
    yield (
        "vs vanilla",
        tuple(f"{signed(d.points)}{'!' if d.better is not None else ''}" if d else "" for d in deltas),
    )
    for reference in row.references:
        note = f"{reference.source}{'; differs: ' if reference.differs else ''}{', '.join(reference.differs)}"
        if note not in footnotes:
            footnotes.append(note)
        values = [reference.metrics.get(name) for name in metrics]
        yield f"published [{footnotes.index(note) + 1}]", tuple(mean_std(*value) if value else "" for value in values)
        gaps = [(row.mean(name), value) for name, value in zip(metrics, values, strict=True)]
        yield "vs published", tuple(signed(mean - v[0]) if v and mean is not None else "" for mean, v in gaps)
