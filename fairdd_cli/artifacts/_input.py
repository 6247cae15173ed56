"""How files are opened and read: each once, from the check to the last read, and what stands in the way is a line."""

import errno
import os
import stat
import sys
import weakref
from pathlib import Path
from typing import BinaryIO

from fairdd_cli.artifacts._hdf5_reader import SIGNATURE
from fairdd_cli.errors import UsageError, WorkError

STREAM = "-"  # stands for standard input or standard output
PIPE_LIMIT = 16 * 2**30  # bytes; standard input is held in memory
HINTS = {  # how the content of other files begins, and what they are
    b"{": "JSON",
    b"PK": "a ZIP archive such as .npz or .pt ('fairdd import' reads the sets of other tools)",
    b"\x1f\x8b": "compressed by gzip",
    b"version https://git-lfs": "a pointer of Git LFS ('git lfs pull' fetches its content)",
}


class InputFile:
    """A regular file, opened once and kept open: another that takes its name meanwhile is not seen.

    Positioned reads rather than a memory map: pages of a map count as the process's memory, and a file that shrinks
    under one ends the process.
    """

    def __init__(self, path: str) -> None:
        """Raises OSError where `path` cannot be opened, and IsADirectoryError or OSError(EINVAL) for no file."""
        self.path = path
        self._absolute = str(Path(path).absolute())
        # A pipe without a writer must not be waited for: it is refused below.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        weakref.finalize(self, os.close, self._descriptor)
        status = os.fstat(self._descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        self.size = status.st_size
        self._identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Another process opens the file itself, for a descriptor's number means another file there."""
        return _reopened, (self._absolute, self._identity)

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """What tells this file from every other: device, number, size and time of its last change."""
        return self._identity

    def read_into(self, view: memoryview, start: int) -> None:
        """Fills the bytes of `view` from byte `start` on; WorkError where they are gone or cannot be read."""
        try:
            while view and (count := os.preadv(self._descriptor, [view], start)):
                view, start = view[count:], start + count
        except OSError as error:
            raise WorkError(f"cannot read '{self.path}': {error.strerror or error}") from error
        if view:
            raise WorkError(f"'{self.path}' was changed while it was in use: its end is missing")

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start` on; WorkError where they are gone or cannot be read."""
        content = bytearray(length)
        self.read_into(memoryview(content), start)
        return bytes(content)


class PipedInput:
    """Standard input, held in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self.path = STREAM
        self._content = read_limited(stream, STREAM, PIPE_LIMIT)
        self.size = len(self._content)

    def read_into(self, view: memoryview, start: int) -> None:
        """Fills the bytes of `view` from byte `start` on."""
        view[:] = memoryview(self._content)[start : start + len(view)]

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start` on."""
        return self._content[start : start + length]


Input = InputFile | PipedInput


def _reopened(path: str, identity: tuple[int, int, int, int]) -> InputFile:
    """The file at `path`, which must be the one of this `identity`; raises WorkError where it is another."""
    try:
        file = InputFile(path)
    except OSError as error:
        raise WorkError(f"cannot read '{path}': {error.strerror or error}") from error
    if file.identity != identity:
        raise WorkError(f"'{path}' was replaced or changed while it was in use")
    return file


def open_input(path: str) -> Input:
    """The file at `path`, or standard input for `-`; raises UsageError with the reason where it cannot be read."""
    if path == STREAM:
        return PipedInput(sys.stdin.buffer)
    try:
        return InputFile(path)
    except FileNotFoundError as error:
        if Path(path).is_symlink():
            raise UsageError(f"'{path}' is a link to '{Path(path).readlink()}', which does not exist") from error
        raise UsageError(f"'{path}' does not exist") from error
    except IsADirectoryError as error:
        raise UsageError(f"'{path}' is a folder, not a file") from error
    except PermissionError as error:
        raise UsageError(f"'{path}' may not be read: permission denied") from error
    except (OSError, ValueError) as error:  # a name too long or with NUL, a loop of links, a pipe, a broken disk
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read '{path[:200]}': {reason}") from error


def read_bytes(path: str, limit: int) -> bytes:
    """All of `path`, or of standard input for `-`; raises UsageError where it cannot be read or is too large."""
    if path == STREAM:
        return read_limited(sys.stdin.buffer, path, limit)
    file = open_input(path)
    if file.size > limit:
        raise UsageError(f"'{path}' is larger than the {limit:,} bytes that are read here")
    return file.read(0, file.size)


def read_limited(stream: BinaryIO, path: str, limit: int) -> bytes:
    """All of the `stream`, which messages call `path`; raises UsageError where it is too large or cannot be read."""
    try:
        content = stream.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {shown(path)}: {error.strerror or error}") from error
    if len(content) > limit:
        raise UsageError(f"'{shown(path)}' is larger than the {limit:,} bytes that are read here")
    return content


def check_readable(path: str) -> None:
    """Raises UsageError, with the reason, unless `path` is a file that can be read, or standard input."""
    if path != STREAM:
        open_input(path)


def is_hdf5(file: Input) -> bool:
    """Whether `file` starts as an HDF5 file does."""
    return file.read(0, min(file.size, len(SIGNATURE))) == SIGNATURE


def hint(file: Input) -> str:
    """What `file` is instead of what is needed, as ', but …', as far as its first bytes tell."""
    head = file.read(0, min(file.size, 64)).lstrip()
    if not file.size:
        return ", but empty"
    return next((f", but {what}" for start, what in HINTS.items() if head.startswith(start)), "")


def shown(path: str) -> str:
    """`path` as messages name it."""
    return "standard input" if path == STREAM else path
