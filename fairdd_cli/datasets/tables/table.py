"""Tables that describe images: read as they are, whatever program wrote them, a row at a time.

CSV and its kin (comma, semicolon, tab or |; UTF-8 or UTF-16; gzipped) and, where pyarrow is installed, Parquet.
"""

import codecs
import csv
import gzip
import io
import itertools
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from fairdd_cli.artifacts import check_readable
from fairdd_cli.datasets.tables.columns import PATH_PART
from fairdd_cli.errors import UsageError, first_line, unknown

ERRORS_SHOWN = 5
DELIMITERS = ",;\t|"  # the header tells which: the one that it has most of
COLUMN_LIMIT = 10_000
CELL_LIMIT = 2**24  # letters: more than a report has, few enough for memory where a quote is never closed
UNPACKED_LIMIT = 2**28  # bytes of a gzipped table
ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
NOT_READ = {
    b"PK\x03\x04": "a spreadsheet or an archive; save the sheet as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet; save it as CSV (UTF-8)",
    b"\x89HDF": "an HDF5 file; write its table as CSV",
    b"SQLite": "a database; export the table as CSV",
}
Record = tuple[int, list[str]]  # its number, as a spreadsheet counts, and its cells


@dataclass(frozen=True)
class Table:
    """The table in the file at `path`. Rows are numbered as a spreadsheet does: the header is row 1."""

    path: Path

    @cached_property
    def header(self) -> list[str]:
        """The columns' names; UsageError where there are none, or far too many."""
        _, names = next(self._records(), (1, []))
        if not any(names) or len(names) > COLUMN_LIMIT:
            found = f"{len(names):,} columns" if any(names) else "nothing"
            raise UsageError(f"'{self.path}' row 1: expected the columns' names, found {found}")
        return names

    def rows(self) -> Iterator[Record]:
        """The numbered rows below the header, cells stripped of blanks; empty rows are passed over."""
        return (record for record in itertools.islice(self._records(), 1, None) if any(record[1]))

    def index(self, name: str) -> int:
        """Where the column `name` is; raises UsageError, naming the nearest, where it isn't or is there twice."""
        if name not in self.header:
            raise unknown(f"column of '{self.path}'", name, filter(None, self.header))
        if self.header.count(name) > 1:
            raise UsageError(f"'{self.path}' row 1: two columns are called '{name}'")
        return self.header.index(name)

    def _records(self) -> Iterator[Record]:
        try:
            with self.path.open("rb") as stream:
                head = stream.read(2**16)
            packed = head.startswith(b"\x1f\x8b")
            if packed:
                with gzip.open(self.path) as stream:
                    head = stream.read(2**16)
            kind = next((kind for magic, kind in NOT_READ.items() if head.startswith(magic)), None)
            if kind:
                raise UsageError(f"'{self.path}' is {kind}")
            records = _parquet_records(self.path) if head.startswith(b"PAR1") else self._text_records(head, packed)
            for number, cells in records:
                yield number, [cell.strip() for cell in cells]
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"'{self.path}' cannot be read: {error}") from error

    def _text_records(self, head: bytes, packed: bool) -> Iterator[Record]:
        """The records of a text file that begins with the bytes `head`."""
        number = 0
        encoding = next((name for mark, name in ENCODINGS.items() if head.startswith(mark)), "utf-8")
        if encoding == "utf-8" and b"\0" in head[:2]:  # UTF-16 without a mark: every other byte of Latin text is 0
            encoding = "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
        first = io.StringIO(head.decode(encoding, "replace")).readline()
        declared = re.fullmatch(r'"?sep=(.)"?\s*', first)
        delimiter = declared[1] if declared else max(DELIMITERS, key=first.count)
        csv.field_size_limit(CELL_LIMIT)  # of the process; Python's own, 131,072, is less than free text may have
        try:
            with self._open_text(encoding, packed) as stream:
                for number, cells in enumerate(csv.reader(stream, delimiter=delimiter), start=1):
                    if number > 1 or not declared:
                        yield number, cells
        except UnicodeError as error:
            raise UsageError(
                f"'{self.path}' is not UTF-8 text (after row {number}); save it as CSV in UTF-8"
            ) from error
        except csv.Error as error:
            raise UsageError(f"'{self.path}' cannot be read after row {number}: {error}") from error

    def _open_text(self, encoding: str, packed: bool) -> TextIO:
        if not packed:
            return self.path.open(encoding=encoding, newline="")
        with gzip.open(self.path) as stream:
            content = stream.read(UNPACKED_LIMIT + 1)
        if len(content) > UNPACKED_LIMIT:
            raise UsageError(
                f"'{self.path}' unpacks to more than {UNPACKED_LIMIT:,} bytes; unpack it with gunzip first"
            )
        return io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline="")


