"""How an HDF5 file is checked before anything in it is used: structure, sizes, attributes, digest, in this order.

Memory is asked for only after the size of what it will hold was compared with the file's own and with a limit.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from fairdd_cli.artifacts._files import STREAM, check_readable, read_bytes, shown
from fairdd_cli.artifacts._hdf5 import ANY, VERSION, Attributes, Schema, content_digest
from fairdd_cli.artifacts._json import strict_loads
from fairdd_cli.errors import UsageError

PIPE_LIMIT = 16 * 2**30  # bytes; a piped file is held in memory
MEMBER_LIMIT = 1000
DEPTH_LIMIT = 3
ATTRIBUTE_LIMIT = 2**20  # bytes of an attribute
TEXT_LIMIT = 2**28  # bytes that the strings of an attribute could take, whatever they are
WHOLE_LIMIT = 2**29  # bytes of all arrays that are read whole, but for the images of a data set
BLOCK = 2**24  # bytes hashed at a time
METADATA_LIMIT = 2**26  # bytes between two arrays
ENTRY = 16  # bytes of the head of a heap, and of each entry in it
Fail = Callable[[str], UsageError]
PLAIN = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING)
BOOL = h5py.h5t.py_create(np.dtype(bool), logical=True)


def _walk(file: h5py.File, fail: Fail) -> dict[str, h5py.Dataset]:
    """Every array of the file by its path, found without following a link."""
    found: dict[str, h5py.Dataset] = {}
    pending: list[tuple[str, h5py.Group]] = [("", file)]
    seen = 0
    while pending:
        prefix, group = pending.pop()
        for key in group:
            name, seen = prefix + key, seen + 1
            if seen > MEMBER_LIMIT or name.count("/") > DEPTH_LIMIT:
                raise fail("it has too many members")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise fail(f"'{name[:80]}' is a link, and links are not followed")
            member = group[key]
            if isinstance(member, h5py.Group):
                pending.append((name + "/", member))
            elif isinstance(member, h5py.Dataset):
                found[name] = member
            else:
                raise fail(f"'{name[:80]}' is neither a group nor an array")
    return found


def _check_heaps(source: BinaryIO, size: int, arrays: dict[str, h5py.Dataset], fail: Fail) -> None:
    """Refuses a heap of strings whose entries do not add up: the HDF5 library can read one forever.

    `arrays` take up most of the file; heaps are looked for in what lies between them.
    """
    spans = sorted((array.id.get_offset() or 0, array.id.get_storage_size()) for array in arrays.values())
    start = 0
    for offset, length in [*spans, (size, 0)]:
        if offset - start > METADATA_LIMIT:
            raise fail(f"it holds {offset - start:,} bytes that belong to no array")
        source.seek(start)
        between = source.read(max(0, offset - start))
        for found in re.finditer(b"GCOL", between):
            if not _adds_up(between[found.start() :]):
                raise fail("its strings are damaged")
        start = max(start, offset + length)


def _adds_up(heap: bytes) -> bool:
    """Whether the entries of the global `heap` (HDF5 file format, III.E), which starts here, fill it exactly."""
    end = int.from_bytes(heap[8:16], "little")
    at = ENTRY
    while at + ENTRY <= end <= len(heap):
        index, length = int.from_bytes(heap[at : at + 2], "little"), int.from_bytes(heap[at + 8 : at + 16], "little")
        step = ENTRY + -(-length // 8) * 8 if index else length  # entry 0 is what is left free, its own head included
        if step < ENTRY:
            return False
        at += step
    return at <= end <= len(heap)


class Container:
    """An open file whose structure, attributes and digest were found to be as its schema says."""

    def __init__(self, file: h5py.File, source: BinaryIO, path: str, schema: Schema) -> None:
        self.path = path
        self._file = file
        self._source = source
        self._schema = schema
        self._left = WHOLE_LIMIT
        if file.userblock_size:
            raise self.fail("it starts with a block that is not HDF5")
        arrays = _walk(file, self.fail)
        _check_heaps(source, file.id.get_filesize(), arrays, self.fail)
        self._room = file.id.get_filesize() - sum(array.id.get_storage_size() for array in arrays.values())
        self.attributes = self._read_attributes()
        self._arrays = self._matched(arrays)
        self._verify()

    def fail(self, reason: str) -> UsageError:
        """The error for a file that is not what it should be."""
        return UsageError(f"'{shown(self.path)}' is not a sound {self._schema.kind} file: {reason}")

    def names(self, prefix: str = "") -> list[str]:
        """The arrays whose names start with `prefix`."""
        return [name for name in self._arrays if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the array `name`."""
        return tuple(self._arrays[name].shape)

    def array(self, name: str, limited: bool = True) -> np.ndarray:
        """The array `name`, whole; refused where what is read so would exceed WHOLE_LIMIT, unless not `limited`."""
        if limited:
            self._left -= self._arrays[name].id.get_storage_size()
            if self._left < 0:
                raise self.fail(f"'{name}' and what precedes it exceed the {WHOLE_LIMIT:,} bytes that are read here")
        return np.asarray(self._arrays[name][...])

    def offset(self, name: str) -> int:
        """Where the bytes of the array `name` start in the file."""
        return int(self._arrays[name].id.get_offset() or 0)

    def _read_attributes(self) -> Attributes:
        names = list(self._file.attrs)
        if len(names) > MEMBER_LIMIT:
            raise self.fail("it has too many attributes")
        raw = {name: self._attribute(name) for name in names}
        kind, version = raw.get("format"), raw.get("format_version")
        if kind != self._schema.kind:
            what = f"a {kind} file" if isinstance(kind, str) and kind.startswith("fairdd/") else "not a fairdd file"
            raise UsageError(f"'{shown(self.path)}' is {what}; a {self._schema.kind} file is needed here")
        if not isinstance(version, int) or version < 1:
            raise self.fail("its format version is missing")
        if version > VERSION:
            raise self.fail(f"format version {version} is newer than this fairdd reads ({VERSION}); update fairdd")
        common = {"generated_by": str, "created": str, "options": str, "seed": int, "digest": str}
        required = {**common, **self._schema.attributes}
        for name, expected in {**required, **self._schema.optional_attributes}.items():
            if name not in raw:
                if name in required:
                    raise self.fail(f"attribute '{name}' is missing")
                continue
            if expected is float and type(raw[name]) is int:
                raw[name] = float(raw[name])
            if type(raw[name]) is not expected:
                raise self.fail(f"attribute '{name}' should be {expected.__name__}, found {type(raw[name]).__name__}")
        return raw

    def _attribute(self, name: str) -> Any:
        """A truth value, a number, a string or a list; refused where it is another type, too large, not printable."""
        identity = self._file.attrs.get_id(name)
        kind, shape = identity.get_type(), identity.shape
        plain = kind.get_class() in PLAIN or kind.equal(BOOL)
        if not plain or shape is None or len(shape) > 1:
            raise self.fail(f"attribute '{name[:80]}' is neither a number, nor a string, nor a list of them")
        elements = int(np.prod(shape, dtype=object))
        # The length of a string that is stored apart is known only by reading it; the room for it is.
        apart = kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
        if elements * kind.get_size() > ATTRIBUTE_LIMIT or (apart and elements * self._room > TEXT_LIMIT):
            raise self.fail(f"attribute '{name[:80]}' is too large")
        value = self._file.attrs[name]
        value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, str) and not entry.isprintable():
                raise self.fail(f"attribute '{name[:80]}' holds control characters")
            if isinstance(entry, float) and not np.isfinite(entry):
                raise self.fail(f"attribute '{name[:80]}' is not a finite number")
        return value

    def _matched(self, arrays: dict[str, h5py.Dataset]) -> dict[str, h5py.Dataset]:
        """The `arrays` in the order of their names, found to be those of the schema."""
        unmatched = dict(arrays)
        present = [group for group in self._schema.optional_arrays if not group.keys().isdisjoint(arrays)]
        forms = {name: form for group in (self._schema.arrays, *present) for name, form in group.items()}
        for pattern, (dtype, dimensions) in forms.items():
            names = [name for name in arrays if name.startswith(pattern[:-1])] if pattern.endswith("*") else [pattern]
            for name in names:
                if name not in arrays:
                    raise self.fail(f"the array '{name}' is missing")
                self._check_array(name, unmatched.pop(name), dtype, dimensions)
        if unmatched:
            raise self.fail(f"'{min(unmatched)[:80]}' does not belong in it")
        return dict(sorted(arrays.items()))

    def _check_array(self, name: str, dataset: h5py.Dataset, dtype: str, dimensions: int) -> None:
        plan = dataset.id.get_create_plist()
        form = f"{dataset.dtype} with {dataset.ndim}"
        if (dtype, dimensions) == ANY:
            if dataset.dtype.kind not in "fiub" or not dataset.dtype.isnative:
                raise self.fail(f"'{name}' should hold plain numbers, found {form} dimensions")
        elif dataset.dtype != np.dtype(dtype) or dataset.ndim != dimensions:
            raise self.fail(f"'{name}' should be {dtype} with {dimensions} dimensions, found {form}")
        if dataset.external or dataset.is_virtual or plan.get_nfilters() or plan.get_layout() != h5py.h5d.CONTIGUOUS:
            raise self.fail(f"'{name}' must be stored contiguously, without filters and inside the file")
        declared = dataset.dtype.itemsize * int(np.prod(dataset.shape, dtype=object))
        stored = dataset.id.get_storage_size()
        if declared != stored:
            raise self.fail(f"'{name}' declares {declared:,} bytes but holds {stored:,}")
        if (dataset.id.get_offset() or 0) + stored > self._file.id.get_filesize():
            raise self.fail(f"'{name}' reaches beyond the end of the file")

    def _verify(self) -> None:
        """Raises UsageError unless the content has the digest that the file states."""
        entries = {}
        for name, dataset in self._arrays.items():
            sha, left = hashlib.sha256(), dataset.id.get_storage_size()
            self._source.seek(self.offset(name))
            while left and (block := self._source.read(min(left, BLOCK))):
                sha.update(block)
                left -= len(block)
            entries[name] = (str(dataset.dtype), tuple(dataset.shape), sha.hexdigest())
        found = content_digest(self.attributes, entries)
        if found != self.attributes["digest"]:
            raise self.fail(f"its content has digest {found[:19]}…, but it states {self.attributes['digest'][:19]}…")


