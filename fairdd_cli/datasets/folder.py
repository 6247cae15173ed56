"""Your own images: a folder, and what a table or the folders' names say of each image.

Tables are read as they are and their paths are found (`tables`), and options say in a small language which values
make which class, group and split (`tables.columns`).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fairdd_cli.datasets._groups import intersectional_groups
from fairdd_cli.datasets._source import Request, Source
from fairdd_cli.datasets._splits import split_code
from fairdd_cli.datasets.images.files import OPTIONS as FILE_OPTIONS
from fairdd_cli.datasets.images.files import SIZE, ImageTable, file_source
from fairdd_cli.datasets.tables.columns import PATH_PART, ColumnSpec, parse_column, quote_value
from fairdd_cli.datasets.tables.paths import ConfinedFolder, find_files, path_column, path_part
from fairdd_cli.datasets.tables.table import Join, Row, RowErrors, Table, open_table
from fairdd_cli.datasets.tables.values import Categories, categorise, control_character, fold, remarks
from fairdd_cli.errors import UsageError
from fairdd_cli.registry import parse_number

__all__ = ["OPTIONS", "SIZE", "default_name", "source"]

OPTIONS = (FILE_OPTIONS - {"download"}) | {
    "csv",
    "path",
    "target",
    "protected",
    "split",
    "group_by",
    "join",
    "no_crop",
}
# Other dots belong to the name: labels_v0.1.csv and labels_v0.2.csv are two data sets.
TABLE_SUFFIX = re.compile(r"(\.(csv|tsv|tab|txt|parquet|pq))?(\.gz)?$", re.IGNORECASE)
REASONS = 3  # values whose rows are counted one by one when they are left out


def default_name(request: Request) -> str:
    """What the data set is called where no name is given: as its table or its folder."""
    return TABLE_SUFFIX.sub("", request.csv[0].name) if request.csv else (request.root or Path()).resolve().name


def source(request: Request) -> Source:
    """Any classes and groups, 3x64x64 (or --size); normalised by the training images' own mean and deviation.

    Raises UsageError with a line for each error in the table.
    """
    if request.root is None or request.target is None or not request.protected:
        raise UsageError(
            "data set 'folder' needs --root DIR (the images), --target COLUMN, --protected COLUMN, and --csv FILE (a "
            "row for each image) unless these are folders' names, as in --target path:1"
        )
    if not request.root.is_dir():
        raise UsageError(f"--root '{request.root}' is not a folder")
    folder = ConfinedFolder(request.root)
    tables = [open_table("--csv", path, request.root) for path in request.csv]
    header = list(tables[0].header) if tables else []
    joins: list[Join] = []
    for text in request.join:
        joins.append(Join.parse(text, request.root, header))
        header += [name for name in joins[-1].table.header if name not in header]
    choice = _parse_options(request, header)
    rows = _Rows(folder, request.csv)
    try:
        _read_rows(request, tables, joins, choice, rows)
        images = _image_table(request, rows, choice)
    except UsageError:
        rows.check()  # what is wrong with rows may be the cause
        raise
    rows.check()
    return file_source(request, images, mean=None, std=None, test_share=choice.share)


@dataclass(frozen=True)
class _Choice:
    """The columns that the options name. A split is a column's, or a share that is drawn, or neither."""

    attributes: tuple[ColumnSpec, ...]  # the target, then the protected ones
    split: ColumnSpec | None
    share: str | None
    group_by: str | None

    @property
    def columns(self) -> list[str]:
        """The names of all columns, each once."""
        specs = [*self.attributes, *([self.split] if self.split else [])]
        return list(dict.fromkeys([*(spec.column for spec in specs), *([self.group_by] if self.group_by else [])]))


def _parse_options(request: Request, header: Sequence[str]) -> _Choice:
    attributes = [parse_column("--target", request.target or "", header)]
    attributes += [parse_column("--protected", text, header) for text in request.protected]
    split, share = None, None
    if request.split is not None:
        try:
            number = parse_number(request.split.removesuffix("%"), float)
        except ValueError:
            number = None
        if number is not None and request.split not in header:
            share = request.split
        else:
            split = parse_column("--split", request.split, header)
    texts = [(spec.column, spec.conditions) for spec in (*attributes, *([split] if split else []))]
    if twice := [column for (column, _), count in Counter(texts).items() if count > 1]:
        raise UsageError(f"column '{twice[0]}' is given twice among --target, --protected and --split")
    group_by = None if request.group_by is None else parse_column("--group-by", request.group_by, header)
    if group_by and group_by.conditions:
        raise UsageError(f"--group-by '{request.group_by}' should be a column alone, without a condition")
    return _Choice(tuple(attributes), split, share, group_by.column if group_by else None)


