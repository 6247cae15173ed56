"""A report as one web page that needs nothing else: no network, no other file, and for reading no script.

Template, style and script stand beside this file. The template escapes all text, and a content policy allows no
script but the page's own.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from fairdd_cli.artifacts import SyntheticSet
from fairdd_cli.metrics import METRICS
from fairdd_cli.reporting.commands import commands
from fairdd_cli.reporting.figures import inline_svg, label_of
from fairdd_cli.reporting.labels import (
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
from fairdd_cli.reporting.notes import notes
from fairdd_cli.reporting.outside_text import bounded, printable
from fairdd_cli.reporting.recall_maps import describe_recall, recall_maps
from fairdd_cli.reporting.results import Run
from fairdd_cli.reporting.rows import Row, pairs
from fairdd_cli.reporting.scatter import describe_scatter, scatter
from fairdd_cli.reporting.sections import Section
from fairdd_cli.reporting.synthetic_figures import image_grid, loss_curves
from fairdd_cli.system import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 6  # recall maps, and synthetic sets, of a page
NUMBERS = ("ipc", "seeds")  # columns that sort as numbers
LONGEST_FACT = 500  # letters


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page: an `svg` element, what it is called, its content in words, and how to read it."""

    svg: str
    title: str
    alternative: str
    caption: str = ""


def page_figures(sections: Sequence[Section], sets: Sequence[SyntheticSet]) -> list[PageFigure]:
    """The figures of a page: the scatter plot, recall maps of the first pairs, images and losses of the sets."""
    rows = [row for section in sections for row in section.rows]
    figures: list[PageFigure] = []

    def add(figure: "Figure", title: str, words: str, caption: str) -> None:
        figures.append(PageFigure(inline_svg(figure, f"figure{len(figures)}"), title, words, caption))

    if any(row.mean("accuracy") is not None for row in rows):
        caption = "To the right is more accurate, down is fairer. Arrows lead from vanilla to the compared strategy."
        add(scatter(rows), "Fairness and accuracy", describe_scatter(rows), caption)
    for pair in pairs(rows)[:MOST]:
        setting = pair[-1].setting
        title = f"Recall on {setting.dataset}, {setting.method}, IPC {setting.ipc}, {setting.network}"
        caption = "Share of a cell's test images classified correctly, mean over seeds. A fair row has one colour."
        add(recall_maps(pair), title, describe_recall(pair), caption)
    for one in sets[:MOST]:
        words = f"Synthetic images of {label_of(one)}, a row for each of {len(one.class_names)} classes"
        add(image_grid([one], rows), f"Synthetic images: {label_of(one)}", words, "A row for each class.")
    if any(len(one.history.loss) > 1 for one in sets):
        words = "Loss over the iterations of " + ", ".join(map(label_of, sets[:MOST]))
        add(loss_curves(sets), "Loss", words, "Each run relative to the mean of its first losses.")
    return figures


