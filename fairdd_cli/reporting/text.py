"""The text formats of a report for people: an aligned table, Markdown and LaTeX."""

import textwrap
from collections.abc import Sequence

from fairdd_cli.reporting.sheets import Sheet

WIDTH = 80  # columns of a terminal whose width is unknown
ASCII = str.maketrans({"±": "+-", "↑": "", "↓": "", "…": "..."})


def plain(sheets: Sequence[Sheet], ascii_only: bool = False, width: int = WIDTH) -> str:
    """Aligned columns without colour or frames, for a pipe or a log; titles and notes are wrapped at the `width`."""
    text = "\n".join(_plain(sheet, width) for sheet in sheets)
    return text.translate(ASCII).encode("ascii", "backslashreplace").decode() if ascii_only else text


def _plain(sheet: Sheet, width: int) -> str:
    widths, labels = sheet.widths(), len(sheet.columns)
    title, *notes = (wrapped(text, width) for text in (sheet.title, *sheet.notes))

    def line(texts: Sequence[str], best: Sequence[bool]) -> str:
        left = [text.ljust(width) + "  " for text, width in zip(texts[:labels], widths[:labels], strict=True)]
        right = [
            text.rjust(width) + ("*" if star else " ")
            for text, width, star in zip(texts[labels:], widths[labels:], best, strict=True)
        ]
        return ("".join(left) + " ".join(right)).rstrip()

    none = (False,) * len(sheet.metrics)
    body = [line((*entry.labels, *entry.values), entry.best) for entry in sheet.lines]
    rule = "-" * max(map(len, body))
    return "\n".join([title, line((*sheet.columns, *sheet.metrics), none), rule, *body, rule, *notes]) + "\n"


def wrapped(text: str, width: int) -> str:
    """`text` in lines of the `width`, names with hyphens whole."""
    return textwrap.fill(text, max(width, 1), break_on_hyphens=False)


def markdown(sheets: Sequence[Sheet]) -> str:
    """A table for each section; the best in bold."""
    return "\n".join(_markdown(sheet) for sheet in sheets)


def _markdown(sheet: Sheet) -> str:
    def safe(text: str) -> str:
        return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~$&" else c for c in text)

    def value(text: str, is_best: bool) -> str:
        return f"**{safe(text)}**" if is_best else safe(text)

    heads = [*map(safe, sheet.columns), *map(safe, sheet.metrics)]
    rule = ["---"] * len(sheet.columns) + ["---:"] * len(sheet.metrics)
    body = [[*map(safe, line.labels), *map(value, line.values, line.best)] for line in sheet.lines]
    notes = map(safe, _notes_on_bold(sheet))
    table = [f"| {' | '.join(cells)} |" for cells in (heads, rule, *body)]
    return "\n".join([f"### {safe(sheet.title)}\n", *table, "", "\n\n".join(notes)]) + "\n"


def _notes_on_bold(sheet: Sheet) -> list[str]:
    """The notes of a format that shows the best in bold, without a star."""
    return [sheet.notes[0].replace("* best", "bold: best"), *sheet.notes[1:]]


LATEX = (
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {character: f"\\{character}" for character in "&%$#_{}"}
    | {"±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "…": r"\ldots{}", "<": r"$<$", ">": r"$>$"}
    | {"[": "{[}", "]": "{]}"}  # after the end of a line, [ would begin its optional argument
)


def latex(sheets: Sequence[Sheet]) -> str:
    """A tabular with booktabs rules for each section; the best in bold."""
    return "\n".join(["% needs \\usepackage{booktabs}", *map(_latex, sheets)])


def _latex(sheet: Sheet) -> str:
    def safe(text: str) -> str:
        return "".join(LATEX.get(c, c) for c in text)

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    body = [
        line(
            [
                *map(safe, entry.labels),
                *(rf"\textbf{{{safe(v)}}}" if b else safe(v) for v, b in zip(entry.values, entry.best, strict=True)),
            ]
        )
        for entry in sheet.lines
    ]
    notes = (sheet.title, *_notes_on_bold(sheet))
    comments = [f"% {line}" for note in notes for line in wrapped(note, WIDTH - 2).splitlines()]
    begin = rf"\begin{{tabular}}{{{'l' * len(sheet.columns)}{'r' * len(sheet.metrics)}}}"
    heads = line([safe(text) for text in (*sheet.columns, *sheet.metrics)])
    return "\n".join([*comments, begin, r"\toprule", heads, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""])
