"""From what a table calls an image to its file: in a folder, never outside it, and though the spelling differs."""

import filecmp
import os
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

from fairdd_cli.datasets.images.decode import SUFFIXES, SUFFIXES_NOT_DECODED
from fairdd_cli.datasets.tables.table import Table
from fairdd_cli.errors import UsageError

PROBED, SHOWN = 20, 8  # rows that are looked at to find the column with the paths, and columns that a message shows
LONGEST = 4096  # characters of a path; what is longer is text
Kind = Literal["as it is", "suffix added", "suffix replaced"]
LITTER = ("__MACOSX",)  # folders that archives bring along


class ConfinedFolder:
    """The files inside a folder: what a table names is never looked for elsewhere, neither by `..` nor by a link."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.real = folder.resolve()
        self._parent = lru_cache(1024)(self._resolved)

    def find(self, name: str) -> tuple[str, str]:
        """(path relative to the real folder, "") of the file that `name` leads to, or ("", what is wrong with it)."""
        if not name or "\0" in name:
            return "", "the path is empty" if not name else "the path holds a NUL"
        missing = f"the file '{name[:80]}' does not exist in '{self.folder}'"
        if len(name) > LONGEST:
            return "", missing
        given = Path(name)
        try:
            parent = self._parent(given.parent)
            file = parent / given.name if parent else None
            if file and file.is_symlink():
                file = file.resolve()
                file = file if file.is_relative_to(self.real) else None
            if file is None:
                return "", f"the path '{name[:80]}' leads out of '{self.folder}'"
            return (str(file.relative_to(self.real)), "") if file.is_file() else ("", missing)
        except (OSError, RuntimeError, ValueError):  # too long for the system, a loop of links, or not to be encoded
            return "", missing

    def _resolved(self, parent: Path) -> Path | None:
        real = (self.real / parent).resolve()
        return real if real.is_relative_to(self.real) else None

    @cached_property
    def files(self) -> list[str]:
        """Every file below, relative to the folder and sorted; hidden ones and the litter of archives left out."""
        return sorted(self._walk())

    @cached_property
    def index(self) -> "_Index":
        """The `files` by the end of their paths."""
        return _Index(self.files)

    def images(self) -> list[str]:
        """Those of the `files` whose suffix is that of an image; UsageError where there is none."""
        found = _images(self.files)
        if not found:
            raise UsageError(f"--root '{self.folder}' holds no image; known suffixes are {', '.join(sorted(SUFFIXES))}")
        return found

    def _walk(self) -> Iterator[str]:
        for folder, folders, names in os.walk(self.real):
            folders[:] = [name for name in folders if not name.startswith(".") and name not in LITTER]
            below = Path(folder).relative_to(self.real).as_posix()
            prefix = "" if below == "." else f"{below}/"
            yield from (prefix + name for name in names if not name.startswith("."))


@dataclass(frozen=True)
class _Reading:
    """How the names in a table may be meant: without their first folders, and with or without their suffix."""

    dropped: int
    kind: Kind

    def tail(self, name: str) -> str:
        """The end of the path that `name` means, folded; nothing where it has too few folders."""
        tail = "/".join(folded(name).split("/")[self.dropped :])
        return _stem(tail) if self.kind == "suffix replaced" else tail


def folded(name: str) -> str:
    """`name` without what differs between systems: direction of slashes, case, Unicode form, a leading "./" or "/"."""
    text = unicodedata.normalize("NFC", name).casefold().replace("\\", "/")
    return text.lstrip("/").removeprefix("./")


def _images(files: Sequence[str]) -> list[str]:
    """Those of the `files` with the suffix of an image, in order.

    Formats that are not decoded count, so that they are named, except beside an image of the same name.
    """
    suffix = {name: PurePosixPath(name).suffix.lower() for name in files}
    decoded = {_stem(folded(name)) for name in files if suffix[name] in SUFFIXES}
    return [
        name
        for name in files
        if suffix[name] in SUFFIXES or (suffix[name] in SUFFIXES_NOT_DECODED and _stem(folded(name)) not in decoded)
    ]


def _stem(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix else name


class _Index:
    """The files of a folder by the end of their folded path, of images with or without their suffix."""

    def __init__(self, files: Sequence[str]) -> None:
        self._names = {name: folded(name) for name in files}
        images = {*_images(files), *(name for name in files if not PurePosixPath(name).suffix)}
        self._stems = {name: _stem(path) for name, path in self._names.items() if name in images}
        self._by_tail: dict[tuple[bool, int], dict[str, list[str]]] = {}

    def matches(self, reading: _Reading, name: str) -> dict[str, list[str]]:
        """The files that `name` may be under a `reading`, by the folder below which they are."""
        tail = reading.tail(name)
        if not tail:
            return {}
        depth, whole = tail.count("/") + 1, reading.kind == "as it is"
        if (whole, depth) not in self._by_tail:
            entries = defaultdict(list)
            for file, path in (self._names if whole else self._stems).items():
                parts = path.split("/")
                if len(parts) >= depth:
                    entries["/".join(parts[-depth:])].append(file)
            self._by_tail[whole, depth] = dict(entries)
        bases = defaultdict(list)
        for file in self._by_tail[whole, depth].get(tail, []):
            bases["/".join(file.split("/")[:-depth])].append(file)
        return dict(bases)


def find_files(names: Sequence[str], folder: ConfinedFolder) -> tuple[list[tuple[str, str]], str]:
    """For each of the `names` what `ConfinedFolder.find` gives, and a remark where they are spelled differently.

    Where not all names lead to files as they stand, one way to read them is looked for that makes all of them do:
    first folders dropped, others put in front, a suffix added, replaced or removed, another case or Unicode form.
    Raises UsageError where that could mean different files.
    """
    direct = [folder.find(name) for name in names]
    if all(path for path, _ in direct):
        return direct, ""
    matches = _best_reading(names, folder)
    found = [name for name, bases in zip(names, matches, strict=True) if bases]
    if len(found) <= sum(bool(path) for path, _ in direct):
        return direct, ""
    respelled = _one_each(found, [bases for bases in matches if bases], folder)
    if respelled == found:
        return direct, ""
    example = next(k for k, (name, path) in enumerate(zip(found, respelled, strict=True)) if name != path)
    reading = f"'{found[example][:80]}' of the table is read as '{respelled[example]}'"
    if len(found) == len(names):
        return [folder.find(path) for path in respelled], f"{reading}, and the other rows likewise"
    paths = iter(respelled)
    missing = f"does not exist in '{folder.folder}', where {reading}"
    return [
        folder.find(next(paths)) if bases else ("", f"the file '{name[:80]}' {missing}")
        for name, bases in zip(names, matches, strict=True)
    ], ""


def _best_reading(names: Sequence[str], folder: ConfinedFolder) -> list[Mapping[str, Sequence[str]]]:
    """What each of the `names` may be under the one reading that finds files for all of them, or for most."""
    usable = [name if 0 < len(name) <= LONGEST and ".." not in name else "" for name in names]
    probes = usable[:PROBED]
    readings = [
        _Reading(dropped, kind)
        for dropped in range(max((folded(name).count("/") for name in probes), default=0) + 1)
        for kind in get_args(Kind)
    ]
    hits = {reading: sum(bool(folder.index.matches(reading, name)) for name in probes) for reading in readings}
    best: list[Mapping[str, Sequence[str]]] = [{} for _ in names]
    for reading in sorted(readings, key=lambda reading: -hits[reading]):
        if not hits[reading]:
            break
        matches: list[Mapping[str, Sequence[str]]] = [folder.index.matches(reading, name) for name in usable]
        if sum(map(bool, matches)) > sum(map(bool, best)):
            best = matches
        if all(matches):
            break
    return best


def _one_each(
    names: Sequence[str], matches: Sequence[Mapping[str, Sequence[str]]], folder: ConfinedFolder
) -> list[str]:
    """One of each row's `matches`: the only one, or that below the one folder which has a file for every row.

    Copies of one file, which some archives hold, count as one. Raises UsageError where files differ.
    """
    shared = set.intersection(*map(set, matches))
    base = "" if "" in shared or len(shared) != 1 else next(iter(shared))
    chosen = [bases.get(base) or [file for files in bases.values() for file in files] for bases in matches]
    for name, files in zip(names, chosen, strict=True):
        first, *others = sorted(files)
        for other in others:
            if not _equal(folder.real / first, folder.real / other):
                raise UsageError(
                    f"'{name[:80]}' may be '{first}' or '{other}' in '{folder.folder}'; "
                    "give --root the folder that is meant"
                )
    return [min(files) for files in chosen]


def _equal(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:  # a link to nowhere, or a file that may not be read
        return False


def path_column(table: Table, folder: ConfinedFolder, others: Container[str]) -> str:
    """The column, none of the `others`, whose first rows lead to files in the folder.

    Raises UsageError where none does, or more than one.
    """
    rows = [row for _, row in islice(table.rows(), PROBED)]
    columns = {name: index for index, name in enumerate(table.header) if name and name not in others}
    cells = {name: [row[index] for row in rows if len(row) > index] for name, index in columns.items()}
    names = list(cells)
    hits = {name: sum(bool(folder.find(cell)[0]) for cell in cells[name]) for name in names}
    if not any(hits.values()):
        hits = {name: sum(map(bool, _best_reading(cells[name], folder))) for name in names}
    found = [name for name in names if hits[name] == max(hits.values()) > 0]
    if len(found) > 1:
        raise UsageError(
            f"'{table.path}': the columns {' and '.join(map(repr, found[:3]))} lead to files in '{folder.folder}'; "
            f"say which with --path, as in --path {shlex.quote(found[0])}"
        )
    if not found:
        shown = ", ".join(f"{name}='{cells[name][0][:40]}'" for name in names[:SHOWN] if cells[name])
        raise UsageError(
            f"'{table.path}': no column leads to files in '{folder.folder}'; its first row has {shown or 'nothing'}",
            "One column should hold the images' paths below --root, with or without their suffix.",
        )
    return found[0]


def path_part(part: str, file: str) -> str | None:
    """The `part` of the path of a `file` (relative to the root): path:1, path:-1, path:name, path:all; None if none."""
    *folders, name = file.split("/")
    which = part.removeprefix("path:")
    if which == "name":
        return name
    if which == "all":
        return file
    number = int(which)
    return folders[number - (number > 0)] if -len(folders) <= number <= len(folders) else None
