"""A report as text: an aligned table, Markdown, LaTeX, CSV and JSON."""

import csv
import io
import json
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fairdd_cli.metrics import METRICS, empty
from fairdd_cli.reporting.table import Row, Section

SHOWN = ("accuracy", "deo_max", "deo_mean", "worst_group_accuracy")
WORDS = ("dataset", "method", "fairness", "sampling", "ipc", "network", "variant", "seeds")
ALWAYS = ("method", "fairness")  # stand in every line, whatever the rows have in common
HEADINGS = {"ipc": "IPC"}
ASCII = str.maketrans({"±": "+-", "↑": "", "↓": "", "…": "..."})


@dataclass(frozen=True)
class Line:
    """A line of a sheet: a row itself, or something said about the row above it."""

    words: tuple[str, ...]
    values: tuple[str, ...]
    best: tuple[bool, ...]
    main: bool = True


@dataclass(frozen=True)
class Sheet:
    """A section as text, the same for every format: title, headings, lines, notes."""

    title: str
    words: tuple[str, ...]
    metrics: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    def numbered_notes(self) -> list[str]:
        """The notes, the footnotes among them with their numbers."""
        return [self.notes[0], *(f"[{number}] {note}" for number, note in enumerate(self.notes[1:], 1))]

    def widths(self) -> list[int]:
        """The characters that each column needs."""
        lines = [(*line.words, *line.values) for line in self.lines]
        return [max(map(len, column)) for column in zip((*self.words, *self.metrics), *lines, strict=True)]


def sheets(sections: Sequence[Section], metrics: Sequence[str] = SHOWN, fold: bool = False) -> list[Sheet]:
    """A sheet for each section. With `fold`, columns that are the same in all its rows move into the title."""
    return [_sheet(section, metrics, fold) for section in sections]


def _sheet(section: Section, metrics: Sequence[str], fold: bool) -> Sheet:
    lines = [words_of(row) for row in section.rows]
    columns = [name for name in WORDS if any(line[name] for line in lines)]
    common = [name for name in columns if name not in ALWAYS and len({line[name] for line in lines}) == 1]
    kept = [name for name in columns if name in ALWAYS or not fold or name not in common]
    found: list[Line] = []
    footnotes: list[str] = []
    for row, words in zip(section.rows, lines, strict=True):
        values = tuple(_value(row, name) for name in metrics)
        best = tuple(section.is_best(row, name) for name in metrics)
        found.append(Line(tuple(words[name] for name in kept), values, best))
        for label, entries in _remarks(row, metrics, footnotes):
            placed = tuple(label if name == "fairness" else "" for name in kept)
            found.append(Line(placed, entries, (False,) * len(entries), main=False))
    return Sheet(
        title=", ".join(titled(name, lines[0][name]) for name in (common if fold else section.common)),
        words=tuple(HEADINGS.get(name, name) for name in kept),
        metrics=tuple(heading(name) for name in metrics),
        lines=tuple(found),
        notes=(*_notes(section), *footnotes),
    )


def words_of(row: Row) -> dict[str, str]:
    """The words of a row by column, as they are shown."""
    return {**{k: str(v) for k, v in row.setting._asdict().items()}, "variant": row.variant, "seeds": str(row.seeds)}


def titled(name: str, value: str) -> str:
    """A column's value where no heading tells what it is."""
    if name == "seeds":
        return f"{value} seed" if value == "1" else f"{value} seeds"
    return {"ipc": f"IPC {value}", "sampling": f"{value} sampling"}.get(name, value)


def heading(metric: str) -> str:
    """A metric's label with the direction that is better."""
    return f"{METRICS[metric].label}{'↑' if METRICS[metric].higher_is_better else '↓'}"


def mean_std(mean: float | None, std: float | None) -> str:
    """A mean and its spread in percent."""
    return "-" if mean is None else f"{mean:.1f}" if std is None else f"{mean:.1f}±{std:.1f}"


def explained(seeds: int) -> str:
    """What the figures of a table are, of which no row has more than so many `seeds`."""
    return "Mean ± standard deviation over seeds, in percent" if seeds > 1 else "In percent, of one seed"


def signed(points: float) -> str:
    """A difference in points, with its sign; 0.0 has none."""
    text = f"{points:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _value(row: Row, metric: str) -> str:
    found = row.metrics.get(metric, {"mean": None, "std": None})
    return mean_std(found["mean"], found["std"] if row.seeds > 1 else None)


