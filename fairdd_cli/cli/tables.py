"""Tables that fit a terminal: the cells of a data set, and any columns of numbers beside names."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fairdd_cli.cli.terminal import literal

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from fairdd_cli.artifacts import BiasedDataset

WIDE, NAMES = 50, 24  # characters for the heads of the groups, and for the names of classes or networks
GAP = 1  # characters between columns
Column = tuple[str, list[str]]  # head and entries


def cell_tables(dataset: "BiasedDataset", width: int) -> "Iterator[Table | Text]":
    """Training images of each cell, with the bias ratio of each class: as many tables as fit the `width`."""
    from rich.text import Text

    from fairdd_cli.reporting.cells import class_bias

    # Many groups get numbers for heads and a legend, so that the counts fit a terminal.
    numbered = sum(len(name) + GAP for name in dataset.protected_names) > WIDE
    heads = [str(group) if numbered else name for group, name in enumerate(dataset.protected_names)]
    legend = ", ".join(f"{head} {name}" for head, name in zip(heads, dataset.protected_names, strict=True))
    columns = [(head, [f"{count:,}" for count in dataset.train.count[:, group]]) for group, head in enumerate(heads)]
    columns.append(("bias", [f"{share:.3f}" for share in class_bias(dataset.train.count)]))
    yield Text("\nTraining images of each class and group", style="italic")
    yield from tables("class", dataset.class_names, columns, width)
    if numbered:
        yield literal(f"groups: {legend}", "dim")


def tables(head: str, names: Sequence[str], columns: Sequence[Column], width: int) -> "Iterator[Table]":
    """Tables of the `columns`, each at most `width` wide, that all begin with the `names` of the lines under `head`."""
    from rich import box
    from rich.table import Table

    longest = min(NAMES, max(map(len, (head, *names))))
    for part in _fitting(columns, width - longest - 2 * GAP):
        table = Table(box=box.SIMPLE_HEAD, padding=0)
        table.add_column(head, max_width=longest, overflow="fold")
        for label, _ in part:
            table.add_column(literal(label), justify="right", no_wrap=True)
        for name, *entries in zip(names, *(entries for _, entries in part), strict=True):
            table.add_row(literal(name), *entries)
        yield table


def _fitting(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """The columns, in order, in parts of at most `room` characters or of a single column."""
    parts: list[list[Column]] = [[]]
    left = room
    for head, entries in columns:
        needed = max(map(len, (head, *entries))) + GAP
        if needed > left and parts[-1]:
            parts.append([])
            left = room
        parts[-1].append((head, entries))
        left -= needed
    return parts
