"""Your own images: a folder, and a CSV that gives for each image its target and its protected attributes."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fairdd_cli.datasets._cells import intersectional_groups
from fairdd_cli.datasets._files import OPTIONS as FILE_OPTIONS
from fairdd_cli.datasets._files import TEST, TRAIN, ImageTable, file_source
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets._table import ConfinedFolder, RowErrors, Table, open_table, path_column
from fairdd_cli.errors import UsageError

OPTIONS = (FILE_OPTIONS - {"download"}) | {"csv", "target", "protected", "split", "no_crop"}
VALUE_LIMIT = 1000  # classes or groups; a column with more holds numbers or names rather than categories
UNUSED = -1
PARTS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("test", "testing"), TEST),
    **dict.fromkeys(("val", "valid", "validation", "dev"), UNUSED),
}
CODE = re.compile(r"[+-]?\d+(\.\d+)?|true|false|yes|no|[tfyn]", re.IGNORECASE)


def source(request: Request) -> Source:
    """Any classes and groups, 3x64x64 (or --size); normalised by the training images' own mean and deviation.

    Raises UsageError with a line for each fault of the CSV.
    """
    if request.root is None or request.csv is None or request.target is None or not request.protected:
        raise UsageError(
            "data set 'folder' needs --root DIR (the images), --csv FILE (a row for each image), --target COLUMN "
            "and --protected COLUMN"
        )
    if not request.root.is_dir():
        raise UsageError(f"--root '{request.root}' is not a folder")
    names = [request.target, *request.protected, *filter(None, [request.split])]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"column '{twice[0]}' is given twice among --target, --protected and --split")
    table, inside = open_table(request.csv, request.root), ConfinedFolder(request.root)
    columns = [table.column(name) for name in names]
    attributes = 1 + len(request.protected)
    files, parts, values = _sound_rows(table, inside, columns, attributes)
    used = np.flatnonzero(parts != UNUSED)
    labels, class_names = _categories(request.target, [values[0][index] for index in used])
    protected, protected_names = intersectional_groups(
        [
            _categories(name, [column[index] for index in used])
            for name, column in zip(request.protected, values[1:], strict=True)
        ]
    )
    images = ImageTable(
        folder=inside.real,
        names=[files[index] for index in used],
        labels=labels,
        protected=protected,
        class_names=class_names,
        protected_names=protected_names,
        part=parts[used] if request.split else None,
        options={
            "target": request.target,
            "protected": list(request.protected),
            "split": request.split,
            "no_crop": request.no_crop,
        },
        left_out={"validation": len(files) - len(used)},
    )
    return file_source(request, images, mean=None, std=None)


def _sound_rows(
    table: Table, inside: ConfinedFolder, columns: Sequence[int], attributes: int
) -> tuple[list[str], np.ndarray, list[list[str]]]:
    """(files, their parts [N], their values by attribute) of all rows; UsageError where any row is not sound.

    `columns` are those of the `attributes` and then, if there is one, that of the split.
    """
    faults, first_rows = RowErrors(table.path), dict[str, int]()
    paths = path_column(table, inside, columns)
    parts: list[int] = []
    values: list[list[str]] = [[] for _ in range(attributes)]
    shared: dict[str, str] = {}  # one object for all equal cells
    for number, row in table.rows():
        if len(row) != len(table.header):
            faults.add(number, f"it has {len(row)} cells, the header {len(table.header)}")
            continue
        file, fault = inside.find(row[paths])
        empty = [table.header[column] for column in columns if not row[column]]
        broken = [table.header[column] for column in columns if not row[column].isprintable()]
        part = PARTS.get(row[columns[-1]].lower()) if len(columns) > attributes else TRAIN
        if fault:
            faults.add(number, fault)
        elif empty:
            faults.add(number, f"column '{empty[0]}' is empty")
        elif broken:
            faults.add(number, f"column '{broken[0]}' holds a line break or another control character")
        elif file in first_rows:
            faults.add(number, f"the file '{row[paths][:80]}' stands in row {first_rows[file]} already")
        elif part is None:
            faults.add(number, f"the split '{row[columns[-1]][:40]}' is none of {', '.join(PARTS)}")
        else:
            first_rows[file] = number
            parts.append(part)
            for column, cells in zip(columns, values, strict=False):
                cells.append(shared.setdefault(row[column], row[column]))
    faults.check()
    return list(first_rows), np.array(parts, np.int64), values


def _categories(column: str, cells: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """(index of each cell's value int64 [N], the values' names) of a `column`; UsageError unless they are categories.

    A value that says nothing by itself, such as 1 or yes, is named with its column: "smiling=1".
    """
    distinct = set(cells)
    if not 2 <= len(distinct) <= VALUE_LIMIT:
        found = f"one value only, '{next(iter(distinct))[:40]}'" if distinct else "no value"
        if len(distinct) > VALUE_LIMIT:
            found = f"{len(distinct):,} different values; group them into categories first"
        raise UsageError(f"column '{column}' should have 2 to {VALUE_LIMIT:,} categories, but it has {found}")
    values = sorted(distinct, key=lambda value: (int(value) if value.isdecimal() else -1, value))
    code = {value: index for index, value in enumerate(values)}
    names = tuple(f"{column}={value}" if CODE.fullmatch(value) else value for value in values)
    return np.array([code[cell] for cell in cells], np.int64), names
