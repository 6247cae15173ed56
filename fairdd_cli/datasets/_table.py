"""A CSV that describes images: its columns, its faults row by row, and the files that its paths lead to."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

from fairdd_cli.artifacts import check_readable
from fairdd_cli.errors import UsageError, unknown

FAULTS_SHOWN = 5
PROBED = 20  # rows that are looked at to find the column with the paths
DELIMITERS = ",;\t"  # the header tells which: the one that it has most of


@dataclass(frozen=True)
class Table:
    """The CSV at `path`. Rows are numbered as a spreadsheet does: the `header` is row 1."""

    path: Path
    header: list[str]
    delimiter: str

    def column(self, name: str) -> int:
        """Where the column `name` is; raises UsageError, naming the nearest, where it isn't."""
        if name not in self.header:
            raise unknown(f"column of '{self.path}'", name, self.header)
        if self.header.count(name) > 1:
            raise UsageError(f"'{self.path}' row 1: two columns are called '{name}'")
        return self.header.index(name)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The numbered rows below the header, cells stripped of blanks; empty rows are passed over."""
        for number, row in islice(_read(self.path, self.delimiter), 1, None):
            if any(row):
                yield number, [cell.strip() for cell in row]


def open_table(path: Path, folder: Path) -> Table:
    """The table at `path`, which describes the images in `folder`; UsageError where it is missing or has no header."""
    if not path.exists() and (folder / path).is_file():
        raise UsageError(f"--csv '{path}' does not exist; did you mean '{folder / path}'?")
    check_readable(str(path))
    first = next(_read(path, "\n"), (1, []))[1]
    line = first[0] if first else ""
    delimiter = max(DELIMITERS, key=line.count)
    header = [name.strip() for name in next(_read(path, delimiter), (1, []))[1]]
    if not any(header) or not all(name.isprintable() for name in header):
        found = "a line break or another control character" if any(header) else "nothing"
        raise UsageError(f"'{path}' row 1: expected the columns' names, found {found}")
    return Table(path, header, delimiter)


def _read(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.reader(stream, delimiter=delimiter), start=1):
                yield number, row
    except UnicodeDecodeError as error:
        raise UsageError(f"'{path}' is not UTF-8 text (after row {number}); save it as a CSV in UTF-8") from error
    except (OSError, csv.Error) as error:
        raise UsageError(f"'{path}' cannot be read after row {number}: {error}") from error


@dataclass
class RowErrors:
    """What is wrong with a table, told together so that it can be mended in one go."""

    path: Path
    count: int = 0
    lines: list[str] = field(default_factory=list)

    def add(self, row: int, fault: str) -> None:
        """Takes down a `fault` of the `row`."""
        self.count += 1
        if len(self.lines) < FAULTS_SHOWN:
            self.lines.append(f"  row {row}: {fault}")

    def check(self) -> None:
        """Raises UsageError with a line for each of the first faults, if there are any."""
        if self.count:
            more = [f"  and {self.count - len(self.lines):,} more"] if self.count > len(self.lines) else []
            noun = "fault" if self.count == 1 else "faults"
            raise UsageError("\n".join([f"'{self.path}' has {self.count:,} {noun}:", *self.lines, *more]))


class ConfinedFolder:
    """Files inside a folder. What a table names is never looked for elsewhere, neither by `..` nor through a link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real = folder.resolve()
        self._parent = lru_cache(1024)(self._resolved)

    def find(self, name: str) -> tuple[str, str]:
        """(path relative to the real folder, "") of the file that `name` leads to, or ("", what is wrong with it)."""
        if not name or "\0" in name:
            return "", "the path is empty" if not name else "the path holds a NUL"
        given = Path(name)
        parent = self._parent(given.parent)
        file = parent / given.name if parent else None
        if file and file.is_symlink():
            file = file.resolve()
            file = file if file.is_relative_to(self.real) else None
        if file is None:
            return "", f"the path '{name[:80]}' leads out of '{self.folder}'"
        if not file.is_file():
            return "", f"the file '{name[:80]}' does not exist in '{self.folder}'"
        return str(file.relative_to(self.real)), ""

    def _resolved(self, parent: Path) -> Path | None:
        real = (self.real / parent).resolve()
        return real if real.is_relative_to(self.real) else None


def path_column(table: Table, inside: ConfinedFolder, others: Sequence[int]) -> int:
    """The column, none of the `others`, whose first rows most often lead to a file inside the folder.

    Raises UsageError where none does.
    """
    rows = [row for _, row in islice(table.rows(), PROBED)]
    hits = {
        column: sum(len(row) > column and bool(inside.find(row[column])[0]) for row in rows)
        for column in range(len(table.header))
        if column not in others
    }
    best = max(hits, key=hits.__getitem__, default=None)
    if best is None or not hits[best]:
        shown = ", ".join(
            f"{name}='{value[:40]}'" for name, value in zip(table.header, rows[0] if rows else [], strict=False)
        )
        raise UsageError(
            f"'{table.path}': no column leads to files in '{inside.folder}'; its first row has {shown or 'nothing'}\n"
            "One column should hold the images' paths, relative to --root."
        )
    return best
