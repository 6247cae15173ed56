"""A report as one web page that needs nothing else: no network, no other file, and for reading no script.

All text that comes from files is escaped, and a content policy allows no script but the page's own.
"""

import base64
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING

import fairdd_cli
from fairdd_cli.artifacts import SyntheticSet
from fairdd_cli.metrics import METRICS, empty
from fairdd_cli.reporting import figures as plots
from fairdd_cli.reporting import scatter
from fairdd_cli.reporting.results import Run, clean, distill_options, flat
from fairdd_cli.reporting.table import Row, Section, pairs
from fairdd_cli.reporting.text import ALWAYS, HEADINGS, WORDS, explained, heading, mean_std, signed, titled, words_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 6  # recall maps, and synthetic sets, of a page
NUMBERS = ("ipc", "seeds")  # columns that sort as numbers
PROTOCOL_OPTIONS = ("epochs", "learning_rate", "batch", "augmentation")
DISTILL_OPTIONS = (
    "method",
    "fairness",
    "sampling",
    "init",
    "ipc",
    "factor",
    "batch_real",
    "iterations",
    "network",
    "groups",
    "group_noise",
)


@dataclass(frozen=True)
class Picture:
    """A picture of the page: an `svg` element, what it is called, what it says, and how to read it."""

    svg: str
    title: str
    alternative: str
    caption: str = ""


def pictures(sections: Sequence[Section], sets: Sequence[SyntheticSet]) -> list[Picture]:
    """The pictures of a page: the scatter plot, recall maps of the first pairs, images and losses of the sets."""
    rows = [row for section in sections for row in section.rows]
    found: list[Picture] = []

    def add(figure: "Figure", title: str, words: str, caption: str) -> None:
        found.append(Picture(plots.inline_svg(figure, f"picture{len(found)}"), title, words, caption))

    if any(row.mean("accuracy") is not None for row in rows):
        caption = "To the right is more accurate, down is fairer. Arrows lead from vanilla to the compared strategy."
        add(scatter.scatter(rows), "Fairness and accuracy", scatter.describe(rows), caption)
    for pair in pairs(rows)[:SHOWN]:
        setting = pair[-1].setting
        title = f"Recall on {setting.dataset}, {setting.method}, IPC {setting.ipc}, {setting.network}"
        caption = "Share of a cell's test images classified correctly, mean over seeds. A fair row has one colour."
        add(plots.recall_maps(pair), title, plots.describe_recall(pair), caption)
    for one in sets[:SHOWN]:
        name = plots.named(one)
        words = f"Synthetic images of {name}, a row for each of {len(one.class_names)} classes"
        add(plots.image_grid(one), f"Synthetic images: {name}", words, "A row for each class.")
    if any(len(one.history.loss) > 1 for one in sets):
        words = "Matching loss of " + ", ".join(map(plots.named, sets))
        add(
            plots.loss_curves(sets),
            "Loss",
            words,
            "Each run's loss divided by its first one.",
        )
    return found


def page(sections: Sequence[Section], metrics: Sequence[str], pictures: Sequence[Picture] = ()) -> str:
    """The whole page."""
    rows = [row for section in sections for row in section.rows]
    names = {id(row): f"row-{number}" for number, row in enumerate(rows, 1)}
    style, script = _resource("page.css"), _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    body = [
        "<header><h1>Accuracy and fairness of distilled sets</h1>",
        f"<p>{escape(_verdict(rows))}</p></header><main>",
        *(_table(number, section, metrics, names) for number, section in enumerate(sections, 1)),
        _legend(rows, metrics),
        *(["<h2>Pictures</h2>"] if pictures else []),
        *(_figure(number, picture) for number, picture in enumerate(pictures, 1)),
        "<h2>Where each row comes from</h2>",
        *(_provenance(row, names[id(row)]) for row in rows),
        f"</main><footer>Made by fairdd {escape(fairdd_cli.__version__)}.</footer>",
    ]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<link rel="icon" href="data:,">\n<title>fairdd report</title>',
            f"<style>\n{style}</style>\n</head>\n<body>",
            *body,
            f"<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


@cache
def _resource(name: str) -> str:
    return resources.files("fairdd_cli.reporting").joinpath(name).read_text(encoding="utf-8")


