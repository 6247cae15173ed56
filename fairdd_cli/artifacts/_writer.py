"""How an HDF5 file is written so that no failure is missed: HDF5 never touches the disk.

The library lays the file out in memory, without the bytes of the arrays, which are most of it. Those, and what it laid
out, are written by plain calls of the system, each of which may fail and says so. (HDF5 ends the process, or keeps
silent, where a write fails while it closes a file.)
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

import h5py
import numpy as np

from fairdd_cli.artifacts._hdf5 import Attributes, sealed
from fairdd_cli.artifacts._output import atomic_write, cannot_write, is_stream, write_at, write_stream

BLOCK = 2**22  # bytes that are copied at a time
ROOM = 2**14  # bytes for the attributes, which are known at the end: a guess for messages


@dataclass(frozen=True)
class ArrayChunks:
    """An array that is never held whole: its `shape`, its `dtype` and its consecutive chunks along axis 0."""

    shape: tuple[int, ...]
    dtype: str
    chunks: Iterable[np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return int(np.prod(self.shape, dtype=object)) * np.dtype(self.dtype).itemsize


@dataclass
class _Memory:
    """The file that h5py sees: only what it writes, so that gaps of gigabytes, for the arrays, take no room."""

    pieces: list[tuple[int, bytes]] = field(default_factory=list)  # (start, content), later ones over earlier ones
    size: int = 0
    _position: int = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, content: memoryview) -> int:
        self.pieces.append((self._position, bytes(content)))
        self._position += len(content)
        self.size = max(self.size, self._position)
        return len(content)

    def read(self, length: int) -> bytes:
        content = bytearray(length)
        for start, piece in self.pieces:
            first, last = max(start, self._position), min(start + len(piece), self._position + length)
            if first < last:
                content[first - self._position : last - self._position] = piece[first - start : last - start]
        self._position += length
        return bytes(content)

    def readinto(self, view: memoryview) -> int:
        view[:] = self.read(len(view))
        return len(view)

    def truncate(self, size: int) -> int:
        self.size = size
        return size

    def flush(self) -> None:
        """There is nothing behind it."""


def _laid_out(arrays: Mapping[str, ArrayChunks], attributes: Attributes) -> tuple[dict[str, int], _Memory]:
    """Where the bytes of each array belong, and all else of a file that holds `arrays` and `attributes`."""
    memory, starts = _Memory(), {}
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(memory, "w") as file:
        for name, array in arrays.items():
            dataset = file.create_dataset(name, array.shape, array.dtype, dcpl=plan)
            starts[name] = int(dataset.id.get_offset() or 0)  # none for an array without elements
        for name, value in attributes.items():
            file.attrs[name] = _encoded(value)
    return starts, memory


def _layout(arrays: Mapping[str, ArrayChunks], attributes: Attributes) -> tuple[dict[str, int], _Memory]:
    """`_laid_out`, in a thread: signals are handled in the main one, and would break HDF5 off in a call to Python."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_laid_out, arrays, attributes).result()


def _encoded(value: object) -> object:
    """An attribute as h5py takes it: what is no UTF-8 in the name of a file stays the bytes that it is."""
    if isinstance(value, str):
        return np.array(value.encode(errors="surrogateescape"), h5py.string_dtype())
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return np.array([text.encode(errors="surrogateescape") for text in value], h5py.string_dtype())
    return value


def write(
    path: str,
    kind: str,
    describe: Callable[[], Attributes],
    arrays: Mapping[str, np.ndarray | ArrayChunks],
    force: bool = True,
) -> str:
    """Writes a file of `kind` to `path` (`-`: standard output) in one piece and returns its digest.

    `describe` gives the attributes. It is called once all `arrays` have passed, so that it can tell what only
    they show, or raise and leave no file. Raises WorkError where a byte could not be written.
    """
    chunked = {name: _chunked(array) for name, array in arrays.items()}
    needed = sum(array.nbytes for array in chunked.values()) + ROOM
    if is_stream(path):  # its reader starts at the beginning, which is known at the end
        with _temporary_file(needed) as file:
            digest = _fill(file.fileno(), kind, describe, chunked)
            file.seek(0)
            write_stream(path, iter(lambda: file.read(BLOCK), b""))
        return digest
    with atomic_write(path, force, needed) as descriptor:
        return _fill(descriptor, kind, describe, chunked)


def _chunked(array: np.ndarray | ArrayChunks) -> ArrayChunks:
    return array if isinstance(array, ArrayChunks) else ArrayChunks(array.shape, str(array.dtype), [array])


@contextmanager
def _temporary_file(needed: int) -> Iterator[BinaryIO]:
    """A file without a name; WorkError where there is no place for one."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except BrokenPipeError:  # of the stream that it is copied to
        raise
    except OSError as error:
        folder = tempfile.gettempdir() if tempfile.tempdir else "TMPDIR"
        raise cannot_write(f"a temporary file in {folder}", error, needed) from error


def _fill(descriptor: int, kind: str, describe: Callable[[], Attributes], arrays: Mapping[str, ArrayChunks]) -> str:
    """Writes all of a file at its `descriptor`: first the bytes of the `arrays`, as they come. Returns the digest."""
    starts, _ = _layout(arrays, {})
    entries = {}
    for name, array in arrays.items():
        sha, position, count = hashlib.sha256(), starts[name], 0
        for chunk in array.chunks:
            block = np.ascontiguousarray(chunk, array.dtype)
            if block.shape[1:] != array.shape[1:]:
                raise ValueError(f"{name}: a chunk has shape {block.shape}, but the array {array.shape}")
            content = block.reshape(-1).view(np.uint8).data
            sha.update(content)
            position = write_at(descriptor, content, position)
            count += len(block)
        if count != array.shape[0]:
            raise ValueError(f"{name}: {count} of {array.shape[0]} entries were given")
        entries[name] = (array.dtype, array.shape, sha.hexdigest())
    attributes = sealed(kind, describe(), entries)
    _, structure = _layout(arrays, attributes)
    for start, piece in structure.pieces:
        write_at(descriptor, piece, start)
    os.ftruncate(descriptor, structure.size)
    return str(attributes["digest"])
