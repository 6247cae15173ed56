"""The options of `fairdd report`."""

from dataclasses import dataclass

from fairdd_cli.config import _shared as shared
from fairdd_cli.config._options import argument, option

FORMATS = ("table", "markdown", "csv", "latex", "json")
FIGURES = ("scatter", "recall", "images", "loss")
EMPTY_CELLS = ("skip", "zero")
REFERENCES = ("published",)
CONFIDENCE_LEVEL = 95  # percent, of bootstrap intervals


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Which evaluations to compare, and what to show of them."""

    files: tuple[str, ...] = argument("Evaluations, JSON and HDF5 mixed; - is stdin.", "FILE…")
    format: str = option("Format of the table.", "-f", default="table", choices=FORMATS)
    group_by: str = option(
        "Columns that make sections, comma-separated, or none.", default="dataset", metavar="COLUMNS"
    )
    sort: tuple[str, ...] = option(
        "Column or metric to sort by, best first; repeatable.",
        default=(),
        metavar="COLUMN",
        default_text="network, IPC, method, vanilla first",
    )
    reverse: bool = option("With --sort, in the opposite order.", default=False)
    metric: tuple[str, ...] = option(
        "Metric to show, as 'fairdd list metrics' names it; repeatable; csv and json have all.",
        default=(),
        metavar="NAME",
        default_text="accuracy, deo_max, deo_mean, worst_group_accuracy",
    )
    empty_cells: str = option(
        "Leave cells without test images out, or score them 0.",
        default="skip",
        choices=EMPTY_CELLS,
        kind="treatment of empty cells",
    )
    bootstrap: int = option(
        "Bootstrap resamples of seeds and test images, for example 1000; 0 gives no intervals.",
        default=0,
        metavar="N",
        minimum=0,
    )
    confidence: float | None = option(
        "Confidence level of the intervals.",
        default=None,
        metavar="PERCENT",
        minimum=50,
        maximum=99.9,
        default_text=f"{CONFIDENCE_LEVEL}",
    )
    permutations: int | None = option(
        "Permutations of the groups for the fair floor of DEO and its p-value; 0 for none.",
        default=None,
        metavar="N",
        minimum=0,
        default_text="200, none where it takes long",
    )
    against: str | None = option(
        "Show published values beside these results.", default=None, choices=REFERENCES, default_text="none"
    )
    plot: str | None = option("Save a figure: .png, .svg or .pdf.", default=None, metavar="FILE", default_text="none")
    picture: str | None = option(
        "What --plot shows.", default=None, choices=FIGURES, kind="figure", default_text=FIGURES[0]
    )
    html: str | None = option(
        "Save a page with table, figures and provenance.", default=None, metavar="FILE", default_text="none"
    )
    synthetic: tuple[str, ...] = option(
        "Synthetic set whose images and loss to show; repeatable.", default=(), metavar="SYN", default_text="none"
    )
    seed: int = shared.seed("Random seed of bootstrap and permutations.")
    recipe: str | None = shared.recipe()
    force: bool = shared.force()
    quiet: bool = shared.quiet()
    verbose: bool = shared.verbose()