@dataclass
class _Rows:
    """The rows that lead to an image: where each stands, its file, and its cells by column."""

    folder: ConfinedFolder
    tables: Sequence[Path]
    places: list[Row] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    cells: dict[str, list[str]] = field(default_factory=dict)
    errors: RowErrors = field(default_factory=RowErrors)

    def check(self) -> None:
        """Raises UsageError if there are errors."""
        self.errors.check(self.tables or [self.folder.folder])

    def keep(self, chosen: Sequence[int] | np.ndarray) -> None:
        """Keeps the rows at `chosen` only."""
        self.places = [self.places[index] for index in chosen]
        self.files = [self.files[index] for index in chosen]
        self.cells = {name: [cells[index] for index in chosen] for name, cells in self.cells.items()}


def _read_rows(request: Request, tables: Sequence[Table], joins: Sequence[Join], choice: _Choice, rows: _Rows) -> None:
    """Fills `rows` with those of all `tables`, or one for each image if there is none, and the cells needed."""
    named = dict.fromkeys((*choice.columns, *(join.by for join in joins)))
    own = [name for name in named if tables and name in tables[0].header]
    rows.cells = {name: [] for name in own}
    if tables:
        names = [name for table in tables for name in _read_table(request, table, rows, own)]
        found, remark = find_files(names, rows.folder)
        if remark:
            request.say(remark)
        first: dict[str, Row] = {}
        for place, name, (file, error) in zip(rows.places, names, found, strict=True):
            if error:
                rows.errors.add(place, error)
            elif first.setdefault(file, place) is not place:
                rows.errors.add(place, f"the file '{name[:80]}' stands in {first[file]} already")
            rows.files.append(file)
        rows.keep([index for index, place in enumerate(rows.places) if first.get(rows.files[index]) is place])
        if not rows.files:
            rows.check()
    else:
        if request.path or joins:
            raise UsageError("--path and --join are for tables; give --csv, too")
        rows.files = rows.folder.images()
        rows.places = [Row(0, f"'{file}'") for file in rows.files]
    for part in [name for name in named if PATH_PART.fullmatch(name) and name not in own]:
        rows.cells[part] = list(_path_cells(part, rows))
        rows.keep(np.flatnonzero(rows.cells[part]))  # where there is no such folder, that is an error of the row
    for join in joins:
        _add_joined(join, [name for name in choice.columns if name not in rows.cells], rows)


def _read_table(request: Request, table: Table, rows: _Rows, columns: Sequence[str]) -> Iterator[str]:
    """Adds the cells of the `table`'s rows; gives what each calls its file."""
    indices = [(rows.cells[name], table.index(name)) for name in columns]
    paths = table.index(request.path or path_column(table, rows.folder, columns))
    file = f"'{table.path.name}'" if len(rows.tables) > 1 else ""
    shared: dict[str, str] = {}  # one object for all equal cells
    for number, row in table.rows():
        place = Row(number, file)
        if len(row) < len(table.header) or any(row[len(table.header) :]):
            rows.errors.add(place, f"it has {len(row)} cells, the header {len(table.header)}")
            continue
        rows.places.append(place)
        for cells, index in indices:
            cells.append(shared.setdefault(row[index], row[index]))
        yield row[paths]


def _path_cells(part: str, rows: _Rows) -> Iterator[str]:
    for place, file in zip(rows.places, rows.files, strict=True):
        cell = path_part(part, file)
        if cell is None:
            rows.errors.add(place, f"the path '{file[:80]}' has no {part}: it lies in {file.count('/')} folders")
        yield cell or ""


def _add_joined(join: Join, wanted: Sequence[str], rows: _Rows) -> None:
    """Adds the `wanted` columns that the joined table has; empty cells where it has no row for a key."""
    names = [name for name in wanted if name in join.table.header and name not in rows.cells]
    joined, keys = join.read(names), rows.cells[join.by]
    if not any(key in joined for key in keys):
        raise UsageError(
            f"'{join.table.path}': no {join.key} is a {join.by} of the images: it has '{next(iter(joined), '')[:40]}', "
            f"they '{keys[0][:40] if keys else ''}'"
        )
    empty = [""] * len(names)
    matched = [joined.get(key, empty) for key in keys]
    for index, name in enumerate(names):
        rows.cells[name] = [cells[index] for cells in matched]


