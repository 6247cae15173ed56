"""The steps of a report as its options ask: evaluations pooled, compared, arranged; `report` is for notebooks."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fairdd_cli.artifacts import Evaluation, read_evaluation
from fairdd_cli.config import ReportConfig
from fairdd_cli.config.keywords import configure, documented
from fairdd_cli.config.report import CONFIDENCE_LEVEL
from fairdd_cli.errors import UsageError
from fairdd_cli.metrics import METRICS
from fairdd_cli.reporting.display import Shown, to_html
from fairdd_cli.reporting.fair_floor import affordable, with_fair_floors
from fairdd_cli.reporting.intervals import with_intervals
from fairdd_cli.reporting.labels import SHOWN
from fairdd_cli.reporting.published import with_published
from fairdd_cli.reporting.results import Run, runs_of, without_duplicates
from fairdd_cli.reporting.rows import Row, build_rows
from fairdd_cli.reporting.sections import Section, arrange
from fairdd_cli.reporting.sheets import Sheet, sheets
from fairdd_cli.reporting.text import plain
from fairdd_cli.runtime import Streams, show_progress

Source = Evaluation | str | os.PathLike[str]
OF_COMMAND = ("format", "plot", "picture", "html", "synthetic")  # what the command makes besides the table


@dataclass(frozen=True)
class Comparison:
    """What a report asks for by name, found to exist: metrics to show, columns that make sections, order of rows."""

    metrics: Sequence[str]
    grouped: Sequence[str]
    sort: Sequence[str]

    @staticmethod
    def of(config: ReportConfig) -> "Comparison":
        """That of `config`; raises UsageError for a misspelt name, before thousands of files are read."""
        metrics = [METRICS.canonical(name) for name in config.metric]
        sort = [_by_label(name) for name in config.sort]
        grouped = () if config.group_by == "none" else tuple(config.group_by.split(","))
        if config.confidence is not None and not config.bootstrap:
            raise UsageError("--confidence is for --bootstrap: give that, too, or leave it out")
        arrange((), grouped, sort)
        return Comparison(metrics or SHOWN, grouped, sort)

    def rows(self, runs: Sequence[Run], config: ReportConfig, say: Callable[[str], None]) -> list[Row]:
        """The rows of `runs` with all that `config` puts beside them; `say` tells what had to be left out."""
        rows = build_rows(runs, config.empty_cells)
        self._check_metrics(rows)
        stream = Streams(config.seed).numpy
        if permutations := affordable(rows) if config.permutations is None else config.permutations:
            rows = with_fair_floors(rows, permutations, stream, config.empty_cells)
        elif config.permutations is None:
            say(f"{len(rows):,} rows are shown without the fair floor of DEO: --permutations 200 computes it")
        if config.bootstrap:
            level = (config.confidence or CONFIDENCE_LEVEL) / 100
            names = None if config.format in ("csv", "json") else self.metrics  # those show all
            rows = with_intervals(rows, config.bootstrap, stream, level, config.empty_cells, names)
        if config.against:
            rows = with_published(rows)
            known = sum(bool(row.references) for row in rows)
            if known < len(rows):
                say(f"--against published: {known} of {len(rows)} settings have published values")
        return rows

    def sections(self, rows: Sequence[Row], config: ReportConfig) -> list[Section]:
        """The `rows` in sections."""
        return arrange(rows, self.grouped, self.sort, config.reverse)

    def _check_metrics(self, rows: Sequence[Row]) -> None:
        """Raises UsageError for a metric that none of the `rows` has."""
        sizes = sorted({row.table.shape[1] for row in rows})
        for name in self.metrics:
            if not any(map(METRICS[name].applies, sizes)):
                found = ", ".join(map(str, sizes))
                raise UsageError(
                    f"--metric {name} is for {METRICS[name].classes} classes; these evaluations have {found}"
                )


@dataclass(frozen=True, repr=False)
class Report:
    """Rows in sections and the metrics to show of them; a notebook shows it as tables."""

    sections: Sequence[Section]
    metrics: Sequence[str]

    def __repr__(self) -> str:
        return plain(sheets(self.sections, self.metrics, fold=True))

    def _repr_html_(self) -> str:
        return "".join(to_html(_shown(sheet)) for sheet in sheets(self.sections, self.metrics, fold=True))


def _shown(sheet: Sheet) -> Shown:
    """A sheet as a table; a star marks the best of a column."""
    lines = [
        (*line.labels, *(f"{value}*" if best else value for value, best in zip(line.values, line.best, strict=True)))
        for line in sheet.lines
    ]
    return Shown(sheet.title, (*sheet.columns, *sheet.metrics), lines, remarks=sheet.notes)


@documented(ReportConfig, OF_COMMAND)
def report(evaluations: Source | Iterable[Source], **options: object) -> Report:
    """Compares `evaluations`, or the paths of some: a row for each setting, mean and spread over seeds.

    Raises `UsageError` for an option that is unknown or does not fit, and for files that are unsound.

        report([evaluate(vanilla, data), evaluate(fair, data)], metric=["accuracy", "deo_max"])
    """
    config = configure(ReportConfig, options, OF_COMMAND, files=())
    comparison = Comparison.of(config)
    sources = [evaluations] if isinstance(evaluations, Evaluation | str | os.PathLike) else list(evaluations)
    opened = [each if isinstance(each, Evaluation) else read_evaluation(os.fspath(each)) for each in sources]
    if not opened:
        raise UsageError("report needs at least one evaluation")
    with show_progress(config.quiet) as progress:
        rows = comparison.rows(without_duplicates(map(runs_of, opened)), config, progress.say)
    return Report(comparison.sections(rows, config), comparison.metrics)


def _by_label(name: str) -> str:
    """The metric that tables call `name`; else `name` itself."""
    return next((key for key, metric in METRICS.items() if metric.label.lower() == name.lower()), name)  # or a column