def _verdict(rows: Sequence[Row]) -> str:
    """The page in two sentences."""
    count, seeds = len(rows), sum(row.seeds for row in rows)
    words = f"{count:,} {'row' if count == 1 else 'rows'}, {seeds:,} trained networks."
    compared = [row for row in rows if {"accuracy", "deo_mean"} <= set(row.versus)]
    if not compared:
        return words
    won = sum(row.versus["accuracy"].points > 0 > row.versus["deo_mean"].points for row in compared)
    whole = f"In {won:,} of {len(compared):,} comparisons" if len(compared) > 1 or not won else "In the one comparison"
    return f"{words} {whole} with a vanilla set, the other strategy is both more accurate and fairer."


def _table(number: int, section: Section, metrics: Sequence[str], names: dict[int, str]) -> str:
    lines = [words_of(row) for row in section.rows]
    used = [name for name in WORDS if any(line[name] for line in lines)]
    common = [name for name in used if name not in ALWAYS and len({line[name] for line in lines}) == 1]
    columns = [name for name in used if name != "method" and name not in common]
    heads = ['<th scope="col">method</th>']
    heads += [f'<th scope="col"{_kind(name in NUMBERS)}>{escape(HEADINGS.get(name, name))}</th>' for name in columns]
    heads += [
        f'<th scope="col" class="number" title="{escape(METRICS[name].meaning)}">{heading(name)}</th>'
        for name in metrics
    ]
    body = []
    for row, words in zip(section.rows, lines, strict=True):
        cells = [f'<th scope="row"><a href="#{names[id(row)]}">{escape(words["method"])}</a></th>']
        cells += [
            f'<td{_kind(name in NUMBERS)} data-label="{escape(HEADINGS.get(name, name))}">{escape(words[name])}</td>'
            for name in columns
        ]
        cells += [_metric(section, row, name) for name in metrics]
        body.append(f"<tr>{''.join(cells)}</tr>")
    title = ", ".join(titled(name, lines[0][name]) for name in common) or "All rows"
    return (
        f'<h2 id="table-{number}">{escape(title)}</h2>\n'
        f'<div class="scroll table" role="region" aria-labelledby="table-{number}" tabindex="0">'
        f'<table class="sortable"><caption>{explained(max(row.seeds for row in section.rows))}</caption>'
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>\n" + "\n".join(body) + "\n</tbody></table></div>"
    )


def _kind(number: bool) -> str:
    return ' class="number"' if number else ""


def _metric(section: Section, row: Row, name: str) -> str:
    found = row.metrics.get(name, {"mean": None, "std": None})
    mean = found["mean"]
    lines = [f"<small>{escape(text)}</small>" for text in _about(row, name)]
    versus = row.versus.get(name)
    if versus is not None:
        verdict = versus.verdict if versus.better is not None else ""
        said = f"{signed(versus.points)} vs vanilla{f', {verdict}' if verdict else ''}"
        lines.insert(0, f'<small class="{verdict}">{said}</small>')
    kind = "best number" if section.is_best(row, name) else "number"
    shown = mean_std(mean, found["std"] if row.seeds > 1 else None)
    value = "" if mean is None else repr(mean)
    opening = f'<td class="number" data-label="{heading(name)}" data-value="{value}">'
    return f'{opening}<span class="{kind}">{shown}</span>{"".join(lines)}</td>'


def _about(row: Row, name: str) -> Iterator[str]:
    if name in row.intervals:
        low, high = row.intervals[name]
        yield f"{low:.1f} to {high:.1f}"
    for reference in row.references:
        value = reference.metrics.get(name)
        if value is not None and row.mean(name) is not None:
            yield f"published {mean_std(*value)} ({signed((row.mean(name) or 0.0) - value[0])})"


