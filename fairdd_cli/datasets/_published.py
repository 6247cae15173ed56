"""Data sets that were published as images with tables: options of `folder` that fit the tables as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fairdd_cli.datasets import folder
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets.images.files import OPTIONS as FILE_OPTIONS
from fairdd_cli.datasets.images.files import SIZE
from fairdd_cli.datasets.tables.columns import quote_value
from fairdd_cli.datasets.tables.table import Table
from fairdd_cli.datasets.tables.values import fold

__all__ = ["OPTIONS", "SIZE", "categories", "folder_source"]

OPTIONS = FILE_OPTIONS | {"target", "protected", "split", "no_crop"}


def folder_source(
    request: Request,
    root: Path,
    target: str,
    protected: Sequence[str],
    attributes: Mapping[str, str],
    split: str | None = None,
    **options: Any,
) -> Source:
    """The source that `folder` makes of the images below `root` with these `options`.

    `target`, `protected` and `split` are taken where the `request` names no other. A name among the `attributes` stands
    for the column and conditions given there; anything else is a column, with conditions, as `folder` takes it.
    """
    chosen = request.target or target
    return folder.source(
        replace(
            request,
            root=root,
            target=attributes.get(chosen, chosen),
            protected=tuple(attributes.get(name, name) for name in request.protected or protected),
            split=request.split or split,
            **options,
        )
    )


def categories(column: str, spellings: Mapping[str, Sequence[str]], tables: Sequence[Path]) -> str:
    """The condition that makes the categories `spellings` (values by name) of a `column`.

    Copies of a table spell a value differently, and parts of it lack some: those that the `tables` have are named.
    """
    present: set[str] = set()
    for table in map(Table, tables):
        index = table.index(column)
        present |= {fold(row[index]) for _, row in table.rows() if len(row) > index}
    named = {name: [value for value in values if fold(value) in present] for name, values in spellings.items()}
    named = named if any(named.values()) else {name: list(values) for name, values in spellings.items()}
    items = [f"{quote_value(name)}:{'+'.join(map(quote_value, values))}" for name, values in named.items() if values]
    return f"{column}={','.join(items)}"