def _image_table(request: Request, rows: _Rows, choice: _Choice) -> ImageTable:
    """The images with their labels, groups and parts; rows that the conditions leave out are counted."""
    left_out: Counter[str] = Counter()
    specs = [*choice.attributes, *([choice.split] if choice.split and choice.split.conditions else [])]
    categories = {spec: _categories(request, spec, rows, left_out) for spec in specs}
    part = None if choice.split is None else _parts(choice.split, categories.get(choice.split), rows)
    if choice.group_by:
        for place, cell in zip(rows.places, rows.cells[choice.group_by], strict=True):
            if not cell:
                rows.errors.add(place, f"column '{choice.group_by}' is empty, so that the row belongs to no group")
    rows.check()
    codes = {
        spec: np.array([known.code[cell] for cell in rows.cells[spec.column]], np.int64)
        for spec, known in categories.items()
    }
    target, *protected = choice.attributes
    groups, group_names = intersectional_groups([(codes[spec], categories[spec].names) for spec in protected])
    unit_names: list[str] = []
    units = None
    if choice.group_by:
        first: dict[str, str] = {}  # how a unit is written first; what differs by accident is one, so that nobody leaks
        spelled = [first.setdefault(fold(cell), cell) for cell in rows.cells[choice.group_by]]
        unit_names = sorted(first.values())
        number = {name: index for index, name in enumerate(unit_names)}
        units = np.array([number[name] for name in spelled], np.int64)
    return ImageTable(
        folder=rows.folder.real,
        names=rows.files,
        labels=codes[target],
        protected=groups,
        class_names=categories[target].names,
        protected_names=group_names,
        part=part,
        units=units,
        unit=choice.group_by or "",
        unit_names=unit_names,
        options={
            "target": request.target,
            "protected": list(request.protected),
            "split": request.split,
            "no_crop": request.no_crop,
            "group_by": request.group_by,
            "join": list(request.join),
        },
        left_out=dict(left_out),
    )


def _categories(request: Request, spec: ColumnSpec, rows: _Rows, left_out: Counter[str]) -> Categories:
    """What the values of a column mean; takes out the rows that are left out, and notes errors and oddities."""
    cells = rows.cells[spec.column]
    counts = Counter(cells)
    categories = categorise(spec, counts)
    for remark in remarks(spec, counts, categories):
        request.say(remark)
    dropped = sorted(categories.left_out & set(counts), key=lambda value: -counts[value])
    for value in dropped[:REASONS] if len(dropped) > REASONS + 1 else dropped:
        left_out[f"{spec.column} is {quote_value(value)}"] += counts.pop(value)
    if rest := sum(counts[value] for value in dropped if value in counts):
        left_out[f"{spec.column} is something else"] += rest
    rows.keep(np.flatnonzero([cell not in categories.left_out for cell in cells]))
    for place, cell in zip(rows.places, rows.cells[spec.column], strict=True):
        if harmful := control_character(cell):
            rows.errors.add(place, f"column '{spec.column}' holds {harmful}")
        elif cell in categories.errors:
            remedy = spec.typed("!=" + quote_value(cell))
            rows.errors.add(
                place, f"column '{spec.column}' {categories.errors[cell]}", f"leave such rows out: {remedy}"
            )
    return categories


def _parts(spec: ColumnSpec, categories: Categories | None, rows: _Rows) -> np.ndarray:
    """TRAIN, VAL or TEST for each row [N]."""
    parts = []
    for place, cell in zip(rows.places, rows.cells[spec.column], strict=True):
        # A category that has no name of its own is called by its column, too.
        word = categories.names[categories.code[cell]].removeprefix(f"{spec.column}=") if categories else cell
        code = split_code(word)
        if code is None:
            remedy = f"{spec.option} '{spec.column}=test:{quote_value(cell)},train:*'"
            rows.errors.add(
                place, f"the split '{word[:40]}' is none of train, val, test", f"say what it is, as in {remedy}"
            )
        parts.append(-1 if code is None else code)
    return np.array(parts, np.int64)