def _parquet_records(path: Path) -> Iterator[Record]:
    try:
        import pyarrow  # noqa: PLC0415  # an extra that few need
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"'{path}' is a Parquet file, which needs pyarrow: pip install 'fairdd[parquet]'") from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
        yield 1, list(file.schema_arrow.names)
        number = 1
        for batch in file.iter_batches(2**14):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield number, [_cell_text(value) for value in row]
    except pyarrow.ArrowException as error:
        raise UsageError(f"'{path}' cannot be read: {first_line(error)}") from error


def _cell_text(value: Any) -> str:
    """A value of a typed table as a CSV would have it; a list's members are divided by |."""
    if isinstance(value, list):
        return "|".join(map(_cell_text, value))
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def open_table(option: str, path: Path, folder: Path) -> Table:
    """The table at `path`, given as `option`; UsageError where it is missing or no table."""
    if not path.exists() and (folder / path).is_file():
        raise UsageError(f"{option} '{path}' does not exist; did you mean '{folder / path}'?")
    check_readable(str(path))
    table = Table(path)
    table.header  # noqa: B018  # to fail now, not in the middle of reading
    return table


@dataclass
class RowErrors:
    """What is wrong with rows of tables, told together so that it can be mended in one go."""

    count: int = 0
    lines: list[str] = field(default_factory=list)
    remedies: dict[str, None] = field(default_factory=dict)  # an ordered set

    def add(self, where: "Row", error: str, remedy: str = "") -> None:
        """Takes down an `error` of the row, and what would remedy it."""
        self.count += 1
        if len(self.lines) < ERRORS_SHOWN:
            self.lines.append(f"{where}: {error}")
            self.remedies |= {remedy: None} if remedy else {}

    def check(self, tables: Sequence[Path]) -> None:
        """Raises UsageError, if there are errors: one in one line, several in a line each for the first of them."""
        names = " and ".join(f"'{path}'" for path in tables)
        remedies = "; ".join(self.remedies)
        if self.count == 1:
            place = f"{names} " if len(tables) == 1 else ""
            raise UsageError(f"{place}{self.lines[0]}" + (f"; {remedies}" if remedies else ""))
        if self.count:
            more = [f"  and {self.count - len(self.lines):,} more"] if self.count > len(self.lines) else []
            lines = [f"  {line}" for line in self.lines]
            advice = [remedies[0].upper() + remedies[1:]] if remedies else []
            raise UsageError(f"{names}: {self.count:,} errors:", *lines, *more, *advice)


@dataclass(frozen=True)
class Row:
    """Where a row stands: its number and, if there are several, its file; only an image without a table."""

    number: int
    file: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.file, f"row {self.number}" if self.number else "")))


@dataclass(frozen=True)
class Join:
    """A second table, whose row with a certain `key` adds its columns to the rows that have it in the column `by`."""

    table: Table
    key: str
    by: str

    @staticmethod
    def parse(text: str, folder: Path, header: Sequence[str]) -> "Join":
        """The join that `FILE:KEY` or `FILE:KEY=COLUMN` asks for; UsageError where there is no such column."""
        name, colon, columns = text.rpartition(":")
        if re.match(r"(-?\d+|name)$", columns) and name.endswith("=path"):  # FILE:KEY=path:1
            name, _, key = name.removesuffix("=path").rpartition(":")
            columns = f"{key}=path:{columns}"
        if not colon or not name:
            raise UsageError(f"--join '{text}' should read FILE:KEY, or FILE:KEY=COLUMN where the key has two names")
        table = open_table("--join", Path(name), folder)
        key, by = (columns, columns) if columns in table.header else _halves(columns)
        table.index(key)
        if by not in header and not PATH_PART.fullmatch(by):
            if by == key:
                raise UsageError(
                    f"--join '{text}': the table of the images has no column '{key}'; say which of its columns holds "
                    f"the key, as in {name}:{key}=COLUMN or {name}:{key}=path:1"
                )
            raise unknown("column", by, filter(None, header))
        return Join(table, key, by)

    def read(self, names: Sequence[str]) -> dict[str, list[str]]:
        """The cells of the columns `names` by key; UsageError where two rows of a key differ in them."""
        key, columns = self.table.index(self.key), [self.table.index(name) for name in names]
        cells: dict[str, list[str]] = {}
        for number, row in self.table.rows():
            if len(row) < len(self.table.header):
                raise UsageError(
                    f"'{self.table.path}' row {number}: it has {len(row)} cells, the header {len(self.table.header)}"
                )
            values = [row[column] for column in columns]
            if cells.setdefault(row[key], values) != values:
                raise UsageError(
                    f"'{self.table.path}' row {number}: {self.key} '{row[key][:40]}' stands in an earlier row with "
                    f"other values of {', '.join(names)}; keep one row for each"
                )
        return cells


def _halves(columns: str) -> tuple[str, str]:
    key, _, by = columns.partition("=")
    return key, by or key
