"""The HDF5 container shared by the file kinds: what it holds, its digest, and how it is written.

Every array is stored contiguously and without filters. That makes three checks simple: what a file declares
is never more than what it holds, an array is a range of bytes that can be read in place, and no code named by
the file is ever run.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import fairdd_cli
from fairdd_cli.artifacts._files import STREAM, atomic_write, write_bytes

VERSION = 1
ANY = ("*", -1)  # stands for an array of numbers, whatever its dtype and dimensions

# Facts about a run rather than about its content: two runs of one command differ in them, their digests don't.
VOLATILE = frozenset(
    {"created", "generated_by", "digest", "dataset_path", "environment", "history/seconds", "seconds", "peak_memory"}
)

Attributes = dict[str, Any]


@dataclass(frozen=True)
class ArrayChunks:
    """An array that is never held whole: its `shape`, its `dtype` and its consecutive chunks along axis 0."""

    shape: tuple[int, ...]
    dtype: str
    chunks: Iterable[np.ndarray]


@dataclass(frozen=True)
class Schema:
    """What a file of one `kind` holds: the type of each attribute, the dtype and dimensions of each array.

    An array's name may end in `/*` and then stands for any number of members; ANY admits every form. Older files
    lack the `optional_attributes`. Each mapping of `optional_arrays` is there as a whole or not at all.
    """

    kind: str
    attributes: Mapping[str, type]
    arrays: Mapping[str, tuple[str, int]]
    optional_attributes: Mapping[str, type] = field(default_factory=dict)
    optional_arrays: tuple[Mapping[str, tuple[str, int]], ...] = ()


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


def with_header(kind: str, attributes: Attributes) -> Attributes:
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
    arrays: Mapping[str, np.ndarray | ArrayChunks],
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
    with atomic_write(path, force) as temporary:
        return _fill(temporary, kind, describe, arrays)


def _fill(
    target: Path | io.BytesIO,
    kind: str,
    describe: Callable[[], Attributes],
    arrays: Mapping[str, np.ndarray | ArrayChunks],
) -> str:
    entries = {}
    with h5py.File(target, "w") as file:
        for name, array in arrays.items():
            whole = array if isinstance(array, ArrayChunks) else ArrayChunks(array.shape, str(array.dtype), [array])
            dataset = file.create_dataset(name, whole.shape, whole.dtype)
            sha, start = hashlib.sha256(), 0
            for chunk in whole.chunks:
                block = np.ascontiguousarray(chunk, whole.dtype)
                dataset[start : start + len(block)] = block
                sha.update(block.data)
                start += len(block)
            if start != whole.shape[0]:
                raise ValueError(f"{name}: {start} of {whole.shape[0]} entries were given")
            entries[name] = (whole.dtype, whole.shape, sha.hexdigest())
        attributes = with_header(kind, describe())
        digest = content_digest(attributes, entries)
        for name, value in {**attributes, "digest": digest}.items():
            file.attrs[name] = value
    return digest
