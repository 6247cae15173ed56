"""Where bytes reach the disk: an output appears whole or not at all, and the failure of every single write is seen.

An output may be a file, a link (which is followed), or a stream: standard output, a pipe, a device. Streams are
written to as they are, never replaced.
"""

import ctypes
import errno
import hashlib
import itertools
import os
import re
import shutil
import socket
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairdd_cli.artifacts._input import STREAM
from fairdd_cli.errors import WorkError

CHECKPOINT = ".checkpoint"  # what an output's name is followed by in that of its checkpoint
LONGEST = 100  # bytes of an output's name in the names of its lock, part and checkpoint; file systems hold 143 or more
NUMBERS = itertools.count()  # of the parts of this process
# For each output that this process has locked, what is called with the part that is about to take its name.
BEFORE_NAMING: dict[Path, Callable[[Path], None]] = {}
AT_FDCWD, RENAME_NOREPLACE, RENAME_EXCHANGE = -100, 1, 2  # of Linux's system call renameat2
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What file systems answer that lack a feature (FAT, network and FUSE mounts).
LACKING = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)


def is_stream(path: str) -> bool:
    """Whether `path` is written to as it is: `-`, a pipe, a device, what a descriptor such as /dev/stdout leads to."""
    if path == STREAM:
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _leads_to_descriptor(Path(path))


def _leads_to_descriptor(path: Path) -> bool:
    while True:
        folder = os.path.realpath(path.parent)
        if re.fullmatch("/dev/fd|/proc/[0-9]+/fd", folder):
            return True
        if not path.is_symlink():
            return False
        path = Path(folder, path.readlink())


def is_stdout(path: str) -> bool:
    """Whether `path` is standard output, by whatever name, so that nothing else may be written there."""
    try:
        return path == STREAM or (is_stream(path) and os.path.samestat(Path(path).stat(), os.fstat(1)))
    except OSError:  # standard output is closed
        return False


def stem_of(path: str) -> str:
    """`path` without the suffix of an HDF5 file. Other dots belong to the name: `lr0.1.h5` and `lr0.01.h5` differ."""
    suffix = Path(path).suffix
    return path.removesuffix(suffix) if suffix in (".h5", ".hdf5") else path


def followed(path: str | Path) -> Path:
    """The file that is to be written for `path`: where a link leads to, whether that exists or not."""
    return Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)


def beside(path: str | Path) -> Path:
    """What the names of an output's lock, parts and checkpoint start with: its own name, shortened if that is long."""
    target = followed(path)
    return target.with_name(shortened(target.name))


def shortened(name: str) -> str:
    """`name`, or its beginning and its hash where it is longer than LONGEST bytes."""
    content = os.fsencode(name)
    if len(content) <= LONGEST:
        return name
    return f"{content[: LONGEST - 17].decode(errors='ignore')}-{hashlib.sha256(content).hexdigest()[:16]}"


def checkpoint_of(path: str) -> str:
    """Where the checkpoint of the output `path` lies; '' where that is a stream, which has none."""
    return "" if is_stream(path) else f"{beside(path)}{CHECKPOINT}"