def _legend(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    words = [f"{METRICS[name].label}: {METRICS[name].meaning}" for name in metrics]
    notes = [". ".join(words) + ". ★ marks the best of a column."]
    if any(row.intervals for row in rows):
        share = max(row.coverage for row in rows)
        notes.append(
            f"Small figures under a value are its {100 * share:g} % bootstrap interval over seeds and test images; "
            "“better” and “worse” are said where the difference to vanilla is beyond its own interval."
        )
    lacking = max((len(empty(row.cells)) for row in rows), default=0)
    if lacking:
        notes.append(f"Up to {lacking} cells of a row have no test image.")
    if any(row.references for row in rows):
        notes.append(
            "Published values are followed by what ours is above or below them; their sources and settings stand below."
        )
    return "".join(f"<p>{escape(note)}</p>" for note in notes)


def _figure(number: int, picture: Picture) -> str:
    natural = float(picture.svg.partition('width="')[2].partition("pt")[0])
    # Neither too small to read on a phone, where it scrolls, nor blown up on a screen.
    look = f'style="min-width: {0.75 * natural:.0f}pt; max-width: {1.25 * natural:.0f}pt"'
    svg = picture.svg.replace("<svg", f'<svg role="img" aria-label="{escape(picture.alternative)}" {look}', 1)
    return (
        f'<figure><h3 id="picture-{number}">{escape(picture.title)}</h3>'
        f'<div class="scroll" role="region" aria-labelledby="picture-{number}" tabindex="0">{svg}</div>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _provenance(row: Row, name: str) -> str:
    setting = row.setting
    title = f"{setting.dataset}, {row.name}, {titled('ipc', str(setting.ipc))}, {setting.network}"
    parts = [f'<details id="{name}"><summary>{escape(title)}</summary>']
    if row.unlike_vanilla:
        parts.append(f"<p>Unlike its vanilla row it has {escape(', '.join(row.unlike_vanilla))}.</p>")
    for reference in row.references:
        same = "the same setting as far as is known"
        parts.append(f"<p>Published in {escape(reference.source)}: {escape('; '.join(reference.differs) or same)}.</p>")
    for run in row.runs:
        parts.append(f"<pre>{escape(chr(10).join(commands(run)))}</pre><dl>")
        parts += [f"<dt>{escape(key)}</dt><dd>{escape(clean(value))}</dd>" for key, value in _facts(run)]
        parts.append("</dl>")
    return "".join([*parts, "</details>"])


def _facts(run: Run) -> Iterator[tuple[str, object]]:
    evaluation = run.evaluation
    yield "file", evaluation.path
    yield "made by", f"{evaluation.provenance.get('generated_by', '')}, {evaluation.provenance.get('created', '')}"
    yield "test images", f"{int(run.cells.total[0].sum()):,}, {run.cells.total.shape[0]} networks"
    yield "time, memory", f"{evaluation.seconds:,.0f} s, {evaluation.peak_memory / 2**20:,.0f} MiB at most"
    yield "protocol", ", ".join(f"{key} {value}" for key, value in evaluation.protocol.items())
    yield "data set", evaluation.dataset_digest
    yield "synthetic set", evaluation.synthetic_digest or "none: trained on the data set itself"
    yield "evaluation", evaluation.digest


def commands(run: Run) -> list[str]:
    """The commands that make `run` again, with DATA and SYN for the files; for reading, not for running blindly."""
    evaluation = run.evaluation
    distill = distill_options(evaluation)
    known = {"method": evaluation.method, "fairness": evaluation.fairness, "sampling": evaluation.sampling}
    known |= {"ipc": str(evaluation.ipc), "iterations": str(evaluation.iterations)}
    given = {**known, **{key: value for key, value in distill.items() if key in DISTILL_OPTIONS}}
    lines = []
    if evaluation.method != "whole":
        hyper = flat({"hyper": distill.get("hyper", {})})
        words = [word for key in DISTILL_OPTIONS if key in given for word in (_option(key), given[key])]
        words += [word for key, value in hyper.items() for word in ("-O", f"{key}={value}")]
        words += ["--seed", distill["seed"]] if "seed" in distill else []
        lines.append(_command("fairdd", "distill", "DATA", *words))
    protocol = [(key, evaluation.protocol[key]) for key in PROTOCOL_OPTIONS if key in evaluation.protocol]
    words = [word for key, value in protocol for word in (_option(key), value or "none")]
    seeds = run.cells.total.shape[0]
    source = "DATA" if evaluation.method == "whole" else "SYN"
    trained = ("--network", run.setting.network, "--seeds", seeds, "--seed", evaluation.seed)
    return [*lines, _command("fairdd", "evaluate", source, *trained, *words)]


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _command(*words: object) -> str:
    return " ".join(shlex.quote(clean(word)) for word in words)
