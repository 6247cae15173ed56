"""How rows, columns and figures are called wherever a report shows them: in a table, on a page, in a figure."""

import string
from collections.abc import Sequence

from fairdd_cli.metrics import METRICS
from fairdd_cli.reporting.rows import Row

SHOWN = ("accuracy", "deo_max", "deo_mean", "worst_group_accuracy")  # metrics of a table unless others are asked for
COLUMNS = ("dataset", "method", "fairness", "sampling", "ipc", "network", "variant", "seeds")
ALWAYS = ("method", "fairness")  # columns of every table, whatever the rows have in common
HEADINGS = {"ipc": "IPC"}
MOST_DECIMALS = 6  # of the ends of an interval
SHORT_VARIANT = 16  # letters of a variant that a column has room for, as `iterations=2000`


def table_labels(rows: Sequence[Row]) -> tuple[list[dict[str, str]], list[str]]:
    """What stands in each column of the `rows` of a table, and notes on what the letters in its variant column mean.

    A table has letters where one of its variants is not short: variants are sentences, and would widen it.
    """
    variants = list(dict.fromkeys(row.variant for row in rows if row.variant))
    short = all(len(variant) <= SHORT_VARIANT for variant in variants)
    named = {variant: variant if short else _letters(number) for number, variant in enumerate(variants)}
    labels = [
        {
            **{name: str(value) for name, value in row.setting._asdict().items()},
            "variant": named.get(row.variant, ""),
            "seeds": str(row.seeds),
        }
        for row in rows
    ]
    return labels, [] if short else [f"{letters}: {variant}" for variant, letters in named.items()]


def _letters(number: int) -> str:
    """a, b … z, aa, ab …"""
    before, last = divmod(number, len(string.ascii_lowercase))
    return (_letters(before - 1) if before else "") + string.ascii_lowercase[last]


def column_title(column: str) -> str:
    """The heading of a column."""
    return HEADINGS.get(column, column)


def title_of(column: str, value: str) -> str:
    """The value of a column in a title, where no heading says what it is."""
    if column == "seeds":
        return f"{value} seed" if value == "1" else f"{value} seeds"
    titles = {"ipc": f"IPC {value}", "sampling": f"{value} sampling", "variant": f"variant {value}"}
    return titles.get(column, value)


def metric_title(metric: str) -> str:
    """A metric's label with the direction that is better."""
    return f"{METRICS[metric].label}{'↑' if METRICS[metric].higher_is_better else '↓'}"


def mean_std(mean: float | None, std: float | None) -> str:
    """A mean and its standard deviation in percent."""
    return "-" if mean is None else f"{mean:.1f}" if std is None else f"{mean:.1f}±{std:.1f}"


def value_of(row: Row, metric: str) -> str:
    """The row's metric as tables show it; the deviation where there are several seeds."""
    values = row.metrics.get(metric, {"mean": None, "std": None})
    return mean_std(values["mean"], values["std"] if row.seeds > 1 else None)


def interval_ends(ends: tuple[float, float]) -> tuple[str, str]:
    """The ends of an interval in percent, with as many decimals as tell them apart: none is shown as a single point."""
    shown = [(f"{ends[0]:.{decimals}f}", f"{ends[1]:.{decimals}f}") for decimals in range(1, MOST_DECIMALS + 1)]
    return next((each for each in shown if each[0] != each[1]), shown[0])


def caption(seeds: int) -> str:
    """What the figures of a table are, of which no row has more than so many `seeds`."""
    return "Mean ± standard deviation over seeds, in percent" if seeds > 1 else "In percent, of one seed"


def signed(points: float) -> str:
    """A difference in points, with its sign; 0.0 has none."""
    text = f"{points:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def p_value(value: float) -> str:
    """A p-value with as many digits as a few hundred permutations give."""
    return f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"


def varying_columns(rows: Sequence[dict[str, str]]) -> tuple[list[str], list[str]]:
    """The columns that any of the `rows` fills, and those of them that a title can hold: the same in all rows."""
    used = [name for name in COLUMNS if any(row[name] for row in rows)]
    common = [name for name in used if name not in ALWAYS and len({row[name] for row in rows}) == 1]
    return used, common