def check_space(path: str, needed: int) -> None:
    """Raises WorkError unless `needed` bytes are free where `path` is to be written, before any work is spent on it."""
    if is_stream(path):
        return
    folder = followed(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WorkError(
            f"too little disk for '{path}': it needs {in_bytes(needed)}, and {in_bytes(free)} are free in '{folder}'",
            "Give -o a place with more room, or make fewer or smaller images (--limit, --size).",
        )


def in_bytes(count: int) -> str:
    """A number of bytes in the unit that suits it."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if count >= size:
            return f"{count / size:,.2f} {unit}"
    return f"{count} bytes"


def cannot_write(path: str | Path, error: OSError, needed: int = 0) -> WorkError:
    """The error for an output that the system refused, with the bytes `needed` where room was short."""
    where = "on standard output" if path == STREAM else f"'{path}'"
    words = f"cannot write {where}: {error.strerror or error}"
    if error.errno in FULL and needed:
        words += f"; it needs {in_bytes(needed)}"
    return WorkError(words + (" (see 'ulimit -f')" if error.errno == errno.EFBIG else ""))


def write_at(descriptor: int, data: bytes | memoryview, start: int) -> int:
    """Writes all of `data` at byte `start` of an open file and returns where it ends; OSError where that fails."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, start)
        view, start = view[count:], start + count
    return start


@contextmanager
def atomic_write(path: str | Path, force: bool = True, needed: int = 0) -> Iterator[int]:
    """The descriptor of a new file, which takes the name `path` when the block ends well and goes when it fails.

    The file is on the disk before it gets its name. Raises WorkError with the system's reason (disk full, folder
    gone) and the bytes `needed`, or where `path` has come into being meanwhile and `force` is not given.
    """
    target = followed(path)
    part: Path | None = None
    try:
        make_folder(target.parent)
        part = new_part(target)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # the umask and the folder's rules hold
        try:
            yield descriptor
            _flush(descriptor)
        finally:
            os.close(descriptor)
        _announce(part, target)
        if force:
            part.replace(target)
        else:
            _name(part, target)
        flush_folder(target.parent)
    except OSError as error:
        raise cannot_write(path, error, needed) from error
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink()


def new_part(target: Path) -> Path:
    """A name beside `target` that nothing has, for what will take its place."""
    base = beside(target)
    while True:
        key = zlib.crc32(f"{socket.gethostname()} {os.getpid()} {next(NUMBERS)}".encode())
        part = base.with_name(f".{base.name}.{key:08x}.part")
        if not os.path.lexists(part):
            return part


def _announce(part: Path, target: Path) -> None:
    if note := BEFORE_NAMING.get(target.absolute()):
        note(part)


def _name(part: Path, target: Path) -> None:
    """Renames `part` to `target` unless that is taken."""
    if _renamed(part, target, RENAME_NOREPLACE):
        return
    if os.path.lexists(target):
        raise WorkError(f"'{target}' was made by something else meanwhile; give --force to replace it, or another name")
    part.replace(target)  # the system cannot do it in one step: between the look and this, another could take the name


def replace_folder(part: Path, folder: Path) -> None:
    """Gives the folder `part` the name `folder`. What had it stays under the name of `part`, or goes if it is empty."""
    _announce(part, folder)
    if folder.is_dir() and any(folder.iterdir()):
        if not _renamed(part, folder, RENAME_EXCHANGE):
            old = part.with_suffix(".old")  # the next process gives it back where this one is killed
            try:
                folder.rename(old)
                part.rename(folder)
            finally:
                if old.exists():
                    old.rename(part if folder.exists() else folder)
    else:
        with suppress(FileNotFoundError):
            folder.rmdir()
        part.rename(folder)
    flush_folder(folder.parent)


def _renamed(one: Path, other: Path, how: int) -> bool:
    """Whether the names could be changed in the way that a flag says: on Linux, on its own file systems."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
    return rename is not None and rename(*names, how) == 0


def make_folder(folder: Path) -> None:
    """Makes `folder` and its parents where they are missing, and waits until their names are on the disk."""
    folder = Path(os.path.realpath(folder))
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(exist_ok=True)
        flush_folder(missing.parent)


def write_file(path: Path, content: bytes) -> None:
    """Writes a new file and waits until it is on the disk; OSError where that fails."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        write_at(descriptor, content, 0)
        _flush(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Waits until the names in `folder` are on the disk, where the system can say so."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written, but not listed
        return
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in LACKING:
            raise


def write_stream(path: str, blocks: Iterable[bytes]) -> None:
    """Writes `blocks` to the stream `path`; WorkError where that fails, BrokenPipeError where its reader went away."""
    try:
        if is_stdout(path):
            if sys.stdout is None:
                raise WorkError("cannot write on standard output: it is closed")
            for block in blocks:
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
        else:
            with Path(path).open("ab", buffering=0) as stream:
                for block in blocks:
                    view = memoryview(block)
                    while view:
                        view = view[stream.write(view) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


def write_bytes(path: str, content: bytes, force: bool = True) -> None:
    """Writes `content` to `path`, whole or not at all, or to the stream that `path` is."""
    if is_stream(path):
        write_stream(path, [content])
        return
    with atomic_write(path, force, len(content)) as descriptor:
        write_at(descriptor, content, 0)


def remove(path: str) -> None:
    """Removes the file at `path`, if there is one; raises WorkError where that fails."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise WorkError(f"cannot remove '{path}': {error.strerror or error}") from error
