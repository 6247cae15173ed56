"""Reports: evaluations read, pooled, compared, and shown as text, figures and a page.

A report is made in steps, each in a file of its own: `read` evaluations (`results`), `build_rows` of them (`rows`),
put beside each row what it is compared with (`with_fair_floors`, `with_intervals`, `with_published`), `arrange` the
rows in sections, and show these: `sheets` with `plain`, `markdown` or `latex`, `as_json` and `as_csv`, the figures
(`scatter`, `recall_maps`, `synthetic_figures`, `coverage_figure`) and the `page`. `Comparison` takes the steps up to
the sections; `report` is all of it for a notebook. `display` is how artifacts show themselves.
`cells` and `group_coverage` are what `fairdd inspect` shows of a data set and of a synthetic set.
Nothing here trains a network, but for `group_coverage`; all else works without torch.
"""

from fairdd_cli.reporting.compare import Comparison, Report, report
from fairdd_cli.reporting.fair_floor import affordable, with_fair_floors
from fairdd_cli.reporting.intervals import with_intervals
from fairdd_cli.reporting.labels import SHOWN
from fairdd_cli.reporting.published import with_published
from fairdd_cli.reporting.records import as_csv, as_json
from fairdd_cli.reporting.results import read
from fairdd_cli.reporting.rows import Row, build_rows
from fairdd_cli.reporting.sections import Section, arrange
from fairdd_cli.reporting.sheets import sheets
from fairdd_cli.reporting.text import latex, markdown, plain

__all__ = [
    "SHOWN",
    "Comparison",
    "Report",
    "Row",
    "Section",
    "affordable",
    "arrange",
    "as_csv",
    "as_json",
    "build_rows",
    "latex",
    "markdown",
    "plain",
    "read",
    "report",
    "sheets",
    "with_fair_floors",
    "with_intervals",
    "with_published",
]