def declared_format(path: str) -> str | None:
    """The `format` that the file at `path` states, None where it is not HDF5; raises UsageError for a damaged one."""
    check_readable(path)
    try:
        if not h5py.is_hdf5(path):
            return None
        with Path(path).open("rb") as source, h5py.File(path, "r") as file:

            def fail(reason: str) -> UsageError:
                return UsageError(f"'{path}' cannot be read: {reason}")

            _check_heaps(source, file.id.get_filesize(), _walk(file, fail), fail)
            identity = file.attrs.get_id("format")
            plain = identity.get_type().get_class() == h5py.h5t.STRING and identity.shape == ()
            kind = file.attrs["format"] if plain and identity.get_storage_size() < ATTRIBUTE_LIMIT else ""
    except KeyError:
        return ""
    except (OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UsageError(f"'{path}' cannot be read: it is truncated or damaged") from error
    return kind[:40] if isinstance(kind, str) else ""


@contextmanager
def opened(path: str, schema: Schema) -> Iterator[Container]:
    """The file at `path` (`-`: standard input), checked against `schema` and its digest; UsageError if unsound."""
    if path == STREAM:
        piped = io.BytesIO(read_bytes(path, PIPE_LIMIT))
        with _refusing(path, schema), h5py.File(piped, "r") as file:
            yield Container(file, piped, path, schema)
        return
    check_readable(path)
    with _refusing(path, schema), Path(path).open("rb") as source, h5py.File(path, "r") as file:
        yield Container(file, source, path, schema)


@contextmanager
def _refusing(path: str, schema: Schema) -> Iterator[None]:
    """What h5py raises on a broken file, as one line."""
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
        reason = str(error).split("\n", maxsplit=1)[0][:120]
        raise UsageError(
            f"'{shown(path)}' cannot be read as a {schema.kind} file: it is truncated, damaged or of another kind"
            f" ({reason})"
        ) from error


def json_attribute(container: Container, name: str) -> dict[str, Any]:
    """The JSON object in the attribute `name`; raises UsageError for anything else."""
    try:
        value = strict_loads(container.attributes[name])
    except ValueError as error:
        raise container.fail(f"attribute '{name}' is not sound JSON: {str(error)[:80]}") from error
    if not isinstance(value, dict):
        raise container.fail(f"attribute '{name}' is not a JSON object")
    return value
