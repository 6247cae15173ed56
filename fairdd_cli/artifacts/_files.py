"""Where bytes reach the disk: outputs appear whole or not at all."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairdd_cli.errors import UsageError, WorkError

STREAM = "-"  # stands for standard input or standard output


def check_target(path: str, force: bool) -> None:
    """Refuses an output that could not be written at the end, before any work is spent on it.

    Raises UsageError where `path` exists (and not `force`), is a folder, or lies in a folder that is not
    writable. A missing parent folder is fine if it can be made.
    """
    if path == STREAM:
        if sys.stdout.isatty():
            raise UsageError("'-o -' writes a binary file to a pipe, but standard output is a terminal")
        return
    target = Path(path)
    if target.is_dir():
        raise UsageError(f"cannot write '{path}': it is a folder; give a file name")
    if target.exists() and not force:
        raise UsageError(f"'{path}' exists already; give --force to replace it or -o for another name")
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write '{path}': the folder '{folder}' is not writable")


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
def replacing(path: str | Path, force: bool = True) -> Iterator[Path]:
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
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        if force:
            temporary.replace(target)
        else:
            os.link(temporary, target)
    except FileExistsError as error:
        raise UsageError(f"'{path}' exists already; give --force to replace it") from error
    except OSError as error:
        raise WorkError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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
    with replacing(path, force) as temporary:
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
    if not file.exists():
        raise UsageError(f"'{path}' does not exist")
    if not file.is_file():
        raise UsageError(f"'{path}' is not a file")
    if not os.access(file, os.R_OK):
        raise UsageError(f"'{path}' may not be read: permission denied")


def shown(path: str) -> str:
    """`path` as messages name it."""
    return "standard input" if path == STREAM else path