def page(sections: Sequence[Section], metrics: Sequence[str], figures: Sequence[PageFigure] = ()) -> str:
    """The whole page."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  # only a page needs it
    from markupsafe import Markup  # noqa: PLC0415

    rows = [row for section in sections for row in section.rows]
    ids = {id(row): f"row-{number}" for number, row in enumerate(rows, 1)}
    style, script = _resource("page.css"), _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(_resource("page.html")).render(
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=Markup(style),  # noqa: S704  # our own
        script=Markup(script),  # noqa: S704  # our own
        summary=_summary(rows),
        tables=[_table(section, metrics, ids) for section in sections],
        metrics=[
            {"title": metric_title(name), "meaning": METRICS[name].meaning, "formula": METRICS[name].formula}
            for name in metrics
        ],
        legend=list(_legend(rows, metrics)),
        figures=[{"title": f.title, "caption": f.caption, "element": Markup(_element(f))} for f in figures],  # noqa: S704
        provenance=[_provenance(row, ids[id(row)]) for row in rows],
        version=__version__,
    )


@cache
def _resource(name: str) -> str:
    return resources.files("fairdd_cli.reporting").joinpath(name).read_text(encoding="utf-8")


def _summary(rows: Sequence[Row]) -> str:
    """The page in two sentences."""
    count, seeds = len(rows), sum(row.seeds for row in rows)
    words = f"{count:,} {'row' if count == 1 else 'rows'}, {seeds:,} trained networks."
    compared = [row for row in rows if {"accuracy", "deo_mean"} <= set(row.delta)]
    if not compared:
        return words
    won = sum(row.delta["accuracy"].points > 0 > row.delta["deo_mean"].points for row in compared)
    whole = f"In {won:,} of {len(compared):,} comparisons" if len(compared) > 1 or not won else "In the one comparison"
    return f"{words} {whole} with a vanilla set, the other strategy is both more accurate and fairer."


def _table(section: Section, metrics: Sequence[str], ids: dict[int, str]) -> dict[str, Any]:
    rows, variants = table_labels(section.rows)
    used, common = varying_columns(rows)
    columns = [name for name in used if name != "method" and name not in common]
    return {
        "title": ", ".join(title_of(name, rows[0][name]) for name in common) or "All rows",
        "caption": caption(max(row.seeds for row in section.rows)),
        "columns": [{"name": name, "title": column_title(name), "is_number": name in NUMBERS} for name in columns],
        "lines": [
            {
                "id": ids[id(row)],
                "method": words["method"],
                "labels": words,
                "cells": [_cell(section, row, name) for name in metrics],
            }
            for row, words in zip(section.rows, rows, strict=True)
        ],
        "notes": [*(note[:1].upper() + note[1:] for note in notes(section.rows)), *variants],
    }


def _cell(section: Section, row: Row, name: str) -> dict[str, Any]:
    mean = row.mean(name)
    return {
        "mean": "" if mean is None else repr(mean),
        "text": value_of(row, name),
        "is_best": section.is_best(row, name),
        "remarks": [{"kind": kind, "text": text} for kind, text in _remarks(row, name)],
    }


def _remarks(row: Row, name: str) -> Iterator[tuple[str, str]]:
    """What stands under a value, and of which kind it is."""
    delta, floor = row.delta.get(name), row.fair_floors.get(name)
    if delta is not None:
        verdict = delta.verdict if delta.better is not None else ""
        yield verdict, f"{signed(delta.points)} vs vanilla{f', {verdict}' if verdict else ''}"
    if name in row.intervals:
        yield "", " to ".join(interval_ends(row.intervals[name]))
    if floor is not None:
        yield "", f"fair floor {floor.expected:.1f}"
        yield "", f"excess {signed(floor.excess)}, p = {p_value(floor.p_value)}"
    for reference in row.references:
        value, mean = reference.metrics.get(name), row.mean(name)
        if value is not None and mean is not None:
            yield "", f"published {mean_std(*value)} ({signed(mean - value[0])})"


def _legend(rows: Sequence[Row], metrics: Sequence[str]) -> Iterator[str]:
    words = [f"{METRICS[name].label}: {METRICS[name].meaning}" for name in metrics]
    yield ". ".join(words) + ". ★ marks the best of a column."
    if any(row.intervals for row in rows):
        level = max(row.confidence_level for row in rows)
        yield (
            f"Small figures under a value are its {100 * level:g} % bootstrap interval over seeds and test images; "
            "“better” and “worse” stand where the difference to vanilla is beyond its own interval."
        )
    if any(row.references for row in rows):
        yield "A published value is followed by our difference to it; sources and settings stand below."


def _element(figure: PageFigure) -> str:
    """The `svg` with its words; neither too small to read on a phone, where it scrolls, nor blown up on a screen."""
    from markupsafe import escape  # noqa: PLC0415

    natural = float(figure.svg.partition('width="')[2].partition("pt")[0])
    look = f'style="min-width: {0.75 * natural:.0f}pt; max-width: {1.25 * natural:.0f}pt"'
    return figure.svg.replace("<svg", f'<svg role="img" aria-label="{escape(figure.alternative)}" {look}', 1)


def _provenance(row: Row, name: str) -> dict[str, Any]:
    setting = row.setting
    return {
        "id": name,
        "title": f"{setting.dataset}, {row.name}, {title_of('ipc', str(setting.ipc))}, {setting.network}",
        "other_differences": row.other_differences,
        "references": row.references,
        "runs": [{"commands": commands(run), "facts": list(_facts(run))} for run in row.runs],
    }


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    evaluation = run.evaluation
    yield "file", printable(evaluation.path)
    made_by = (evaluation.provenance.get(name, "") for name in ("generated_by", "created"))
    yield "made by", bounded(", ".join(made_by), LONGEST_FACT)
    yield "test images", f"{int(run.table[0].sum(dtype=int)):,}, {run.seeds} networks"
    yield "time, memory", f"{evaluation.seconds:,.0f} s, {evaluation.peak_memory / 2**20:,.0f} MiB at most"
    yield "protocol", _listed(evaluation.protocol)
    if evaluation.environment:
        yield "environment", _listed(evaluation.environment)
    if isinstance(distilled := evaluation.options.get("distill_environment"), Mapping):
        yield "distilled in", _listed(distilled)
    yield "data set", evaluation.dataset_digest
    yield "synthetic set", evaluation.synthetic_digest or "none: trained on the data set itself"
    yield "evaluation", evaluation.digest


def _listed(facts: Mapping[str, Any]) -> str:
    return bounded(", ".join(f"{key} {value}" for key, value in facts.items()), LONGEST_FACT)
