"""The HDF5 container shared by the file kinds: how it is written, and how it is checked before it is used.

Every array is stored contiguously and without filters. That makes three checks simple: what a file declares
is never more than what it holds, an array is a range of bytes that can be read in place, and no code named by
the file is ever run.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import fairdd_cli
from fairdd_cli.artifacts._files import STREAM, check_readable, read_bytes, replacing, shown, write_bytes
from fairdd_cli.errors import UsageError

VERSION = 1
PIPE_LIMIT = 16 * 2**30  # a piped file is held in memory
MEMBER_LIMIT = 1000
ATTRIBUTE_LIMIT = 2**20  # bytes
BLOCK = 2**24  # bytes hashed at a time

# Facts about a run rather than about its content: two runs of one command differ in them, their digests don't.
VOLATILE = frozenset({"created", "generated_by", "digest", "dataset_path", "history/seconds", "seconds", "peak_memory"})

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Blocks:
    """An array that is never held whole: its `shape`, its `dtype` and its consecutive parts along axis 0."""

    shape: tuple[int, ...]
    dtype: str
    parts: Iterable[np.ndarray]


@dataclass(frozen=True)
class Schema:
    """What a file of one `kind` holds: the type of each attribute, the dtype and dimensions of each array.

    An array's name may end in `/*` and then stands for any number of members.
    """

    kind: str
    attributes: Mapping[str, type]
    arrays: Mapping[str, tuple[str, int]]


def content_digest(attributes: Mapping[str, Any], arrays: Mapping[str, tuple[str, tuple[int, ...], str]]) -> str:
    """SHA-256 over the attributes and over each array's (dtype, shape, SHA-256), without what is VOLATILE."""
    content = {
        "attributes": {name: _plain(value) for name, value in attributes.items() if name not in VOLATILE},
        "arrays": {name: list(entry) for name, entry in arrays.items() if name not in VOLATILE},
    }
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def array_entry(array: np.ndarray) -> tuple[str, tuple[int, ...], str]:
    """What `content_digest` takes for an array."""
    return str(array.dtype), array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _plain(value: object) -> object:
    """An attribute as JSON knows it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


def stamped(kind: str, attributes: Attributes) -> Attributes:
    """`attributes` with those that every file carries, but for the digest."""
    return {
        "format": kind,
        "format_version": VERSION,
        "generated_by": f"fairdd {fairdd_cli.__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **attributes,
    }


def write(
    path: str,
    kind: str,
    describe: Callable[[], Attributes],
    arrays: Mapping[str, np.ndarray | Blocks],
    force: bool = True,
) -> str:
    """Writes a file of `kind` to `path` (`-`: standard output) in one piece and returns its digest.

    `describe` gives the attributes. It is called once all `arrays` have passed, so that it can tell what only
    they show, or raise and leave no file.
    """
    if path == STREAM:
        buffer = io.BytesIO()
        digest = _fill(buffer, kind, describe, arrays)
        write_bytes(path, buffer.getvalue())
        return digest
    with replacing(path, force) as temporary:
        return _fill(temporary, kind, describe, arrays)


def _fill(
    target: Path | io.BytesIO,
    kind: str,
    describe: Callable[[], Attributes],
    arrays: Mapping[str, np.ndarray | Blocks],
) -> str:
    entries = {}
    with h5py.File(target, "w") as file:
        for name, array in arrays.items():
            blocks = array if isinstance(array, Blocks) else Blocks(array.shape, str(array.dtype), [array])
            dataset = file.create_dataset(name, blocks.shape, blocks.dtype)
            sha, start = hashlib.sha256(), 0
            for part in blocks.parts:
                block = np.ascontiguousarray(part, blocks.dtype)
                dataset[start : start + len(block)] = block
                sha.update(block.data)
                start += len(block)
            if start != blocks.shape[0]:
                raise ValueError(f"{name}: {start} of {blocks.shape[0]} entries were given")
            entries[name] = (blocks.dtype, blocks.shape, sha.hexdigest())
        attributes = stamped(kind, describe())
        digest = content_digest(attributes, entries)
        for name, value in {**attributes, "digest": digest}.items():
            file.attrs[name] = value
    return digest


class Container:
    """An open file whose structure, attributes and digest were found to be as its schema says."""

    def __init__(self, file: h5py.File, path: str, schema: Schema) -> None:
        self.path = path
        self._file = file
        self._schema = schema
        self.attributes = self._read_attributes()
        self._arrays = self._find_arrays()

    def fail(self, reason: str) -> UsageError:
        """The error for a file that is not what it should be."""
        return UsageError(f"'{shown(self.path)}' is not a sound {self._schema.kind} file: {reason}")

    def names(self, prefix: str = "") -> list[str]:
        """The arrays whose names start with `prefix`."""
        return [name for name in self._arrays if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the array `name`."""
        return tuple(self._arrays[name].shape)

    def array(self, name: str) -> np.ndarray:
        """The array `name`, whole."""
        return np.asarray(self._arrays[name][...])

    def offset(self, name: str) -> int:
        """Where the bytes of the array `name` start in the file."""
        return int(self._arrays[name].id.get_offset() or 0)

    def verify(self) -> None:
        """Raises UsageError unless the content has the digest that the file states."""
        entries = {}
        for name, dataset in self._arrays.items():
            sha = hashlib.sha256()
            rows = max(1, BLOCK // max(1, dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))))
            for start in range(0, dataset.shape[0], rows):
                sha.update(np.ascontiguousarray(dataset[start : start + rows]).data)
            entries[name] = (str(dataset.dtype), tuple(dataset.shape), sha.hexdigest())
        found = content_digest(self.attributes, entries)
        if found != self.attributes["digest"]:
            raise self.fail(f"its content has digest {found[:19]}…, but it states {self.attributes['digest'][:19]}…")

    def _read_attributes(self) -> Attributes:
        raw: Attributes = {}
        for name in self._file.attrs:
            identity = self._file.attrs.get_id(name)
            if identity.get_storage_size() > ATTRIBUTE_LIMIT:
                raise self.fail(f"attribute '{name[:40]}' is too large")
            value = self._file.attrs[name]
            raw[name] = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        kind, version = raw.get("format"), raw.get("format_version")
        if kind != self._schema.kind:
            what = f"a {kind} file" if isinstance(kind, str) and kind.startswith("fairdd/") else "not a fairdd file"
            raise UsageError(f"'{shown(self.path)}' is {what}; a {self._schema.kind} file is needed here")
        if not isinstance(version, int) or version < 1:
            raise self.fail("its format version is missing")
        if version > VERSION:
            raise self.fail(f"format version {version} is newer than this fairdd reads ({VERSION}); update fairdd")
        common = {"generated_by": str, "created": str, "options": str, "seed": int, "digest": str}
        for name, expected in {**common, **self._schema.attributes}.items():
            if name not in raw:
                raise self.fail(f"attribute '{name}' is missing")
            if expected is float and isinstance(raw[name], int):
                raw[name] = float(raw[name])
            if not isinstance(raw[name], expected) or (expected is int and isinstance(raw[name], bool)):
                raise self.fail(f"attribute '{name}' should be {expected.__name__}, found {type(raw[name]).__name__}")
        return raw

    def _find_arrays(self) -> dict[str, h5py.Dataset]:
        found: dict[str, h5py.Dataset] = {}
        pending: list[tuple[str, h5py.Group]] = [("", self._file)]
        seen = 0
        while pending:
            prefix, group = pending.pop()
            for key in group:
                name, seen = prefix + key, seen + 1
                if seen > MEMBER_LIMIT or name.count("/") > 3:
                    raise self.fail("it has too many members")
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    raise self.fail(f"'{name}' is a link, and links are not followed")
                member = group[key]
                if isinstance(member, h5py.Group):
                    pending.append((name + "/", member))
                elif isinstance(member, h5py.Dataset):
                    found[name] = member
                else:
                    raise self.fail(f"'{name}' is neither a group nor an array")
        unmatched = dict(found)
        for pattern, (dtype, dimensions) in self._schema.arrays.items():
            names = [n for n in found if n.startswith(pattern[:-1])] if pattern.endswith("*") else [pattern]
            for name in names:
                if name not in found:
                    raise self.fail(f"the array '{name}' is missing")
                self._check_array(name, unmatched.pop(name), dtype, dimensions)
        if unmatched:
            raise self.fail(f"'{min(unmatched)}' does not belong in it")
        return dict(sorted(found.items()))

    def _check_array(self, name: str, dataset: h5py.Dataset, dtype: str, dimensions: int) -> None:
        plan = dataset.id.get_create_plist()
        if dataset.dtype != np.dtype(dtype) or dataset.ndim != dimensions:
            raise self.fail(
                f"'{name}' should be {dtype} with {dimensions} dimensions, found {dataset.dtype} with {dataset.ndim}"
            )
        if dataset.external or dataset.is_virtual or plan.get_nfilters() or plan.get_layout() != h5py.h5d.CONTIGUOUS:
            raise self.fail(f"'{name}' must be stored contiguously, without filters and inside the file")
        declared = dataset.dtype.itemsize * int(np.prod(dataset.shape, dtype=object))
        stored = dataset.id.get_storage_size()
        if declared != stored:
            raise self.fail(f"'{name}' declares {declared:,} bytes but holds {stored:,}")


@contextmanager
def opened(path: str, schema: Schema) -> Iterator[Container]:
    """The file at `path` (`-`: standard input), checked against `schema` and its digest; UsageError if unsound."""
    source: str | io.BytesIO = path
    if path == STREAM:
        source = io.BytesIO(read_bytes(path, PIPE_LIMIT))
    else:
        check_readable(path)
    with _refusing(path, schema), h5py.File(source, "r") as file:
        container = Container(file, path, schema)
        container.verify()
        yield container


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


def parsed(container: Container, name: str, check: Callable[[Any], bool]) -> Any:
    """The JSON in the attribute `name`, refused unless `check` accepts it."""
    try:
        value = json.loads(container.attributes[name])
    except (ValueError, RecursionError) as error:
        raise container.fail(f"attribute '{name}' is not JSON") from error
    if not check(value):
        raise container.fail(f"attribute '{name}' has an unexpected form")
    return value
