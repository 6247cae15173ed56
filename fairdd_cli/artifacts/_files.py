"""Where bytes reach the disk: outputs appear whole or not at all."""

import errno
import fcntl
import glob
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairdd_cli.errors import UsageError, WorkError

STREAM = "-"  # stands for standard input or standard output
CHECKPOINT = ".checkpoint"  # what an output's name is followed by in that of its checkpoint


def check_target(path: str, force: bool, *inputs: str) -> None:
    """Refuses an output that could not be written at the end, before any work is spent on it.

    Raises UsageError where `path` exists (and not `force`), is one of the `inputs`, is a folder, or lies in a folder
    that is not writable. A missing parent folder is fine if it can be made.
    """
    if path == STREAM:
        if sys.stdout.isatty():
            raise UsageError("'-o -' writes a binary file to a pipe, but standard output is a terminal")
        return
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"cannot write '{path}': it is a folder; give a file name")
    if target.exists() and any(Path(each).exists() and target.samefile(each) for each in inputs):
        raise UsageError(f"'{path}' is what the command reads, and would be lost; give the output another name")
    if target.exists() and not force:
        raise UsageError(f"'{path}' exists already; give --force to replace it, or another name")
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write '{path}': the folder '{folder}' is not writable")


def stem_of(path: str) -> str:
    """`path` without the suffix of an HDF5 file. Other dots belong to the name: `lr0.1.h5` and `lr0.01.h5` differ."""
    suffix = Path(path).suffix
    return path.removesuffix(suffix) if suffix in (".h5", ".hdf5") else path


def read_at(descriptor: int, view: memoryview, start: int, path: str) -> None:
    """Fills the bytes of `view` from byte `start` on of the open file `path`; WorkError where it cannot."""
    try:
        while view and (count := os.preadv(descriptor, [view], start)):
            view, start = view[count:], start + count
    except OSError as error:
        raise WorkError(f"cannot read '{path}': {error.strerror or error}") from error
    if view:
        raise WorkError(f"'{path}' was changed while it was in use: its end is missing")


def check_space(path: str, needed: int) -> None:
    """Raises WorkError unless `needed` bytes are free where `path` is to be written, before any work is spent on it."""
    if path == STREAM:
        return
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WorkError(
            f"too little disk for '{path}': it needs {needed / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free in "
            f"'{folder}'\nGive -o a place with more room, or make fewer or smaller images (--limit, --size)."
        )


@contextmanager
def atomic_write(path: str | Path, force: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and goes when it fails.

    The file is on the disk before it gets its name. Raises WorkError with the system's reason (disk full,
    folder gone) and UsageError where `path` has come into being meanwhile and `force` is not given.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        temporary = Path(name)
        os.close(handle)
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        if force:
            temporary.replace(target)
        else:
            _name(temporary, target)
        _flush(target.parent)
    except (OSError, RuntimeError) as error:  # h5py raises either
        raise WorkError(f"cannot write '{path}': {_reason(error)}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _reason(error: OSError | RuntimeError) -> str:
    """What the system said, on one line; h5py hides it in a longer text."""
    within = re.search(r"error message = '([^']*)'", str(error))
    return within[1] if within else (getattr(error, "strerror", None) or str(error)).partition("\n")[0]


def _name(temporary: Path, target: Path) -> None:
    """Gives the file `temporary` the name `target`, too, unless that is taken."""
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise UsageError(f"'{target}' exists already; give --force to replace it") from error


def remove_parts(path: str) -> None:
    """Removes the checkpoints of what `path` was put together from, called `path.N-M`, and what writing them left."""
    target = Path(path).absolute()
    name = f"{glob.escape(target.name)}.[0-9]*-[0-9]*{CHECKPOINT}"
    for pattern in (name, f".{name}.????????.part"):
        for leftover in target.parent.glob(pattern):
            with suppress(OSError):  # in a folder that is only read from, they stay
                leftover.unlink()


@contextmanager
def lock_output(path: str) -> Iterator[None]:
    """A block in which no other process that claims `path` may write it: raises UsageError where one does.

    The claim is a lock on a file beside `path`, which the system takes back when the process dies, however that
    may be. What a killed process left behind is removed, and so is a folder that was made in vain.
    """
    if path == STREAM:
        yield
        return
    target = Path(path).absolute()
    missing = [folder for folder in target.parents if not folder.exists()]  # deepest first
    lock = target.with_name(f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(lock, path)
        for name in (target.name, target.name + CHECKPOINT):
            for leftover in target.parent.glob(f".{glob.escape(name)}.????????.part"):
                leftover.unlink(missing_ok=True)
    except OSError as error:
        raise WorkError(f"cannot write '{path}': {error.strerror or error}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(handle)
        with suppress(OSError):  # a folder that holds something stays
            for folder in missing:
                folder.rmdir()


def _locked(lock: Path, path: str) -> int:
    """A descriptor of the file `lock`, locked. Without effect where the file system knows no locks."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                owner = os.read(handle, 20).decode(errors="replace")
                os.close(handle)
                raise UsageError(
                    f"'{path}' is being written by another fairdd (process {owner}); "
                    "wait for it, or give -o for another name"
                ) from error
        try:
            if os.path.samestat(os.fstat(handle), lock.stat()):  # else its last owner has just removed it
                with suppress(OSError):  # the number is only for the message
                    os.truncate(handle, 0)
                    os.write(handle, str(os.getpid()).encode())
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)


def _flush(path: Path) -> None:
    """Waits until the content of the file, or the names in the folder, at `path` are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: str) -> None:
    """Removes the file at `path`, if there is one; raises WorkError where that fails."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise WorkError(f"cannot remove '{path}': {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_bytes(path: str, content: bytes, force: bool = True) -> None:
    """Writes `content` to `path`, or to standard output for `-`."""
    if path == STREAM:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    with atomic_write(path, force) as temporary:
        temporary.write_bytes(content)


def read_bytes(path: str, limit: int) -> bytes:
    """All of `path`, or of standard input for `-`; raises UsageError where it is missing or above `limit` bytes."""
    try:
        if path == STREAM:
            content = sys.stdin.buffer.read(limit + 1)
        else:
            check_readable(path)
            with Path(path).open("rb") as stream:
                content = stream.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    if len(content) > limit:
        raise UsageError(f"'{shown(path)}' is larger than the {limit:,} bytes that are read here")
    return content


def check_readable(path: str) -> None:
    """Raises UsageError unless `path` is a regular file that may be read."""
    file = Path(path)
    try:
        there = file.exists()
    except OSError as error:  # a name too long, a loop of links
        raise UsageError(f"cannot read '{path[:200]}': {error.strerror or error}") from error
    if not there:
        raise UsageError(f"'{path}' does not exist")
    if not file.is_file():
        raise UsageError(f"'{path}' is not a file")
    if not os.access(file, os.R_OK):
        raise UsageError(f"'{path}' may not be read: permission denied")


def shown(path: str) -> str:
    """`path` as messages name it."""
    return "standard input" if path == STREAM else path