def _remarks(row: Row, metrics: Sequence[str], footnotes: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What is said about a row: label and an entry for each metric; sources are appended to the footnotes."""
    if row.intervals:
        spans = [row.intervals.get(name) for name in metrics]
        yield "interval", tuple(f"{span[0]:.1f}…{span[1]:.1f}" if span else "" for span in spans)
    if row.versus:
        found = [row.versus.get(name) for name in metrics]
        yield (
            "vs vanilla",
            tuple(f"{signed(d.points)}{'!' if d.better is not None else ''}" if d else "" for d in found),
        )
    for reference in row.references:
        note = f"{reference.source}{'; differs: ' if reference.differs else ''}{', '.join(reference.differs)}"
        if note not in footnotes:
            footnotes.append(note)
        values = [reference.metrics.get(name) for name in metrics]
        yield f"published [{footnotes.index(note) + 1}]", tuple(mean_std(*value) if value else "" for value in values)
        gaps = [(row.mean(name), value) for name, value in zip(metrics, values, strict=True)]
        yield "vs published", tuple(signed(mean - v[0]) if v and mean is not None else "" for mean, v in gaps)


def _notes(section: Section) -> list[str]:
    rows = section.rows
    words = [explained(max(row.seeds for row in rows))]
    if section.best:
        words.append("* best of the column")
    if any(row.versus for row in rows):
        words.append("vs vanilla: points more or less than the vanilla row")
    unlike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in rows:
        unlike[row.unlike_vanilla].append(f"{row.setting.method} {row.setting.fairness}")
    unlike.pop((), None)
    words += [f"{', '.join(sorted(set(who)))} also has {', '.join(what)}" for what, who in unlike.items()]
    coverage = {row.coverage for row in rows if row.intervals}
    words += [f"interval: {100 * share:g} % bootstrap interval" for share in coverage]
    if coverage and any(row.versus for row in rows):
        words.append("!: a difference whose interval leaves out 0")
    alone = {row.setting.method for row in rows if row.setting.fairness != "vanilla" and not row.versus}
    alone &= {row.setting.method for row in rows if row.setting.fairness == "vanilla"}
    words += [f"{name}: no vanilla row as long and evaluated alike" for name in sorted(alone)]
    lacking = max(len(empty(row.cells)) for row in rows)
    if lacking:
        words.append(f"{lacking} of {rows[0].cells.total[0].size} cells have no test image")
    return ["; ".join(words) + "."]


def plain(found: Sequence[Sheet], ascii_only: bool = False) -> str:
    """Aligned columns without colour or frames, for a pipe or a log."""
    text = "\n".join(_plain(sheet) for sheet in found)
    return text.translate(ASCII).encode("ascii", "backslashreplace").decode() if ascii_only else text


def _plain(sheet: Sheet) -> str:
    widths, words = sheet.widths(), len(sheet.words)

    def line(texts: Sequence[str], best: Sequence[bool]) -> str:
        left = [text.ljust(width) + "  " for text, width in zip(texts[:words], widths[:words], strict=True)]
        right = [
            text.rjust(width) + ("*" if star else " ")
            for text, width, star in zip(texts[words:], widths[words:], best, strict=True)
        ]
        return ("".join(left) + " ".join(right)).rstrip()

    none = (False,) * len(sheet.metrics)
    body = [line((*entry.words, *entry.values), entry.best) for entry in sheet.lines]
    rule = "-" * max(map(len, body))
    notes = [textwrap.fill(note, max(80, len(rule))) for note in sheet.numbered_notes()]
    return "\n".join([sheet.title, line((*sheet.words, *sheet.metrics), none), rule, *body, rule, *notes]) + "\n"


def markdown(found: Sequence[Sheet]) -> str:
    """A table for each section; the best in bold."""
    return "\n".join(_markdown(sheet) for sheet in found)


def _markdown(sheet: Sheet) -> str:
    def safe(text: str) -> str:
        return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~$" else c for c in text)

    heads = [*map(safe, sheet.words), *map(safe, sheet.metrics)]
    rule = ["---"] * len(sheet.words) + ["---:"] * len(sheet.metrics)
    body = [
        [*map(safe, line.words), *(f"**{v}**" if b else v for v, b in zip(line.values, line.best, strict=True))]
        for line in sheet.lines
    ]
    notes = [safe(sheet.notes[0]).replace("\\* best", "bold: best")]
    notes += [f"\\[{number}\\] {note}" for number, note in enumerate(map(safe, sheet.notes[1:]), 1)]
    table = [f"| {' | '.join(cells)} |" for cells in (heads, rule, *body)]
    return "\n".join([f"### {safe(sheet.title)}\n", *table, "", "\n\n".join(notes)]) + "\n"


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}
SYMBOLS = {"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "…": r"\ldots{}", "<": r"$<$", ">": r"$>$"}


def latex(found: Sequence[Sheet]) -> str:
    """A tabular with booktabs rules for each section; the best in bold."""
    return "\n".join(["% needs \\usepackage{booktabs}", *map(_latex, found)])


def _latex(sheet: Sheet) -> str:
    def safe(text: str) -> str:
        return "".join((LATEX | SYMBOLS).get(c, c) for c in text)

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    body = [
        line(
            [
                *map(safe, entry.words),
                *(rf"\textbf{{{safe(v)}}}" if b else safe(v) for v, b in zip(entry.values, entry.best, strict=True)),
            ]
        )
        for entry in sheet.lines
    ]
    notes = [f"% {note}" for note in (sheet.title, *sheet.numbered_notes())]
    notes[1] = notes[1].replace("* best", "bold: best")
    begin = rf"\begin{{tabular}}{{{'l' * len(sheet.words)}{'r' * len(sheet.metrics)}}}"
    heads = line([safe(text) for text in (*sheet.words, *sheet.metrics)])
    return "\n".join([*notes, begin, r"\toprule", heads, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""])


def records(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """The rows as JSON knows them: setting, every metric in percent, and all that was compared."""
    return [_record(section, row) for section in sections for row in section.rows]


def _record(section: Section, row: Row) -> dict[str, Any]:
    metrics = {
        name: {
            **values,
            "best": section.is_best(row, name),
            **({"interval": row.intervals[name]} if name in row.intervals else {}),
            **({"vs_vanilla": _difference(row, name)} if name in row.versus else {}),
        }
        for name, values in row.metrics.items()
    }
    references = [
        {
            "source": reference.source,
            "differs": reference.differs,
            **{name: {"mean": value[0], "std": value[1]} for name, value in reference.metrics.items()},
        }
        for reference in row.references
    ]
    return {
        **row.setting._asdict(),
        "dataset": row.dataset,
        "dataset_digest": row.runs[0].evaluation.dataset_digest,
        "variant": row.variant,
        "iterations": row.iterations,
        "seeds": row.seeds,
        "metrics": metrics,
        "unlike_vanilla": row.unlike_vanilla,
        "published": references,
        "files": [run.evaluation.path for run in row.runs],
    }


def _difference(row: Row, name: str) -> dict[str, Any]:
    found = row.versus[name]
    judged = {"interval": found.interval, "verdict": found.verdict} if found.interval else {}
    return {"points": found.points, **judged}


def as_json(sections: Sequence[Section]) -> str:
    """An array with an object for each row."""
    return json.dumps(records(sections), allow_nan=False, indent=2) + "\n"


def as_csv(sections: Sequence[Section]) -> str:
    """A line for each row, and for each published source of it where there are several; percent, full precision."""
    lines = [line for record in records(sections) for line in _csv_lines(record)]
    columns = list(dict.fromkeys(key for line in lines for key in line))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _csv_lines(record: dict[str, Any]) -> Iterator[dict[str, object]]:
    line = {key: value for key, value in record.items() if key not in ("metrics", "published", "files")}
    line["unlike_vanilla"] = "; ".join(record["unlike_vanilla"])
    for name, values in record["metrics"].items():
        line |= {name: values["mean"], f"{name}_std": values["std"], f"{name}_best": int(values["best"])}
        line |= _ends(name, values.get("interval"))
        versus = values.get("vs_vanilla")
        if versus:
            line[f"{name}_vs_vanilla"] = versus["points"]
            line |= _ends(f"{name}_vs_vanilla", versus.get("interval"))
            line |= {f"{name}_verdict": versus["verdict"]} if "verdict" in versus else {}
    for reference in record["published"] or [{}]:
        more: dict[str, object] = {}
        for name, value in reference.items():
            if name in record["metrics"]:
                more |= {f"{name}_published": value["mean"], f"{name}_published_std": value["std"]}
            else:
                more[f"published_{name}"] = value if isinstance(value, str) else "; ".join(value)
        yield line | more


def _ends(name: str, interval: tuple[float, float] | None) -> dict[str, object]:
    return {f"{name}_low": interval[0], f"{name}_high": interval[1]} if interval else {}
