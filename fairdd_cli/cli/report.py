"""fairdd report: evaluations as a table, as figures and as a page."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fairdd_cli.cli.terminal import Terminal, literal, out, product, width
from fairdd_cli.config.report import FIGURES, ReportConfig
from fairdd_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from fairdd_cli.artifacts import SyntheticSet
    from fairdd_cli.reporting import Row, Section
    from fairdd_cli.reporting.sheets import Sheet

NARROWEST = 2  # metrics that a table keeps, however narrow the terminal


def report(config: ReportConfig) -> None:
    """Compare evaluations: a row for each setting, mean and spread over seeds, difference to vanilla.

    Prints the table. Example: fairdd report runs/*.json --against published --html report.html
    """
    from fairdd_cli.artifacts import check_target, is_stdout, lock_output, made_by_this_command, read_synthetic
    from fairdd_cli.reporting import Comparison, read

    comparison = Comparison.of(config)
    shows_sets = config.html or config.picture in ("images", "loss")
    for option, given, other, there in (
        ("--picture", config.picture is not None, "--plot", config.plot),
        ("--reverse", config.reverse, "--sort", comparison.sort),
        ("--synthetic", config.synthetic, "--html or --picture images or loss", shows_sets),
    ):
        if given and not there:
            raise UsageError(f"{option} is for {other}: give that, too, or leave it out")
    _check_figures(config)
    targets = [target for target in (config.plot, config.html) if target]
    force = config.force or made_by_this_command(*targets)  # what a killed run made may be made again
    for target in targets:
        check_target(target, force, *config.files, *config.synthetic)

    with ExitStack() as locks, Terminal(config.quiet, config.verbose) as terminal:
        for target in targets:
            locks.enter_context(lock_output(target))
        rows = comparison.rows(read(config.files), config, terminal.say)
        sections, metrics = comparison.sections(rows, config), comparison.metrics
        sets = [read_synthetic(path) for path in config.synthetic]
        if config.plot is not None:
            _save_plot(config.plot, config.picture or FIGURES[0], rows, sets, terminal, force)
            terminal.wrote(config.plot)
        if config.html is not None:
            _save_page(config.html, sections, metrics, sets, force)
            terminal.wrote(config.html)
        if config.html is None or not is_stdout(config.html):  # else the page has standard output for itself
            _print(config.format, sections, metrics, asked=bool(config.metric))


def _check_figures(config: ReportConfig) -> None:
    """Raises UsageError, before anything is read, for a figure that could not be drawn."""
    if config.plot is not None or config.html is not None:
        from fairdd_cli.reporting.figures import SUFFIXES, require
        from fairdd_cli.reporting.synthetic_figures import MOST_SETS

        require()
        if config.plot is not None and Path(config.plot).suffix.lower() not in SUFFIXES:
            raise UsageError(f"--plot {config.plot}: figures are written as {', '.join(SUFFIXES)}")
        count = len(config.synthetic)
        if config.picture == "images" and count > MOST_SETS:
            raise UsageError(f"--picture images shows up to {MOST_SETS} synthetic sets; {count} were given")


def _print(format: str, sections: "Sequence[Section]", metrics: Sequence[str], asked: bool) -> None:
    """Prints the sections; `metrics` that were `asked` for are all shown."""
    from fairdd_cli import reporting
    from fairdd_cli.reporting.text import WIDTH

    if format == "table" and sys.stdout.isatty():
        found, hidden = fitting(sections, metrics, least=len(metrics) if asked else NARROWEST)
        for sheet in found:
            product(rich_table(sheet))
            product(literal("\n".join(sheet.notes), "dim"))
        if hidden:
            product(f"Too narrow for {', '.join(hidden)}: name them with --metric, or widen the terminal.")
        return
    texts = {
        "table": lambda: reporting.plain(reporting.sheets(sections, metrics, fold=True), _ascii(), width(WIDTH)),
        "markdown": lambda: reporting.markdown(reporting.sheets(sections, metrics)),
        "latex": lambda: reporting.latex(reporting.sheets(sections, metrics)),
        "csv": lambda: reporting.as_csv(sections),
        "json": lambda: reporting.as_json(sections),
    }
    out(texts[format]())


def _ascii() -> bool:
    """Whether standard output cannot take more than ASCII."""
    try:
        "±↑↓…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def fitting(sections: "Sequence[Section]", metrics: Sequence[str], least: int) -> "tuple[list[Sheet], Sequence[str]]":
    """The sheets with as many of the metrics, from the left, as the terminal is wide enough for; the other metrics."""
    from fairdd_cli import reporting

    count = len(metrics)
    found = reporting.sheets(sections, metrics, fold=True)
    while count > least and max(sum(sheet.widths()) + 2 * len(sheet.widths()) for sheet in found) > width():
        count -= 1
        found = reporting.sheets(sections, metrics[:count], fold=True)
    return found, metrics[count:]


def rich_table(sheet: "Sheet") -> "Table":
    """The sheet as a terminal shows it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=literal(sheet.title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in sheet.columns:
        table.add_column(literal(name), overflow="fold")
    for name in sheet.metrics:
        table.add_column(literal(name), justify="right", no_wrap=True)
    for line in sheet.lines:
        values = [
            Text(f"{value}*" if best else f"{value} ", style="bold green" if best else "")
            for value, best in zip(line.values, line.best, strict=True)
        ]
        table.add_row(*map(literal, line.labels), *values, style=None if line.is_row else "dim")
    return table


def _save_plot(
    path: str, name: str, rows: "Sequence[Row]", sets: "Sequence[SyntheticSet]", terminal: Terminal, force: bool
) -> None:
    from fairdd_cli.artifacts import write_bytes
    from fairdd_cli.reporting.figures import render
    from fairdd_cli.reporting.recall_maps import recall_maps
    from fairdd_cli.reporting.rows import pairs
    from fairdd_cli.reporting.scatter import scatter
    from fairdd_cli.reporting.synthetic_figures import image_grid, loss_curves

    if name in ("images", "loss") and not sets:
        raise UsageError(f"--picture {name} shows synthetic sets: give them with --synthetic")
    if name == "images":
        figure = image_grid(sets, rows)
    elif name == "recall":
        first, *others = pairs(rows)
        if others:
            shown = f"{first[-1].name}, one of {1 + len(others)} pairs"
            terminal.say(f"{path} shows {shown}: give fewer evaluations for another")
        figure = recall_maps(first)
    else:
        figure = loss_curves(sets) if name == "loss" else scatter(rows)
    write_bytes(path, render(figure, Path(path).suffix.lower()), force)


def _save_page(
    path: str, sections: "Sequence[Section]", metrics: Sequence[str], sets: "Sequence[SyntheticSet]", force: bool
) -> None:
    from fairdd_cli.artifacts import write_bytes
    from fairdd_cli.reporting.page import page, page_figures

    write_bytes(path, page(sections, metrics, page_figures(sections, sets)).encode(), force)
